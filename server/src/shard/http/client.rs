//! The endpoints of the client protocol. SDKs add parameters of their own as they please, so
//! unknown ones are left alone.

use super::head::Head;
use super::response::Response;
use super::route::{Route, bad_parameter, not_allowed, only, pairs};
use crate::shard::format::Format;
use proto::centrifuge::Encoding;

/// What a query says of the first commands of an event stream.
const CONNECT: &str = "cf_connect";

/// `/connection/websocket`.
pub(super) fn web_socket(head: &Head<'_>) -> Result<Route, Response> {
    only(head, "GET")?;
    let pairs = pairs(head)?;
    let protobuf = pairs.iter().any(|(key, value)| {
        matches!(key.as_str(), "format" | "cf_protocol") && value == "protobuf"
    });
    Ok(Route::Client(protobuf.then_some(Encoding::Protobuf)))
}

/// `/connection/http_stream`: the body holds the first commands.
pub(super) fn http_stream(head: &Head<'_>) -> Result<Route, Response> {
    only(head, "POST")?;
    let format = Format::client_lines(encoding(head));
    Ok(Route::Stream { format, commands: None })
}

/// `/connection/sse`: the query holds the first commands, or the body does.
pub(super) fn sse(head: &Head<'_>) -> Result<Route, Response> {
    let format = Format::client_events();
    match head.method {
        "POST" => Ok(Route::Stream { format, commands: None }),
        "GET" => {
            let mut commands = None;
            for (key, value) in pairs(head)? {
                if key == CONNECT && commands.replace(value).is_some() {
                    return Err(bad_parameter(CONNECT, "it is there twice"));
                }
            }
            let commands = commands.filter(|commands| !commands.is_empty()).ok_or_else(|| {
                bad_parameter(CONNECT, "the first commands, as in {\"id\":1,\"connect\":{}}")
            })?;
            Ok(Route::Stream { format, commands: Some(commands) })
        }
        _ => Err(not_allowed("GET with `cf_connect`, or POST", "GET, POST")),
    }
}

/// `/emulation`: commands for a stream that stands.
pub(super) fn emulation(head: &Head<'_>) -> Result<Route, Response> {
    only(head, "POST")?;
    Ok(Route::Emulation(encoding(head)))
}

/// Of a body; all but Protobuf is taken for JSON, as browsers send it without asking first.
fn encoding(head: &Head<'_>) -> Encoding {
    let content_type = head.text("content-type").unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/octet-stream") {
        Encoding::Protobuf
    } else {
        Encoding::Json
    }
}
