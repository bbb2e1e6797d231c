//! Numbers as people read them.

/// `200000` as `200,000`.
pub fn count(number: u64) -> String {
    if number >= UNLIMITED {
        return "unlimited".to_owned();
    }
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with a unit, three digits or so.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if number == u64::MAX {
        return "unlimited".to_owned();
    }
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{number} B"),
        _ if value >= 100.0 => format!("{value:.0} {}", UNITS[unit]),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// Bytes as people type them: `32G`, `512M`, `1.5G`, `1073741824`. Units are powers of 1,024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let plain = text.trim_end_matches(['B', 'b']).trim_end_matches(['i', 'I']);
    let (number, shift) = match plain.chars().last()?.to_ascii_uppercase() {
        'K' => (&plain[..plain.len() - 1], 10),
        'M' => (&plain[..plain.len() - 1], 20),
        'G' => (&plain[..plain.len() - 1], 30),
        'T' => (&plain[..plain.len() - 1], 40),
        _ => (plain, 0),
    };
    if let Ok(whole) = number.trim().parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let value: f64 = number.trim().parse().ok()?;
    let bytes = value * (1_u64 << shift) as f64;
    (value.is_finite() && value >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// The next power of two, or the largest number where there is none.
pub fn power_of_two(number: u64) -> u64 {
    number.checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// The kernel says "no limit" with the largest number of one type or another.
const UNLIMITED: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_they_were_meant() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(200_000), "200,000");
        assert_eq!(count(u64::MAX), "unlimited");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(131_072), "128 KiB");
        assert_eq!(bytes(1_610_612_736), "1.5 GiB");
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_bytes(text), expected, "{text:?}");
        };
        check("1024", Some(1024));
        check("32G", Some(32 << 30));
        check("32GiB", Some(32 << 30));
        check("1.5g", Some(3 << 29));
        check("512 M", Some(512 << 20));
        check("99999999T", None);
        check("-1", None);
        check("", None);
        check("G", None);
        check("nan", None);
        check("é", None);
    }
}
