//! Ids for events that came without one: UUID version 7, from a seed and a clock that the caller
//! owns, so that the simulated world sees the same ids every time.
//!
//! Not secrets: whoever sees one can guess others. Uniqueness comes from 62 random bits beside the
//! millisecond and a counter, with a different seed per shard.

/// Makes UUIDv7 texts. One per shard.
#[derive(Debug, Clone)]
pub struct IdSource {
    state: [u64; 2],
    /// Milliseconds in the upper 48 bits, the counter within them in the lower 12 of 16.
    now_ms: u64,
    counter: u16,
}

/// Length of a UUID's text.
pub const UUID_BYTES: usize = 36;

impl IdSource {
    /// Takes 128 random bits, other ones on each shard and in each run.
    pub fn new(seed: [u64; 2]) -> Self {
        // The generator's one forbidden state is zero.
        let state = if seed == [0, 0] { [0x9e37_79b9_7f4a_7c15, 1] } else { seed };
        Self { state, now_ms: 0, counter: 0 }
    }

    /// Sets the wall clock, milliseconds since the Unix epoch; once per turn is often enough. A
    /// clock that steps back is ignored, so that the ids of one source always ascend.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        if now_ms > self.now_ms {
            self.now_ms = now_ms;
            self.counter = 0;
        }
    }

    //= rfc9562#5.7
    /// The next id, as lower-case text.
    pub fn next_uuid(&mut self) -> [u8; UUID_BYTES] {
        let (ms, counter) = (self.now_ms, self.counter);
        //= rfc9562#6.2
        // A full counter borrows from the next millisecond rather than repeat or step back.
        self.counter = (counter + 1) & 0xfff;
        if self.counter == 0 {
            self.now_ms += 1;
        }
        let high = ms << 16 | 0x7000 | u64::from(counter);
        let low = self.random() & (u64::MAX >> 2) | 1 << 63;
        text(high, low)
    }

    /// xoroshiro128++.
    fn random(&mut self) -> u64 {
        let [s0, mut s1] = self.state;
        let result = s0.wrapping_add(s1).rotate_left(17).wrapping_add(s0);
        s1 ^= s0;
        self.state = [s0.rotate_left(49) ^ s1 ^ (s1 << 21), s1.rotate_left(28)];
        result
    }
}

fn text(high: u64, low: u64) -> [u8; UUID_BYTES] {
    let (high, low) = (hex(high), hex(low));
    let mut out = [b'-'; UUID_BYTES];
    out[..8].copy_from_slice(&high[..8]);
    out[9..13].copy_from_slice(&high[8..12]);
    out[14..18].copy_from_slice(&high[12..]);
    out[19..23].copy_from_slice(&low[..4]);
    out[24..].copy_from_slice(&low[4..]);
    out
}

/// Sixteen lower-case digits, eight at a time: each nibble into a byte of its own, then all of
/// them into letters at once.
fn hex(number: u64) -> [u8; 16] {
    let half = |half: u32| {
        let mut spread = u64::from(half);
        spread = (spread << 16 | spread) & 0x0000_ffff_0000_ffff;
        spread = (spread << 8 | spread) & 0x00ff_00ff_00ff_00ff;
        spread = (spread << 4 | spread) & 0x0f0f_0f0f_0f0f_0f0f;
        // 1 in every byte that holds 10 or more.
        let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        (spread + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
    };
    let mut out = [0; 16];
    out[..8].copy_from_slice(&half((number >> 32) as u32));
    out[8..].copy_from_slice(&half(number as u32));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_version_7() {
        let mut ids = IdSource::new([1, 2]);
        ids.set_now_ms(0x0192_3456_789a);
        let first = String::from_utf8(ids.next_uuid().to_vec()).unwrap();
        assert_eq!(&first[..19], "01923456-789a-7000-");
        assert!(matches!(&first[19..20], "8" | "9" | "a" | "b"), "{first}");
        let second = String::from_utf8(ids.next_uuid().to_vec()).unwrap();
        assert_eq!(&second[..19], "01923456-789a-7001-");
        assert_ne!(first[20..], second[20..]);
    }

    #[test]
    fn digits_are_those_of_the_formatter() {
        let mut ids = IdSource::new([5, 6]);
        let numbers = [0, u64::MAX, 0x0123_4567_89ab_cdef, 0x9a9a_9a9a_a0f9_090a];
        for number in numbers.into_iter().chain(std::iter::repeat_with(|| ids.random()).take(1_000))
        {
            assert_eq!(hex(number).to_vec(), format!("{number:016x}").into_bytes());
        }
    }

    #[test]
    fn ids_ascend_through_a_full_counter_and_a_clock_that_steps_back() {
        let mut ids = IdSource::new([3, 4]);
        ids.set_now_ms(1000);
        let mut last = ids.next_uuid();
        for n in 0..20_000_u64 {
            if n % 7 == 0 {
                ids.set_now_ms(1000 + n / 5000 - n % 3);
            }
            let next = ids.next_uuid();
            assert!(next > last, "{n}");
            last = next;
        }
    }
}
