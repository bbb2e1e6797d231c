//! `publish` and `broadcast`: they become envelopes and go the way of every publish, where they are
//! checked; what each channel made of it is read from the answer.

use super::request::{self, Publish};
use super::{CallSlot, Fault, Method};
use crate::shard::Shard;
use proto::answer::{POSITIONS_MAX, PublishAnswer};
use proto::centrifuge::ErrorCode;
use proto::decode::{RejectCode, Rejection};
use proto::envelope::write_json_string;
use proto::position::Position;

/// Channels of one broadcast: as many as an answer names one by one.
const CHANNELS_MAX: usize = POSITIONS_MAX;

impl Shard {
    pub(super) fn call_publish(
        &mut self,
        slot: CallSlot,
        method: Method,
        body: &[u8],
    ) -> Result<(), Fault> {
        let request: Publish<'_> = request::parse(method, body)?;
        let bytes_max = self.settings.limits.body_bytes_max as usize;
        let (events, channels) = envelopes(method, &request, bytes_max)?;
        if !self.publishes.has_room(events.len(), self.settings.body_pool_bytes) {
            return Err(Fault::busy());
        }
        if let Some(command) = self.calls.command(slot) {
            command.channels = channels;
        }
        let caller = self.calls.caller(slot);
        self.publish_of_call(slot, caller, events);
        Ok(())
    }

    /// What became of a call's publish.
    pub(in crate::shard) fn answered_call_publish(
        &mut self,
        slot: CallSlot,
        answer: &PublishAnswer,
    ) {
        let Some(command) = self.calls.command(slot) else { return };
        let (method, channels) = (command.method, u64::from(command.channels));
        let mut out = Vec::new();
        if method == Method::Publish {
            let reply = outcome(answer, 0).map(|position| {
                write_position(&mut out, position);
                out
            });
            return self.reply_call(slot, reply);
        }
        out.extend_from_slice(b"{\"responses\":[");
        for index in 0..channels {
            out.extend_from_slice(if index == 0 { b"{\"" } else { b",{\"" });
            match outcome(answer, index) {
                Ok(position) => {
                    out.extend_from_slice(b"result\":");
                    write_position(&mut out, position);
                }
                Err(fault) => {
                    out.extend_from_slice(b"error\":");
                    fault.write(&mut out);
                }
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        self.reply_call(slot, Ok(out));
    }
}

/// The events of a request as a JSON array of envelopes, and how many.
fn envelopes(
    method: Method,
    request: &Publish<'_>,
    bytes_max: usize,
) -> Result<(Vec<u8>, u32), Fault> {
    let channels: Vec<&str> = match (method, &request.channel, &request.channels) {
        (Method::Publish, Some(channel), None) => vec![channel],
        (Method::Publish, ..) => return Err(Fault::bad("name one `channel`")),
        (_, None, Some(channels)) => channels.iter().map(String::as_str).collect(),
        (..) => return Err(Fault::bad("name the `channels`, as in {\"channels\":[\"a\",\"b\"]}")),
    };
    if channels.len() > CHANNELS_MAX {
        let message = format!("`channels` has more than {CHANNELS_MAX}; broadcast several times");
        return Err(Fault::new(ErrorCode::LimitExceeded, message));
    }
    if request.skip_history == Some(true) {
        let message = "`skip_history`: every event of a channel is in its history; leave it out";
        return Err(Fault::new(ErrorCode::NotAvailable, message));
    }
    let rest = common_members(request)?;
    let mut out = Vec::with_capacity(rest.len() + 64);
    out.push(b'[');
    for (at, channel) in channels.iter().enumerate() {
        if out.len() + rest.len() + channel.len() > bytes_max {
            let message = format!(
                "data times channels is more than {bytes_max} bytes; broadcast to fewer channels \
                 at a time"
            );
            return Err(Fault::new(ErrorCode::LimitExceeded, message));
        }
        out.extend_from_slice(if at == 0 { b"{\"channel\":" } else { b",{\"channel\":" });
        write_json_string(&mut out, channel);
        out.extend_from_slice(&rest);
    }
    out.push(b']');
    Ok((out, channels.len() as u32))
}

/// What the envelopes have in common, behind their channels, to the end.
fn common_members(request: &Publish<'_>) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let b64data = request.b64data.as_deref().filter(|data| !data.is_empty());
    match (request.data, b64data) {
        (Some(data), None) => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.get().as_bytes());
        }
        (None, Some(data)) => {
            out.extend_from_slice(b",\"data_base64\":");
            write_json_string(&mut out, data);
        }
        (Some(_), Some(_)) => return Err(Fault::bad("send `data` or `b64data`, not both")),
        (None, None) => return Err(Fault::bad("`data` is missing; any JSON value will do")),
    }
    if let Some(key) = &request.idempotency_key {
        out.extend_from_slice(b",\"id\":");
        write_json_string(&mut out, key);
    }
    for (at, (name, value)) in request.tags.iter().flatten().enumerate() {
        out.extend_from_slice(if at == 0 { b",\"attributes\":{" } else { b"," });
        write_json_string(&mut out, name);
        out.push(b':');
        write_json_string(&mut out, value);
    }
    if request.tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
        out.push(b'}');
    }
    out.push(b'}');
    Ok(out)
}

