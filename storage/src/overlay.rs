//! What is newer than the table, in memory: the live overlay that commits change, and the frozen one that is being
//! written to the table.
//!
//! Owns the newest edit of each key. A large value is not in it: the journal has it, and as long as the overlay is not in
//! the table no file of the journal goes. Pure: no lock, no disk. Invariant: a key that is in neither layer is in the table
//! as it was last committed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::codec::{PUT_HEADER_BYTES, edit_length};
use crate::journal::frame::FRAME_HEADER_BYTES;
use crate::table::Direction;
use crate::values::{FileId, Held, Location, Pointer, SEPARATE_BYTES_MIN};
use crate::{Batch, Edit, Key, KeyRange};

/// What an edit costs beside its bytes: its place of 72 bytes in a node, of which a little more than half are taken, and
/// what the allocator keeps of its value. Measured, rounded up.
const EDIT_OVERHEAD_BYTES: u64 = 144;

/// A batch that is durable, as the overlay takes it in.
#[derive(Debug)]
pub(crate) struct Written {
    sequence: u64,
    edits: Vec<(Key, Edit<Held>)>,
    /// Where its frame lies.
    file: FileId,
    frame_bytes: u64,
}

impl Written {
    /// `frame_at` is where the frame of `batch` lies. Takes a checksum of each large value, so not to be done under a lock.
    pub(crate) fn of(sequence: u64, batch: Batch, frame_at: Location) -> Self {
        let file = frame_at.file;
        let mut offset = frame_at.offset + (FRAME_HEADER_BYTES + 4) as u64;
        let mut edits = Vec::with_capacity(batch.len());
        for (key, edit) in batch {
            let at = Location { file, offset: offset + (PUT_HEADER_BYTES + key.len()) as u64 };
            offset += edit_length(&key, &edit) as u64;
            let edit = edit.map(|value| match value.len() {
                SEPARATE_BYTES_MIN.. => Held::At(Pointer::to(at, &key, &value)),
                _ => Held::Inline(value),
            });
            edits.push((key, edit));
        }
        Self { sequence, edits, file, frame_bytes: offset - frame_at.offset }
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether it holds a value that is read from its frame.
    pub(crate) fn has_large(&self) -> bool {
        self.edits.iter().any(|(_, edit)| matches!(edit.value(), Some(Held::At(_))))
    }
}

/// The edits of one layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    edits: BTreeMap<Key, Edit<Held>>,
    bytes: u64,
    /// How many bytes of each journal file were written for it.
    journal_bytes: HashMap<FileId, u64>,
}

impl Overlay {
    fn apply(&mut self, written: Written) {
        for (key, edit) in written.edits {
            match self.edits.entry(key) {
                Entry::Vacant(place) => {
                    let Some(edit) = edit.after(None) else { continue };
                    self.bytes += cost(place.key(), &edit);
                    place.insert(edit);
                }
                Entry::Occupied(mut place) => {
                    self.bytes -= cost(place.key(), place.get());
                    match edit.after(Some(place.get())) {
                        Some(edit) => {
                            self.bytes += cost(place.key(), &edit);
                            place.insert(edit);
                        }
                        None => drop(place.remove()),
                    }
                }
            }
        }
        *self.journal_bytes.entry(written.file).or_default() += written.frame_bytes;
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Edit<Held>)> + Clone {
        self.edits.iter()
    }

    fn range<'a>(
        &'a self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = (&'a Key, &'a Edit<Held>)> + 'a> {
        use std::ops::Bound::{Excluded, Included};
        let found = self.edits.range::<Key, _>((Included(&range.start), Excluded(&range.end)));
        match direction {
            Direction::Forward => Box::new(found),
            Direction::Backward => Box::new(found.rev()),
        }
    }
}

fn cost(key: &Key, edit: &Edit<Held>) -> u64 {
    let of_value = match edit.value() {
        Some(Held::Inline(value)) => value.len() as u64,
        Some(Held::At(_)) | None => 0,
    };
    EDIT_OVERHEAD_BYTES + key.len() as u64 + of_value
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
    /// How often something left a layer for the next one: what was found before may have moved since.
    moves: u64,
}

/// A piece of a scan: the newest edits of the layers within `covered`, and what is left of the range after it.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) edits: Vec<(Key, Edit<Held>)>,
    pub(crate) covered: KeyRange,
    pub(crate) rest: Option<KeyRange>,
}

