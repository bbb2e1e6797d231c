//! Bytes to messages.

use super::deflate::Inflater;
use super::header::{self, Context, HEADER_BYTES_MAX, Header};
use super::{CONTROL_BYTES_MAX, FrameError, Opcode, Role, is_close_code, mask};
use std::mem;

/// What a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes; beyond it 1009, at the frame head that announces it. A
    /// compressed message is counted as expanded.
    pub message_bytes_max: u32,
    /// The most frames of one message; beyond it 1008. At least 1.
    pub fragments_max: u16,
    /// permessage-deflate was negotiated, without context takeover: messages may be compressed.
    pub deflate: bool,
}

impl Default for Limits {
    /// 64 KiB as in the limits file; 256 fragments suffice for clients that flush every few bytes.
    fn default() -> Self {
        Self { message_bytes_max: 64 * 1024, fragments_max: 256, deflate: false }
    }
}

/// What arrived. The bytes are in the caller's scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, checked.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping, or unsolicited.
    Pong(&'a [u8]),
    /// The peer closes; everything after it is ignored. `None`: without a code (1005).
    Close {
        /// The peer's code, legal.
        code: Option<u16>,
        /// The peer's reason, possibly empty.
        reason: &'a str,
    },
}

/// Decodes the frames of one connection. Idle, it owns no heap.
#[derive(Debug)]
pub struct Decoder {
    /// What arrived of an unfinished data message, unmasked.
    message: Vec<u8>,
    /// What arrived of an unfinished control frame.
    control: Option<Box<PartialControl>>,
    state: State,
    limits: Limits,
    /// So many bytes of `message` are whole UTF-8 characters (text only).
    checked: u32,
    fragments: u16,
    role: Role,
    open: Open,
}

const _: () = assert!(size_of::<Decoder>() <= 64, "a quiet connection must stay cheap");

#[derive(Debug)]
struct PartialControl {
    bytes: [u8; CONTROL_BYTES_MAX],
    len: u8,
}

/// The message that data frames belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    None,
    Text,
    Binary,
    CompressedText,
    CompressedBinary,
}

