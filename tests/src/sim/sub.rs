//! One channel of one client of the client protocol: what it asked for, where it stands, and what
//! may come next.

use super::oracle::{Serial, Verdict};
use super::track::from_stream;
use super::wire::Scene;
use proto::centrifuge::{Data, Publication, Request, SubscribeRequest, SubscribeResult};
use proto::position::{Epoch, Position};

/// A channel it wants.
#[derive(Debug)]
pub struct Sub {
    pub channel: String,
    /// What it holds, of this connection or an earlier one.
    pub at: Option<Position>,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not subscribed; again from then on.
    Off(u64),
    /// Asked for, with or without a position.
    Asked { recover: bool },
    /// Subscribed.
    On,
    /// Asked to end: what is on its way may still come.
    Leaving,
}

impl Sub {
    /// The command that asks for it, from where it stands.
    pub fn subscribe(&self) -> Request<'_> {
        let mut request = SubscribeRequest {
            channel: self.channel.as_str().into(),
            recoverable: true,
            join_leave: true,
            ..SubscribeRequest::default()
        };
        if let Some(at) = self.at {
            request.recover = true;
            request.epoch = at.epoch.to_string().into();
            request.offset = at.offset;
        }
        Request::Subscribe(request)
    }

    /// The start of a subscription.
    pub fn subscribed(&mut self, result: &SubscribeResult<'_>, scene: &mut Scene<'_>) -> Verdict {
        let State::Asked { recover } = self.state else {
            return Err(format!("{}: subscribed in {:?}", self.channel, self.state));
        };
        let bad = |why: &str| Err(format!("{}: {why}: {result:?} at {:?}", self.channel, self.at));
        let Ok(epoch) = result.epoch.parse::<Epoch>() else { return bad("no epoch") };
        if result.was_recovering != recover || result.recovered && !recover {
            return bad("not what was asked");
        }
        let held = self.at.filter(|_| recover);
        scene.oracle.count_recovery(held.is_some(), result.recovered);
        if let Some(held) = held.filter(|held| !result.recovered && held.epoch == epoch)
            && held.offset == result.offset
        {
            return bad("not recovered, and nothing was missing");
        }
        let mut at = Position { epoch, offset: result.offset };
        if result.recovered && held.is_none_or(|held| held.offset != at.offset) {
            return bad("not from where it stood");
        }
        if !result.recovered && !result.publications.is_empty() {
            return bad("a part of what it missed");
        }
        for publication in &result.publications {
            at = next(&self.channel, at, publication, scene)?;
        }
        (self.at, self.state) = (Some(at), State::On);
        Ok(())
    }
}

/// The next publication after a position.
pub fn next(
    channel: &str,
    at: Position,
    publication: &Publication<'_>,
    scene: &mut Scene<'_>,
) -> Result<Position, String> {
    if publication.offset != at.offset + 1 {
        return Err(format!("{channel}: offset {} after {at}", publication.offset));
    }
    let position = Position { offset: publication.offset, ..at };
    let serial = recognise(channel, publication.data, scene)?;
    scene.oracle.delivered += 1;
    scene.oracle.bind(channel, position, serial)?;
    Ok(position)
}

/// In JSON text and bytes are strings; in Protobuf all is bytes.
fn recognise(channel: &str, data: Data<'_>, scene: &Scene<'_>) -> Result<Serial, String> {
    match data {
        Data::None => Err(format!("{channel}: a publication without data")),
        Data::Json(json) if json.starts_with(b"\"") => {
            let text: String = serde_json::from_slice(json).map_err(|e| e.to_string())?;
            from_stream(scene.oracle, channel, &text)
        }
        Data::Text(text) => from_stream(scene.oracle, channel, text),
        Data::Json(bytes) | Data::Binary(bytes) => scene.oracle.recognise(channel, bytes),
    }
}
