//! Subscribers: WebSocket raw and in envelopes, event streams of one channel and of several. Some
//! read eagerly, some seldom; all come back after a cut with what they hold.

use super::net::Read;
use super::oracle::{Kind, RawRun, Verdict};
use super::request::data;
use super::stream::EventStream;
use super::track::{Message, Track, parse};
use super::wire::{Answered, Answers, Scene, Wire, escape, head};
use proto::position::Position;
use proto::ws::{self, Decoder, Limits, Role};
use server::config::namespace::OutboxPolicy;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Raw,
    Envelope,
    Stream { envelope: bool },
}

/// See the module.
#[derive(Debug)]
pub struct Subscriber {
    mode: Mode,
    channels: Vec<String>,
    /// `since=` or `Last-Event-ID` of the next connection.
    resume: Option<String>,
    link: Option<Link>,
    /// Times in a thousand it reads when it could.
    eagerness: u64,
    publishes: bool,
    /// Offers permessage-deflate.
    deflate: bool,
    not_before_ms: u64,
}

/// A connection.
#[derive(Debug)]
struct Link {
    wire: Wire,
    answers: Answers,
    live: Option<Live>,
    lineage: u32,
    leaving: bool,
}

#[derive(Debug)]
enum Live {
    Socket { decoder: Box<Decoder>, track: Track, raw: RawRun },
    Stream(EventStream),
}

impl Subscriber {
    /// Draws one.
    pub fn draw(scene: &mut Scene<'_>) -> Self {
        let mode = match scene.chance.range(0, 10) {
            0..2 => Mode::Raw,
            2..6 => Mode::Envelope,
            6 => Mode::Stream { envelope: true },
            _ => Mode::Stream { envelope: false },
        };
        let count = match mode {
            Mode::Stream { envelope: false } => scene.chance.range(1, 4) as usize,
            _ => 1,
        };
        let mut channels = scene.channels.to_vec();
        scene.chance.shuffle(&mut channels);
        channels.truncate(count);
        Self {
            mode,
            channels,
            resume: None,
            link: None,
            eagerness: scene.chance.pick(&[1_000, 1_000, 300, 20]),
            publishes: scene.chance.per_mille(300),
            deflate: scene.chance.per_mille(400),
            not_before_ms: 0,
        }
    }

    /// The channels and where it stands on each, if it is connected; `None` for raw messages.
    pub fn standing(&self) -> Option<Vec<(&str, Option<Position>)>> {
        if self.mode == Mode::Raw {
            return None;
        }
        let live = self.link.as_ref().filter(|link| !link.leaving).and_then(|l| l.live.as_ref());
        let tracks = match live {
            Some(Live::Socket { track, .. }) => std::slice::from_ref(track),
            Some(Live::Stream(stream)) => stream.tracks(),
            None => return Some(self.channels.iter().map(|name| (&name[..], None)).collect()),
        };
        let at = |track: &Track| track.at.filter(|_| track.started);
        Some(tracks.iter().map(|track| (&track.channel[..], at(track))).collect())
    }