impl Open {
    const fn is_compressed(self) -> bool {
        matches!(self, Self::CompressedText | Self::CompressedBinary)
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between frames, with the bytes of a partial header.
    Header { bytes: [u8; HEADER_BYTES_MAX - 1], len: u8 },
    /// Inside a frame. The key is rotated to the next byte.
    Payload { left: u32, key: [u8; 4], opcode: Opcode, fin: bool },
    /// After a close frame or an error.
    Closed,
}

const BETWEEN_FRAMES: State = State::Header { bytes: [0; HEADER_BYTES_MAX - 1], len: 0 };

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            message: Vec::new(),
            control: None,
            state: BETWEEN_FRAMES,
            limits,
            checked: 0,
            fragments: 0,
            role,
            open: Open::None,
        }
    }

    /// Takes bytes up to the end of one message. Gives how many were taken and the message;
    /// call again with the rest. Without a message everything was taken. After an error, and after
    /// a close frame, everything is ignored.
    ///
    /// `scratch` is overwritten; it may be shared by all connections of a thread. A message that
    /// arrived in pieces replaces its allocation, so that the connection keeps none. A compressed
    /// message makes an inflater of its own; see [`Self::feed_inflating`].
    pub fn feed<'s>(
        &mut self,
        input: &[u8],
        scratch: &'s mut Vec<u8>,
    ) -> Result<(usize, Option<Message<'s>>), FrameError> {
        self.feed_inflating(input, scratch, &mut Inflater::default())
    }

    /// As [`Self::feed`], for whoever runs many connections: one inflater serves them all.
    pub fn feed_inflating<'s>(
        &mut self,
        input: &[u8],
        scratch: &'s mut Vec<u8>,
        inflater: &mut Inflater,
    ) -> Result<(usize, Option<Message<'s>>), FrameError> {
        scratch.clear();
        let mut consumed = 0;
        let step = loop {
            let rest = input.get(consumed..).unwrap_or_default();
            match self.step(rest, scratch, inflater) {
                Ok((taken, None)) if taken < rest.len() => consumed += taken,
                step => break step,
            }
        };
        let finished = match step {
            Ok((taken, finished)) => {
                consumed += taken;
                finished
            }
            Err(error) => {
                self.fail();
                return Err(error);
            }
        };
        let Some(opcode) = finished else { return Ok((consumed, None)) };
        match to_message(opcode, scratch) {
            Ok(message) => {
                if opcode == Opcode::Close {
                    self.fail();
                }
                Ok((consumed, Some(message)))
            }
            Err(error) => {
                self.fail();
                Err(error)
            }
        }
    }

    /// True if nothing is buffered: no partial header, frame or message.
    pub fn is_idle(&self) -> bool {
        self.open == Open::None
            && matches!(self.state, State::Header { len: 0, .. } | State::Closed)
    }

    /// Bytes of heap held for what is unfinished.
    pub fn buffered_bytes(&self) -> usize {
        self.message.capacity() + self.control.as_ref().map_or(0, |_| size_of::<PartialControl>())
    }

    /// Drops what is unfinished and ignores the rest of the connection.
    fn fail(&mut self) {
        self.message = Vec::new();
        self.control = None;
        self.open = Open::None;
        self.state = State::Closed;
    }

    /// One header or one run of payload. With an opcode, the finished payload is in `scratch`.
    fn step(
        &mut self,
        input: &[u8],
        scratch: &mut Vec<u8>,
        inflater: &mut Inflater,
    ) -> Result<(usize, Option<Opcode>), FrameError> {
        match self.state {
            State::Closed => Ok((input.len(), None)),
            State::Header { bytes, len } => {
                let (taken, header) = self.step_header(input, bytes, usize::from(len))?;
                match header {
                    // An empty payload is complete with its header; there may be no more input.
                    Some(header) if header.payload_bytes == 0 => {
                        Ok((taken, self.take_payload(&[], scratch, inflater)?))
                    }
                    _ => Ok((taken, None)),
                }
            }
            State::Payload { left, .. } => {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX);
                let run = input.get(..wanted).unwrap_or(input);
                Ok((run.len(), self.take_payload(run, scratch, inflater)?))
            }
        }
    }

    /// Completes a header from its stored part and the input; stores what is not complete.
    fn step_header(
        &mut self,
        input: &[u8],
        mut stored: [u8; HEADER_BYTES_MAX - 1],
        len: usize,
    ) -> Result<(usize, Option<Header>), FrameError> {
        let context = self.context();
        let header = if len == 0 {
            header::parse(input, &context)?
        } else {
            let mut joined = [0; HEADER_BYTES_MAX * 2];
            let known = stored.iter().take(len);
            let fresh = input.iter().take(HEADER_BYTES_MAX);
            let filled = len + fresh.len();
            joined.iter_mut().zip(known.chain(fresh)).for_each(|(to, from)| *to = *from);
            header::parse(joined.get(..filled).unwrap_or_default(), &context)?
        };
        let Some(header) = header else {
            // An incomplete header is shorter than the longest, so all of the input fits.
            let free = stored.iter_mut().skip(len);
            free.zip(input).for_each(|(to, from)| *to = *from);
            let len = u8::try_from(len + input.len()).unwrap_or(u8::MAX);
            self.state = State::Header { bytes: stored, len };
            return Ok((input.len(), None));
        };
        self.begin(&header);
        Ok((header.len.saturating_sub(len), Some(header)))
    }

    fn context(&self) -> Context {
        let used = self.message.len() as u64;
        let limit = u64::from(self.limits.message_bytes_max);
        // The rest of a frame is counted in 32 bits.
        let extra_room = (limit / 16 + 64).min(u64::from(u32::MAX) - limit);
        let limit = limit + if self.open.is_compressed() { extra_room } else { 0 };
        Context {
            role: self.role,
            message_open: self.open != Open::None,
            fragments_left: self.limits.fragments_max.saturating_sub(self.fragments),
            room: limit.saturating_sub(used),
            deflate: self.limits.deflate,
            extra_room,
        }
    }

    fn begin(&mut self, header: &Header) {
        match header.opcode {
            Opcode::Text if header.compressed => self.open = Open::CompressedText,
            Opcode::Binary if header.compressed => self.open = Open::CompressedBinary,
            Opcode::Text => self.open = Open::Text,
            Opcode::Binary => self.open = Open::Binary,
            _ => {}
        }
        if !header.opcode.is_control() {
            self.fragments = self.fragments.saturating_add(1);
        }
        self.state = State::Payload {
            // Checked against `room`, which is 32 bits; control frames are shorter.
            left: u32::try_from(header.payload_bytes).unwrap_or(u32::MAX),
            key: header.key,
            opcode: header.opcode,
            fin: header.fin,
        };
    }

    /// Takes a run of the current frame's payload, at most what is left of it.
    fn take_payload(
        &mut self,
        run: &[u8],
        scratch: &mut Vec<u8>,
        inflater: &mut Inflater,
    ) -> Result<Option<Opcode>, FrameError> {
        let State::Payload { left, key, opcode, fin } = self.state else { return Ok(None) };
        let left = left.saturating_sub(u32::try_from(run.len()).unwrap_or(u32::MAX));
        self.state = if left == 0 {
            BETWEEN_FRAMES
        } else {
            State::Payload { left, key: mask::advance(key, run.len()), opcode, fin }
        };
        if opcode.is_control() {
            return Ok(self.take_control(run, key, left == 0, scratch).then_some(opcode));
        }
        let finished = left == 0 && fin;
        if finished && self.message.is_empty() {
            mask::append(scratch, run, key);
            return self.finish(scratch, inflater).map(Some);
        }
        mask::append(&mut self.message, run, key);
        self.check_text(finished)?;
        if !finished {
            return Ok(None);
        }
        *scratch = mem::take(&mut self.message);
        self.finish(scratch, inflater).map(Some)
    }

    /// Ends the open message, whose bytes are in `scratch`, and says what it is.
    fn finish(
        &mut self,
        scratch: &mut Vec<u8>,
        inflater: &mut Inflater,
    ) -> Result<Opcode, FrameError> {
        if self.open.is_compressed() {
            inflater.inflate(scratch, self.limits.message_bytes_max)?;
        }
        let opcode = match self.open {
            Open::Text | Open::CompressedText => Opcode::Text,
            _ => Opcode::Binary,
        };
        self.open = Open::None;
        self.fragments = 0;
        self.checked = 0;
        Ok(opcode)
    }

    //= rfc6455#8.1
    // Text that is not UTF-8 fails the connection; we say so with the first offending byte.
    fn check_text(&mut self, finished: bool) -> Result<(), FrameError> {
        if self.open != Open::Text || finished {
            return Ok(()); // the whole is checked when it is handed out
        }
        let start = usize::try_from(self.checked).unwrap_or(usize::MAX);
        let tail = self.message.get(start..).unwrap_or_default();
        let valid = match simdutf8::compat::from_utf8(tail) {
            Ok(_) => tail.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(FrameError::Utf8),
        };
        self.checked = self.checked.saturating_add(u32::try_from(valid).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Takes a run of a control frame. True: it is complete and in `scratch`.
    fn take_control(
        &mut self,
        run: &[u8],
        key: [u8; 4],
        finished: bool,
        scratch: &mut Vec<u8>,
    ) -> bool {
        if finished {
            if let Some(partial) = self.control.take() {
                scratch.extend(partial.bytes.iter().take(usize::from(partial.len)));
            }
            mask::append(scratch, run, key);
        } else if !run.is_empty() {
            let partial = self.control.get_or_insert_with(|| {
                Box::new(PartialControl { bytes: [0; CONTROL_BYTES_MAX], len: 0 })
            });
            let free = partial.bytes.iter_mut().skip(usize::from(partial.len));
            let bytes = run.iter().zip(key.into_iter().cycle());
            free.zip(bytes).for_each(|(to, (byte, key))| *to = byte ^ key);
            partial.len = partial.len.saturating_add(u8::try_from(run.len()).unwrap_or(u8::MAX));
        }
        finished
    }
}

fn to_message(opcode: Opcode, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    Ok(match opcode {
        Opcode::Text => {
            Message::Text(simdutf8::basic::from_utf8(payload).map_err(|_| FrameError::Utf8)?)
        }
        Opcode::Binary | Opcode::Continuation => Message::Binary(payload),
        Opcode::Ping => Message::Ping(payload),
        Opcode::Pong => Message::Pong(payload),
        Opcode::Close => to_close(payload)?,
    })
}

//= rfc6455#5.5.1
// A close payload is empty, or two bytes of code and a UTF-8 reason.
fn to_close(payload: &[u8]) -> Result<Message<'_>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Message::Close { code: None, reason: "" })
        } else {
            Err(FrameError::CloseTooShort)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(FrameError::CloseCode);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
    Ok(Message::Close { code: Some(code), reason })
}
