//! What is written reads back the same, in both encodings, and others read the same.

use super::api::*;
use super::arbitrary;
use super::{command, commands, pb, replies, written};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;

proptest! {
    #[test]
    fn a_command_is_the_same_after_both_encodings_and_to_others(sent in arbitrary::command()) {
        let json = written(|out| write_command(out, Encoding::Json, &sent));
        prop_assert!(!json.contains(&b'\n'));
        prop_assert!(serde_json::from_slice::<Value>(&json).unwrap().is_object());
        prop_assert_eq!(command(Encoding::Json, &json), Ok(sent.clone()));

        let protobuf = written(|out| write_command(out, Encoding::Protobuf, &sent));
        let expected = pb::Command::from(sent);
        let theirs = pb::Command::decode_length_delimited(&*protobuf);
        prop_assert_eq!(theirs.as_ref(), Ok(&expected));
        let ours = command(Encoding::Protobuf, &protobuf).unwrap();
        prop_assert_eq!(pb::Command::from(ours), expected.clone());
        // And what others write we read.
        let ours = expected.encode_length_delimited_to_vec();
        let ours = command(Encoding::Protobuf, &ours).unwrap();
        prop_assert_eq!(pb::Command::from(ours), expected);
    }

    #[test]
    fn a_reply_is_the_same_after_both_encodings_and_to_others(sent in arbitrary::reply()) {
        let json = written(|out| write_reply(out, Encoding::Json, &sent));
        prop_assert!(!json.contains(&b'\n'));
        prop_assert!(serde_json::from_slice::<Value>(&json).unwrap().is_object());
        prop_assert_eq!(replies(Encoding::Json, &json), [Ok(sent.clone())]);

        let protobuf = written(|out| write_reply(out, Encoding::Protobuf, &sent));
        let expected = pb::Reply::from(sent);
        let theirs = pb::Reply::decode_length_delimited(&*protobuf);
        prop_assert_eq!(theirs.as_ref(), Ok(&expected));
        let ours = replies(Encoding::Protobuf, &protobuf).remove(0).unwrap();
        prop_assert_eq!(pb::Reply::from(ours), expected);
    }

    #[test]
    fn a_push_is_a_reply_without_id(push in arbitrary::push()) {
        let reply = Reply { id: 0, body: Some(ReplyBody::Push(push.clone())) };
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let alone = written(|out| write_push(out, encoding, &push));
            prop_assert_eq!(alone, written(|out| write_reply(out, encoding, &reply)));
        }
    }

    #[test]
    fn pieces_joined_are_one_frame(
        sent in proptest::collection::vec(arbitrary::command(), 1..5),
        back in proptest::collection::vec(arbitrary::reply(), 1..5),
    ) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let mut frame = Vec::new();
            for (at, command) in sent.iter().enumerate() {
                if at > 0 {
                    frame.extend_from_slice(encoding.separator());
                }
                write_command(&mut frame, encoding, command);
            }
            let read: Vec<_> = commands(encoding, &frame).into_iter().map(Result::unwrap).collect();
            let theirs = |commands: Vec<Command<'_>>| -> Vec<_> {
                commands.into_iter().map(pb::Command::from).collect()
            };
            prop_assert_eq!(theirs(read), theirs(sent.clone()));
            frame.clear();
            for (at, reply) in back.iter().enumerate() {
                if at > 0 {
                    frame.extend_from_slice(encoding.separator());
                }
                write_reply(&mut frame, encoding, reply);
            }
            let read = replies(encoding, &frame).into_iter().map(Result::unwrap);
            let theirs = |replies: Vec<Reply<'_>>| -> Vec<_> {
                replies.into_iter().map(pb::Reply::from).collect()
            };
            prop_assert_eq!(theirs(read.collect()), theirs(back.clone()));
        }
    }

    #[test]
    fn no_damage_to_a_frame_panics_and_what_it_says_is_safe(
        sent in arbitrary::command(),
        at: proptest::sample::Index,
        byte: u8,
        protobuf: bool,
    ) {
        let encoding = if protobuf { Encoding::Protobuf } else { Encoding::Json };
        let mut frame = written(|out| write_command(out, encoding, &sent));
        let at = at.index(frame.len());
        frame[at] = byte;
        for error in commands(encoding, &frame).into_iter().filter_map(Result::err) {
            prop_assert!(serde_json::from_str::<Value>(&error.to_string()).is_err());
        }
    }
}
