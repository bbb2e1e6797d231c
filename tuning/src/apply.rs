//! `apply` and `undo`: changing files of the kernel, and taking it back.
//!
//! Invariants:
//! - Before anything is written, what it replaces is on disk in the undo file, synced. A crash at
//!   any point leaves a file from which `undo` restores what was there at the very first.
//! - Check, act, check again: a step whose file no longer says what the plan saw is left alone; a
//!   write that the kernel took but did not follow is reported.
//! - Nothing but files that a plan can name (see `paths`) is ever written, and those only if they
//!   are there. An undo file that is not understood, or that others can write to (see `undo_file`),
//!   is not touched, and no step is done over it.
//! - Applying twice changes nothing the second time. `undo` restores a value only where it is still
//!   the one that `apply` wrote: who changed it since knows better.
//!
//! Deliberately absent: anything that lasts over a restart (that is `render`), any write to files
//! of the distribution or of a person.

mod paths;
mod undo_file;

use crate::plan::{Plan, Step, same_value};
use crate::root::{Absent, Root};
use paths::is_ours;
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

/// Does what the plan says. With `dry`, writes nothing and says what it would do.
pub fn apply(root: &Root, plan: &Plan, undo_file: &Path, dry: bool) -> Result<Outcome, String> {
    let known = Place::open(undo_file)?.map(|place| place.read()).transpose()?.flatten();
    let mut undo = known.unwrap_or_else(UndoFile::empty);
    let mut outcome = Outcome::default();
    let mut steps = Vec::new();
    for step in &plan.steps {
        match examine(root, step) {
            Ok(record) => steps.push((step, record)),
            Err(done) => outcome.lines.push((step.line(), done)),
        }
    }
    if dry {
        outcome.lines.extend(steps.iter().map(|(step, _)| (step.line(), Done::Changed)));
        return Ok(outcome);
    }
    if !steps.is_empty() {
        undo.remember(steps.iter().map(|(_, record)| record));
        let written = Place::make(undo_file)?.write(&undo);
        written.map_err(|error| format!("nothing was changed: {error}"))?;
    }
    for (step, record) in steps {
        outcome.lines.push((step.line(), write_value(root, &record.path, &record.after)));
    }
    Ok(outcome)
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
    if same_value(&now, after) {
        return Err(Done::Already);
    }
    if step.before.as_deref() != Some(now.as_str()) {
        return Err(Done::Left(format!(
            "it says `{now}` now: somebody changed it; run plan again"
        )));
    }
    // A choice is shown with all there are; what is restored is the one that was chosen.
    let before = match crate::parse::chosen(&now) {
        Some(chosen) if now.contains('[') => chosen.to_owned(),
        _ => now,
    };
    Ok(Record { path, before, after: after.to_owned() })
}

/// Writes and reads again.
fn write_value(root: &Root, path: &str, value: &str) -> Done {
    let written = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(root.path(path))
        .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()));
    if let Err(error) = written {
        return Done::Failed(refusal(&error));
    }
    match root.text(path) {
        Ok(now) if same_value(&now, value) => Done::Changed,
        Ok(now) => Done::Failed(format!("the kernel took it and says `{now}`")),
        Err(absent) => Done::Failed(absent.to_string()),
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
    let mut outcome = Outcome::default();
    let Some(place) = Place::open(undo_file)? else { return Ok(outcome) };
    let Some(mut file) = place.read()? else { return Ok(outcome) };
    let mut kept = Vec::new();
    for record in file.records.iter().rev() {
        let line = format!("{}: {} -> {}", record.path, record.after, record.before);
        let done = restore(root, record, dry);
        // What failed can be tried again; what somebody changed is theirs now.
        if matches!(done, Done::Failed(_)) {
            kept.insert(0, record.clone());
        }
        outcome.lines.push((line, done));
    }
    if !dry && kept.is_empty() {
        place.remove()?;
    } else if !dry {
        file.records = kept;
        place.write(&file)?;
    }
    Ok(outcome)
}

fn restore(root: &Root, record: &Record, dry: bool) -> Done {
    if !is_ours(&record.path) {
        return Done::Left("not a file that is changed here".to_owned());
    }
    let now = match root.text(&record.path) {
        Ok(now) => now,
        Err(absent) => return Done::Left(absent.to_string()),
    };
    if same_value(&now, &record.before) {
        return Done::Already;
    }
    if !same_value(&now, &record.after) {
        return Done::Left(format!("it says `{now}` now: somebody changed it since"));
    }
    if dry { Done::Changed } else { write_value(root, &record.path, &record.before) }
}

impl UndoFile {
    /// Adds records; of a file that is there already the first value stays, which is the one to go
    /// back to.
    fn remember<'a>(&mut self, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            match self.records.iter_mut().find(|known| known.path == record.path) {
                // Somebody put something else there meanwhile: that is what to go back to.
                Some(known) if !same_value(&known.after, &record.before) => {
                    *known = record.clone();
                }
                Some(known) => known.after.clone_from(&record.after),
                None => self.records.push(record.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
