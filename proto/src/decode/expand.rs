//! Compressed bodies: gzip and zstd, expanded piece by piece as they arrive.
//!
//! [`Expander::step`] fills a buffer of the caller's and no more, so what a body expands to meets
//! the same limits as one that was sent plain, while it expands: a bomb never exists in memory.
//! What is held is the decoder's own state: for gzip [`GZIP_BYTES`], for zstd its window, which a
//! frame may announce up to [`ZSTD_WINDOW_LOG_MAX`]; the caller charges
//! [`Expander::memory_bytes`].
//!
//! A gzip body may have several members and a zstd body several frames, skippable ones too; their
//! checksums are verified. Anything else behind an end is an error, and so is a body that ends
//! inside one. Deliberately absent: `deflate` (half of its senders mean zlib, half do not), `br`,
//! several codings on top of each other, dictionaries.
//!
//! zstd is the C library that Parquet brings anyway: it bounds its window and is several times as
//! fast as what there is in Rust. Tested here and fuzzed (`tests/fuzz`, target `expand`).

use std::fmt;
use zlib_rs::{Inflate, InflateFlush, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// The largest zstd window, as a power of two: 8 MiB.
//= rfc9659#3
/// What every decoder takes and no encoder may pass, so that no sender has to ask.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a gzip decoder holds, rounded up: its window of 32 KiB and its tables.
pub const GZIP_BYTES: usize = 48 << 10;

/// For the `Accept-Encoding` of a refusal.
pub const CODINGS: &str = "gzip, zstd";

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// A `Content-Encoding` that is not taken: status 415.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// None of ours.
    #[error("unknown Content-Encoding; bodies may be compressed with gzip or zstd")]
    Unknown,
    /// More than one.
    #[error("several Content-Encodings; compress the body once, with gzip or zstd")]
    Several,
}

/// The body is not what its `Content-Encoding` says: status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Bad data, a wrong checksum, or something behind the end.
    #[error("the body is not gzip, is damaged, or goes on behind its end")]
    Gzip,
    /// The same, in the library's words.
    #[error("the body is not zstd with a window of at most 8 MiB, or is damaged: {0}")]
    Zstd(&'static str),
    /// The body ended before its compression did.
    #[error("the compressed body ends too early; send it whole")]
    Truncated,
}

impl Coding {
    /// Reads the values of all `Content-Encoding` fields of a request.
    //= rfc9110#8.4
    /// A list, without regard to case; `identity` says nothing and `x-gzip` is gzip.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Self>, CodingError> {
        let mut found = None;
        for token in values.into_iter().flat_map(|value| value.split(|b| *b == b',')) {
            let token = token.trim_ascii();
            let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
            let coding = if token.is_empty() || is("identity") {
                continue;
            } else if is("gzip") || is("x-gzip") {
                Self::Gzip
            } else if is("zstd") {
                Self::Zstd
            } else {
                return Err(CodingError::Unknown);
            };
            if found.replace(coding).is_some() {
                return Err(CodingError::Several);
            }
        }
        Ok(found)
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expanded {
    /// Bytes of the input that are done with.
    pub used: usize,
    /// Bytes of the output that were filled.
    pub made: usize,
}

/// The decoder of one body.
pub struct Expander {
    machine: Machine,
    /// Inside a member or frame; a body must not end there, nor before its first one.
    inside: bool,
    begun: bool,
}

enum Machine {
    Gzip(Inflate),
    Zstd(DCtx<'static>),
}

impl fmt::Debug for Expander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coding = match self.machine {
            Machine::Gzip(_) => Coding::Gzip,
            Machine::Zstd(_) => Coding::Zstd,
        };
        let Self { inside, begun, .. } = self;
        write!(f, "Expander({coding:?}, inside: {inside}, begun: {begun})")
    }
}

impl Expander {
    /// A decoder at the beginning of a body. `None`: no memory for it.
    pub fn new(coding: Coding) -> Option<Self> {
        let machine = match coding {
            Coding::Gzip => Machine::Gzip(gunzip()),
            Coding::Zstd => {
                let mut context = DCtx::try_create()?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Machine::Zstd(context)
            }
        };
        Some(Self { machine, inside: false, begun: false })
    }

