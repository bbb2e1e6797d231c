//! Publishing by clients: the same path as every publish, answered by the command's id.

use super::presence::author;
use super::{Client, Refusal};
use crate::auth::Action;
use crate::mesh::{Member, Place, Shown};
use crate::shard::Shard;
use crate::shard::session_ws::After;
use proto::answer::PublishAnswer;
use proto::centrifuge::{Data, ErrorCode, ErrorReply, PublishRequest, PublishResult, ReplyBody};
use proto::channel::ChannelName;
use proto::decode::{RejectCode, Rejection};

impl Shard {
    pub(super) fn client_publish(
        &mut self,
        client: &mut Client,
        id: u32,
        request: &PublishRequest<'_>,
    ) -> Result<After, Refusal> {
        self.stats.counters.messages_received += 1;
        let name = ChannelName::new(&request.channel).map_err(|_| ErrorCode::BadRequest)?;
        self.client_may(client, &name, Action::Publish)?;
        if request.data.bytes().len() > self.settings.limits.message_bytes_max as usize {
            return Err(ErrorCode::LimitExceeded.into());
        }
        Self::pend(client)?;
        // What Protobuf clients send has no type: JSON is what parses as such.
        let data = match request.data {
            Data::Binary(bytes)
                if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() =>
            {
                Data::Json(bytes)
            }
            data => data,
        };
        let channel_info = self
            .client_sub(client, name.as_str())
            .and_then(|at| client.subs[at].extra.as_deref()?.info.clone());
        let (id_bytes, identity) = (client.id.to_be_bytes(), client.identity.clone());
        let shown = Shown::default();
        let author = author(&Member { client: id_bytes, identity, channel_info, shown });
        let taken = self.publish_of_client(client.outlet.at, id, name, data, author);
        Ok(if taken { After::GoOn } else { After::Park })
    }

    /// What became of a client's publish.
    pub(in crate::shard) fn answered_client(&mut self, at: Place, id: u32, answer: &PublishAnswer) {
        let Some(client) = self.client_mut(at) else { return };
        client.pending -= 1;
        let to = client.outlet;
        let body = match answer.first_rejection() {
            _ if answer.accepted() > 0 => ReplyBody::Publish(PublishResult::default()),
            Some(rejection) => ReplyBody::Error(refusal(rejection)),
            // Not decided: the server was full before it got to it.
            None => ReplyBody::Error(ErrorCode::TooManyRequests.into()),
        };
        self.reply(to, id, body);
    }
}

fn refusal(rejection: &Rejection) -> ErrorReply<'_> {
    let code = match rejection.code {
        RejectCode::Forbidden => ErrorCode::PermissionDenied,
        RejectCode::Overloaded => ErrorCode::TooManyRequests,
        RejectCode::Unavailable | RejectCode::NotDurable => ErrorCode::Internal,
        RejectCode::TooLarge => ErrorCode::LimitExceeded,
        _ => ErrorCode::BadRequest,
    };
    ErrorReply { message: rejection.detail.as_str().into(), ..code.into() }
}
