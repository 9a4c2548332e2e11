//! The blocks that were read last: reads of one keyspace go on where the one before ended (new ids lie behind all others,
//! a group reads ahead), so most of them need neither sled nor a checksum.
//!
//! Owns no truth: a block is used only while nothing was written since it was read.

use std::sync::Mutex;

use bytes::Bytes;

use super::block::Stored;
use crate::Key;
use crate::lock::lock;
use crate::values::Held;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// The block of the numbers from 10 `nth` on, of which every other is there.
    fn known(nth: u8, writes: u64) -> Known {
        let key = |number: u8| Key::from(&[b'k', number]);
        let entries =
            (0..10).step_by(2).map(|one| (key(10 * nth + one), Held::Inline(vec![nth, one].into())));
        Known { writes, from: key(10 * nth), until: Some(key(10 * nth + 10)), entries: entries.collect() }
    }

    #[test]
    fn a_block_answers_for_all_between_its_ends_and_for_nothing_else() {
        let recent = Recent::default();
        recent.remember(b"k\x0a", known(1, 7));
        for number in 0..30 {
            let expected = match number {
                10..20 if number % 2 == 0 => Some(Some(Held::Inline(vec![1, number - 10].into()))),
                10..20 => Some(None),
                _ => None,
            };
            assert_eq!(recent.find(&[b'k', number], 7), expected, "{number}");
        }
        assert_eq!(recent.find(b"k\x0a", 8), None, "the table has changed since");
        assert_eq!(recent.find(b"l\x0a", 7), None);
    }

    #[test]
    fn the_blocks_used_last_are_remembered_and_those_of_an_older_table_are_not() {
        let recent = Recent::default();
        let is_known = |nth: u8, writes| recent.find(&[b'k', 10 * nth], writes).is_some();
        for nth in 0..BLOCKS_MAX as u8 {
            recent.remember(&[b'k', 10 * nth], known(nth, 7));
        }
        assert!(is_known(0, 7), "all of them fit");
        recent.remember(b"k\x64", known(10, 7));
        assert!(
            is_known(0, 7) && is_known(10, 7) && !is_known(1, 7),
            "the one that was used least recently goes"
        );
        recent.remember(b"k\x6e", known(11, 8));
        assert!(is_known(11, 8) && !is_known(0, 7));
        assert_eq!(lock(recent.place(b"k")).len(), 1);
    }
}
