//! [`Files`] in memory, with the failures of real disks, for tests and the simulated world.
//!
//! Every file has two contents: what a running process sees (the page cache) and what is on the
//! platter. `sync_data` copies the dirty sectors over; a power cut leaves of each un-synced sector
//! the old or the new content, of each un-synced length either one, and of the directory's
//! un-synced operations any subset, all drawn from a seed. A failed sync marks the sectors clean
//! without having written them all, so that the next sync succeeds without them (Linux since
//! 4.13). A process crash is nothing here: drop the spool and open again.
//!
//! Deliberately absent: damage to synced data; tests do that with [`SimFiles::edit`].

use crate::files::{FileIo, Files};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A simulated directory. Clones share it.
#[derive(Debug, Clone)]
pub struct SimFiles(Arc<Mutex<Disk>>);

/// An open simulated file.
#[derive(Debug)]
pub struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    boot: u64,
}

/// A held simulated lock.
#[derive(Debug)]
pub struct SimLock {
    disk: Arc<Mutex<Disk>>,
    name: String,
    boot: u64,
}

/// Unit of a torn write.
pub const SECTOR_BYTES: u64 = 512;

#[derive(Debug)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    seen: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Directory operations since the last `sync_dir`.
    pending: Vec<DirOp>,
    locked: BTreeSet<String>,
    next_inode: u64,
    /// Counts power cuts: handles of an earlier boot are dead.
    boot: u64,
    random: Rng,
    faults: Faults,
    operations: u64,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<u64>,
    /// Open handles: a removed file lives as long as one.
    handles: u32,
}

#[derive(Debug, Clone)]
enum DirOp {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Bytes that all files together may take; `None`: no end.
    pub capacity_bytes: Option<u64>,
    /// The n-th `sync_data` from now fails (1 is the next), for each n here.
    pub fail_syncs_in: Vec<u64>,
    /// Every `sync_data` fails.
    pub fail_every_sync: bool,
    /// The n-th operation of any kind from now, and all after it, fail: the power is off.
    pub power_off_in: Option<u64>,
    /// One in n writes is cut short.
    pub short_write_one_in: u64,
    /// Reservations are not supported: files are sparse, and a full disk is met while writing.
    pub sparse: bool,
}

/// A small seeded generator (xorshift64*), so that the same seed gives the same world.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Any seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = if self.0 == 0 { 1 } else { self.0 };
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next_u64() >> 16) % end
    }

    /// True one time in `n`; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

impl SimFiles {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            inodes: BTreeMap::new(),
            seen: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            locked: BTreeSet::new(),
            next_inode: 1,
            boot: 0,
            random: Rng::new(seed),
            faults: Faults::default(),
            operations: 0,
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.0)
    }

    /// Changes what goes wrong.
    pub fn faults<R>(&self, change: impl FnOnce(&mut Faults) -> R) -> R {
        change(&mut self.disk().faults)
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Bytes that all files take.
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// Cuts the power and boots again: every un-synced thing is there or not, and all handles and
    /// locks are gone. Clears `power_off_in`.
    pub fn power_cut(&self) {
        self.disk().power_cut();
    }

    /// Changes a file behind everybody's back, on the platter and in the cache. Returns false if
    /// there is no such file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut disk = self.disk();
        let Some(inode) = disk.seen.get(name).copied() else { return false };
        let Some(inode) = disk.inodes.get_mut(&inode) else { return false };
        change(&mut inode.seen);
        inode.durable = inode.seen.clone();
        inode.dirty.clear();
        true
    }

    /// A file's content as a process sees it.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        Some(disk.inodes.get(disk.seen.get(name)?)?.seen.clone())
    }

    /// A copy of everything as a process sees it, all of it durable: for trying many damages of
    /// one directory.
    pub fn fork(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        let disk = self.disk();
        for (name, inode) in &disk.seen {
            let seen = disk.inodes.get(inode).map(|inode| inode.seen.clone()).unwrap_or_default();
            let mut to = copy.disk();
            let id = to.add_inode();
            to.seen.insert(name.clone(), id);
            to.durable.insert(name.clone(), id);
            to.inodes.insert(id, Inode { durable: seen.clone(), seen, ..Inode::default() });
        }
        copy
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Every operation passes here.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.faults.power_off_in {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        let inodes = self.seen.values().filter_map(|id| self.inodes.get(id));
        inodes.map(|inode| self.cost(inode)).sum()
    }

    fn cost(&self, inode: &Inode) -> u64 {
        if !self.faults.sparse {
            return inode.seen.len() as u64;
        }
        // A sparse file takes the sectors that hold anything.
        let holds = |sector: &&[u8]| sector.iter().any(|b| *b != 0);
        let sectors = inode.seen.chunks(SECTOR_BYTES as usize).filter(holds).count();
        sectors as u64 * SECTOR_BYTES
    }

    fn room(&self) -> u64 {
        self.faults.capacity_bytes.map_or(u64::MAX, |all| all.saturating_sub(self.used_bytes()))
    }

    fn add_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.seen.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn handle(&mut self, disk: &Arc<Mutex<Self>>, inode: u64) -> SimFile {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
        SimFile { disk: disk.clone(), inode, boot: self.boot }
    }

    fn power_cut(&mut self) {
        let mut durable = std::mem::take(&mut self.durable);
        for op in std::mem::take(&mut self.pending) {
            if self.random.one_in(2) {
                apply(&mut durable, op);
            }
        }
        let kept: BTreeSet<u64> = durable.values().copied().collect();
        self.inodes.retain(|id, _| kept.contains(id));
        let mut random = self.random.clone();
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
            inode.settle(&mut random);
        }
        self.random = random;
        self.seen = durable.clone();
        self.durable = durable;
        self.locked.clear();
        self.boot += 1;
        self.faults.power_off_in = None;
    }
}

