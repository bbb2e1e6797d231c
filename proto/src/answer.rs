//! The answer to a publish: what was taken, where it stands, what was refused and why.
//!
//! ```json
//! {"accepted":2,"rejected":1,"duplicates":0,
//!  "positions":[{"index":0,"channel":"a","position":"0000000100000001:7","duplicate":false}],
//!  "rejections":[{"index":2,"code":"missing_data","detail":"`data` is missing"}],
//!  "rejected_by_code":{"missing_data":1}}
//! ```
//!
//! `accepted` + `rejected` is the number of items that were read; `duplicates` is how many of the
//! accepted ones the channel had already (they answer with the original's position). Accepted are
//! named one by one up to [`POSITIONS_MAX`]; beyond that `channels` stands in for `positions`:
//! `{"channel","count","duplicates","first","last"}`, where first and last are the positions of the
//! first and last event that was new. Past [`CHANNELS_MAX`] channels, `channels_omitted_events`
//! counts the rest. Past [`REJECTIONS_MAX`], `rejected_by_code` alone counts. After
//! [`PublishAnswer::stop`] there is `"stopped_at":n`: item n and all after it were not taken, and
//! are not counted beyond n.
//!
//! The status is decided at the end, see [`PublishAnswer::status`]. Memory is bounded whatever the
//! body was. Positions may arrive in any order: shards answer when they can.
//! Deliberately absent: headers and framing, which status text belongs to a code.

mod line;
mod text;

pub use line::{AnswerFormat, StreamEnd, Totals};

use crate::channel::ChannelName;
use crate::decode::{RejectCode, Rejection};
use crate::envelope::{write_json_string, write_number};
use crate::position::{Epoch, Position};
use std::collections::BTreeMap;
use text::{middle_of, write_array, write_position};

/// Accepted items that are named one by one.
pub const POSITIONS_MAX: usize = 1000;

/// Channels that are summed up one by one.
pub const CHANNELS_MAX: usize = 1000;

/// Rejections that are named one by one.
pub const REJECTIONS_MAX: usize = 100;

/// Up to so many channels are found by looking at each.
const CHANNELS_SEARCHED_MAX: usize = 8;

/// What an answer's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishStatus {
    /// The HTTP status.
    pub code: u16,
    /// A `Retry-After` belongs to it; how long is the caller's to say.
    pub retry: bool,
}

/// Gathers the results of one request.
#[derive(Debug)]
pub struct PublishAnswer {
    accepted: u64,
    duplicates: u64,
    rejected: [u64; RejectCode::ALL.len()],
    positions: Vec<Accepted>,
    channels: Vec<Channel>,
    /// Numbers by name, once there are more than [`CHANNELS_SEARCHED_MAX`].
    numbers: BTreeMap<ChannelName, u32>,
    omitted: u64,
    rejections: Vec<Rejection>,
    stopped_at: Option<u64>,
    /// See [`POSITIONS_MAX`]; none in a line of a stream.
    positions_max: u64,
}

/// A channel of one answer, see [`PublishAnswer::number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelNumber(Option<u32>);

#[derive(Debug)]
struct Accepted {
    index: u64,
    /// Into `channels`; there are never more of them than positions.
    channel: u32,
    position: Position,
    duplicate: bool,
}

#[derive(Debug)]
struct Channel {
    name: ChannelName,
    count: u64,
    duplicates: u64,
    /// Item index and position of the first and of the last new event.
    ends: Option<[(u64, Position); 2]>,
}

impl Default for PublishAnswer {
    fn default() -> Self {
        Self {
            accepted: 0,
            duplicates: 0,
            rejected: [0; RejectCode::ALL.len()],
            positions: Vec::new(),
            channels: Vec::new(),
            numbers: BTreeMap::new(),
            omitted: 0,
            rejections: Vec::new(),
            stopped_at: None,
            positions_max: POSITIONS_MAX as u64,
        }
    }
}

