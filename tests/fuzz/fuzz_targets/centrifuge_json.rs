//! Centrifugo's protocol in JSON: `serde_json` agrees on what is JSON, what was understood is
//! understood again when written in either encoding, and what is refused says so safely. Options,
//! messages and notices of ours are looked for in every payload.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
use proto::centrifuge as api;

#[cfg(fuzzing)]
#[path = "../shared/centrifuge_prost.rs"]
mod pb;

#[cfg(fuzzing)]
mod target {
    use super::pb;
    use proto::centrifuge::{
        ClientMessage, Command, Commands, Data, Encoding, Fault, Limits, Notice, Replies, Request,
        SnapshotRequest, SubscribeOptions, read_emulation, write_command, write_reply,
    };
    use serde_json::value::RawValue;

    const LIMITS: Limits = Limits { commands_max: 16, entries_max: 8, ..Limits::DEFAULT };

    pub fn run(input: &[u8]) {
        let mut syntax = None;
        let mut count = 0;
        for read in Commands::new(Encoding::Json, input, LIMITS) {
            assert!(syntax.is_none(), "something came after the end");
            count += 1;
            match read {
                Ok(command) => reads_again(&command),
                Err(error) => {
                    let text = error.to_string();
                    assert!(serde_json::from_str::<&RawValue>(&text).is_err(), "{text}");
                    syntax = (!error.fault.is_content()).then_some(error.fault);
                }
            }
        }
        assert!((1..=LIMITS.commands_max + 1).contains(&count));
        match syntax {
            // All of it was read, so all of it is JSON.
            None => {
                let all = serde_json::Deserializer::from_slice(input).into_iter::<&RawValue>();
                assert_eq!(all.map(|value| value.expect("JSON")).count(), count);
            }
            Some(Fault::Json("nested too deep")) => {}
            Some(Fault::Json(what)) => {
                let mut all = serde_json::Deserializer::from_slice(input).into_iter::<&RawValue>();
                assert!(all.any(|value| value.is_err()), "not JSON: {what}");
            }
            Some(_) => {}
        }
        for reply in Replies::new(Encoding::Json, input, LIMITS).map_while(Result::ok) {
            // As with commands: compared as written, where line breaks have become spaces.
            let (mut json, mut twice) = (Vec::new(), Vec::new());
            write_reply(&mut json, Encoding::Json, &reply);
            let mut all = Replies::new(Encoding::Json, &json, LIMITS);
            let again = all.next().expect("a reply").expect("what we wrote");
            write_reply(&mut twice, Encoding::Json, &again);
            assert_eq!(twice, json);
            assert!(all.next().is_none());
        }
        let _ = read_emulation(Encoding::Json, input, &LIMITS);
    }

    fn reads_again(command: &Command<'_>) {
        let mut json = Vec::new();
        write_command(&mut json, Encoding::Json, command);
        let mut all = Commands::new(Encoding::Json, &json, LIMITS);
        let again = all.next().expect("a command").expect("what we wrote");
        assert!(all.next().is_none());
        // Line breaks in payloads have become spaces.
        let mut twice = Vec::new();
        write_command(&mut twice, Encoding::Json, &again);
        assert_eq!(twice, json);

        let mut protobuf = Vec::new();
        write_command(&mut protobuf, Encoding::Protobuf, &again);
        let mut all = Commands::new(Encoding::Protobuf, &protobuf, LIMITS);
        let other = all.next().expect("a command").expect("what we wrote");
        assert_eq!(pb::Command::from(other), pb::Command::from(again));
        extensions(command);
    }

    fn extensions(command: &Command<'_>) {
        let data = match &command.request {
            Some(Request::Subscribe(request)) => request.data,
            Some(Request::Send(request)) => request.data,
            Some(Request::Rpc(request)) => request.data,
            _ => return,
        };
        let mut out = Vec::new();
        if let Ok(options) = SubscribeOptions::parse(data) {
            options.write(&mut out);
            assert_eq!(SubscribeOptions::parse(Data::Json(&out)), Ok(options));
        }
        out.clear();
        if let Ok(message) = ClientMessage::parse(data) {
            message.write(&mut out);
            assert_eq!(ClientMessage::parse(Data::Json(&out)), Ok(message));
        }
        out.clear();
        if let Ok(request) = SnapshotRequest::parse(data, 4) {
            request.write(&mut out);
            assert_eq!(SnapshotRequest::parse(Data::Json(&out), 4), Ok(request));
        }
        out.clear();
        if let Ok(Some(notice)) = Notice::parse(data) {
            notice.write(&mut out);
            assert_eq!(Notice::parse(Data::Json(&out)), Ok(Some(notice)));
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
