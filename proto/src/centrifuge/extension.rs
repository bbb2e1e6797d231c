//! Our own features, inside the unmodified protocol: what they look like on the wire.
//!
//! They ride in payloads that the protocol leaves to applications, as JSON objects in either
//! encoding, so that every SDK can use them today:
//!
//! - a subscription's options in `subscribe`'s `data`: [`SubscribeOptions`];
//! - credit, visibility and activity in `send`: [`ClientMessage`];
//! - the RPC method [`RPC_SNAPSHOT`] with a [`SnapshotRequest`];
//! - notices in `message` pushes: [`Notice`].
//!
//! The same payloads carry what is the application's own: members that are not known here are
//! ignored, and so is a payload that is no JSON object. A known member of a wrong type is an
//! error, since somebody meant it. Deliberately absent: what any of this does.

use super::data::Data;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The RPC method that asks for snapshots: the tab is back.
pub const RPC_SNAPSHOT: &str = "snapshot";

/// A known member has the wrong type or an impossible value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// Of [`SubscribeOptions`].
    #[error("a subscription option has a wrong type or value")]
    SubscribeOptions,
    /// Of a [`ClientMessage`].
    #[error("a member of the message has a wrong type or value")]
    ClientMessage,
    /// Of a [`SnapshotRequest`].
    #[error("a member of the snapshot request has a wrong type or value")]
    SnapshotRequest,
    /// Of a [`Notice`].
    #[error("a member of the notice has a wrong type or value")]
    Notice,
}

/// What a subscription wants to be spared.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscribeOptions {
    /// Only values that changed by more than so many per cent.
    #[serde(skip_serializing_if = "is_default")]
    pub threshold_percent: Option<f64>,
    /// At least so many milliseconds between two publications.
    #[serde(skip_serializing_if = "is_default")]
    pub min_interval_ms: Option<u32>,
    /// At most so many publications a second.
    #[serde(skip_serializing_if = "is_default")]
    pub messages_per_s_max: Option<u32>,
    /// The newest publication at once, before any other.
    #[serde(skip_serializing_if = "is_default")]
    pub snapshot: bool,
    /// Every publication in full: no delta, no conflation, no drop.
    #[serde(skip_serializing_if = "is_default")]
    pub full_tick: bool,
}

/// Whether anybody is looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// The page is in front.
    Visible,
    /// The page is in the background.
    Hidden,
}

/// What a client says about itself; several at once, or nothing of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientMessage {
    /// It can take so many more publications.
    #[serde(skip_serializing_if = "is_default")]
    pub credit: Option<u32>,
    /// Somebody is looking, or not.
    #[serde(rename = "vis", skip_serializing_if = "is_default")]
    pub visibility: Option<Visibility>,
    /// How often the user did something since the last time; any at all says that there is one.
    #[serde(rename = "act", skip_serializing_if = "is_default")]
    pub activity: Option<u32>,
}

/// The channels whose newest publication is wanted now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotRequest<'a> {
    /// Empty: of all subscriptions.
    #[serde(borrow, skip_serializing_if = "is_default")]
    pub channels: Vec<Cow<'a, str>>,
}

/// How loaded the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything is served.
    Normal,
    /// Close to what is healthy.
    Warning,
    /// Some features are off.
    Degraded,
    /// Only what matters is served.
    Critical,
    /// The server defends itself.
    Emergency,
}

/// What the server tells a client between publications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Notice<'a> {
    /// `{"dropped":n}`: publications were left out here.
    Dropped {
        /// How many.
        dropped: u64,
        /// Of which channel; of several if absent.
        #[serde(borrow, default, skip_serializing_if = "is_default")]
        channel: Option<Cow<'a, str>>,
    },
    /// `{"notice":...}`.
    Kind(NoticeKind),
}

/// The notices that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "lowercase")]
pub enum NoticeKind {
    /// The user did nothing for long: the connection is about to be closed with code 4501.
    Idle {
        /// In so many seconds.
        close_in_s: u32,
    },
    /// The server's level has changed: show a banner, or take it away.
    Degraded {
        /// The new level.
        level: Level,
    },
}

