//! What is wrong with what a client sent, and what the protocol answers to it.
//!
//! Two kinds: what cannot be read ends the connection (3501), since nothing behind it means
//! anything; what can be read but not used is answered to the command's id (107, or 104 for a
//! command that does not exist), and the connection goes on. Each says itself in one short
//! sentence that fits a close frame and is never JSON.

use super::codes::{DisconnectCode, ErrorCode};
use super::filter::FilterError;
use crate::channel::ChannelNameError;
use crate::protobuf::WireError;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame holds no command at all.
    #[error("a frame without a command")]
    Empty,
    /// More commands than [`super::Limits::commands_max`].
    #[error("too many commands in one frame")]
    TooManyCommands,
    /// The frame is not UTF-8.
    #[error("JSON is not UTF-8")]
    Utf8,
    /// The text is not JSON; what was expected.
    #[error("not JSON: {0}")]
    Json(&'static str),
    /// A command is JSON, but not an object.
    #[error("a command is not a JSON object")]
    NotAnObject,
    /// Something else than white space with a line break follows a command.
    #[error("text behind a command; commands are separated by line breaks")]
    Separator,
    /// See [`WireError`].
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A field has another type than its definition; its name.
    #[error("`{0}` has the wrong type")]
    Type(&'static str),
    /// A number does not fit its field; its name.
    #[error("`{0}` is out of range")]
    Range(&'static str),
    /// A command without id that would need an answer.
    #[error("a command other than send has no id")]
    MissingId,
    /// A command has an id and nothing this server knows.
    #[error("unknown method")]
    UnknownMethod,
    /// A command has more than one method.
    #[error("a command has two methods")]
    TwoMethods,
    /// A channel's name is not legal.
    #[error(transparent)]
    Channel(#[from] ChannelNameError),
    /// A string is over its limit; its name.
    #[error("`{0}` is too long")]
    TooLong(&'static str),
    /// More map entries and list items than [`super::Limits::entries_max`].
    #[error("too many entries in maps and lists")]
    TooManyEntries,
    /// A publish without data.
    #[error("`data` is missing")]
    MissingData,
    /// See [`FilterError`].
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl Fault {
    /// True if the command was read to its end and only its content cannot be used.
    pub const fn is_content(self) -> bool {
        match self {
            Self::UnknownMethod
            | Self::TwoMethods
            | Self::Channel(_)
            | Self::TooLong(_)
            | Self::TooManyEntries
            | Self::MissingData
            | Self::Filter(_) => true,
            Self::Empty
            | Self::TooManyCommands
            | Self::Utf8
            | Self::Json(_)
            | Self::NotAnObject
            | Self::Separator
            | Self::Wire(_)
            | Self::Type(_)
            | Self::Range(_)
            | Self::MissingId => false,
        }
    }

    /// Names the field, if the fault does not know it yet.
    pub(super) fn at(self, name: &'static str) -> Self {
        match self {
            Self::Type("") => Self::Type(name),
            Self::Range("") => Self::Range(name),
            Self::TooLong("") => Self::TooLong(name),
            other => other,
        }
    }
}

/// A command that cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct DecodeError {
    /// The command's id; 0 if it has none or was not reached.
    pub id: u32,
    /// What is wrong.
    pub fault: Fault,
}

/// What the server does about a [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answers the command and goes on.
    Reply {
        /// The command's id.
        id: u32,
        /// What it is told.
        code: ErrorCode,
    },
    /// Closes the connection.
    Disconnect(DisconnectCode),
}

impl DecodeError {
    /// What the protocol prescribes. Content without an id cannot be answered, so it ends the
    /// connection too.
    pub const fn outcome(self) -> Outcome {
        let code = match self.fault {
            Fault::UnknownMethod => ErrorCode::MethodNotFound,
            _ => ErrorCode::BadRequest,
        };
        if self.fault.is_content() && self.id != 0 {
            Outcome::Reply { id: self.id, code }
        } else {
            Outcome::Disconnect(DisconnectCode::BadRequest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::CLOSE_REASON_BYTES_MAX;

    #[test]
    fn every_fault_says_itself_safely_and_has_its_outcome() {
        let wire = WireError::Truncated;
        let broken =
            [Fault::Empty, Fault::TooManyCommands, Fault::Utf8, Fault::Json("expected `{`")]
                .into_iter()
                .chain([Fault::NotAnObject, Fault::Separator, Fault::Wire(wire), Fault::Type("id")])
                .chain([Fault::Range("id"), Fault::MissingId]);
        let unusable = [Fault::TwoMethods, Fault::Channel(ChannelNameError::TooLong)]
            .into_iter()
            .chain([Fault::TooLong("token"), Fault::TooManyEntries, Fault::MissingData])
            .chain(FilterError::ALL.iter().copied().map(Fault::Filter));
        let check = |fault: Fault, expected: Outcome| {
            let text = fault.to_string();
            assert!(!text.is_empty() && text.len() <= CLOSE_REASON_BYTES_MAX, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{text}");
            assert_eq!(DecodeError { id: 7, fault }.outcome(), expected, "{text}");
            let disconnect = Outcome::Disconnect(DisconnectCode::BadRequest);
            assert_eq!(DecodeError { id: 0, fault }.outcome(), disconnect, "{text}");
        };
        broken.for_each(|fault| check(fault, Outcome::Disconnect(DisconnectCode::BadRequest)));
        unusable.for_each(|fault| {
            check(fault, Outcome::Reply { id: 7, code: ErrorCode::BadRequest });
        });
        let unknown = Outcome::Reply { id: 7, code: ErrorCode::MethodNotFound };
        check(Fault::UnknownMethod, unknown);
    }
}
