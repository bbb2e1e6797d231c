//! Which decoder reads a request: decided by path, `Content-Type` and CloudEvents headers alone.

/// How a publish body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// One envelope or an array of them: [`super::BodyDecoder`] with `BodyShape::Envelopes`.
    Json,
    /// One envelope per line: [`super::NdjsonDecoder`].
    Ndjson,
    /// One envelope or an array of them: [`super::MsgpackDecoder`].
    Msgpack,
    /// Events of our schema: [`super::ProtobufDecoder`].
    Protobuf,
    /// One CloudEvent as JSON: [`super::BodyDecoder`] with `BodyShape::CloudEvent`.
    CloudEventStructured,
    /// An array of CloudEvents: [`super::BodyDecoder`] with `BodyShape::CloudEventBatch`.
    CloudEventBatch,
    /// Attributes in headers, data in the body: [`super::decode_cloudevent_binary`].
    CloudEventBinary,
    /// The body is the data: [`super::decode_raw`].
    Raw,
}

/// The body's type cannot be read here: status 415. The text says what can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Not one of the types that carry a channel.
    #[error(
        "unsupported Content-Type; /v1/events takes application/json, application/x-ndjson, \
         application/msgpack, application/x-protobuf, application/cloudevents+json, \
         application/cloudevents-batch+json, or CloudEvents headers (ce-id, ce-source, ce-type, \
         ce-specversion); any type may be posted to /v1/channels/{{channel}}/events"
    )]
    Unsupported,
    /// JSON in another character set than UTF-8.
    #[error("unsupported charset; JSON is read as UTF-8 only")]
    Charset,
    /// A CloudEvents event format other than JSON.
    #[error(
        "unsupported CloudEvents format; use application/cloudevents+json or \
         application/cloudevents-batch+json"
    )]
    CloudEventFormat,
}

impl ContentKind {
    /// Decides. `content_type` is the header's value; `cloudevent_headers` is
    /// [`super::has_cloudevent_headers`] of the request; `channel_in_url` tells
    /// `/v1/channels/{channel}/events` from `/v1/events`.
    pub fn of(
        content_type: Option<&str>,
        cloudevent_headers: bool,
        channel_in_url: bool,
    ) -> Result<Self, ContentError> {
        let essence = content_type.map(essence).unwrap_or_default();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        //= cloudevents-http#3
        // The prefix `application/cloudevents` decides before the headers do.
        let kind = if is("application/cloudevents+json") {
            Self::CloudEventStructured
        } else if is("application/cloudevents-batch+json") {
            Self::CloudEventBatch
        } else if starts_with(essence, "application/cloudevents") {
            return Err(ContentError::CloudEventFormat);
        } else if cloudevent_headers {
            return Ok(Self::CloudEventBinary);
        } else if is("application/json") {
            Self::Json
        } else if NDJSON_TYPES.iter().any(|name| is(name)) {
            Self::Ndjson
        } else if MSGPACK_TYPES.iter().any(|name| is(name)) {
            return Ok(Self::Msgpack);
        } else if PROTOBUF_TYPES.iter().any(|name| is(name)) {
            return Ok(Self::Protobuf);
        } else if channel_in_url {
            return Ok(Self::Raw);
        } else {
            return Err(ContentError::Unsupported);
        };
        match content_type.and_then(charset) {
            Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => Err(ContentError::Charset),
            _ => Ok(kind),
        }
    }
}

const NDJSON_TYPES: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"];

const MSGPACK_TYPES: [&str; 3] =
    ["application/msgpack", "application/vnd.msgpack", "application/x-msgpack"];

const PROTOBUF_TYPES: [&str; 3] =
    ["application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"];

/// The type and subtype, without parameters.
pub(super) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim_matches([' ', '\t'])
}

/// `*/json` or `*/*+json`.
//= cloudevents-json#3.1.1
pub(super) fn is_json(content_type: &str) -> bool {
    let Some((_, subtype)) = essence(content_type).split_once('/') else { return false };
    subtype.eq_ignore_ascii_case("json") || ends_with(subtype, "+json")
}

