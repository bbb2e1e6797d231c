//! The server API: what services ask over `POST /api/<method>`, in the words of Centrifugo's, so
//! that its server libraries work unchanged.
//!
//! A *call* is one request: one command, or a batch of them. Each command is answered with a result
//! or an error of the client protocol's table, and the request with 200 once all of them are; 401,
//! 404, 405, 413 and 503 are only said before a call begins. Publishes go the way of every publish
//! (`publish`), histories that of every read (`reads`), and what concerns every shard is a *survey*
//! (`survey`): each shard is asked over its control lane and its tally comes back under a ticket.
//!
//! Invariants: a command that was started is answered exactly once, whatever became of the asker,
//! so a call always ends; commands of a batch that is not parallel are started one after the other,
//! each when the one before it is answered.
//!
//! Bounded: calls by [`CALLS_MAX`], commands by [`COMMANDS_MAX`], bodies by the pool of all bodies,
//! and what a batch answers by [`REPLIES_BYTES_MAX`].
//!
//! With authentication a call needs an API key: what it publishes and reads is asked channel by
//! channel, and what concerns clients and channels of everybody needs a key with `admin = true`.
//!
//! Deliberately absent: `skip_history` of publishes, which answers "not available": every event has
//! a position, and positions have no holes.
//!
//! Threads: the shard's. Tested over real sockets by `tests/tests/it/api.rs`, with curl and with
//! the Python library `cent`.

mod clients;
mod history;
pub mod presence;
mod publish;
mod request;
pub mod survey;

use super::Shard;
use super::http::Response;
use super::publish::Asker;
use crate::auth::Caller;
use bytes::Bytes;
use proto::centrifuge::ErrorCode;
use proto::envelope::write_json_string;
use request::Batch;
use std::collections::BTreeMap;
use survey::Round;

/// Calls under way at once on one shard.
const CALLS_MAX: usize = 4_096;

/// Commands of one batch.
const COMMANDS_MAX: usize = 1_000;

/// Commands of a parallel batch that are under way at once.
const PARALLEL_MAX: usize = 16;

/// Bytes of answers after which a batch starts no further command that reads.
const REPLIES_BYTES_MAX: usize = 4 << 20;

/// The longest message of an error, in bytes.
const MESSAGE_BYTES_MAX: usize = 300;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One event for one channel.
    Publish,
    /// One event for several channels.
    Broadcast,
    /// Several commands.
    Batch,
    /// What a channel's memory holds.
    History,
    /// Forgets that.
    HistoryRemove,
    /// Who is in a channel.
    Presence,
    /// How many are.
    PresenceStats,
    /// Channels that somebody subscribes.
    Channels,
    /// This server in numbers.
    Info,
    /// Subscribes clients.
    Subscribe,
    /// Ends subscriptions of clients.
    Unsubscribe,
    /// Ends clients.
    Disconnect,
    /// Moves the expiry of clients.
    Refresh,
}

impl Method {
    /// Every method by its name.
    const ALL: [(&'static str, Self); 13] = [
        ("publish", Self::Publish),
        ("broadcast", Self::Broadcast),
        ("batch", Self::Batch),
        ("history", Self::History),
        ("history_remove", Self::HistoryRemove),
        ("presence", Self::Presence),
        ("presence_stats", Self::PresenceStats),
        ("channels", Self::Channels),
        ("info", Self::Info),
        ("subscribe", Self::Subscribe),
        ("unsubscribe", Self::Unsubscribe),
        ("disconnect", Self::Disconnect),
        ("refresh", Self::Refresh),
    ];

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// Every name, for people.
    pub fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    code: ErrorCode,
    message: String,
}

impl Fault {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, message }
    }

    /// The request is wrong; the message says what to do.
    fn bad(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    fn busy() -> Self {
        Self::new(ErrorCode::TooManyRequests, "too much is under way; try again in a moment")
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{{\"code\":{},\"message\":", self.code.code()).as_bytes());
        write_json_string(out, &self.message);
        out.push(b'}');
    }
}

/// A result as JSON, or why there is none.
type Reply = Result<Vec<u8>, Fault>;

/// Names one command of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSlot {
    call: u64,
    at: u32,
}

/// One command of a call.
#[derive(Debug)]
struct Command {
    method: Method,
    body: Bytes,
    /// Channels of a broadcast.
    channels: u32,
    reply: Option<Reply>,
}

impl Command {
    fn new(method: Method, body: Bytes) -> Self {
        Self { method, body, channels: 0, reply: None }
    }
}

/// One request.
#[derive(Debug)]
struct Call {
    asker: Asker,
    /// With which rights.
    caller: Caller,
    batch: bool,
    commands: Vec<Command>,
    started: usize,
    under_way: usize,
    /// Commands that may be under way at once.
    window: usize,
    /// Bytes answered so far.
    answered: usize,
    /// Bytes of the body, charged to the shard's pool.
    held: usize,
}

