//! The files of the kernel, under a root that tests choose.
//!
//! Every fact of `check` is read through here, with a path as the kernel names it. What cannot be
//! had is an [`Absent`] that says why, and that is what a check then shows: never a guess. Files
//! are read up to a bound and as lossy text, because a kernel, a container or a FUSE file system
//! may put anything there.
//!
//! Deliberately absent: caching (a check reads a file once), writing (see `apply`).

use crate::parse;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where `/` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

/// Why a fact is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The kernel or the container does not show it.
    Missing { path: String },
    /// It is there, but not for us.
    Unreadable { path: String, why: String },
    /// It says something that is not understood.
    Odd { path: String, text: String },
    /// Something other than a file is in the way.
    Other(String),
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "{path} is not there"),
            Self::Unreadable { path, why } => write!(f, "{path} cannot be read: {why}"),
            Self::Odd { path, text } => write!(f, "{path} says `{text}`, which is not understood"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl Absent {
    fn odd(path: &str, text: &str) -> Self {
        let text: String = text.chars().filter(|c| !c.is_control()).take(ODD_CHARS).collect();
        Self::Odd { path: path.to_owned(), text }
    }
}

impl Root {
    /// The machine that this runs on.
    pub fn system() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A machine described by files below `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where an absolute path is below this root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// The whole text, without white space at its end.
    pub fn text(&self, path: &str) -> Result<String, Absent> {
        read_bounded(&self.path(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Absent::Missing { path: path.to_owned() }
            }
            _ => Absent::Unreadable { path: path.to_owned(), why: reason(&error) },
        })
    }

    /// One number, and nothing else.
    pub fn number<T: FromStr>(&self, path: &str) -> Result<T, Absent> {
        let text = self.text(path)?;
        text.trim().parse().map_err(|_| Absent::odd(path, &text))
    }

    /// As many numbers as the file should have, between white space.
    pub fn numbers<const N: usize>(&self, path: &str) -> Result<[u64; N], Absent> {
        let text = self.text(path)?;
        let numbers: Option<Vec<u64>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
        numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| Absent::odd(path, &text))
    }

    /// A list of CPUs such as `0-3,8`.
    pub fn cpus(&self, path: &str) -> Result<Vec<u32>, Absent> {
        let text = self.text(path)?;
        parse::cpu_list(&text).ok_or_else(|| Absent::odd(path, &text))
    }

    /// The word in brackets, as in `always [madvise] never`; a file with one word only has that
    /// one.
    pub fn chosen(&self, path: &str) -> Result<String, Absent> {
        let text = self.text(path)?;
        let word = parse::chosen(&text).map(str::to_owned);
        word.ok_or_else(|| Absent::odd(path, &text))
    }

    /// The names in a folder, those with numbers in numeric order.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Absent> {
        let entries = fs::read_dir(self.path(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Absent::Missing { path: path.to_owned() }
            }
            _ => Absent::Unreadable { path: path.to_owned(), why: reason(&error) },
        })?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            let stem = name[..name.len() - digits.len()].to_owned();
            (stem, digits.parse::<u64>().ok(), name.clone())
        });
        Ok(names)
    }

    /// For what a kernel may be without: `None` where it is missing although `folder`, in which or
    /// below which it would be, shows what it has. A folder that is not there, cannot be listed or
    /// is empty (so do containers hide one) says nothing.
    pub fn optional<T>(&self, read: Result<T, Absent>, folder: &str) -> Result<Option<T>, Absent> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Absent::Missing { path }) => match self.list(folder) {
                Ok(names) if !names.is_empty() => Ok(None),
                _ => Err(Absent::Missing { path }),
            },
            Err(absent) => Err(absent),
        }
    }

    /// True if there is something at `path`.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The same, where what cannot be looked at is neither.
    pub fn is_there(&self, path: &str) -> Result<bool, Absent> {
        self.path(path)
            .try_exists()
            .map_err(|error| Absent::Unreadable { path: path.to_owned(), why: reason(&error) })
    }

    /// The last part of what a link points to.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// The error without its number: `permission denied`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    plain.to_lowercase()
}

/// `/proc/interrupts` of the largest machines is well below this.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// What is shown of a text that is not understood.
const ODD_CHARS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_says_why_and_nothing_panics() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let write = |path: &str, text: &[u8]| fs::write(root.path(path), text).unwrap();
        fs::create_dir(root.path("/folder")).unwrap();
        write("/three", b"1 2\t3\n");
        write("/odd", b"\x1b[2Jabc\n");
        write("/bytes", b"\xff\xfe\n");
        write("/one", b"42\n");
        write("/choice", b"always [madvise] never\n");
        let said = |absent: Absent| absent.to_string();
        assert_eq!(root.number::<u64>("/one"), Ok(42));
        assert_eq!(root.numbers::<3>("/three"), Ok([1, 2, 3]));
        assert_eq!(root.chosen("/choice").as_deref(), Ok("madvise"));
        assert_eq!(said(root.number::<u64>("/gone").unwrap_err()), "/gone is not there");
        let folder = said(root.text("/folder").unwrap_err());
        assert_eq!(folder, "/folder cannot be read: is a directory");
        let odd = said(root.number::<u64>("/odd").unwrap_err());
        assert_eq!(odd, "/odd says `[2Jabc`, which is not understood");
        assert!(root.cpus("/bytes").is_err());
        assert!(root.numbers::<2>("/three").is_err());
        assert_eq!(said(root.list("/one").unwrap_err()), "/one is not there");
    }

    #[test]
    fn names_with_numbers_are_in_numeric_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["rx-10", "rx-9", "rx-1", "tx-0"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(Root::at(dir.path()).list("/").unwrap(), ["rx-1", "rx-9", "rx-10", "tx-0"]);
    }
}