fn apply(directory: &mut BTreeMap<String, u64>, op: DirOp) {
    match op {
        DirOp::Link(name, inode) => {
            directory.insert(name, inode);
        }
        DirOp::Unlink(name) => {
            directory.remove(&name);
        }
        DirOp::Rename(from, to) => {
            if let Some(inode) = directory.remove(&from) {
                directory.insert(to, inode);
            }
        }
    }
}

impl Inode {
    /// Bytes that a write here takes of a disk on which the file is sparse.
    fn holes(&self, at: u64, count: u64) -> u64 {
        let blank = |sector: &u64| {
            let from = (sector * SECTOR_BYTES) as usize;
            let held = self.seen.get(from..).unwrap_or_default();
            held.iter().take(SECTOR_BYTES as usize).all(|b| *b == 0)
        };
        let sectors = at / SECTOR_BYTES..(at + count).div_ceil(SECTOR_BYTES);
        sectors.filter(blank).count() as u64 * SECTOR_BYTES
    }

    fn write(&mut self, bytes: &[u8], at: u64) {
        let end = at as usize + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[at as usize..end].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR_BYTES..(end as u64).div_ceil(SECTOR_BYTES));
    }

    /// Copies a dirty sector to the platter.
    fn flush(&mut self, sector: u64) {
        let from = (sector * SECTOR_BYTES) as usize;
        let end = self.seen.len().min(from + SECTOR_BYTES as usize);
        if from >= end {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[from..end].copy_from_slice(&self.seen[from..end]);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.flush(sector);
        }
        self.durable.resize(self.seen.len(), 0);
    }

    /// A failed sync: some sectors made it, and the others are forgotten.
    fn sync_failed(&mut self, random: &mut Rng) {
        for sector in std::mem::take(&mut self.dirty) {
            if random.one_in(2) {
                self.flush(sector);
            }
        }
    }

    /// A power cut: each dirty sector and the length made it or not.
    fn settle(&mut self, random: &mut Rng) {
        // Sometimes all or nothing: real caches often are.
        let odds = [1, 2, 2, 4, 0][random.below(5) as usize];
        let len = if random.one_in(2) { self.seen.len() } else { self.durable.len() };
        for sector in std::mem::take(&mut self.dirty) {
            if random.one_in(odds) {
                self.flush(sector);
            }
        }
        self.durable.resize(len, 0);
        self.seen = self.durable.clone();
    }
}

fn full() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