/// The calls of a shard and the surveys that they wait for.
#[derive(Debug, Default)]
pub struct Calls {
    open: BTreeMap<u64, Call>,
    rounds: BTreeMap<u64, Round>,
    next: u64,
}

impl Calls {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Who called.
    fn caller(&self, slot: CallSlot) -> Caller {
        self.open.get(&slot.call).map(|call| call.caller.clone()).unwrap_or_default()
    }

    fn command(&mut self, slot: CallSlot) -> Option<&mut Command> {
        self.open.get_mut(&slot.call)?.commands.get_mut(slot.at as usize)
    }
}

impl Shard {
    /// The body of a call is complete.
    pub(super) fn start_call(&mut self, asker: Asker, caller: Caller, method: Method, body: Bytes) {
        if self.calls.open.len() >= CALLS_MAX {
            return self.answer(asker, single(Err(Fault::busy())));
        }
        let (commands, parallel) = match method {
            Method::Batch => match batch_of(&body) {
                Ok(batch) => batch,
                Err(fault) => return self.answer(asker, single(Err(fault))),
            },
            _ => (vec![Command::new(method, body.clone())], false),
        };
        let id = self.calls.next();
        self.publishes.hold(body.len());
        let call = Call {
            asker,
            caller,
            batch: method == Method::Batch,
            commands,
            started: 0,
            under_way: 0,
            window: if parallel { PARALLEL_MAX } else { 1 },
            answered: 0,
            held: body.len(),
        };
        self.calls.open.insert(id, call);
        self.run_call(id);
    }

    /// Starts what may start, and ends the call when all is answered.
    fn run_call(&mut self, id: u64) {
        while let Some(call) = self.calls.open.get_mut(&id)
            && call.started < call.commands.len()
            && call.under_way < call.window
        {
            let at = call.started;
            call.started += 1;
            call.under_way += 1;
            let full = call.answered > REPLIES_BYTES_MAX;
            let Some(command) = call.commands.get(at) else { return };
            let (method, body) = (command.method, command.body.clone());
            let slot = CallSlot { call: id, at: at as u32 };
            match self.start_command(slot, method, &body, full) {
                Ok(()) => {}
                Err(fault) => self.set_reply(slot, Err(fault)),
            }
        }
        let done = |call: &Call| call.under_way == 0 && call.started == call.commands.len();
        if self.calls.open.get(&id).is_some_and(done)
            && let Some(call) = self.calls.open.remove(&id)
        {
            self.publishes.let_go(call.held);
            self.answer(call.asker, response(call));
        }
    }

    /// Starts a command. `Err`: it is answered with that, and has done nothing.
    fn start_command(
        &mut self,
        slot: CallSlot,
        method: Method,
        body: &[u8],
        full: bool,
    ) -> Result<(), Fault> {
        let reads =
            matches!(method, Method::History | Method::Channels | Method::Info | Method::Presence);
        if full && reads {
            let message = "the answers of this batch are too long; ask the rest in another request";
            return Err(Fault::new(ErrorCode::LimitExceeded, message));
        }
        let own = matches!(
            method,
            Method::Publish
                | Method::Broadcast
                | Method::History
                | Method::Presence
                | Method::PresenceStats
                | Method::Batch
        );
        let everybodys = match self.calls.caller(slot) {
            Caller::Open => true,
            Caller::Service(key) => key.is_admin(),
            Caller::Anonymous | Caller::Client(_) => false,
        };
        if !own && !everybodys {
            self.stats.counters.auth_forbidden += 1;
            let message = format!("`{}` needs an API key with `admin = true`", method.name());
            return Err(Fault::new(ErrorCode::PermissionDenied, message));
        }
        match method {
            Method::Publish | Method::Broadcast => self.call_publish(slot, method, body),
            Method::History => self.call_history(slot, body),
            Method::Channels => self.call_channels(slot, body),
            Method::Info => self.call_info(slot, body),
            Method::Unsubscribe => self.call_unsubscribe(slot, body),
            Method::Disconnect => self.call_disconnect(slot, body),
            Method::Batch => Err(Fault::bad("a batch holds no batch; put its commands here")),
            Method::HistoryRemove => self.call_history_remove(slot, body),
            Method::Presence | Method::PresenceStats => self.call_presence(slot, method, body),
            Method::Subscribe => self.call_subscribe(slot, body),
            Method::Refresh => self.call_refresh(slot, body),
        }
    }

    /// A command that was started is answered.
    fn reply_call(&mut self, slot: CallSlot, reply: Reply) {
        self.set_reply(slot, reply);
        self.run_call(slot.call);
    }

