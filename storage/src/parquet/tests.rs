//! Through the boundary: odd events in, the same rows out; where ranges end; what is in the way.

mod service;
mod store;

use super::encode::{ROWS_MAX, ReadError, encode, read, tally};
use super::layout::{Hour, Plan, Range, split_hours};
use super::schema::{Row, Tally};
use bytes::Bytes;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use proptest::prelude::*;
use proto::event::{Class, DataKind, Draft, Event};
use proto::position::{Epoch, Position};

const HOUR_US: i64 = 3_600_000_000;
/// 2026-11-22T07:00:00Z.
const SEVEN_US: i64 = 1_795_330_800_000_000;

fn event(draft: Draft<'_>, offset: u64, received_us: i64) -> Event {
    let position = Position { epoch: Epoch::new(u32::MAX, 1), offset };
    draft.build().unwrap().place(position, received_us)
}

fn plain(channel: &str, offset: u64, time_us: i64, received_us: i64) -> Event {
    let draft = Draft { channel, time_us: Some(time_us), data: b"{}", ..Draft::default() };
    event(draft, offset, received_us)
}

fn range(count: u64) -> Range {
    Range { node: "node-1".into(), first_seq: 100, end_seq: 100 + count }
}

fn file_of(events: &[Event]) -> Bytes {
    encode(&range(events.len() as u64), events).unwrap().into()
}

/// Reads a file back and compares every column with the events in the order given.
fn check(file: &Bytes, expected: &[&Event]) {
    let mut expected = expected.iter();
    let of = read(file.clone(), &mut |row| {
        assert_eq!(row, Row::of(expected.next().expect("a row too many")));
    });
    assert_eq!(of.map(|range| range.node), Ok("node-1".to_owned()));
    assert_eq!(expected.len(), 0, "rows are missing");
}

#[test]
fn odd_events_read_back_as_they_were() {
    let huge = vec![b'h'; 5 << 20];
    let long = "é".repeat(500);
    let every_byte: Vec<u8> = (0..=255).collect();
    let full = Draft {
        channel: "b",
        id: "ид-1",
        kind: "型",
        source: "/käse",
        key: "🦀",
        content_type: "text/plain; charset=utf-8",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        attributes: r#"{"a":1}"#,
        class: Class::Critical,
        data_kind: DataKind::Text,
        data: "grün\0".as_bytes(),
        ..Draft::default()
    };
    let events = [
        event(Draft { channel: "a", ..Draft::default() }, 1, 0),
        event(Draft { time_us: Some(i64::MIN), ..full }, u64::MAX, SEVEN_US),
        event(Draft { time_us: Some(-1), ..full }, 2, i64::MIN),
        event(Draft { time_us: Some(0), ..full }, 3, -1),
        event(Draft { time_us: Some(i64::MAX), key: &long, ..full }, 4, i64::MAX),
        event(
            Draft { channel: "c", data_kind: DataKind::Binary, data: &every_byte, ..full },
            5,
            SEVEN_US,
        ),
        event(Draft { channel: "d", class: Class::Sheddable, data: &huge, ..full }, 6, SEVEN_US),
        event(Draft { channel: "e", data_kind: DataKind::Json, data: b"null", ..full }, 7, 1),
    ];
    check(&file_of(&events), &events.iter().collect::<Vec<_>>());
}

#[test]
fn an_event_is_late_only_after_thirty_seconds() {
    let events = [
        plain("a", 1, SEVEN_US, SEVEN_US + 30_000_000),
        plain("b", 1, SEVEN_US, SEVEN_US + 30_000_001),
        plain("c", 1, i64::MIN, i64::MAX),
    ];
    let mut late = Vec::new();
    read(file_of(&events), &mut |row| late.push(row.late)).unwrap();
    assert_eq!(late, [false, true, true]);
}

#[test]
fn rows_are_sorted_by_channel_then_time_then_spool_order() {
    let events = [
        plain("b", 1, 5, SEVEN_US),
        plain("a:z", 1, 9, SEVEN_US),
        plain("b", 2, -5, SEVEN_US),
        plain("a", 1, 7, SEVEN_US),
        plain("b", 3, 5, SEVEN_US),
        plain("b", 4, 4, SEVEN_US),
    ];
    let expected = [3, 1, 2, 5, 0, 4].map(|index: usize| &events[index]);
    check(&file_of(&events), &expected);
}

#[test]
fn a_retry_makes_the_same_bytes() {
    let name = |n: u64| format!("c{}", n * 7919 % 300);
    let events: Vec<_> = (0..5_000).map(|n| plain(&name(n), n, n as i64 % 50, SEVEN_US)).collect();
    let copies = events.iter().map(|event| Bytes::copy_from_slice(event.as_bytes()));
    let copies: Vec<_> = copies.map(|image| Event::decode(image).unwrap()).collect();
    assert_eq!(file_of(&events), file_of(&copies));
}