    /// Its turn.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> Verdict {
        if self.link.is_none() {
            if scene.now_ms < self.not_before_ms {
                return Ok(());
            }
            self.connect(scene);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        if !scene.calm && !scene.chance.per_mille(self.eagerness) {
            link.wire.write(scene.net, scene.chance);
            return Ok(());
        }
        let publishing = self.publishes && !scene.calm && scene.chance.per_mille(20);
        if let (Some(Live::Socket { track, .. }), true) = (&link.live, publishing) {
            let channel = track.channel.clone();
            publish(&mut link.wire, &channel, scene);
        }
        link.wire.write(scene.net, scene.chance);
        match link.wire.read(scene.net, scene.chance) {
            Read::Bytes(bytes) => self.heard(&bytes, scene)?,
            Read::Nothing => {
                let leaves = !scene.calm && scene.chance.per_mille(2);
                if leaves {
                    self.leave(scene);
                }
            }
            Read::End | Read::Reset => self.leave(scene),
        }
        Ok(())
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        self.not_before_ms = scene.now_ms + scene.chance.size(400);
        // Now and then somebody comes with nonsense.
        let nonsense = !scene.calm && self.mode != Mode::Raw && scene.chance.per_mille(20);
        if nonsense {
            self.resume = Some(scene.chance.pick(&["", "x", "1:1", "m00000000,-"]).to_owned());
        }
        let Some(mut wire) = Wire::connect(scene) else { return };
        let held = self.resume.clone();
        let resume = held.as_deref();
        match self.mode {
            Mode::Stream { envelope } => {
                let in_query = resume.is_some() && scene.chance.per_mille(300);
                let mut target = "/v1/sse?".to_owned();
                for channel in &self.channels {
                    target.push_str(&format!("channel={}&", escape(channel)));
                }
                target.push_str(if envelope { "format=envelope" } else { "format=data" });
                if let Some(since) = resume.filter(|_| in_query) {
                    target.push_str(&format!("&since={}", escape(since)));
                }
                let id = resume.filter(|id| !in_query && !id.is_empty());
                let fields: Vec<_> = id.map(|id| ("last-event-id", id)).into_iter().collect();
                if !in_query && id.is_none() {
                    self.resume = None;
                }
                wire.say(&head("GET", &target, &fields));
            }
            Mode::Raw | Mode::Envelope => {
                let mut target = format!("/v1/channels/{}/ws", escape(&self.channels[0]));
                if self.mode == Mode::Envelope {
                    target.push_str("?format=envelope");
                    if let Some(since) = resume {
                        target.push_str(&format!("&since={}", escape(since)));
                    }
                }
                let mut out = Vec::new();
                let offer = [("sec-websocket-extensions", "permessage-deflate")];
                let offer = if self.deflate { &offer[..] } else { &[] };
                let _ =
                    ws::handshake::write_request(&mut out, "localhost", &target, [7; 16], offer);
                wire.say(&out);
            }
        }
        let lineage = scene.oracle.lineage();
        let answers = Answers::default();
        self.link = Some(Link { wire, answers, live: None, lineage, leaving: false });
    }

    fn heard(&mut self, mut bytes: &[u8], scene: &mut Scene<'_>) -> Verdict {
        let Some(link) = &mut self.link else { return Ok(()) };
        while link.live.is_none() && !bytes.is_empty() {
            let (used, answered) = link.answers.feed(bytes)?;
            bytes = &bytes[used..];
            match answered {
                None => {}
                Some(Answered::Whole(head, _)) if matches!(head.status, 503 | 408) => {
                    self.leave(scene);
                    return Ok(());
                }
                Some(Answered::Whole(head, body)) => {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    return Err(format!("a subscription got {}: {text}", head.status));
                }
                Some(Answered::Stream(status)) => {
                    if !matches!((self.mode, status), (Mode::Stream { .. }, 200) | (_, 101)) {
                        return Err(format!("a subscription began with {status}"));
                    }
                    let deflate = self.deflate;
                    let (channels, resume) = (&self.channels, &self.resume);
                    link.live = Some(begin(self.mode, channels, resume, link.lineage, deflate));
                }
            }
        }
        match &mut link.live {
            None => {}
            Some(Live::Stream(stream)) => {
                stream.feed(bytes, scene)?;
                self.resume = stream.resume().or(self.resume.take());
            }
            Some(Live::Socket { .. }) => self.heard_frames(bytes, scene)?,
        }
        Ok(())
    }