    fn set_reply(&mut self, slot: CallSlot, reply: Reply) {
        let Some(call) = self.calls.open.get_mut(&slot.call) else { return };
        let Some(command) = call.commands.get_mut(slot.at as usize) else { return };
        debug_assert!(command.reply.is_none(), "a command is answered once");
        call.answered += reply.as_ref().map_or(0, Vec::len);
        call.under_way -= 1;
        command.reply = Some(reply);
    }
}

/// The commands of a batch, each still as it is written. One that cannot be read is answered by
/// itself, so what is checked here is only where each begins and ends.
fn batch_of(body: &Bytes) -> Result<(Vec<Command>, bool), Fault> {
    let batch: Batch<'_> = request::parse(Method::Batch, body)?;
    if batch.commands.len() > COMMANDS_MAX {
        let message = format!("`commands` has more than {COMMANDS_MAX}; send several batches");
        return Err(Fault::new(ErrorCode::LimitExceeded, message));
    }
    let command = |(at, command): (usize, &BTreeMap<String, &serde_json::value::RawValue>)| {
        let Some((name, body_of)) = command.iter().next().filter(|_| command.len() == 1) else {
            let message = format!("`commands[{at}]`: use one member, as in {{\"publish\":{{}}}}");
            return Err(Fault::bad(message));
        };
        let Some(method) = Method::parse(name) else {
            let shown: String = name.chars().take(60).collect();
            let message = format!("`commands[{at}]`: no `{shown}`; there are {}", Method::names());
            return Err(Fault::new(ErrorCode::MethodNotFound, message));
        };
        Ok(Command::new(method, body.slice_ref(body_of.get().as_bytes())))
    };
    let commands = batch.commands.iter().enumerate().map(command).collect::<Result<_, _>>()?;
    Ok((commands, batch.parallel.unwrap_or(false)))
}

/// The answer to a request of one command.
fn single(reply: Reply) -> Response {
    let mut out = Vec::new();
    write_reply(&mut out, "result", &reply);
    Response::json(200, out).with("cache-control", "no-store")
}

fn response(mut call: Call) -> Response {
    if !call.batch {
        let reply = call.commands.pop().and_then(|command| command.reply);
        return single(reply.unwrap_or_else(|| Err(Fault::bad("no command"))));
    }
    let mut out = Vec::with_capacity(call.answered + 32 * call.commands.len());
    out.extend_from_slice(b"{\"replies\":[");
    for (at, command) in call.commands.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if let Some(reply) = &command.reply {
            write_reply(&mut out, command.method.name(), reply);
        }
    }
    out.extend_from_slice(b"]}");
    Response::json(200, out).with("cache-control", "no-store")
}

/// `name` is what a result is called.
fn write_reply(out: &mut Vec<u8>, name: &str, reply: &Reply) {
    out.extend_from_slice(b"{\"");
    match reply {
        Ok(result) => {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(result);
        }
        Err(fault) => {
            out.extend_from_slice(b"error\":");
            fault.write(out);
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_name() {
        for (name, method) in Method::ALL {
            assert_eq!((Method::parse(name), method.name()), (Some(method), name));
        }
        assert_eq!(Method::parse("Publish"), None);
        assert_eq!(Method::parse(""), None);
    }

    #[test]
    fn a_batch_is_cut_into_its_commands_or_refused_as_a_whole() {
        let batch = |text: &str| batch_of(&Bytes::copy_from_slice(text.as_bytes()));
        let text = r#"{"commands":[{"publish":{"channel":"a","data":1}},{"info": {} }]}"#;
        let (commands, parallel) = batch(text).unwrap();
        let got: Vec<_> = commands.iter().map(|c| (c.method, &c.body[..])).collect();
        let first = (Method::Publish, &br#"{"channel":"a","data":1}"#[..]);
        assert_eq!((got, parallel), (vec![first, (Method::Info, &b"{}"[..])], false));
        assert!(batch(r#"{"commands":[],"parallel":true}"#).unwrap().1);
        let many = format!("{{\"commands\":[{}]}}", vec!["{\"info\":{}}"; 1_001].join(","));
        for (text, code) in [
            (r#"{"commands":[{"publish":{},"info":{}}]}"#, ErrorCode::BadRequest),
            (r#"{"commands":[{}]}"#, ErrorCode::BadRequest),
            (r#"{"commands":[1]}"#, ErrorCode::BadRequest),
            (r#"{"commands":[{"dance":{}}]}"#, ErrorCode::MethodNotFound),
            (r#"{"parallel":true}"#, ErrorCode::BadRequest),
            (r#"{"commands":[],"what":1}"#, ErrorCode::BadRequest),
            ("[]", ErrorCode::BadRequest),
            ("", ErrorCode::BadRequest),
            (&many, ErrorCode::LimitExceeded),
        ] {
            let fault = batch(text).unwrap_err();
            assert_eq!(fault.code, code, "{text}: {}", fault.message);
            assert!(!fault.message.is_empty() && fault.message.len() <= MESSAGE_BYTES_MAX);
        }
    }
}
