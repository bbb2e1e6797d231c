use super::*;
use crate::action::Action;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
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

    /// Puts an undo file there, as `apply` would.
    fn write_undo(&self, text: &str) {
        self.make_folder();
        fs::write(self.undo_file(), text).unwrap();
        fs::set_permissions(self.undo_file(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// The undo file's folder, whatever the umask is.
    fn make_folder(&self) {
        if !self.undo_file().parent().unwrap().exists() {
            Place::make(&self.undo_file()).unwrap();
        }
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

const FLOWS: &str = "/sys/class/net/eth0/queues/rx-0/rps_flow_cnt";

/// Some numbers are rounded by the kernel: they are known again, and undone to the very first.
#[test]
fn what_the_kernel_rounds_is_undone_to_what_was_there_at_first() {
    let world = World::new(["128", "0", "60"]);
    let file = world.root.path(FLOWS);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "0\n").unwrap();
    let rounding = |path: &Path, value: &str| {
        let number: u64 = value.parse().unwrap();
        fs::write(path, format!("{}\n", if number == 0 { 0 } else { number.next_power_of_two() }))
    };
    let apply = |value: &str| {
        let action = Action::file(FLOWS, value);
        let before = world.root.text(FLOWS).ok();
        let step = Step { id: "test", action, before, only_on_host: false };
        let plan = Plan { steps: vec![step], by_hand: Vec::new() };
        apply_by(&world.root, &plan, &world.undo_file(), false, &rounding).unwrap()
    };
    let outcome = apply("10922");
    let says = "the kernel took it and says `16384`".to_owned();
    assert_eq!(outcome.lines[0].1, Done::Failed(says));
    assert!(outcome.changed);
    // Planned again, for another target.
    apply("20000");
    assert_eq!(fs::read_to_string(&file).unwrap(), "32768\n");
    let undone = undo_by(&world.root, &world.undo_file(), false, &rounding).unwrap();
    assert!(undone.is_whole(), "{undone:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "0\n");
    assert!(!world.undo_file().exists());
}

/// A file that is away for now, such as that of an interface that is down, is restored later.
#[test]
fn what_undo_cannot_look_at_is_kept() {
    let world = World::new(["128", "0", "60"]);
    assert!(world.apply(&[(FILES[0], "4096"), (FILES[1], "1")]).is_whole());
    let path = world.root.path("/proc/sys/net/core/somaxconn");
    let hide: [&dyn Fn(); 2] = [&|| fs::remove_file(&path).unwrap(), &|| {
        std::os::unix::fs::symlink("somaxconn", &path).unwrap()
    }];
    for hide in hide {
        hide();
        let outcome = world.undo();
        let (_, done) = outcome.lines.iter().find(|(line, _)| line.contains("somaxconn")).unwrap();
        assert!(matches!(done, Done::Left(why) if why.contains("the undo file keeps")), "{done:?}");
        assert_eq!(world.get(FILES[1]), "0");
        assert!(world.undo_file().exists());
    }
    fs::remove_file(&path).unwrap();
    world.set(FILES[0], "4096");
    assert!(world.undo().is_whole());
    assert_eq!(world.all(), ["128", "0", "60"]);
    assert!(!world.undo_file().exists());
}

#[test]
fn a_refusal_says_what_was_not_done() {
    let world = World::new(["128", "0", "60"]);
    fs::write(world.dir.path().join("state"), "a file where the folder should be").unwrap();
    let undo_file = world.dir.path().join("state/deeper/undo.json");
    let plan = world.plan(&[(FILES[0], "4096"), (FILES[1], "1")]);
    for dry in [true, false] {
        let error = apply(&world.root, &plan, &undo_file, dry).unwrap_err();
        assert!(error.contains("net.core.somaxconn: 128 -> 4096"), "{dry}: {error}");
        assert!(error.contains("net.ipv4.tcp_syncookies: 0 -> 1"), "{dry}: {error}");
    }
    assert_eq!(world.all(), ["128", "0", "60"]);
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
    let other = r#"{"what":"x","version":2,"records":[]}"#;
    for text in ["not json", r#"{"a":1}"#, other] {
        world.write_undo(text);
        let plan = world.plan(&[(FILES[0], "4096")]);
        let error = apply(&world.root, &plan, &world.undo_file(), false).unwrap_err();
        assert!(error.contains("not an undo file of ours"), "{error}");
        assert!(undo(&world.root, &world.undo_file(), false).is_err());
        assert_eq!(fs::read_to_string(world.undo_file()).unwrap(), text);
    }
    assert_eq!(world.get(FILES[0]), "128");
}

#[test]
fn only_files_that_a_plan_can_name_are_written() {
    let world = World::new(["128", "0", "60"]);
    let outside =
        ["/etc/passwd", "/proc/sys/../../etc/passwd", "/proc/sys/kernel/core_pattern", "/sysx/a"];
    for path in outside {
        let file = world.root.path(path);
        fs::create_dir_all(world.root.path("/proc/sys/kernel")).unwrap();
        fs::create_dir_all(world.root.path("/etc")).unwrap();
        fs::create_dir_all(world.root.path("/sysx")).unwrap();
        fs::write(&file, "kept").unwrap();
        let action = Action::file(path, "1");
        let step = Step { id: "test", action, before: Some("kept".into()), only_on_host: false };
        let plan = Plan { steps: vec![step], by_hand: Vec::new() };
        let outcome = apply(&world.root, &plan, &world.undo_file(), false).unwrap();
        assert!(matches!(outcome.lines[0].1, Done::Left(_)), "{path}: {outcome:?}");
        // Nor by an undo file that somebody wrote.
        world.write_undo(&record(path, "| /tmp/x", "kept"));
        let outcome = world.undo();
        assert!(matches!(outcome.lines[0].1, Done::Left(_)), "{path}: {outcome:?}");
        assert_eq!(fs::read_to_string(file).unwrap(), "kept");
    }
}

/// An undo file with one record.
fn record(path: &str, before: &str, after: &str) -> String {
    let record = Record { path: path.into(), before: before.into(), after: after.into() };
    serde_json::to_string(&UndoFile { records: vec![record], ..UndoFile::empty() }).unwrap()
}

/// A record that would set `net.core.somaxconn` from 128 to 7.
fn to_seven() -> String {
    record("/proc/sys/net/core/somaxconn", "7", "128")
}

/// Neither `undo` nor `apply` does anything with the undo file, for this reason.
fn refused(world: &World, why: &str) {
    let plan = world.plan(&[(FILES[0], "4096")]);
    for dry in [true, false] {
        for result in [
            undo(&world.root, &world.undo_file(), dry),
            apply(&world.root, &plan, &world.undo_file(), dry),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(why), "{error}");
            let next = error.contains("--undo-file") || error.contains("move it away");
            assert!(next, "{error}");
        }
    }
    assert_eq!(world.all(), ["128", "0", "60"]);
}

#[test]
fn an_undo_file_that_others_can_write_to_is_refused() {
    let world = World::new(["128", "0", "60"]);
    world.write_undo(&to_seven());
    let folder = world.dir.path().join("state");
    let mode = |path: &Path, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    };
    for bits in [0o664, 0o646] {
        mode(&world.undo_file(), bits);
        refused(&world, "can be written by its group or by everybody");
    }
    mode(&world.undo_file(), 0o644);
    for bits in [0o775, 0o757, 0o1777] {
        mode(&folder, bits);
        refused(&world, "can be written by its group or by everybody");
        // Also where there is no file yet.
        fs::remove_file(world.undo_file()).unwrap();
        refused(&world, "can be written by its group or by everybody");
        world.write_undo(&to_seven());
    }
    mode(&folder, 0o755);
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        for path in [&world.undo_file(), &folder] {
            std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
            refused(&world, "belongs to user 12345, neither root nor you");
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
    }
    assert!(world.undo().is_whole());
    assert_eq!(world.get(FILES[0]), "7");
}

#[test]
fn what_is_not_a_regular_file_is_refused_and_never_waited_for() {
    let world = World::new(["128", "0", "60"]);
    world.write_undo(&to_seven());
    let other = world.dir.path().join("state/other.json");
    fs::rename(world.undo_file(), &other).unwrap();
    std::os::unix::fs::symlink(&other, world.undo_file()).unwrap();
    refused(&world, "it is a symbolic link");
    fs::remove_file(world.undo_file()).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let (kind, cwd) = (rustix::fs::FileType::Fifo, rustix::fs::CWD);
    rustix::fs::mknodat(cwd, world.undo_file(), kind, mode, 0).unwrap();
    refused(&world, "it is not a regular file");
    fs::remove_file(world.undo_file()).unwrap();
    fs::create_dir(world.undo_file()).unwrap();
    refused(&world, "it is not a regular file");
    fs::remove_dir(world.undo_file()).unwrap();
    let long = " ".repeat(usize::try_from(undo_file::BYTES_MAX).unwrap()) + &to_seven();
    world.write_undo(&long);
    refused(&world, "it is longer than 1 MiB");
}

#[test]
fn a_link_where_the_new_undo_file_is_written_is_replaced_and_not_followed() {
    let world = World::new(["128", "0", "60"]);
    let kept = world.dir.path().join("kept");
    fs::write(&kept, "kept").unwrap();
    world.make_folder();
    for name in ["undo.json.new", "undo.new"] {
        std::os::unix::fs::symlink(&kept, world.dir.path().join("state").join(name)).unwrap();
    }
    assert!(world.apply(&[(FILES[0], "4096")]).is_whole());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    assert!(fs::symlink_metadata(world.undo_file()).unwrap().is_file());
    assert!(world.undo().is_whole());
    assert_eq!(world.get(FILES[0]), "128");
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
    let undone = world.undo();
    assert_eq!(undone.lines.len(), 1, "{undone:?}");
    assert!(undone.is_whole());
    assert_eq!(world.get(FILES[1]), "0");
    // Where nothing at all was changed, nothing is kept and nothing promised.
    let outcome = world.apply(&[(FILES[0], "4096")]);
    assert!(!outcome.changed && !outcome.is_whole(), "{outcome:?}");
    assert!(!world.undo_file().exists());
    assert_eq!(world.undo(), Outcome::default());
    // A record of an earlier time stays as it was.
    world.write_undo(&record("/proc/sys/net/core/somaxconn", "128", "Linux"));
    assert!(!world.apply(&[(FILES[0], "4096")]).changed);
    let kept = fs::read_to_string(world.undo_file()).unwrap();
    assert!(kept.contains("\"before\": \"128\"") || kept.contains("\"before\":\"128\""), "{kept}");
    assert!(kept.contains("Linux") && !kept.contains("4096"), "{kept}");
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
