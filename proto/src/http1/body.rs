//! Reads a body as slices of the input: no copy, no buffer, a few words of state.

use super::{Body, BodyError, is_field_byte, is_tchar};

/// Bytes of chunk extensions and trailers that a whole body may carry: nobody uses them, and
/// unbounded they are a way to keep a server busy without sending a body.
pub const CHUNK_OVERHEAD_BYTES_MAX: u16 = 8192;

/// 16 hexadecimal digits are 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// One step of a [`BodyReader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyChunk<'a> {
    /// Bytes of the body; may be empty.
    pub data: &'a [u8],
    /// Bytes of the input that were used up, framing included.
    pub consumed: usize,
    /// The body is complete; what was not consumed is the next request.
    pub finished: bool,
}

/// Reads one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyReader {
    state: State,
    /// Extension and trailer bytes seen.
    overhead: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Size { size: u64, digits: u8 },
    Extension { size: u64, part: Extension },
    SizeLf { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Finished,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterQuoted,
}

impl BodyReader {
    /// A reader for the body that a head announced.
    pub fn new(body: Body) -> Self {
        let state = match body {
            Body::None | Body::Length(0) => State::Finished,
            Body::Length(bytes) => State::Length(bytes),
            Body::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self { state, overhead: 0 }
    }

    /// True once the body is complete; from the start if there is none.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Takes bytes up to the end of one run of data. Call again with the rest until it is empty or
    /// the body is finished; unfinished and with input, each call consumes something.
    pub fn feed<'a>(&mut self, input: &'a [u8]) -> Result<BodyChunk<'a>, BodyError> {
        let mut consumed = 0;
        let mut data: &[u8] = &[];
        while data.is_empty() && self.state != State::Finished {
            let Some((byte, rest)) = input.get(consumed..).and_then(<[u8]>::split_first) else {
                break;
            };
            if let State::Length(left) | State::Data(left) = &mut self.state {
                let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                let taken = wanted.min(1 + rest.len());
                data = input.get(consumed..consumed + taken).unwrap_or_default();
                consumed += taken;
                *left -= taken as u64;
                self.end_run();
            } else {
                self.state = self.step(*byte)?;
                consumed += 1;
            }
        }
        Ok(BodyChunk { data, consumed, finished: self.is_finished() })
    }

    /// Leaves a run of data that has no bytes left.
    fn end_run(&mut self) {
        match self.state {
            State::Length(0) => self.state = State::Finished,
            State::Data(0) => self.state = State::DataCr,
            _ => {}
        }
    }

    /// One byte of chunk framing.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size { size, digits } => Self::step_size(size, digits, byte),
            State::Extension { size, part } => {
                self.count_overhead()?;
                step_extension(size, part, byte).ok_or(BodyError::ChunkExtension)
            }
            State::SizeLf { size: 0 } if byte == b'\n' => Ok(State::TrailerStart),
            State::SizeLf { size } if byte == b'\n' => Ok(State::Data(size)),
            State::SizeLf { .. } => Err(BodyError::ChunkExtension),
            //= rfc9112#7.1
            // chunk-data is followed by CRLF; anything else means that the size lied.
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { size: 0, digits: 0 }),
            State::DataCr | State::DataLf => Err(BodyError::ChunkEnd),
            State::TrailerStart if byte == b'\r' => Ok(State::LastLf),
            State::LastLf if byte == b'\n' => Ok(State::Finished),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.count_overhead()?;
                step_trailer(self.state, byte).ok_or(BodyError::Trailer)
            }
            State::LastLf => Err(BodyError::Trailer),
            // Handled by the caller without looking at single bytes.
            State::Length(_) | State::Data(_) | State::Finished => Ok(self.state),
        }
    }

    fn step_size(size: u64, digits: u8, byte: u8) -> Result<State, BodyError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            return if digits >= CHUNK_SIZE_DIGITS_MAX {
                Err(BodyError::ChunkSizeTooLong)
            } else {
                Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            };
        }
        match byte {
            _ if digits == 0 => Err(BodyError::ChunkSize),
            b'\r' => Ok(State::SizeLf { size }),
            b';' => Ok(State::Extension { size, part: Extension::BeforeName }),
            // Bad white space, legal only before an extension.
            b' ' | b'\t' => Ok(State::Extension { size, part: Extension::BeforeSemicolon }),
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn count_overhead(&mut self) -> Result<(), BodyError> {
        self.overhead = self.overhead.saturating_add(1);
        if self.overhead > CHUNK_OVERHEAD_BYTES_MAX { Err(BodyError::Overhead) } else { Ok(()) }
    }
}

//= rfc9112#7.1.1
// Extensions are recognised and ignored, but only in the form of the grammar: what another
// recipient might read as a line end or a size must not hide in them.
fn step_extension(size: u64, part: Extension, byte: u8) -> Option<State> {
    use Extension::*;
    let is_space = matches!(byte, b' ' | b'\t');
    let part = match part {
        BeforeSemicolon | AfterQuoted | AfterName if byte == b';' => BeforeName,
        BeforeSemicolon | AfterName | BeforeName | BeforeValue if is_space => part,
        Value | AfterQuoted if is_space => BeforeSemicolon,
        BeforeName | Name if is_tchar(byte) => Name,
        Name if is_space => AfterName,
        Name | AfterName if byte == b'=' => BeforeValue,
        Name | Value if byte == b';' => BeforeName,
        BeforeValue | Value if is_tchar(byte) => Value,
        BeforeValue if byte == b'"' => Quoted,
        Quoted if byte == b'"' => AfterQuoted,
        Quoted if byte == b'\\' => Escaped,
        Quoted | Escaped if is_field_byte(byte) => Quoted,
        Name | Value | AfterQuoted if byte == b'\r' => return Some(State::SizeLf { size }),
        _ => return None,
    };
    Some(State::Extension { size, part })
}

//= rfc9112#7.1.2
// Trailers may be discarded; their lines must still be field lines.
fn step_trailer(state: State, byte: u8) -> Option<State> {
    match state {
        State::TrailerStart if is_tchar(byte) => Some(State::TrailerName),
        State::TrailerName if is_tchar(byte) => Some(State::TrailerName),
        State::TrailerName if byte == b':' => Some(State::TrailerValue),
        State::TrailerValue if is_field_byte(byte) => Some(State::TrailerValue),
        State::TrailerValue if byte == b'\r' => Some(State::TrailerLf),
        State::TrailerLf if byte == b'\n' => Some(State::TrailerStart),
        _ => None,
    }
}
