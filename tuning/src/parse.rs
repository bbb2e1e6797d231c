//! Parsers of what the kernel prints. Pure: text in, facts out; `None` for what is not understood.

use std::fmt::Write;

/// A list of CPU ids as in `Cpus_allowed_list`: `0-3,8,10-11`.
pub fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus: Vec<u32> = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (first.trim().parse::<u32>().ok()?, last.trim().parse().ok()?),
            None => {
                let one: u32 = part.trim().parse().ok()?;
                (one, one)
            }
        };
        if last < first || last - first > CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The reverse of [`cpu_list`]: `0-3,8`, as the kernel would write it.
pub fn show_cpu_list(cpus: &[u32]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut out = String::new();
    for run in sorted.chunk_by(|one, next| one + 1 == *next) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let separator = if out.is_empty() { "" } else { "," };
        let _ = match last - first {
            0 => write!(out, "{separator}{first}"),
            _ => write!(out, "{separator}{first}-{last}"),
        };
    }
    out
}

/// CPUs as the mask that files such as `rps_cpus` take: hexadecimal words of 32 bits, the highest
/// first, between commas.
pub fn cpu_mask(cpus: &[u32]) -> String {
    let words = cpus.iter().max().map_or(1, |most| *most as usize / 32 + 1);
    let mut mask = vec![0_u32; words];
    for cpu in cpus {
        mask[*cpu as usize / 32] |= 1 << (cpu % 32);
    }
    let mut out = format!("{:x}", mask[words - 1]);
    for word in mask.iter().rev().skip(1) {
        let _ = write!(out, ",{word:08x}");
    }
    out
}

/// The CPUs of such a mask.
pub fn mask_cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for (index, word) in text.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(word.trim(), 16).ok()?;
        let first = u32::try_from(index * 32).ok().filter(|first| *first < CPUS_MAX)?;
        cpus.extend((0..32).filter(|bit| bits & (1 << bit) != 0).map(|bit| first + bit));
    }
    Some(cpus)
}

/// The word in brackets, as in `always [madvise] never`, or the only word.
pub fn chosen(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace();
    let bracketed = words.clone().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let only = words.next().filter(|_| words.next().is_none());
    bracketed.or(only)
}

/// Soft and hard limit of any line of `/proc/self/limits`; `unlimited` is `u64::MAX`.
pub fn limit(text: &str, name: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    let mut limit = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    Some((limit()?, limit()?))
}

