//! What is newer than the table, in memory: the live overlay that commits change, and the frozen one that is being
//! written to the table.
//!
//! Owns the newest value or tombstone of each key. Pure: no lock, no disk. Invariant: a key that is in neither layer is
//! in the table as it was last committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::table::Direction;
use crate::{Batch, Edit, KeyRange};

/// What an edit costs beside its bytes: two `Bytes` (32 each), its place in a node, allocations. Measured, rounded up.
const EDIT_OVERHEAD_BYTES: u64 = 128;

/// The edits of one layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    edits: BTreeMap<Bytes, Edit>,
    bytes: u64,
}

impl Overlay {
    fn apply(&mut self, batch: Batch) {
        for (key, edit) in batch {
            self.bytes += cost(&key, &edit);
            let key_length = key.len() as u64;
            if let Some(old) = self.edits.insert(key, edit) {
                self.bytes -= EDIT_OVERHEAD_BYTES + key_length + value_length(&old);
            }
        }
    }

    /// What it takes of memory, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.edits.len()
    }

    /// Its edits, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Edit)> {
        self.edits.iter()
    }

    fn range<'a>(
        &'a self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = (&'a Bytes, &'a Edit)> + 'a> {
        use std::ops::Bound::{Excluded, Included};
        let found = self.edits.range::<[u8], _>((Included(&range.start[..]), Excluded(&range.end[..])));
        match direction {
            Direction::Forward => Box::new(found),
            Direction::Backward => Box::new(found.rev()),
        }
    }
}

fn cost(key: &Bytes, edit: &Edit) -> u64 {
    EDIT_OVERHEAD_BYTES + key.len() as u64 + value_length(edit)
}

fn value_length(edit: &Edit) -> u64 {
    match edit {
        Edit::Put(value) => value.len() as u64,
        Edit::Delete => 0,
    }
}

/// An overlay that does not change any more.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) overlay: Overlay,
    /// The last commit in it: what the table holds once this is written.
    pub(crate) last: u64,
}

/// Both layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    live: Overlay,
    frozen: Option<Arc<Frozen>>,
    /// The last commit.
    last: u64,
    /// How often an overlay was frozen: changes before the table does.
    freezes: u64,
}

/// A piece of a scan: the newest edits of the layers within `covered`, and what is left of the range after it.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) edits: Vec<(Bytes, Edit)>,
    pub(crate) covered: KeyRange,
    pub(crate) rest: Option<KeyRange>,
}

impl Layers {
    /// Empty layers above a table that holds everything up to `last`.
    pub(crate) fn new(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    pub(crate) fn apply(&mut self, sequence: u64, batch: Batch) {
        // Invariant: sequences are dense.
        assert_eq!(sequence, self.last + 1, "a batch was applied out of order");
        self.live.apply(batch);
        self.last = sequence;
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.bytes()
    }

    pub(crate) fn frozen_bytes(&self) -> u64 {
        self.frozen.as_ref().map_or(0, |frozen| frozen.overlay.bytes())
    }

    pub(crate) fn frozen(&self) -> Option<&Arc<Frozen>> {
        self.frozen.as_ref()
    }

    /// Whether there is anything to freeze and room for it.
    pub(crate) fn can_freeze(&self) -> bool {
        self.frozen.is_none() && self.live.len() > 0
    }

    /// Sets the live overlay aside and begins an empty one.
    pub(crate) fn freeze(&mut self) {
        assert!(self.can_freeze(), "one overlay at a time is written to the table");
        let overlay = std::mem::take(&mut self.live);
        self.frozen = Some(Arc::new(Frozen { overlay, last: self.last }));
        self.freezes += 1;
    }

    /// Lets go of the frozen overlay: the table holds it now.
    pub(crate) fn drop_frozen(&mut self) -> Option<Arc<Frozen>> {
        self.frozen.take()
    }

    /// The newest edit of `key`; `None` leaves the table to be asked.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Edit> {
        let frozen = || self.frozen.as_ref()?.overlay.edits.get(key);
        self.live.edits.get(key).or_else(frozen)
    }

