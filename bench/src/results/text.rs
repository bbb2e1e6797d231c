//! An outcome as a table on the terminal.

use super::goals::Verdict;
use super::stats::Spread;
use super::{OURS, Outcome};

/// A number with thousands separators.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure with its unit.
pub fn figure(value: f64, digits: usize) -> String {
    if digits == 0 && value.abs() >= 1_000.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(value.abs().round() as u64));
    }
    format!("{value:.digits$}")
}

/// `1.23 (1.20 to 1.30)`.
pub fn spread(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "-".to_owned(),
        Some(it) if it.count == 1 => figure(it.median, digits),
        Some(it) => format!(
            "{} ({} to {})",
            figure(it.median, digits),
            figure(it.low, digits),
            figure(it.high, digits)
        ),
    }
}

/// Rows of a measure: side, median with quartiles, ratio of ours to it.
pub fn rows(outcome: &Outcome, measure: &super::Measure) -> Vec<[String; 3]> {
    let ours = outcome.side(OURS);
    let sides = outcome.sides.iter().enumerate().filter(|(at, _)| !measure.of(*at).is_empty());
    sides
        .map(|(at, side)| {
            let value = spread(Spread::of(measure.of(at)), measure.digits);
            let ratio = match ours {
                Some(ours) if measure.compared && at != ours => spread(measure.ratio(ours, at), 3),
                _ => String::new(),
            };
            [side.name.clone(), value, ratio]
        })
        .collect()
}

/// What a goal came to.
pub fn verdict(verdict: &Verdict) -> String {
    let outcome = match (verdict.figure, verdict.met) {
        (None, _) => "not measured".to_owned(),
        (Some(figure), true) => format!("met: {figure:.3}"),
        (Some(figure), false) => format!("MISSED: {figure:.3}"),
    };
    format!("{}: {outcome}", verdict.asked)
}

/// Prints it.
pub fn print(outcome: &Outcome) {
    println!("\n== {}", outcome.title);
    println!("{}", outcome.about);
    let widths = outcome.sides.iter().map(|side| side.name.chars().count());
    let width = widths.max().unwrap_or(0).max(4);
    for measure in &outcome.measures {
        println!("\n{}, {} (median, quartiles)", measure.name, measure.unit);
        let rows = rows(outcome, measure);
        let wide = rows.iter().map(|row| row[1].chars().count()).max().unwrap_or(0);
        for [side, value, ratio] in rows {
            let ratio = if ratio.is_empty() { ratio } else { format!("shardcast / it: {ratio}") };
            println!("  {side:width$}  {value:>wide$}  {ratio}");
        }
    }
    println!();
    for side in &outcome.sides {
        println!("  {:width$}  {}", side.name, side.version);
        println!("  {:width$}  {}; {}", "", side.integrity, side.saturation);
    }
    for (name, reason) in &outcome.skipped {
        println!("  {name:width$}  SKIPPED: {reason}");
    }
    for note in &outcome.notes {
        println!("note: {note}");
    }
    for goal in &outcome.goals {
        println!("goal: {}", verdict(&goal.judge(outcome)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([figure(-1_234.0, 0), figure(0.126, 2)], ["-1,234", "0.13"]);
    }
}
