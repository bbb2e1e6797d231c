//! The first feed: what this machine does, from /proc, every second.
//!
//! Rates are differences between two readings over the time between them, so the first reading
//! publishes nothing but memory. Pure parsing here; `feeds.rs` reads and publishes.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One reading of the counters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// When, in seconds of any clock that only goes forward.
    pub at_s: f64,
    /// Busy and total time of each core, in ticks.
    pub cores: Vec<(u64, u64)>,
    /// `MemTotal`, `MemAvailable` and `Cached`, in bytes.
    pub memory: [u64; 3],
    /// Bytes in and out of every interface but loopback, and through loopback.
    pub network: [u64; 3],
    /// Bytes read from and written to disks.
    pub disk: [u64; 2],
}

/// The texts of the files that are read.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// /proc/stat
    pub stat: String,
    /// /proc/meminfo
    pub meminfo: String,
    /// /proc/net/dev
    pub net_dev: String,
    /// /proc/diskstats
    pub diskstats: String,
}

impl Files {
    /// Reads them; what cannot be read (in a sandbox) is empty, and its figures are zero.
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            stat: text("/proc/stat"),
            meminfo: text("/proc/meminfo"),
            net_dev: text("/proc/net/dev"),
            diskstats: text("/proc/diskstats"),
        }
    }
}

impl Reading {
    /// Parses a reading.
    pub fn parse(files: &Files, at_s: f64) -> Self {
        Self {
            at_s,
            cores: cores(&files.stat),
            memory: memory(&files.meminfo),
            network: network(&files.net_dev),
            disk: disk(&files.diskstats),
        }
    }

    /// Memory, as the data of an event made at `t`, in milliseconds since the epoch.
    pub fn memory_json(&self, t: &str) -> String {
        let [total, available, cached] = self.memory;
        let used = total.saturating_sub(available);
        format!(
            r#"{{"t":{t},"total":{total},"used":{used},"available":{available},"cached":{cached}}}"#
        )
    }

    /// Busy share of each core since an earlier reading, in percent.
    pub fn cpu_json(&self, earlier: &Self, t: &str) -> String {
        let share = |(now, then): (&(u64, u64), &(u64, u64))| {
            let (busy, total) = (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1));
            if total == 0 { 0.0 } else { (100.0 * busy as f64 / total as f64).min(100.0) }
        };
        let shares: Vec<f64> = self.cores.iter().zip(&earlier.cores).map(share).collect();
        let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        let mut cores = String::new();
        for share in &shares {
            let _ = write!(cores, "{}{share:.1}", if cores.is_empty() { "" } else { "," });
        }
        format!(r#"{{"t":{t},"total":{mean:.1},"cores":[{cores}]}}"#)
    }