    /// Expands what fits the output. Go on with the rest of the input until all of it is used and
    /// the output was not filled: a full output may mean that more is to come.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Expanded, ExpandError> {
        if input.is_empty() && !self.inside {
            return Ok(Expanded::default());
        }
        let (expanded, ended) = match &mut self.machine {
            Machine::Gzip(inflate) => {
                if !self.inside && self.begun {
                    *inflate = gunzip();
                }
                let before = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, output, InflateFlush::NoFlush);
                let status = status.map_err(|_| ExpandError::Gzip)?;
                let used = (inflate.total_in() - before.0) as usize;
                let made = (inflate.total_out() - before.1) as usize;
                (Expanded { used, made }, status == Status::StreamEnd)
            }
            Machine::Zstd(context) => {
                let (mut from, mut into) = (InBuffer::around(input), OutBuffer::around(output));
                let left = context.decompress_stream(&mut into, &mut from);
                let left = left.map_err(|code| ExpandError::Zstd(get_error_name(code)))?;
                (Expanded { used: from.pos(), made: into.pos() }, left == 0)
            }
        };
        self.begun = true;
        self.inside = !ended;
        Ok(expanded)
    }

    /// The body has ended: may it?
    pub fn finish(&self) -> Result<(), ExpandError> {
        if self.begun && !self.inside { Ok(()) } else { Err(ExpandError::Truncated) }
    }

    /// What the decoder holds now.
    pub fn memory_bytes(&self) -> usize {
        match &self.machine {
            Machine::Gzip(_) => GZIP_BYTES,
            Machine::Zstd(context) => context.sizeof(),
        }
    }
}

/// A decoder of one gzip member.
fn gunzip() -> Inflate {
    Inflate::new(true, GZIP_WINDOW_BITS)
}

