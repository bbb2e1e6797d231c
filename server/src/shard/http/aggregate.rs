//! Counts and tops over HTTP: what a URL asks for, and the JSON of an answer.
//!
//! ```json
//! {"channel":"orders","from":"...","to":"...","bucket":60,"total":5,
//!  "buckets":[{"time":"2026-11-22T07:00:00Z","total":5,"types":{"order":3,"":2}}]}
//! {"channel":"orders","field":"data.sku","from":"...","to":"...","total":7,"missing":1,
//!  "exact":true,"values":[{"value":"A","count":6}]}
//! ```
//!
//! Both ends of the range are inclusive and always said, six digits. A bucket has `other_types`
//! only if types were left out. The text follows from the query and the typed answer alone, so that
//! every store gives the same bytes. Deliberately absent: asking the store (see `aggregates`).
//! Pure, any thread. Tested here and in `tests/tests/it/query.rs`.

use super::head::Head;
use super::response::Response;
use super::route::{bad_parameter, get, number, pairs, unknown_parameter};
use proto::channel::ChannelName;
use proto::envelope::write_json_string;
use proto::field::Field;
use proto::rfc3339::{parse_rfc3339, write_rfc3339};
use storage::query::{BUCKET_S_MAX, BUCKETS_MAX, TOP_LIMIT_MAX};
use storage::{Aggregate, Counts, CountsQuery, Top, TopQuery};

/// How far back a query looks when nothing is said.
const DEFAULT_RANGE_US: i64 = 300 * SECOND_US;
const SECOND_US: i64 = 1_000_000;

/// A count or a top as the URL states it; the range may still hang on the clock.
#[derive(Debug, Clone)]
pub struct AggregateRequest {
    channel: ChannelName,
    from_us: Option<i64>,
    to_us: Option<i64>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Counts { bucket_s: u32, kind: Option<Box<str>> },
    Top { field: Field, limit: u32 },
}

/// `/v1/channels/{channel}/counts`.
pub fn counts(head: &Head<'_>, channel: ChannelName) -> Result<AggregateRequest, Response> {
    get(head, ())?;
    let (mut from_us, mut to_us, mut bucket_s, mut kind) = (None, None, 60, None);
    for (key, value) in pairs(head)? {
        match key.as_str() {
            "from" => from_us = Some(time("from", &value)?),
            "to" => to_us = Some(time("to", &value)?),
            "bucket" => bucket_s = number("bucket", &value, BUCKET_S_MAX)?,
            "type" => kind = Some(value.into()),
            _ => return Err(unknown_parameter(&key, "from, to, bucket, type")),
        }
    }
    Ok(AggregateRequest { channel, from_us, to_us, what: What::Counts { bucket_s, kind } })
}

/// `/v1/channels/{channel}/top`.
pub fn top(head: &Head<'_>, channel: ChannelName) -> Result<AggregateRequest, Response> {
    get(head, ())?;
    let (mut from_us, mut to_us, mut field, mut limit) = (None, None, None, 10);
    for (key, value) in pairs(head)? {
        match key.as_str() {
            "from" => from_us = Some(time("from", &value)?),
            "to" => to_us = Some(time("to", &value)?),
            "limit" => limit = number("limit", &value, TOP_LIMIT_MAX)?,
            "field" => {
                let parsed = Field::parse(&value);
                field = Some(parsed.map_err(|error| bad_parameter("field", &error.to_string()))?);
            }
            _ => return Err(unknown_parameter(&key, "field, limit, from, to")),
        }
    }
    let field = field.ok_or_else(|| bad_parameter("field", "name one: ?field=data.sku"))?;
    Ok(AggregateRequest { channel, from_us, to_us, what: What::Top { field, limit } })
}

fn time(name: &str, value: &str) -> Result<i64, Response> {
    parse_rfc3339(value).ok_or_else(|| {
        bad_parameter(name, "use a time (RFC 3339, such as 2026-01-31T12:00:00Z), not an offset")
    })
}

