//! Names that exist in two places: a metric of the catalogue has a source and is what the prose
//! calls it; a key of the configuration is read somewhere.

use super::text::has_word;
use super::{File, Findings};

/// Where metrics are declared.
const CATALOGUE: &str = "server/src/metrics/catalogue.rs";
/// Where the fields behind them are.
const SNAPSHOT: &str = "server/src/metrics/snapshot.rs";
/// Where reasons for drops are.
const DROPS: &str = "server/src/metrics/drops.rs";
/// Where keys are declared.
const DEFAULTS: &str = "server/src/config/default.toml";
/// Looks at every key without using it.
const VALIDATION: &str = "server/src/config/validate.rs";

/// Runs both.
pub fn check(files: &[File], findings: &mut Findings) {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    if let Some(catalogue) = find(CATALOGUE) {
        check_metrics(catalogue, files, findings);
    }
    if let Some(snapshot) = find(SNAPSHOT) {
        check_counters(snapshot, files, findings);
    }
    if let Some(defaults) = find(DEFAULTS) {
        check_keys(defaults, files, findings);
    }
}

fn check_metrics(catalogue: &File, files: &[File], findings: &mut Findings) {
    let declared = metric_names(catalogue.views.as_ref().map_or("", |views| &views.strings));
    let sources = |file: &&File| {
        file.path.starts_with("server/src/metrics/") && file.path != CATALOGUE && !file.is_test()
    };
    for name in &declared {
        let fed = files.iter().filter(sources).any(|file| has_word(&file.text, name));
        if !fed {
            findings.error(CATALOGUE, 0, &format!("nothing feeds the metric `{name}`"));
        }
    }
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (index, line) in file.text.lines().enumerate() {
            for name in metric_names(line).iter().filter(|name| !declared.contains(name)) {
                let message = format!("there is no metric `{name}` in {CATALOGUE}");
                findings.error(&file.path, index + 1, &message);
            }
        }
    }
}

/// A counter or a reason for a drop that no code touches would say zero whatever happens.
fn check_counters(snapshot: &File, files: &[File], findings: &mut Findings) {
    let code = |path: &str| files.iter().find(|file| file.path == path)?.views.as_ref();
    let fields = snapshot.text.lines().enumerate().filter_map(|(index, line)| {
        let (field, family) = line.trim().split_once(" = \"")?;
        let is_field = field
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
        (is_field && family.contains("\" [")).then_some((SNAPSHOT, index + 1, field.to_owned()))
    });
    let reasons = code(DROPS).into_iter().flat_map(|views| views.code.lines().enumerate());
    let reasons = reasons.filter_map(|(index, line)| {
        let name = line.trim().strip_prefix("DropReason::")?.strip_suffix(',')?;
        Some((DROPS, index + 1, format!("DropReason::{name}")))
    });
    let feeds = |name: &str| {
        let others = files.iter().filter(|file| {
            file.path.starts_with("server/src/") && file.path != DROPS && !file.is_test()
        });
        others.filter_map(|file| Some((&file.path, file.views.as_ref()?))).any(|(path, views)| {
            views.code.lines().any(|line| {
                // Its declaration is no use of it.
                let declared = path == SNAPSHOT && line.trim().starts_with(&format!("{name} ="));
                !declared && has_word(line, name)
            })
        })
    };
    for (path, line, name) in fields.chain(reasons).filter(|(_, _, name)| !feeds(name)) {
        findings.error(path, line, &format!("nothing counts `{name}`"));
    }
}

/// The words that are names of metrics: `realtime_...` and `shardcast_...`, several parts each.
fn metric_names(text: &str) -> Vec<String> {
    let word =
        |letter: char| !(letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    let mut names: Vec<String> = Vec::new();
    for name in text.split(word) {
        let metric = name.starts_with("realtime_") || name.starts_with("shardcast_");
        if metric && !name.ends_with('_') && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn check_keys(defaults: &File, files: &[File], findings: &mut Findings) {
    let readers: Vec<&File> = files
        .iter()
        .filter(|file| file.path.starts_with("server/src/"))
        .filter(|file| !file.is_test() && file.path != VALIDATION)
        .collect();
    for (line, key) in keys(&defaults.text) {
        let field = format!(".{key}");
        let read = readers.iter().filter_map(|file| file.views.as_ref()).any(|views| {
            views.code.lines().any(|line| line.contains(&field) && has_word(line, &key))
        });
        if !read {
            findings.error(DEFAULTS, line, &format!("nothing reads the key `{key}`"));
        }
    }
}

/// The keys of our own TOML file, one a line, with the line.
fn keys(toml: &str) -> Vec<(usize, String)> {
    let lines = toml.lines().enumerate().filter(|(_, line)| !line.starts_with(['#', '[']));
    let keys = lines.filter_map(|(index, line)| {
        let (key, _) = line.split_once('=')?;
        Some((index + 1, key.trim().to_owned()))
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_recognised_by_their_prefix() {
        let names =
            metric_names("`realtime_a_b` and shardcast_c_total, shardcast_c_total; shardcast");
        assert_eq!(names, ["realtime_a_b", "shardcast_c_total"]);
    }

    #[test]
    fn a_key_that_nothing_reads_is_said() {
        let toml = File::new(DEFAULTS, "# Words = no key.\nread = 1\n[limits]\nunread = 2\n");
        let code = "//! A.\nfn f(config: &Config) { config.read; /* config.unread */ }\n";
        let declared = "//! C.\npub struct Limits { pub unread: u32 }\n";
        let validated = "//! D.\nfn v() { limits.unread; }\n";
        let files = [
            toml,
            File::new("server/src/boot.rs", code),
            File::new("server/src/config/limits.rs", declared),
            File::new(VALIDATION, validated),
        ];
        let mut findings = Findings::default();
        check(&files, &mut findings);
        assert_eq!(findings.errors, [format!("{DEFAULTS}:4: nothing reads the key `unread`")]);
    }

    #[test]
    fn a_counter_and_a_reason_that_nothing_counts_are_errors() {
        let snapshot =
            "//! A.\n    taken = \"a_total\" [];\n    idle = \"b_total\" [\"x\" = \"y\"];\n";
        let drops = "//! B.\n    drop_row(\n        DropReason::Slow,\n        DropReason::Gone,\n";
        let files = [
            File::new(SNAPSHOT, snapshot),
            File::new(DROPS, drops),
            File::new("server/src/a.rs", "//! C.\nfn f() { c.taken += 1; d(DropReason::Slow); }\n"),
        ];
        let mut findings = Findings::default();
        check_counters(&files[0], &files, &mut findings);
        assert_eq!(findings.errors.len(), 2, "{:?}", findings.errors);
        assert!(findings.errors[0].contains("idle") && findings.errors[1].contains("Gone"));
    }

    #[test]
    fn a_metric_without_a_source_and_a_name_without_a_metric_are_errors() {
        let catalogue = "//! A.\nfamily(\"shardcast_fed\"); family(\"shardcast_hungry\");\n";
        let files = [
            File::new(CATALOGUE, catalogue),
            File::new("server/src/metrics/snapshot.rs", "//! B.\nrow(\"shardcast_fed\");\n"),
            File::new("docs/a.md", "Watch `shardcast_fed` and `shardcast_feed`.\n"),
        ];
        let mut findings = Findings::default();
        check(&files, &mut findings);
        assert_eq!(findings.errors.len(), 2, "{:?}", findings.errors);
        assert!(findings.errors[0].contains("shardcast_hungry"));
        assert!(findings.errors[1].contains("docs/a.md:1") && findings.errors[1].contains("feed"));
    }
}
