//! A measure as a plot: a bar for each side's median, a line for its quartiles, a dot for each
//! sample.
//!
//! Colours come from a style sheet inside the file, with a second set for dark pages, so that the
//! same file is readable on both.

use super::stats::Spread;
use super::text::figure;
use super::{BARE, Measure, OURS, Outcome};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 30.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 44.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600;font-size:15px}.s{fill:#59636e}\
.bar{fill:#9aa7b4}.ours{fill:#2f6fde}.bare{fill:#c9b458}.q{stroke:#1f2328;stroke-width:2}\
.d{fill:#1f2328;fill-opacity:.45}.g{stroke:#d1d9e0}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.bar{fill:#59636e}\
.ours{fill:#4c8dff}.bare{fill:#8f7f35}.q{stroke:#e6edf3}.d{fill:#e6edf3}.g{stroke:#3d444d}}";

/// Of the plot of a measure.
pub fn file_name(outcome: &Outcome, measure: &Measure) -> String {
    let mut name = outcome.name.clone();
    for word in measure.name.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        if !word.is_empty() {
            name.push('-');
            name.push_str(&word.to_ascii_lowercase());
        }
    }
    name + ".svg"
}

/// The plot; `None` without samples.
pub fn render(outcome: &Outcome, measure: &Measure) -> Option<String> {
    let sides: Vec<(&str, &[f64])> = outcome
        .sides
        .iter()
        .enumerate()
        .map(|(at, side)| (side.name.as_str(), measure.of(at)))
        .filter(|(_, samples)| !samples.is_empty())
        .collect();
    // The axis reaches the farthest round.
    let most = sides.iter().flat_map(|(_, samples)| samples.iter().copied());
    let most = most.fold(f64::NAN, f64::max);
    let step = step(most)?;
    let steps = (most / step).ceil().max(1.0);
    let scale = (WIDTH - LEFT - RIGHT) / (steps * step);
    let height = TOP + ROW * sides.len() as f64 + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <title>{0}: {1}</title><style>{STYLE}</style>\
         <text class=\"t\" x=\"8\" y=\"20\">{1}</text><text class=\"s\" x=\"8\" y=\"40\">{0}</text>\n",
        escape(&outcome.title),
        escape(&measure.name)
    );
    let bottom = height - BOTTOM;
    for at in 0..=steps as usize {
        let (value, x) = (at as f64 * step, LEFT + at as f64 * step * scale);
        let digits = if step < 1.0 { 2 } else { 0 };
        let _ = writeln!(
            out,
            "<line class=\"g\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
             <text class=\"s\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            figure(value, digits)
        );
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = writeln!(
        out,
        "<text class=\"s\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}, {}: bar median, line \
         quartiles, dots rounds</text>",
        height - 8.0,
        escape(&measure.name),
        escape(&measure.unit)
    );
    for (row, (name, samples)) in sides.iter().enumerate() {
        side(&mut out, row, name, samples, measure, scale);
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn side(out: &mut String, row: usize, name: &str, samples: &[f64], measure: &Measure, scale: f64) {
    let Some(spread) = Spread::of(samples) else { return };
    let class = match name {
        BARE => "bare",
        name if name.starts_with(OURS) => "ours",
        _ => "bar",
    };
    let top = TOP + ROW * row as f64 + 5.0;
    let middle = top + 10.0;
    let x = |value: f64| (LEFT + value * scale).clamp(LEFT, WIDTH - 4.0);
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"20\" rx=\"2\"/>\
         <line class=\"q\" x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LEFT - 8.0,
        middle + 4.0,
        escape(name),
        x(spread.median) - LEFT,
        x(spread.low),
        x(spread.high),
        WIDTH - RIGHT + 12.0,
        middle + 4.0,
        figure(spread.median, measure.digits)
    );
    for sample in samples {
        let at = x(*sample);
        let _ = write!(out, "<circle class=\"d\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"2.5\"/>");
    }
    out.push('\n');
}

/// A round distance of grid lines, some five of them.
fn step(most: f64) -> Option<f64> {
    if most.is_nan() || most <= 0.0 {
        return None;
    }
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= rough)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::outcome;

    #[test]
    fn a_plot_has_a_bar_for_each_side_and_a_dot_for_each_sample() {
        let outcome = outcome();
        let plot = render(&outcome, &outcome.measures[0]).unwrap();
        assert_eq!(plot.matches("<rect").count(), 4);
        assert_eq!(plot.matches("<circle").count(), 12);
        assert!(plot.contains("class=\"ours\"") && plot.contains("class=\"bare\""));
        assert_eq!(file_name(&outcome, &outcome.measures[0]), "x-cost.svg");
    }

    #[test]
    fn grid_lines_are_round_and_few() {
        assert_eq!(
            (step(9.0), step(0.31), step(120_000.0)),
            (Some(2.0), Some(0.1), Some(50_000.0))
        );
        assert_eq!((step(0.0), step(f64::NAN)), (None, None));
    }
}