impl AggregateRequest {
    /// The channel.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The exact query. Without `to` it ends now, rounded up to a whole second, so that everybody
    /// who asks in the same second asks the same.
    pub fn normalise(self, now_us: i64) -> Result<Aggregate, Response> {
        let Self { channel, from_us, to_us, what } = self;
        let to_us = to_us.unwrap_or_else(|| {
            now_us.saturating_add(SECOND_US - 1).div_euclid(SECOND_US) * SECOND_US
        });
        let from_us = from_us.unwrap_or_else(|| to_us.saturating_sub(DEFAULT_RANGE_US));
        if from_us > to_us {
            return Err(bad_parameter("from", "it is after `to`; exchange them"));
        }
        match what {
            What::Counts { bucket_s, kind } => {
                few_buckets(from_us, to_us, bucket_s)?;
                Ok(Aggregate::Counts(CountsQuery { channel, from_us, to_us, bucket_s, kind }))
            }
            What::Top { field, limit } => {
                Ok(Aggregate::Top(TopQuery { channel, field, from_us, to_us, limit }))
            }
        }
    }
}

fn few_buckets(from_us: i64, to_us: i64, bucket_s: u32) -> Result<(), Response> {
    let bucket_us = i64::from(bucket_s) * SECOND_US;
    let buckets = to_us.div_euclid(bucket_us).abs_diff(from_us.div_euclid(bucket_us)) + 1;
    if buckets <= BUCKETS_MAX {
        return Ok(());
    }
    // One less, because a range that is not aligned touches one more.
    let enough_s = (to_us.abs_diff(from_us) / 1_000_000).div_ceil(BUCKETS_MAX - 2);
    let remedy = if enough_s <= u64::from(BUCKET_S_MAX) {
        format!("use at least {enough_s} seconds or a shorter range")
    } else {
        "use a shorter range".to_owned()
    };
    let detail = format!("the range has {buckets} buckets, at most {BUCKETS_MAX} are; {remedy}");
    Err(bad_parameter("bucket", &detail))
}

/// The JSON of a count.
pub fn counts_json(query: &CountsQuery, answer: &Counts) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + answer.buckets.len() * 96);
    begin(&mut out, &query.channel, None, (query.from_us, query.to_us));
    member(&mut out, ",\"bucket\":", u64::from(query.bucket_s));
    member(&mut out, ",\"total\":", answer.total);
    out.extend_from_slice(b",\"buckets\":[");
    for (at, bucket) in answer.buckets.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"time\":\"" } else { b"{\"time\":\"" });
        write_rfc3339(&mut out, bucket.start_us);
        // A bucket begins with a whole second: `.000000Z` says nothing.
        out.truncate(out.len() - 8);
        out.extend_from_slice(b"Z\"");
        member(&mut out, ",\"total\":", bucket.total);
        out.extend_from_slice(b",\"types\":{");
        for (at, (name, count)) in bucket.types.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_json_string(&mut out, name);
            member(&mut out, ":", *count);
        }
        out.push(b'}');
        if bucket.other_types > 0 {
            member(&mut out, ",\"other_types\":", bucket.other_types);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

/// The JSON of a top.
pub fn top_json(query: &TopQuery, answer: &Top) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + answer.values.len() * 48);
    begin(&mut out, &query.channel, Some(&query.field), (query.from_us, query.to_us));
    member(&mut out, ",\"total\":", answer.total);
    member(&mut out, ",\"missing\":", answer.missing);
    out.extend_from_slice(if answer.exact { b",\"exact\":true" } else { b",\"exact\":false" });
    out.extend_from_slice(b",\"values\":[");
    for (at, (value, count)) in answer.values.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"value\":" } else { b"{\"value\":" });
        write_json_string(&mut out, value);
        member(&mut out, ",\"count\":", *count);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

fn begin(out: &mut Vec<u8>, channel: &ChannelName, field: Option<&Field>, range_us: (i64, i64)) {
    out.extend_from_slice(b"{\"channel\":");
    write_json_string(out, channel.as_str());
    if let Some(field) = field {
        out.extend_from_slice(b",\"field\":");
        write_json_string(out, field.as_str());
    }
    for (name, time_us) in [(&b",\"from\":\""[..], range_us.0), (b",\"to\":\"", range_us.1)] {
        out.extend_from_slice(name);
        write_rfc3339(out, time_us);
        out.push(b'"');
    }
}

