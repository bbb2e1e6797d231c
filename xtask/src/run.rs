//! Starting programs: every command is shown before it runs and named again if it fails, so that
//! it can be run by hand. [`run_counted`] also reads how many tests the program says it ran.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The root of the workspace. Asked at run time: worktrees may share a target folder, and with it
/// this program.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    here.parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    let configured = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    root().join(configured.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// `cargo` with arguments, at the root.
pub fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    // The cargo that started us, so that a toolchain chosen by `cargo +name` stays chosen.
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), &arguments)
}

/// A program with arguments, at the root.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The command as it could be typed.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(command.get_program()).to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    let quoted = words.iter().map(|word| match word.contains([' ', '\'', '"', '&', '*']) {
        true => format!("'{word}'"),
        false => word.to_string(),
    });
    let line = quoted.collect::<Vec<_>>().join(" ");
    match command.get_current_dir().and_then(|dir| dir.strip_prefix(root()).ok()) {
        Some(dir) if dir != Path::new("") => format!("cd {} && {line}", dir.display()),
        _ => line,
    }
}

/// Runs with our own output, shown first; a failure names the command.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs quietly and gives standard output; a failure shows all it wrote.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}):\n{said}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many tests a program ran and how many it left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub run: u64,
    pub skipped: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.run += other.run;
        self.skipped += other.skipped;
    }
}

/// Like [`run`], and sums up the closing lines of the test programs inside.
pub fn run_counted(command: &mut Command) -> Result<Counts> {
    announce(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let counts = std::thread::scope(|scope| {
        let errors = scope.spawn(|| copy_counting(stderr, &mut std::io::stderr()));
        let mut counts = copy_counting(stdout, &mut std::io::stdout());
        counts += errors.join().expect("copying lines does not panic");
        counts
    });
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(counts)
}

/// Copies line by line, as it comes, and counts.
fn copy_counting(from: Option<impl Read>, to: &mut dyn Write) -> Counts {
    let mut counts = Counts::default();
    let Some(from) = from else { return counts };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        // A closed terminal is no reason to stop reading: the child would block.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        counts += counts_in(&String::from_utf8_lossy(&line)).unwrap_or_default();
        line.clear();
    }
    counts
}

/// The counts in a closing line of nextest, `cargo test`, vitest or `node --test`.
fn counts_in(line: &str) -> Option<Counts> {
    let plain = without_colours(line);
    let line = plain.trim();
    let before = |word: &str| number_before(line, word);
    if line.starts_with("Summary [") {
        return Some(Counts {
            run: before("tests run").or(before("test run"))?,
            skipped: before("skipped").unwrap_or(0),
        });
    }
    if line.starts_with("test result:") {
        return Some(Counts {
            run: before("passed")? + before("failed")?,
            skipped: before("ignored")?,
        });
    }
    if let Some(vitest) = line.strip_prefix("Tests ") {
        let run =
            [" passed", " failed"].iter().filter_map(|word| number_before(vitest, word)).sum();
        let skipped =
            [" skipped", " todo"].iter().filter_map(|word| number_before(vitest, word)).sum();
        return Some(Counts { run, skipped });
    }
    let node = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?;
    let (word, count) = node.split_once(' ')?;
    let count: u64 = count.parse().ok()?;
    match word {
        "pass" | "fail" => Some(Counts { run: count, skipped: 0 }),
        "skipped" | "todo" => Some(Counts { run: 0, skipped: count }),
        _ => None,
    }
}

/// The number right before `word`.
fn number_before(line: &str, word: &str) -> Option<u64> {
    let (head, _) = line.split_once(word)?;
    head.split_whitespace().next_back()?.parse().ok()
}

fn without_colours(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut inside = false;
    for letter in line.chars() {
        match (inside, letter) {
            (false, '\u{1b}') => inside = true,
            (false, letter) => out.push(letter),
            (true, letter) => inside = !letter.is_ascii_alphabetic(),
        }
    }
    out
}

fn announce(command: &Command) {
    // Cargo colours its own lines; this one stays findable in a log without colours.
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1m$ {}\x1b[0m", shown(command));
    } else {
        eprintln!("$ {}", shown(command));
    }
}

/// A duration as people say it: `7.3 s`, `4 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_every_test_runner_are_counted() {
        let check = |line: &str, expected: Option<(u64, u64)>| {
            let expected = expected.map(|(run, skipped)| Counts { run, skipped });
            assert_eq!(counts_in(line), expected, "{line}");
        };
        check(
            "     Summary [   2.012s] 345 tests run: 345 passed (2 slow), 3 skipped",
            Some((345, 3)),
        );
        check("     Summary [   0.012s] 1 test run: 1 passed", Some((1, 0)));
        check(
            "\x1b[32m  Summary\x1b[0m [ 1.0s] \x1b[1m7\x1b[0m tests run: 6 passed, 1 failed",
            Some((7, 0)),
        );
        check(
            "test result: ok. 12 passed; 1 failed; 4 ignored; 0 measured; 0 filtered out",
            Some((13, 4)),
        );
        check("      Tests  12 passed (12)", Some((12, 0)));
        check("      Tests  1 failed | 12 passed | 2 skipped (15)", Some((13, 2)));
        check("ℹ pass 9", Some((9, 0)));
        check("# skipped 2", Some((0, 2)));
        check("# tests 11", None);
        check("# Readme", None);
        check(" Test Files  3 passed (3)", None);
        check("PASS [ 0.1s] proto ws::tests::summary", None);
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(7_340)), "7.3 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }

    #[test]
    fn a_command_is_shown_as_it_could_be_typed() {
        let mut npm = command("npm", &["run", "a b"]);
        assert_eq!(shown(&npm), "npm run 'a b'");
        npm.current_dir(root().join("dashboard"));
        assert_eq!(shown(&npm), "cd dashboard && npm run 'a b'");
    }
}
