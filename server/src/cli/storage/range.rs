//! Spans of time as people type them.

use super::{Failed, exit};
use proto::rfc3339::{parse_rfc3339, write_rfc3339};
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, microseconds since the Unix epoch.
pub(super) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// `from` and `to`, each RFC 3339 or a span before now (`90s`, `30m`, `24h`, `7d`).
pub(super) fn parse(
    from: Option<&str>,
    to: Option<&str>,
    default_from_us: i64,
) -> Result<(i64, i64), Failed> {
    let now = now_us();
    let moment = |text: Option<&str>, default: i64| match text {
        None => Ok(default),
        Some(text) => parse_moment(text, now).ok_or_else(|| {
            let message = format!(
                "`{text}` is no time: write one such as 2026-11-22T07:00:00Z, or a span before now \
                 such as 90s, 30m, 24h or 7d"
            );
            (exit::USAGE, message)
        }),
    };
    let (from, to) = (moment(from, default_from_us)?, moment(to, now)?);
    if from >= to {
        return Err((exit::USAGE, "--from must be before --to".to_owned()));
    }
    Ok((from, to))
}

fn parse_moment(text: &str, now_us: i64) -> Option<i64> {
    if let Some(at) = parse_rfc3339(text) {
        return Some(at);
    }
    let unit_s: i64 = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: i64 = digits.parse().ok()?;
    now_us.checked_sub(count.checked_mul(unit_s)?.checked_mul(1_000_000)?)
}

/// RFC 3339, to the second.
pub(super) fn shown(time_us: i64) -> String {
    let mut out = Vec::new();
    write_rfc3339(&mut out, time_us.div_euclid(1_000_000) * 1_000_000);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_taken_in_either_form_and_anything_else_is_refused_with_examples() {
        let now = 1_000_000_000_000;
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_moment(text, now), expected, "{text}");
        };
        check("1970-01-01T00:00:01Z", Some(1_000_000));
        check("90s", Some(now - 90_000_000));
        check("2h", Some(now - 7_200_000_000));
        check("7d", Some(now - 604_800_000_000));
        for bad in ["", "h", "-1h", "1.5h", "yesterday", "1y", "99999999999999999999d", "é"] {
            check(bad, None);
        }
        assert!(parse(Some("1h"), Some("2h"), 0).unwrap_err().1.contains("before"));
        assert!(parse(Some("soon"), None, 0).unwrap_err().1.contains("30m"));
    }
}
