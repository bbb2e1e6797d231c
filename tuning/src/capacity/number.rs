//! Numbers as people write and read them.

/// A number: `1000000`, `1_000_000`, `1,000,000`, `1e6`, `1.5M`, `10k`.
pub fn parse_number(text: &str) -> Result<f64, String> {
    let plain: String = text.trim().chars().filter(|c| !matches!(c, '_' | ',')).collect();
    let (digits, scale) = match plain.char_indices().last() {
        Some((at, 'k' | 'K')) => (&plain[..at], 1e3),
        Some((at, 'M')) => (&plain[..at], 1e6),
        Some((at, 'G')) => (&plain[..at], 1e9),
        _ => (plain.as_str(), 1.0),
    };
    // `inf`, `nan` and the like are numbers to the library and not to us.
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    let value = digits.parse::<f64>().ok().filter(|_| starts).map(|value| value * scale);
    match value {
        Some(value) if value.is_finite() => Ok(value),
        Some(_) => Err(format!("`{text}` is too large a number")),
        None => Err(format!("`{text}` is not a number; write 1000000, 1e6, 1_000_000 or 1M")),
    }
}

/// An amount of memory: `2G` is 2 x 10^9 bytes and `2Gi` 2 x 2^30, as in Kubernetes.
pub fn parse_bytes(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let number_end = trimmed.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
    let (digits, unit) = trimmed.split_at(number_end);
    let unit = unit.trim().trim_end_matches(['B', 'b']);
    let powers = ["", "K", "M", "G", "T"];
    let decimal = powers.iter().position(|name| name.eq_ignore_ascii_case(unit));
    let binary = unit.strip_suffix('i');
    let binary = binary.and_then(|unit| powers.iter().position(|it| it.eq_ignore_ascii_case(unit)));
    let scale = match (decimal, binary) {
        (Some(power), _) => 1_000_f64.powi(power as i32),
        (None, Some(power)) if power > 0 => 1_024_f64.powi(power as i32),
        _ => return Err(format!("`{text}` is not an amount of memory; write 2G, 2Gi or 512Mi")),
    };
    match parse_number(digits) {
        Ok(number) => Ok(number * scale),
        Err(_) => Err(format!("`{text}` is not an amount of memory; write 2G, 2Gi or 512Mi")),
    }
}

/// Percent, with or without its sign.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    parse_number(text.trim().trim_end_matches('%').trim_end())
        .map_err(|_| format!("`{text}` is not a number of percent; write 50"))
}

/// A number as a person writes it: thousands apart, no more digits than say something.
pub(super) fn plain(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    if size >= 1e15 || (size > 0.0 && size < 1e-6) {
        return format!("{value:e}");
    }
    let text = if size >= 1_000.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        // Four digits that count.
        let digits = (3 - size.log10().floor() as i32).clamp(0, 9) as usize;
        let text = format!("{value:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    grouped(&text)
}

/// The same with so many digits behind the point.
pub(super) fn fixed(value: f64, digits: usize) -> String {
    grouped(&format!("{value:.digits$}"))
}

fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// Bytes with a unit: 1.5 GB.
pub(super) fn bytes(value: f64) -> String {
    scaled(value, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Bits per second with a unit.
pub(super) fn bits(value: f64) -> String {
    scaled(value, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"])
}

fn scaled(value: f64, units: &[&str]) -> String {
    let (mut value, mut at) = (value, 0);
    while value.abs() >= 1_000.0 && at + 1 < units.len() {
        value /= 1_000.0;
        at += 1;
    }
    let digits = if at == 0 || value >= 100.0 { 0 } else { 2 };
    format!("{} {}", fixed(value, digits), units[at])
}

/// An amount of money; small ones keep the digits that say something.
pub(super) fn money(currency: &str, value: f64) -> String {
    let size = value.abs();
    let text = if size >= 100.0 || size == 0.0 {
        fixed(value, 0)
    } else if size >= 0.1 {
        fixed(value, 2)
    } else {
        plain(value)
    };
    format!("{currency}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them_and_nothing_else_is() {
        for (text, value) in [
            ("1000000", 1e6),
            ("1_000_000", 1e6),
            ("1,000,000", 1e6),
            ("1e6", 1e6),
            ("1.5M", 1.5e6),
            ("10k", 1e4),
            ("0.25", 0.25),
            ("-1", -1.0),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        for text in ["", "nan", "NaN", "inf", "-inf", "1e999", "ten", "1x", "k", "1e", "--1", "é"]
        {
            assert!(parse_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_is_decimal_without_and_binary_with_an_i() {
        for (text, value) in [
            ("2G", 2e9),
            ("2GB", 2e9),
            ("2Gi", 2_147_483_648.0),
            ("2 GiB", 2_147_483_648.0),
            ("512Mi", 536_870_912.0),
            ("1024", 1_024.0),
            ("1.5g", 1.5e9),
        ] {
            assert_eq!(parse_bytes(text), Ok(value), "{text}");
        }
        for text in ["", "G", "2X", "2i", "nanG", "2GG", "é", "infG"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_percent("50 %"), Ok(50.0));
        assert!(parse_percent("half").is_err());
    }

    #[test]
    fn figures_are_shown_with_the_digits_that_say_something() {
        for (value, text) in [
            (1_000_000.0, "1,000,000"),
            (16.666_666, "16.67"),
            (0.016_666_666, "0.01667"),
            (-1_234.0, "-1,234"),
            (0.0, "0"),
            (999.96, "1,000"),
            (1.5, "1.5"),
        ] {
            assert_eq!(plain(value), text, "{value}");
        }
        assert_eq!(bytes(683e12), "683 TB");
        assert_eq!(bits(1.3333e9), "1.33 Gbit/s");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(money("$", 18_000.0), "$18,000");
        assert_eq!(money("$", 0.000_052), "$0.000052");
        assert_eq!(money("$", 2.1), "$2.10");
    }
}