/// What became of one item.
fn outcome(answer: &PublishAnswer, index: u64) -> Result<Position, Fault> {
    if let Some(position) = answer.position(index) {
        return Ok(position);
    }
    if let Some(rejection) = answer.rejection(index) {
        return Err(refusal(rejection));
    }
    if answer.stopped_at().is_some_and(|at| index >= at) {
        return Err(Fault::busy());
    }
    let message = "refused; of many refused channels only the first ones are told why";
    Err(Fault::bad(message))
}

fn refusal(rejection: &Rejection) -> Fault {
    let code = match rejection.code {
        RejectCode::Forbidden => ErrorCode::PermissionDenied,
        RejectCode::Overloaded | RejectCode::RateLimited => ErrorCode::TooManyRequests,
        RejectCode::Unavailable | RejectCode::NotDurable => ErrorCode::Internal,
        RejectCode::TooLarge => ErrorCode::LimitExceeded,
        _ => ErrorCode::BadRequest,
    };
    Fault::new(code, rejection.detail.as_str())
}

fn write_position(out: &mut Vec<u8>, position: Position) {
    let Position { epoch, offset } = position;
    out.extend_from_slice(format!("{{\"offset\":{offset},\"epoch\":\"{epoch}\"}}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelopes_of(method: Method, text: &str) -> Result<String, u16> {
        let request = request::parse(method, text.as_bytes()).expect("readable");
        match envelopes(method, &request, 200) {
            Ok((events, _)) => Ok(String::from_utf8(events).unwrap()),
            Err(fault) => Err(fault.code.code()),
        }
    }

    #[test]
    fn a_request_becomes_one_envelope_for_each_channel() {
        let check = |method, text: &str, expected: Result<&str, u16>| {
            assert_eq!(envelopes_of(method, text), expected.map(str::to_owned), "{text}");
        };
        check(
            Method::Publish,
            r#"{"channel":"a","data":{"b": [1]},"tags":{"t":"\"","u":"2"},"idempotency_key":"k"}"#,
            Ok(r#"[{"channel":"a","data":{"b": [1]},"id":"k","attributes":{"t":"\"","u":"2"}}]"#),
        );
        check(
            Method::Broadcast,
            r#"{"channels":["a","b"],"b64data":"AAE=","tags":{}}"#,
            Ok(r#"[{"channel":"a","data_base64":"AAE="},{"channel":"b","data_base64":"AAE="}]"#),
        );
        check(Method::Broadcast, r#"{"channels":[],"data":1}"#, Ok("[]"));
        check(Method::Publish, r#"{"channel":"a","data":1,"b64data":"AA=="}"#, Err(107));
        check(
            Method::Publish,
            r#"{"channel":"a","data":null,"b64data":""}"#,
            Ok(r#"[{"channel":"a","data":null}]"#),
        );
        check(Method::Publish, r#"{"channel":"a"}"#, Err(107));
        check(Method::Publish, r#"{"data":1}"#, Err(107));
        check(Method::Publish, r#"{"channels":["a"],"data":1}"#, Err(107));
        check(Method::Broadcast, r#"{"channel":"a","data":1}"#, Err(107));
        check(Method::Publish, r#"{"channel":"a","data":1,"skip_history":true}"#, Err(108));
        let long = format!("{{\"channels\":[\"a\",\"b\"],\"data\":\"{}\"}}", "x".repeat(100));
        check(Method::Broadcast, &long, Err(106));
        let many = format!("{{\"channels\":[{}\"z\"],\"data\":1}}", "\"a\",".repeat(CHANNELS_MAX));
        check(Method::Broadcast, &many, Err(106));
    }
}
