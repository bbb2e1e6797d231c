//! Who asks, and for how long: credentials of requests, permissions of routes, and the callers of
//! live endpoints.
//!
//! A request shows an API key (`X-API-Key`, or `Authorization: Bearer`) or a token (`Authorization:
//! Bearer`, or `?token=` on subscriptions where that is configured). What it opens remembers the
//! caller in a table beside the connections, which is empty without authentication, so that nothing
//! is paid for it then. When a token expires, what it opened ends with a resumable reason: looked
//! at whenever a connection's timer fires, and the timer never fires later than that.

use super::Shard;
use super::connection::EndpointId;
use super::http::{Head, Response, Route};
use super::notices;
use super::session::Session;
use crate::auth::{Action, Caller, Denied, Secret, SubscriptionGrant, TokenError, allows};
use crate::driver::ConnId;
use hashbrown::HashMap;
use proto::channel::ChannelName;
use proto::envelope::NoticeReason;
use proto::reason::CloseReason;

/// The callers of live endpoints, where they are somebody.
pub(super) type Callers = HashMap<EndpointId, Caller, foldhash::fast::RandomState>;

impl Shard {
    /// Who asks for a route; `Err` is the whole answer if it is not for them.
    fn authorize(&mut self, head: &Head<'_>, route: &Route) -> Result<Caller, Response> {
        let streams = matches!(
            route,
            Route::WebSocket(_) | Route::Client(_) | Route::Sse(_) | Route::Stream { .. }
        );
        // What a session's name opens needs nothing else.
        if matches!(
            route,
            Route::Live | Route::Ready | Route::Preflight | Route::Page(_) | Route::Emulation(_)
        ) {
            return Ok(Caller::Anonymous);
        }
        let caller = self.caller(head, streams)?;
        match route {
            Route::WebSocket(subscribe) | Route::Sse(subscribe) => {
                for channel in &subscribe.channels {
                    self.may(&caller, channel, Action::Subscribe)?;
                }
            }
            Route::Read { channel, .. } => self.may(&caller, channel, Action::History)?,
            Route::History(request) => self.may(&caller, &request.channel, Action::History)?,
            Route::Aggregate(request) => self.may(&caller, request.channel(), Action::History)?,
            Route::Publish { channel: Some(channel), .. } => {
                self.may(&caller, channel, Action::PublishRequest)?;
            }
            // Each event names its channel and is looked at by itself; but who shows nothing is
            // told so once, unless some namespace takes events from anybody.
            Route::Publish { channel: None, .. } => {
                if matches!(caller, Caller::Anonymous) && !self.settings.anonymous_publish() {
                    return Err(self.denied(Denied::Unauthenticated, "", Action::PublishRequest));
                }
            }
            // Its commands are looked at one by one; none is for anybody but services.
            Route::Api(_) => match caller {
                Caller::Open | Caller::Service(_) => {}
                Caller::Anonymous => {
                    self.stats.counters.auth_missing += 1;
                    let text = "the server API needs an API key; send it as `X-API-Key`";
                    return Err(unauthorized("unauthenticated", text, ""));
                }
                Caller::Client(_) => {
                    self.stats.counters.auth_forbidden += 1;
                    let text = "the server API needs an API key; a token does not open it";
                    return Err(Response::error(403, "forbidden", text));
                }
            },
            // Who it is comes with its first command, and what it wants with the others.
            Route::Client(_) | Route::Stream { .. } => {}
            Route::Live
            | Route::Ready
            | Route::Preflight
            | Route::Page(_)
            | Route::Emulation(_) => {}
        }
        Ok(caller)
    }

    /// The same with the route. There is no caller where an event stream has to come back later: a
    /// browser never retries after a 503, so the stream itself says when.
    pub(super) fn admit(
        &mut self,
        head: &Head<'_>,
        route: Route,
    ) -> Result<(Route, Option<Caller>), Response> {
        match self.authorize(head, &route) {
            Ok(caller) => Ok((route, Some(caller))),
            Err(later) if later.status == 503 && matches!(route, Route::Sse(_)) => {
                Ok((route, None))
            }
            Err(response) => Err(response),
        }
    }