impl Files for SimFiles {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, name: &str, room: u64) -> io::Result<SimFile> {
        let mut disk = self.disk();
        disk.operate()?;
        // An existing file is emptied, as O_TRUNC does; to the model that is a new one.
        if disk.seen.remove(name).is_some() {
            disk.pending.push(DirOp::Unlink(name.to_owned()));
        }
        if !disk.faults.sparse && room > disk.room() {
            return Err(full());
        }
        let inode = disk.add_inode();
        let seen = vec![0; room as usize];
        disk.inodes.insert(inode, Inode { seen, ..Inode::default() });
        disk.seen.insert(name.to_owned(), inode);
        disk.pending.push(DirOp::Link(name.to_owned(), inode));
        Ok(disk.handle(&self.0, inode))
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut disk = self.disk();
        disk.operate()?;
        let inode = disk.find(name)?;
        Ok(disk.handle(&self.0, inode))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut disk = self.disk();
        disk.operate()?;
        let len = |inode| disk.inodes.get(inode).map_or(0, |inode| inode.seen.len() as u64);
        Ok(disk.seen.iter().map(|(name, inode)| (name.clone(), len(inode))).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        disk.find(name)?;
        disk.seen.remove(name);
        disk.pending.push(DirOp::Unlink(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        let inode = disk.find(from)?;
        disk.seen.remove(from);
        disk.seen.insert(to.to_owned(), inode);
        disk.pending.push(DirOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        disk.pending.clear();
        disk.durable = disk.seen.clone();
        let named: BTreeSet<u64> = disk.seen.values().copied().collect();
        disk.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<SimLock> {
        let mut disk = self.disk();
        disk.operate()?;
        if !disk.locked.insert(name.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.0.clone(), name: name.to_owned(), boot: disk.boot })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.disk().room())
    }

    fn describe(&self) -> String {
        "sim".to_owned()
    }

    fn random(&self) -> u64 {
        self.disk().random.next_u64()
    }
}

impl SimFile {
    fn with<R>(&self, act: impl FnOnce(&mut Disk) -> io::Result<R>) -> io::Result<R> {
        let mut disk = lock(&self.disk);
        disk.operate()?;
        if disk.boot != self.boot {
            return Err(io::Error::other("the handle is from before the power cut"));
        }
        act(&mut disk)
    }
}

impl FileIo for SimFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.with(|disk| {
            let short = disk.faults.short_write_one_in;
            let mut count = bytes.len();
            if count > 1 && disk.random.one_in(short) {
                count = 1 + disk.random.below(count as u64 - 1) as usize;
            }
            let room = disk.room();
            let sparse = disk.faults.sparse;
            let inode = disk.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            let holes = if sparse {
                inode.holes(at, count as u64)
            } else {
                (at + count as u64).saturating_sub(inode.seen.len() as u64)
            };
            if holes > room {
                count = count.saturating_sub((holes - room) as usize);
            }
            if count == 0 && !bytes.is_empty() {
                return Err(full());
            }
            inode.write(&bytes[..count], at);
            Ok(count)
        })
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.with(|disk| {
            let inode = disk.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            let from = inode.seen.get(at as usize..).unwrap_or_default();
            let count = from.len().min(bytes.len());
            bytes[..count].copy_from_slice(&from[..count]);
            Ok(count)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk| {
            let mut fails = disk.faults.fail_every_sync;
            disk.faults.fail_syncs_in.retain_mut(|left| {
                *left = left.saturating_sub(1);
                fails |= *left == 0;
                *left > 0
            });
            let Disk { inodes, random, .. } = disk;
            let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            if fails {
                inode.sync_failed(random);
                return Err(rustix::io::Errno::IO.into());
            }
            inode.sync();
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|disk| {
            let inode = disk.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            inode.seen.resize(len as usize, 0);
            Ok(())
        })
    }

    fn forget(&self, _: std::ops::Range<u64>) {}

    fn len(&self) -> io::Result<u64> {
        self.with(|disk| {
            let inode = disk.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            Ok(inode.seen.len() as u64)
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        if disk.boot == self.boot
            && let Some(inode) = disk.inodes.get_mut(&self.inode)
        {
            inode.handles -= 1;
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        if disk.boot == self.boot {
            disk.locked.remove(&self.name);
        }
    }
}
