//! Aggregates against brute force, and against what a publisher or retention can do to them.

use super::*;
use crate::aggregate::{TopGather, VALUES_MAX};
use crate::query::{
    Aggregate, Answer, Bucket, Counts, CountsQuery, Query, TYPES_MAX, Top, TopQuery,
};
use crate::read::ReadError;
use crate::sim_files::SimFiles;
use proptest::prelude::*;
use proto::channel::ChannelName;
use proto::event::{DataKind, EventView};
use proto::field::Field;
use std::collections::BTreeMap;

/// What a test says about an event.
#[derive(Debug, Clone)]
struct Fact {
    channel: &'static str,
    time_us: i64,
    kind: String,
    data_kind: DataKind,
    data: Vec<u8>,
    /// The value of `data.a.b` by construction.
    value: Option<String>,
}

impl Fact {
    fn new(time_us: i64, kind: &str, data: &str, value: Option<&str>) -> Self {
        let (kind, data) = (kind.to_owned(), data.as_bytes().to_vec());
        let value = value.map(str::to_owned);
        Self { channel: "a", time_us, kind, data_kind: DataKind::Json, data, value }
    }

    fn event(&self, lineage: u32, offset: u64) -> Event {
        let draft = Draft {
            channel: self.channel,
            id: &offset.to_string(),
            kind: &self.kind,
            data_kind: self.data_kind,
            data: &self.data,
            time_us: Some(self.time_us),
            ..Draft::default()
        };
        draft.build().unwrap().place(Position { epoch: Epoch::new(lineage, 1), offset }, 0)
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn counts_query(range: (i64, i64), bucket_s: u32, kind: Option<&str>) -> CountsQuery {
    let (from_us, to_us) = range;
    CountsQuery { channel: channel("a"), from_us, to_us, bucket_s, kind: kind.map(Into::into) }
}

fn top_query(field: &str, range: (i64, i64), limit: u32) -> TopQuery {
    let field = Field::parse(field).unwrap();
    TopQuery { channel: channel("a"), field, from_us: range.0, to_us: range.1, limit }
}

fn counts<F: Files>(spool: &Spool<F>, query: CountsQuery) -> Counts {
    match spool.reader().answer_whole(Aggregate::Counts(query)) {
        Ok(Answer::Counts(counts)) => counts,
        other => panic!("{other:?}"),
    }
}

fn top<F: Files>(spool: &Spool<F>, query: TopQuery) -> Top {
    match spool.reader().answer_whole(Aggregate::Top(query)) {
        Ok(Answer::Top(top)) => top,
        other => panic!("{other:?}"),
    }
}

fn inside(fact: &Fact, range: (i64, i64)) -> bool {
    fact.channel == "a" && (range.0..=range.1).contains(&fact.time_us)
}

fn counts_model(facts: &[Fact], query: &CountsQuery) -> Counts {
    let mut cells: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
    let bucket_us = i64::from(query.bucket_s) * 1_000_000;
    let of = |fact: &&Fact| {
        let kind = query.kind.as_deref().is_none_or(|kind| kind == fact.kind);
        inside(fact, (query.from_us, query.to_us)) && kind
    };
    for fact in facts.iter().filter(of) {
        let bucket = cells.entry(fact.time_us.div_euclid(bucket_us) * bucket_us).or_default();
        *bucket.entry(fact.kind.clone()).or_default() += 1;
    }
    let bucket = |(start_us, types): (i64, BTreeMap<String, u64>)| {
        let total = types.values().sum();
        let mut types: Vec<_> = types.into_iter().map(|(name, n)| (name.into(), n)).collect();
        types.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        Bucket { start_us, total, types, other_types: 0 }
    };
    let buckets: Vec<Bucket> = cells.into_iter().map(bucket).collect();
    Counts { total: buckets.iter().map(|bucket| bucket.total).sum(), buckets }
}

fn top_model(facts: &[Fact], query: &TopQuery) -> Top {
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut total, mut missing) = (0, 0);
    for fact in facts.iter().filter(|fact| inside(fact, (query.from_us, query.to_us))) {
        total += 1;
        let value = match query.field.as_str() {
            "type" => Some(&*fact.kind).filter(|kind| !kind.is_empty()),
            _ => fact.value.as_deref(),
        };
        match value {
            Some(value) => *values.entry(value).or_default() += 1,
            None => missing += 1,
        }
    }
    let mut values: Vec<_> = values.into_iter().map(|(value, n)| (value.into(), n)).collect();
    values.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    values.truncate(query.limit as usize);
    Top { total, missing, exact: true, values }
}

/// Stores the facts, a few a batch, in small segments.
fn filled(files: &SimFiles, facts: &[Fact]) -> Spool<SimFiles> {
    let (mut spool, recovered, _) = reopen(files, small());
    let lineage = recovered.current_lineage;
    for (seq, batch) in facts.chunks(7).enumerate() {
        let first = seq as u64 * 7 + 1;
        let events = batch.iter().zip(first..).map(|(fact, offset)| fact.event(lineage, offset));
        store(&mut spool, seq as u64 + 1, events.collect(), 0);
    }
    spool
}

/// A payload and the value of its `data.a.b`.
fn payload() -> impl Strategy<Value = (DataKind, Vec<u8>, Option<String>)> {
    let text = "[a-c\"\\\\é\u{1}]{0,3}";
    let json = |data: String, value: Option<String>| (DataKind::Json, data.into_bytes(), value);
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let escaped =
        |text: &str| text.encode_utf16().map(|u| format!("\\u{u:04x}")).collect::<String>();
    prop_oneof![
        text.prop_map(move |t| json(format!("{{\"a\":{{\"b\":{}}}}}", quoted(&t)), Some(t))),
        text.prop_map(move |t| {
            let data = format!(" {{ \"\\u0061\" : {{\"b\":\"{}\",\"b\":7}} }}", escaped(&t));
            json(data, Some(t))
        }),
        (-3_i64..3).prop_map(move |n| {
            json(format!("{{\"x\":[{{\"a\":1}}],\"a\":{{\"b\":{n}}}}}"), Some(n.to_string()))
        }),
        any::<bool>()
            .prop_map(move |b| json(format!("{{\"a\":{{\"b\":{b}}}}}"), Some(b.to_string()))),
        prop::sample::select(vec!["null", "[1]", "{}", "{\"b\":1}", "1e999"])
            .prop_map(move |v| json(format!("{{\"a\":{{\"b\":{v}}}}}"), None)),
        Just(json("{\"a\":1,\"a\":{\"b\":1}}".to_owned(), None)),
        Just((DataKind::Text, b"{\"a\":{\"b\":1}}".to_vec(), None)),
        Just((DataKind::Binary, b"{\"a\":{\"b\":1}}".to_vec(), None)),
        any::<Vec<u8>>().prop_map(|data| (DataKind::Binary, data, None)),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let channel = prop::sample::select(vec!["a", "a", "a", "ab", "b"]);
    let time = -3_000_000_i64..3_000_000;
    (channel, time, "[xyz]?", payload()).prop_map(|(channel, time_us, kind, payload)| {
        let (data_kind, data, value) = payload;
        Fact { channel, time_us, kind, data_kind, data, value }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_aggregate_gives_what_brute_force_gives(
        facts in prop::collection::vec(fact(), 0..300),
        ranges in prop::collection::vec((-4_000_000_i64..4_000_000, 0_i64..5_000_000), 1..4),
        bucket_s in 1_u32..4,
        kind in prop::option::of("[xw]?"),
        limit in 1_u32..12,
        indexes: bool,
    ) {
        let files = SimFiles::new(1);
        let mut spool = filled(&files, &facts);
        if !indexes {
            drop(spool);
            for (name, _) in files.list().unwrap() {
                if name.ends_with(".idx") {
                    files.edit(&name, |bytes| bytes.truncate(10));
                }
            }
            spool = reopen(&files, small()).0;
        }
        for (from_us, length) in ranges {
            let range = (from_us, from_us + length);
            let query = counts_query(range, bucket_s, kind.as_deref());
            prop_assert_eq!(counts(&spool, query.clone()), counts_model(&facts, &query));
            for field in ["data.a.b", "type"] {
                let query = top_query(field, range, limit);
                prop_assert_eq!(top(&spool, query.clone()), top_model(&facts, &query));
            }
        }
    }
}

#[test]
fn both_ends_of_a_range_count_and_buckets_begin_at_the_epoch() {
    let times = [-60_000_001, -60_000_000, -1, 0, 59_999_999, 60_000_000, 119_999_999, 120_000_000];
    let facts: Vec<Fact> = times.iter().map(|time| Fact::new(*time, "", "1", None)).collect();
    let spool = filled(&SimFiles::new(2), &facts);
    let all = counts(&spool, counts_query((i64::MIN, i64::MAX), 60, None));
    let starts: Vec<(i64, u64)> = all.buckets.iter().map(|b| (b.start_us, b.total)).collect();
    let expected = [(-120_000_000, 1), (-60_000_000, 2), (0, 2), (60_000_000, 2), (120_000_000, 1)];
    assert_eq!(starts, expected);
    let some = counts(&spool, counts_query((-60_000_000, 60_000_000), 60, None));
    assert_eq!(some.total, 5);
    let odd = counts(&spool, counts_query((0, 120_000_000), 7, None));
    assert!(odd.buckets.iter().all(|bucket| bucket.start_us % 7_000_000 == 0), "{odd:?}");
}

#[test]
fn a_flood_of_types_is_named_up_to_its_limit_and_the_rest_is_counted() {
    let count = TYPES_MAX + 500;
    let facts: Vec<Fact> =
        (0..count).map(|i| Fact::new(1, &format!("t{i:04}"), "1", None)).collect();
    let spool = filled(&SimFiles::new(3), &facts);
    let all = counts(&spool, counts_query((0, 1), 60, None));
    let bucket = &all.buckets[0];
    assert_eq!((all.total, bucket.types.len()), (count as u64, TYPES_MAX));
    assert_eq!((bucket.total, bucket.other_types), (count as u64, 500));
    assert_eq!(&*bucket.types[TYPES_MAX - 1].0, "t0999", "the first types of the channel");
}

#[test]
fn an_answer_over_its_limit_is_refused_with_the_remedy() {
    let kinds: Vec<String> = (0..60).map(|i| format!("{i:\u{1}>900}")).collect();
    let facts: Vec<Fact> =
        (0..2_000).map(|i| Fact::new(i * 1_000_000, &kinds[i as usize % 60], "1", None)).collect();
    let spool = filled(&SimFiles::new(4), &facts);
    let query = Aggregate::Counts(counts_query((0, i64::MAX), 1, None));
    let error = spool.reader().answer_whole(query).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { remedy } if remedy.contains("bucket")));
    assert_eq!(counts(&spool, counts_query((0, i64::MAX), 86_400, None)).total, 2_000);
}

#[test]
fn more_values_than_are_tracked_are_said_and_the_frequent_ones_stay() {
    let mut gather = TopGather::new(&top_query("id", (0, 0), 3));
    let (frequent, rare) = (VALUES_MAX as u64 / 5, VALUES_MAX as u64 * 2);
    for i in 0..rare {
        let mut count = |id: &str| {
            let draft = Draft { channel: "a", id, ..Draft::default() };
            let position = Position { epoch: Epoch::new(1, 1), offset: 1 };
            gather.count(EventView::from(&draft.build().unwrap().place(position, 0)));
        };
        count(&format!("rare{i}"));
        if i % 10 == 0 {
            count("frequent");
        }
    }
    let top = gather.finish();
    assert_eq!((top.total, top.missing, top.exact), (rare + frequent, 0, false));
    assert_eq!(&*top.values[0].0, "frequent");
    let error = 2 * top.total / VALUES_MAX as u64;
    assert!((frequent - error..=frequent).contains(&top.values[0].1), "{top:?}");
}

#[test]
fn long_values_cannot_outgrow_the_memory_of_a_top() {
    let mut gather = TopGather::new(&top_query("id", (0, 0), 1_000));
    for i in 0..40_000 {
        let id = format!("{i:01000}");
        let draft = Draft { channel: "a", id: &id, ..Draft::default() };
        let position = Position { epoch: Epoch::new(1, 1), offset: 1 };
        gather.count(EventView::from(&draft.build().unwrap().place(position, 0)));
    }
    let top = gather.finish();
    assert!(!top.exact && top.total == 40_000 && top.values.len() <= 1_000);
}

#[test]
fn a_long_walk_comes_in_steps_and_new_events_do_not_lengthen_it() {
    let files = SimFiles::new(5);
    let options = Options { segment_bytes: 8 << 20, round_bytes_max: 4 << 20, ..small() };
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let big = format!("{{\"b\":\"{}\",\"a\":{{\"b\":1}}}}", "x".repeat(1 << 20));
    let fact = Fact::new(1, "t", &big, None);
    let batch = |from: u64| (from..from + 8).map(|offset| fact.event(lineage, offset)).collect();
    for seq in 0..5 {
        store(&mut spool, seq + 1, batch(seq * 8 + 1), 0);
    }
    let reader = spool.reader();
    let query = Aggregate::Top(top_query("data.a.b", (0, 1), 5));
    let (mut answer, mut steps) = (reader.answer(Query::Aggregate(query)).unwrap(), 1);
    while let Answer::More(rest) = answer {
        store(&mut spool, 5 + steps, batch((5 + steps) * 8 + 1), 0);
        answer = reader.answer(Query::More(rest)).unwrap();
        steps += 1;
    }
    let Answer::Top(top) = answer else { panic!("{answer:?}") };
    assert!(steps >= 3, "{steps}");
    assert_eq!((top.total, top.missing, &top.values[..]), (40, 0, &[("1".into(), 40)][..]));
}

#[test]
fn retention_that_overtakes_a_count_makes_it_begin_again_and_not_lie() {
    let files = SimFiles::new(6);
    let mut options = Options { segment_bytes: 8 << 20, round_bytes_max: 4 << 20, ..small() };
    options.retention.bytes = 50 << 20;
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    let batch = |from: u64, kind: &str| {
        let fact = Fact::new(1, kind, &big, None);
        (from..from + 40).map(|offset| fact.event(lineage, offset)).collect()
    };
    store(&mut spool, 1, batch(1, "old"), 0);
    let reader = spool.reader();
    let query = Query::Aggregate(Aggregate::Counts(counts_query((0, 1), 60, None)));
    let Answer::More(rest) = reader.answer(query).unwrap() else { panic!("one step") };
    for seq in 2..5 {
        store(&mut spool, seq, batch(seq * 40 - 39, "new"), 0);
    }
    assert!(spool.counters().segments_removed > 0);
    let mut answer = reader.answer(Query::More(rest)).unwrap();
    while let Answer::More(rest) = answer {
        answer = reader.answer(Query::More(rest)).unwrap();
    }
    let Answer::Counts(counts) = answer else { panic!("{answer:?}") };
    let mut stored = 0;
    spool.replay_tail(u64::MAX, &mut |_| stored += 1).unwrap();
    assert_eq!(counts.total, stored);
    assert!(counts.buckets[0].types.iter().all(|(kind, _)| &**kind == "new"), "{counts:?}");
}

#[test]
fn damage_is_said_and_never_counted_around() {
    let files = SimFiles::new(7);
    let facts: Vec<Fact> = (0..200).map(|i| Fact::new(i, "t", "{\"a\":1}", None)).collect();
    let spool = filled(&files, &facts);
    files.edit(&crate::format::segment_name(1), |bytes| bytes[1_000] ^= 4);
    let query = Aggregate::Counts(counts_query((0, i64::MAX), 60, None));
    let error = spool.reader().answer_whole(query).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
}