    fn heard_frames(&mut self, mut bytes: &[u8], scene: &mut Scene<'_>) -> Verdict {
        let Some(Link { wire, live: Some(Live::Socket { decoder, track, raw }), leaving, .. }) =
            &mut self.link
        else {
            return Ok(());
        };
        let mut scratch = Vec::new();
        while !bytes.is_empty() && !*leaving {
            let (used, message) = decoder.feed(bytes, &mut scratch).map_err(|e| e.to_string())?;
            bytes = &bytes[used..];
            match message {
                None => {}
                Some(ws::Message::Text(text)) if self.mode == Mode::Envelope => {
                    socket_message(track, text, scene)?;
                    // A run that was dropped can still be fetched: it is not behind us.
                    if !text.contains("\"shardcast\":\"notice\"") {
                        self.resume = track.at.map(|at| at.to_string());
                    }
                }
                Some(ws::Message::Text(text)) => {
                    raw.serials.push(scene.oracle.recognise(&raw.channel, text.as_bytes())?);
                    scene.oracle.delivered += 1;
                }
                Some(ws::Message::Binary(data)) => {
                    if self.mode == Mode::Envelope {
                        return Err("a binary message among envelopes".to_owned());
                    }
                    raw.serials.push(scene.oracle.recognise(&raw.channel, data)?);
                    scene.oracle.delivered += 1;
                }
                Some(ws::Message::Ping(payload)) => {
                    let mut pong = Vec::new();
                    let key = Some([1, 2, 3, 4]);
                    ws::write_frame_with(&mut pong, ws::Opcode::Pong, true, key, payload);
                    wire.say(&pong);
                }
                Some(ws::Message::Pong(_)) => return Err("a pong nobody asked for".to_owned()),
                Some(ws::Message::Close { code, reason }) => {
                    scene.trace.note(scene.now_ms, format_args!("closed {code:?} {reason}"));
                    raw.closed_at = reason
                        .split_once("position=")
                        .and_then(|(_, position)| position.parse().ok());
                    let ahead =
                        track.at.zip(raw.closed_at).is_some_and(|(at, c)| c.offset > at.offset);
                    if ahead && self.mode == Mode::Envelope {
                        return Err(format!("closed at {reason} with {:?} received", track.at));
                    }
                    *leaving = true;
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        let Some(link) = self.link.take() else { return };
        if let Some(Live::Socket { raw, .. }) = link.live {
            scene.oracle.add_raw(raw);
        }
        link.wire.close(scene.net);
        self.not_before_ms = scene.now_ms + scene.chance.size(500);
    }
}

/// The stream begins.
fn begin(
    mode: Mode,
    channels: &[String],
    resume: &Option<String>,
    lineage: u32,
    deflate: bool,
) -> Live {
    if let Mode::Stream { envelope } = mode {
        return Live::Stream(EventStream::new(channels, envelope, resume.as_deref()));
    }
    let since: Option<Position> = resume.as_ref().and_then(|text| text.parse().ok());
    let garbled = resume.is_some() && since.is_none();
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1, deflate };
    let channel = channels[0].clone();
    Live::Socket {
        decoder: Box::new(Decoder::new(Role::Client, limits)),
        track: Track::new(&channel, since, garbled),
        raw: RawRun { channel, lineage, serials: Vec::new(), closed_at: None },
    }
}

fn socket_message(track: &mut Track, text: &str, scene: &mut Scene<'_>) -> Verdict {
    match parse(scene.oracle, text)? {
        Message::Control(control) if control.is_farewell() => Ok(()),
        Message::Control(control) => {
            let policy = scene.options.policy_of(&track.channel);
            track.control(scene.oracle, &control, policy == OutboxPolicy::DropOldest)?;
            let Track { channel, .. } = track;
            scene.trace.note(scene.now_ms, format_args!("{channel}: {control:?}"));
            Ok(())
        }
        Message::Event { channel, position, serial } => {
            if channel != track.channel {
                return Err(format!("{channel} on a subscription of {}", track.channel));
            }
            track.event(scene.oracle, position, serial, false)
        }
    }
}

/// Sends an event over the client's own socket.
fn publish(wire: &mut Wire, channel: &str, scene: &mut Scene<'_>) {
    let kind = scene.chance.pick(&[Kind::Text, Kind::Binary]);
    let pad = scene.chance.size(scene.options.event_bytes) as usize;
    let serial = scene.oracle.create(channel, kind, false, |serial| data(kind, serial, pad));
    scene.oracle.attempt(serial);
    let payload = scene.oracle.sent(serial).data.clone();
    let opcode = if kind == Kind::Text { ws::Opcode::Text } else { ws::Opcode::Binary };
    let (first, rest) = payload.split_at(scene.chance.index(payload.len()));
    let mut out = Vec::new();
    let key = Some((scene.chance.any() as u32).to_be_bytes());
    ws::write_frame_with(&mut out, opcode, false, key, first);
    ws::write_frame_with(&mut out, ws::Opcode::Continuation, true, key, rest);
    wire.say(&out);
}
