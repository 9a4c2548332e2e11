//! A batch: the edits that become durable together or not at all.
//!
//! Invariant: keys in a batch are strictly ascending, so a key is edited at most once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use crate::Key;

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<V = Bytes> {
    /// The key now has this value.
    Put(V),
    /// As [`Edit::Put`], of a key that did not exist: the caller knows. When it is deleted soon, no trace is left.
    Insert(V),
    /// The key is gone.
    Delete,
}

impl<V> Edit<V> {
    /// The value that the key now has; `None` if it is gone.
    pub fn value(&self) -> Option<&V> {
        match self {
            Self::Put(value) | Self::Insert(value) => Some(value),
            Self::Delete => None,
        }
    }

    /// The same change, with what `hold` makes of the value.
    pub(crate) fn map<W>(self, hold: impl FnOnce(V) -> W) -> Edit<W> {
        match self {
            Self::Put(value) => Edit::Put(hold(value)),
            Self::Insert(value) => Edit::Insert(hold(value)),
            Self::Delete => Edit::Delete,
        }
    }

    /// What is left of two edits of one key, of which `self` is the later one; `None`: nothing was and nothing is there.
    pub(crate) fn after(self, earlier: Option<&Self>) -> Option<Self> {
        match (earlier, self) {
            (Some(Self::Insert(_)), Self::Delete) => None,
            (Some(Self::Insert(_)), Self::Put(value)) => Some(Self::Insert(value)),
            // It was there before it was deleted, or may have been.
            (Some(_), Self::Insert(value)) => Some(Self::Put(value)),
            (_, later) => Some(later),
        }
    }
}

/// The edits of one commit, ordered by key, each key at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    edits: BTreeMap<Key, Edit>,
}

impl Batch {
    /// A batch that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`; replaces an earlier edit of the same key in this batch.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) {
        self.edit(key.into(), Edit::Put(value.into()));
    }

    /// As [`Batch::put`], of a key that does not exist. Only for what cannot exist (a new number, an id that was looked
    /// for): a key that does exist would come back when this one is deleted. In exchange, what is inserted and deleted
    /// before it has left memory leaves no trace to be cleared away.
    pub fn insert(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) {
        self.edit(key.into(), Edit::Insert(value.into()));
    }

    /// Removes `key`; replaces an earlier edit of the same key in this batch.
    pub fn delete(&mut self, key: impl Into<Key>) {
        self.edit(key.into(), Edit::Delete);
    }

    fn edit(&mut self, key: Key, edit: Edit) {
        match self.edits.entry(key) {
            Entry::Vacant(place) => drop(edit.after(None).map(|edit| place.insert(edit))),
            Entry::Occupied(mut place) => match edit.after(Some(place.get())) {
                Some(edit) => drop(place.insert(edit)),
                None => drop(place.remove()),
            },
        }
    }

    /// The edit of `key` in this batch, if there is one.
    pub fn get(&self, key: &[u8]) -> Option<&Edit> {
        self.edits.get(key)
    }

    /// All edits in ascending order of key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Edit)> {
        self.edits.iter()
    }

    /// The edits whose key lies in `start..end`, ascending.
    pub fn range<'a>(
        &'a self,
        start: &[u8],
        end: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Key, &'a Edit)> + use<'a> {
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
    type Item = (Key, Edit);
    type IntoIter = std::collections::btree_map::IntoIter<Key, Edit>;

    fn into_iter(self) -> Self::IntoIter {
        self.edits.into_iter()
    }
}