/// The value of `key` in a file of `key: value` lines (`/proc/self/status`).
pub fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// A `/proc/meminfo` field in bytes (the file says kB and means KiB).
pub fn meminfo_bytes(text: &str, key: &str) -> Option<u64> {
    let value = field(text, key)?;
    let number: u64 = value.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// Soft and hard limit of open files in `/proc/self/limits`; `unlimited` is `u64::MAX`.
pub fn nofile(text: &str) -> Option<(u64, u64)> {
    limit(text, "Max open files")
}

/// Major, minor and patch of a kernel release such as `6.18.44-fc-v657` or `6.1-rc3`.
pub fn kernel_release(text: &str) -> Option<(u32, u32, u32)> {
    let digits = text.trim().split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let mut numbers = digits.split('.').map(str::parse);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((major, minor, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// cgroup v2 `cpu.max`: quota in cores, `None` without a limit.
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    cores(words.next()?.parse().ok()?, words.next()?.parse().ok()?)
}

/// cgroup v1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`: quota in cores, `None` without a limit.
pub fn cfs_quota(quota: &str, period: &str) -> Option<f64> {
    cores(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn cores(quota_us: i64, period_us: i64) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

/// A memory limit file: bytes, `None` for `max` (v2) and for v1's huge default.
pub fn memory_limit(text: &str) -> Option<u64> {
    let bytes: u64 = text.trim().parse().ok()?;
    (bytes < MEMORY_UNLIMITED).then_some(bytes)
}

/// One line of `/proc/self/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupLine<'a> {
    /// Comma-separated v1 controllers; empty for v2 (and named hierarchies keep `name=...`).
    pub controllers: &'a str,
    /// The path in that hierarchy.
    pub path: &'a str,
}

/// The lines of `/proc/self/cgroup`: `4:memory:/some/path`, `0::/path`.
pub fn cgroup_lines(text: &str) -> impl Iterator<Item = CgroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some(CgroupLine { controllers, path })
    })
}

/// No machine has more; a larger range is damage, not a fact.
const CPUS_MAX: u32 = 1 << 16;
/// v1 says "no limit" with `i64::MAX` rounded down to a page; nobody has 4 EiB.
const MEMORY_UNLIMITED: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_read_as_the_kernel_writes_them() {
        let check = |text: &str, expected: Option<&[u32]>| {
            assert_eq!(cpu_list(text).as_deref(), expected, "{text:?}");
        };
        check("0-1\n", Some(&[0, 1]));
        check("3", Some(&[3]));
        check("0-1,8,10-11", Some(&[0, 1, 8, 10, 11]));
        check("", Some(&[]));
        check("2-1", None);
        check("0-4294967295", None);
        check("a", None);
    }

    #[test]
    fn lists_and_masks_of_cpus_go_there_and_back() {
        let check = |cpus: &[u32], list: &str, mask: &str| {
            assert_eq!(show_cpu_list(cpus), list);
            assert_eq!(cpu_list(list).unwrap(), cpus);
            assert_eq!(cpu_mask(cpus), mask);
            assert_eq!(mask_cpus(mask).unwrap(), cpus);
        };
        check(&[], "", "0");
        check(&[0], "0", "1");
        check(&[0, 1, 2, 3, 8], "0-3,8", "10f");
        check(&[31, 32, 64], "31-32,64", "1,00000001,80000000");
        assert_eq!(mask_cpus("x"), None);
        assert_eq!(mask_cpus("00000000,0000000f"), Some(vec![0, 1, 2, 3]));
    }

    #[test]
    fn quotas_and_limits_distinguish_none_from_a_number() {
        let check = |got: Option<f64>, expected: Option<f64>| assert_eq!(got, expected);
        check(cpu_max("max 100000\n"), None);
        check(cpu_max("150000 100000\n"), Some(1.5));
        check(cpu_max("150000"), None);
        check(cfs_quota("-1\n", "100000\n"), None);
        check(cfs_quota("50000\n", "100000\n"), Some(0.5));
        check(cfs_quota("50000", "0"), None);
        assert_eq!(memory_limit("max\n"), None);
        assert_eq!(memory_limit("9223372036854771712\n"), None);
        assert_eq!(memory_limit("536870912\n"), Some(512 << 20));
    }

    #[test]
    fn kernel_releases_of_distributions_read() {
        let check = |text: &str, expected| assert_eq!(kernel_release(text), expected, "{text}");
        check("6.18.44-fc-v657\n", Some((6, 18, 44)));
        check("5.15.0-1051-aws", Some((5, 15, 0)));
        check("6.1-rc3", Some((6, 1, 0)));
        check("6.6.87.2-microsoft-standard-WSL2", Some((6, 6, 87)));
        check("linux", None);
    }

    #[test]
    fn descriptor_limits_read_with_and_without_a_ceiling() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(nofile(text), Some((1024, 524_288)));
        let unlimited = text.replace("524288   ", "unlimited");
        assert_eq!(nofile(&unlimited), Some((1024, u64::MAX)));
        assert_eq!(nofile("Max cpu time 1 2"), None);
    }

    #[test]
    fn fields_match_whole_keys() {
        let text = "MemTotal:       24684088 kB\nMemFree:        24000000 kB\n";
        assert_eq!(meminfo_bytes(text, "MemTotal"), Some(24_684_088 * 1024));
        assert_eq!(meminfo_bytes(text, "Mem"), None);
        assert_eq!(meminfo_bytes(text, "MemAvailable"), None);
    }
}
