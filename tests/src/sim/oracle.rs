//! What must be true, kept outside the code under test: it knows only what clients sent, what they
//! were told, and what a reader finds on the disk.
//!
//! - A position names one event, ever; within an incarnation an offset that was acknowledged as
//!   durable names one event over every lineage.
//! - What was acknowledged as durable is stored, once, as it was sent.
//! - Offsets stored of an incarnation have no hole.
//! - An event that the answer did not list as taken never appears.
//! - A repeat of an id that must still be known answers with the original's position.
//! - Gaps are said only for a reason that can have happened.

use super::options::Options;
use proto::envelope::GapReason;
use proto::position::{Epoch, Position};
use std::collections::{BTreeMap, BTreeSet};

/// What happened contradicts what must be.
pub type Verdict = Result<(), String>;

/// The number of an event that was sent, in its data.
pub type Serial = u32;

/// How the data is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Json,
    Text,
    Binary,
}

/// An event that somebody sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub channel: String,
    pub kind: Kind,
    pub data: Vec<u8>,
    pub id: Option<String>,
    /// Requests that carried it.
    pub attempts: u32,
    /// Every request that carried it was answered without taking it.
    pub refused: bool,
}

/// An event that was acknowledged or seen under a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    position: Position,
    /// In which run of the process it was first heard of.
    boot: u32,
    durable: bool,
}

/// A raw subscription's messages: no positions, so they are compared later.
#[derive(Debug, Clone)]
pub struct RawRun {
    pub channel: String,
    pub lineage: u32,
    pub serials: Vec<Serial>,
    /// The position its close named.
    pub closed_at: Option<Position>,
}

/// See the module.
#[derive(Debug)]
pub struct Oracle {
    options: Options,
    sent: Vec<Sent>,
    /// By channel and epoch: what stands at an offset.
    places: BTreeMap<(String, u64), BTreeMap<u64, Serial>>,
    of_serial: BTreeMap<Serial, Vec<Place>>,
    /// By channel and incarnation: offsets acknowledged as durable, and under which lineage.
    durable: BTreeMap<(String, u32), BTreeMap<u64, (Serial, u32)>>,
    /// By channel and epoch: the highest offset acknowledged as durable.
    durable_top: BTreeMap<(String, u64), u64>,
    boot: u32,
    lineage: u32,
    /// Runs that ended without a clean stop.
    lineages_lost: BTreeSet<u32>,
    /// Every lineage, in order of time.
    lineages: Vec<u32>,
    raw: Vec<RawRun>,
    /// Channels, epochs and offsets that must turn out to have been given, because a gap said that
    /// history had moved on.
    moved_on: Vec<(String, Epoch, u64)>,
    /// Events seen by subscribers, for the report.
    pub delivered: u64,
    /// Clients that came back with a position: recovered, and not.
    pub recoveries: (u64, u64),
}

