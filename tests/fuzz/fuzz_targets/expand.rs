//! Compressed bodies: any bytes expand to the same data and end the same way however they are cut,
//! into buffers of any size, and never hold more than a window.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::decode::{Coding, Expander, GZIP_BYTES, ZSTD_WINDOW_LOG_MAX};

    /// More is a bomb, and only begun.
    const OUT_BYTES_MAX: usize = 1 << 20;

    fn expand(coding: Coding, body: &[u8], piece: usize, room: usize) -> (Vec<u8>, bool) {
        let mut expander = Expander::new(coding).expect("memory for a decoder");
        let (mut out, mut buffer) = (Vec::new(), vec![0; room]);
        for mut input in body.chunks(piece) {
            loop {
                let Ok(step) = expander.step(input, &mut buffer) else { return (out, false) };
                assert!(step.used <= input.len() && step.made <= room);
                assert!(step.used > 0 || step.made > 0 || input.is_empty(), "it stands still");
                out.extend_from_slice(&buffer[..step.made]);
                let most = GZIP_BYTES.max((1 << ZSTD_WINDOW_LOG_MAX) + (1 << 20));
                assert!(expander.memory_bytes() <= most);
                input = &input[step.used..];
                if input.is_empty() && step.made < room {
                    break;
                }
                if out.len() > OUT_BYTES_MAX {
                    out.truncate(OUT_BYTES_MAX);
                    return (out, false);
                }
            }
        }
        (out, expander.finish().is_ok())
    }

    pub fn run(data: &[u8]) {
        let [mode, cut, body @ ..] = data else { return };
        let coding = if mode % 2 == 0 { Coding::Gzip } else { Coding::Zstd };
        let (whole, ends) = expand(coding, body, body.len().max(1), 64 << 10);
        let (pieces, same) =
            expand(coding, body, usize::from(*cut) + 1, 1 + usize::from(*mode) * 7);
        assert_eq!(ends, same);
        // What a damaged body gave before its end depends on how far the decoder looked ahead.
        let shorter = whole.len().min(pieces.len());
        assert_eq!(whole[..shorter], pieces[..shorter]);
        assert!(!ends || whole.len() == pieces.len());
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
