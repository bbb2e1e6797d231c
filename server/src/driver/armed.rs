//! The sends that wait for room: the bytes of each `send_armed` until it ends.
//!
//! Kept apart from the connection slots, so that an idle connection does not pay for the 40 bytes.
//! Bounded by the connections (one per connection at most). Pure; lives on the shard's thread.

use bytes::Bytes;

/// Names an armed send; `NONE` in a connection without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Armed(u32);

impl Armed {
    pub(crate) const NONE: Armed = Armed(u32::MAX);

    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }
}

#[derive(Debug)]
pub(crate) struct ArmedSend {
    pub(crate) bytes: Bytes,
    pub(crate) from: u32,
}

impl ArmedSend {
    /// What is still to be sent.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.from as usize..]
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ArmedSends {
    sends: Vec<Option<ArmedSend>>,
    free: Vec<u32>,
}

impl ArmedSends {
    pub(crate) fn insert(&mut self, bytes: Bytes, from: u32) -> Armed {
        let send = Some(ArmedSend { bytes, from });
        match self.free.pop() {
            Some(index) => {
                self.sends[index as usize] = send;
                Armed(index)
            }
            None => {
                self.sends.push(send);
                Armed(self.sends.len() as u32 - 1)
            }
        }
    }

    pub(crate) fn get_mut(&mut self, armed: Armed) -> &mut ArmedSend {
        self.sends[armed.0 as usize].as_mut().expect("an armed send lives until its end")
    }

    /// Releases the bytes.
    pub(crate) fn remove(&mut self, armed: Armed) {
        let send = self.sends[armed.0 as usize].take();
        assert!(send.is_some(), "an armed send ends once");
        self.free.push(armed.0);
    }

    /// Bytes of user memory held by the table itself; the frames are the shard's.
    pub(crate) fn bytes(&self) -> usize {
        self.sends.capacity() * size_of::<Option<ArmedSend>>()
            + self.free.capacity() * size_of::<u32>()
    }
}