fn member(out: &mut Vec<u8>, name: &str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(number.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::head::HeaderList;
    use super::*;
    use storage::Bucket;

    const NOW_US: i64 = 1_000_000_000_000_001;

    fn ask(path: &str, query: &str) -> Result<Aggregate, Response> {
        let fields = HeaderList::new();
        let method = "GET";
        let head = Head { method, path, query, host: None, secure: false, headers: &fields };
        let channel = ChannelName::new("c").unwrap();
        let parse = if path == "counts" { counts } else { top };
        parse(&head, channel)?.normalise(NOW_US)
    }

    fn error(path: &str, query: &str) -> String {
        let response = ask(path, query).unwrap_err();
        assert_eq!(response.status, 400, "{query}");
        String::from_utf8(response.body.to_vec()).unwrap()
    }

    #[test]
    fn everybody_who_asks_in_one_second_asks_the_same() {
        let query = ask("counts", "").unwrap();
        let (from_us, to_us) = query.range_us();
        assert_eq!((from_us, to_us), (999_999_701_000_000, 1_000_000_001_000_000));
        let other = AggregateRequest {
            channel: ChannelName::new("c").unwrap(),
            from_us: None,
            to_us: None,
            what: What::Counts { bucket_s: 60, kind: None },
        };
        assert_eq!(other.normalise(NOW_US + 999_999).unwrap(), query);
        let to = ask("top", "field=type&to=1970-01-01T01:00:00.5Z").unwrap();
        assert_eq!(to.range_us(), (3_300_500_000, 3_600_500_000), "counted from `to`");
    }

    #[test]
    fn a_wrong_query_is_told_the_remedy() {
        assert!(error("counts", "from=17").contains("not an offset"));
        assert!(error("counts", "bucket=0").contains("from 1 to 86400"));
        assert!(error("counts", "bucket=86401").contains("from 1 to 86400"));
        assert!(
            error("counts", "from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z").contains("after")
        );
        let day = "bucket=1&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z";
        let told = error("counts", day);
        assert!(told.contains("86401 buckets") && told.contains("at least 9 seconds"), "{told}");
        assert!(ask("counts", &day.replace("=1&", "=9&")).is_ok());
        let all = error("counts", "from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z&bucket=86400");
        assert!(all.contains("use a shorter range"), "{all}");
        assert!(error("top", "").contains("data.sku"));
        assert!(error("top", "field=data..a").contains("empty name"));
        assert!(error("top", "field=type&limit=1001").contains("from 1 to 1000"));
        assert!(error("top", "field=type&bucket=1").contains("unknown query parameter"));
    }

    #[test]
    fn the_json_of_an_answer_is_stable() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let Ok(Aggregate::Counts(query)) = ask("counts", "bucket=1") else { panic!() };
        let bucket = |types: Vec<(&str, u64)>, other_types| Bucket {
            start_us: 1_000_000_000_000_000,
            total: 9,
            types: types.into_iter().map(|(name, count)| (name.into(), count)).collect(),
            other_types,
        };
        let buckets = vec![bucket(vec![("a\"", 6), ("", 3)], 0), bucket(Vec::new(), 9)];
        assert_eq!(
            text(counts_json(&query, &Counts { total: 18, buckets })),
            concat!(
                r#"{"channel":"c","from":"2001-09-09T01:41:41.000000Z","#,
                r#""to":"2001-09-09T01:46:41.000000Z","bucket":1,"total":18,"buckets":["#,
                r#"{"time":"2001-09-09T01:46:40Z","total":9,"types":{"a\"":6,"":3}},"#,
                r#"{"time":"2001-09-09T01:46:40Z","total":9,"types":{},"other_types":9}]}"#
            )
        );
        let Ok(Aggregate::Top(query)) = ask("top", "field=data.sku") else { panic!() };
        let values = vec![("é\n".into(), 4), ("1.5".into(), 1)];
        let top = Top { total: 7, missing: 2, exact: false, values };
        assert_eq!(
            text(top_json(&query, &top)),
            concat!(
                r#"{"channel":"c","field":"data.sku","from":"2001-09-09T01:41:41.000000Z","#,
                r#""to":"2001-09-09T01:46:41.000000Z","total":7,"missing":2,"exact":false,"#,
                r#""values":[{"value":"é\n","count":4},{"value":"1.5","count":1}]}"#
            )
        );
    }
}