impl Oracle {
    /// Nothing was sent.
    pub fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            sent: Vec::new(),
            places: BTreeMap::new(),
            of_serial: BTreeMap::new(),
            durable: BTreeMap::new(),
            durable_top: BTreeMap::new(),
            boot: 0,
            lineage: 0,
            lineages_lost: BTreeSet::new(),
            lineages: Vec::new(),
            raw: Vec::new(),
            moved_on: Vec::new(),
            delivered: 0,
            recoveries: (0, 0),
        }
    }

    /// A process started.
    pub fn booted(&mut self, lineage: u32, clean: bool, must_be_clean: bool) -> Verdict {
        if must_be_clean && !clean && self.boot > 0 {
            return Err("a clean stop was recovered as an unclean one".to_owned());
        }
        let goes_on = lineage == self.lineage;
        if clean != goes_on && self.boot > 0 {
            return Err(format!(
                "lineage {:08x} after {:08x}, clean {clean}",
                lineage, self.lineage
            ));
        }
        if self.boot > 0 && !clean {
            if self.lineages_lost.contains(&lineage) {
                return Err(format!("lineage {lineage:08x} was used before"));
            }
            self.lineages_lost.insert(self.lineage);
        }
        if !self.lineages.contains(&lineage) {
            self.lineages.push(lineage);
        }
        (self.boot, self.lineage) = (self.boot + 1, lineage);
        Ok(())
    }

    /// The place in time of a lineage.
    fn rank(&self, lineage: u32) -> Option<usize> {
        self.lineages.iter().position(|known| *known == lineage)
    }

    /// The lineage of the running process.
    pub fn lineage(&self) -> u32 {
        self.lineage
    }

    /// A new event, to be sent. `make` writes the data of a serial.
    pub fn create(
        &mut self,
        channel: &str,
        kind: Kind,
        id: bool,
        make: impl FnOnce(Serial) -> Vec<u8>,
    ) -> Serial {
        let serial = self.sent.len() as Serial;
        self.sent.push(Sent {
            channel: channel.to_owned(),
            kind,
            data: make(serial),
            id: id.then(|| format!("id-{serial}")),
            attempts: 0,
            refused: false,
        });
        serial
    }

    /// What was sent.
    pub fn sent(&self, serial: Serial) -> &Sent {
        &self.sent[serial as usize]
    }

    /// How many events were made.
    pub fn count(&self) -> u32 {
        self.sent.len() as u32
    }

    /// A request carries it.
    pub fn attempt(&mut self, serial: Serial) {
        let sent = &mut self.sent[serial as usize];
        sent.attempts += 1;
        sent.refused = false;
    }

    /// The answer to its only request did not take it.
    pub fn refuse(&mut self, serial: Serial) {
        let placed = self.of_serial.contains_key(&serial);
        let sent = &mut self.sent[serial as usize];
        sent.refused = sent.attempts == 1 && !placed;
    }

    /// The event's serial, from its data as it was sent; it must be whole and of this channel.
    pub fn recognise(&self, channel: &str, data: &[u8]) -> Result<Serial, String> {
        let digits: String = data
            .iter()
            .skip_while(|byte| **byte != b'#')
            .skip(1)
            .take_while(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        let shown = || String::from_utf8_lossy(&data[..data.len().min(80)]).into_owned();
        let serial: Serial = digits.parse().map_err(|_| format!("nobody sent `{}`", shown()))?;
        let sent = self.sent.get(serial as usize).ok_or_else(|| format!("#{serial} not sent"))?;
        if sent.channel != channel {
            return Err(format!("#{serial} is of {}, not of {channel}", sent.channel));
        }
        if sent.data != data {
            return Err(format!("#{serial} was not sent as `{}`", shown()));
        }
        Ok(serial)
    }

    /// An event stands at a position: an answer, a subscriber or the disk says so.
    pub fn bind(&mut self, channel: &str, position: Position, serial: Serial) -> Verdict {
        let sent = &self.sent[serial as usize];
        if sent.refused {
            return Err(format!("#{serial} at {position} of {channel} was answered as not taken"));
        }
        let epoch = (channel.to_owned(), position.epoch.0);
        let at = self.places.entry(epoch).or_default();
        let known = *at.entry(position.offset).or_insert(serial);
        if known != serial {
            return Err(format!("{position} of {channel} names #{known} and #{serial}"));
        }
        let incarnation = (channel.to_owned(), position.epoch.incarnation());
        let durable = self.durable.get(&incarnation).and_then(|at| at.get(&position.offset));
        // What an earlier run said may be read late; it lost that event before the durable one
        // came.
        let later = |lineage: u32| self.rank(position.epoch.lineage()) >= self.rank(lineage);
        if let Some((durable, lineage)) = durable
            && *durable != serial
            && later(*lineage)
        {
            return Err(format!(
                "{position} of {channel}: #{serial} in place of durable #{durable}"
            ));
        }
        let places = self.of_serial.entry(serial).or_default();
        if !places.iter().any(|place| place.position == position) {
            places.push(Place { position, boot: self.boot, durable: false });
        }
        Ok(())
    }

    /// An answer took an event.
    pub fn accepted(
        &mut self,
        serial: Serial,
        position: Position,
        duplicate: bool,
        durable: bool,
    ) -> Verdict {
        let channel = self.sent[serial as usize].channel.clone();
        if !duplicate {
            self.check_original(serial, &channel, position)?;
        }
        self.bind(&channel, position, serial)?;
        if durable {
            if !Options::is_stored(&channel) {
                return Err(format!("#{serial} of {channel} was called durable"));
            }
            let top = self.durable_top.entry((channel.clone(), position.epoch.0)).or_default();
            *top = position.offset.max(*top);
            let incarnation = (channel, position.epoch.incarnation());
            let lineage = position.epoch.lineage();
            let durable = self.durable.entry(incarnation).or_default();
            durable.insert(position.offset, (serial, lineage));
            let places = self.of_serial.entry(serial).or_default();
            for place in places.iter_mut().filter(|place| place.position == position) {
                place.durable = true;
            }
        }
        Ok(())
    }

    /// A new position for an id that the channel must still know is a broken promise.
    fn check_original(&self, serial: Serial, channel: &str, position: Position) -> Verdict {
        // An answer may be read when the process that gave it is gone.
        let late = position.epoch.lineage() != self.lineage;
        if late || self.sent[serial as usize].id.is_none() || !self.options.remembers_all() {
            return Ok(());
        }
        let known = self.of_serial.get(&serial).into_iter().flatten().find(|place| {
            place.position != position
                && place.position.epoch.incarnation() == position.epoch.incarnation()
                && (place.boot == self.boot && place.position.epoch.lineage() == self.lineage
                    || place.durable && Options::is_stored(channel))
        });
        match known {
            Some(place) => {
                let original = place.position;
                Err(format!("#{serial} of {channel} at {position} is already at {original}"))
            }
            None => Ok(()),
        }
    }

    /// Judges a gap that a subscriber was told. `since` is what it asked for.
    pub fn check_gap(
        &mut self,
        channel: &str,
        since: Option<Position>,
        reason: GapReason,
        before: Position,
    ) -> Verdict {
        let bad = |why: &str| {
            let asked = since.map_or("-".to_owned(), |since| since.to_string());
            Err(format!("gap {} of {channel} since {asked} at {before}: {why}", reason.as_str()))
        };
        let Some(since) = since else {
            return if reason == GapReason::Malformed { Ok(()) } else { bad("nothing was asked") };
        };
        let durable = self.durable_top.get(&(channel.to_owned(), since.epoch.0));
        let stored = durable.is_some_and(|top| since.offset <= *top);
        match reason {
            GapReason::Malformed => bad("the position was one"),
            GapReason::RolledBack if stored => bad("it was acknowledged as durable"),
            GapReason::RolledBack if !self.lineages_lost.contains(&since.epoch.lineage()) => {
                bad("its run did not end uncleanly")
            }
            GapReason::RolledBack => Ok(()),
            GapReason::Unknown if since.epoch == before.epoch => bad("it was given"),
            GapReason::Unknown if stored && self.lineages_lost.len() < 14 => {
                bad("the channel is known to the disk")
            }
            GapReason::Unknown => Ok(()),
            GapReason::Expired if before.offset <= since.offset => bad("nothing is missing"),
            GapReason::Expired if self.options.remembers_all() => {
                let full = before.offset + self.options.history_of(channel);
                self.moved_on.push((channel.to_owned(), before.epoch, full));
                Ok(())
            }
            GapReason::Expired => Ok(()),
        }
    }

    /// A client subscribed; `asked` with a position.
    pub fn count_recovery(&mut self, asked: bool, recovered: bool) {
        let (found, lost) = &mut self.recoveries;
        *found += u64::from(asked && recovered);
        *lost += u64::from(asked && !recovered);
    }

    /// The highest offset heard of in an incarnation.
    fn top_of(&self, channel: &str, incarnation: u32) -> u64 {
        let of = |(key, at): (&(String, u64), &BTreeMap<u64, Serial>)| {
            let fits = key.0 == channel && Epoch(key.1).incarnation() == incarnation;
            at.last_key_value().filter(|_| fits).map(|(offset, _)| *offset)
        };
        self.places.iter().filter_map(of).max().unwrap_or(0)
    }

    /// The newest position heard of in the running lineage.
    pub fn top(&self, channel: &str) -> Option<Position> {
        let of = |(key, at): (&(String, u64), &BTreeMap<u64, Serial>)| {
            let epoch = Epoch(key.1);
            let fits = key.0 == channel && epoch.lineage() == self.lineage;
            let (offset, _) = at.last_key_value().filter(|_| fits)?;
            Some(Position { epoch, offset: *offset })
        };
        self.places.iter().filter_map(of).max_by_key(|p| (p.epoch.incarnation(), p.offset))
    }

    /// A raw subscription has ended.
    pub fn add_raw(&mut self, run: RawRun) {
        if !run.serials.is_empty() {
            self.raw.push(run);
        }
    }

    /// What can be judged only at the end: the order of raw messages, and gaps that said more
    /// than was known then.
    pub fn check_late(&self) -> Verdict {
        for (channel, epoch, full) in &self.moved_on {
            let top = self.top_of(channel, epoch.incarnation());
            // What a crash took with it was heard of by nobody else.
            let lost = self.lineages_lost.contains(&epoch.lineage());
            if top < *full && !lost {
                return Err(format!("expired in {channel}, but only {top} of {full} were given"));
            }
        }
        self.raw.iter().try_for_each(|run| self.check_raw_run(run))
    }

    fn check_raw_run(&self, run: &RawRun) -> Verdict {
        let position = |serial: Serial| -> Option<Position> {
            // Sent again it may stand twice, and not every answer comes back.
            if self.sent[serial as usize].attempts > 1 {
                return None;
            }
            let places = self.of_serial.get(&serial)?;
            let mut own = places.iter().filter(|p| p.position.epoch.lineage() == run.lineage);
            let found = own.next()?;
            // Placed twice in one lineage: which of them came cannot be told.
            own.next().is_none().then_some(found.position)
        };
        for pair in run.serials.windows(2) {
            let (Some(one), Some(two)) = (position(pair[0]), position(pair[1])) else { continue };
            if two.epoch != one.epoch || two.offset != one.offset + 1 {
                let (a, b) = (pair[0], pair[1]);
                return Err(format!("raw {}: #{a} at {one}, then #{b} at {two}", run.channel));
            }
        }
        let last = run.serials.last().and_then(|serial| position(*serial));
        if let (Some(last), Some(closed)) = (last, run.closed_at)
            && last.offset != closed.offset
        {
            return Err(format!(
                "raw {}: the last was {last}, the close says {closed}",
                run.channel
            ));
        }
        Ok(())
    }

    /// Looks at everything on the disk: `events` in the order of the spool.
    pub fn check_stored(&mut self, events: &[(String, Position, Serial)]) -> Verdict {
        let mut offsets: BTreeMap<(&str, u32), BTreeMap<u64, Serial>> = BTreeMap::new();
        for (channel, position, serial) in events {
            self.bind(channel, *position, *serial)?;
            let key = (channel.as_str(), position.epoch.incarnation());
            let known = offsets.entry(key).or_default();
            if known.last_key_value().is_some_and(|(last, _)| position.offset != last + 1)
                || known.is_empty() && position.offset != 1
            {
                return Err(format!("{channel}: {position} is stored out of its place"));
            }
            known.insert(position.offset, *serial);
        }
        for ((channel, incarnation), durable) in &self.durable {
            let stored = offsets.get(&(channel.as_str(), *incarnation));
            for (offset, (serial, _)) in durable {
                if stored.and_then(|stored| stored.get(offset)) != Some(serial) {
                    return Err(format!(
                        "#{serial}, durable at {incarnation}:{offset} of {channel}, is not stored"
                    ));
                }
            }
        }
        Ok(())
    }

    /// How many events are acknowledged as durable.
    pub fn durable_count(&self) -> usize {
        self.durable.values().map(BTreeMap::len).sum()
    }
}
