//! The file seam: the few operations the spool needs of a directory, so that a real disk and a
//! simulated one are interchangeable.
//!
//! Invariants asked of an implementation: `sync_data` makes every byte written before it survive a
//! power cut, or fails; after a failure the un-synced bytes may be gone although later syncs
//! succeed (Linux). Entries of the directory survive a cut only after `sync_dir`. `rename`
//! replaces atomically. Names are plain (no separators), inside one directory.
//! Deliberately absent: append positions, truncating opens, memory maps.

use std::io;

/// A directory with files.
pub trait Files: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// An open file; reading stays possible after it was removed.
    type File: FileIo;
    /// Held as long as the directory is ours.
    type Lock: Send + std::fmt::Debug + 'static;

    /// Creates an empty file or empties an existing one, with room for `room` bytes reserved: the
    /// file then has that length and reads as zeros. A failure leaves no file behind.
    fn create(&self, name: &str, room: u64) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Names and lengths of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames, replacing what had the name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, removals and renames so far survive a power cut.
    fn sync_dir(&self) -> io::Result<()>;
    /// Takes the exclusive lock that `name` stands for; `WouldBlock` if another holds it.
    fn lock(&self, name: &str) -> io::Result<Self::Lock>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Where the files are, for messages.
    fn describe(&self) -> String;
    /// A random number that nobody can guess.
    fn random(&self) -> u64;
}

/// An open file, written and read at positions.
pub trait FileIo: std::fmt::Debug + Send + Sync + 'static {
    /// Writes some of `bytes` at `at`; returns how many.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Reads some bytes at `at`; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    /// Makes the data durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// A hint: these synced bytes need not stay in memory.
    fn forget(&self, bytes: std::ops::Range<u64>);
    /// The length.
    fn len(&self) -> io::Result<u64>;
    /// True if the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

/// Reads until `bytes` is full or the file ends; returns how many bytes were read.
pub fn read_full<T: FileIo>(file: &T, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Writes everything.
pub fn write_full<T: FileIo>(file: &T, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], at + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a whole small file; refuses more than `bytes_max`.
pub fn read_small<F: Files>(files: &F, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = files.open(name)?;
    let len = file.len()?;
    if len > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    let mut bytes = vec![0; len as usize];
    let read = read_full(&file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a small file so that a power cut leaves either the old or the new content.
pub fn replace<F: Files>(files: &F, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = files.create(&temporary, 0)?;
    let written = write_full(&file, bytes, 0).and_then(|()| file.sync_data());
    if let Err(e) = written {
        let _ = files.remove(&temporary); // it is removed at the next start otherwise
        return Err(e);
    }
    files.rename(&temporary, name)?;
    files.sync_dir()
}

/// What a failed write, sync or creation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No room (or no descriptors, no memory): waiting and retrying can heal it.
    Wait,
    /// Anything else: what was being written there is lost.
    Broken,
}

impl Trouble {
    /// Sorts an error.
    pub fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        const WAIT: [Errno; 7] = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::AGAIN,
            Errno::INTR,
        ];
        let waits = |code| WAIT.iter().any(|errno| errno.raw_os_error() == code);
        if error.raw_os_error().is_some_and(waits) { Self::Wait } else { Self::Broken }
    }
}
