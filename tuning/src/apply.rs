//! `apply` and `undo`: changing files of the kernel, and taking it back.
//!
//! Invariants:
//! - Before anything is written, what it replaces is on disk in the undo file, synced. A crash at
//!   any point leaves a file from which `undo` restores what was there at the very first.
//! - Check, act, check again: a step whose file no longer says what the plan saw is left alone; a
//!   write that the kernel took but did not follow is reported. What it says then is what the undo
//!   file has: the kernel rounds some numbers, and `undo` must know its own value again. What was
//!   not changed in the end has no record.
//! - Nothing but files that a plan can name (see `paths`) is ever written, and those only if they
//!   are there. An undo file that is not understood, or that others can write to (see `undo_file`),
//!   is not touched, and no step is done over it.
//! - Applying twice changes nothing the second time. `undo` restores a value only where it is still
//!   the one that `apply` wrote: who changed it since knows better. A record is forgotten only when
//!   its file was seen; what is away for now is restored by a later `undo`.
//! - A dry run asks for every right that the run needs, and says what the run would.
//!
//! Deliberately absent: anything that lasts over a restart (that is `render`), any write to files
//! of the distribution or of a person.

mod paths;
mod undo_file;

use crate::parse;
use crate::plan::{Plan, Step, same_value};
use crate::root::{Absent, Root};
use paths::is_ours;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use undo_file::Place;

/// What `apply` replaced, in the order it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoFile {
    /// Says what this is, to people and to us.
    what: String,
    /// Changes when the meaning of the rest does.
    version: u32,
    records: Vec<Record>,
}

/// A file of the kernel before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    path: String,
    before: String,
    after: String,
}

const WHAT: &str =
    "values that `shardcast tune apply` replaced; `shardcast tune undo` restores them";
const VERSION: u32 = 1;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It says what it should.
    Changed,
    /// It did already, or does again.
    Already,
    /// It was not touched, for this reason.
    Left(String),
    /// The kernel refused, or did something else.
    Failed(String),
}

/// Every step and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub lines: Vec<(String, Done)>,
    /// Something was changed, and the undo file has what it replaced.
    pub changed: bool,
}

impl Outcome {
    /// True if everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.lines.iter().all(|(_, done)| matches!(done, Done::Changed | Done::Already))
    }

    /// A line for each step.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (line, done) in &self.lines {
            let _ = match done {
                Done::Changed => writeln!(out, "done      {line}"),
                Done::Already => writeln!(out, "already   {line}"),
                Done::Left(why) => writeln!(out, "left      {line}\n          {why}"),
                Done::Failed(why) => writeln!(out, "FAILED    {line}\n          {why}"),
            };
        }
        out
    }
}

/// Writes a value into a file of the kernel. Tests put a kernel of their own in its place.
pub type Write<'a> = &'a dyn Fn(&Path, &str) -> io::Result<()>;

/// Does what the plan says. With `dry`, writes nothing and says what it would do.
pub fn apply(root: &Root, plan: &Plan, undo_file: &Path, dry: bool) -> Result<Outcome, String> {
    apply_by(root, plan, undo_file, dry, &write_file)
}

/// The same, with another way to write.
pub fn apply_by(
    root: &Root,
    plan: &Plan,
    undo_file: &Path,
    dry: bool,
    write: Write,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let mut steps = Vec::new();
    for step in &plan.steps {
        match examine(root, step) {
            Ok(record) => steps.push((step, record)),
            Err(done) => outcome.lines.push((step.line(), done)),
        }
    }
    if steps.is_empty() {
        return Ok(outcome);
    }
    let known = Place::open(undo_file).and_then(|place| place.map_or(Ok(None), |at| at.read()));
    let known = known.map_err(|error| not_done(&error, &steps))?;
    if dry {
        Place::check(undo_file).map_err(|error| not_done(&error, &steps))?;
        for (step, record) in &steps {
            let done = may_write(root, &record.path).err().unwrap_or(Done::Changed);
            outcome.changed |= done == Done::Changed;
            outcome.lines.push((step.line(), done));
        }
        return Ok(outcome);
    }
    let mut undo = known.clone().unwrap_or_else(UndoFile::empty);
    undo.remember(steps.iter().map(|(_, record)| record));
    let place = Place::make(undo_file).and_then(|place| {
        place.write(&undo).map_err(|error| format!("nothing was changed: {error}"))?;
        Ok(place)
    });
    let place = place.map_err(|error| not_done(&error, &steps))?;
    let written = undo.clone();
    for (step, record) in &steps {
        let done = write_value(root, &record.path, &record.after, write);
        outcome.lines.push((step.line(), done));
        outcome.changed |= undo.settle(root, record, known.as_ref());
    }
    if undo != written
        && let Err(error) = place.replace_or_remove(&undo)
    {
        outcome.lines.push((place.line(), Done::Failed(error)));
    }
    Ok(outcome)
}

/// Why nothing was done, and what that leaves undone.
fn not_done(error: &str, steps: &[(&Step, Record)]) -> String {
    let lines: String = steps.iter().map(|(step, _)| format!("\n    {}", step.line())).collect();
    format!("{error}\nnot done:{lines}")
}

