//! `cargo xtask counts`: instructions of the paths that every delivery and every event takes,
//! counted by callgrind and compared with `bench/counts.toml`.
//!
//! Instructions say nothing of caches and of the kernel, but they are the same on a busy machine
//! and on a quiet one, so a change of a few percent is seen where time could not show it. The
//! programs are those of the package `counts` (`bench/counts`); each runs in a process of its own,
//! with an empty environment and by the same short path, since both move the stack. Run after run,
//! build after build and in any folder they counted the same to the instruction; the tolerance is
//! for what a change elsewhere in a crate does to inlining. Fewer instructions than recorded fail
//! too: the next loss could hide behind a gain that nobody wrote down.
//!
//! What the counts depend on beside our code: the compiler (recorded), dependencies (in the lock
//! file) and the processor's vector width, by which memchr and the C library choose their loops.

use crate::run::{self, capture, cargo, command, root, target_dir};
use crate::tools;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Write what was counted.
    pub accept: bool,
    /// Only these programs; none: all.
    pub names: Vec<String>,
}

impl Request {
    /// `[--accept] [NAME...]`.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut request = Self::default();
        for word in arguments {
            match word.as_str() {
                "--accept" => request.accept = true,
                name if !name.starts_with('-') => request.names.push(name.to_owned()),
                other => {
                    bail!("usage: cargo xtask counts [--accept] [NAME...]; what is `{other}`?")
                }
            }
        }
        Ok(request)
    }
}

/// For the totals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    pub programs: usize,
    pub tolerance_percent: f64,
}

/// One program's result.
#[derive(Debug, Clone, PartialEq)]
struct Counted {
    name: String,
    unit: String,
    per_unit: f64,
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Default)]
struct Baseline {
    rustc: String,
    tolerance_percent: f64,
    per_unit: BTreeMap<String, f64>,
}

/// Builds, counts, compares; with `accept`, records.
pub fn run(request: &Request) -> Result<Compared> {
    tools::install_for("valgrind")?;
    run::run(&mut cargo(["build", "--package", "counts", "--profile", "counts"]))?;
    let program = target_dir().join("counts/counts");
    let listed = capture(&mut Command::new(&program))?;
    let mut programs: Vec<(String, String)> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, unit)| (name.to_owned(), unit.to_owned()))
        .collect();
    if let Some(unknown) = request.names.iter().find(|name| !listed_has(&programs, name)) {
        let names: Vec<&str> = programs.iter().map(|(name, _)| name.as_str()).collect();
        bail!("there is no program `{unknown}`; there are: {}", names.join(", "));
    }
    if !request.names.is_empty() {
        programs.retain(|(name, _)| request.names.contains(name));
    }
    let counted = count_all(&program, &programs)?;
    let path = root().join("bench/counts.toml");
    let baseline = Baseline::parse(&fs::read_to_string(&path).context("bench/counts.toml")?)?;
    let rustc = capture(&mut command("rustc", &["--version"]))?.trim().to_owned();
    let tolerance_percent = baseline.tolerance_percent;
    print!("{}", table(&counted, &baseline));
    if request.accept {
        let complete = request.names.is_empty();
        fs::write(&path, baseline.accepting(&counted, complete, &rustc).to_text())?;
        println!("wrote bench/counts.toml");
    } else {
        judge(&counted, &baseline, &rustc, request.names.is_empty())?;
    }
    Ok(Compared { programs: counted.len(), tolerance_percent })
}

fn listed_has(programs: &[(String, String)], name: &str) -> bool {
    programs.iter().any(|(known, _)| known == name)
}

