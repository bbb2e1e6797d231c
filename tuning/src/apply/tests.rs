use super::*;
use crate::action::Action;
use proptest::prelude::*;
use std::path::PathBuf;

/// A root with three files, and a place for the undo file.
struct World {
    dir: tempfile::TempDir,
    root: Root,
}

const FILES: [&str; 3] = ["net.core.somaxconn", "net.ipv4.tcp_syncookies", "vm.swappiness"];

impl World {
    fn new(values: [&str; 3]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().join("root"));
        let world = Self { dir, root };
        for (key, value) in FILES.iter().zip(values) {
            world.set(key, value);
        }
        world
    }

    fn set(&self, key: &str, value: &str) {
        let path = self.root.path(&crate::action::sysctl_path(key));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    fn get(&self, key: &str) -> String {
        self.root.text(&crate::action::sysctl_path(key)).unwrap()
    }

    fn all(&self) -> Vec<String> {
        FILES.iter().map(|key| self.get(key)).collect()
    }

    fn undo_file(&self) -> PathBuf {
        self.dir.path().join("state/undo.json")
    }

    fn plan(&self, wanted: &[(&str, &str)]) -> Plan {
        let step = |(key, value): &(&str, &str)| {
            let action = Action::sysctl(key, value);
            let before = self.root.text(&action.path().unwrap()).ok();
            Step { id: "test", action, before, only_on_host: false }
        };
        Plan { steps: wanted.iter().map(step).collect(), by_hand: Vec::new() }
    }

    fn apply(&self, wanted: &[(&str, &str)]) -> Outcome {
        apply(&self.root, &self.plan(wanted), &self.undo_file(), false).unwrap()
    }

    fn undo(&self) -> Outcome {
        undo(&self.root, &self.undo_file(), false).unwrap()
    }
}

#[test]
fn what_was_applied_twice_is_undone_to_what_was_there_at_first() {
    let world = World::new(["128", "0", "60"]);
    let wanted = [(FILES[0], "4096"), (FILES[1], "1")];
    assert!(world.apply(&wanted).is_whole());
    assert_eq!(world.all(), ["4096", "1", "60"]);
    let again = world.apply(&wanted);
    assert!(again.lines.iter().all(|(_, done)| *done == Done::Already), "{again:?}");
    assert!(world.apply(&[(FILES[0], "8192"), (FILES[2], "1")]).is_whole());
    assert_eq!(world.all(), ["8192", "1", "1"]);
    assert!(world.undo().is_whole());
    assert_eq!(world.all(), ["128", "0", "60"]);
    assert!(!world.undo_file().exists());
    assert_eq!(world.undo(), Outcome::default());
}

#[test]
fn a_dry_run_says_what_a_run_does_and_writes_nothing() {
    let world = World::new(["128", "1", "60"]);
    let plan = world.plan(&[(FILES[0], "4096"), (FILES[1], "1"), ("net.gone", "1")]);
    let dry = apply(&world.root, &plan, &world.undo_file(), true).unwrap();
    assert_eq!(world.all(), ["128", "1", "60"]);
    assert!(!world.undo_file().exists());
    assert_eq!(dry, apply(&world.root, &plan, &world.undo_file(), false).unwrap());
    let dry = undo(&world.root, &world.undo_file(), true).unwrap();
    assert_eq!(world.get(FILES[0]), "4096");
    assert_eq!(dry, world.undo());
    assert_eq!(world.get(FILES[0]), "128");
}

#[test]
fn what_somebody_else_changed_is_left_alone() {
    let world = World::new(["128", "0", "60"]);
    // Between plan and apply.
    let plan = world.plan(&[(FILES[0], "4096")]);
    world.set(FILES[0], "256");
    let outcome = apply(&world.root, &plan, &world.undo_file(), false).unwrap();
    assert!(matches!(&outcome.lines[0].1, Done::Left(why) if why.contains("256")), "{outcome:?}");
    assert_eq!(world.get(FILES[0]), "256");
    // Between apply and undo.
    assert!(world.apply(&[(FILES[0], "4096"), (FILES[1], "1")]).is_whole());
    world.set(FILES[0], "9999");
    let outcome = world.undo();
    assert!(!outcome.is_whole());
    assert_eq!(world.all(), ["9999", "0", "60"]);
    assert!(!world.undo_file().exists());
}