impl SubscribeOptions {
    /// Reads `subscribe`'s `data`.
    pub fn parse(data: Data<'_>) -> Result<Self, ExtensionError> {
        let error = ExtensionError::SubscribeOptions;
        let options: Self =
            parse(data).map_or(Ok(Self::default()), |read| read.map_err(|()| error))?;
        // JSON has no infinity, but a negative threshold is one that nothing could mean.
        if options.threshold_percent.is_some_and(|percent| percent < 0.0) {
            return Err(error);
        }
        Ok(options)
    }

    /// Appends them as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, self);
    }
}

impl ClientMessage {
    /// Reads `send`'s `data`.
    pub fn parse(data: Data<'_>) -> Result<Self, ExtensionError> {
        let error = ExtensionError::ClientMessage;
        parse(data).map_or(Ok(Self::default()), |read| read.map_err(|()| error))
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, self);
    }
}

impl<'a> SnapshotRequest<'a> {
    /// Reads the argument of [`RPC_SNAPSHOT`]. More channels than `channels_max` are an error.
    pub fn parse(data: Data<'a>, channels_max: usize) -> Result<Self, ExtensionError> {
        let error = ExtensionError::SnapshotRequest;
        let request: Self =
            parse(data).map_or(Ok(Self::default()), |read| read.map_err(|()| error))?;
        if request.channels.len() > channels_max { Err(error) } else { Ok(request) }
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, self);
    }
}

impl<'a> Notice<'a> {
    /// Reads the `data` of a `message` push; `None` if it is none of ours.
    pub fn parse(data: Data<'a>) -> Result<Option<Self>, ExtensionError> {
        /// Says whether it is one of ours.
        #[derive(Deserialize)]
        struct Marks {
            notice: Option<serde::de::IgnoredAny>,
            dropped: Option<serde::de::IgnoredAny>,
        }
        match parse::<Marks>(data) {
            Some(Ok(Marks { notice: None, dropped: None })) | None => return Ok(None),
            Some(Ok(_)) => {}
            Some(Err(())) => return Err(ExtensionError::Notice),
        }
        parse(data).transpose().map_err(|()| ExtensionError::Notice)
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, self);
    }
}

impl From<NoticeKind> for Notice<'_> {
    fn from(kind: NoticeKind) -> Self {
        Self::Kind(kind)
    }
}

