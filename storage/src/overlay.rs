//! What is newer than the table, in memory: the live overlay that commits change, and the frozen one that is being
//! written to the table.
//!
//! Owns the newest value or tombstone of each key. Pure: no lock, no disk. Invariant: a key that is in neither layer is
//! in the table as it was last committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{PUT_HEADER_BYTES, edit_length};
use crate::journal::frame::FRAME_HEADER_BYTES;
use crate::table::Direction;
use crate::values::{FileId, Location};
use crate::{Batch, Edit, KeyRange};

/// What an edit costs beside its bytes: two `Bytes` (32 each), its place, its place in a node, allocations. Measured,
/// rounded up.
const EDIT_OVERHEAD_BYTES: u64 = 144;

/// The newest edit of a key.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) edit: Edit,
    /// Where its value lies in the journal.
    pub(crate) at: Location,
}

/// The edits of one layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    edits: BTreeMap<Bytes, Placed>,
    bytes: u64,
    /// How many bytes of each journal file were written for it.
    journal_bytes: HashMap<FileId, u64>,
}

impl Overlay {
    /// `frame_at` is where the frame of `batch` lies.
    fn apply(&mut self, batch: Batch, frame_at: Location) {
        let mut offset = frame_at.offset + (FRAME_HEADER_BYTES + 4) as u64;
        for (key, edit) in batch {
            let at = Location { file: frame_at.file, offset: offset + (PUT_HEADER_BYTES + key.len()) as u64 };
            offset += edit_length(&key, &edit) as u64;
            let old = self.edits.get(&key);
            let old_cost = old.map_or(0, |old| cost(&key, &old.edit));
            match edit.after(old.map(|old| &old.edit)) {
                Some(edit) => {
                    self.bytes += cost(&key, &edit);
                    self.edits.insert(key, Placed { edit, at });
                }
                None => drop(self.edits.remove(&key)),
            }
            self.bytes -= old_cost;
        }
        *self.journal_bytes.entry(frame_at.file).or_default() += offset - frame_at.offset;
    }

    /// How many bytes of each journal file were written for what is or was in it.
    pub(crate) fn journal_bytes(&self) -> &HashMap<FileId, u64> {
        &self.journal_bytes
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Placed)> + Clone {
        self.edits.iter()
    }

    fn range<'a>(
        &'a self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = (&'a Bytes, &'a Edit)> + 'a> {
        use std::ops::Bound::{Excluded, Included};
        let found = self.edits.range::<[u8], _>((Included(&range.start[..]), Excluded(&range.end[..])));
        let found = found.map(|(key, placed)| (key, &placed.edit));
        match direction {
            Direction::Forward => Box::new(found),
            Direction::Backward => Box::new(found.rev()),
        }
    }
}

fn cost(key: &Bytes, edit: &Edit) -> u64 {
    EDIT_OVERHEAD_BYTES + key.len() as u64 + edit.value().map_or(0, |value| value.len() as u64)
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

    /// Takes in the batch of `sequence`, whose frame lies at `frame_at`.
    pub(crate) fn apply(&mut self, sequence: u64, batch: Batch, frame_at: Location) {
        // Invariant: sequences are dense.
        assert_eq!(sequence, self.last + 1, "a batch was applied out of order");
        self.live.apply(batch, frame_at);
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

    /// Whether there is anything to freeze and room for it. An overlay in which all that came has gone again is not
    /// empty: the journal that was written for it waits for the spill.
    pub(crate) fn can_freeze(&self) -> bool {
        self.frozen.is_none() && !self.live.journal_bytes.is_empty()
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
        self.live.edits.get(key).or_else(frozen).map(|placed| &placed.edit)
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

    const AT: Location = Location { file: FileId(1), offset: 40 };

    #[test]
    fn what_was_inserted_leaves_no_trace_and_what_may_be_below_does() {
        let mut layers = Layers::new(0);
        let mut first = Batch::new();
        first.insert("new", "1");
        first.insert("kept", "1");
        first.put("old", "1");
        layers.apply(1, first, AT);
        layers.apply(2, batch(&[("new", None), ("old", None), ("kept", Some("2"))]), AT);
        assert_eq!((layers.get(b"new"), layers.get(b"old")), (None, Some(&Edit::Delete)));
        assert_eq!(layers.get(b"kept"), Some(&Edit::Insert("2".into())));
        let mut again = Batch::new();
        again.insert("old", "3");
        layers.apply(3, again, AT);
        assert_eq!(layers.get(b"old"), Some(&Edit::Put("3".into())), "the table may hold an older one");
        layers.freeze();
        layers.apply(4, batch(&[("kept", None)]), AT);
        assert_eq!(layers.get(b"kept"), Some(&Edit::Delete), "it is in the layer below");
        assert_eq!(layers.live_bytes(), EDIT_OVERHEAD_BYTES + 4);
    }

    #[test]
    fn values_are_found_where_the_frame_holds_them() {
        let mut layers = Layers::new(0);
        let written = batch(&[("a", Some("first")), ("b", None), ("c", Some("second"))]);
        let mut frame = vec![0; AT.offset as usize];
        let mut bytes = Vec::new();
        crate::journal::frame::encode(&written, 1, 7, &mut bytes);
        frame.extend_from_slice(&bytes);
        layers.apply(1, written, AT);
        assert_eq!(layers.live.journal_bytes[&AT.file], bytes.len() as u64);
        for (key, value) in [("a", "first"), ("c", "second")] {
            let at = layers.live.edits[key.as_bytes()].at.offset as usize;
            assert_eq!(&frame[at..at + value.len()], value.as_bytes());
        }
    }

    #[test]
    fn the_newer_layer_wins_and_a_tombstone_hides() {
        let mut layers = Layers::new(0);
        layers.apply(1, batch(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]), AT);
        layers.freeze();
        layers.apply(2, batch(&[("b", Some("2")), ("c", None)]), AT);
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
        layers.apply(1, batch(&[("a", Some("1")), ("c", Some("1")), ("e", Some("1"))]), AT);
        layers.freeze();
        layers.apply(2, batch(&[("b", None), ("c", Some("2")), ("d", Some("2"))]), AT);
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
        layers.apply(1, batch(&[("key", Some("a long value"))]), AT);
        layers.apply(2, batch(&[("key", None)]), AT);
        assert_eq!(layers.live_bytes(), EDIT_OVERHEAD_BYTES + 3);
    }
}
