//! The routes: a head becomes one value that says what to do, or a complete error answer.

use super::aggregate::{self, AggregateRequest};
use super::client;
use super::head::Head;
use super::response::Response;
use crate::mesh::{AckMode, Since};
use crate::shard::api::Method;
use crate::shard::format::Format;
use proto::centrifuge::Encoding;
use proto::channel::ChannelName;
use proto::position::{Cursor, Position};

/// Most events of one polling answer.
pub const READ_LIMIT_MAX: u32 = 1_000;
/// Most events of one history answer.
pub const HISTORY_LIMIT_MAX: u32 = 100_000;

/// What a request wants.
#[derive(Debug)]
pub enum Route {
    /// Publish; the channel if the URL names it. `stream`: answered while it runs.
    Publish { channel: Option<ChannelName>, ack: AckMode, stream: bool },
    /// A call of the server API.
    Api(Method),
    /// Upgrade to a WebSocket subscription.
    WebSocket(SubscribeRequest),
    /// Upgrade to a WebSocket of the client protocol; the encoding if the URL says one.
    Client(Option<Encoding>),
    /// A stream of the client protocol; its first commands if the URL brings them.
    Stream { format: Format, commands: Option<String> },
    /// Commands for such a stream.
    Emulation(Encoding),
    /// An event stream.
    Sse(SubscribeRequest),
    /// A polling request; `last` asks for the newest event.
    Read { channel: ChannelName, since: Since, last: bool, limit: u32 },
    /// The stored events themselves.
    History(HistoryRequest),
    /// A count or a top over stored events.
    Aggregate(AggregateRequest),
    /// `/health/live`.
    Live,
    /// `/health/ready`.
    Ready,
    /// CORS preflight.
    Preflight,
    /// A file of the page, by its path without the leading slash.
    Page(String),
}

impl Route {
    /// True if the request's body, or what stands for it in the URL, is taken in before anything
    /// else happens.
    pub fn has_body(&self) -> bool {
        matches!(
            self,
            Self::Publish { .. } | Self::Api(_) | Self::Stream { .. } | Self::Emulation(_)
        )
    }
}

/// A subscription as the URL states it.
#[derive(Debug, Clone)]
pub struct SubscribeRequest {
    /// In the order of the request, without repeats.
    pub channels: Vec<ChannelName>,
    /// Where each starts.
    pub since: Vec<Since>,
    /// How events are written.
    pub format: Format,
    /// FNV of the channel list.
    pub channels_hash: u32,
    /// There are several channels, or there might be: what is said names the channel.
    pub several: bool,
}

/// A query of the embedded store.
#[derive(Debug, Clone)]
pub struct HistoryRequest {
    /// The channel.
    pub channel: ChannelName,
    /// First offset or time, inclusive.
    pub from: Option<Bound>,
    /// Last offset or time, inclusive.
    pub to: Option<Bound>,
    /// Most events.
    pub limit: u32,
}

/// An end of a history range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// An offset.
    Offset(u64),
    /// Microseconds since the Unix epoch.
    TimeUs(i64),
}

/// Finds the route. `channels_max` bounds the channels of one stream.
pub fn route(head: &Head<'_>, channels_max: usize) -> Result<Route, Response> {
    if head.method == "OPTIONS" && head.headers.get("access-control-request-method").is_some() {
        return Ok(Route::Preflight);
    }
    let mut segments = head.path.strip_prefix('/').unwrap_or(head.path).split('/');
    match (segments.next(), segments.next(), segments.next(), segments.next(), segments.next()) {
        (Some("v1"), Some("events"), None, ..) => publish(head, None, false),
        (Some("v1"), Some("events"), Some("stream"), None, _) => publish(head, None, true),
        (Some("v1"), Some("channels"), Some(channel), Some(what), None) => {
            channel_route(head, channel, what, channels_max)
        }
        (Some("v1"), Some("sse"), None, ..) => sse(head, channels_max),
        (Some("v1"), Some("ws"), None, ..) => web_socket_of_several(head, channels_max),
        (Some("v1"), Some("history"), None, ..) => history(head),
        (Some("connection"), Some("websocket"), None, ..) => client::web_socket(head),
        (Some("connection"), Some("http_stream"), None, ..) => client::http_stream(head),
        (Some("connection"), Some("sse"), None, ..) => client::sse(head),
        (Some("emulation"), None, ..) => client::emulation(head),
        (Some("api"), method, None, ..) => api(head, method.unwrap_or_default()),
        (Some("health"), Some("live"), None, ..) => get(head, Route::Live),
        (Some("health"), Some("ready"), None, ..) => get(head, Route::Ready),
        (Some("v1" | "health" | "api" | "connection"), ..) => Err(not_found(head.path)),
        _ => page(head),
    }
}