    /// Bytes per second since an earlier reading.
    pub fn network_json(&self, earlier: &Self, t: &str) -> String {
        let [rx, tx, loopback] = self.rates(self.network, earlier.network, earlier);
        format!(r#"{{"t":{t},"rx":{rx},"tx":{tx},"loopback":{loopback}}}"#)
    }

    /// Bytes per second since an earlier reading.
    pub fn disk_json(&self, earlier: &Self, t: &str) -> String {
        let [read, written] = self.rates(self.disk, earlier.disk, earlier);
        format!(r#"{{"t":{t},"read":{read},"written":{written}}}"#)
    }

    /// A counter that went back (an interface went away) counts as still.
    fn rates<const N: usize>(&self, now: [u64; N], then: [u64; N], earlier: &Self) -> [u64; N] {
        let seconds = (self.at_s - earlier.at_s).max(0.001);
        let mut rates = [0; N];
        for ((rate, now), then) in rates.iter_mut().zip(now).zip(then) {
            *rate = (now.saturating_sub(then) as f64 / seconds).round() as u64;
        }
        rates
    }
}

/// `cpu0 user nice system idle iowait irq softirq steal guest guest_nice`: guest time is in user's
/// already; waiting for the disk is idle.
fn cores(stat: &str) -> Vec<(u64, u64)> {
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let core = |line: &str| {
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).map(|t| t.parse().unwrap_or(0)).collect();
        let total: u64 = ticks.iter().sum();
        let idle = ticks.get(3).unwrap_or(&0) + ticks.get(4).unwrap_or(&0);
        (total - idle, total)
    };
    stat.lines().filter(is_core).map(core).collect()
}

fn memory(meminfo: &str) -> [u64; 3] {
    let kib = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    ["MemTotal", "MemAvailable", "Cached"].map(|name| kib(name) * 1_024)
}

fn network(net_dev: &str) -> [u64; 3] {
    let mut sum = [0; 3];
    for line in net_dev.lines() {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counters: Vec<u64> =
            counters.split_whitespace().map(|text| text.parse().unwrap_or(0)).collect();
        let (Some(rx), Some(tx)) = (counters.first(), counters.get(8)) else { continue };
        if name.trim() == "lo" {
            sum[2] += rx;
        } else {
            sum[0] += rx;
            sum[1] += tx;
        }
    }
    sum
}

/// Whole disks only: partitions, and devices that are made of other devices, would count twice.
fn disk(diskstats: &str) -> [u64; 2] {
    const SECTOR_BYTES: u64 = 512;
    let mut disks: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for line in diskstats.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(read), Some(written)) = (fields.get(2), fields.get(5), fields.get(9))
        else {
            continue;
        };
        let is_virtual = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"];
        if is_virtual.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let bytes = |text: &str| text.parse::<u64>().unwrap_or(0) * SECTOR_BYTES;
        disks.insert(name, [bytes(read), bytes(written)]);
    }
    let is_partition = |name: &str| {
        let trimmed = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let parent = if trimmed.len() == name.len() { "" } else { trimmed };
        disks.contains_key(parent)
            || parent.strip_suffix('p').is_some_and(|p| disks.contains_key(p))
    };
    let whole = disks.iter().filter(|(name, _)| !is_partition(name));
    whole.fold([0; 2], |sum, (_, own)| [sum[0] + own[0], sum[1] + own[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn files(step: u64) -> Files {
        let sectors = 2_000 * step;
        Files {
            stat: format!(
                "cpu  9 9 9 9\ncpu0 {} 0 10 {} 5 0 0 0 7 0\ncpu1 0 0 0 {} 0 0 0 0 0 0\nintr 5\n",
                25 * step,
                75 * step,
                100 * step,
            ),
            meminfo: "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nCached: 300 kB\n"
                .to_owned(),
            net_dev: format!(
                "Inter-| Receive | Transmit\n face |bytes packets\n    lo: {} 1 0 0 0 0 0 0 {} 1\n  \
                 eth0:{} 1 0 0 0 0 0 0 {} 1 0\n",
                500 * step,
                500 * step,
                1_000 * step,
                100 * step,
            ),
            diskstats: format!(
                " 254 0 vda 1 1 {sectors} 1 1 1 {} 1 0 1 1\n 254 1 vda1 1 1 {sectors} 1 1 1 9 1 0 1\n \
                 259 0 nvme0n1 1 1 0 1 1 1 {sectors} 1\n 259 1 nvme0n1p2 1 1 0 1 1 1 {sectors} 1\n \
                 7 0 loop0 1 1 9 9 9 9 9 9\n 253 0 zram0 1 1 9 9 9 9 9 9\n",
                4_000 * step,
            ),
        }
    }

    fn readings() -> (Reading, Reading) {
        (Reading::parse(&files(1), 10.0), Reading::parse(&files(2), 12.0))
    }

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn rates_are_differences_over_time_without_counting_anything_twice() {
        let (earlier, now) = readings();
        assert_eq!(
            parse(&now.cpu_json(&earlier, "5.5")),
            json!({"t": 5.5, "total": 12.5, "cores": [25.0, 0.0]})
        );
        assert_eq!(
            parse(&now.network_json(&earlier, "1")),
            json!({"t": 1, "rx": 500, "tx": 50, "loopback": 250})
        );
        assert_eq!(
            parse(&now.disk_json(&earlier, "1")),
            json!({"t": 1, "read": 512_000, "written": 1_536_000})
        );
        assert_eq!(
            parse(&now.memory_json("1")),
            json!({
                "t": 1, "total": 1_024_000, "used": 614_400, "available": 409_600,
                "cached": 307_200,
            })
        );
    }

    #[test]
    fn counters_that_go_back_and_files_that_are_missing_are_zero() {
        let (earlier, now) = readings();
        assert!(earlier.network_json(&now, "1").contains(r#""rx":0"#));
        assert!(earlier.cpu_json(&now, "1").contains(r#""total":0.0"#));
        let empty = Reading::parse(&Files::default(), 13.0);
        assert_eq!(parse(&empty.cpu_json(&now, "1")), json!({"t": 1, "total": 0.0, "cores": []}));
        assert!(parse(&empty.disk_json(&now, "1")).is_object());
        assert_eq!(
            Reading::parse(&Files { net_dev: "x: y".into(), ..Files::default() }, 0.0),
            Reading::default()
        );
    }

    #[test]
    fn this_machine_can_be_read() {
        let reading = Reading::parse(&Files::read(), 1.0);
        assert!(!reading.cores.is_empty() && reading.memory[0] > 0);
    }
}
