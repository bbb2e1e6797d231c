//! What the server promised to have stored, and whether it has.
//!
//! Bounded: the newest [`PER_CHANNEL_MAX`] acknowledgements of each channel are remembered, and
//! the figure on the page says how many were looked up.

use super::http::Http;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Acknowledgements that are remembered per channel. History answers hold 100,000.
const PER_CHANNEL_MAX: usize = 20_000;

/// An acknowledgement: under this id, at this offset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ack {
    id: String,
    offset: u64,
}

/// All of them, by channel.
#[derive(Debug, Default)]
pub struct Acked {
    channels: BTreeMap<String, VecDeque<Ack>>,
}

/// How the store compares with what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Acknowledgements that were looked up.
    pub acknowledged: u64,
    /// Of those, not in the store at the offset that was answered.
    pub missing: u64,
    /// Ids that are in the store more than once.
    pub stored_twice: u64,
}

/// An event of the store, as much of it as matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Stored {
    #[serde(default)]
    id: String,
    offset: u64,
}

#[derive(Deserialize)]
struct History {
    events: Vec<Stored>,
}

impl Acked {
    /// The server acknowledged an event as durable.
    pub fn add(&mut self, channel: &str, id: String, offset: u64) {
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.to_owned(), VecDeque::new());
        }
        let Some(acks) = self.channels.get_mut(channel) else { return };
        if acks.len() == PER_CHANNEL_MAX {
            acks.pop_front();
        }
        acks.push_back(Ack { id, offset });
    }

    /// The highest offset of each channel.
    pub fn tops(&self) -> BTreeMap<String, u64> {
        let top = |acks: &VecDeque<Ack>| acks.iter().map(|ack| ack.offset).max().unwrap_or(0);
        self.channels.iter().map(|(name, acks)| (name.clone(), top(acks))).collect()
    }

    /// What to look up: each channel with the acknowledgements to compare.
    fn questions(&self) -> Vec<(String, Vec<Ack>)> {
        let all = self.channels.iter();
        all.map(|(name, acks)| (name.clone(), acks.iter().cloned().collect())).collect()
    }
}

/// Reads the store and compares. `acked` is locked only to copy it: the feeds go on meanwhile.
pub fn compare(acked: &std::sync::Mutex<Acked>, http: &mut Http) -> Result<Comparison, String> {
    let questions = super::lock(acked).questions();
    let mut sum = Comparison::default();
    for (channel, acks) in questions {
        let offsets = || acks.iter().map(|ack| ack.offset);
        let (Some(first), Some(last)) = (offsets().min(), offsets().max()) else { continue };
        let range = format!("from={first}&to={last}&limit=100000");
        let answer = http.get(&format!("/v1/history?channel={channel}&{range}"))?;
        if answer.status != 200 {
            return Err(format!("history of {channel}: {} {}", answer.status, answer.body));
        }
        let history: History =
            serde_json::from_str(&answer.body).map_err(|e| format!("history of {channel}: {e}"))?;
        let own = compare_channel(&acks, &history.events);
        sum.acknowledged += own.acknowledged;
        sum.missing += own.missing;
        sum.stored_twice += own.stored_twice;
    }
    Ok(sum)
}

fn compare_channel(acks: &[Ack], stored: &[Stored]) -> Comparison {
    let mut times: HashMap<&str, u64> = HashMap::with_capacity(stored.len());
    let mut at: HashMap<u64, &str> = HashMap::with_capacity(stored.len());
    for event in stored {
        *times.entry(&event.id).or_default() += 1;
        at.insert(event.offset, &event.id);
    }
    let is_missing = |ack: &&Ack| at.get(&ack.offset) != Some(&ack.id.as_str());
    Comparison {
        acknowledged: acks.len() as u64,
        missing: acks.iter().filter(is_missing).count() as u64,
        stored_twice: times.values().filter(|times| **times > 1).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(acked: &[(&str, u64)], stored: &[(&str, u64)], missing: u64, stored_twice: u64) {
        let acks = acked.iter().map(|(id, offset)| Ack { id: (*id).to_owned(), offset: *offset });
        let stored = stored.iter().map(|(id, at)| Stored { id: (*id).to_owned(), offset: *at });
        let (acks, stored): (Vec<_>, Vec<_>) = (acks.collect(), stored.collect());
        let acknowledged = acks.len() as u64;
        let expected = Comparison { acknowledged, missing, stored_twice };
        assert_eq!(compare_channel(&acks, &stored), expected);
    }

    #[test]
    fn what_was_acknowledged_must_be_there_once_and_where_it_was_said_to_be() {
        check(&[("a", 1), ("b", 2)], &[("a", 1), ("b", 2)], 0, 0);
        check(&[], &[("a", 1)], 0, 0);
        // More may be stored than was acknowledged: the answer was lost with the server.
        check(&[("a", 1)], &[("a", 1), ("b", 2)], 0, 0);
        check(&[("a", 1), ("b", 2)], &[("a", 1)], 1, 0);
        check(&[("a", 1)], &[("b", 1)], 1, 0);
        check(&[("a", 1)], &[("a", 2)], 1, 0);
        check(&[("a", 1), ("b", 3)], &[("a", 1), ("a", 2), ("b", 3)], 0, 1);
    }

    #[test]
    fn the_newest_are_remembered_and_the_tops_are_known() {
        let mut acked = Acked::default();
        for offset in 1..=PER_CHANNEL_MAX as u64 + 5 {
            acked.add("a", offset.to_string(), offset);
        }
        acked.add("b", "x".to_owned(), 7);
        // A duplicate is answered with its old offset.
        acked.add("b", "w".to_owned(), 6);
        let tops = BTreeMap::from([("a".to_owned(), 20_005), ("b".to_owned(), 7)]);
        assert_eq!(acked.tops(), tops);
        assert_eq!(acked.questions()[0].1.len(), PER_CHANNEL_MAX);
        assert_eq!(acked.questions()[0].1[0].offset, 6);
    }
}