#[test]
fn the_undo_file_is_there_before_anything_changes_and_nothing_changes_without_it() {
    let world = World::new(["128", "0", "60"]);
    fs::write(world.dir.path().join("state"), "a file where the folder should be").unwrap();
    let plan = world.plan(&[(FILES[0], "4096")]);
    let error = apply(&world.root, &plan, &world.undo_file(), false).unwrap_err();
    assert!(error.starts_with("nothing was changed") || error.contains("state"), "{error}");
    assert_eq!(world.get(FILES[0]), "128");
}

#[test]
fn an_undo_file_that_is_not_ours_is_not_touched() {
    let world = World::new(["128", "0", "60"]);
    fs::create_dir_all(world.undo_file().parent().unwrap()).unwrap();
    let other = r#"{"what":"x","version":2,"records":[]}"#;
    for text in ["not json", r#"{"a":1}"#, other] {
        fs::write(world.undo_file(), text).unwrap();
        let plan = world.plan(&[(FILES[0], "4096")]);
        let error = apply(&world.root, &plan, &world.undo_file(), false).unwrap_err();
        assert!(error.contains("not an undo file of ours"), "{error}");
        assert!(undo(&world.root, &world.undo_file(), false).is_err());
        assert_eq!(fs::read_to_string(world.undo_file()).unwrap(), text);
    }
    assert_eq!(world.get(FILES[0]), "128");
}

#[test]
fn only_files_of_the_kernel_are_written() {
    let world = World::new(["128", "0", "60"]);
    let outside = ["/etc/passwd", "/proc/sys/../../etc/x", "/proc/1/oom_score_adj", "/sysx/a"];
    for path in outside {
        let file = world.root.path("/etc/passwd");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "kept").unwrap();
        let action = Action::file(path, "1");
        let step = Step { id: "test", action, before: Some("kept".into()), only_on_host: false };
        let plan = Plan { steps: vec![step], by_hand: Vec::new() };
        let outcome = apply(&world.root, &plan, &world.undo_file(), false).unwrap();
        assert!(matches!(outcome.lines[0].1, Done::Left(_)), "{path}: {outcome:?}");
        assert_eq!(fs::read_to_string(file).unwrap(), "kept");
        // Nor by an undo file that somebody wrote.
        assert!(!is_ours(path), "{path}");
    }
}

#[test]
fn what_the_kernel_refuses_is_said_line_by_line_and_the_rest_is_done() {
    let world = World::new(["128", "0", "60"]);
    // A file of the real kernel that nobody may write, root included.
    let path = world.root.path("/proc/sys/net/core/somaxconn");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/proc/sys/kernel/ostype", &path).unwrap();
    let outcome = world.apply(&[(FILES[0], "4096"), (FILES[1], "1")]);
    assert!(matches!(&outcome.lines[0].1, Done::Failed(why) if why.contains("no permission")));
    assert_eq!(outcome.lines[1].1, Done::Changed);
    assert!(outcome.text().contains("FAILED    net.core.somaxconn: Linux -> 4096"), "{outcome:?}");
    // Nothing was changed there, so there is nothing to restore.
    assert!(world.undo().is_whole());
    assert_eq!(world.get(FILES[1]), "0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is applied in whatever order, one undo brings back what was there at first.
    #[test]
    fn undo_is_the_inverse_of_any_number_of_applies(
        first in prop::array::uniform3(0_u32..5),
        rounds in prop::collection::vec((0_usize..3, 0_u32..5), 0..12),
    ) {
        let texts = first.map(|value| value.to_string());
        let world = World::new([&texts[0], &texts[1], &texts[2]]);
        for (file, value) in rounds {
            prop_assert!(world.apply(&[(FILES[file], &value.to_string())]).is_whole());
            prop_assert_eq!(world.get(FILES[file]), value.to_string());
        }
        prop_assert!(world.undo().is_whole());
        prop_assert_eq!(world.all(), texts);
    }
}