    /// Whether a caller may do something in a channel, as an answer.
    pub(super) fn may(
        &mut self,
        caller: &Caller,
        channel: &ChannelName,
        action: Action,
    ) -> Result<(), Response> {
        let namespace = self.settings.namespace(channel.as_str());
        allows(caller, namespace, channel.as_str(), action)
            .map_err(|denied| self.denied(denied, channel.as_str(), action))
    }

    fn denied(&mut self, denied: Denied, channel: &str, action: Action) -> Response {
        let text = denial(denied, self.settings.namespace_name(channel), action);
        if denied != Denied::Unauthenticated {
            self.stats.counters.auth_forbidden += 1;
            return Response::error(403, "forbidden", &text);
        }
        self.stats.counters.auth_missing += 1;
        unauthorized("unauthenticated", &text, "")
    }

    fn caller(&mut self, head: &Head<'_>, streams: bool) -> Result<Caller, Response> {
        let in_url = token_in_url(head)?;
        let Some(auth) = self.settings.auth.clone() else {
            return match in_url {
                None => Ok(Caller::Open),
                Some(_) => {
                    Err(bad_token_parameter("no authentication is configured; leave it out"))
                }
            };
        };
        if in_url.is_some() && !(auth.token_in_url && streams) {
            let text = if auth.token_in_url {
                "only subscriptions take it from the URL; use `Authorization: Bearer` here"
            } else {
                IN_URL
            };
            return Err(bad_token_parameter(text));
        }
        let shown = match credentials(head) {
            Ok(shown) => shown,
            Err(text) => {
                self.stats.counters.auth_invalid += 1;
                return Err(unauthorized("invalid_credentials", text, INVALID));
            }
        };
        let token = match (shown, in_url) {
            (Some(Shown::Key(key)), _) => {
                return match auth.keys.find(&key) {
                    Some(key) => Ok(Caller::Service(key.clone())),
                    None => Err(self.unknown_key(false)),
                };
            }
            (Some(Shown::Bearer(bearer)), _) => match auth.keys.find(&bearer) {
                Some(key) => return Ok(Caller::Service(key.clone())),
                // A token has two dots; a key that is not known may as well be one.
                None if bearer.bytes().filter(|byte| *byte == b'.').count() != 2 => {
                    return Err(self.unknown_key(true));
                }
                None => Secret::new(bearer),
            },
            (None, Some(token)) => token,
            (None, None) => return Ok(Caller::Anonymous),
        };
        let Some(verifier) = &auth.verifier else {
            self.stats.counters.auth_invalid += 1;
            let text = "no key for tokens is configured; see `auth` in the configuration";
            return Err(unauthorized("invalid_token", text, INVALID));
        };
        verifier
            .connect(token.reveal(), self.wall_s())
            .map(|identity| Caller::Client(identity.into()))
            .map_err(|error| self.bad_token(error))
    }

    /// `bearer`: it came where a token may, too.
    fn unknown_key(&mut self, bearer: bool) -> Response {
        self.stats.counters.auth_invalid += 1;
        let auth = self.settings.auth.as_ref();
        let keys = auth.is_some_and(|auth| !auth.keys.is_empty());
        let token = bearer && auth.is_some_and(|auth| auth.verifier.is_some());
        let text = match (keys, token) {
            (true, false) => "the API key is not known; compare its hash with `api_keys`",
            (true, true) => {
                "the API key is not known, compare its hash with `api_keys`; if it is meant as a \
                 token, it is not a whole one: that has three parts between dots"
            }
            (false, false) => "no API keys are configured; show a token as `Authorization: Bearer`",
            (false, true) => {
                "this is not a whole token, which has three parts between dots, and no API keys are \
                 configured"
            }
        };
        unauthorized("invalid_api_key", text, INVALID)
    }

    /// The caller of a connection token that came in a message. Without authentication there is
    /// nothing that it could say.
    pub(super) fn caller_of_token(&mut self, token: &str) -> Result<Caller, TokenError> {
        let Some(auth) = self.settings.auth.clone() else { return Ok(Caller::Open) };
        let verified = match &auth.verifier {
            Some(verifier) => verifier.connect(token, self.wall_s()),
            None => Err(TokenError::Algorithm),
        };
        verified
            .map(|identity| Caller::Client(identity.into()))
            .inspect_err(|error| self.count_refused(*error))
    }