fn channel_route(
    head: &Head<'_>,
    channel: &str,
    what: &str,
    channels_max: usize,
) -> Result<Route, Response> {
    let channel = channel_name(channel)?;
    match what {
        "events" if head.method == "POST" => publish(head, Some(channel), false),
        "stream" => publish(head, Some(channel), true),
        "events" if !matches!(head.method, "GET" | "HEAD") => {
            Err(not_allowed("GET to read or POST to publish", "GET, HEAD, POST"))
        }
        "counts" => aggregate::counts(head, channel).map(Route::Aggregate),
        "top" => aggregate::top(head, channel).map(Route::Aggregate),
        "events" | "last" => read(head, channel, what == "last"),
        "ws" => web_socket(head, channel, channels_max),
        _ => Err(not_found(head.path)),
    }
}

fn publish(head: &Head<'_>, channel: Option<ChannelName>, stream: bool) -> Result<Route, Response> {
    only(head, "POST")?;
    let mut ack = AckMode::Accepted;
    for (key, value) in pairs(head)? {
        match (key.as_str(), value.as_str()) {
            ("ack", "accepted") => ack = AckMode::Accepted,
            ("ack", "durable") => ack = AckMode::Durable,
            ("ack", "stored") => ack = AckMode::Stored,
            ("ack", _) => {
                return Err(bad_parameter("ack", "use `accepted`, `durable` or `stored`"));
            }
            _ => return Err(unknown_parameter(&key, "ack")),
        }
    }
    Ok(Route::Publish { channel, ack, stream })
}

fn api(head: &Head<'_>, name: &str) -> Result<Route, Response> {
    let Some(method) = Method::parse(name) else {
        let shown: String = name.chars().filter(char::is_ascii_graphic).take(60).collect();
        let message = format!("no API method `{shown}`; POST to /api/ and {}", Method::names());
        return Err(Response::error(404, "unknown_method", &message));
    };
    only(head, "POST")?;
    Ok(Route::Api(method))
}

fn web_socket(
    head: &Head<'_>,
    channel: ChannelName,
    channels_max: usize,
) -> Result<Route, Response> {
    only(head, "GET")?;
    let mut envelope = false;
    let mut since = None;
    for (key, value) in pairs(head)? {
        match (key.as_str(), value.as_str()) {
            ("format", "raw") => envelope = false,
            ("format", "envelope") => envelope = true,
            ("format", _) => return Err(bad_parameter("format", "use `raw` or `envelope`")),
            ("since", _) => since = Some(value),
            _ => return Err(unknown_parameter(&key, "format, since")),
        }
    }
    if since.is_some() && !envelope {
        let message = "resume needs `format=envelope`: raw messages carry no position";
        return Err(bad_parameter("since", message));
    }
    let format = Format::web_socket(envelope);
    subscribe(vec![channel], since.as_deref(), format, channels_max).map(Route::WebSocket)
}

/// One WebSocket for several channels: always envelopes, and positions channel by channel, because
/// a client knows each from the messages it got.
fn web_socket_of_several(head: &Head<'_>, channels_max: usize) -> Result<Route, Response> {
    only(head, "GET")?;
    let (mut channels, mut since) = (Vec::new(), Vec::new());
    for (key, value) in pairs(head)? {
        match (key.as_str(), value.as_str()) {
            ("channel", _) => {
                let name = ChannelName::new(&value).map_err(|e| bad_channel(&e.to_string()))?;
                if channels.contains(&name) {
                    return Err(bad_parameter("channel", &format!("`{name}` stands there twice")));
                }
                channels.push(name);
                not_too_many(&channels, channels_max)?;
            }
            ("since", "") => since.push(Since::Now),
            ("since", _) => {
                since.push(value.parse::<Position>().map_or(Since::Unknown, Since::After));
            }
            ("format", "envelope") => {}
            ("format", _) => {
                let message = "several channels need `envelope`: raw messages do not say theirs";
                return Err(bad_parameter("format", message));
            }
            _ => return Err(unknown_parameter(&key, "channel, since, format")),
        }
    }
    if channels.is_empty() {
        return Err(bad_parameter("channel", "name at least one channel: ?channel=a&channel=b"));
    }
    if !since.is_empty() && since.len() != channels.len() {
        let message = "give one for each channel, in the same order; an empty one is from now on";
        return Err(bad_parameter("since", message));
    }
    let mut request = subscribe(channels, None, Format::web_socket(true), channels_max)?;
    request.several = true;
    if !since.is_empty() {
        request.since = since;
    }
    Ok(Route::WebSocket(request))
}

