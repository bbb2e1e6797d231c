//! The undo file on disk: read only if nobody else could have written it, replaced as a whole.
//!
//! Invariants:
//! - `undo` writes into the kernel what this file says, mostly as root. So the file and its folder
//!   must belong to root or to the caller, and nobody else may write to either; a link in place of
//!   the file is not followed, and what is not a regular file is not read.
//! - The folder is opened once and everything happens in it by that handle: what was checked is
//!   what is used, whoever renames folders meanwhile.
//! - The whole file is under its name, or the old one: written beside under a name that did not
//!   exist, synced, renamed, the folder synced.
//! - At most [`BYTES_MAX`] are read; a longer file is refused.
//!
//! Deliberately absent: locks (two calls of `apply` at once are two people who should talk).

use super::{UndoFile, VERSION, WHAT};
use rustix::fs::{self, Access, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Some thousand records; a machine has a few hundred queues and CPUs.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// A file in a folder that nobody else can write to.
pub(super) struct Place {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Opens the folder of `path`; `None` where there is no such folder.
    pub fn open(path: &Path) -> Result<Option<Self>, String> {
        let Some(name) = path.file_name() else {
            return Err(format!("{} is no name of a file; {ANOTHER}", path.display()));
        };
        let above = folder_of(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match fs::open(above, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(said(above, error)),
        };
        let stat = fs::fstat(&folder).map_err(|error| said(above, error))?;
        if let Some(why) = open_to_others(&stat) {
            return Err(format!(
                "the folder {} of the undo file {why}, so anybody could say what is to be restored; \
                 {ANOTHER}",
                above.display()
            ));
        }
        Ok(Some(Self { folder, name: name.to_owned(), path: path.to_path_buf() }))
    }

    /// The same, with the folder made where it is not there.
    pub fn make(path: &Path) -> Result<Self, String> {
        let above = folder_of(path);
        // Not writable for others even under a loose umask.
        let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
        let refused = |error: String| {
            format!("nothing was changed: no undo file can be written ({error}); {ANOTHER}")
        };
        made.map_err(|error| refused(format!("{}: {error}", above.display())))?;
        Self::open(path)?.ok_or_else(|| refused(format!("{} is gone", above.display())))
    }

    /// Whether [`Place::make`] and a write could work, in the same words; makes nothing.
    pub fn check(path: &Path) -> Result<(), String> {
        let above = folder_of(path);
        let there = Self::open(path)?.is_some();
        let mut upwards = above.ancestors().map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        });
        let nearest = upwards.find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let error = match fs::accessat(fs::CWD, nearest, access, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOSYS) => return Ok(()),
            Err(error) => io::Error::from(error),
        };
        let (path, above) = (path.display(), above.display());
        Err(match there {
            true => format!(
                "nothing was changed: the undo file {path} cannot be written ({error}); {ANOTHER}"
            ),
            false => format!(
                "nothing was changed: no undo file can be written ({above}: {error}); {ANOTHER}"
            ),
        })
    }

    /// As a line of an outcome.
    pub fn line(&self) -> String {
        format!("the undo file {}", self.path.display())
    }

    /// What the file says; `None` where there is none.
    pub fn read(&self) -> Result<Option<UndoFile>, String> {
        // A pipe that nobody writes to must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.path.display();
        let strange = |why: &str| {
            format!("{path} is not an undo file of ours ({why}); look at it, then move it away")
        };
        let file = match fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(strange("it is a symbolic link")),
            Err(error) => return Err(said(&self.path, error)),
        };
        let stat = fs::fstat(&file).map_err(|error| said(&self.path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(strange("it is not a regular file"));
        }
        if let Some(why) = open_to_others(&stat) {
            return Err(strange(&why));
        }
        let mut bytes = Vec::new();
        let read = File::from(file).take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("{path}: {error}"))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(strange("it is longer than 1 MiB"));
        }
        let file: UndoFile =
            serde_json::from_slice(&bytes).map_err(|error| strange(&error.to_string()))?;
        if file.version != VERSION {
            return Err(strange("another version wrote it"));
        }
        Ok(Some(file))
    }

    /// Replaces the file, so that it lasts.
    pub fn write(&self, file: &UndoFile) -> Result<(), String> {
        self.replace(file).map_err(|error| {
            let path = self.path.display();
            format!("the undo file {path} cannot be written ({error}); {ANOTHER}")
        })
    }

    fn replace(&self, file: &UndoFile) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(file).map_err(io::Error::other)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(io::Error::other("it would be longer than 1 MiB"));
        }
        let mut beside = self.name.clone();
        beside.push(".new");
        // What a crash left, or somebody put there; as a link it goes, and not what it names.
        match fs::unlinkat(&self.folder, &beside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mut new = File::from(fs::openat(&self.folder, &beside, flags, mode)?);
        new.write_all(&text)?;
        new.sync_all()?;
        fs::renameat(&self.folder, &beside, &self.folder, &self.name)?;
        Ok(fs::fsync(&self.folder)?)
    }

    /// Replaces the file; without records it goes.
    pub fn replace_or_remove(&self, file: &UndoFile) -> Result<(), String> {
        if file.records.is_empty() { self.remove() } else { self.write(file) }
    }

    /// Takes the file away.
    fn remove(&self) -> Result<(), String> {
        let gone = fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        gone.map_err(|error| said(&self.path, error))
    }
}

impl UndoFile {
    /// One without records.
    pub(super) fn empty() -> Self {
        Self { what: WHAT.to_owned(), version: VERSION, records: Vec::new() }
    }
}

fn folder_of(path: &Path) -> &Path {
    let above = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    above.unwrap_or(Path::new("."))
}

/// Why somebody other than root and the caller may write here. A sticky folder does not help: who
/// is first may still put a file there.
fn open_to_others(stat: &Stat) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != own {
        return Some(format!("belongs to user {}, neither root nor you", stat.st_uid));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    let others = mode.intersects(Mode::WGRP | Mode::WOTH);
    others.then(|| "can be written by its group or by everybody".to_owned())
}

fn said(path: &Path, error: Errno) -> String {
    format!("{}: {}", path.display(), io::Error::from(error))
}

const ANOTHER: &str = "name one in a folder that only you can write to: --undo-file FILE";
