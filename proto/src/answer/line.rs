//! The answers of a stream: what became of its items, line by line, and a last line with the sums.
//!
//! ```json
//! {"upto":3,"accepted":2,"rejected":1,"duplicates":0,
//!  "channels":[{"channel":"a","count":2,"duplicates":0,"first":"..:7","last":"..:8"}],
//!  "rejections":[{"index":2,"code":"missing_data","detail":".."}],
//!  "rejected_by_code":{"missing_data":1}}
//! {"end":"complete","upto":3,"accepted":2,"rejected":1,"duplicates":0}
//! ```
//!
//! Everything is said once and in order: after a line with `upto` n nothing more comes about the
//! items before index n. The same as Protobuf is a `PublishAnswer` behind its length.

use super::PublishAnswer;
use crate::envelope::{write_json_string, write_number};
use crate::protobuf::{Prefix, write_bytes_field, write_prefixed, write_varint_field};

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFormat {
    /// One JSON object; in a stream one a line.
    Json,
    /// A `PublishAnswer`; in a stream each behind its length.
    Protobuf,
}

impl AnswerFormat {
    /// The media type of one answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The media type of a stream of them.
    pub fn stream_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-ndjson",
            Self::Protobuf => "application/x-protobuf",
        }
    }
}

/// Why a stream of answers ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The request ended, and every item has its answer.
    Complete,
    /// The server is full.
    Overloaded,
    /// The server drains.
    Draining,
    /// The body cannot be read any further.
    Broken,
    /// An item began and did not arrive.
    Timeout,
    /// The store did not confirm in time.
    NotStored,
}

impl StreamEnd {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::NotStored => "not_stored",
        }
    }

    /// What to do next; empty after a complete stream.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Complete => "",
            Self::Overloaded => "the server is full; send the items from `upto` on again, later",
            Self::Draining => "the server drains; send the items from `upto` on to another",
            Self::Broken => "the body cannot be read from `upto` on; see the last rejection",
            Self::Timeout => {
                "an item began and did not arrive; send the items from `upto` on again"
            }
            Self::NotStored => {
                "the store has not confirmed the items from `upto` on in time. They stay in the \
                 spool and are stored when it takes them; send them again, with their ids, to wait \
                 for that"
            }
        }
    }
}

/// The sums of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Items that have their answer: all before this index.
    pub upto: u64,
    accepted: u64,
    rejected: u64,
    duplicates: u64,
}

impl Totals {
    /// Adds what a line says.
    pub fn add(&mut self, answer: &PublishAnswer, upto: u64) {
        self.upto = upto;
        self.accepted += answer.accepted();
        self.rejected += answer.rejected();
        self.duplicates += answer.duplicates();
    }

    /// Appends the last line.
    pub fn write(&self, out: &mut Vec<u8>, end: StreamEnd, format: AnswerFormat) {
        if format == AnswerFormat::Protobuf {
            write_prefixed(out, 32, |out| {
                let numbers = [(1, self.accepted), (2, self.rejected), (3, self.duplicates)];
                for (field, number) in numbers.into_iter().chain([(10, self.upto)]) {
                    write_set(out, field, number);
                }
                write_bytes_field(out, 11, end.as_str().as_bytes());
                write_text(out, 12, end.remedy());
            });
            return;
        }
        out.extend_from_slice(b"{\"end\":");
        write_json_string(out, end.as_str());
        let members = [
            (",\"upto\":", self.upto),
            (",\"accepted\":", self.accepted),
            (",\"rejected\":", self.rejected),
            (",\"duplicates\":", self.duplicates),
        ];
        for (name, number) in members {
            out.extend_from_slice(name.as_bytes());
            write_number(out, number);
        }
        if !end.remedy().is_empty() {
            out.extend_from_slice(b",\"message\":");
            write_json_string(out, end.remedy());
        }
        out.extend_from_slice(b"}\n");
    }
}

impl PublishAnswer {
    /// An answer that sums up by channel from the first item on: a line of a stream.
    pub fn sums() -> Self {
        Self { positions_max: 0, ..Self::default() }
    }

    /// Appends a line of a stream.
    pub fn write_line(&self, out: &mut Vec<u8>, upto: u64, format: AnswerFormat) {
        if format == AnswerFormat::Protobuf {
            write_prefixed(out, 128, |out| {
                self.write_protobuf(out);
                write_set(out, 10, upto);
            });
            return;
        }
        out.extend_from_slice(b"{\"upto\":");
        write_number(out, upto);
        out.push(b',');
        self.write_members(out);
        out.extend_from_slice(b"}\n");
    }

    /// Appends the answer in one of its formats.
    pub fn write(&self, out: &mut Vec<u8>, format: AnswerFormat) {
        match format {
            AnswerFormat::Json => self.write_json(out),
            AnswerFormat::Protobuf => self.write_protobuf(out),
        }
    }

    /// Appends the fields of a `PublishAnswer`.
    fn write_protobuf(&self, out: &mut Vec<u8>) {
        write_set(out, 1, self.accepted);
        write_set(out, 2, self.rejected());
        write_set(out, 3, self.duplicates);
        if self.is_named() {
            for accepted in self.positions_in_order() {
                let Some(channel) = self.channels.get(accepted.channel as usize) else { continue };
                message(out, 4, 64, |out| {
                    write_set(out, 1, accepted.index);
                    write_text(out, 2, channel.name.as_str());
                    write_text(out, 3, &accepted.position.to_string());
                    write_set(out, 4, u64::from(accepted.duplicate));
                });
            }
        } else {
            for channel in &self.channels {
                message(out, 5, 96, |out| {
                    write_text(out, 1, channel.name.as_str());
                    write_set(out, 2, channel.count);
                    write_set(out, 3, channel.duplicates);
                    if let Some([(_, first), (_, last)]) = channel.ends {
                        write_text(out, 4, &first.to_string());
                        write_text(out, 5, &last.to_string());
                    }
                });
            }
            write_set(out, 6, self.omitted);
        }
        for rejection in self.rejections_in_order() {
            message(out, 7, 96, |out| {
                write_set(out, 1, rejection.index);
                write_text(out, 2, rejection.code.as_str());
                write_text(out, 3, &rejection.detail);
            });
        }
        for (code, count) in self.rejected_by_code() {
            message(out, 8, 32, |out| {
                write_text(out, 1, code.as_str());
                write_set(out, 2, count);
            });
        }
        if let Some(index) = self.stopped_at {
            write_varint_field(out, 9, index);
        }
    }
}

fn message(out: &mut Vec<u8>, field: u32, guess: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let prefix = Prefix::open_field(out, field, guess);
    write(out);
    prefix.close(out);
}

/// A number, unless it is the one that is not written.
fn write_set(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        write_varint_field(out, field, number);
    }
}

fn write_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        write_bytes_field(out, field, text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