/// Two at a time: counts do not depend on who else runs.
fn count_all(program: &Path, programs: &[(String, String)]) -> Result<Vec<Counted>> {
    let folder = target_dir().join("counts/callgrind");
    fs::create_dir_all(&folder)?;
    let next = Mutex::new(programs.iter());
    let done: Mutex<Vec<Result<Counted>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().expect("no holder panics").next();
                    let Some((name, unit)) = taken else { return };
                    let counted = count(program, name, unit, &folder);
                    done.lock().expect("no holder panics").push(counted);
                }
            });
        }
    });
    let mut counted =
        done.into_inner().expect("no holder panics").into_iter().collect::<Result<Vec<_>>>()?;
    counted.sort_by_key(|counted| programs.iter().position(|(name, _)| *name == counted.name));
    Ok(counted)
}

fn count(program: &Path, name: &str, unit: &str, folder: &Path) -> Result<Counted> {
    let profile: PathBuf = folder.join(name);
    let valgrind = tools::find("valgrind").context("valgrind is not installed")?;
    let mut run = Command::new(valgrind);
    let (folder, file) = (program.parent(), program.file_name());
    let (folder, file) = folder.zip(file).context("the program is a file in a folder")?;
    run.env_clear().current_dir(folder);
    run.args(["--tool=callgrind", "--toggle-collect=counts::measured*"]);
    run.arg(format!("--callgrind-out-file={}", profile.display())).arg(Path::new(".").join(file));
    run.arg(name);
    let units = capture(&mut run)?;
    let units: u64 = units.trim().parse().with_context(|| format!("units of `{name}`"))?;
    let text = fs::read_to_string(&profile)?;
    let instructions = total_in(&text).with_context(|| format!("no totals for `{name}`"))?;
    if instructions == 0 || units == 0 {
        bail!("nothing was counted in `{name}`: is `counts::measured` still a function?");
    }
    let per_unit = instructions as f64 / units as f64;
    Ok(Counted { name: name.to_owned(), unit: unit.to_owned(), per_unit })
}

/// Reads `totals: 1234` of callgrind's output.
fn total_in(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

fn judge(counted: &[Counted], baseline: &Baseline, rustc: &str, all: bool) -> Result<()> {
    let off: Vec<&str> = counted
        .iter()
        .filter(|counted| !baseline.has(counted))
        .map(|counted| counted.name.as_str())
        .collect();
    let gone = |name: &&String| all && !counted.iter().any(|counted| counted.name == **name);
    let gone: Vec<&str> = baseline.per_unit.keys().filter(gone).map(String::as_str).collect();
    if off.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let compiler = if baseline.rustc == rustc {
        String::new()
    } else {
        format!(" (recorded with {}, this is {rustc}, which alone may be why)", baseline.rustc)
    };
    let first = off.first().or(gone.first()).copied().unwrap_or_default();
    bail!(
        "instruction counts differ by more than {} % from bench/counts.toml: {}{compiler}; see where \
         they went with `callgrind_annotate {}/{first}`; if the change is meant, record it with \
         `cargo xtask counts --accept` and say why in the commit",
        baseline.tolerance_percent,
        [off, gone].concat().join(", "),
        target_dir().join("counts/callgrind").display(),
    )
}

fn table(counted: &[Counted], baseline: &Baseline) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{:<18} {:>11} {:>11} {:>8}", "instructions", "recorded", "now", "");
    for Counted { name, unit, per_unit } in counted {
        let (recorded, change) = match baseline.per_unit.get(name) {
            Some(old) => (format!("{old:.1}"), format!("{:+.2} %", (per_unit / old - 1.0) * 100.0)),
            None => ("-".to_owned(), "new".to_owned()),
        };
        let _ = writeln!(out, "{name:<18} {recorded:>11} {per_unit:>11.1} {change:>8}  per {unit}");
    }
    out
}