    /// What a subscription token says that came in a message, for a user, and for a channel where
    /// one is named. Without authentication there is nothing that it could say.
    pub(super) fn grant_of_token(
        &mut self,
        token: &str,
        user: &str,
        channel: Option<&str>,
    ) -> Result<Option<SubscriptionGrant>, TokenError> {
        let Some(auth) = self.settings.auth.clone() else { return Ok(None) };
        let verified = match &auth.verifier {
            Some(verifier) => verifier.subscribe(token, self.wall_s(), user, channel),
            None => Err(TokenError::Algorithm),
        };
        verified.map(Some).inspect_err(|error| self.count_refused(*error))
    }

    fn count_refused(&mut self, error: TokenError) {
        let counters = &mut self.stats.counters;
        match error {
            TokenError::Expired => counters.auth_expired += 1,
            TokenError::KeysPending => counters.auth_pending += 1,
            _ => counters.auth_invalid += 1,
        }
    }

    fn bad_token(&mut self, error: TokenError) -> Response {
        self.count_refused(error);
        if error.is_temporary() {
            let mut response = Response::error(503, error.code(), &error.to_string());
            response.headers.retain(|(name, _)| *name != "retry-after");
            return response.with("retry-after", KEYS_RETRY_S);
        }
        unauthorized(error.code(), &error.to_string(), INVALID)
    }

    /// The wall clock in seconds.
    pub(super) fn wall_s(&self) -> i64 {
        self.now.wall_us.div_euclid(1_000_000)
    }

    /// Remembers who opened an endpoint.
    pub(super) fn set_caller(&mut self, endpoint: EndpointId, caller: Caller) {
        if matches!(caller, Caller::Client(_) | Caller::Service(_)) {
            self.callers.insert(endpoint, caller);
        }
    }

    /// Who opened an endpoint.
    pub(super) fn caller_of(&self, endpoint: EndpointId) -> Caller {
        match self.callers.get(&endpoint) {
            Some(caller) => caller.clone(),
            None if self.settings.auth.is_some() => Caller::Anonymous,
            None => Caller::Open,
        }
    }

    /// Heap held for the callers of live endpoints, for the ledger.
    pub(super) fn callers_bytes(&self) -> usize {
        let own = |caller: &Caller| match caller {
            Caller::Client(identity) => identity.memory_bytes(),
            // The configuration's, whoever else has it.
            Caller::Open | Caller::Anonymous | Caller::Service(_) => 0,
        };
        self.callers.allocation_size() + self.callers.values().map(own).sum::<usize>()
    }

    /// When an endpoint's token expires, on the monotonic clock. Counted anew from the wall clock
    /// at each look, so that a clock that is set right counts from the next look on.
    pub(super) fn expiry_ms(&self, endpoint: EndpointId) -> Option<u64> {
        self.callers.get(&endpoint)?.expires_at_s().map(|at_s| self.monotonic_ms(at_s))
    }

    /// A time in Unix seconds on the monotonic clock, now if it has passed.
    fn monotonic_ms(&self, at_s: i64) -> u64 {
        let left_us = at_s.saturating_mul(1_000_000).saturating_sub(self.now.wall_us);
        self.now.ms.saturating_add(left_us.max(0).unsigned_abs().div_ceil(1_000))
    }

    /// The first expiry of a connection, its streams and its subscriptions.
    fn first_expiry_ms(&mut self, conn: ConnId) -> Option<u64> {
        let of_subs = self.first_sub_expiry_s(conn).map(|at_s| self.monotonic_ms(at_s));
        if self.callers.is_empty() {
            return of_subs;
        }
        let endpoints = self.endpoints(conn).into_iter();
        endpoints.filter_map(|endpoint| self.expiry_ms(endpoint)).chain(of_subs).min()
    }

    fn endpoints(&mut self, conn: ConnId) -> Vec<EndpointId> {
        let mut endpoints = vec![EndpointId::connection(conn.slot)];
        if let Some(connection) = self.connections.get(conn)
            && let Session::Http2(http2) = &connection.session
        {
            endpoints.extend(http2.sse_indices().map(EndpointId::stream));
        }
        endpoints
    }

    /// Sets a connection's timer, not later than what it has expires or is due.
    pub(super) fn schedule_look(&mut self, conn: ConnId, at_ms: u64) {
        let sooner = [self.first_expiry_ms(conn), self.first_client_ms(conn)];
        let at_ms = sooner.into_iter().flatten().min().map_or(at_ms, |due| due.min(at_ms));
        self.wheel.schedule(conn.slot, at_ms);
    }

