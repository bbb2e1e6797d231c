//! What the kernel says about this process. Absent where `/proc` is.

use std::fs;

/// Figures of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessStats {
    /// Resident set.
    pub resident_bytes: u64,
    /// The part of it that files back: the program and its libraries.
    pub program_bytes: u64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub fds_open: u64,
    /// Descriptors the process may open.
    pub fds_max: u64,
    /// Unix time of the start.
    pub start_seconds: f64,
}

impl ProcessStats {
    /// Reads this process's figures.
    pub fn read() -> Self {
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let (cpu_ticks, start_ticks) = stat_ticks(&stat).unwrap_or_default();
        let pages = |field: usize| {
            let pages = statm.split_whitespace().nth(field).and_then(|pages| pages.parse().ok());
            pages.unwrap_or(0_u64) * rustix::param::page_size() as u64
        };
        Self {
            resident_bytes: pages(1),
            program_bytes: pages(2),
            cpu_seconds: cpu_ticks as f64 / ticks,
            fds_open: fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
            fds_max: tuning::parse::nofile(&limits).map_or(0, |(soft, _)| soft),
            start_seconds: boot_seconds(&boot).unwrap_or_default() + start_ticks as f64 / ticks,
        }
    }
}

/// CPU ticks (user and system) and the start in ticks after boot. The second field is the program's
/// name in parentheses and may contain anything, so counting starts after the last one.
fn stat_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((number(11)? + number(12)?, number(19)?))
}

fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 100 20 0 0 20 0 5 0 4242 1 2";
        assert_eq!(stat_ticks(stat), Some((120, 4_242)));
        assert_eq!(stat_ticks("7 (x"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let stats = ProcessStats::read();
        assert!(stats.resident_bytes > 1 << 20);
        assert!((1..stats.resident_bytes).contains(&stats.program_bytes));
        assert!(stats.fds_open >= 3 && stats.fds_max >= stats.fds_open);
        assert!(stats.start_seconds > 1.6e9);
    }
}