#[test]
fn a_row_group_stays_bounded_and_nothing_is_lost_between_two() {
    let count = ROWS_MAX as u64 + 1_000;
    let events: Vec<_> = (0..count).map(|n| plain("a", n, n as i64, SEVEN_US)).collect();
    let file = file_of(&events);
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let groups = reader.metadata().row_groups().iter().map(|group| group.num_rows());
    assert_eq!(groups.collect::<Vec<_>>(), [ROWS_MAX as i64, 1_000]);
    check(&file, &events.iter().collect::<Vec<_>>());
}

#[test]
fn a_file_without_events_is_still_a_file() {
    check(&file_of(&[]), &[]);
}

#[test]
fn a_lost_a_doubled_and_a_changed_row_are_noticed_in_any_order() {
    let events: Vec<_> = (0..100).map(|n| plain("a", n, -(n as i64), SEVEN_US)).collect();
    let (of, hours) = tally(file_of(&events)).unwrap();
    assert_eq!(of, range(100));
    let mut expected = Tally::default();
    events.iter().for_each(|event| expected.add(&Row::of(event)));
    assert_eq!(hours.into_iter().collect::<Vec<_>>(), [(Hour::of(SEVEN_US), expected)]);
    let sum = |events: &[&Event]| {
        let mut tally = Tally::default();
        events.iter().for_each(|event| tally.add(&Row::of(event)));
        tally
    };
    let all: Vec<&Event> = events.iter().collect();
    assert_ne!(sum(&all[1..]), expected);
    let mut doubled = all.clone();
    doubled[1] = doubled[0];
    assert_ne!(sum(&doubled), expected);
    let moved = plain("a", 0, 0, SEVEN_US + 1);
    let mut changed = all.clone();
    changed[0] = &moved;
    assert_ne!(sum(&changed), expected);
}

#[test]
fn damage_to_a_file_is_noticed_before_anything_is_decoded() {
    let events: Vec<_> = (0..50).map(|n| plain("a", n, n as i64, SEVEN_US)).collect();
    let file = file_of(&events);
    for at in 0..file.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut damaged = file.to_vec();
            damaged[at] ^= bit;
            let read = read(damaged.into(), &mut |_| panic!("a row of a damaged file"));
            assert!(matches!(read, Err(ReadError::Damaged(_))), "byte {at}");
        }
        assert!(read(file.slice(..at), &mut |_| ()).is_err(), "cut at {at}");
    }
}

#[test]
fn a_file_of_another_program_or_a_later_format_is_refused() {
    let refused = read(Bytes::from_static(b"PAR1 nothing of ours PAR1"), &mut |_| ());
    assert!(matches!(refused, Err(ReadError::Damaged(_))));
    let mut later = file_of(&[]).to_vec();
    let format = value_at(&later, b"shardcast.format");
    assert_eq!(later[format], b'1');
    later[format] = b'9';
    reseal(&mut later);
    assert_eq!(read(later.into(), &mut |_| ()), Err(ReadError::Newer(9)));
}

/// Where the footer has the value of a key: one byte for the field and one for the length stand
/// before it.
fn value_at(file: &[u8], key: &[u8]) -> usize {
    file.windows(key.len()).rposition(|window| window == key).unwrap() + key.len() + 2
}

fn reseal(file: &mut [u8]) {
    let seal = value_at(file, b"shardcast.crc32c");
    file[seal..seal + 8].copy_from_slice(b"00000000");
    let crc = format!("{:08x}", crc32c::crc32c(file));
    file[seal..seal + 8].copy_from_slice(crc.as_bytes());
}

#[test]
fn hours_are_folders_in_utc_and_read_back() {
    let cases = [
        (SEVEN_US, "day=2026-11-22/hour=07"),
        (SEVEN_US - 1, "day=2026-11-22/hour=06"),
        (0, "day=1970-01-01/hour=00"),
        (-1, "day=1969-12-31/hour=23"),
        (i64::MIN, "day=0000-01-01/hour=00"),
        (i64::MAX, "day=9999-12-31/hour=23"),
    ];
    for (time_us, path) in cases {
        assert_eq!(Hour::of(time_us).to_string(), path);
        assert_eq!(Hour::parse(path), Some(Hour::of(time_us)));
    }
    for other in ["day=2026-11-22", "day=2026-11-22/hour=7", "day=2026-13-22/hour=07", "x", ""] {
        assert_eq!(Hour::parse(other), None, "{other}");
    }
    assert_eq!(Hour::of(SEVEN_US).end_us() - Hour::of(SEVEN_US).begin_us(), HOUR_US);
}

