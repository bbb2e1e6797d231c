//! Requests of the server API as they are written. A member that is not known refuses the request:
//! what Centrifugo would do with it would not be done here.

use super::{Fault, Method};
use crate::auth::Overrides;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// `publish` and `broadcast`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish<'a> {
    #[serde(borrow)]
    pub channel: Option<Cow<'a, str>>,
    pub channels: Option<Vec<String>>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub b64data: Option<Cow<'a, str>>,
    pub skip_history: Option<bool>,
    pub tags: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    pub idempotency_key: Option<Cow<'a, str>>,
    /// Whoever wants deltas gets them.
    #[expect(dead_code, reason = "the subscriber decides")]
    pub delta: Option<bool>,
    /// Events are never left out by version.
    #[expect(dead_code, reason = "read so that it has to be a number")]
    pub version: Option<u64>,
    #[expect(dead_code, reason = "read so that it has to be a text")]
    #[serde(borrow)]
    pub version_epoch: Option<Cow<'a, str>>,
}

/// `history`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History<'a> {
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    pub limit: Option<i64>,
    pub since: Option<StreamPosition>,
    pub reverse: Option<bool>,
}

/// Where a history begins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPosition {
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub epoch: String,
}

/// `history_remove`, `presence` and `presence_stats`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfChannel<'a> {
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
}

/// `channels`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels<'a> {
    #[serde(borrow)]
    pub pattern: Option<Cow<'a, str>>,
}

/// `info`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {}

/// `subscribe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe<'a> {
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    #[serde(borrow)]
    pub info: Option<&'a RawValue>,
    pub b64info: Option<String>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    pub b64data: Option<String>,
    pub recover_since: Option<StreamPosition>,
    #[serde(rename = "override")]
    pub overrides: Option<Overrides>,
    pub expire_at: Option<i64>,
}

/// `refresh`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    pub expired: Option<bool>,
    pub expire_at: Option<i64>,
}

/// `unsubscribe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe<'a> {
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
}

/// `disconnect`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    pub whitelist: Option<Vec<String>>,
    pub disconnect: Option<How>,
    /// What old libraries send beside `disconnect`; the code says it.
    #[expect(dead_code, reason = "the code says whether a client comes back")]
    pub reconnect: Option<bool>,
}

/// The code and the reason that a client is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    #[serde(default)]
    pub code: u32,
    #[serde(default)]
    pub reason: String,
}

/// `batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch<'a> {
    #[serde(borrow)]
    pub commands: Vec<BTreeMap<String, &'a RawValue>>,
    pub parallel: Option<bool>,
}

/// `null` is data.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads a request.
pub fn parse<'a, T: Deserialize<'a>>(method: Method, body: &'a [u8]) -> Result<T, Fault> {
    let say = |error: &dyn std::fmt::Display| {
        Fault::bad(format!("the body of `{}` cannot be read: {error}", method.name()))
    };
    // Once for the whole body: names and texts of it end up in messages.
    let text = std::str::from_utf8(body).map_err(|error| say(&error))?;
    if !text.trim_start().starts_with('{') {
        return Err(say(&"send a JSON object, as in {\"channel\":\"news\"}"));
    }
    serde_json::from_str(text).map_err(|error| say(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_strictly_and_its_data_kept_as_written() {
        let parse = |text: &'static str| parse::<Publish<'_>>(Method::Publish, text.as_bytes());
        let text = r#"{"channel":"a\u0062","data": {"x": 1.0 } ,"tags":{"a":"b"},"skip_history":false,
            "delta":true,"version":3,"version_epoch":"e","idempotency_key":"k"}"#;
        let publish = parse(text).unwrap();
        assert_eq!(publish.channel.as_deref(), Some("ab"));
        assert_eq!(publish.data.map(RawValue::get), Some(r#"{"x": 1.0 }"#));
        assert_eq!(publish.tags.unwrap()["a"], "b");
        assert_eq!(parse(r#"{"data":null}"#).unwrap().data.map(RawValue::get), Some("null"));
        assert!(parse("{}").unwrap().data.is_none());
        for text in [
            "",
            "null",
            "[]",
            "1",
            "{",
            "{}}",
            r#"{"dta":1}"#,
            r#"{"channel":1}"#,
            r#"{"channel":"a","channel":"b"}"#,
            r#"{"tags":{"a":1}}"#,
            r#"{"tags":["a"]}"#,
            r#"{"data":}"#,
            r#"{"version":-1}"#,
            r#"{"skip_history":"yes"}"#,
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.code.code(), 107, "{text}");
            assert!(fault.message.contains("`publish`"), "{text}: {}", fault.message);
        }
        assert!(super::parse::<Publish<'_>>(Method::Publish, b"{\"channel\":\"\xff\"}").is_err());
    }
}
