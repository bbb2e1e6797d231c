//! Publish requests: what they carry, how they are written, and what their answer must say.

use super::oracle::{Kind, Oracle, Serial, Verdict};
use super::wire::{Scene, escape};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::position::Position;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Ndjson,
    Array,
    Object,
    /// The event's data as it is.
    Raw,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub serials: Vec<Serial>,
    pub durable: bool,
    pub shape: Shape,
}

impl Request {
    /// Draws a request of new events and, now and then, repeats.
    pub fn draw(scene: &mut Scene<'_>) -> Self {
        let Scene { chance, oracle, options, channels, .. } = scene;
        let shape =
            chance.pick(&[Shape::Ndjson, Shape::Ndjson, Shape::Array, Shape::Object, Shape::Raw]);
        let count = match shape {
            Shape::Object | Shape::Raw => 1,
            Shape::Array => chance.size(30),
            Shape::Ndjson => chance.size(600),
        };
        let one_channel = chance.per_mille(500).then(|| chance.index(channels.len()));
        let mut serials = Vec::new();
        for _ in 0..count {
            let known = oracle.count();
            if known > 0 && shape != Shape::Raw && chance.per_mille(80) {
                let back = chance.size(300).min(u64::from(known)) as u32;
                if oracle.sent(known - back).id.is_some() {
                    serials.push(known - back);
                    continue;
                }
            }
            let at = one_channel.unwrap_or_else(|| chance.index(channels.len()));
            let kind = match (shape, chance.range(0, 10)) {
                (Shape::Raw, 0..5) => Kind::Text,
                (Shape::Raw, _) | (_, 0) => Kind::Binary,
                _ => Kind::Json,
            };
            let id = shape != Shape::Raw && chance.per_mille(700);
            let pad = chance.size(options.event_bytes) as usize;
            serials.push(oracle.create(&channels[at], kind, id, |serial| data(kind, serial, pad)));
        }
        Self { serials, durable: chance.per_mille(400), shape }
    }

    /// Method target, content type and body. Every event in it is on its way from here on.
    pub fn write(&self, oracle: &mut Oracle) -> (String, &'static str, Vec<u8>) {
        for serial in &self.serials {
            oracle.attempt(*serial);
        }
        let ack = if self.durable { "?ack=durable" } else { "" };
        let items = self.serials.iter().map(|serial| item(oracle, *serial));
        let all = format!("/v1/events{ack}");
        match self.shape {
            Shape::Ndjson => {
                let mut body = items.collect::<Vec<_>>().join("\n");
                if self.serials.len().is_multiple_of(2) {
                    body.push('\n');
                }
                (all, "application/x-ndjson", body.into_bytes())
            }
            Shape::Array => {
                let body = format!("[{}]", items.collect::<Vec<_>>().join(", "));
                (all, "application/json", body.into_bytes())
            }
            Shape::Object => (all, "application/json", items.collect::<String>().into_bytes()),
            Shape::Raw => {
                let sent = oracle.sent(self.serials[0]);
                let target = format!("/v1/channels/{}/events{ack}", escape(&sent.channel));
                let kind = match sent.kind {
                    Kind::Text => "text/plain; charset=utf-8",
                    _ => "application/octet-stream",
                };
                (target, kind, sent.data.clone())
            }
        }
    }

    /// Judges the answer.
    pub fn judge(&self, oracle: &mut Oracle, status: u16, body: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        let bad = |why: String| Err(format!("publish answered {status}: {why}: {text}"));
        let answer: Value = match serde_json::from_slice(body) {
            Ok(answer) => answer,
            Err(_) => return bad("not JSON".to_owned()),
        };
        if answer.get("error").is_some() {
            // The whole request was refused before an item was looked at, or its body broke off.
            if matches!(status, 503 | 408) {
                return Ok(());
            }
            return bad("unexpected".to_owned());
        }
        match self.judge_items(oracle, status, &answer) {
            Ok(()) => Ok(()),
            Err(why) => bad(why),
        }
    }

