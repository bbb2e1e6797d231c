//! Answers as their readers see them.

use super::*;
use serde_json::Value;

impl PublishAnswer {
    fn accept(&mut self, index: u64, channel: &str, position: Position, duplicate: bool) {
        let number = self.number(&ChannelName::new(channel).unwrap());
        self.accept_in(index, number, position, duplicate);
    }
}

fn at(offset: u64) -> Position {
    Position { epoch: Epoch(1), offset }
}

fn text(answer: &PublishAnswer) -> String {
    let mut out = Vec::new();
    answer.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

fn json(answer: &PublishAnswer) -> Value {
    serde_json::from_str(&text(answer)).unwrap()
}

#[test]
fn the_text_of_an_answer_is_stable_and_in_the_order_of_the_body() {
    let mut answer = PublishAnswer::new();
    answer.accept(3, "b", at(9), true);
    answer.accept(0, "a", at(7), false);
    answer.reject(Rejection::new(RejectCode::MissingData, "`data` is missing").at(2));
    answer.reject(Rejection::new(RejectCode::Forbidden, "no").at(1));
    assert_eq!(
        text(&answer),
        concat!(
            r#"{"accepted":2,"rejected":2,"duplicates":1,"positions":["#,
            r#"{"index":0,"channel":"a","position":"0000000000000001:7","duplicate":false},"#,
            r#"{"index":3,"channel":"b","position":"0000000000000001:9","duplicate":true}],"#,
            r#""rejections":[{"index":1,"code":"forbidden","detail":"no"},"#,
            r#"{"index":2,"code":"missing_data","detail":"`data` is missing"}],"#,
            r#""rejected_by_code":{"missing_data":1,"forbidden":1}}"#
        )
    );
}

#[test]
fn every_position_names_its_own_channel_and_epoch() {
    let mut answer = PublishAnswer::new();
    let mut expected = Vec::new();
    for index in (0..300_u64).rev() {
        let (channel, epoch) = (format!("c\"{}", index % 13), Epoch(1 + index % 3));
        answer.accept(index, &channel, Position { epoch, offset: index + 9 }, index % 5 == 0);
        expected.push(serde_json::json!({
            "index": index,
            "channel": channel,
            "position": format!("{epoch}:{}", index + 9),
            "duplicate": index % 5 == 0,
        }));
    }
    expected.reverse();
    assert_eq!(json(&answer)["positions"], Value::from(expected));
    assert_eq!(answer.channels.len(), 13);
}

#[test]
fn the_status_follows_from_what_was_accepted_then_from_what_can_be_retried() {
    let check = |accepted: u64, codes: &[RejectCode], code: u16, retry: bool| {
        let mut answer = PublishAnswer::new();
        for index in 0..accepted {
            answer.accept(index, "c", at(index + 1), false);
        }
        for code in codes {
            answer.reject(Rejection::new(*code, ""));
        }
        assert_eq!(answer.status(), PublishStatus { code, retry }, "{accepted} {codes:?}");
    };
    use RejectCode::*;
    check(0, &[], 202, false);
    check(1, &[InvalidJson, Forbidden, Overloaded], 202, false);
    check(0, &[InvalidJson], 400, false);
    check(0, &[Forbidden], 403, false);
    check(0, &[TooLarge], 413, false);
    check(0, &[TooLarge, TooLarge, InvalidJson], 413, false);
    check(0, &[Forbidden, TooLarge], 403, false);
    check(0, &[Forbidden, UnknownMember], 400, false);
    check(0, &[Forbidden, Forbidden, UnknownMember, MissingData], 400, false);
    check(0, &[InvalidJson, InvalidJson, RateLimited], 429, true);
    check(0, &[RateLimited, RateLimited, Overloaded], 503, true);
    check(0, &[Unavailable], 503, true);
}

#[test]
fn a_stop_names_the_first_item_that_was_not_taken() {
    let mut answer = PublishAnswer::new();
    answer.accept(0, "c", at(1), false);
    answer.stop(Rejection::new(RejectCode::Overloaded, "full").at(5));
    answer.stop(Rejection::new(RejectCode::Overloaded, "full").at(4));
    assert_eq!(json(&answer)["stopped_at"], 4);
    assert_eq!(answer.status(), PublishStatus { code: 202, retry: true });
}

#[test]
fn item_number_1001_turns_positions_into_sums_per_channel() {
    let mut answer = PublishAnswer::new();
    for index in (0..1000).rev() {
        answer.accept(index, if index % 2 == 0 { "even" } else { "odd" }, at(index + 1), false);
    }
    assert_eq!(json(&answer)["positions"].as_array().unwrap().len(), 1000);
    answer.accept(1000, "even", at(4), true);
    let value = json(&answer);
    assert_eq!(value.get("positions"), None);
    let even = &value["channels"].as_array().unwrap()[1];
    assert_eq!(
        even.to_string(),
        concat!(
            r#"{"channel":"even","count":501,"duplicates":1,"first":"0000000000000001:1","#,
            r#""last":"0000000000000001:999"}"#
        )
    );
}

#[test]
fn a_channel_of_duplicates_alone_has_no_first_and_last() {
    let mut answer = PublishAnswer::new();
    for index in 0..1001 {
        answer.accept(index, "c", at(1), true);
    }
    let value = json(&answer);
    assert_eq!(value["channels"][0].get("first"), None);
    assert_eq!(value["duplicates"], 1001);
}

#[test]
fn an_answer_to_any_number_of_items_is_bounded() {
    let mut answer = PublishAnswer::new();
    for index in 0..100_000 {
        let channel = format!("{index:0255}");
        answer.accept(index, &channel, at(1), false);
        let detail = "\u{1}".repeat(400);
        answer.reject(Rejection::new(RejectCode::UnknownMember, detail).at(200_000 - index));
    }
    let value = json(&answer);
    assert_eq!(value["channels"].as_array().unwrap().len(), CHANNELS_MAX);
    assert_eq!(value["channels_omitted_events"], 99_000);
    assert_eq!(value["rejected"], 100_000);
    assert_eq!(value["rejections"].as_array().unwrap().len(), REJECTIONS_MAX);
    assert_eq!(value["rejections"][0]["index"], 100_001);
    assert!(text(&answer).len() < 700_000);
}
