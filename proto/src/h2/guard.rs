//! Counts what the peer makes us do: frames that cost work and carry nothing.
//!
//! `h2` bounds header blocks, CONTINUATION, empty and tiny DATA, refused streams and its own stream
//! errors. It does not bound SETTINGS, PING, PRIORITY, WINDOW_UPDATE and RST_STREAM, so a scanner
//! walks the frame heads of the input before `h2` sees them and two token buckets judge them.
//!
//! Honest peers send control frames in proportion to real work (window updates for what they
//! receive, a priority or a window update beside a request), so real work earns credit that is
//! spent before the bucket. Data cut short by the peer's own window earns nothing: a one-byte
//! window therefore ends at the bucket.

/// What a peer did too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abuse {
    Resets,
    ControlFrames,
}

/// Judges the input of one connection.
#[derive(Debug)]
pub(super) struct Guard {
    scan: FrameScan,
    resets: Bucket,
    reset_credit: u32,
    control: Bucket,
    control_credit: u32,
}

impl Guard {
    pub(super) fn new(resets_per_s_max: u32, control_frames_per_s_max: u32) -> Self {
        Self {
            scan: FrameScan::new(),
            resets: Bucket::new(resets_per_s_max),
            reset_credit: 0,
            control: Bucket::new(control_frames_per_s_max),
            control_credit: 0,
        }
    }

    /// Looks at the next input bytes, wherever they are cut.
    pub(super) fn check(&mut self, now_ms: u64, input: &[u8]) -> Result<(), Abuse> {
        let mut rest = input;
        while let Some(head) = self.scan.next(&mut rest) {
            match head.kind {
                KIND_HEADERS => self.earn_control(CONTROL_CREDIT_PER_REQUEST),
                KIND_RST_STREAM if self.reset_credit > 0 => self.reset_credit -= 1,
                KIND_RST_STREAM if !self.resets.take(now_ms) => return Err(Abuse::Resets),
                // Bounded by h2: by the header list size, and answered as a connection error.
                KIND_RST_STREAM | KIND_CONTINUATION | KIND_PUSH_PROMISE => {}
                KIND_DATA if head.len > 0 || head.flags & FLAG_END_STREAM != 0 => {}
                _ if self.control_credit > 0 => self.control_credit -= 1,
                _ if !self.control.take(now_ms) => return Err(Abuse::ControlFrames),
                _ => {}
            }
        }
        Ok(())
    }

    /// A DATA frame was sent that the peer's window did not cut short.
    pub(super) fn data_sent(&mut self) {
        self.earn_control(CONTROL_CREDIT_PER_DATA);
    }

    /// A streaming response was started: cancelling it later is no attack.
    pub(super) fn streaming_response_started(&mut self) {
        self.reset_credit = (self.reset_credit + 1).min(CREDIT_MAX);
    }

    fn earn_control(&mut self, n: u32) {
        self.control_credit = (self.control_credit + n).min(CREDIT_MAX);
    }
}

/// A window update for the stream and one for the connection, or a priority.
const CONTROL_CREDIT_PER_REQUEST: u32 = 2;
/// The same, and a ping that measures the path.
const CONTROL_CREDIT_PER_DATA: u32 = 3;
/// Saved-up credit never covers more than this many frames at once.
const CREDIT_MAX: u32 = 1 << 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    len: u32,
    kind: u8,
    flags: u8,
}

/// Finds frame heads in a byte stream: `rfc9113#4.1`, nine bytes, then the length it names.
#[derive(Debug)]
struct FrameScan {
    head: [u8; FRAME_HEAD_BYTES],
    head_len: usize,
    /// Bytes to pass over: first the preface, then payloads.
    skip: usize,
}

impl FrameScan {
    fn new() -> Self {
        Self { head: [0; FRAME_HEAD_BYTES], head_len: 0, skip: PREFACE_BYTES }
    }

    fn next(&mut self, input: &mut &[u8]) -> Option<FrameHead> {
        let skipped = self.skip.min(input.len());
        self.skip -= skipped;
        *input = input.get(skipped..)?;
        let n = (FRAME_HEAD_BYTES - self.head_len).min(input.len());
        let (taken, rest) = input.split_at_checked(n)?;
        self.head.get_mut(self.head_len..self.head_len + n)?.copy_from_slice(taken);
        self.head_len += n;
        *input = rest;
        if self.head_len < FRAME_HEAD_BYTES {
            return None;
        }
        let [a, b, c, kind, flags, ..] = self.head;
        let len = u32::from_be_bytes([0, a, b, c]);
        self.head_len = 0;
        self.skip = len as usize;
        Some(FrameHead { len, kind, flags })
    }
}

const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const KIND_DATA: u8 = 0;
const KIND_HEADERS: u8 = 1;
const KIND_RST_STREAM: u8 = 3;
const KIND_PUSH_PROMISE: u8 = 5;
const KIND_CONTINUATION: u8 = 9;
const FLAG_END_STREAM: u8 = 1;

/// A token bucket: `per_s` at once, and `per_s` every second after.
#[derive(Debug)]
struct Bucket {
    per_s: u32,
    /// Thousandths of a token.
    milli: u64,
    at_ms: u64,
}

impl Bucket {
    fn new(per_s: u32) -> Self {
        Self { per_s, milli: u64::from(per_s) * 1_000, at_ms: 0 }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms.max(self.at_ms);
        let per_s = u64::from(self.per_s);
        let earned = elapsed_ms.saturating_mul(per_s);
        self.milli = self.milli.saturating_add(earned).min(per_s * 1_000);
        if self.milli < 1_000 {
            return false;
        }
        self.milli -= 1_000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_heads_are_found_however_the_input_is_cut() {
        let mut wire = vec![b'p'; PREFACE_BYTES];
        for (len, kind, flags) in [(0u32, 4u8, 0u8), (70_000, 0, 1), (8, 6, 0), (1, 0, 0)] {
            wire.extend_from_slice(&len.to_be_bytes()[1..]);
            wire.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
            wire.extend(std::iter::repeat_n(0xff, len as usize));
        }
        let whole = heads(&[&wire]);
        assert_eq!(whole.iter().map(|head| head.kind).collect::<Vec<_>>(), [4, 0, 6, 0]);
        for cut in 0..wire.len().min(200) {
            assert_eq!(heads(&[&wire[..cut], &wire[cut..]]), whole, "cut at {cut}");
        }
        let bytes = wire.chunks(1).collect::<Vec<_>>();
        assert_eq!(heads(&bytes), whole);
    }

    fn heads(parts: &[&[u8]]) -> Vec<FrameHead> {
        let mut scan = FrameScan::new();
        let mut found = Vec::new();
        for part in parts {
            let mut rest = *part;
            while let Some(head) = scan.next(&mut rest) {
                found.push(head);
            }
            assert!(rest.is_empty());
        }
        found
    }

    #[test]
    fn a_bucket_allows_its_rate_and_refills() {
        let mut bucket = Bucket::new(10);
        assert_eq!((0..20).filter(|_| bucket.take(5)).count(), 10);
        assert!(!bucket.take(104));
        assert!(bucket.take(105));
        assert!(!bucket.take(105));
        assert_eq!((0..50).filter(|_| bucket.take(1_000_000)).count(), 10);
        // A clock that steps back earns nothing.
        assert!(!bucket.take(3));
    }
}