    /// Ends what has expired of a connection; `true` if that was the connection itself.
    pub(super) fn expire(&mut self, conn: ConnId) -> bool {
        self.expire_endpoints(conn) || self.expire_subs(conn)
    }

    fn expire_endpoints(&mut self, conn: ConnId) -> bool {
        if self.callers.is_empty() {
            return false;
        }
        for endpoint in self.endpoints(conn) {
            if self.expiry_ms(endpoint).is_none_or(|at| at > self.now.ms) {
                continue;
            }
            match endpoint.split() {
                Err(_) => {
                    self.end_endpoint(endpoint, CloseReason::Expired);
                    return true;
                }
                Ok(_) if self.is_client(endpoint) => {
                    self.end_endpoint(endpoint, CloseReason::Expired);
                }
                Ok(index) => {
                    let words = notices::last_words(self.retry_ms(), NoticeReason::Expired);
                    self.end_http2_stream_with(index, words);
                    self.stats.closed(CloseReason::Expired);
                }
            }
        }
        false
    }
}

/// Why not, for people.
pub(super) fn denial(denied: Denied, namespace: &str, action: Action) -> String {
    let what = action.name();
    match denied {
        Denied::Closed => format!("namespace `{namespace}` does not permit {what}"),
        Denied::Unauthenticated => format!(
            "{what} needs a token or an API key here; send `Authorization: Bearer` with one"
        ),
        Denied::NotGranted => {
            format!("this token does not permit {what} in this channel of `{namespace}`")
        }
        Denied::NotInAllow => {
            let right = action.right_name();
            format!("this API key does not permit {what}: its `allow` lacks \"{right}\"")
        }
        Denied::NotInChannels => {
            format!("none of this API key's `channels` fits this channel of `{namespace}`")
        }
    }
}

enum Shown {
    /// `X-API-Key`, or the scheme `apikey`.
    Key(String),
    /// A key or a token.
    Bearer(String),
}

/// What the header fields show. An error never repeats it.
fn credentials(head: &Head<'_>) -> Result<Option<Shown>, &'static str> {
    let mut count = 0;
    head.headers.each(&mut |name, _| {
        count += u32::from(matches!(name, "authorization" | "x-api-key"));
    });
    if count == 0 {
        return Ok(None);
    }
    if count > 1 {
        return Err("there are two keys or tokens; send one");
    }
    if let Some(key) = head.text("x-api-key") {
        return Ok(Some(Shown::Key(key.trim().to_owned())));
    }
    let field = head.text("authorization").ok_or("the field is not plain text")?;
    let (scheme, value) =
        field.trim().split_once(' ').ok_or("write `Bearer`, a space, the token")?;
    let value = value.trim().to_owned();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Shown::Bearer(value)));
    }
    if scheme.eq_ignore_ascii_case("apikey") {
        return Ok(Some(Shown::Key(value)));
    }
    Err("this scheme is not taken; use `Authorization: Bearer`")
}

/// The parameter `token`. The routes skip it.
fn token_in_url(head: &Head<'_>) -> Result<Option<Secret>, Response> {
    if !head.query.contains("token") {
        return Ok(None);
    }
    let mut token = None;
    for (key, value) in proto::http1::query_pairs(head.query).flatten() {
        if key == "token" && token.replace(Secret::new(value)).is_some() {
            return Err(bad_token_parameter("it is there twice"));
        }
    }
    Ok(token)
}

/// Why not, and what else.
const IN_URL: &str = "tokens in URLs end up in logs, so they are not taken; use `Authorization: \
                      Bearer` or a body, or set `auth.token_in_url`";

fn bad_token_parameter(text: &str) -> Response {
    Response::error(400, "bad_parameter", &format!("`token`: {text}"))
}

//= rfc6750#3
// Without credentials no error is named, so that a client knows that it only has to show some.
fn unauthorized(code: &str, text: &str, error: &'static str) -> Response {
    let challenge = if error.is_empty() { BARE } else { error };
    Response::error(401, code, text).with("www-authenticate", challenge)
}

const BARE: &str = "Bearer realm=\"shardcast\"";
const INVALID: &str = "Bearer realm=\"shardcast\", error=\"invalid_token\"";

/// How long a key set may be fetched at most before another try makes sense, seconds.
const KEYS_RETRY_S: &str = "5";