/// `text/*` in a character set that UTF-8 covers.
pub(super) fn is_text(content_type: &str) -> bool {
    let utf8 = |charset: &str| {
        charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
    };
    starts_with(essence(content_type), "text/") && charset(content_type).is_none_or(utf8)
}

/// The `charset` parameter, without its quotes.
pub(super) fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let found = name.trim_matches([' ', '\t']).eq_ignore_ascii_case("charset");
        found.then(|| value.trim_matches([' ', '\t', '"']))
    })
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn ends_with(text: &str, suffix: &str) -> bool {
    let tail = text.len().checked_sub(suffix.len()).and_then(|at| text.get(at..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ContentKind as Kind;

    #[test]
    fn type_path_and_headers_choose_the_decoder() {
        let check = |content_type: &str, expected: Result<Kind, ContentError>| {
            let given = (content_type != "none").then_some(content_type);
            assert_eq!(ContentKind::of(given, false, false), expected, "{content_type}");
        };
        check("application/json", Ok(Kind::Json));
        check("Application/JSON ; charset=UTF-8", Ok(Kind::Json));
        check("application/json;charset=\"utf-8\"", Ok(Kind::Json));
        check("application/json;charset=latin1", Err(ContentError::Charset));
        check("application/x-ndjson", Ok(Kind::Ndjson));
        check("application/ndjson", Ok(Kind::Ndjson));
        check("application/jsonl; x=y", Ok(Kind::Ndjson));
        check("application/msgpack", Ok(Kind::Msgpack));
        check("application/vnd.msgpack; x=y", Ok(Kind::Msgpack));
        check("Application/X-MsgPack", Ok(Kind::Msgpack));
        check("application/x-protobuf", Ok(Kind::Protobuf));
        check("application/protobuf; charset=utf-16", Ok(Kind::Protobuf));
        check("application/jsonl; charset=utf-16", Err(ContentError::Charset));
        check("application/cloudevents+json", Ok(Kind::CloudEventStructured));
        check("application/cloudevents-batch+json; charset=utf-8", Ok(Kind::CloudEventBatch));
        check("application/cloudevents+avro", Err(ContentError::CloudEventFormat));
        check("application/cloudevents", Err(ContentError::CloudEventFormat));
        check("text/plain", Err(ContentError::Unsupported));
        check("application/vnd.x+json", Err(ContentError::Unsupported));
        check("", Err(ContentError::Unsupported));
        check("none", Err(ContentError::Unsupported));
    }

    #[test]
    fn a_channel_in_the_url_takes_any_type_and_headers_make_a_cloudevent() {
        let of = ContentKind::of;
        assert_eq!(of(None, false, true), Ok(Kind::Raw));
        assert_eq!(of(Some("text/plain;charset=latin1"), false, true), Ok(Kind::Raw));
        assert_eq!(of(Some("application/json"), false, true), Ok(Kind::Json));
        assert_eq!(of(Some("application/json"), true, true), Ok(Kind::CloudEventBinary));
        assert_eq!(of(Some("application/json;charset=x"), true, false), Ok(Kind::CloudEventBinary));
        assert_eq!(of(None, true, false), Ok(Kind::CloudEventBinary));
        let structured = Some("application/cloudevents+json");
        assert_eq!(of(structured, true, true), Ok(Kind::CloudEventStructured));
    }

    #[test]
    fn media_types_are_told_apart_without_regard_to_case() {
        for json in ["application/json", "TEXT/JSON;x", "application/vnd.a+JSON; charset=utf-8"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["", "json", "application/json5", "application/jsonl", "+json"] {
            assert!(!is_json(other), "{other}");
        }
        assert!(is_text("Text/HTML; charset=utf-8") && is_text("text/plain"));
        assert!(!is_text("text/plain; charset=latin1") && !is_text("texts/plain"));
    }
}