/// A window of 32 KiB, and 16 for gzip's header and checksum.
const GZIP_WINDOW_BITS: u8 = 15 + 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use zlib_rs::{Deflate, DeflateFlush};

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut out = vec![0; data.len() + data.len() / 1_000 + 64];
        let mut deflate = Deflate::new(6, true, GZIP_WINDOW_BITS);
        let status = deflate.compress(data, &mut out, DeflateFlush::Finish).unwrap();
        assert_eq!(status, Status::StreamEnd);
        out.truncate(deflate.total_out() as usize);
        out
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        ::zstd::encode_all(data, 3).unwrap()
    }

    fn compress(coding: Coding, data: &[u8]) -> Vec<u8> {
        if coding == Coding::Gzip { gzip(data) } else { zstd(data) }
    }

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    /// Expands in pieces of one size into a buffer of another; what came out stands beside the end.
    fn expand(
        coding: Coding,
        body: &[u8],
        piece: usize,
        room: usize,
    ) -> (Vec<u8>, Result<(), ExpandError>) {
        let mut expander = Expander::new(coding).unwrap();
        let (mut out, mut buffer) = (Vec::new(), vec![0; room]);
        for mut input in body.chunks(piece) {
            loop {
                let step = match expander.step(input, &mut buffer) {
                    Ok(step) => step,
                    Err(error) => return (out, Err(error)),
                };
                assert!(step.used > 0 || step.made > 0 || input.is_empty(), "it stands still");
                out.extend_from_slice(&buffer[..step.made]);
                input = &input[step.used..];
                if input.is_empty() && step.made < room {
                    break;
                }
            }
        }
        (out, expander.finish())
    }

    #[test]
    fn codings_are_named_once_and_in_any_case() {
        let of = |values: &[&str]| Coding::of(values.iter().map(|value| value.as_bytes()));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity", ""]), Ok(None));
        assert_eq!(of(&["GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&[" x-gzip , identity"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["identity", "zstd"]), Ok(Some(Coding::Zstd)));
        assert_eq!(of(&["gzip, zstd"]), Err(CodingError::Several));
        assert_eq!(of(&["gzip", "gzip"]), Err(CodingError::Several));
        for unknown in ["br", "deflate", "gzip;q=1", "gzip zstd", "\u{e9}"] {
            assert_eq!(of(&[unknown]), Err(CodingError::Unknown), "{unknown}");
        }
        assert!(CodingError::Unknown.to_string().contains("gzip or zstd"));
    }

    #[test]
    fn members_and_frames_follow_each_other_and_nothing_else_does() {
        for coding in BOTH {
            let mut body = compress(coding, b"one,");
            body.extend(compress(coding, b""));
            if coding == Coding::Zstd {
                // A skippable frame of three bytes.
                body.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9]);
            }
            body.extend(compress(coding, b"two"));
            for (piece, room) in [(1, 1), (3, 2), (1_000, 1_000)] {
                let (out, end) = expand(coding, &body, piece, room);
                assert_eq!((&out[..], end), (&b"one,two"[..], Ok(())), "{coding:?} {piece}");
            }
            for garbage in [&b"x"[..], b"\0\0\0\0\0\0", b"garbage behind the end"] {
                let (out, end) = expand(coding, &[&body, garbage].concat(), 7, 64);
                assert!(out == b"one,two" && end.is_err(), "{coding:?} {garbage:?} {end:?}");
            }
        }
    }

    #[test]
    fn every_cut_is_found_and_nothing_is_no_body() {
        for coding in BOTH {
            let body = compress(coding, &b"some text, some text, some other text".repeat(20));
            for cut in 0..body.len() {
                let (_, end) = expand(coding, &body[..cut], 5, 64);
                assert_eq!(end, Err(ExpandError::Truncated), "{coding:?} at {cut}");
            }
            assert_eq!(expand(coding, &body, 5, 64).1, Ok(()));
            assert!(expand(coding, b"{\"data\":1}", 100, 64).1.is_err());
        }
        // The last bytes of a gzip member are its checksum and its length.
        for at in 1..=8 {
            let mut body = gzip(b"text");
            let place = body.len() - at;
            body[place] ^= 1;
            assert_eq!(expand(Coding::Gzip, &body, 5, 64).1, Err(ExpandError::Gzip));
        }
    }

    #[test]
    fn a_bomb_fills_no_more_than_the_buffer_and_a_fixed_state() {
        let zeros = vec![0; 8 << 20];
        for coding in BOTH {
            let body = compress(coding, &zeros);
            assert!(body.len() < zeros.len() / 900, "{coding:?}");
            let mut expander = Expander::new(coding).unwrap();
            let mut buffer = [1; 4_096];
            let step = expander.step(&body, &mut buffer).unwrap();
            assert_eq!(step.made, buffer.len());
            assert!(expander.memory_bytes() < 3 << 20, "{}", expander.memory_bytes());
        }
    }

    #[test]
    fn a_zstd_window_over_the_cap_is_refused_before_it_is_allocated() {
        let with_window = |log: u32| {
            let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.set_parameter(::zstd::zstd_safe::CParameter::WindowLog(log)).unwrap();
            encoder.write_all(&[7; 100_000]).unwrap();
            encoder.finish().unwrap()
        };
        let (out, end) = expand(Coding::Zstd, &with_window(ZSTD_WINDOW_LOG_MAX), 1_000, 4_096);
        assert_eq!((out, end), (vec![7; 100_000], Ok(())));
        let body = with_window(ZSTD_WINDOW_LOG_MAX + 1);
        let mut expander = Expander::new(Coding::Zstd).unwrap();
        let error = expander.step(&body, &mut [0; 64]).unwrap_err();
        assert!(error.to_string().contains("8 MiB"), "{error}");
        assert!(expander.memory_bytes() < 1 << 20, "{}", expander.memory_bytes());
    }

    proptest! {
        #[test]
        fn any_data_comes_back_however_it_is_cut(
            data in prop::collection::vec(0_u8..4, 0..3_000),
            piece in 1_usize..600,
            room in 1_usize..600,
        ) {
            for coding in BOTH {
                let (out, end) = expand(coding, &compress(coding, &data), piece, room);
                prop_assert_eq!(end, Ok(()));
                prop_assert_eq!(&out, &data);
            }
        }

        #[test]
        fn damage_is_an_error_or_other_data_and_never_a_panic(
            at in 0_usize..1_000,
            flip in 1_u8..,
        ) {
            for coding in BOTH {
                let mut body = compress(coding, &b"abcdefgh".repeat(30));
                let at = at % body.len();
                body[at] ^= flip;
                let (out, _) = expand(coding, &body, 9, 33);
                prop_assert!(out.len() <= 1 << 20);
            }
        }
    }
}
