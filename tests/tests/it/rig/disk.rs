//! Small ext4 disks in a file, mounted over a loop device: to be filled and to lose their power.
//! Needs root and loop devices; without them the test fails and says so.

use super::child::{client, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted disk.
pub struct Disk {
    folder: TempDir,
    device: String,
}

impl Disk {
    /// Makes a disk of so many MiB.
    pub fn new(mib: u64) -> Self {
        let root = rustix::process::geteuid().is_root();
        assert!(root, "this test mounts a disk: run it as root (sudo -E cargo xtask test)");
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(mib << 20).expect("a sparse file");
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-O", "^metadata_csum"]).arg(&image));
        std::fs::create_dir(folder.path().join("disk")).expect("a mount point");
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image));
        let disk = Self { folder, device: device.trim().to_owned() };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A place beside the disk, for logs.
    pub fn beside(&self) -> &Path {
        self.folder.path()
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-t", "ext4", &self.device]).arg(self.path()));
    }

    /// Everything that was not on the device is lost; writing and syncing fail from now on.
    pub fn cut_power(&self) {
        run(client("power_cut.py").arg(self.path()));
    }

    /// Makes every write wait, until the guard goes.
    pub fn freeze(&self) -> Frozen {
        run(Command::new("fsfreeze").arg("--freeze").arg(self.path()));
        Frozen(self.path())
    }

    /// Back after a power cut; nobody may have a file open.
    pub fn restore_power(&self) {
        run(Command::new("umount").arg(self.path()));
        self.mount();
    }
}

/// See [`Disk::freeze`].
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path = self.path();
        let _ = Command::new("umount").arg("--lazy").arg(path).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}
