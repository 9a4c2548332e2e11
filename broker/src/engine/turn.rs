//! A turn: what one round of the driver reads and writes. Edits pile up here and become one batch; reads see them before
//! they see the store, so that two inputs of one turn agree.

use bytes::Bytes;
use escrow_storage::{Batch, Edit, Entry, Key, KeyRange, Read, ReadError, Room};

use super::Effect;
use crate::records::Record;

/// One round: the store as it was, the edits since, and what shall go out once they are durable.
pub struct Turn<'a> {
    view: &'a dyn Read,
    edits: Batch,
    /// Where records are put together: each is then kept in memory of just its size, which takes the allocator one step.
    scratch: Vec<u8>,
    room: Room,
    pub(super) effects: Vec<Effect>,
    failure: Option<ReadError>,
}

/// What a turn came to.
pub struct Finished {
    /// To commit, whole or not at all.
    pub batch: Batch,
    /// To dispatch once that is durable, never before.
    pub effects: Vec<Effect>,
}

impl<'a> Turn<'a> {
    /// A turn over `view`. With [`Room::Low`] new messages are refused; all else goes on.
    pub fn new(view: &'a dyn Read, room: Room) -> Self {
        Self { view, edits: Batch::new(), scratch: Vec::new(), room, effects: Vec::new(), failure: None }
    }

    /// The store as it was before this turn.
    pub(super) fn view(&self) -> &'a dyn Read {
        self.view
    }

    /// Whether new messages may be stored.
    pub(super) fn room(&self) -> Room {
        self.room
    }

    /// How many edits there are so far.
    pub fn edits(&self) -> usize {
        self.edits.len()
    }

    pub(super) fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        match self.edits.get(key) {
            Some(edit) => Ok(edit.value().cloned()),
            None => self.view.get(key),
        }
    }

    /// The record at `key`. One that does not read is damaged: it is counted and named, never used.
    pub(super) fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, ReadError> {
        self.get_bytes(key)?.map(|bytes| decode(key, bytes)).transpose()
    }

    pub(super) fn put<R: Record>(&mut self, key: Key, record: &R) {
        record.encode_over(&mut self.scratch);
        self.edits.put(key, Bytes::copy_from_slice(&self.scratch));
    }

    /// As [`Turn::put`], at a key that does not exist: a number that was just given, an id that was looked for. What is
    /// inserted and deleted again soon leaves no trace in the store.
    pub(super) fn insert<R: Record>(&mut self, key: Key, record: &R) {
        record.encode_over(&mut self.scratch);
        self.edits.insert(key, Bytes::copy_from_slice(&self.scratch));
    }

    pub(super) fn insert_bytes(&mut self, key: Key, value: Bytes) {
        self.edits.insert(key, value);
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.edits.delete(key);
    }

    /// At most `limit` entries of `range`, ascending, edits of this turn included.
    pub(super) fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let mut edits = self.edits.range(&range.start, &range.end).peekable();
        if edits.peek().is_none() {
            return self.view.scan(range, limit);
        }
        // Deleted keys take up room in the view's page: ask for as many more as this turn deletes.
        let deleted = self.edits.range(&range.start, &range.end).filter(|(_, edit)| **edit == Edit::Delete);
        let stored = self.view.scan(range, limit.saturating_add(deleted.count()))?;

        let mut merged = Vec::with_capacity(limit.min(stored.len() + 16));
        let mut stored = stored.into_iter().peekable();
        while merged.len() < limit {
            let edit_is_next = match (edits.peek(), stored.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((edited, _)), Some((key, _))) => **edited <= *key,
            };
            if !edit_is_next {
                merged.extend(stored.next());
                continue;
            }
            let Some((key, edit)) = edits.next() else { break };
            // The edit replaces what the view has under the same key.
            stored.next_if(|(stored_key, _)| stored_key == key);
            if let Some(value) = edit.value() {
                merged.push((key.clone(), value.clone()));
            }
        }
        Ok(merged)
    }

    /// Remembers that the store failed: the turn must not be committed.
    pub(super) fn fail(&mut self, error: ReadError) {
        self.failure.get_or_insert(error);
    }

    /// The batch and the effects, or the failure of the store that forbids both.
    pub(super) fn into_finished(self) -> Result<Finished, ReadError> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(Finished { batch: self.edits, effects: self.effects }),
        }
    }
}

/// The record that `bytes` at `key` are.
pub(super) fn decode<R: Record>(key: &[u8], bytes: Bytes) -> Result<R, ReadError> {
    R::decode(bytes).map_err(|error| ReadError::Corrupt { key: hex(key), fault: error.to_string() })
}

/// Bytes as hexadecimal text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key that `hex` names, which must lie in `range`: where a scan met a damaged record.
pub(crate) fn key_in(range: &KeyRange, hex: &str) -> Result<Vec<u8>, ReadError> {
    let digits = hex.as_bytes().chunks(2);
    let key = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let key: Option<Vec<u8>> = key;
    key.filter(|key| range.contains(key)).ok_or_else(|| {
        ReadError::Failed(format!("a scan met a damaged record at {hex:?}, which is no key of its range"))
    })
}
