//! One channel of one subscription: what it asked for, where it stands, and what may come next.

use super::oracle::{Kind, Oracle, Serial, Verdict};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::envelope::GapReason;
use proto::position::{Epoch, Position};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Clone)]
pub struct Track {
    pub channel: String,
    /// What it came with; `None`: from now on.
    pub since: Option<Position>,
    /// What it came with is not a position.
    pub garbled: bool,
    /// The start of the stream was said.
    pub started: bool,
    /// After this comes the next offset.
    pub at: Option<Position>,
    /// The same while its epoch was not said yet: only a notice of what was dropped came.
    after: Option<u64>,
}

/// A message inside a stream that is not an event.
#[derive(Debug)]
pub struct Control {
    pub name: String,
    pub channel: String,
    pub reason: String,
    run: Option<(u64, u64)>,
    pub position: Option<Position>,
}

impl Control {
    /// It speaks of the whole connection, which is about to end.
    pub fn is_farewell(&self) -> bool {
        let known = matches!(self.reason.as_str(), "shutdown" | "overload");
        self.channel.is_empty() && self.name == "notice" && known
    }
}

/// An envelope's members, each as it was written.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// What a JSON message of a stream is.
pub enum Message {
    Control(Control),
    Event { channel: String, position: Position, serial: Serial },
}

impl Track {
    /// A subscription that is being asked for.
    pub fn new(channel: &str, since: Option<Position>, garbled: bool) -> Self {
        Self { channel: channel.to_owned(), since, garbled, started: false, at: None, after: None }
    }

    /// An event came. `silent_start`: this kind of stream says nothing when it starts live.
    pub fn event(
        &mut self,
        oracle: &mut Oracle,
        position: Position,
        serial: Serial,
        silent_start: bool,
    ) -> Verdict {
        let Self { channel, .. } = self;
        let may_be_silent = silent_start && self.since.is_none() && !self.garbled;
        if !self.started && !may_be_silent {
            return Err(format!("{channel}: {position} before the start was said"));
        }
        self.started = true;
        if let Some(at) = self.at {
            let same = at.epoch.incarnation() == position.epoch.incarnation();
            if !same || position.offset != at.offset + 1 {
                return Err(format!("{channel}: {position} after {at}"));
            }
        }
        if self.after.take().is_some_and(|after| position.offset != after + 1) {
            return Err(format!("{channel}: {position} is not after what was dropped"));
        }
        self.at = Some(position);
        oracle.delivered += 1;
        oracle.bind(channel, position, serial)
    }

    /// A first cursor agrees with what was dropped before it.
    pub fn may_stand_at(&mut self, position: Position) -> bool {
        self.after.take().is_none_or(|after| after == position.offset)
    }

    /// The server said something.
    pub fn control(&mut self, oracle: &mut Oracle, control: &Control, may_drop: bool) -> Verdict {
        let channel = &self.channel;
        let bad = |why: &str| Err(format!("{channel}: {control:?}: {why}"));
        match control.name.as_str() {
            "notice" => {
                let Some((from, to)) = control.run else { return bad("without a run") };
                if !may_drop || control.reason != "dropped" {
                    return bad("the policy does not drop");
                }
                let before = self.at.map(|at| at.offset).or(self.after);
                if before.is_some_and(|before| from != before + 1) || to < from {
                    return bad("not the next offsets");
                }
                match &mut self.at {
                    Some(at) => at.offset = to,
                    // A stream of several channels that starts live says so by its first cursor.
                    None if self.since.is_none() && !self.garbled => self.after = Some(to),
                    None => return bad("before the start"),
                }
                Ok(())
            }
            _ if self.started => bad("it has started already"),
            "subscribed" if self.since.is_none() && !self.garbled => self.start(control),
            "recovered" => {
                let (Some(since), Some(position)) = (self.since, control.position) else {
                    return bad("nothing was asked, or no position");
                };
                if since.offset != position.offset
                    || since.epoch.incarnation() != position.epoch.incarnation()
                {
                    return bad("another position than the one asked for");
                }
                self.start(control)
            }
            "gap" => {
                let Some(position) = control.position else { return bad("no position") };
                let reason = GapReason::ALL.into_iter().find(|r| r.as_str() == control.reason);
                let Some(reason) = reason else { return bad("unknown reason") };
                let since = self.since.filter(|_| !self.garbled);
                oracle.check_gap(channel, since, reason, position)?;
                self.start(control)
            }
            _ => bad("unexpected"),
        }
    }

    fn start(&mut self, control: &Control) -> Verdict {
        self.started = true;
        self.at = control.position;
        if self.at.is_none() {
            return Err(format!("{control:?} without a position"));
        }
        Ok(())
    }
}

/// Reads a JSON message: a control message or an event in its envelope.
pub fn parse(oracle: &Oracle, text: &str) -> Result<Message, String> {
    let members: Members<'_> =
        serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
    let string = |name: &str| -> String {
        let raw = members.get(name).map(|raw| raw.get());
        raw.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    };
    let number = |name: &str| -> Option<u64> { members.get(name)?.get().parse().ok() };
    let channel = string("channel");
    if members.contains_key("shardcast") {
        let run = number("from").zip(number("to"));
        let position = string("position").parse().ok();
        let (name, reason) = (string("shardcast"), string("reason"));
        return Ok(Message::Control(Control { name, channel, reason, run, position }));
    }
    let epoch = u64::from_str_radix(&string("epoch"), 16).map_err(|e| format!("{e}: {text}"))?;
    let offset = number("offset").ok_or_else(|| format!("no offset: {text}"))?;
    let position = Position { epoch: Epoch(epoch), offset };
    let base64 = string("data_base64");
    let data = match members.get("data") {
        Some(raw) if raw.get().starts_with('"') => string("data").into_bytes(),
        Some(raw) => raw.get().as_bytes().to_vec(),
        None => STANDARD.decode(base64).map_err(|error| format!("{error}: {text}"))?,
    };
    let serial = oracle.recognise(&channel, &data)?;
    let id = string("id");
    if oracle.sent(serial).id.as_ref().is_some_and(|sent| *sent != id) {
        return Err(format!("#{serial} has another id: {text}"));
    }
    Ok(Message::Event { channel, position, serial })
}

/// The serial of an event whose data stands in an event stream as it is.
pub fn from_stream(oracle: &Oracle, channel: &str, text: &str) -> Result<Serial, String> {
    if let Ok(data) = STANDARD.decode(text)
        && let Ok(serial) = oracle.recognise(channel, &data)
        && oracle.sent(serial).kind == Kind::Binary
    {
        return Ok(serial);
    }
    oracle.recognise(channel, text.as_bytes())
}
