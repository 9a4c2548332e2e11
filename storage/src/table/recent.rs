//! The blocks that were read last: reads of one keyspace go on where the one before ended (new ids lie behind all others,
//! a group reads ahead), so most of them need neither sled nor a checksum.
//!
//! Owns no truth: a block is used only while nothing was written since it was read.

use crate::Key;
use crate::values::Held;
use std::sync::Mutex;

use bytes::Bytes;

use super::block::Stored;
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
    pub(super) from: Key,
    /// The first key that it does not speak for, if there is another block.
    pub(super) until: Option<Key>,
    /// What the block holds, ascending; nothing if there is none below `until`.
    pub(super) entries: Vec<Stored>,
}

impl Known {
    pub(super) fn search(&self, key: &[u8]) -> Option<Held> {
        let at = self.entries.binary_search_by(|(known, _)| known[..].cmp(key)).ok()?;
        Some(match &self.entries[at].1 {
            // A copy: whoever keeps the value does not keep the block.
            Held::Inline(value) => Held::Inline(Bytes::copy_from_slice(value)),
            Held::At(pointer) => Held::At(*pointer),
        })
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { places: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Recent {
    /// What is stored at `key`, if a block is remembered that speaks for it as of `writes`.
    pub(super) fn find(&self, key: &[u8], writes: u64) -> Option<Option<Held>> {
        let place = lock(self.place(key));
        let known = place.as_ref().filter(|known| {
            known.writes == writes
                && known.from[..] <= *key
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
