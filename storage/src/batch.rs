//! A batch: the edits that become durable together or not at all.
//!
//! Invariant: keys in a batch are strictly ascending, so a key is edited at most once.

use std::collections::BTreeMap;

use bytes::Bytes;

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The key now has this value.
    Put(Bytes),
    /// The key is gone.
    Delete,
}

/// The edits of one commit, ordered by key, each key at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    edits: BTreeMap<Bytes, Edit>,
}

impl Batch {
    /// A batch that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`; replaces an earlier edit of the same key in this batch.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.edits.insert(key.into(), Edit::Put(value.into()));
    }

    /// Removes `key`; replaces an earlier edit of the same key in this batch.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.edits.insert(key.into(), Edit::Delete);
    }

    /// The edit of `key` in this batch, if there is one.
    pub fn get(&self, key: &[u8]) -> Option<&Edit> {
        self.edits.get(key)
    }

    /// All edits in ascending order of key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Bytes, &Edit)> {
        self.edits.iter()
    }

    /// The edits whose key lies in `start..end`, ascending.
    pub fn range<'a>(
        &'a self,
        start: &[u8],
        end: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Edit)> + use<'a> {
        use std::ops::Bound::{Excluded, Included};
        // An empty or inverted range is legal for callers and a panic for `BTreeMap`.
        let end = if end < start { start } else { end };
        self.edits.range::<[u8], _>((Included(start), Excluded(end)))
    }

    /// How many keys are edited.
    pub fn len(&self) -> usize {
        self.edits.len()
    }

    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

impl IntoIterator for Batch {
    type Item = (Bytes, Edit);
    type IntoIter = std::collections::btree_map::IntoIter<Bytes, Edit>;

    fn into_iter(self) -> Self::IntoIter {
        self.edits.into_iter()
    }
}
