//! The blocks that were read last: reads of one keyspace go on where the one before ended (new ids lie behind all others,
//! a group reads ahead), so most of them need neither sled nor a checksum.
//!
//! Owns no truth: a block is used only while nothing was written since it was read.

use std::sync::Mutex;

use bytes::Bytes;

use super::block::{self, Entry, Fault};
use crate::lock::lock;

/// How many blocks are remembered: one for each first byte of a key, modulo this.
const PLACES: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    places: [Mutex<Option<Known>>; PLACES],
}

/// A block that was read and checked.
#[derive(Debug)]
pub(super) struct Known {
    /// How often blocks had changed then.
    pub(super) writes: u64,
    /// The first key that it speaks for.
    pub(super) from: Bytes,
    /// The first key that it does not speak for, if there is another block.
    pub(super) until: Option<Bytes>,
    /// The block; `None`: there is none below `until`.
    pub(super) bytes: Option<sled::IVec>,
}

impl Known {
    pub(super) fn search(&self, key: &[u8]) -> Result<Option<Entry>, Fault> {
        self.bytes.as_ref().map_or(Ok(None), |bytes| block::search(bytes, key))
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { places: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Recent {
    /// What is stored at `key`, if a block is remembered that speaks for it as of `writes`.
    pub(super) fn find(&self, key: &[u8], writes: u64) -> Option<Result<Option<Entry>, Fault>> {
        let place = lock(self.place(key));
        let known = place.as_ref().filter(|known| {
            known.writes == writes
                && known.from <= *key
                && known.until.as_ref().is_none_or(|until| key < &until[..])
        })?;
        Some(known.search(key))
    }

    pub(super) fn remember(&self, key: &[u8], known: Known) {
        *lock(self.place(key)) = Some(known);
    }

    fn place(&self, key: &[u8]) -> &Mutex<Option<Known>> {
        &self.places[key.first().map_or(0, |first| usize::from(*first)) % PLACES]
    }
}
