//! One scalar out of a JSON text, by a path of member names, without building a tree.
//!
//! What counts as a value, and how it is written, is said in [`crate::field`]. Only what stands
//! before the value is scanned; whether the rest is JSON was asked when the event was taken.
//! Deliberately absent: arrays, wildcards. Tested here, and against `serde_json` as a second
//! opinion.

use super::scan::Scanner;
use std::borrow::Cow;

/// The text of the scalar at `path`; `None` if there is none.
pub(crate) fn scalar<'a, 'p>(
    json: &'a [u8],
    path: impl Iterator<Item = &'p str>,
) -> Option<Cow<'a, str>> {
    let mut scanner = Scanner::new(json, 0);
    scanner.skip_space();
    for name in path {
        // The cursor is behind a colon and its space, or at the start.
        if !scanner.enter(name).ok()? {
            return None;
        }
    }
    match scanner.peek()? {
        b'{' | b'[' | b'n' => None,
        b'"' => {
            let value = scanner.value().ok()?;
            if value.escaped {
                // A lone surrogate is no text.
                return serde_json::from_slice(value.of(json)).ok().map(Cow::Owned);
            }
            std::str::from_utf8(value.inner(json)).ok().map(Cow::Borrowed)
        }
        b't' | b'f' => text(scanner.value().ok()?.of(json)).map(Cow::Borrowed),
        _ => number(text(scanner.value().ok()?.of(json))?),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The canonical form of a JSON number.
fn number(text: &str) -> Option<Cow<'_, str>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits == "0" {
        return Some(Cow::Borrowed("0"));
    }
    let integer = digits.bytes().all(|b| b.is_ascii_digit());
    // JSON has no leading zeros: an integer's text is canonical already.
    if integer && (digits.len() <= 18 || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
    {
        return Some(Cow::Borrowed(text));
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| Cow::Owned(double(number)))
}

