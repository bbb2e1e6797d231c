//! XOR with the masking key (RFC 6455 section 5.3), eight bytes at a time so that the compiler
//! uses vector instructions.

/// Appends `input` to `out`, unmasked (or masked: it is the same operation).
pub(super) fn append(out: &mut Vec<u8>, input: &[u8], key: [u8; 4]) {
    let start = out.len();
    out.extend_from_slice(input);
    if key != [0; 4] {
        apply(out.get_mut(start..).unwrap_or_default(), key);
    }
}

fn apply(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The key as it applies after `count` bytes.
pub(super) fn advance(mut key: [u8; 4], count: usize) -> [u8; 4] {
    key.rotate_left(count % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_in_pieces_equals_masking_byte_by_byte() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let input: Vec<u8> = (0..100).collect();
        let expected: Vec<u8> = input.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
        for split in 0..input.len() {
            let mut out = Vec::new();
            append(&mut out, &input[..split], key);
            append(&mut out, &input[split..], advance(key, split));
            assert_eq!(out, expected, "split at {split}");
        }
    }
}
