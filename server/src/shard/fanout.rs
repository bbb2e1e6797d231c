//! Fan-out: events of a channel to its live subscriptions on this shard.
//!
//! The loop of the product. A subscription that stands where the events begin and wants what the
//! one before it wanted costs a comparison, a look at its connection and a reference to the frames;
//! everything else (a late start, another format, a delta, a filter) goes the longer way.
//!
//! Deliberately absent: encodings (`frames`), the flush. Threads: the shard's. Counted by
//! `bench/counts`, tested through the wire.

use super::Shard;
use super::channels::{Entry, LocalChannel};
use super::client::ClientSession;
use super::connection::EndpointId;
use super::format::Format;
use super::frames::{Encodings, Stretch, TurnFrames};
use super::outbox::Outbox;
use crate::metrics::DropReason;
use proto::event::Event;
use proto::reason::CloseReason;
use smallvec::SmallVec;

/// Bytes of events that are encoded together: with each format of its subscribers, what a turn may
/// be over its bound.
const TOGETHER_BYTES: usize = crate::mesh::BATCH_BYTES_MAX;

impl Shard {
    /// Events that follow each other without a hole, to every live subscription of their channel.
    pub(super) fn deliver(&mut self, index: u32, events: &[Event]) {
        let Self { local, connections, streams, frames, dirty, dirty_streams, .. } = self;
        let Some(channel) = local.get(index) else { return };
        // Before the first join is answered nobody here is owed anything.
        let (Some(_), Some(first), Some(last)) = (channel.top, events.first(), events.last())
        else {
            return;
        };
        channel.top = Some(last.position());
        let (offset, after) = (first.offset(), last.offset() + 1);
        let mut broken: SmallVec<[EndpointId; 4]> = SmallVec::new();
        let mut recipients = 0_u64;
        let mut out = Fanout { channel: index, events, frames, encodings: Encodings::default() };
        // What some of them do not get, because they have it already or filter it out.
        let mut less = 0_u64;
        // What was last given to one that was not special.
        let mut usual: Option<(Format, Stretch)> = None;
        let LocalChannel { entries, newest, .. } = channel;
        for entry in entries {
            if !entry.is_live() || entry.next >= after {
                continue;
            }
            if offset > entry.next {
                broken.push(entry.endpoint);
                continue;
            }
            recipients += 1;
            let stretch = match usual {
                Some((format, stretch)) if entry.format == format && entry.next == offset => {
                    stretch
                }
                _ => {
                    // It may have had the first of them already.
                    let late = (entry.next - offset) as u32;
                    less += u64::from(late);
                    let before = entry.format;
                    let stretch = out.encode(entry, newest.as_ref(), late);
                    if before.is_filtered() {
                        let outbox = match entry.endpoint.split() {
                            Err(slot) => connections.slot(slot).map(|connection| {
                                (connection.session.client(), &mut connection.outbox)
                            }),
                            Ok(index) => streams
                                .get_mut(index)
                                .map(|stream| (stream.client.as_deref(), &mut stream.outbox)),
                        };
                        let (held_back, first) = out.gather_passing(entry, stretch, late, outbox);
                        less += held_back;
                        match entry.endpoint.split() {
                            Err(slot) if first => dirty.push(slot),
                            Ok(index) if first => dirty_streams.push(index),
                            _ => {}
                        }
                        entry.next = after;
                        continue;
                    }
                    usual = (late == 0 && entry.format == before).then_some((before, stretch));
                    stretch
                }
            };
            entry.next = after;
            match entry.endpoint.split() {
                Err(slot) => {
                    let Some(connection) = connections.slot(slot) else { continue };
                    if out.frames.gather(&mut connection.outbox.run, stretch) {
                        dirty.push(slot);
                    }
                }
                Ok(stream) => {
                    let Some(stream_slot) = streams.get_mut(stream) else { continue };
                    if out.frames.gather(&mut stream_slot.outbox.run, stretch) {
                        dirty_streams.push(stream);
                    }
                }
            }
        }
        channel.keep(last);
        self.stats.counters.messages_sent += recipients * events.len() as u64 - less;
        if recipients > 0 {
            self.delivered.extend(events.iter().map(|event| (event.accepted_us(), recipients)));
        }
        for endpoint in broken {
            self.stats.dropped(DropReason::HoleFound, 1);
            self.end_endpoint(endpoint, CloseReason::InsufficientState);
        }
    }
}