    fn judge_items(&self, oracle: &mut Oracle, status: u16, answer: &Value) -> Verdict {
        let number = |name: &str| answer[name].as_u64().ok_or(format!("no `{name}`"));
        let (accepted, rejected) = (number("accepted")?, number("rejected")?);
        let duplicates = number("duplicates")?;
        let count = self.serials.len() as u64;
        let stopped_at = answer["stopped_at"].as_u64();
        if accepted + rejected > count || stopped_at.is_none() && accepted + rejected != count {
            return Err(format!("{accepted} + {rejected} of {count}"));
        }
        if (status == 202) != (accepted > 0 || rejected == 0) {
            return Err(format!("{accepted} accepted"));
        }
        let none = Vec::new();
        let positions = answer["positions"].as_array().unwrap_or(&none);
        if positions.len() as u64 != accepted {
            return Err(format!("{} positions for {accepted}", positions.len()));
        }
        let mut taken = BTreeSet::new();
        let mut last: BTreeMap<String, Position> = BTreeMap::new();
        let mut repeated = 0;
        for place in positions {
            let index = place["index"].as_u64().ok_or("no index")?;
            let serial = *self.serials.get(index as usize).ok_or("index beyond the body")?;
            let position: Position = place["position"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .ok_or("no position")?;
            let duplicate = place["duplicate"].as_bool().ok_or("no duplicate")?;
            let channel = place["channel"].as_str().unwrap_or_default();
            if channel != oracle.sent(serial).channel || !taken.insert(index) {
                return Err(format!("item {index} in {channel}, or twice"));
            }
            repeated += u64::from(duplicate);
            if !duplicate {
                let before = last.insert(channel.to_owned(), position);
                if before.is_some_and(|before| before.offset >= position.offset) {
                    return Err(format!("item {index} is out of order"));
                }
            }
            oracle.accepted(serial, position, duplicate, self.durable)?;
        }
        if repeated != duplicates {
            return Err(format!("{repeated} duplicates, not {duplicates}"));
        }
        self.judge_rest(oracle, answer, stopped_at, &taken)
    }

    /// What was not taken: listed with a legal reason, or behind the stop.
    fn judge_rest(
        &self,
        oracle: &mut Oracle,
        answer: &Value,
        stopped_at: Option<u64>,
        taken: &BTreeSet<u64>,
    ) -> Verdict {
        let none = Vec::new();
        let rejections = answer["rejections"].as_array().unwrap_or(&none);
        let (mut listed, mut unsure) = (BTreeSet::new(), BTreeSet::new());
        for rejection in rejections {
            let index = rejection["index"].as_u64().ok_or("no index")?;
            let serial = *self.serials.get(index as usize).ok_or("index beyond the body")?;
            let code = rejection["code"].as_str().unwrap_or_default();
            let stored = super::options::Options::is_stored(&oracle.sent(serial).channel);
            let legal = match code {
                "overloaded" => true,
                "unavailable" => stored,
                "not_durable" => stored && self.durable,
                // The network stalled longer than a body may.
                "invalid_json" => stopped_at == Some(index),
                "forbidden" => self.durable && !stored,
                _ => false,
            };
            if code == "not_durable" {
                // It has a place and may be seen, or may be lost.
                unsure.insert(index);
            }
            if !legal || !listed.insert(index) || taken.contains(&index) {
                return Err(format!("item {index} was refused as {code}"));
            }
        }
        let rejected = answer["rejected"].as_u64().unwrap_or(0);
        for index in 0..self.serials.len() as u64 {
            if taken.contains(&index) || unsure.contains(&index) {
                continue;
            }
            let behind = stopped_at.is_some_and(|stop| index >= stop);
            // Only the first hundred rejections are listed.
            if !behind && !listed.contains(&index) && rejected <= 100 {
                return Err(format!("item {index} is in no list"));
            }
            oracle.refuse(self.serials[index as usize]);
        }
        Ok(())
    }
}

/// The data of an event: `#` and its number, and something to make it longer.
pub fn data(kind: Kind, serial: Serial, pad: usize) -> Vec<u8> {
    match kind {
        Kind::Json => format!("{{\"n\":\"#{serial}\",\"p\":\"{}\"}}", "x".repeat(pad)).into_bytes(),
        Kind::Text => format!("#{serial} {}\nä", "y".repeat(pad)).into_bytes(),
        Kind::Binary => {
            let mut data = format!("#{serial} ").into_bytes();
            data.extend((0..pad).map(|at| (at % 251) as u8));
            data.push(0xff);
            data
        }
    }
}

fn item(oracle: &Oracle, serial: Serial) -> String {
    let sent = oracle.sent(serial);
    let id = sent.id.as_ref().map_or(String::new(), |id| format!("\"id\":\"{id}\","));
    let data = match sent.kind {
        Kind::Binary => format!("\"data_base64\":\"{}\"", STANDARD.encode(&sent.data)),
        _ => format!("\"data\":{}", String::from_utf8_lossy(&sent.data)),
    };
    format!("{{{id}\"channel\":\"{}\",{data}}}", sent.channel)
}