impl Baseline {
    /// Reads what [`Self::to_text`] writes.
    fn parse(text: &str) -> Result<Self> {
        let mut baseline = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '['])) {
            let Some((key, value)) = line.split_once(" = ") else { continue };
            let number =
                || value.parse::<f64>().with_context(|| format!("bench/counts.toml: {line}"));
            match key {
                "rustc" => baseline.rustc = value.trim_matches('"').to_owned(),
                "tolerance_percent" => baseline.tolerance_percent = number()?,
                name => {
                    baseline.per_unit.insert(name.trim_matches('"').to_owned(), number()?);
                }
            }
        }
        Ok(baseline)
    }

    fn to_text(&self) -> String {
        let mut out = HEAD.to_owned();
        let _ = writeln!(out, "tolerance_percent = {}", self.tolerance_percent);
        let _ = writeln!(out, "rustc = \"{}\"\n\n[instructions]", self.rustc);
        for (name, per_unit) in &self.per_unit {
            let _ = writeln!(out, "\"{name}\" = {per_unit:.1}");
        }
        out
    }

    /// True if a count is what was recorded, within the tolerance, in either direction.
    fn has(&self, counted: &Counted) -> bool {
        self.per_unit.get(&counted.name).is_some_and(|old| {
            (counted.per_unit / old - 1.0).abs() * 100.0 <= self.tolerance_percent
        })
    }

    /// With new counts; `complete` forgets programs that are gone.
    fn accepting(mut self, counted: &[Counted], complete: bool, rustc: &str) -> Self {
        if complete {
            self.per_unit.clear();
            self.rustc = rustc.to_owned();
        }
        self.per_unit.extend(counted.iter().map(|c| (c.name.clone(), c.per_unit)));
        self
    }
}

const HEAD: &str = "\
# Instructions per delivery, frame or event, as `cargo xtask counts` compares them and
# `cargo xtask counts --accept` writes them. A change beyond the tolerance fails, also a gain.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(name: &str, per_unit: f64) -> Counted {
        Counted { name: name.to_owned(), unit: "event".to_owned(), per_unit }
    }

    fn baseline() -> Baseline {
        let per_unit = [("a".to_owned(), 100.0), ("b".to_owned(), 2_000.5)].into();
        Baseline { rustc: "rustc 1".to_owned(), tolerance_percent: 3.0, per_unit }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Baseline::parse(&baseline().to_text()).unwrap(), baseline());
        assert!(Baseline::parse("a = many").is_err());
    }

    #[test]
    fn both_directions_fail_and_the_remedy_is_named() {
        let check = |counts: &[Counted], all: bool, expected: Option<&str>| {
            let judged = judge(counts, &baseline(), "rustc 1", all).map_err(|e| e.to_string());
            match expected {
                None => assert_eq!(judged, Ok(())),
                Some(name) => {
                    let error = judged.unwrap_err();
                    assert!(error.contains(name) && error.contains("--accept"), "{error}");
                }
            }
        };
        let b = || counted("b", 2_000.0);
        check(&[counted("a", 102.9), b()], true, None);
        check(&[counted("a", 103.1), b()], true, Some("toml: a;"));
        check(&[counted("a", 96.9), b()], true, Some("toml: a;"));
        check(&[counted("a", 100.0), b(), counted("new", 1.0)], true, Some("toml: new;"));
        check(&[b()], true, Some("toml: a;"));
        check(&[b()], false, None);
    }

    #[test]
    fn another_compiler_is_named_as_a_reason() {
        let error = judge(&[counted("a", 1.0)], &baseline(), "rustc 2", false).unwrap_err();
        assert!(error.to_string().contains("recorded with rustc 1, this is rustc 2"), "{error}");
    }

    #[test]
    fn accepting_all_forgets_what_is_gone_and_accepting_one_keeps_the_others() {
        let all = baseline().accepting(&[counted("a", 1.0)], true, "rustc 2");
        assert_eq!((all.per_unit.len(), all.rustc.as_str()), (1, "rustc 2"));
        let one = baseline().accepting(&[counted("a", 1.0)], false, "rustc 2");
        assert_eq!((one.per_unit.len(), one.rustc.as_str()), (2, "rustc 1"));
    }

    #[test]
    fn totals_are_read_from_a_profile() {
        assert_eq!(total_in("events: Ir\nsummary: 7\n\n1 2\ntotals: 1234\n"), Some(1_234));
        assert_eq!(total_in("events: Ir\n"), None);
    }
}