#[test]
fn file_names_sort_like_the_spool_and_only_ours_read_back() {
    let range = Range { node: "eu-west-1.a".into(), first_seq: 9, end_seq: u64::MAX };
    let name = "eu-west-1.a-00000000000000000009-18446744073709551615.parquet";
    assert_eq!(range.file_name(), name);
    assert_eq!(Range::parse(name), Some(range));
    let later = Range { node: "eu-west-1.a".into(), first_seq: 10, end_seq: 11 };
    assert!(later.file_name().as_str() > name);
    for other in [
        "part-0.parquet",
        "a-00000000000000000009-18446744073709551615.parquet#1",
        "-00000000000000000009-00000000000000000010.parquet",
        "a-00000000000000000009-00000000000000000009.parquet",
        "a-00000000000000000009-99999999999999999999.parquet",
        "a-9-10.parquet",
    ] {
        assert_eq!(Range::parse(other), None, "{other}");
    }
}

/// Cuts a spool into ranges; the last one is still open.
fn cut(events: &[(i64, u64)], file_bytes: u64) -> Vec<(u64, u64)> {
    let (mut ranges, mut first) = (Vec::new(), 0);
    loop {
        let mut plan = Plan::begin(first);
        let rest = events.iter().enumerate().skip(first as usize);
        let rest = rest.map(|(seq, (received_us, bytes))| (seq as u64, *received_us, *bytes));
        match plan.grow(rest, file_bytes) {
            Some(end) => ranges.push((first, end)),
            None => return ranges,
        }
        first = ranges.last().unwrap().1;
    }
}

#[test]
fn a_range_ends_when_it_is_full_or_its_hour_is_over() {
    let at = |hour: i64, bytes| (SEVEN_US + hour * HOUR_US, bytes);
    let steady = [at(0, 40), at(0, 40), at(0, 40), at(0, 40), at(1, 1)];
    assert_eq!(cut(&steady, 100), [(0, 3), (3, 4)]);
    assert_eq!(cut(&steady, 120), [(0, 3), (3, 4)]);
    assert_eq!(cut(&steady[..2], 100), []);
    // One event is larger than a file.
    assert_eq!(cut(&[at(0, 500), at(0, 1)], 100), [(0, 1)]);
    // A straggler of the hour before stays where it is found.
    assert_eq!(cut(&[at(0, 1), at(1, 1), at(0, 1), at(1, 1), at(2, 1)], 100), [(0, 1), (1, 4)]);
    // A clock that was set back by two hours does not cut at every event.
    let set_back = [at(0, 1), at(-2, 30), at(-2, 30), at(-2, 40), at(-1, 1)];
    assert_eq!(cut(&set_back, 100), [(0, 4)]);
}

#[test]
fn a_plan_that_is_fed_in_pieces_ends_where_one_look_would_end() {
    let events: Vec<_> = (0..50).map(|n| (n, SEVEN_US + n as i64, 10)).collect();
    let mut whole = Plan::begin(0);
    assert_eq!(whole.grow(events.clone(), 333), Some(34));
    let mut pieces = Plan::begin(0);
    let ends: Vec<_> = events.chunks(7).map(|part| pieces.grow(part.to_vec(), 333)).collect();
    assert_eq!(ends.iter().flatten().next(), Some(&34));
    assert_eq!((whole.first_seq(), whole.end_seq(), whole.bytes()), (0, 34, 340));
    assert_eq!(whole.hour(), Some(Hour::of(SEVEN_US)));
}

#[test]
fn stragglers_get_a_file_of_their_own() {
    let hours = [1, 0, 1, 2, 1, 0].map(|hour| SEVEN_US + hour * HOUR_US);
    let events = (0..).zip(hours).map(|(n, received_us)| plain("a", n, 0, received_us));
    let split = split_hours(events);
    let offsets = |events: &[Event]| events.iter().map(Event::offset).collect::<Vec<_>>();
    let split: Vec<_> = split.iter().map(|(hour, of)| (hour.to_string(), offsets(of))).collect();
    let expected = [("08", vec![0, 2, 4]), ("07", vec![1, 5]), ("09", vec![3])];
    assert_eq!(split, expected.map(|(hour, of)| (format!("day=2026-11-22/hour={hour}"), of)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_event_is_in_exactly_one_range(
        events in prop::collection::vec((0..5_i64, 1..50_u64), 0..200),
        file_bytes in 1..300_u64,
    ) {
        let events: Vec<_> = events.iter().map(|(hour, bytes)| (hour * HOUR_US, *bytes)).collect();
        let ranges = cut(&events, file_bytes);
        let mut next = 0;
        for (first, end) in ranges {
            prop_assert_eq!(first, next);
            prop_assert!(end > first);
            next = end;
        }
        let open = &events[next as usize..];
        prop_assert!(open.iter().map(|(_, bytes)| bytes).sum::<u64>() < file_bytes);
    }
}
