//! A frame writer and reader that allows everything a hostile peer may send.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `GET / http a`, from the static table.
pub const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// `POST / http a`.
pub const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

pub fn preface() -> Vec<u8> {
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut wire, SETTINGS, 0, 0, &[]);
    wire
}

pub fn frame(wire: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    wire.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    wire.extend_from_slice(&[kind, flags]);
    wire.extend_from_slice(&stream.to_be_bytes());
    wire.extend_from_slice(payload);
}

pub fn setting(wire: &mut Vec<u8>, id: u16, value: u32) {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    frame(wire, SETTINGS, 0, 0, &payload);
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frames(mut wire: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    while !wire.is_empty() {
        let len = u32::from_be_bytes([0, wire[0], wire[1], wire[2]]) as usize;
        let stream = u32::from_be_bytes([wire[5], wire[6], wire[7], wire[8]]);
        let payload = wire[9..9 + len].to_vec();
        found.push(Frame { kind: wire[3], flags: wire[4], stream, payload });
        wire = &wire[9 + len..];
    }
    found
}

/// The error code of the last GOAWAY.
pub fn goaway_code(wire: &[u8]) -> Option<u32> {
    let goaway = frames(wire).into_iter().rfind(|frame| frame.kind == GOAWAY)?;
    Some(u32::from_be_bytes(goaway.payload[4..8].try_into().unwrap()))
}
