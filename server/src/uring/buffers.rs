//! The receive buffers that the kernel fills: one mapping, handed out by a provided-buffer ring.
//!
//! A buffer is either with the kernel or lent to the shard (between its completion and
//! `recycle`), never both; `lent` knows which, and a buffer returned twice is a programmer's error.
//! Pages are touched when first used. Incremental consumption and bundles are deliberately not
//! used (misdeliveries into 2026: liburing #1320, #1433, #1545).

use crate::driver::{Received, Touched};
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// See the module. Must be dropped after the ring (or leaked): the kernel writes to the mapping.
pub(super) struct Buffers {
    ring: Mapping,
    data: Mapping,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    lent: Vec<bool>,
    lent_count: u16,
    touched: Touched,
}

impl Buffers {
    /// Maps `count` buffers (a power of two up to 32,768) and gives all of them to the kernel.
    pub(super) fn new(uring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "receive buffers: {count}");
        assert!(buffer_bytes > 0, "receive buffers hold something");
        let ring = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let data = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        // SAFETY: `ring` is a page-aligned mapping of `count` entries; it outlives the ring, see
        // the type's comment.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                ring.start.as_ptr() as u64,
                count,
                GROUP,
                0,
            )?;
        }
        let lent = vec![true; usize::from(count)];
        let touched = Touched::new(count);
        let mut buffers =
            Self { ring, data, count, buffer_bytes, tail: 0, lent, lent_count: count, touched };
        for buffer in 0..count {
            buffers.recycle(Received { buffer, len: 0 });
        }
        Ok(buffers)
    }

    /// Buffers that the kernel may still fill, as far as completions told.
    pub(super) fn free(&self) -> u16 {
        self.count - self.lent_count
    }

    /// Notes that a completion handed out `buffer` with `len` bytes in it.
    pub(super) fn take(&mut self, buffer: u16, len: u32) -> Received {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!*lent, "buffer {buffer} was with the kernel");
        assert!(len <= self.buffer_bytes, "buffer {buffer} holds {len} bytes");
        *lent = true;
        self.lent_count += 1;
        self.touched.note(buffer, len);
        Received { buffer, len }
    }

    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        assert!(self.lent[usize::from(received.buffer)] && received.len <= self.buffer_bytes);
        let start = usize::from(received.buffer) * self.buffer_bytes as usize;
        // SAFETY: within the mapping (`buffer` indexes `lent`, which has `count` entries); the
        // kernel does not write to a buffer while it is lent, and `recycle` takes the `Received`
        // and `&mut self`, so the slice cannot outlive the loan.
        unsafe {
            let first = self.data.start.as_ptr().add(start);
            std::slice::from_raw_parts(first, received.len as usize)
        }
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn recycle(&mut self, received: Received) {
        let Received { buffer, .. } = received;
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(std::mem::replace(lent, false), "buffer {buffer} is returned once");
        self.lent_count -= 1;
        let index = usize::from(self.tail & (self.count - 1));
        let entries = self.ring.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `index` is below `count`, so both addresses are inside their mappings; entries
        // beyond the published tail are ours alone to write. The tail overlays a field of the first
        // entry that `set_*` leaves alone; it is published after the entry, with Release, as the
        // kernel reads it with Acquire.
        unsafe {
            let start = self.data.start.as_ptr();
            let entry = &mut *entries.add(index);
            entry.set_addr(start.add(usize::from(buffer) * self.buffer_bytes as usize) as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// Bytes that are resident.
    pub(super) fn memory(&self) -> usize {
        self.ring.len + self.touched.bytes() + self.lent.capacity()
    }

    /// Leaves the mappings in place for ever: the kernel may still write to them.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }
}

/// An anonymous private mapping, page-aligned.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever owns this type keeps no reference into it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap: {unmapped:?}");
    }
}