    /// The first `limit` newest edits of `range` in this direction. The range must not be empty or inverted.
    pub(crate) fn chunk(&self, range: &KeyRange, direction: Direction, limit: usize) -> Chunk {
        let mut live = self.live.range(range, direction).peekable();
        let frozen = self.frozen.as_ref().map(|frozen| frozen.overlay.range(range, direction));
        let mut frozen = frozen.into_iter().flatten().peekable();
        let mut edits = Vec::new();
        while edits.len() < limit {
            let next = match (live.peek(), frozen.peek()) {
                (Some(newer), Some(older)) if newer.0 == older.0 => {
                    frozen.next();
                    live.next()
                }
                (Some(newer), Some(older)) if comes_first(newer.0, older.0, direction) => live.next(),
                (_, Some(_)) => frozen.next(),
                (_, None) => live.next(),
            };
            let Some((key, edit)) = next else {
                return Chunk { edits, covered: range.clone(), rest: None };
            };
            edits.push((key.clone(), edit.clone()));
        }
        cut_after_last(edits, range, direction)
    }
}

/// Whether `left` comes before `right` in a walk of this direction.
pub(crate) fn comes_first(left: &[u8], right: &[u8], direction: Direction) -> bool {
    match direction {
        Direction::Forward => left < right,
        Direction::Backward => left > right,
    }
}

/// A full chunk speaks for the range up to and including its last key.
fn cut_after_last(edits: Vec<(Bytes, Edit)>, range: &KeyRange, direction: Direction) -> Chunk {
    let Some((last, _)) = edits.last() else {
        return Chunk { edits, covered: range.clone(), rest: None };
    };
    let (covered, rest) = match direction {
        Direction::Forward => {
            let next = Bytes::from([last, &[0][..]].concat());
            (KeyRange::new(range.start.clone(), next.clone()), KeyRange::new(next, range.end.clone()))
        }
        Direction::Backward => {
            (KeyRange::new(last.clone(), range.end.clone()), KeyRange::new(range.start.clone(), last.clone()))
        }
    };
    let rest = (rest.start < rest.end).then_some(rest);
    Chunk { edits, covered, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(edits: &[(&'static str, Option<&'static str>)]) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in edits {
            match value {
                Some(value) => batch.put(*key, *value),
                None => batch.delete(*key),
            }
        }
        batch
    }

    #[test]
    fn the_newer_layer_wins_and_a_tombstone_hides() {
        let mut layers = Layers::new(0);
        layers.apply(1, batch(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
        layers.freeze();
        layers.apply(2, batch(&[("b", Some("2")), ("c", None)]));
        assert_eq!(layers.get(b"a"), Some(&Edit::Put("1".into())));
        assert_eq!(layers.get(b"b"), Some(&Edit::Put("2".into())));
        assert_eq!(layers.get(b"c"), Some(&Edit::Delete));
        assert_eq!(layers.get(b"d"), None);
        assert_eq!(layers.drop_frozen().unwrap().last, 1);
        assert_eq!(layers.get(b"a"), None, "the table is asked now");
    }

    #[test]
    fn chunks_cover_a_range_without_gap_in_both_directions() {
        let mut layers = Layers::new(0);
        layers.apply(1, batch(&[("a", Some("1")), ("c", Some("1")), ("e", Some("1"))]));
        layers.freeze();
        layers.apply(2, batch(&[("b", None), ("c", Some("2")), ("d", Some("2"))]));
        for direction in [Direction::Forward, Direction::Backward] {
            let mut rest = Some(KeyRange::new("a", "z"));
            let mut seen = Vec::new();
            while let Some(range) = rest {
                let chunk = layers.chunk(&range, direction, 2);
                assert!(chunk.edits.iter().all(|(key, _)| chunk.covered.contains(key)));
                assert_eq!(
                    chunk.covered.end,
                    if direction == Direction::Backward { &range.end } else { &chunk.covered.end }
                );
                seen.extend(chunk.edits);
                rest = chunk.rest;
            }
            if direction == Direction::Backward {
                seen.reverse();
            }
            let keys: Vec<_> = seen.iter().map(|(key, _)| key.clone()).collect();
            assert_eq!(keys, ["a", "b", "c", "d", "e"]);
            assert_eq!(seen[2].1, Edit::Put("2".into()));
        }
    }

    #[test]
    fn bytes_are_given_back_when_a_key_is_written_again() {
        let mut layers = Layers::new(0);
        layers.apply(1, batch(&[("key", Some("a long value"))]));
        layers.apply(2, batch(&[("key", None)]));
        assert_eq!(layers.live_bytes(), EDIT_OVERHEAD_BYTES + 3);
    }
}
