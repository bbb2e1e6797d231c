//! Charts as inline SVG, each drawn twice: for a wide page and for a telephone, since letters in a
//! drawing shrink with it. Style sheets choose. Colours are classes, so that light and dark differ.
//! All text goes through [`escape`].

use std::fmt::Write;

/// Text that is safe in HTML, attributes included.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A bar of parts.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    /// Stands at its end.
    pub(super) value: String,
    /// Length and class of each part.
    pub(super) parts: Vec<(f64, &'static str)>,
    /// Set off from the others.
    pub(super) strong: bool,
}

/// Horizontal bars from one zero.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    both(title, |wide| draw_bars(bars, wide))
}

/// What is drawn for both widths.
fn both(title: &str, draw: impl Fn(bool) -> (f64, String)) -> String {
    let mut out = String::new();
    for (class, wide) in [("wide", true), ("narrow", false)] {
        let (height, body) = draw(wide);
        let _ = write!(
            out,
            "<svg class=\"{class}\" viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"{}\">\
             {body}</svg>",
            width(wide),
            escape(title)
        );
    }
    out
}

fn width(wide: bool) -> f64 {
    if wide { 760.0 } else { 340.0 }
}

fn draw_bars(bars: &[Bar], wide: bool) -> (f64, String) {
    let longest = bars.iter().map(|bar| bar.parts.iter().map(|part| part.0).sum::<f64>());
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let values = bars.iter().map(|bar| bar.value.chars().count()).max().unwrap_or(0) as f64;
    let (left, row, thick) = if wide { (290.0, 28.0, 16.0) } else { (0.0, 44.0, 14.0) };
    let room = width(wide) - left - values * LETTER - 12.0;
    let mut out = String::new();
    for (index, bar) in bars.iter().enumerate() {
        let top = index as f64 * row;
        let class = if bar.strong { "strong" } else { "" };
        let (label_x, label_y, bar_y) =
            if wide { (left - 10.0, top + 18.0, top + 5.0) } else { (0.0, top + 15.0, top + 22.0) };
        let anchor = if wide { "end" } else { "start" };
        let _ = write!(
            out,
            "<text class=\"{class}\" x=\"{label_x}\" y=\"{label_y}\" text-anchor=\"{anchor}\">{}\
             </text>",
            escape(&bar.label)
        );
        let mut x = left;
        for (length, class) in &bar.parts {
            let wide = length / longest * room;
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{bar_y}\" width=\"{wide:.1}\" \
                 height=\"{thick}\"/>"
            );
            x += wide;
        }
        let _ = write!(
            out,
            "<text class=\"value {class}\" x=\"{:.1}\" y=\"{}\">{}</text>",
            x + 6.0,
            bar_y + thick - 3.0,
            escape(&bar.value)
        );
    }
    (bars.len() as f64 * row + 4.0, out)
}

/// A point of a line: where, and what stands at it.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) below: String,
    pub(super) at: String,
    pub(super) strong: bool,
}

/// A line over two logarithmic scales; points without a logarithm are left out.
pub(super) fn line(title: &str, points: &[Point]) -> String {
    let points: Vec<&Point> = points.iter().filter(|it| it.x > 0.0 && it.y > 0.0).collect();
    both(title, |wide| draw_line(&points, wide))
}

fn draw_line(points: &[&Point], wide: bool) -> (f64, String) {
    let (across, height) = (width(wide), if wide { 240.0 } else { 220.0 });
    let (left, right, top, bottom) = (28.0, 40.0, 30.0, 30.0);
    let scale = |pick: fn(&Point) -> f64| {
        let low = points.iter().map(|it| pick(it).log10()).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(|it| pick(it).log10()).fold(f64::NEG_INFINITY, f64::max);
        (low, (high - low).max(0.1))
    };
    let ((x_low, x_span), (y_low, y_span)) = (scale(|it| it.x), scale(|it| it.y));
    let place = |it: &Point| {
        let x = left + (it.x.log10() - x_low) / x_span * (across - left - right);
        let y = (it.y.log10() - y_low) / y_span;
        (x, height - bottom - y * (height - top - bottom))
    };
    let floor = height - bottom;
    let mut out =
        format!("<line class=\"axis\" x1=\"0\" y1=\"{floor}\" x2=\"{across}\" y2=\"{floor}\"/>");
    let path: Vec<String> = points
        .iter()
        .map(|it| {
            let (x, y) = place(it);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = write!(out, "<polyline class=\"curve\" points=\"{}\"/>", path.join(" "));
    for (index, it) in points.iter().enumerate() {
        let (x, y) = place(it);
        let class = if it.strong { "strong" } else { "" };
        let _ = write!(out, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
        // A telephone has no room for every one; the last and every second before it stand there.
        if !wide && !(points.len() - 1 - index).is_multiple_of(2) {
            continue;
        }
        let _ = write!(
            out,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y - 10.0,
            escape(&it.at),
            height - 10.0,
            escape(&it.below)
        );
    }
    (height, out)
}

/// A letter of the charts' font is about so wide.
const LETTER: f64 = 7.6;
