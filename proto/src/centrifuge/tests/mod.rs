//! The codec from outside. Deltas, order and permissions are nobody's business here.

mod arbitrary;
mod bounds;
mod golden;
mod matching;
mod round_trip;

use super as api;
#[path = "../../../../tests/fuzz/shared/centrifuge_prost.rs"]
mod pb;

use api::{Command, Commands, DecodeError, Encoding, Limits, Replies, Reply};

fn commands(encoding: Encoding, frame: &[u8]) -> Vec<Result<Command<'_>, DecodeError>> {
    Commands::new(encoding, frame, Limits::DEFAULT).collect()
}

/// The only command of a frame.
fn command(encoding: Encoding, frame: &[u8]) -> Result<Command<'_>, DecodeError> {
    let mut all = commands(encoding, frame);
    assert_eq!(all.len(), 1, "{}", String::from_utf8_lossy(frame));
    all.remove(0)
}

fn json(text: &str) -> Result<Command<'_>, DecodeError> {
    command(Encoding::Json, text.as_bytes())
}

fn replies(encoding: Encoding, frame: &[u8]) -> Vec<Result<Reply<'_>, DecodeError>> {
    Replies::new(encoding, frame, Limits::DEFAULT).collect()
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    // What stands before must stay.
    let mut out = b"before".to_vec();
    write(&mut out);
    out.split_off(6)
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    String::from_utf8(written(write)).unwrap()
}
