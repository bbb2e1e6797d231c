//! RFC 3339 times to and from microseconds since the Unix epoch.
//!
//! Written out because a time is printed into every envelope and read from most events: about
//! 15 ns each, against 60-100 ns through a general date library (which is the second opinion in
//! the tests). Covers the years 0000 to 9999, the proleptic Gregorian calendar, UTC output only.
//! Deliberately absent: time zones by name, local time, clocks.

/// 0000-01-01T00:00:00Z.
pub const TIME_US_MIN: i64 = -62_167_219_200_000_000;

/// 9999-12-31T23:59:59.999999Z.
pub const TIME_US_MAX: i64 = 253_402_300_799_999_999;

const DAY_S: i64 = 86_400;

/// Appends a time as `2026-01-31T23:59:59.000001Z`: UTC, always six fraction digits, so that the
/// text sorts like the time. A time outside the years 0000 to 9999 is held at that end.
pub fn write_rfc3339(out: &mut Vec<u8>, time_us: i64) {
    let time_us = time_us.clamp(TIME_US_MIN, TIME_US_MAX);
    let seconds = time_us.div_euclid(1_000_000);
    let fraction = time_us.rem_euclid(1_000_000) as u32;
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_S));
    let second_of_day = seconds.rem_euclid(DAY_S) as u32;
    let (hour, minute, second) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let two = |n: u32| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    let [y1, y2] = two(year / 100);
    let [y3, y4] = two(year % 100);
    let [m1, m2] = two(month);
    let [d1, d2] = two(day);
    let [h1, h2] = two(hour);
    let [i1, i2] = two(minute);
    let [s1, s2] = two(second);
    let [f1, f2] = two(fraction / 10_000);
    let [f3, f4] = two(fraction / 100);
    let [f5, f6] = two(fraction);
    out.extend_from_slice(&[
        y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2, b'.',
        f1, f2, f3, f4, f5, f6, b'Z',
    ]);
}

/// Reads a time, `None` if the text is not one.
//= rfc3339#5.6
/// `T` and `Z` may be lower case and a space may stand for the `T`. Digits beyond microseconds
/// are cut off. A leap second (`:60`) is taken as the last second of its minute.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date_time, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, dash1, m1, m2, dash2, d1, d2, t, h1, h2, c1, i1, i2, c2, s1, s2] =
        *date_time;
    let separators = [dash1, dash2, c1, c2] == *b"--::" && matches!(t, b'T' | b't' | b' ');
    if !separators {
        return None;
    }
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let (hour, minute) = (two_digits(h1, h2)?, two_digits(i1, i2)?);
    let second = two_digits(s1, s2)?;
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_us, rest) = fraction(rest)?;
    let offset_s = offset(rest)?;
    let seconds = days_from_civil(year, month, day) * DAY_S
        + i64::from(hour * 3600 + minute * 60 + second.min(59))
        - offset_s;
    let time_us = seconds * 1_000_000 + fraction_us;
    (TIME_US_MIN..=TIME_US_MAX).contains(&time_us).then_some(time_us)
}

/// `.123456789` or nothing, as microseconds, and what follows.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = rest.split_first() else { return Some((0, rest)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let (fraction, rest) = digits.split_at_checked(count)?;
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    Some((padded.fold(0, |us, digit| us * 10 + i64::from(digit - b'0')), rest))
}

/// `Z` or `+hh:mm`, in seconds.
fn offset(rest: &[u8]) -> Option<i64> {
    match *rest {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
            let seconds = i64::from(hours * 3600 + minutes * 60);
            let legal = hours <= 23 && minutes <= 59;
            legal.then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn two_digits(tens: u8, ones: u8) -> Option<u32> {
    let legal = tens.is_ascii_digit() && ones.is_ascii_digit();
    legal.then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(if year.is_multiple_of(100) { 400 } else { 4 }) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day is the last one;
/// 400 years have 146,097 days.
fn days_from_civil(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * i64::from((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(time_us: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339(&mut out, time_us);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times_print_with_six_digits() {
        let check = |time_us, text: &str| assert_eq!(text_of(time_us), text);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
        check(951_782_400_000_001, "2000-02-29T00:00:00.000001Z");
        check(TIME_US_MIN, "0000-01-01T00:00:00.000000Z");
        check(TIME_US_MAX, "9999-12-31T23:59:59.999999Z");
        check(i64::MIN, "0000-01-01T00:00:00.000000Z");
        check(i64::MAX, "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_legal_form_is_read_and_no_other() {
        let check = |text: &str, time_us: Option<i64>| {
            assert_eq!(parse_rfc3339(text), time_us, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-01t00:00:00z", Some(0));
        check("1970-01-01 00:00:00Z", Some(0));
        check("1970-01-01T01:00:00+01:00", Some(0));
        check("1969-12-31T23:30:00-00:30", Some(0));
        check("1970-01-01T00:00:00-00:00", Some(0));
        check("1970-01-01T00:00:00.5Z", Some(500_000));
        check("1970-01-01T00:00:00.1234567890123Z", Some(123_456));
        check("1970-01-01T00:00:60Z", Some(59_000_000));
        check("2000-02-29T00:00:00Z", Some(951_782_400_000_000));
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00ZZ",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00+00:60",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:61Z",
            "1970-00-01T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-04-31T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "+970-01-01T00:00:00Z",
            "1970/01/01T00:00:00Z",
            "1970-01-01_00:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "１970-01-01T00:00:00Z",
        ] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn printing_agrees_with_jiff_and_reads_back(
            // jiff's range ends a day before ours.
            time_us in TIME_US_MIN..=TIME_US_MAX - 2 * 86_400_000_000,
        ) {
            let text = text_of(time_us);
            let other = jiff::Timestamp::from_microsecond(time_us).unwrap();
            prop_assert_eq!(&text, &format!("{other:.6}"));
            prop_assert_eq!(parse_rfc3339(&text), Some(time_us));
        }

        #[test]
        fn reading_agrees_with_jiff(
            // Years and offsets that both know: jiff goes beyond year 0 and takes +25:59.
            text in concat!(
                "[1-8][0-9]{3}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]",
                "(\\.[0-9]{1,9})?(Z|z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
            ),
        ) {
            let other: Result<jiff::Timestamp, _> = text.parse();
            let floor = other.ok().map(|t| t.as_nanosecond().div_euclid(1000) as i64);
            prop_assert_eq!(parse_rfc3339(&text), floor);
        }
    }
}
