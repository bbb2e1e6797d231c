//! [`Files`] on a real directory.
//!
//! Files are created for the owner only: events are other people's data. Room is reserved with
//! `fallocate`, so that a full disk is met there and not in the middle of a commit; file systems
//! without it (NFS, ZFS) get a sparse file, and then a full disk is met by the write itself.

use crate::files::{FileIo, Files};
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory on disk.
#[derive(Debug, Clone)]
pub struct RealFiles {
    path: Arc<Path>,
    directory: Arc<File>,
}

impl RealFiles {
    /// Opens the directory, creating it (with parents) if it is not there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path: PathBuf = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let directory = Arc::new(File::open(&path)?);
        Ok(Self { path: path.into(), directory })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Files for RealFiles {
    type File = File;
    type Lock = File;

    fn create(&self, name: &str, room: u64) -> io::Result<File> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path)?;
        if let Err(e) = reserve(&file, room) {
            drop(file);
            let _ = std::fs::remove_file(&path); // the reservation's error is the one that matters
            return Err(e);
        }
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                names.push((name, metadata.len()));
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path.join(name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // Only for people who look: the lock is the kernel's and ends with the process.
        let text = format!("{}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| FileExt::write_all_at(&file, text.as_bytes(), 0));
        Ok(file)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        match read {
            Ok(()) => u64::from_le_bytes(bytes),
            // No /dev in this chroot: the standard library seeds its hash keys from the kernel.
            Err(_) => {
                use std::hash::BuildHasher;
                std::collections::hash_map::RandomState::new().hash_one(std::process::id())
            }
        }
    }
}

impl FileIo for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn forget(&self, bytes: std::ops::Range<u64>) {
        let Some(len) = std::num::NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) else {
            return;
        };
        let _ = rustix::fs::fadvise(self, bytes.start, Some(len), Advice::DontNeed); // a hint
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

fn reserve(file: &File, room: u64) -> io::Result<()> {
    if room == 0 {
        return Ok(());
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, room) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return file.set_len(room),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_file_has_its_room_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let files = RealFiles::open(directory.path().join("a/b")).unwrap();
        let file = files.create("x", 1 << 16).unwrap();
        assert_eq!(FileIo::len(&file).unwrap(), 1 << 16);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files.list().unwrap(), vec![("x".to_owned(), 1 << 16)]);
        files.rename("x", "y").unwrap();
        files.sync_dir().unwrap();
        files.remove("y").unwrap();
        assert_eq!(files.list().unwrap(), vec![]);
        assert!(files.free_bytes().unwrap() > 0);
        assert_ne!(files.random(), files.random());
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let files = RealFiles::open(directory.path()).unwrap();
        let lock = files.lock("LOCK").unwrap();
        assert_eq!(files.lock("LOCK").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        files.lock("LOCK").unwrap();
    }
}
