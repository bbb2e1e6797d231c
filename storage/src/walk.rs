//! The one walk over the spool that history reads and aggregates share.
//!
//! A walk goes through the events that were synced when it began, in the order of the channel, as
//! far as one step may go, and hands those of one channel to a [`Gather`]. Segments and blocks that
//! cannot hold one in the range are skipped by their index; most other events are passed by after a
//! look at the channel's name. Invariant: a walk that goes on from its cursor meets every event
//! exactly once or ends with `Expired`, never with a silent hole.
//!
//! Deliberately absent: what becomes of an event, limits on answers. Any thread; nothing is kept
//! between steps but the cursor. Tested through `read` and `query`.

use crate::files::Files;
use crate::format::segment_name;
use crate::index::channel_hash;
use crate::parts::{Met, Part, Run, meet, parts};
use crate::read::{Bound, ReadError, Reader, STEP_BYTES_MAX};
use proto::channel::ChannelName;
use proto::event::{self, EventView};
use std::ops::ControlFlow;

/// The events that are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) channel: &'a ChannelName,
    /// With one, only its events.
    pub(crate) incarnation: Option<u32>,
    pub(crate) from: Bound,
    pub(crate) to: Bound,
}

/// How far a walk has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    /// The next event to look at.
    seq: u64,
    /// The segment that holds it and where its record begins, if known.
    place: Option<(u64, u64)>,
    /// What was synced when the walk began.
    end_seq: u64,
    /// An event in the range was met.
    begun: bool,
}

/// An event of the channel.
pub(crate) struct Found<'a> {
    pub(crate) view: EventView<'a>,
    pub(crate) image: &'a [u8],
    /// It is between the bounds.
    pub(crate) in_range: bool,
    /// The segment and the file offset, for errors.
    pub(crate) place: (u64, u64),
}

/// Takes what a walk finds.
pub(crate) trait Gather {
    /// Nothing more may be given in this step.
    fn is_full(&self) -> bool;
    /// The next event of the channel.
    fn take(&mut self, found: Found<'_>) -> Result<(), ReadError>;
}

impl<F: Files> Reader<F> {
    /// One step. Gives the cursor to go on from; `None`: everything has been met.
    pub(crate) fn walk<G: Gather>(
        &self,
        target: Target<'_>,
        from: Option<Cursor>,
        gather: &mut G,
    ) -> Result<Option<Cursor>, ReadError> {
        let snapshot = self.catalog.snapshot();
        let begin = Cursor { seq: 0, place: None, end_seq: snapshot.end_seq, begun: false };
        let hash = channel_hash(target.channel.as_str().as_bytes());
        let cursor = from.unwrap_or(begin);
        let mut walk = Walk { target, hash, cursor, looked: 0, full: false, gather };
        let parts = parts(snapshot);
        let start = if from.is_none() { self.first_part(&parts, target, hash)? } else { 0 };
        for part in &parts[start..] {
            let cursor = &walk.cursor;
            if part.end_seq() <= cursor.seq {
                continue;
            }
            if cursor.seq >= cursor.end_seq {
                break;
            }
            // Before the end is looked at: retention may have removed all that was left.
            if part.first_seq() > cursor.seq && cursor.begun {
                return Err(ReadError::Expired);
            }
            if part.first_seq() >= cursor.end_seq {
                break;
            }
            self.walk_part(part, &mut walk)?;
            if walk.full {
                return Ok(Some(walk.cursor));
            }
            walk.cursor.seq = part.end_seq();
        }
        Ok(None)
    }

    /// The newest segment that a walk may begin with which wants an incarnation's events from an
    /// offset on. A channel's incarnations and their offsets only rise, so it is the newest one
    /// whose first event of the channel is not behind that offset; a client that was away for a
    /// moment is not to cost a look at everything that is retained.
    fn first_part(
        &self,
        parts: &[Part<F::File>],
        target: Target<'_>,
        hash: u32,
    ) -> Result<usize, ReadError> {
        let (Some(incarnation), Bound::Offset(from)) = (target.incarnation, target.from) else {
            return Ok(0);
        };
        for (at, part) in parts.iter().enumerate().rev() {
            let first = self.first_of(part, target, hash)?;
            if first.is_some_and(|first| first <= (incarnation, from)) {
                return Ok(at);
            }
        }
        Ok(0)
    }

    /// Incarnation and offset of a channel's first event in a segment.
    fn first_of(
        &self,
        part: &Part<F::File>,
        target: Target<'_>,
        hash: u32,
    ) -> Result<Option<(u32, u64)>, ReadError> {
        let name = target.channel.as_str();
        if let Part::Sealed(info) = part
            && let Some(channels) = info.summary.as_ref().and_then(|it| it.channels.as_deref())
            && channels.binary_search(&hash).is_err()
        {
            return Ok(None);
        }
        let Some(file) = self.open(part)? else { return Ok(None) };
        let of = |block: &crate::index::Block| {
            block.channels.is_empty() || block.channels.binary_search(&hash).is_ok()
        };
        let mut first = None;
        for run in self.runs(part, of) {
            let found = meet(part, &*file, run, |met| {
                let front = met.image.get(event::HEADER_BYTES..event::HEADER_BYTES + name.len());
                if front != Some(name.as_bytes()) {
                    return Ok(ControlFlow::Continue(()));
                }
                let view = EventView::new(met.image)
                    .map_err(|e| damaged((part.first_seq(), met.at), &e))?;
                if view.channel() != name {
                    return Ok(ControlFlow::Continue(()));
                }
                let position = view.position();
                first = Some((position.epoch.incarnation(), position.offset));
                Ok(ControlFlow::Break(()))
            })?;
            if found.is_break() {
                break;
            }
        }
        Ok(first)
    }