/// Reads an object; `None` if the payload is none.
fn parse<'a, T: Deserialize<'a>>(data: Data<'a>) -> Option<Result<T, ()>> {
    let bytes = data.bytes();
    // A structure is also read from an array; only an object is meant.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let read = serde_json::from_slice(bytes);
    // Of a Protobuf client it may be anything that begins with a brace.
    if read.is_err() && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() {
        return None;
    }
    Some(read.map_err(|_| ()))
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    // Neither the buffer nor these types can fail.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn subscription_options_have_a_stable_form() {
        let check = |json: &str, options: SubscribeOptions| {
            assert_eq!(SubscribeOptions::parse(Data::Json(json.as_bytes())), Ok(options), "{json}");
            // In Protobuf the same text is bytes.
            assert_eq!(SubscribeOptions::parse(Data::Binary(json.as_bytes())), Ok(options));
            let written = text(|out| options.write(out));
            assert_eq!(SubscribeOptions::parse(Data::Json(written.as_bytes())), Ok(options));
        };
        let all = SubscribeOptions {
            threshold_percent: Some(5.0),
            min_interval_ms: Some(100),
            messages_per_s_max: Some(10),
            snapshot: true,
            full_tick: true,
        };
        let json = concat!(
            r#"{"threshold_percent":5.0,"min_interval_ms":100,"messages_per_s_max":10,"#,
            r#""snapshot":true,"full_tick":true}"#
        );
        assert_eq!(text(|out| all.write(out)), json);
        check(json, all);
        check(
            r#" {"own":[1],"threshold_percent":5,"min_interval_ms":null}"#,
            SubscribeOptions { threshold_percent: Some(5.0), ..SubscribeOptions::default() },
        );
        for none in ["{}", "[5,100]", "7", "null", "\"{}\""] {
            check(none, SubscribeOptions::default());
        }
        assert_eq!(SubscribeOptions::parse(Data::None), Ok(SubscribeOptions::default()));
        assert_eq!(
            SubscribeOptions::parse(Data::Binary(b"{\xff")),
            Ok(SubscribeOptions::default())
        );
        for wrong in [
            r#"{"threshold_percent":"5"}"#,
            r#"{"threshold_percent":-1}"#,
            r#"{"threshold_percent":1e999}"#,
            r#"{"min_interval_ms":-1}"#,
            r#"{"messages_per_s_max":4294967296}"#,
            r#"{"snapshot":1}"#,
        ] {
            let read = SubscribeOptions::parse(Data::Json(wrong.as_bytes()));
            assert_eq!(read, Err(ExtensionError::SubscribeOptions), "{wrong}");
        }
    }

    #[test]
    fn client_messages_have_a_stable_form() {
        let check = |json: &str, message: ClientMessage| {
            assert_eq!(ClientMessage::parse(Data::Json(json.as_bytes())), Ok(message), "{json}");
            assert_eq!(text(|out| message.write(out)), json);
        };
        let none = ClientMessage::default();
        check("{}", none);
        check(r#"{"credit":100}"#, ClientMessage { credit: Some(100), ..none });
        check(r#"{"credit":0}"#, ClientMessage { credit: Some(0), ..none });
        let hidden = ClientMessage { visibility: Some(Visibility::Hidden), ..none };
        check(r#"{"vis":"hidden"}"#, hidden);
        let all = ClientMessage {
            credit: Some(1),
            visibility: Some(Visibility::Visible),
            activity: Some(1),
        };
        check(r#"{"credit":1,"vis":"visible","act":1}"#, all);
        assert_eq!(ClientMessage::parse(Data::Json(b"[1]")), Ok(none));
        for wrong in [r#"{"credit":-1}"#, r#"{"vis":"gone"}"#, r#"{"act":true}"#] {
            let read = ClientMessage::parse(Data::Json(wrong.as_bytes()));
            assert_eq!(read, Err(ExtensionError::ClientMessage), "{wrong}");
        }
    }

    #[test]
    fn snapshot_requests_have_a_stable_form_and_a_bound() {
        let json = r#"{"channels":["a","b\"c"]}"#;
        let request = SnapshotRequest::parse(Data::Json(json.as_bytes()), 2).unwrap();
        assert_eq!(request.channels, ["a", "b\"c"]);
        assert_eq!(text(|out| request.write(out)), json);
        assert!(SnapshotRequest::parse(Data::Json(json.as_bytes()), 1).is_err());
        assert_eq!(SnapshotRequest::parse(Data::None, 0), Ok(SnapshotRequest::default()));
        assert!(SnapshotRequest::parse(Data::Json(b"{\"channels\":[1]}"), 9).is_err());
    }

    #[test]
    fn notices_have_a_stable_form() {
        let check = |json: &str, notice: Notice<'_>| {
            assert_eq!(Notice::parse(Data::Json(json.as_bytes())), Ok(Some(notice.clone())));
            assert_eq!(text(|out| notice.write(out)), json);
        };
        check(r#"{"dropped":3}"#, Notice::Dropped { dropped: 3, channel: None });
        let channel = Some(Cow::Borrowed("a\"b"));
        check(r#"{"dropped":3,"channel":"a\"b"}"#, Notice::Dropped { dropped: 3, channel });
        check(r#"{"notice":"idle","close_in_s":30}"#, NoticeKind::Idle { close_in_s: 30 }.into());
        for level in ["normal", "warning", "degraded", "critical", "emergency"] {
            let json = format!(r#"{{"notice":"degraded","level":"{level}","own":1}}"#);
            let read = Notice::parse(Data::Json(json.as_bytes())).unwrap().unwrap();
            assert_eq!(text(|out| read.write(out)), json.replace(",\"own\":1", ""));
        }
        for none in ["{}", "[1]", "{\"own\":1}", "\"dropped\""] {
            assert_eq!(Notice::parse(Data::Json(none.as_bytes())), Ok(None), "{none}");
        }
        for wrong in ["{\"dropped\":-1}", "{\"notice\":\"lunch\"}", "{\"notice\":\"idle\"}"] {
            let read = Notice::parse(Data::Json(wrong.as_bytes()));
            assert_eq!(read, Err(ExtensionError::Notice), "{wrong}");
        }
    }
}
