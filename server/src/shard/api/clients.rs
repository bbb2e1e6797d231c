//! `subscribe` and `refresh`: what is done to live clients beside ending them (`survey`).

use super::request::{self, Refresh, Subscribe};
use super::survey::{Survey, who};
use super::{CallSlot, Fault, Method};
use crate::config::namespace::Access;
use crate::shard::Shard;
use crate::shard::client::Order;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::centrifuge::{DisconnectCode, ErrorCode};
use proto::channel::ChannelName;
use serde_json::value::RawValue;

impl Shard {
    pub(super) fn call_subscribe(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: Subscribe<'_> = request::parse(Method::Subscribe, body)?;
        let channel = ChannelName::new(&request.channel).map_err(|e| Fault::bad(e.to_string()))?;
        if self.settings.namespace(channel.as_str()).subscribe == Access::Nobody {
            let name = self.settings.namespace_name(channel.as_str());
            let message = format!("namespace `{name}` lets nobody subscribe");
            return Err(Fault::new(ErrorCode::PermissionDenied, message));
        }
        let order = Order {
            channel,
            info: raw_or_base64("info", request.info, request.b64info.as_deref())?,
            data: raw_or_base64("data", request.data, request.b64data.as_deref())?,
            expires_at_s: self.in_the_future(request.expire_at)?,
            since: request.recover_since.map(|since| (since.epoch, since.offset)),
            overrides: request.overrides.unwrap_or_default(),
        };
        let who = who(request.user, request.client, request.session, None)?;
        self.survey(slot, Survey::Subscribe(who, order));
        Ok(())
    }

    pub(super) fn call_refresh(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: Refresh = request::parse(Method::Refresh, body)?;
        if self.settings.auth.is_none() {
            let message = "without authentication connections do not expire; see `auth`";
            return Err(Fault::new(ErrorCode::NotAvailable, message));
        }
        let expires_at_s = self.in_the_future(request.expire_at)?;
        let who = who(request.user, request.client, request.session, None)?;
        let survey = if request.expired == Some(true) {
            let code = DisconnectCode::Expired;
            Survey::Disconnect(who, code.code(), code.text().to_owned())
        } else {
            Survey::Refresh(who, expires_at_s)
        };
        self.survey(slot, survey);
        Ok(())
    }

    /// A time in Unix seconds; 0 is none.
    fn in_the_future(&self, at_s: Option<i64>) -> Result<Option<i64>, Fault> {
        let at_s = at_s.filter(|at_s| *at_s != 0);
        if at_s.is_some_and(|at_s| at_s <= self.wall_s()) {
            return Err(Fault::bad("`expire_at` has passed: it is a time in Unix seconds"));
        }
        Ok(at_s)
    }
}

fn raw_or_base64(
    name: &str,
    raw: Option<&RawValue>,
    base64: Option<&str>,
) -> Result<Option<Bytes>, Fault> {
    match (raw, base64.filter(|text| !text.is_empty())) {
        (Some(_), Some(_)) => Err(Fault::bad(format!("send `{name}` or `b64{name}`, not both"))),
        (None, None) => Ok(None),
        (Some(raw), None) => Ok(Some(Bytes::copy_from_slice(raw.get().as_bytes()))),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => Err(Fault::bad(format!("`b64{name}` is not base64"))),
        },
    }
}
