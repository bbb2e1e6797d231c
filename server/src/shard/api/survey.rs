//! Surveys: what concerns every shard. Each looks at its own channels or connections, some of them
//! in each turn, and answers with a tally; the shard that was asked adds them up.
//!
//! A shard's connections come and go while it looks: who came behind the place it had reached is
//! not seen. Surveys under way are bounded by the calls of all shards.

use super::request::{self, Channels, Disconnect, Info, Unsubscribe};
use super::{CallSlot, Fault, Method};
use crate::mesh::{Ask, Deliver, ShardId};
use crate::pattern::Pattern;
use crate::shard::Shard;
use crate::shard::client::{Order, uuid_bits};
use crate::shard::connection::EndpointId;
use crate::shard::session::Session;
use proto::centrifuge::{DisconnectCode, ErrorCode, UnsubscribeCode};
use proto::channel::ChannelName;
use proto::envelope::write_json_string;
use proto::ws::CLOSE_REASON_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// Channels or connections that one turn looks at.
const LOOKS_PER_TURN: u32 = 4_096;

/// Channels of one answer.
const CHANNELS_MAX: usize = 10_000;

/// Clients that a `whitelist` may name.
const KEEP_MAX: usize = 1_000;

/// What every shard is asked.
#[derive(Debug)]
pub enum Survey {
    /// The channels of these names that have subscriptions.
    Channels(Pattern),
    /// Everything in numbers.
    Info,
    /// End these clients, with a code and a reason.
    Disconnect(Who, u16, String),
    /// End the subscriptions of these clients to a channel.
    Unsubscribe(Who, ChannelName),
    /// Subscribe these clients to a channel.
    Subscribe(Who, Order),
    /// The connections of these clients end then, in Unix seconds.
    Refresh(Who, Option<i64>),
}

/// Which clients.
#[derive(Debug)]
pub struct Who {
    /// All of this user, if one is named.
    pub user: Option<String>,
    /// The one of this id, if one is named.
    pub client: Option<u128>,
    /// But not these.
    pub keep: Vec<u128>,
}

/// What one shard found, or all of them.
#[derive(Debug)]
pub enum Tally {
    /// Subscriptions by channel: the first names in order, and whether there are more.
    Channels(BTreeMap<ChannelName, u64>, bool),
    /// Numbers.
    Info(Numbers),
    /// It was done to so many clients; for so many there was no room.
    Done(u64, u64),
}

/// A shard in numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Connections that get events.
    clients: u64,
    /// Subscriptions.
    subscriptions: u64,
    /// Channels at home here that anybody subscribes.
    channels: u64,
    /// Hashes of the names of users.
    users: BTreeSet<u64>,
}

impl Tally {
    fn new(survey: &Survey) -> Self {
        match survey {
            Survey::Channels(_) => Self::Channels(BTreeMap::new(), false),
            Survey::Info => Self::Info(Numbers::default()),
            Survey::Disconnect(..)
            | Survey::Unsubscribe(..)
            | Survey::Subscribe(..)
            | Survey::Refresh(..) => Self::Done(0, 0),
        }
    }

    /// Adds what another shard found.
    fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Channels(all, cut), Self::Channels(found, more)) => {
                // Of names behind the end of a list that was cut, not every subscription is known.
                let end = |names: &BTreeMap<ChannelName, u64>| {
                    names.last_key_value().map(|(name, _)| name.clone())
                };
                let ends = [(*cut, end(all)), (more, end(&found))];
                for (name, count) in found {
                    *all.entry(name).or_default() += count;
                }
                for (_, end) in ends.into_iter().filter(|(cut, _)| *cut) {
                    all.retain(|name, _| end.as_ref().is_some_and(|end| name <= end));
                }
                *cut |= more;
                while all.len() > CHANNELS_MAX {
                    all.pop_last();
                    *cut = true;
                }
            }
            (Self::Info(sum), Self::Info(numbers)) => {
                sum.clients += numbers.clients;
                sum.subscriptions += numbers.subscriptions;
                sum.channels += numbers.channels;
                sum.users.extend(numbers.users);
            }
            (Self::Done(count, over), Self::Done(more, more_over)) => {
                *count += more;
                *over += more_over;
            }
            _ => debug_assert!(false, "a tally of another survey"),
        }
    }
}

/// A survey of which some tallies are missing.
#[derive(Debug)]
pub struct Round {
    slot: CallSlot,
    missing: usize,
    tally: Tally,
}

/// A survey that this shard is at.
struct Job {
    from: ShardId,
    ticket: u64,
    survey: Arc<Survey>,
    /// The next channel, connection or stream.
    at: u32,
    /// The connections have been looked at, and the streams on them follow.
    streams: bool,
    tally: Tally,
}