/// ECMAScript's `Number::toString`, without the plus in exponents.
fn double(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    // Rust prints the shortest digits that read back: `-1.25e-7`.
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let mut out = String::from(if number < 0.0 { "-" } else { "" });
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let count = digits.len() as i32;
    match exponent {
        0..=20 if count <= exponent + 1 => {
            out += &digits;
            out += &zeros(exponent + 1 - count);
        }
        0..=20 => {
            let (whole, fraction) =
                digits.split_at_checked(exponent as usize + 1).unwrap_or((&digits, ""));
            out.extend([whole, ".", fraction]);
        }
        -6..0 => {
            out += "0.";
            out += &zeros(-1 - exponent);
            out += &digits;
        }
        _ => {
            out += mantissa;
            out += "e";
            out += &exponent.to_string();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn at(json: &str, path: &str) -> Option<String> {
        scalar(json.as_bytes(), path.split('.')).map(Cow::into_owned)
    }

    #[test]
    fn a_path_goes_through_objects_only_and_the_first_member_counts() {
        let check = |json: &str, path: &str, expected: Option<&str>| {
            assert_eq!(at(json, path).as_deref(), expected, "{json} {path}");
        };
        check(r#"{"a":"x"}"#, "a", Some("x"));
        check(" {\n\"b\" : [1,{\"a\":2}] , \"a\"\t:\r3 } ", "a", Some("3"));
        check(r#"{"a":{"b":{"c":true}}}"#, "a.b.c", Some("true"));
        check(r#"{"a":{"b":1}}"#, "a", None);
        check(r#"{"a":[{"b":1}]}"#, "a.b", None);
        check(r#"{"a":[1]}"#, "a.0", None);
        check(r#"{"a":null}"#, "a", None);
        check(r#"{"a":1,"a":2}"#, "a", Some("1"));
        check(r#"{"a":1,"a":{"b":2}}"#, "a.b", None);
        check(r#"{"A":1}"#, "a", None);
        check(r#"{"aa":1,"a":false}"#, "a", Some("false"));
        check(r#"{}"#, "a", None);
        check(r#""a""#, "a", None);
        check("17", "a", None);
        check("", "a", None);
        check(r#"{"a":"}","b":"\"","c":7}"#, "c", Some("7"));
        check(r#"{"a.b":1}"#, "a.b", None);
    }

    #[test]
    fn escapes_are_equal_to_what_they_stand_for_in_names_and_values() {
        assert_eq!(at(r#"{"caf\u00e9":"\u00e9"}"#, "café").as_deref(), Some("é"));
        assert_eq!(at(r#"{"café":"é"}"#, "café").as_deref(), Some("é"));
        assert_eq!(at(r#"{"a":"\ud83d\ude00\n\/"}"#, "a").as_deref(), Some("😀\n/"));
        assert_eq!(at(r#"{"a":"\ud800"}"#, "a"), None, "a lone surrogate is no text");
        assert_eq!(at(r#"{"a":"\u0000"}"#, "a").as_deref(), Some("\0"));
        assert_eq!(at(r#"{"a":""}"#, "a").as_deref(), Some(""));
    }

    #[test]
    fn equal_numbers_are_one_value_however_they_are_written() {
        let check = |text: &str, expected: &str| {
            let json = format!("{{\"a\":{text}}}");
            assert_eq!(at(&json, "a").as_deref(), Some(expected), "{text}");
        };
        for text in ["0", "-0", "0.0", "-0.0", "0e5", "1e-999"] {
            check(text, "0");
        }
        for text in ["1.5", "1.50", "15e-1", "0.15E+1"] {
            check(text, "1.5");
        }
        check("1.0", "1");
        check("-1e2", "-100");
        check("100", "100");
        check("9223372036854775808", "9223372036854775808");
        check("18446744073709551615", "18446744073709551615");
        check("18446744073709551616", "18446744073709552000");
        check("-9223372036854775808", "-9223372036854775808");
        check("-9223372036854775809", "-9223372036854776000");
        check("123456789012345680000", "123456789012345680000");
        check("1e20", "100000000000000000000");
        check("1e21", "1e21");
        check("-1.25e300", "-1.25e300");
        check("0.000001", "0.000001");
        check("0.0000001", "1e-7");
        check("123.456", "123.456");
        check("5e-324", "5e-324");
        assert_eq!(at(r#"{"a":1e999}"#, "a"), None, "beyond a double");
    }

    /// Damage and depth: whatever the bytes are, the answer is a value or none.
    #[test]
    fn deep_and_broken_texts_end_without_a_value() {
        let deep = format!("{{\"x\":{}1{},\"a\":2}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(at(&deep, "a").as_deref(), Some("2"));
        let nested = format!("{}7{}", "{\"a\":".repeat(16), "}".repeat(16));
        assert_eq!(at(&nested, &["a"; 16].join(".")).as_deref(), Some("7"));
        let text = br#"{"b":[1,{"c":"\u00e9"}],"a":{"d":-1.5e3}}"#;
        for cut in 0..text.len() {
            let _ = scalar(&text[..cut], ["a", "d"].into_iter());
            for byte in [0, b'"', b'\\', b'{', b']', 0xff] {
                let mut damaged = text.to_vec();
                damaged[cut] = byte;
                let _ = scalar(&damaged, ["a", "d"].into_iter());
            }
        }
    }

    proptest! {
        #[test]
        fn any_double_reads_back_from_its_text(bits: u64) {
            let number = f64::from_bits(bits);
            if number.is_finite() {
                prop_assert_eq!(double(number).parse::<f64>().unwrap(), number);
            }
        }

        #[test]
        fn strings_agree_with_serde_json(name in "\\PC{1,6}", value: String, noise: String) {
            prop_assume!(!name.contains('.') && name != "noise");
            let object = serde_json::json!({ "noise": [noise], &*name: value });
            prop_assert_eq!(at(&object.to_string(), &name), Some(value.clone()));
            let escaped: String = value.encode_utf16().map(|u| format!("\\u{u:04x}")).collect();
            let json = format!("{{{}:\"{escaped}\"}}", Value::from(name.clone()));
            prop_assert_eq!(at(&json, &name), Some(value));
        }
    }
}