impl PublishAnswer {
    /// An answer without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// The channel's number in this answer, for [`Self::accept_in`]; asked for only when an item
    /// of it was taken, since the answer then names it.
    pub fn number(&mut self, name: &ChannelName) -> ChannelNumber {
        let known = if self.numbers.is_empty() {
            let at = self.channels.iter().position(|channel| channel.name == *name);
            at.map(|at| at as u32)
        } else {
            self.numbers.get(name).copied()
        };
        if known.is_some() || self.channels.len() == CHANNELS_MAX {
            return ChannelNumber(known);
        }
        let number = self.channels.len() as u32;
        let (name, count, duplicates, ends) = (name.clone(), 0, 0, None);
        if self.channels.len() >= CHANNELS_SEARCHED_MAX {
            if self.numbers.is_empty() {
                let named = self.channels.iter().zip(0..);
                self.numbers = named.map(|(channel, at)| (channel.name.clone(), at)).collect();
            }
            self.numbers.insert(name.clone(), number);
        }
        self.channels.push(Channel { name, count, duplicates, ends });
        ChannelNumber(Some(number))
    }

    /// An item was taken, or was a duplicate of what stands at that position.
    pub fn accept_in(
        &mut self,
        index: u64,
        channel: ChannelNumber,
        position: Position,
        duplicate: bool,
    ) {
        self.accepted += 1;
        self.duplicates += u64::from(duplicate);
        let Some(id) = channel.0 else {
            self.omitted += 1;
            return;
        };
        if let Some(channel) = self.channels.get_mut(id as usize) {
            channel.count += 1;
            channel.duplicates += u64::from(duplicate);
            if !duplicate {
                let place = (index, position);
                let [first, last] = channel.ends.get_or_insert([place, place]);
                *first = (*first).min(place);
                *last = (*last).max(place);
            }
        }
        if self.accepted <= self.positions_max {
            self.positions.push(Accepted { index, channel: id, position, duplicate });
        } else {
            self.positions = Vec::new();
        }
    }

    /// An item was refused.
    pub fn reject(&mut self, rejection: Rejection) {
        if let Some(count) = self.rejected.get_mut(rejection.code as usize) {
            *count += 1;
        }
        // The lowest indexes are kept: refusals of other shards may come late.
        if self.rejections.len() < REJECTIONS_MAX {
            self.rejections.push(rejection);
        } else if let Some(highest) = self.rejections.iter_mut().max_by_key(|r| r.index)
            && highest.index > rejection.index
        {
            *highest = rejection;
        }
    }

    /// This item was refused for a reason that ends the request: it and all after it were not
    /// taken. Only the first stop counts, or the one with the lowest index.
    pub fn stop(&mut self, rejection: Rejection) {
        let index = rejection.index;
        self.stopped_at = Some(self.stopped_at.map_or(index, |at| at.min(index)));
        self.reject(rejection);
    }

    /// Items taken, duplicates included.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Items taken that the channel had already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Items refused.
    pub fn rejected(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Where an item stands, if it was taken and accepted ones are named one by one.
    pub fn position(&self, index: u64) -> Option<Position> {
        self.positions.iter().find(|accepted| accepted.index == index).map(|it| it.position)
    }

    /// Why an item was refused, if it is one of those that are named.
    pub fn rejection(&self, index: u64) -> Option<&Rejection> {
        self.rejections.iter().find(|rejection| rejection.index == index)
    }

    /// The first item of those that were not looked at any more.
    pub fn stopped_at(&self) -> Option<u64> {
        self.stopped_at
    }

    /// Why the first of the rejected items was.
    pub fn first_rejection(&self) -> Option<&Rejection> {
        self.rejections.iter().min_by_key(|rejection| rejection.index)
    }

    /// The refusals by code, without the zeros.
    pub fn rejected_by_code(&self) -> impl Iterator<Item = (RejectCode, u64)> {
        RejectCode::ALL.into_iter().zip(self.rejected).filter(|(_, count)| *count > 0)
    }

    /// Decides the status:
    /// 1. 202 if anything was accepted, or if nothing was refused (an empty batch);
    /// 2. else 503 if anything was refused because the server is full or cannot store;
    /// 3. else 429 if anything was refused because of the publisher's rate: like 503 it says that
    ///    the same request may do better later;
    /// 4. else the status that most refusals have, of 400, 403 and 413; the lowest on a tie.
    pub fn status(&self) -> PublishStatus {
        let count = |status: u16| -> u64 {
            let of_status = self.rejected_by_code().filter(|(code, _)| code.status() == status);
            of_status.map(|(_, count)| count).sum()
        };
        if self.accepted > 0 || self.rejected() == 0 {
            return PublishStatus { code: 202, retry: self.stopped_at.is_some() };
        }
        if let Some(code) = [503, 429].into_iter().find(|code| count(*code) > 0) {
            return PublishStatus { code, retry: true };
        }
        // `max_by_key` keeps the last of equals, so the lowest status stands last.
        let code = [413, 403, 400].into_iter().max_by_key(|code| count(*code)).unwrap_or(400);
        PublishStatus { code, retry: false }
    }

    /// About how long the body is, so that it is written without growing.
    pub fn json_bytes(&self) -> usize {
        // A position's names, digits and punctuation; most channel names fit what that leaves.
        128 + self.positions.len() * 128
    }

    /// Appends the body.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out);
        out.push(b'}');
    }

