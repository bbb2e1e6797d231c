//! Commands, one after the other, and those that need no more than an answer.

use super::{Client, PENDING_MAX, Refusal};
use crate::driver::ConnId;
use crate::shard::Shard;
use crate::shard::connection::Stamp;
use crate::shard::session_ws::After;
use proto::centrifuge::{
    ClientMessage, Command, Commands, ConnectResult, DisconnectCode, ErrorCode, Limits, Outcome,
    PingResult, RPC_SNAPSHOT, ReplyBody, Request, UnsubscribeResult,
};

impl Shard {
    /// Carries out the commands of a frame.
    pub(super) fn on_commands(&mut self, conn: ConnId, client: &mut Client, frame: &[u8]) -> After {
        let mut commands = Commands::new(client.encoding, frame, Limits::DEFAULT);
        while let Some(command) = commands.next() {
            let after = match command {
                Ok(command) => self.on_command(conn, client, command),
                Err(error) => match error.outcome() {
                    Outcome::Reply { id, code } if client.connected => {
                        self.reply_error(conn, client.encoding, id, code);
                        After::GoOn
                    }
                    Outcome::Reply { .. } => {
                        self.disconnect(conn, DisconnectCode::BadRequest, Some("connect first"))
                    }
                    Outcome::Disconnect(code) => {
                        self.disconnect(conn, code, Some(&error.to_string()))
                    }
                },
            };
            match after {
                After::GoOn => {}
                After::Park => {
                    client.held = commands.rest().to_vec();
                    return After::Park;
                }
                After::Over => return After::Over,
            }
        }
        After::GoOn
    }

    fn on_command(&mut self, conn: ConnId, client: &mut Client, command: Command<'_>) -> After {
        let Command { id, request } = command;
        let Some(request) = request else {
            if std::mem::take(&mut client.pong_due) {
                return After::GoOn;
            }
            return self.disconnect(
                conn,
                DisconnectCode::BadRequest,
                Some("a pong without a ping"),
            );
        };
        if client.connected == matches!(request, Request::Connect(_)) {
            let detail = if client.connected { "connected already" } else { "connect first" };
            return self.disconnect(conn, DisconnectCode::BadRequest, Some(detail));
        }
        let carried_out = match request {
            Request::Connect(_) => {
                self.client_connect(conn, client, id);
                Ok(After::GoOn)
            }
            Request::Subscribe(request) => self.client_subscribe(conn, client, id, &request),
            Request::Unsubscribe(request) => {
                self.client_unsubscribe(conn, client, &request.channel);
                let body = ReplyBody::Unsubscribe(UnsubscribeResult::default());
                self.reply(conn, client.encoding, id, body);
                Ok(After::GoOn)
            }
            Request::Publish(request) => self.client_publish(conn, client, id, &request),
            Request::History(request) => self.client_history(conn, client, id, &request),
            Request::Ping(_) => {
                self.reply(conn, client.encoding, id, ReplyBody::Ping(PingResult::default()));
                Ok(After::GoOn)
            }
            // Nothing acts on these yet; what is no message of ours is the application's.
            Request::Send(request) => {
                let _ = ClientMessage::parse(request.data);
                Ok(After::GoOn)
            }
            Request::Rpc(request) if request.method == RPC_SNAPSHOT => {
                Err(ErrorCode::NotAvailable.into())
            }
            Request::Rpc(_) => Err(ErrorCode::MethodNotFound.into()),
            Request::Presence(request) => {
                self.client_presence(conn, client, id, &request.channel, false)
            }
            Request::PresenceStats(request) => {
                self.client_presence(conn, client, id, &request.channel, true)
            }
            Request::Refresh(_) | Request::SubRefresh(_) => Err(ErrorCode::NotAvailable.into()),
        };
        match carried_out {
            Ok(after) => after,
            Err(Refusal::Reply(code)) => {
                self.reply_error(conn, client.encoding, id, code);
                After::GoOn
            }
            Err(Refusal::Disconnect(code)) => self.disconnect(conn, code, None),
        }
    }

    fn client_connect(&mut self, conn: ConnId, client: &mut Client, id: u32) {
        client.connected = true;
        client.pinged = Stamp::at(self.now.ms);
        self.schedule_heartbeat(conn);
        let name = uuid(client.id);
        let result = ConnectResult {
            client: name.as_str().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ping: self.settings.limits.heartbeat_s,
            pong: true,
            ..ConnectResult::default()
        };
        self.reply(conn, client.encoding, id, ReplyBody::Connect(result));
    }

    /// Counts a command that is answered later.
    pub(super) fn pend(client: &mut Client) -> Result<(), Refusal> {
        if client.pending >= PENDING_MAX {
            return Err(ErrorCode::TooManyRequests.into());
        }
        client.pending += 1;
        Ok(())
    }
}

/// Random bits with the version and the variant of a random UUID.
pub(super) fn version_4(bits: u128) -> u128 {
    (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
}

/// The bits of a UUID's text.
pub(in crate::shard) fn uuid_bits(text: &str) -> Option<u128> {
    let dashed = text.len() == 36 && [8, 13, 18, 23].map(|at| text.as_bytes()[at]) == *b"----";
    let digits: String = text.split('-').collect();
    let hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if dashed && hex { u128::from_str_radix(&digits, 16).ok() } else { None }
}

/// A random UUID (RFC 9562 section 5.4) from 128 random bits, as text.
pub(super) fn uuid(bits: u128) -> String {
    let hex = format!("{:032x}", version_4(bits));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_client_is_named_by_a_random_uuid() {
        assert_eq!(super::uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(super::uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(super::uuid_bits(&super::uuid(7)), Some(super::version_4(7)));
        for text in
            ["", "7", "00000000000040008000000000000007", "g0000000-0000-4000-8000-000000000000"]
        {
            assert_eq!(super::uuid_bits(text), None, "{text}");
        }
    }
}
