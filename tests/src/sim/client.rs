//! Clients of the client protocol, in JSON and in Protobuf, as an SDK would be: they connect and
//! subscribe in one frame, come back after a cut with the positions they hold, unsubscribe and
//! subscribe again, publish, and ask who is there.
//!
//! What is checked: after a subscription's start every publication is the next one, in the answer
//! to a subscribe as well as in what follows it; after a cut that holds on from the position that
//! was held, unless the server says that it does not recover; and nothing comes for a channel that
//! is not subscribed.

use super::net::Read;
use super::oracle::{Kind, Verdict};
use super::request::data;
use super::sub::{State, Sub, next};
use super::wire::{Answered, Answers, Scene, Wire};
use proto::centrifuge::{
    Command, ConnectRequest, Data, Encoding, Limits as FrameLimits, PresenceRequest,
    PublishRequest, Push, PushBody, Replies, ReplyBody, Request, UnsubscribeRequest, write_command,
};
use proto::position::Position;
use proto::ws::{self, Decoder, Limits, Role};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub struct SdkClient {
    encoding: Encoding,
    subs: Vec<Sub>,
    link: Option<Link>,
    /// Times in a thousand it reads when it could.
    eagerness: u64,
    deflate: bool,
    not_before_ms: u64,
}

/// A connection.
#[derive(Debug)]
struct Link {
    wire: Wire,
    answers: Answers,
    decoder: Option<Box<Decoder>>,
    /// Its name, once it is connected.
    client: String,
    next_id: u32,
    /// By command: what was asked.
    asked: BTreeMap<u32, Asked>,
    leaving: bool,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish,
    Presence(usize),
}

impl SdkClient {
    /// Draws one.
    pub fn draw(scene: &mut Scene<'_>) -> Self {
        let mut channels = scene.channels.to_vec();
        scene.chance.shuffle(&mut channels);
        channels.truncate(scene.chance.range(1, 5) as usize);
        let sub = |channel| Sub { channel, at: None, state: State::Off(0) };
        Self {
            encoding: scene.chance.pick(&[Encoding::Json, Encoding::Protobuf]),
            subs: channels.into_iter().map(sub).collect(),
            link: None,
            eagerness: scene.chance.pick(&[1_000, 1_000, 300, 20]),
            deflate: scene.chance.per_mille(300),
            not_before_ms: 0,
        }
    }