    fn write_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"accepted\":");
        write_number(out, self.accepted);
        out.extend_from_slice(b",\"rejected\":");
        write_number(out, self.rejected());
        out.extend_from_slice(b",\"duplicates\":");
        write_number(out, self.duplicates);
        if self.is_named() {
            self.write_positions(out);
        } else {
            self.write_channels(out);
        }
        if self.rejected() > 0 {
            self.write_rejections(out);
        }
        if let Some(index) = self.stopped_at {
            out.extend_from_slice(b",\"stopped_at\":");
            write_number(out, index);
        }
    }

    /// True if the accepted items are named one by one.
    fn is_named(&self) -> bool {
        self.positions_max > 0 && self.accepted <= self.positions_max
    }

    fn positions_in_order(&self) -> Vec<&Accepted> {
        let mut positions: Vec<&Accepted> = self.positions.iter().collect();
        if !positions.is_sorted_by_key(|accepted| accepted.index) {
            positions.sort_unstable_by_key(|accepted| accepted.index);
        }
        positions
    }

    fn rejections_in_order(&self) -> Vec<&Rejection> {
        let mut rejections: Vec<&Rejection> = self.rejections.iter().collect();
        rejections.sort_by_key(|rejection| rejection.index);
        rejections
    }

    fn write_positions(&self, out: &mut Vec<u8>) {
        let positions = self.positions_in_order();
        // All but the numbers is the same for every position of a channel and epoch.
        let mut middles: Vec<Option<(Epoch, Vec<u8>)>> = Vec::new();
        middles.resize_with(self.channels.len(), || None);
        out.extend_from_slice(b",\"positions\":");
        write_array(out, positions, |out, accepted| {
            let Some(channel) = self.channels.get(accepted.channel as usize) else { return };
            let Some(middle) = middles.get_mut(accepted.channel as usize) else { return };
            let epoch = accepted.position.epoch;
            let (_, middle) = match middle {
                Some(known) if known.0 == epoch => known,
                _ => middle.insert((epoch, middle_of(channel.name.as_str(), epoch))),
            };
            out.extend_from_slice(b"{\"index\":");
            write_number(out, accepted.index);
            out.extend_from_slice(middle);
            write_number(out, accepted.position.offset);
            let duplicate: &[u8] = if accepted.duplicate { b"true}" } else { b"false}" };
            out.extend_from_slice(b"\",\"duplicate\":");
            out.extend_from_slice(duplicate);
        });
    }

    fn write_channels(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"channels\":");
        write_array(out, &self.channels, |out, channel| {
            out.extend_from_slice(b"{\"channel\":");
            write_json_string(out, channel.name.as_str());
            out.extend_from_slice(b",\"count\":");
            write_number(out, channel.count);
            out.extend_from_slice(b",\"duplicates\":");
            write_number(out, channel.duplicates);
            if let Some([(_, first), (_, last)]) = channel.ends {
                write_position(out, "first", first);
                write_position(out, "last", last);
            }
            out.push(b'}');
        });
        if self.omitted > 0 {
            out.extend_from_slice(b",\"channels_omitted_events\":");
            write_number(out, self.omitted);
        }
    }

    fn write_rejections(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"rejections\":");
        write_array(out, self.rejections_in_order(), |out, rejection| {
            out.extend_from_slice(b"{\"index\":");
            write_number(out, rejection.index);
            out.extend_from_slice(b",\"code\":");
            write_json_string(out, rejection.code.as_str());
            out.extend_from_slice(b",\"detail\":");
            write_json_string(out, &rejection.detail);
            out.push(b'}');
        });
        out.extend_from_slice(b",\"rejected_by_code\":{");
        for (at, (code, count)) in self.rejected_by_code().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_json_string(out, code.as_str());
            out.push(b':');
            write_number(out, count);
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
