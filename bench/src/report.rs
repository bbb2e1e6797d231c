//! How results are printed: a title, rows of name, value and remark.

/// One report.
#[derive(Debug)]
pub struct Report {
    rows: Vec<(String, String, String)>,
}

impl Report {
    /// Begins a report.
    pub fn new(title: &str) -> Self {
        println!("\n== {title}");
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, name: &str, value: impl Into<String>, remark: impl Into<String>) {
        self.rows.push((name.to_owned(), value.into(), remark.into()));
    }

    /// Prints the table.
    pub fn print(self) {
        let width = |of: fn(&(String, String, String)) -> &str| {
            self.rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
        };
        let (names, values) = (width(|row| &row.0), width(|row| &row.1));
        for (name, value, remark) in &self.rows {
            println!("{name:names$}  {value:>values$}  {remark}");
        }
    }
}

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

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

/// Smallest and largest, for the spread.
pub fn range(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{least:.digits$}-{most:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_and_medians_are_in_the_middle() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}
