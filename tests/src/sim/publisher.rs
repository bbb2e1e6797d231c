//! Publishers over HTTP/1.1: bodies with a length or in chunks, pipelined or not, sent again after
//! a cut.

use super::net::Read;
use super::oracle::Verdict;
use super::request::Request;
use super::wire::{Answered, Answers, Scene, Wire, head};
use std::collections::VecDeque;

/// Requests that wait for their answer on one connection.
const PIPELINE_MAX: usize = 3;

/// See the module.
#[derive(Debug, Default)]
pub struct Publisher {
    wire: Option<Wire>,
    answers: Answers,
    /// Written, in order.
    asked: VecDeque<Request>,
    /// To be written again.
    again: VecDeque<Request>,
    not_before_ms: u64,
    ending: bool,
}

impl Publisher {
    /// True if nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.again.is_empty()
    }

    /// What it waits for, in words.
    pub fn waits_for(&self) -> String {
        let socket = self.wire.as_ref().map(|wire| (wire.socket, wire.unsaid()));
        let requests = self.asked.iter().chain(&self.again);
        let sizes: Vec<usize> = requests.map(|request| request.serials.len()).collect();
        format!("{} asked of {sizes:?} items on (socket, unsaid) {socket:?}", self.asked.len())
    }

    /// Queues a request from outside.
    pub fn order(&mut self, request: Request) {
        self.again.push_back(request);
    }

    /// Its turn.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> Verdict {
        if self.wire.is_none() {
            if scene.now_ms < self.not_before_ms || scene.calm && self.again.is_empty() {
                return Ok(());
            }
            self.not_before_ms = scene.now_ms + scene.chance.range(1, 300);
            self.wire = Wire::connect(scene);
            self.answers = Answers::default();
            self.ending = false;
        }
        self.ask(scene);
        let Some(wire) = &mut self.wire else { return Ok(()) };
        wire.write(scene.net, scene.chance);
        if wire.unsaid() == 0 && !self.asked.is_empty() && scene.chance.per_mille(20) {
            // Nothing more will be asked here; what was asked is still answered.
            scene.net.client_end(wire.socket);
            self.ending = true;
        }
        match wire.read(scene.net, scene.chance) {
            Read::Bytes(bytes) => self.heard(&bytes, scene),
            Read::Nothing => Ok(()),
            Read::End | Read::Reset => {
                self.lose(scene);
                Ok(())
            }
        }
    }

    fn ask(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = &mut self.wire else { return };
        if self.ending || self.asked.len() >= PIPELINE_MAX || wire.unsaid() > 0 {
            return;
        }
        let rested = scene.now_ms >= self.not_before_ms;
        if !self.asked.is_empty() && !scene.chance.per_mille(30) {
            return;
        }
        let request = match self.again.pop_front() {
            Some(request) => request,
            None if scene.calm || !rested => return,
            None => Request::draw(scene),
        };
        self.not_before_ms = scene.now_ms + scene.chance.size(200);
        let (target, content_type, body) = request.write(scene.oracle);
        if scene.chance.per_mille(500) {
            let length = body.len().to_string();
            let fields = [("content-type", content_type), ("content-length", &length)];
            wire.say(&head("POST", &target, &fields));
            wire.say(&body);
        } else {
            let fields = [("content-type", content_type), ("transfer-encoding", "chunked")];
            wire.say(&head("POST", &target, &fields));
            let mut rest = &body[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(scene.chance.size(rest.len() as u64) as usize);
                wire.say(format!("{:x}\r\n", piece.len()).as_bytes());
                wire.say(piece);
                wire.say(b"\r\n");
                rest = after;
            }
            wire.say(b"0\r\n\r\n");
        }
        self.asked.push_back(request);
    }

    fn heard(&mut self, mut bytes: &[u8], scene: &mut Scene<'_>) -> Verdict {
        while !bytes.is_empty() {
            let (used, answered) = self.answers.feed(bytes)?;
            bytes = &bytes[used..];
            match answered {
                None => {}
                Some(Answered::Stream(_)) => return Err("a publish became a stream".to_owned()),
                Some(Answered::Whole(head, body)) => {
                    let refused = head.status == 503 && head.fields.get("retry-after").is_some();
                    let Some(request) = self.asked.pop_front() else {
                        // Refused at accept, before anything was asked.
                        if matches!(head.status, 503 | 408) {
                            continue;
                        }
                        return Err(format!("an answer nobody asked for: {}", head.status));
                    };
                    request.judge(scene.oracle, head.status, &body)?;
                    let count = request.serials.len();
                    let status = head.status;
                    scene.trace.note(scene.now_ms, format_args!("publish {count} -> {status}"));
                    if refused && (scene.calm || scene.chance.per_mille(500)) {
                        self.again.push_back(request);
                    }
                    self.ending |= !head.keep_alive;
                }
            }
        }
        Ok(())
    }

    /// The connection is gone: what was not answered is sent again, or not.
    fn lose(&mut self, scene: &mut Scene<'_>) {
        if let Some(wire) = self.wire.take() {
            wire.close(scene.net);
        }
        for request in std::mem::take(&mut self.asked) {
            if scene.calm || scene.chance.per_mille(700) {
                self.again.push_back(request);
            }
        }
        self.not_before_ms = scene.now_ms + scene.chance.size(500);
    }
}