/// Events on their way to the subscriptions of a channel.
struct Fanout<'a> {
    channel: u32,
    events: &'a [Event],
    frames: &'a mut TurnFrames,
    encodings: Encodings,
}

impl Fanout<'_> {
    /// The frames for a subscription, without so many at the front; from here on it can be given
    /// deltas.
    fn encode(&mut self, entry: &mut Entry, newest: Option<&Event>, late: u32) -> Stretch {
        let Self { channel, events, frames, encodings } = self;
        let format = entry.format.unfiltered();
        entry.format = entry.format.based(true);
        if late > 0 && format.is_delta() && format == format.based(false) {
            // It holds no publication yet, so its first one has to be whole.
            return frames.encode(format, &events[late as usize..], None, *channel);
        }
        encodings.frames(format, events, newest, *channel, frames).after(late)
    }

    /// Gives a subscription those of its frames that pass its filter; returns how many do not, and
    /// whether its outbox was empty before.
    fn gather_passing(
        &mut self,
        entry: &Entry,
        stretch: Stretch,
        late: u32,
        of: Option<(Option<&ClientSession>, &mut Outbox)>,
    ) -> (u64, bool) {
        let Some((Some(own), outbox)) = of else { return (0, false) };
        let fresh = &self.events[late as usize..];
        let Some(filter) = own.client.filter(entry.index) else { return (0, false) };
        let passes = filter.passing(fresh);
        let held_back = (fresh.len() - passes.len()) as u64;
        let mut first = false;
        for at in passes {
            let one = Stretch { first: stretch.first + at, count: 1 };
            first |= self.frames.gather(&mut outbox.run, one);
        }
        (held_back, first)
    }
}

/// How many events at the front are delivered together: of one channel and epoch, following each
/// other, at most so many and so many bytes, but one in any case.
pub(super) fn together(events: &[Event], events_max: usize) -> usize {
    let mut bytes = events.first().map_or(0, Event::size);
    let mut follows = |pair: &[Event]| {
        let (one, next) = (&pair[0], &pair[1]);
        bytes += next.size();
        bytes <= TOGETHER_BYTES
            && next.offset() == one.offset() + 1
            && next.position().epoch == one.position().epoch
            && next.channel() == one.channel()
    };
    let more = events_max.saturating_sub(1);
    1 + events.windows(2).take(more).take_while(|pair| follows(pair)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::event::Draft;
    use proto::position::{Epoch, Position};

    fn event(channel: &str, epoch: u64, offset: u64, bytes: usize) -> Event {
        let data = vec![b'x'; bytes];
        let draft = Draft { channel, data: &data, ..Draft::default() };
        draft.build().unwrap().place(Position { epoch: Epoch(epoch), offset }, 0)
    }

    #[test]
    fn only_what_follows_is_delivered_together_and_never_beyond_a_bound() {
        let run = |count: u64, bytes| -> Vec<Event> {
            (1..=count).map(|offset| event("a", 1, offset, bytes)).collect()
        };
        let before = |last: Event| [run(2, 1), vec![last]].concat();
        for (name, events, events_max, expected) in [
            ("all of them", run(5, 1), 100, 5),
            ("no more than there is room for", run(5, 1), 3, 3),
            ("one without room", run(5, 1), 0, 1),
            ("one of any size", run(2, TOGETHER_BYTES + 1), 100, 1),
            ("bytes", run(9, TOGETHER_BYTES / 3), 100, 2),
            ("a hole", before(event("a", 1, 4, 1)), 100, 2),
            ("another epoch", before(event("a", 2, 3, 1)), 100, 2),
            ("another channel", before(event("b", 1, 3, 1)), 100, 2),
        ] {
            assert_eq!(together(&events, events_max), expected, "{name}");
        }
    }
}
