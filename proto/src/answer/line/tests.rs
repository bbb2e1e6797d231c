//! Lines as their readers see them, `prost` among them.

use super::*;
use crate::channel::ChannelName;
use crate::decode::{RejectCode, Rejection};
use crate::position::{Epoch, Position};
use prost::Message;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(uint64, tag = "1")]
    accepted: u64,
    #[prost(uint64, tag = "2")]
    rejected: u64,
    #[prost(uint64, tag = "3")]
    duplicates: u64,
    #[prost(message, repeated, tag = "4")]
    positions: Vec<Placed>,
    #[prost(message, repeated, tag = "5")]
    channels: Vec<Sum>,
    #[prost(uint64, tag = "6")]
    channels_omitted_events: u64,
    #[prost(message, repeated, tag = "7")]
    rejections: Vec<Refused>,
    #[prost(btree_map = "string, uint64", tag = "8")]
    rejected_by_code: BTreeMap<String, u64>,
    #[prost(uint64, optional, tag = "9")]
    stopped_at: Option<u64>,
    #[prost(uint64, tag = "10")]
    upto: u64,
    #[prost(string, tag = "11")]
    end: String,
    #[prost(string, tag = "12")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Placed {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(string, tag = "2")]
    channel: String,
    #[prost(string, tag = "3")]
    position: String,
    #[prost(bool, tag = "4")]
    duplicate: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(uint64, tag = "2")]
    count: u64,
    #[prost(uint64, tag = "3")]
    duplicates: u64,
    #[prost(string, tag = "4")]
    first: String,
    #[prost(string, tag = "5")]
    last: String,
}

#[derive(Clone, PartialEq, Message)]
struct Refused {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(string, tag = "2")]
    code: String,
    #[prost(string, tag = "3")]
    detail: String,
}

fn filled(mut answer: PublishAnswer) -> PublishAnswer {
    let number = answer.number(&ChannelName::new("c").unwrap());
    let at = |offset| Position { epoch: Epoch(1), offset };
    answer.accept_in(4, number, at(9), false);
    answer.accept_in(3, number, at(8), false);
    answer.accept_in(6, number, at(2), true);
    answer.reject(Rejection::new(RejectCode::MissingData, "none").at(5));
    answer.stop(Rejection::new(RejectCode::Overloaded, "full").at(7));
    answer
}

#[test]
fn a_line_sums_up_by_channel_and_the_last_one_over_all() {
    let line = filled(PublishAnswer::sums());
    let mut out = Vec::new();
    line.write_line(&mut out, 7, AnswerFormat::Json);
    let mut totals = Totals::default();
    totals.add(&line, 7);
    totals.add(&filled(PublishAnswer::sums()), 14);
    totals.write(&mut out, StreamEnd::Complete, AnswerFormat::Json);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"{"upto":7,"accepted":3,"rejected":2,"duplicates":1,"#,
            r#""channels":[{"channel":"c","count":3,"duplicates":1,"#,
            r#""first":"0000000000000001:8","last":"0000000000000001:9"}],"#,
            r#""rejections":[{"index":5,"code":"missing_data","detail":"none"},"#,
            r#"{"index":7,"code":"overloaded","detail":"full"}],"#,
            r#""rejected_by_code":{"missing_data":1,"overloaded":1},"stopped_at":7}"#,
            "\n",
            r#"{"end":"complete","upto":14,"accepted":6,"rejected":4,"duplicates":2}"#,
            "\n",
        )
    );
}

#[test]
fn prost_reads_what_json_says() {
    let placed = |index, offset: u64, duplicate| Placed {
        index,
        channel: "c".to_owned(),
        position: format!("0000000000000001:{offset}"),
        duplicate,
    };
    let refused = |index, code: &str, detail: &str| Refused {
        index,
        code: code.to_owned(),
        detail: detail.to_owned(),
    };
    let whole = Peer {
        accepted: 3,
        rejected: 2,
        duplicates: 1,
        positions: vec![placed(3, 8, false), placed(4, 9, false), placed(6, 2, true)],
        rejections: vec![refused(5, "missing_data", "none"), refused(7, "overloaded", "full")],
        rejected_by_code: [("missing_data".to_owned(), 1), ("overloaded".to_owned(), 1)].into(),
        stopped_at: Some(7),
        ..Peer::default()
    };
    let mut out = Vec::new();
    filled(PublishAnswer::new()).write(&mut out, AnswerFormat::Protobuf);
    assert_eq!(Peer::decode(&out[..]), Ok(whole.clone()));
    let sum = Sum {
        channel: "c".to_owned(),
        count: 3,
        duplicates: 1,
        first: "0000000000000001:8".to_owned(),
        last: "0000000000000001:9".to_owned(),
    };
    let line = Peer { positions: Vec::new(), channels: vec![sum], upto: 7, ..whole };
    out.clear();
    filled(PublishAnswer::sums()).write_line(&mut out, 7, AnswerFormat::Protobuf);
    let mut totals = Totals::default();
    totals.add(&filled(PublishAnswer::sums()), 7);
    for end in [StreamEnd::Complete, StreamEnd::Draining] {
        totals.write(&mut out, end, AnswerFormat::Protobuf);
    }
    let mut rest = &out[..];
    assert_eq!(Peer::decode_length_delimited(&mut rest), Ok(line));
    for end in [StreamEnd::Complete, StreamEnd::Draining] {
        let last = Peer::decode_length_delimited(&mut rest).unwrap();
        assert_eq!((last.upto, last.accepted, last.rejected, last.duplicates), (7, 3, 2, 1));
        assert_eq!((&last.end[..], &last.message[..]), (end.as_str(), end.remedy()));
    }
    assert!(rest.is_empty());
}
