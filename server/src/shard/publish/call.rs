//! Bodies that are no events: calls of the server API and commands of clients come in like
//! publishes, and what a call publishes goes the same way.

use super::body::Body;
use super::{Asker, Publish, PublishId, Publishes, too_large};
use crate::auth::Caller;
use crate::config::Limits;
use crate::shard::Shard;
use crate::shard::api::{CallSlot, Method};
use crate::shard::client::brings_token;
use crate::shard::format::Format;
use crate::shard::http::{Head, Response, Route};
use proto::centrifuge::Encoding;
use proto::decode::ContentKind;

impl Publishes {
    /// True if the pool of bodies has room for so many bytes more.
    pub fn has_room(&self, bytes: usize, pool_bytes: usize) -> bool {
        self.charged.saturating_add(bytes) <= pool_bytes
    }

    /// Charges bytes of a body that outlives its request here.
    pub fn hold(&mut self, bytes: usize) {
        self.charged += bytes;
    }

    /// Gives them back.
    pub fn let_go(&mut self, bytes: usize) {
        self.charged -= bytes;
    }
}

/// What a body is for that is no events.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// A call of the server API.
    Call(Method),
    /// The first commands of a client that speaks over a stream.
    Stream(Format),
    /// Such a stream, whose client is sent away: its URL had a token and must not.
    Refusal(Format),
    /// Further ones.
    Emulation(Encoding),
}

impl Purpose {
    /// How long it may be.
    pub(super) fn body_bytes_max(self, limits: &Limits) -> usize {
        let bytes = match self {
            Self::Call(_) => limits.body_bytes_max,
            Self::Stream(_) | Self::Refusal(_) | Self::Emulation(_) => limits.message_bytes_max,
        };
        bytes as usize
    }
}

impl Shard {
    /// Opens what a request with a body asks for. `Err` is a complete answer that needs no body.
    pub(in crate::shard) fn open(
        &mut self,
        asker: Asker,
        head: &Head<'_>,
        route: Route,
        caller: Option<Caller>,
    ) -> Result<PublishId, Response> {
        match route {
            Route::Publish { channel, ack, stream } => {
                self.open_publish(asker, head, caller, channel, ack, stream)
            }
            Route::Api(method) => {
                self.open_buffered(asker, head, caller, Purpose::Call(method), None)
            }
            Route::Stream { format, commands } => {
                let closed = self.settings.auth.as_ref().is_some_and(|auth| !auth.token_in_url);
                if closed && commands.as_deref().is_some_and(brings_token) {
                    let none = Some(String::new());
                    return self.open_buffered(asker, head, caller, Purpose::Refusal(format), none);
                }
                self.open_buffered(asker, head, caller, Purpose::Stream(format), commands)
            }
            Route::Emulation(encoding) => {
                self.open_buffered(asker, head, caller, Purpose::Emulation(encoding), None)
            }
            other => Err(self.simple(&other)),
        }
    }

    /// The same for a body that is no events; `body` if it is there already.
    fn open_buffered(
        &mut self,
        asker: Asker,
        head: &Head<'_>,
        caller: Option<Caller>,
        purpose: Purpose,
        body: Option<String>,
    ) -> Result<PublishId, Response> {
        // Clients that are still here may say their last.
        if self.drain.is_some() && !matches!(purpose, Purpose::Emulation(_)) {
            return Err(Response::error(503, "draining", "the server drains; ask elsewhere"));
        }
        let coding = head.text("content-encoding");
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let text = "Content-Encoding is not supported here; send the body as it is";
            return Err(Response::error(415, "unsupported_encoding", text));
        }
        let announced = head.text("content-length").and_then(|length| length.parse::<u64>().ok());
        let body_bytes_max = purpose.body_bytes_max(&self.settings.limits) as u32;
        // Over HTTP/2 the limit is found when the bytes are there, as with publishes.
        if matches!(asker, Asker::Http1(_))
            && announced.is_some_and(|length| length > u64::from(body_bytes_max))
        {
            return Err(too_large(body_bytes_max));
        }
        let body = Body::whole(ContentKind::Json, body.unwrap_or_default().into_bytes());
        let mut publish = Publish::new(asker, body, self.now.ms);
        publish.purpose = Some(purpose);
        publish.caller = caller.unwrap_or_default();
        Ok(self.publishes.insert(publish))
    }

    /// Publishes what a call asks for: a JSON array of envelopes.
    pub(in crate::shard) fn publish_of_call(
        &mut self,
        slot: CallSlot,
        caller: Caller,
        bytes: Vec<u8>,
    ) {
        let body = Body::whole(ContentKind::Json, bytes);
        let mut publish = Publish::new(Asker::Api(slot), body, self.now.ms);
        publish.caller = caller;
        let id = self.publishes.insert(publish);
        self.end_publish_input(id);
    }
}