/// What may be written and is still as the plan saw it.
fn examine(root: &Root, step: &Step) -> Result<Record, Done> {
    let (Some(path), Some(after)) = (step.action.path(), step.action.value()) else {
        return Err(Done::Left("not a file".to_owned()));
    };
    if !is_ours(&path) {
        return Err(Done::Left("not a file that is changed here".to_owned()));
    }
    let now = root.text(&path).map_err(|absent| {
        Done::Left(match absent {
            Absent::Missing { .. } => {
                format!("{absent}: this kernel or container does not have it")
            }
            _ => absent.to_string(),
        })
    })?;
    if same_value(&path, &now, after) {
        return Err(Done::Already);
    }
    if step.before.as_deref() != Some(now.as_str()) {
        return Err(Done::Left(format!(
            "it says `{now}` now: somebody changed it; run plan again"
        )));
    }
    Ok(Record { path, before: restorable(now), after: after.to_owned() })
}

/// A choice is shown with all there are; what is restored is the one that was chosen.
fn restorable(shown: String) -> String {
    match parse::chosen(&shown) {
        Some(chosen) if shown.contains('[') => chosen.to_owned(),
        _ => shown,
    }
}

/// Writes and reads again.
fn write_value(root: &Root, path: &str, value: &str, write: Write) -> Done {
    if let Err(error) = write(&root.path(path), value) {
        return Done::Failed(refusal(&error));
    }
    match root.text(path) {
        Ok(now) if same_value(path, &now, value) => Done::Changed,
        Ok(now) => Done::Failed(format!("the kernel took it and says `{now}`")),
        Err(absent) => Done::Failed(absent.to_string()),
    }
}

fn write_file(path: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(format!("{value}\n").as_bytes())
}

/// Whether a write would be refused before the kernel looks at the value.
fn may_write(root: &Root, path: &str) -> Result<(), Done> {
    match accessat(CWD, root.path(path), Access::WRITE_OK, AtFlags::EACCESS) {
        // A kernel that cannot say is asked by the write.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(error) => Err(Done::Failed(refusal(&error.into()))),
    }
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "no permission: run as root, and on the host if this is a container".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "read-only here, as in a container: do it on the host, or in an init container"
                .to_owned()
        }
        io::ErrorKind::InvalidInput => "the kernel refuses this value".to_owned(),
        _ => error.to_string(),
    }
}

/// Restores what `apply` replaced, the last first. The undo file goes when nothing is left in it.
pub fn undo(root: &Root, undo_file: &Path, dry: bool) -> Result<Outcome, String> {
    undo_by(root, undo_file, dry, &write_file)
}

/// The same, with another way to write.
pub fn undo_by(root: &Root, undo_file: &Path, dry: bool, write: Write) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let Some(place) = Place::open(undo_file)? else { return Ok(outcome) };
    let Some(mut file) = place.read()? else { return Ok(outcome) };
    let mut kept = Vec::new();
    for record in file.records.iter().rev() {
        let line = format!("{}: {} -> {}", record.path, record.after, record.before);
        let (done, settled) = match restore(root, record) {
            Ok(()) if dry => (may_write(root, &record.path).err().unwrap_or(Done::Changed), false),
            Ok(()) => {
                let done = write_value(root, &record.path, &record.before, write);
                let settled = done == Done::Changed;
                (done, settled)
            }
            Err(left) => left,
        };
        outcome.changed |= done == Done::Changed;
        if !settled {
            kept.insert(0, record.clone());
        }
        outcome.lines.push((line, done));
    }
    if !dry {
        file.records = kept;
        place.replace_or_remove(&file)?;
    }
    Ok(outcome)
}

/// Whether this is to be restored; if not, why, and whether that settles it.
fn restore(root: &Root, record: &Record) -> Result<(), (Done, bool)> {
    if !is_ours(&record.path) {
        return Err((Done::Left("not a file that is changed here".to_owned()), false));
    }
    let now = root.text(&record.path).map_err(|absent| {
        let why = format!("{absent}: the undo file keeps what it was, for when it is back");
        (Done::Left(why), false)
    })?;
    if same_value(&record.path, &now, &record.before) {
        return Err((Done::Already, true));
    }
    // What somebody changed is theirs now.
    if !same_value(&record.path, &now, &record.after) {
        let why = format!("it says `{now}` now: somebody changed it since");
        return Err((Done::Left(why), true));
    }
    Ok(())
}

impl UndoFile {
    /// Adds records; of a file that is there already the first value stays, which is the one to go
    /// back to.
    fn remember<'a>(&mut self, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            match self.records.iter_mut().find(|known| known.path == record.path) {
                // Somebody put something else there meanwhile: that is what to go back to.
                Some(known) if !same_value(&known.path, &known.after, &record.before) => {
                    *known = record.clone();
                }
                Some(known) => known.after.clone_from(&record.after),
                None => self.records.push(record.clone()),
            }
        }
    }

    /// After the write: the record has what the kernel says now, or is as it was before where
    /// nothing changed. True if something did.
    fn settle(&mut self, root: &Root, tried: &Record, known: Option<&Self>) -> bool {
        let path = &tried.path;
        let Ok(now) = root.text(path) else { return true };
        let Some(at) = self.records.iter().position(|record| record.path == *path) else {
            return false;
        };
        if !same_value(path, &now, &tried.before) {
            if !same_value(path, &now, &tried.after) {
                self.records[at].after = restorable(now);
            }
            return true;
        }
        let before = known.and_then(|file| file.records.iter().find(|known| known.path == *path));
        match before {
            Some(before) => self.records[at] = before.clone(),
            None => drop(self.records.remove(at)),
        }
        false
    }
}

#[cfg(test)]
mod tests;
