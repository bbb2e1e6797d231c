//! An event stream as a browser reads it, over whichever HTTP version it came.

use super::oracle::Verdict;
use super::track::{Message, Track, from_stream, parse};
use super::wire::Scene;
use proto::position::{Cursor, Position};
use proto::sse::Parser;
use server::config::namespace::OutboxPolicy;

/// The largest event of a stream.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct EventStream {
    parser: Parser,
    tracks: Vec<Track>,
    envelope: bool,
    last_id: String,
}

impl EventStream {
    /// A stream that was asked for with this `Last-Event-ID`.
    pub fn new(channels: &[String], envelope: bool, resume: Option<&str>) -> Self {
        let garbled = |channel: &String| Track::new(channel, None, resume.is_some());
        let tracks = match (resume, channels) {
            (Some(text), [channel]) => {
                let since: Option<Position> = text.parse().ok();
                vec![Track::new(channel, since, since.is_none())]
            }
            (Some(text), _) => match text.parse::<Cursor>() {
                Ok(cursor) if cursor.positions.len() == channels.len() => {
                    let both = channels.iter().zip(cursor.positions);
                    both.map(|(channel, since)| Track::new(channel, since, false)).collect()
                }
                _ => channels.iter().map(garbled).collect(),
            },
            (None, _) => channels.iter().map(garbled).collect(),
        };
        Self { parser: Parser::new(EVENT_BYTES_MAX), tracks, envelope, last_id: String::new() }
    }

    /// Its channels.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The last event id, if there was one.
    pub fn resume(&self) -> Option<String> {
        (!self.last_id.is_empty()).then(|| self.last_id.clone())
    }

    /// Takes bytes of the body.
    pub fn feed(&mut self, bytes: &[u8], scene: &mut Scene<'_>) -> Verdict {
        let mut events = Vec::new();
        // Line by line, so that every id is seen.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.parser.feed(line, &mut events).map_err(|error| error.to_string())?;
            let with_id = self.parser.last_event_id() != self.last_id;
            if with_id {
                self.last_id = self.parser.last_event_id().to_owned();
            }
            let bare = events.is_empty();
            for event in events.drain(..) {
                self.event(&event.event, &event.data, with_id, scene)?;
            }
            if with_id && self.tracks.len() > 1 {
                self.check_cursor()?;
            } else if with_id && bare {
                self.bare_id()?;
            }
        }
        Ok(())
    }

    fn event(&mut self, kind: &str, text: &str, with_id: bool, scene: &mut Scene<'_>) -> Verdict {
        let several = self.tracks.len() > 1;
        if kind == "message" && !several && !self.envelope {
            let track = &mut self.tracks[0];
            let serial = from_stream(scene.oracle, &track.channel, text)?;
            let position = self.last_id.parse().map_err(|_| format!("no id at #{serial}"))?;
            if !with_id {
                return Err(format!("#{serial} has no id of its own"));
            }
            return track.event(scene.oracle, position, serial, false);
        }
        let message = parse(scene.oracle, text)?;
        if matches!(&message, Message::Control(control) if control.is_farewell()) {
            return Ok(());
        }
        let (Message::Control(super::track::Control { channel, .. })
        | Message::Event { channel, .. }) = &message;
        let Some(track) = self.tracks.iter_mut().find(|track| track.channel == *channel) else {
            return Err(format!("{channel} was not asked for"));
        };
        match message {
            Message::Control(control) => {
                if kind != format!("shardcast.{}", control.name) {
                    return Err(format!("{control:?} in an event `{kind}`"));
                }
                // The policy is the first channel's.
                let first = scene.channels.iter().any(|name| {
                    *name == track.channel
                        && scene.options.policy_of(name) == OutboxPolicy::DropOldest
                });
                track.control(scene.oracle, &control, several || first)?;
                let own = control.position.map(|position| position.to_string());
                if !several && own.is_some_and(|own| own != self.last_id) {
                    return Err(format!("{control:?} under the id {}", self.last_id));
                }
                scene.trace.note(scene.now_ms, format_args!("{}: {control:?}", track.channel));
                Ok(())
            }
            Message::Event { position, serial, .. } => {
                if !several && self.last_id != position.to_string() {
                    return Err(format!("{position} under the id {}", self.last_id));
                }
                track.event(scene.oracle, position, serial, several)
            }
        }
    }

    /// One channel, live from here: the stream says where that is.
    fn bare_id(&mut self) -> Verdict {
        let track = &mut self.tracks[0];
        if track.started || track.since.is_some() || track.garbled {
            return Err(format!("{}: a bare id {}", track.channel, self.last_id));
        }
        track.at = self.last_id.parse().ok();
        track.started = true;
        Ok(())
    }

    /// A cursor is never ahead of what was sent, and never forgets what the client came with.
    fn check_cursor(&mut self) -> Verdict {
        let last_id = &self.last_id;
        let cursor: Cursor = last_id.parse().map_err(|_| format!("not a cursor: {last_id}"))?;
        if cursor.positions.len() != self.tracks.len() {
            return Err(format!("a cursor of other channels: {last_id}"));
        }
        for (track, position) in self.tracks.iter_mut().zip(cursor.positions) {
            let (name, known) = (track.channel.clone(), track.at.or(track.since));
            let bad =
                |why: &str| Err(format!("{name}: the cursor {why}: {position:?} at {known:?}"));
            match (track.at, position) {
                (Some(at), Some(position)) => {
                    let same = at.epoch.incarnation() == position.epoch.incarnation();
                    if !same || at.offset != position.offset {
                        return bad("is not where the stream is");
                    }
                }
                (Some(_), None) => return bad("forgets the stream"),
                (None, Some(position)) if track.since.is_some() => {
                    if Some(position) != track.since {
                        return bad("is not what was asked for");
                    }
                }
                (None, Some(_)) if track.garbled => return bad("hides a gap"),
                (None, Some(position)) if !track.may_stand_at(position) => {
                    return bad("is not where the notice left the stream");
                }
                (None, Some(position)) => {
                    track.at = Some(position);
                    track.started = true;
                }
                (None, None) if track.since.is_some() => return bad("forgets what was asked for"),
                (None, None) if track.garbled => return bad("hides that nothing was known"),
                (None, None) => {}
            }
        }
        Ok(())
    }
}