impl Layers {
    /// Empty layers above a table that holds everything up to `last`.
    pub(crate) fn new(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes in the batch behind the last one.
    pub(crate) fn apply(&mut self, written: Written) {
        // Invariant: sequences are dense.
        assert_eq!(written.sequence, self.last + 1, "a batch was applied out of order");
        self.last = written.sequence;
        self.live.apply(written);
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    pub(crate) fn moves(&self) -> u64 {
        self.moves
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.bytes()
    }

    /// How many bytes of the journal were written for what is or was in the live overlay.
    pub(crate) fn live_journal_bytes(&self) -> u64 {
        self.live.journal_bytes.values().sum()
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
        self.moves += 1;
    }

    /// Lets go of the frozen overlay: the table holds it now.
    pub(crate) fn drop_frozen(&mut self) -> Option<Arc<Frozen>> {
        self.moves += 1;
        self.frozen.take()
    }

    /// The newest edit of `key`; `None` leaves the table to be asked.
    pub(crate) fn get(&self, key: &Key) -> Option<&Edit<Held>> {
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
fn cut_after_last(edits: Vec<(Key, Edit<Held>)>, range: &KeyRange, direction: Direction) -> Chunk {
    let Some((last, _)) = edits.last() else {
        return Chunk { edits, covered: range.clone(), rest: None };
    };
    let (covered, rest) = match direction {
        Direction::Forward => {
            let next = Key::behind(last);
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

    fn apply(layers: &mut Layers, sequence: u64, batch: Batch) {
        layers.apply(Written::of(sequence, batch, AT));
    }

    fn get(layers: &Layers, key: &str) -> Option<Edit<Held>> {
        layers.get(&key.into()).cloned()
    }

    fn inline(value: &'static str) -> Held {
        Held::Inline(value.into())
    }

    #[test]
    fn what_was_inserted_leaves_no_trace_and_what_may_be_below_does() {
        let mut layers = Layers::new(0);
        let mut first = Batch::new();
        first.insert("new", "1");
        first.insert("kept", "1");
        first.put("old", "1");
        apply(&mut layers, 1, first);
        apply(&mut layers, 2, batch(&[("new", None), ("old", None), ("kept", Some("2"))]));
        assert_eq!((get(&layers, "new"), get(&layers, "old")), (None, Some(Edit::Delete)));
        assert_eq!(get(&layers, "kept"), Some(Edit::Insert(inline("2"))));
        let mut again = Batch::new();
        again.insert("old", "3");
        apply(&mut layers, 3, again);
        assert_eq!(get(&layers, "old"), Some(Edit::Put(inline("3"))), "the table may hold an older one");
        layers.freeze();
        apply(&mut layers, 4, batch(&[("kept", None)]));
        assert_eq!(get(&layers, "kept"), Some(Edit::Delete), "it is in the layer below");
        assert_eq!(layers.live_bytes(), EDIT_OVERHEAD_BYTES + 4);
    }

    #[test]
    fn large_values_are_found_where_the_frame_holds_them_and_take_no_memory() {
        let mut written = batch(&[("a", Some("small")), ("c", None), ("e", Some("small"))]);
        for (key, byte) in [("b", 1), ("d", 2)] {
            written.put(key, vec![byte; SEPARATE_BYTES_MIN]);
        }
        let mut frame = vec![0; AT.offset as usize];
        let mut bytes = Vec::new();
        crate::journal::frame::encode(&written, 1, 7, &mut bytes);
        frame.extend_from_slice(&bytes);
        let mut layers = Layers::new(0);
        apply(&mut layers, 1, written);
        assert_eq!(layers.live.journal_bytes[&AT.file], bytes.len() as u64);
        assert_eq!(layers.live_bytes(), 5 * EDIT_OVERHEAD_BYTES + 5 + 2 * 5);
        for (key, byte) in [("b", 1), ("d", 2)] {
            let Some(Edit::Put(Held::At(pointer))) = get(&layers, key) else { panic!("{key} is in memory") };
            let at = pointer.at.offset as usize;
            let value = &frame[at..at + pointer.length as usize];
            assert_eq!(value, [byte; SEPARATE_BYTES_MIN]);
            assert_eq!(pointer, Pointer::to(pointer.at, key.as_bytes(), value));
        }
    }

    #[test]
    fn the_newer_layer_wins_and_a_tombstone_hides() {
        let mut layers = Layers::new(0);
        apply(&mut layers, 1, batch(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
        layers.freeze();
        apply(&mut layers, 2, batch(&[("b", Some("2")), ("c", None)]));
        assert_eq!(get(&layers, "a"), Some(Edit::Put(inline("1"))));
        assert_eq!(get(&layers, "b"), Some(Edit::Put(inline("2"))));
        assert_eq!(get(&layers, "c"), Some(Edit::Delete));
        assert_eq!(get(&layers, "d"), None);
        assert_eq!(layers.drop_frozen().unwrap().last, 1);
        assert_eq!(get(&layers, "a"), None, "the table is asked now");
    }

    #[test]
    fn chunks_cover_a_range_without_gap_in_both_directions() {
        let mut layers = Layers::new(0);
        apply(&mut layers, 1, batch(&[("a", Some("1")), ("c", Some("1")), ("e", Some("1"))]));
        layers.freeze();
        apply(&mut layers, 2, batch(&[("b", None), ("c", Some("2")), ("d", Some("2"))]));
        for direction in [Direction::Forward, Direction::Backward] {
            let mut rest = Some(KeyRange::new("a", "z"));
            let mut seen = Vec::new();
            while let Some(range) = rest {
                let chunk = layers.chunk(&range, direction, 2);
                assert!(chunk.edits.iter().all(|(key, _)| chunk.covered.contains(key)));
                assert_eq!(
                    &chunk.covered.end,
                    if direction == Direction::Backward { &range.end } else { &chunk.covered.end }
                );
                seen.extend(chunk.edits);
                rest = chunk.rest;
            }
            if direction == Direction::Backward {
                seen.reverse();
            }
            let keys: Vec<_> = seen.iter().map(|(key, _)| key.clone()).collect();
            assert_eq!(keys, ["a", "b", "c", "d", "e"].map(Key::from));
            assert_eq!(seen[2].1, Edit::Put(inline("2")));
        }
    }

    #[test]
    fn bytes_are_given_back_when_a_key_is_written_again() {
        let mut layers = Layers::new(0);
        apply(&mut layers, 1, batch(&[("key", Some("a long value"))]));
        apply(&mut layers, 2, batch(&[("key", None)]));
        assert_eq!(layers.live_bytes(), EDIT_OVERHEAD_BYTES + 3);
    }
}
