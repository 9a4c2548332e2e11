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

/// Where blocks are remembered: a place for each first byte of a key, modulo this.
const PLACES: usize = 32;
/// How many blocks are remembered at one place: ids of one millisecond are in no order, and lie in neighbouring blocks.
const BLOCKS_MAX: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    /// The one that was used last first.
    places: [Mutex<Vec<Known>>; PLACES],
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
    fn speaks_for(&self, key: &[u8]) -> bool {
        self.from[..] <= *key && self.until.as_ref().is_none_or(|until| key < &until[..])
    }

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
        let mut place = lock(self.place(key));
        let at = place.iter().position(|known| known.writes == writes && known.speaks_for(key))?;
        place[..=at].rotate_right(1);
        Some(place[0].search(key))
    }

    /// Remembers the block in which `key` belongs. What was read before the last change is of no use any more.
    pub(super) fn remember(&self, key: &[u8], known: Known) {
        let mut place = lock(self.place(key));
        place.retain(|other| other.writes == known.writes);
        place.truncate(BLOCKS_MAX - 1);
        place.insert(0, known);
    }

    fn place(&self, key: &[u8]) -> &Mutex<Vec<Known>> {
        &self.places[key.first().map_or(0, |first| usize::from(*first)) % PLACES]
    }
}
