//! Decimal numbers as tags and filters write them, compared exactly and without arithmetic.
//!
//! What counts as a number is what Centrifugo's filters take (quagmt/udecimal `Parse`): an optional
//! sign, digits, and optionally a point with one to nineteen digits behind it; up to 200 bytes; no
//! exponent, no space, no digit left out. `-0` is `0`.

use std::cmp::Ordering;

/// A number, borrowed from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal<'a> {
    negative: bool,
    /// Without leading zeros.
    whole: &'a [u8],
    /// Without trailing zeros.
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Reads a number; `None` if the text is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (unsigned, None),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let short = |part: &str| digits(part) && part.len() <= FRACTION_DIGITS_MAX;
        if !digits(whole) || !fraction.is_none_or(short) {
            return None;
        }
        let whole = whole.trim_start_matches('0').as_bytes();
        let fraction = fraction.unwrap_or_default().trim_end_matches('0').as_bytes();
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: text.starts_with('-') && !zero, whole, fraction })
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |number: &Self| (number.whole.len(), number.whole, number.fraction);
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The longest text of a number.
const TEXT_BYTES_MAX: usize = 200;

/// The most digits behind the point.
const FRACTION_DIGITS_MAX: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_decimal_is_told() {
        let check = |text: &str, expected| {
            assert_eq!(Decimal::parse(text).is_some(), expected, "{text}");
        };
        for text in ["0", "-0", "+1", "007", "1.5", "-1.50", "0.1234567890123456789"] {
            check(text, true);
        }
        for text in
            ["", "+", "-", ".5", "-.5", "5.", "1.2.3", "1e3", " 1", "1 ", "0x1", "1_0", "--1"]
        {
            check(text, false);
        }
        check("0.12345678901234567890", false);
        check("١", false);
        check(&"9".repeat(200), true);
        check(&"9".repeat(201), false);
    }

    #[test]
    fn the_order_is_that_of_the_numbers() {
        let ordered = ["-100", "-99.5", "-2", "-1.10", "-1.1", "-0.1", "0", "0.01", "0.1", "1"]
            .into_iter()
            .chain(["1.05", "1.1", "9", "10", "10.000000001", "123456789012345678901234567890"]);
        let numbers: Vec<_> = ordered.map(|text| Decimal::parse(text).unwrap()).collect();
        for pair in numbers.windows(2) {
            assert!(pair[0] <= pair[1], "{pair:?}");
        }
        assert_eq!(Decimal::parse("-1.10"), Decimal::parse("-01.1"));
        assert_eq!(Decimal::parse("-0.0"), Decimal::parse("+0"));
    }

    proptest! {
        #[test]
        fn it_is_the_order_of_scaled_integers(a: i64, b: i64, scale in 0_usize..=18) {
            let text = |number: i64| {
                let digits = format!("{:0>20}", number.unsigned_abs());
                let (whole, fraction) = digits.split_at(20 - scale);
                let sign = if number < 0 { "-" } else { "" };
                let point = if scale == 0 { "" } else { "." };
                format!("{sign}{whole}{point}{fraction}")
            };
            let (left, right) = (text(a), text(b));
            let order = Decimal::parse(&left).unwrap().cmp(&Decimal::parse(&right).unwrap());
            prop_assert_eq!(order, a.cmp(&b));
        }
    }
}
