//! One channel at its home: counters, epochs, what is retained, and what a resume is told.

use super::dedupe::Window;
use super::history::History;
use super::{GapReason, Outcome, PageLimit, Resumed, Since};
use crate::config::namespace::{Deliver, Namespace};
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::{Epoch, Position};

/// Old lineages remembered per channel, newest first to stay. A server that stopped uncleanly more
/// often than this *while the channel was published to* answers `unknown` to older positions.
pub(super) const TOPS_MAX: usize = 16;

/// The lineages of the data directory: this run's, and those before it in order of time.
pub(super) struct Lineages {
    pub(super) current: u32,
    pub(super) old: Vec<u32>,
}

impl Lineages {
    /// The place in time of an old lineage.
    pub(super) fn rank(&self, lineage: u32) -> Option<usize> {
        self.old.iter().rposition(|old| *old == lineage)
    }
}

/// The channel's last spooled offset under an old lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) lineage: u32,
    pub(super) last: u64,
}

pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) incarnation: u32,
    /// The last offset given.
    pub(super) last: u64,
    /// The last offset subscribers may see; differs from `last` only under `deliver = durable`.
    pub(super) visible: u64,
    /// Bit s: shard s has subscribers.
    pub(super) interest: u64,
    /// In order of lineages, one for each under which the channel was published to.
    pub(super) tops: Vec<Top>,
    pub(super) history: History,
    pub(super) ids: Window,
    /// The last publish or change of interest.
    pub(super) touched_ms: i64,
    pub(super) history_age_ms: i64,
    pub(super) history_size: u32,
    /// Its events go to the spool, so its offsets outlive this process.
    pub(super) stored: bool,
    pub(super) durable: bool,
}

impl Channel {
    pub(super) fn new(name: ChannelName, incarnation: u32, now_ms: i64, ns: &Namespace) -> Self {
        let mut channel = Self {
            name,
            incarnation,
            last: 0,
            visible: 0,
            interest: 0,
            tops: Vec::new(),
            history: History::default(),
            ids: Window::default(),
            touched_ms: now_ms,
            history_age_ms: 0,
            history_size: 0,
            stored: ns.store,
            durable: false,
        };
        channel.configure(ns);
        channel
    }

    /// Takes over the namespace's settings, which may have changed since the last event.
    pub(super) fn configure(&mut self, namespace: &Namespace) {
        self.history_age_ms = i64::from(namespace.history_age_s) * 1_000;
        self.history_size = namespace.history_size;
        self.stored = namespace.store;
        self.durable = namespace.store && namespace.deliver == Deliver::Durable;
        if !self.durable {
            self.visible = self.last;
        }
    }

    /// Begins anew under another incarnation. The caller has emptied the window of ids.
    pub(super) fn renew(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        (self.last, self.visible) = (0, 0);
        self.tops = Vec::new();
        self.history.clear();
    }

    /// The epoch of the offsets given by this run.
    pub(super) fn epoch(&self, lineages: &Lineages) -> Epoch {
        Epoch::new(lineages.current, self.incarnation)
    }

    /// The position under which an offset was given: offsets above an old lineage's top are a
    /// later one's.
    pub(super) fn position_of(&self, offset: u64, lineages: &Lineages) -> Position {
        let old = self.tops.iter().find(|top| offset <= top.last).map(|top| top.lineage);
        let lineage = old.unwrap_or(lineages.current);
        Position { epoch: Epoch::new(lineage, self.incarnation), offset }
    }

    /// Keeps the highest offset seen under an old lineage.
    pub(super) fn raise_top(&mut self, top: Top, lineages: &Lineages) {
        let Some(rank) = lineages.rank(top.lineage) else { return };
        match self.tops.iter_mut().find(|known| known.lineage == top.lineage) {
            Some(known) => known.last = known.last.max(top.last),
            None => {
                let before = |known: &Top| lineages.rank(known.lineage) < Some(rank);
                let at = self.tops.partition_point(before);
                self.tops.insert(at, top);
                if self.tops.len() > TOPS_MAX {
                    self.tops.remove(0);
                }
            }
        }
        self.last = self.last.max(top.last);
    }

    /// The last spooled offset under an old lineage. A lineage without a top of its own ended
    /// where the one before it did; before the first top this incarnation did not exist.
    fn top_under(&self, lineage: u32, lineages: &Lineages) -> Option<u64> {
        let rank = lineages.rank(lineage)?;
        let older = self.tops.iter().rev().find(|top| lineages.rank(top.lineage) <= Some(rank));
        older.map(|top| top.last)
    }

    /// Whether a client that stands at `since` can go on without loss.
    fn judge(&self, since: Position, lineages: &Lineages) -> Outcome {
        let gap = Outcome::Gap;
        if since.epoch.incarnation() != self.incarnation {
            return gap(GapReason::Unknown);
        }
        if since.epoch.lineage() == lineages.current {
            if since.offset > self.last {
                return gap(GapReason::Unknown);
            }
        } else {
            match self.top_under(since.epoch.lineage(), lineages) {
                None => return gap(GapReason::Unknown),
                Some(top) if since.offset > top => return gap(GapReason::RolledBack),
                Some(_) => {}
            }
        }
        // The history is contiguous and ends at `last`, so its first offset proves the rest.
        let complete = self.history.first().is_some_and(|first| first <= since.offset + 1);
        if since.offset >= self.visible || complete {
            Outcome::Recovered
        } else {
            gap(GapReason::Expired)
        }
    }

    /// See [`super::Orderer::resume`].
    pub(super) fn resume(&self, since: Since, limit: PageLimit, lineages: &Lineages) -> Resumed {
        let mut top = Position { epoch: self.epoch(lineages), offset: self.visible };
        let (outcome, after) = match since {
            Since::Now => {
                return Resumed { top, outcome: Outcome::Live, events: vec![], next: None };
            }
            Since::Beginning => (Outcome::Live, 0),
            Since::After(position) => match self.judge(position, lineages) {
                Outcome::Recovered => {
                    // A publisher may hold its own event's position before subscribers see it.
                    top.offset = top.offset.max(position.offset);
                    (Outcome::Recovered, position.offset)
                }
                gap => (gap, 0),
            },
        };
        let (events, next) = self.history.after(after, self.visible, limit);
        if outcome == Outcome::Recovered && after < self.visible {
            let first = events.first().map(Event::offset);
            assert_eq!(first, Some(after + 1), "recovered with a hole: {}", self.name);
        }
        Resumed { top, outcome, events, next }
    }

    /// True if nothing would be lost by forgetting the channel except its epoch.
    pub(super) fn is_forgettable(&self, now_ms: i64, idle_ms: i64) -> bool {
        self.interest == 0
            && self.history.len() == 0
            && self.ids.len() == 0
            && self.visible == self.last
            && now_ms - self.touched_ms >= idle_ms
    }
}
