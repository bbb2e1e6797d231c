//! Calls of the server API: their bodies come in like those of publishes, and what they publish
//! goes the same way.

use super::body::Body;
use super::{Asker, Publish, PublishId, Publishes, too_large};
use crate::auth::Caller;
use crate::shard::Shard;
use crate::shard::api::{CallSlot, Method};
use crate::shard::http::{Head, Response};
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

impl Shard {
    /// Opens a request to the server API. `Err` is a complete answer that needs no body.
    pub(in crate::shard) fn open_call(
        &mut self,
        asker: Asker,
        head: &Head<'_>,
        caller: Option<Caller>,
        method: Method,
    ) -> Result<PublishId, Response> {
        if self.drain.is_some() {
            return Err(Response::error(503, "draining", "the server drains; call elsewhere"));
        }
        let coding = head.text("content-encoding");
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let text = "Content-Encoding is not supported here; send the body as it is";
            return Err(Response::error(415, "unsupported_encoding", text));
        }
        let announced = head.text("content-length").and_then(|length| length.parse::<u64>().ok());
        let body_bytes_max = self.settings.limits.body_bytes_max;
        // Over HTTP/2 the limit is found when the bytes are there, as with publishes.
        if matches!(asker, Asker::Http1(_))
            && announced.is_some_and(|length| length > u64::from(body_bytes_max))
        {
            return Err(too_large(body_bytes_max));
        }
        let body = Body::whole(ContentKind::Json, Vec::new());
        let mut publish = Publish::new(asker, body, self.now.ms);
        publish.call = Some(method);
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