    fn walk_part<G: Gather>(
        &self,
        part: &Part<F::File>,
        walk: &mut Walk<'_, G>,
    ) -> Result<(), ReadError> {
        if let Part::Sealed(info) = part
            && let Some(summary) = &info.summary
            && !walk.may_match(summary.channels.as_deref(), summary.time_us)
        {
            return Ok(());
        }
        let Some(file) = self.open(part)? else {
            return if walk.cursor.begun { Err(ReadError::Expired) } else { Ok(()) };
        };
        let runs = self.runs(part, |block| {
            let channels = (!block.channels.is_empty()).then_some(&*block.channels);
            let end_seq = block.first_seq + u64::from(block.count);
            let behind = walk.is_behind(block.offset.1);
            end_seq > walk.cursor.seq && !behind && walk.may_match(channels, block.time_us)
        });
        let segment = part.first_seq();
        for run in runs {
            let run = walk.rest_of(segment, run);
            if meet(part, &*file, run, |met| walk.meet(segment, &met))?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// One step under way.
struct Walk<'a, G> {
    target: Target<'a>,
    hash: u32,
    cursor: Cursor,
    /// Bytes looked at.
    looked: u64,
    /// The step is over although the walk is not.
    full: bool,
    gather: &'a mut G,
}

impl<G: Gather> Walk<'_, G> {
    fn may_match(&self, channels: Option<&[u32]>, time_us: (i64, i64)) -> bool {
        let from = !matches!(self.target.from, Bound::TimeUs(from) if time_us.1 < from);
        let to = !matches!(self.target.to, Bound::TimeUs(to) if time_us.0 > to);
        let channel = channels.is_none_or(|channels| channels.binary_search(&self.hash).is_ok());
        from && to && channel
    }

    /// True if offsets up to this one cannot be wanted. Only where they are unambiguous: otherwise
    /// whoever asks is told of what was passed, too.
    fn is_behind(&self, last: u64) -> bool {
        self.target.incarnation.is_some()
            && matches!(self.target.from, Bound::Offset(from) if last < from)
    }

    /// A run without what has been met, as far as it is known where that ends.
    fn rest_of(&self, segment: u64, run: Run) -> Run {
        match self.cursor.place {
            Some((of, at)) if of == segment && (run.at..run.end).contains(&at) => {
                Run { at, seq: self.cursor.seq, ..run }
            }
            _ => run,
        }
    }

    fn meet(&mut self, segment: u64, met: &Met<'_>) -> Result<ControlFlow<()>, ReadError> {
        if met.seq < self.cursor.seq {
            return Ok(ControlFlow::Continue(()));
        }
        if met.seq >= self.cursor.end_seq {
            return Ok(ControlFlow::Break(()));
        }
        if self.looked >= STEP_BYTES_MAX || self.gather.is_full() {
            self.full = true;
            self.cursor.seq = met.seq;
            self.cursor.place = Some((segment, met.at));
            return Ok(ControlFlow::Break(()));
        }
        self.looked += met.end - met.at;
        // The name is the first field of an image: most events are passed by without more.
        let name = self.target.channel.as_str();
        let front = met.image.get(event::HEADER_BYTES..event::HEADER_BYTES + name.len());
        if front == Some(name.as_bytes()) {
            self.meet_own(segment, met)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// An event whose channel's name begins like the one looked for.
    fn meet_own(&mut self, segment: u64, met: &Met<'_>) -> Result<(), ReadError> {
        let place = (segment, met.at);
        let view = EventView::new(met.image).map_err(|e| damaged(place, &e))?;
        if view.channel() != self.target.channel.as_str() {
            return Ok(());
        }
        let position = view.position();
        if self.target.incarnation.is_some_and(|wanted| wanted != position.epoch.incarnation()) {
            return Ok(());
        }
        let (offset, time_us) = (position.offset, view.time_us());
        let from = match self.target.from {
            Bound::Open => true,
            Bound::Offset(from) => offset >= from,
            Bound::TimeUs(from) => time_us >= from,
        };
        let to = match self.target.to {
            Bound::Open => true,
            Bound::Offset(to) => offset <= to,
            Bound::TimeUs(to) => time_us <= to,
        };
        let in_range = from && to;
        self.cursor.begun |= in_range;
        self.gather.take(Found { view, image: met.image, in_range, place })
    }
}

/// An image that its checksum vouches for and that still is none.
pub(crate) fn damaged(place: (u64, u64), what: &event::EventError) -> ReadError {
    ReadError::Damaged { file: segment_name(place.0), at: place.1, what: what.to_string() }
}
