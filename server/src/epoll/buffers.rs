//! The receive buffers of a shard without a ring: one allocation, ids and a free list.
//!
//! The same contract as the kernel's provided buffers: a buffer is free or lent, and returned once.
//! The last one returned is used first, while it is in the cache; pages are touched when first
//! used. Pure; lives on the shard's thread.

use crate::driver::{Received, Touched};

/// See the module.
#[derive(Debug)]
pub(super) struct Buffers {
    data: Vec<u8>,
    buffer_bytes: usize,
    free: Vec<u16>,
    lent: Vec<bool>,
    touched: Touched,
}

impl Buffers {
    pub(super) fn new(count: u16, buffer_bytes: u32) -> Self {
        assert!(count > 0 && buffer_bytes > 0, "receive buffers hold something");
        Self {
            data: vec![0; usize::from(count) * buffer_bytes as usize],
            buffer_bytes: buffer_bytes as usize,
            free: (0..count).rev().collect(),
            lent: vec![false; usize::from(count)],
            touched: Touched::new(count),
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// The buffer that [`Self::take`] will hand out.
    pub(super) fn next(&mut self) -> Option<&mut [u8]> {
        let start = usize::from(*self.free.last()?) * self.buffer_bytes;
        Some(&mut self.data[start..start + self.buffer_bytes])
    }

    /// Lends the buffer of the last [`Self::next`], filled with `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Received {
        assert!(len <= self.buffer_bytes);
        let buffer = self.free.pop().expect("`next` gave a buffer");
        self.lent[usize::from(buffer)] = true;
        self.touched.note(buffer, len as u32);
        Received { buffer, len: len as u32 }
    }

    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        assert!(self.lent[usize::from(received.buffer)], "a buffer is read while it is lent");
        let start = usize::from(received.buffer) * self.buffer_bytes;
        &self.data[start..start + received.len as usize]
    }

    pub(super) fn recycle(&mut self, received: Received) {
        let lent = &mut self.lent[usize::from(received.buffer)];
        assert!(std::mem::replace(lent, false), "a buffer is returned once");
        self.free.push(received.buffer);
    }

    /// Bytes that are resident.
    pub(super) fn memory(&self) -> usize {
        self.touched.bytes() + self.lent.capacity() + self.free.capacity() * size_of::<u16>()
    }
}