    /// The channels and where it stands on each, if it is subscribed.
    pub fn standing(&self) -> Vec<(&str, Option<Position>)> {
        let live = self.link.as_ref().is_some_and(|link| !link.leaving);
        let at = |sub: &Sub| sub.at.filter(|_| live && sub.state == State::On);
        self.subs.iter().map(|sub| (&sub.channel[..], at(sub))).collect()
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
        let connected = !link.client.is_empty();
        if !scene.calm && !scene.chance.per_mille(self.eagerness) {
            link.wire.write(scene.net, scene.chance);
            return Ok(());
        }
        if connected && (scene.calm || scene.chance.per_mille(60)) {
            self.act(scene);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        link.wire.write(scene.net, scene.chance);
        match link.wire.read(scene.net, scene.chance) {
            Read::Bytes(bytes) => self.heard(&bytes, scene)?,
            Read::Nothing if !scene.calm && scene.chance.per_mille(2) => self.leave(scene),
            Read::Nothing => {}
            Read::End | Read::Reset => self.leave(scene),
        }
        Ok(())
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        self.not_before_ms = scene.now_ms + scene.chance.size(400);
        let Some(mut wire) = Wire::connect(scene) else { return };
        let format = if self.encoding == Encoding::Protobuf { "?format=protobuf" } else { "" };
        let target = format!("/connection/websocket{format}");
        let offer = [("sec-websocket-extensions", "permessage-deflate")];
        let offer = if self.deflate { &offer[..] } else { &[] };
        let mut out = Vec::new();
        let _ = ws::handshake::write_request(&mut out, "localhost", &target, [7; 16], offer);
        wire.say(&out);
        self.link = Some(Link {
            wire,
            answers: Answers::default(),
            decoder: None,
            client: String::new(),
            next_id: 0,
            asked: BTreeMap::new(),
            leaving: false,
        });
    }

    /// The first frame: connect and every subscribe.
    fn begin(&mut self, scene: &mut Scene<'_>) {
        let mut commands = vec![(Asked::Connect, Request::Connect(ConnectRequest::default()))];
        for (at, sub) in self.subs.iter_mut().enumerate() {
            sub.state = State::Asked { recover: sub.at.is_some() };
            commands.push((Asked::Subscribe(at), sub.subscribe()));
        }
        let Some(link) = &mut self.link else { return };
        link.say(self.encoding, scene, commands);
    }

    /// Something of its own.
    fn act(&mut self, scene: &mut Scene<'_>) {
        let Some(link) = &mut self.link else { return };
        let at = scene.chance.index(self.subs.len());
        let sub = &mut self.subs[at];
        let what = scene.chance.range(0, 10);
        match sub.state {
            State::Off(from_ms) if scene.now_ms >= from_ms => {
                sub.state = State::Asked { recover: sub.at.is_some() };
                link.say(self.encoding, scene, vec![(Asked::Subscribe(at), sub.subscribe())]);
            }
            State::On if scene.calm => {}
            State::On if what < 2 => {
                sub.state = State::Leaving;
                let channel = sub.channel.as_str().into();
                let request = Request::Unsubscribe(UnsubscribeRequest { channel });
                link.say(self.encoding, scene, vec![(Asked::Unsubscribe(at), request)]);
            }
            State::On if what < 4 => {
                let channel = sub.channel.as_str().into();
                let request = Request::Presence(PresenceRequest { channel });
                link.say(self.encoding, scene, vec![(Asked::Presence(at), request)]);
            }
            State::On if what < 7 => {
                let pad = scene.chance.size(scene.options.event_bytes) as usize;
                let make = |serial| data(Kind::Json, serial, pad);
                let serial = scene.oracle.create(&sub.channel, Kind::Json, false, make);
                scene.oracle.attempt(serial);
                let bytes = scene.oracle.sent(serial).data.clone();
                let data = match self.encoding {
                    Encoding::Json => Data::Json(&bytes),
                    Encoding::Protobuf => Data::Binary(&bytes),
                };
                let channel = sub.channel.as_str().into();
                let request = Request::Publish(PublishRequest { channel, data });
                link.say(self.encoding, scene, vec![(Asked::Publish, request)]);
            }
            _ => {}
        }
    }

    fn heard(&mut self, mut bytes: &[u8], scene: &mut Scene<'_>) -> Verdict {
        let Some(link) = &mut self.link else { return Ok(()) };
        while link.decoder.is_none() && !bytes.is_empty() {
            let (used, answered) = link.answers.feed(bytes)?;
            bytes = &bytes[used..];
            match answered {
                None => {}
                Some(Answered::Whole(head, _)) if matches!(head.status, 503 | 408) => {
                    self.leave(scene);
                    return Ok(());
                }
                Some(Answered::Stream(101)) => {
                    let deflate = self.deflate;
                    let limits = Limits { message_bytes_max: 8 << 20, fragments_max: 1, deflate };
                    link.decoder = Some(Box::new(Decoder::new(Role::Client, limits)));
                    self.begin(scene);
                    return self.heard_frames(bytes, scene);
                }
                Some(other) => return Err(format!("a client was answered {other:?}")),
            }
        }
        self.heard_frames(bytes, scene)
    }

    fn heard_frames(&mut self, mut bytes: &[u8], scene: &mut Scene<'_>) -> Verdict {
        let mut scratch = Vec::new();
        while !bytes.is_empty() {
            let Some(link) = self.link.as_mut().filter(|link| !link.leaving) else { return Ok(()) };
            let Some(decoder) = &mut link.decoder else { return Ok(()) };
            let (used, message) = decoder.feed(bytes, &mut scratch).map_err(|e| e.to_string())?;
            bytes = &bytes[used..];
            let frame = match message {
                None => continue,
                Some(ws::Message::Text(text)) if self.encoding == Encoding::Json => text.as_bytes(),
                Some(ws::Message::Binary(data)) if self.encoding == Encoding::Protobuf => data,
                Some(ws::Message::Close { code, reason }) => {
                    scene.trace.note(scene.now_ms, format_args!("client: {code:?} {reason}"));
                    if reason.is_empty() || code.is_some_and(|code| (3_500..5_000).contains(&code))
                    {
                        return Err(format!("sent away for good: {code:?} {reason:?}"));
                    }
                    link.leaving = true;
                    return Ok(());
                }
                Some(other) => return Err(format!("not of this encoding: {other:?}")),
            };
            self.heard_replies(frame, scene)?;
        }
        Ok(())
    }

    fn heard_replies(&mut self, frame: &[u8], scene: &mut Scene<'_>) -> Verdict {
        let limits = FrameLimits { entries_max: usize::MAX, ..FrameLimits::DEFAULT };
        for reply in Replies::new(self.encoding, frame, limits) {
            let reply = reply.map_err(|e| format!("{e}: {}", String::from_utf8_lossy(frame)))?;
            match reply.body {
                None => {
                    // A ping: the pong is the empty command.
                    let pong = Command { id: 0, request: None };
                    let Some(link) = &mut self.link else { return Ok(()) };
                    link.frame(self.encoding, scene, &[pong]);
                }
                Some(ReplyBody::Push(push)) => self.heard_push(&push, scene)?,
                Some(body) => self.heard_answer(reply.id, &body, scene)?,
            }
        }
        Ok(())
    }

    fn heard_push(&mut self, push: &Push<'_>, scene: &mut Scene<'_>) -> Verdict {
        let Some(sub) = self.subs.iter_mut().find(|sub| sub.channel == push.channel) else {
            return Err(format!("a push for {:?}, which is not ours", push.channel));
        };
        match &push.body {
            Some(PushBody::Publication(publication)) => match (sub.state, sub.at) {
                (State::On | State::Leaving, Some(at)) => {
                    sub.at = Some(next(&sub.channel, at, publication, scene)?);
                    Ok(())
                }
                state => Err(format!("{}: a publication in {state:?}", sub.channel)),
            },
            Some(PushBody::Join(_) | PushBody::Leave(_)) => Ok(()),
            other => Err(format!("{}: {other:?}", sub.channel)),
        }
    }

    fn heard_answer(&mut self, id: u32, body: &ReplyBody<'_>, scene: &mut Scene<'_>) -> Verdict {
        let Some(link) = &mut self.link else { return Ok(()) };
        let asked = link.asked.remove(&id).ok_or(format!("nobody asked #{id}: {body:?}"))?;
        match (asked, body) {
            (Asked::Connect, ReplyBody::Connect(result)) if !result.client.is_empty() => {
                link.client = result.client.to_string();
                Ok(())
            }
            (Asked::Subscribe(at), ReplyBody::Subscribe(result)) => {
                self.subs[at].subscribed(result, scene)
            }
            // It may try again.
            (Asked::Subscribe(at), ReplyBody::Error(error)) if error.temporary => {
                self.subs[at].state = State::Off(scene.now_ms + scene.chance.size(500));
                Ok(())
            }
            (Asked::Unsubscribe(at), ReplyBody::Unsubscribe(_)) => {
                self.subs[at].state = State::Off(scene.now_ms + scene.chance.size(2_000));
                Ok(())
            }
            (Asked::Presence(at), ReplyBody::Presence(result)) => {
                let here = result.presence.iter().any(|(name, _)| *name == *link.client);
                if here || self.subs[at].state != State::On {
                    return Ok(());
                }
                Err(format!("{} is not in {}", link.client, self.subs[at].channel))
            }
            // Where nobody may ask, or it has unsubscribed meanwhile.
            (Asked::Presence(_), ReplyBody::Error(error)) if matches!(error.code, 103 | 108) => {
                Ok(())
            }
            (Asked::Publish, ReplyBody::Publish(_)) => Ok(()),
            (Asked::Publish | Asked::Presence(_), ReplyBody::Error(error)) if error.temporary => {
                Ok(())
            }
            (asked, body) => Err(format!("{asked:?} was answered {body:?}")),
        }
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        let Some(link) = self.link.take() else { return };
        link.wire.close(scene.net);
        for sub in &mut self.subs {
            sub.state = State::Off(0);
        }
        self.not_before_ms = scene.now_ms + scene.chance.size(500);
    }
}

impl Link {
    /// Asks for things in one frame.
    fn say(
        &mut self,
        encoding: Encoding,
        scene: &mut Scene<'_>,
        requests: Vec<(Asked, Request<'_>)>,
    ) {
        let mut commands = Vec::new();
        for (asked, request) in requests {
            self.next_id += 1;
            self.asked.insert(self.next_id, asked);
            commands.push(Command { id: self.next_id, request: Some(request) });
        }
        self.frame(encoding, scene, &commands);
    }

    fn frame(&mut self, encoding: Encoding, scene: &mut Scene<'_>, commands: &[Command<'_>]) {
        let mut text = Vec::new();
        for (at, command) in commands.iter().enumerate() {
            if at > 0 {
                text.extend_from_slice(encoding.separator());
            }
            write_command(&mut text, encoding, command);
        }
        let opcode = match encoding {
            Encoding::Json => ws::Opcode::Text,
            Encoding::Protobuf => ws::Opcode::Binary,
        };
        let mut out = Vec::new();
        let key = Some((scene.chance.any() as u32).to_be_bytes());
        ws::write_frame_with(&mut out, opcode, true, key, &text);
        self.wire.say(&out);
    }
}