/// The surveys that this shard is at, first come first served.
#[derive(Default)]
pub struct Surveys(VecDeque<Job>);

impl Surveys {
    /// True if there is something to look at.
    pub fn has_work(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Shard {
    pub(super) fn call_channels(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let body = if body.is_empty() { b"{}" } else { body };
        let request: Channels<'_> = request::parse(Method::Channels, body)?;
        let pattern = Pattern::glob(request.pattern.as_deref().unwrap_or_default());
        let pattern = pattern.map_err(|what| Fault::bad(format!("`pattern`: {what}")))?;
        self.survey(slot, Survey::Channels(pattern));
        Ok(())
    }

    pub(super) fn call_info(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let body = if body.is_empty() { b"{}" } else { body };
        let Info {} = request::parse(Method::Info, body)?;
        self.survey(slot, Survey::Info);
        Ok(())
    }

    pub(super) fn call_unsubscribe(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: Unsubscribe<'_> = request::parse(Method::Unsubscribe, body)?;
        let channel = ChannelName::new(&request.channel).map_err(|e| Fault::bad(e.to_string()))?;
        let who = who(request.user, request.client, request.session, None)?;
        self.survey(slot, Survey::Unsubscribe(who, channel));
        Ok(())
    }

    pub(super) fn call_disconnect(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: Disconnect = request::parse(Method::Disconnect, body)?;
        let (code, reason) = match request.disconnect {
            None => (DisconnectCode::ForceDisconnect.code(), String::new()),
            Some(how) if how.code == 0 => (DisconnectCode::ForceDisconnect.code(), how.reason),
            Some(how) => match u16::try_from(how.code) {
                Ok(code @ 3_000..=4_999) => (code, how.reason),
                _ => return Err(Fault::bad("`disconnect.code`: use 3000 to 4999")),
            },
        };
        let reason = reason_of(code, reason)?;
        let who = who(request.user, request.client, request.session, request.whitelist)?;
        self.survey(slot, Survey::Disconnect(who, code, reason));
        Ok(())
    }

    /// Asks every shard.
    pub(super) fn survey(&mut self, slot: CallSlot, survey: Survey) {
        let ticket = self.calls.next();
        let missing = self.mesh.shards();
        let tally = Tally::new(&survey);
        self.calls.rounds.insert(ticket, Round { slot, missing, tally });
        let survey = Arc::new(survey);
        for shard in self.mesh.peers() {
            self.ask_shard(shard, Ask::Survey { ticket, survey: Arc::clone(&survey) });
        }
    }

    /// Another shard, or this one, asks.
    pub(in crate::shard) fn on_survey(&mut self, from: ShardId, ticket: u64, survey: Arc<Survey>) {
        let tally = Tally::new(&survey);
        self.surveys.0.push_back(Job { from, ticket, survey, at: 0, streams: false, tally });
    }

    /// Goes on with surveys.
    pub(in crate::shard) fn run_surveys(&mut self) {
        let mut left = LOOKS_PER_TURN;
        while left > 0
            && let Some(mut job) = self.surveys.0.pop_front()
        {
            let end = match &*job.survey {
                Survey::Channels(_) => self.local.slots(),
                _ if job.streams => self.streams.slots(),
                _ => self.connections.slots(),
            };
            left -= 1;
            while job.at < end && left > 0 {
                self.look(&mut job);
                job.at += 1;
                left -= 1;
            }
            if job.at >= end && !job.streams && !matches!(*job.survey, Survey::Channels(_)) {
                (job.streams, job.at) = (true, 0);
                self.surveys.0.push_front(job);
                continue;
            }
            if job.at < end || self.mesh.deliver_room(job.from) == 0 {
                self.surveys.0.push_front(job);
                return;
            }
            if let Tally::Info(numbers) = &mut job.tally {
                numbers.subscriptions = self.local.subscriptions() as u64;
                numbers.channels = self.home.channels_subscribed() as u64;
            }
            let Job { from, ticket, tally, .. } = job;
            self.mesh.deliver(from, Deliver::Tally { ticket, tally: Box::new(tally) });
        }
    }

    /// Looks at one channel, connection or stream.
    fn look(&mut self, job: &mut Job) {
        let at = job.at;
        let endpoint =
            if job.streams { EndpointId::stream(at) } else { EndpointId::connection(at) };
        match (&*job.survey, &mut job.tally) {
            (Survey::Channels(pattern), Tally::Channels(found, cut)) => {
                let Some(channel) = self.local.peek(job.at) else { return };
                if channel.entries.is_empty() || !pattern.matches(channel.name.as_str()) {
                    return;
                }
                found.insert(channel.name.clone(), channel.entries.len() as u64);
                if found.len() > CHANNELS_MAX {
                    found.pop_last();
                    *cut = true;
                }
            }
            (Survey::Info, Tally::Info(numbers)) => {
                let (own, events) = match endpoint.split() {
                    Err(slot) => {
                        let Some(connection) = self.connections.slot(slot) else { return };
                        let session = &connection.session;
                        let events = matches!(session, Session::WebSocket(_) | Session::Sse);
                        (session.client(), events)
                    }
                    Ok(index) => {
                        let Some(stream) = self.streams.get(index) else { return };
                        (stream.client.as_deref(), stream.client.is_none())
                    }
                };
                numbers.clients += u64::from(events);
                if let Some(own) = own.filter(|own| own.client.is_connected()) {
                    numbers.clients += 1;
                    let hash = BuildHasherDefault::<DefaultHasher>::default();
                    numbers.users.insert(hash.hash_one(own.client.user()));
                }
            }
            (Survey::Disconnect(who, code, reason), Tally::Done(count, _)) => {
                if let Some(at) = self.client_of(endpoint, who) {
                    self.disconnect_with(at, *code, reason);
                    *count += 1;
                }
            }
            (Survey::Unsubscribe(who, channel), Tally::Done(count, _)) => {
                if let Some(at) = self.client_of(endpoint, who) {
                    let code = UnsubscribeCode::Server;
                    *count += u64::from(self.unsubscribe_client(at, channel.as_str(), code));
                }
            }
            (Survey::Subscribe(who, order), Tally::Done(count, over)) => {
                if let Some(at) = self.client_of(endpoint, who) {
                    let room = self.subscribe_client(at, order);
                    *count += u64::from(room);
                    *over += u64::from(!room);
                }
            }
            (Survey::Refresh(who, expires_at_s), Tally::Done(count, _)) => {
                if let Some(at) = self.client_of(endpoint, who) {
                    self.refresh_client(at, *expires_at_s);
                    *count += 1;
                }
            }
            _ => debug_assert!(false, "a tally of another survey"),
        }
    }

    /// What a shard found.
    pub(in crate::shard) fn on_tally(&mut self, ticket: u64, tally: Tally) {
        let Some(round) = self.calls.rounds.get_mut(&ticket) else { return };
        round.tally.add(tally);
        round.missing -= 1;
        if round.missing > 0 {
            return;
        }
        let Some(round) = self.calls.rounds.remove(&ticket) else { return };
        let reply = match round.tally {
            Tally::Done(count, over) if over > 0 => {
                let all = count + over;
                let message = format!("{over} of {all} clients have as many channels as they may");
                Err(Fault::new(ErrorCode::LimitExceeded, message))
            }
            tally => Ok(self.result_of(tally)),
        };
        self.reply_call(round.slot, reply);
    }

    fn result_of(&self, tally: Tally) -> Vec<u8> {
        let mut out = Vec::new();
        match tally {
            Tally::Channels(channels, cut) => {
                out.extend_from_slice(b"{\"channels\":{");
                for (at, (name, count)) in channels.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_json_string(&mut out, name.as_str());
                    out.extend_from_slice(format!(":{{\"num_clients\":{count}}}").as_bytes());
                }
                let end: &[u8] = if cut { b"},\"truncated\":true}" } else { b"}}" };
                out.extend_from_slice(end);
            }
            Tally::Info(numbers) => {
                let node = serde_json::json!({
                    "uid": format!("{:08x}", self.home.lineage()),
                    "name": self.settings.node_name,
                    "version": env!("CARGO_PKG_VERSION"),
                    "num_clients": numbers.clients,
                    "num_subs": numbers.subscriptions,
                    "num_users": numbers.users.len(),
                    "num_channels": numbers.channels,
                    "uptime": self.now.ms.saturating_sub(self.started_ms) / 1_000,
                });
                out.extend_from_slice(format!("{{\"nodes\":[{node}]}}").as_bytes());
            }
            // The protocol says nothing of how many there were.
            Tally::Done(..) => out.extend_from_slice(b"{}"),
        }
        out
    }
}

/// Reads which clients are meant. Nobody at all is not everybody.
pub(super) fn who(
    user: Option<String>,
    client: Option<String>,
    session: Option<String>,
    keep: Option<Vec<String>>,
) -> Result<Who, Fault> {
    let named = |text: Option<String>| text.filter(|text| !text.is_empty());
    if named(session).is_some() {
        let message = "`session`: clients are found by `user` and `client`";
        return Err(Fault::new(ErrorCode::NotAvailable, message));
    }
    let id = |name: &str, text: &str| {
        let message = format!("`{name}`: a client's id is a UUID, as its `connect` was answered");
        uuid_bits(text).ok_or_else(|| Fault::bad(message))
    };
    let user = named(user);
    let client = named(client).map(|client| id("client", &client)).transpose()?;
    if user.is_none() && client.is_none() {
        return Err(Fault::bad("name a `user`, a `client`, or both"));
    }
    let keep = keep.unwrap_or_default();
    if keep.len() > KEEP_MAX {
        let message = format!("`whitelist` has more than {KEEP_MAX} clients");
        return Err(Fault::new(ErrorCode::LimitExceeded, message));
    }
    let keep = keep.iter().map(|kept| id("whitelist", kept)).collect::<Result<_, _>>()?;
    Ok(Who { user, client, keep })
}

/// The reason that a client is told: never empty, and nothing that SDKs take for JSON.
fn reason_of(code: u16, reason: String) -> Result<String, Fault> {
    if reason.len() > CLOSE_REASON_BYTES_MAX {
        let message = format!("`disconnect.reason`: more than {CLOSE_REASON_BYTES_MAX} bytes");
        return Err(Fault::bad(message));
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(&reason).is_ok() {
        let message = "`disconnect.reason`: SDKs would read this as JSON; use words";
        return Err(Fault::bad(message));
    }
    if !reason.trim().is_empty() {
        return Ok(reason);
    }
    let known = DisconnectCode::from_code(code.into());
    Ok(known.map_or("disconnected by the server", DisconnectCode::text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(names: &[(&str, u64)], cut: bool) -> Tally {
        let name = |name: &str| ChannelName::new(name).unwrap();
        Tally::Channels(names.iter().map(|(n, count)| (name(n), *count)).collect(), cut)
    }

    fn names(tally: &Tally) -> (Vec<(&str, u64)>, bool) {
        let Tally::Channels(found, cut) = tally else { panic!("another tally") };
        (found.iter().map(|(name, count)| (name.as_str(), *count)).collect(), *cut)
    }

    #[test]
    fn counts_of_names_behind_the_end_of_a_cut_list_are_never_shown() {
        let sum = |parts: [Tally; 3]| {
            let [mut sum, second, third] = parts;
            sum.add(second);
            sum.add(third);
            sum
        };
        let parts = || {
            [
                tally(&[("a", 1), ("c", 2), ("d", 1)], false),
                tally(&[("a", 5), ("c", 1)], true),
                tally(&[("b", 7), ("z", 1)], false),
            ]
        };
        let expected = (vec![("a", 6), ("b", 7), ("c", 3)], true);
        let [one, two, three] = parts();
        assert_eq!(names(&sum([one, two, three])), expected);
        let [one, two, three] = parts();
        // What comes behind an end is not taken up by a later shard either.
        let mut late = sum([two, three, one]);
        assert!(names(&late).1);
        late.add(tally(&[], false));
        assert_eq!(names(&late), expected);
    }

    #[test]
    fn nobody_is_not_everybody_and_ids_are_uuids() {
        let text = |text: &str| Some(text.to_owned());
        let uuid = "0b5f9a4e-1c2d-4e3f-8a9b-0c1d2e3f4a5b";
        assert!(who(None, None, None, None).is_err());
        assert!(who(text(""), text(""), None, None).is_err());
        assert!(who(text("u"), None, text("s"), None).is_err());
        assert!(who(None, text("nobody"), None, None).is_err());
        assert!(who(text("u"), None, None, Some(vec!["x".into()])).is_err());
        let both = who(text("u"), text(uuid), text(""), Some(vec![uuid.into()])).unwrap();
        assert_eq!((both.user.as_deref(), both.keep.len()), (Some("u"), 1));
        assert_eq!(both.client, Some(0x0b5f_9a4e_1c2d_4e3f_8a9b_0c1d_2e3f_4a5b));
    }

    #[test]
    fn a_reason_is_never_empty_and_never_json() {
        assert_eq!(reason_of(3503, String::new()).as_deref(), Ok("force disconnect"));
        assert_eq!(reason_of(4100, " ".into()).as_deref(), Ok("disconnected by the server"));
        assert_eq!(reason_of(4100, "go away".into()).as_deref(), Ok("go away"));
        for reason in ["30", "true", "{}", "\"x\"", &"x".repeat(200)] {
            assert!(reason_of(4100, reason.into()).is_err(), "{reason}");
        }
    }
}