fn sse(head: &Head<'_>, channels_max: usize) -> Result<Route, Response> {
    only(head, "GET")?;
    let (mut channels, mut since) = (Vec::new(), None);
    let (mut envelope, mut typed) = (false, false);
    for (key, value) in pairs(head)? {
        match (key.as_str(), value.as_str()) {
            ("channel", _) => {
                let name = ChannelName::new(&value).map_err(|e| bad_channel(&e.to_string()))?;
                if !channels.contains(&name) {
                    channels.push(name);
                    not_too_many(&channels, channels_max)?;
                }
            }
            ("format", "data") => envelope = false,
            ("format", "envelope") => envelope = true,
            ("format", _) => return Err(bad_parameter("format", "use `data` or `envelope`")),
            ("event", "type") => typed = true,
            ("event", _) => return Err(bad_parameter("event", "use `type`, or leave it out")),
            ("since", _) => since = Some(value),
            _ => return Err(unknown_parameter(&key, "channel, format, event, since")),
        }
    }
    if channels.is_empty() {
        return Err(bad_parameter("channel", "name at least one channel: ?channel=a&channel=b"));
    }
    // Last-Event-ID wins: the browser sends it on every reconnect, with the URL unchanged.
    let last_id = head.headers.get("last-event-id").filter(|id| !id.is_empty());
    let last_id = last_id.map(|id| String::from_utf8_lossy(id).into_owned());
    let several = channels.len() > 1;
    let format = Format::sse(envelope || several, typed, !several);
    subscribe(channels, last_id.or(since).as_deref(), format, channels_max).map(Route::Sse)
}

fn subscribe(
    channels: Vec<ChannelName>,
    since: Option<&str>,
    format: Format,
    channels_max: usize,
) -> Result<SubscribeRequest, Response> {
    not_too_many(&channels, channels_max)?;
    let channels_hash = Cursor::hash_channels(channels.iter().map(ChannelName::as_str));
    let since = starts(&channels, since, channels_hash);
    let several = channels.len() > 1;
    Ok(SubscribeRequest { channels, since, format, channels_hash, several })
}

/// Looked at while they are read: a query names a thousand of them, and each is compared with all
/// before it.
fn not_too_many(channels: &[ChannelName], channels_max: usize) -> Result<(), Response> {
    if channels.len() > channels_max {
        let message = format!("more than {channels_max}; one stream may have so many");
        return Err(bad_parameter("channel", &message));
    }
    Ok(())
}

/// One start per channel. What is not ours becomes a gap, never an error.
fn starts(channels: &[ChannelName], since: Option<&str>, channels_hash: u32) -> Vec<Since> {
    let Some(since) = since else { return vec![Since::Now; channels.len()] };
    if let [_] = channels {
        return vec![since.parse::<Position>().map_or(Since::Unknown, Since::After)];
    }
    match since.parse::<Cursor>() {
        Ok(cursor)
            if cursor.channels_hash == channels_hash
                && cursor.positions.len() == channels.len() =>
        {
            let start = |position: Option<Position>| position.map_or(Since::Now, Since::After);
            cursor.positions.into_iter().map(start).collect()
        }
        _ => vec![Since::Unknown; channels.len()],
    }
}

fn read(head: &Head<'_>, channel: ChannelName, last: bool) -> Result<Route, Response> {
    get(head, ())?;
    let (mut since, mut limit) = (None, READ_LIMIT_MAX);
    for (key, value) in pairs(head)? {
        match key.as_str() {
            "since" if !last => since = Some(value),
            "limit" if !last => limit = number("limit", &value, READ_LIMIT_MAX)?,
            _ => return Err(unknown_parameter(&key, if last { "none" } else { "since, limit" })),
        }
    }
    let since = match since.as_deref() {
        None => Since::Now,
        Some(text) => text.parse::<Position>().map_or(Since::Unknown, Since::After),
    };
    Ok(Route::Read { channel, since, last, limit })
}

fn history(head: &Head<'_>) -> Result<Route, Response> {
    get(head, ())?;
    let mut channel = None;
    let mut request = (None, None, 1_000);
    for (key, value) in pairs(head)? {
        match key.as_str() {
            "channel" => {
                channel = Some(ChannelName::new(&value).map_err(|e| bad_channel(&e.to_string()))?);
            }
            "from" => request.0 = Some(bound("from", &value)?),
            "to" => request.1 = Some(bound("to", &value)?),
            "limit" => request.2 = number("limit", &value, HISTORY_LIMIT_MAX)?,
            _ => return Err(unknown_parameter(&key, "channel, from, to, limit")),
        }
    }
    let channel = channel.ok_or_else(|| bad_parameter("channel", "name the channel"))?;
    Ok(Route::History(HistoryRequest { channel, from: request.0, to: request.1, limit: request.2 }))
}

