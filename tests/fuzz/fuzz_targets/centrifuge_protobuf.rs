//! Centrifugo's protocol in Protobuf: `prost` takes what we take and reads the same in it, and what
//! it takes and we do not is content, or one of the things where we are stricter by intention.
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
    use prost::Message as _;
    use proto::centrifuge::{
        Command, Commands, Encoding, Fault, Limits, Replies, read_emulation, write_command,
        write_reply,
    };
    use proto::protobuf::{Reader, WireError};

    const LIMITS: Limits = Limits { commands_max: 16, entries_max: 8, ..Limits::DEFAULT };

    pub fn run(input: &[u8]) {
        let mut pieces = Reader::new(input);
        for read in Commands::new(Encoding::Protobuf, input, LIMITS) {
            let theirs = match pieces.message() {
                Ok(Some(piece)) => pb::Command::decode(piece),
                // The frame ended, or its next length is broken.
                _ => {
                    assert!(matches!(
                        read.expect_err("no message").fault,
                        Fault::Empty | Fault::Wire(_)
                    ));
                    break;
                }
            };
            match (read, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    reads_again(&ours);
                    assert_eq!(pb::Command::from(ours), theirs.without_idle_fields());
                }
                (Ok(ours), Err(error)) => panic!("{error}: {ours:?}"),
                (Err(ours), Ok(theirs)) => stricter(ours.fault, &theirs),
                (Err(_), Err(_)) => {}
            }
        }
        for reply in Replies::new(Encoding::Protobuf, input, LIMITS).map_while(Result::ok) {
            let mut written = Vec::new();
            write_reply(&mut written, Encoding::Protobuf, &reply);
            let theirs = pb::Reply::decode_length_delimited(&*written).expect("what we wrote");
            assert_eq!(theirs, pb::Reply::from(reply.clone()));
            let mut json = Vec::new();
            write_reply(&mut json, Encoding::Json, &reply);
            assert!(Replies::new(Encoding::Json, &json, LIMITS).all(|again| again.is_ok()));
        }
        let _ = read_emulation(Encoding::Protobuf, input, &LIMITS);
    }

    /// Where prost reads something and we refuse.
    fn stricter(fault: Fault, theirs: &pb::Command) {
        match fault {
            Fault::TwoMethods => assert!(theirs.methods() > 1),
            Fault::UnknownMethod => assert!(theirs.methods() == 0 && theirs.id != 0),
            Fault::MissingId => assert!(theirs.methods() == 1 && theirs.id == 0),
            fault if fault.is_content() => {}
            // It cuts numbers to their width, and skips groups.
            Fault::Range(_) | Fault::Wire(WireError::WireType) | Fault::TooManyCommands => {}
            fault => panic!("{fault}: {theirs:?}"),
        }
    }

    fn reads_again(command: &Command<'_>) {
        let mut written = Vec::new();
        write_command(&mut written, Encoding::Protobuf, command);
        let mut all = Commands::new(Encoding::Protobuf, &written, LIMITS);
        assert_eq!(all.next(), Some(Ok(command.clone())));
        assert!(all.next().is_none());
        // In JSON the payload is another one, but it is a command all the same.
        let mut json = Vec::new();
        write_command(&mut json, Encoding::Json, command);
        let mut all = Commands::new(Encoding::Json, &json, LIMITS);
        assert_eq!(all.next().expect("a command").expect("what we wrote").id, command.id);
        assert!(all.next().is_none());
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