/// An integer is an offset, RFC 3339 a time.
fn bound(name: &str, value: &str) -> Result<Bound, Response> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return value
            .parse()
            .map(Bound::Offset)
            .map_err(|_| bad_parameter(name, "offset too large"));
    }
    proto::rfc3339::parse_rfc3339(value)
        .map(Bound::TimeUs)
        .ok_or_else(|| bad_parameter(name, "use an offset (integer) or a time (RFC 3339)"))
}

pub(super) fn number(name: &str, value: &str, max: u32) -> Result<u32, Response> {
    match value.parse::<u32>() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(bad_parameter(name, &format!("use a number from 1 to {max}"))),
    }
}

fn page(head: &Head<'_>) -> Result<Route, Response> {
    if !matches!(head.method, "GET" | "HEAD") {
        return Err(not_found(head.path));
    }
    let path = proto::http1::decode_segment(head.path.strip_prefix('/').unwrap_or_default())
        .map_err(|_| not_found(head.path))?;
    let climbs = path.split(['/', '\\']).any(|part| part == ".." || part == ".");
    if climbs || path.contains('\0') {
        return Err(not_found(head.path));
    }
    get(head, Route::Page(path.into_owned()))
}

fn channel_name(segment: &str) -> Result<ChannelName, Response> {
    let name = proto::http1::decode_segment(segment)
        .map_err(|_| bad_channel("bad percent-encoding in the path"))?;
    ChannelName::new(&name).map_err(|error| bad_channel(&error.to_string()))
}

/// The parameters, without `token`: that one says who asks, and is looked at for every route alike.
pub(super) fn pairs(head: &Head<'_>) -> Result<Vec<(String, String)>, Response> {
    proto::http1::query_pairs(head.query)
        .filter(|pair| !matches!(pair, Ok((key, _)) if key == "token"))
        .map(|pair| pair.map(|(key, value)| (key.into_owned(), value.into_owned())))
        .collect::<Result<_, _>>()
        .map_err(|_| Response::error(400, "bad_query", "bad percent-encoding in the query"))
}

pub(super) fn get<T>(head: &Head<'_>, value: T) -> Result<T, Response> {
    if matches!(head.method, "GET" | "HEAD") {
        return Ok(value);
    }
    Err(not_allowed("GET", "GET, HEAD"))
}

pub(super) fn only(head: &Head<'_>, method: &'static str) -> Result<(), Response> {
    if head.method == method {
        return Ok(());
    }
    Err(not_allowed(method, method))
}

//= rfc9110#15.5.6
// A 405 names every method that the resource does take.
pub(super) fn not_allowed(remedy: &str, methods: &'static str) -> Response {
    let message = format!("use {remedy}");
    Response::error(405, "method_not_allowed", &message).with("allow", methods)
}

/// Nothing of ours, and no file of the page.
pub fn not_found(path: &str) -> Response {
    let shown: String = path.chars().filter(char::is_ascii_graphic).take(100).collect();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let message = if ["metrics", "debug", "admin"].contains(&first) || path == "/health/storage" {
        format!("nothing at {shown} on this port; the admin listener has it (`admin_listen`)")
    } else {
        format!(
            "nothing at {shown}; there are /v1/events, /v1/events/stream, /v1/sse, /v1/ws, \
             /v1/history, under /v1/channels/{{channel}} events, stream, last, counts, top and ws, \
             for Centrifugo's clients /connection/websocket, /connection/http_stream, \
             /connection/sse and /emulation, and for its server API /api/{{method}}"
        )
    };
    Response::error(404, "not_found", &message)
}

fn bad_channel(detail: &str) -> Response {
    Response::error(400, "invalid_channel", detail)
}

pub(super) fn bad_parameter(name: &str, detail: &str) -> Response {
    Response::error(400, "bad_parameter", &format!("`{name}`: {detail}"))
}

pub(super) fn unknown_parameter(name: &str, known: &str) -> Response {
    let shown: String = name.chars().filter(char::is_ascii_graphic).take(60).collect();
    let message = format!("unknown query parameter `{shown}`; known here: {known}");
    Response::error(400, "unknown_parameter", &message)
}
