//! A store in memory for the simulator and for tests: as strict as the one on disk, deterministic, and it can be made
//! to fail.
//!
//! Owns nothing but maps. Must never read a clock, draw a random number or start a thread: a seed replays a run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::{
    Batch, CommitError, Edit, Entry, Epoch, Key, KeyRange, OnDisk, Read, ReadError, Room, Sequence, Store,
};

/// What a commit that is told to fail leaves on the disk. Both are legal outcomes of a failed `fdatasync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// Nothing of the batch: the next claim does not see it.
    Lost,
    /// The whole batch: nobody was told, yet the next claim sees it.
    Kept,
}

/// A disk in memory. A clone is the same disk; it outlives every [`MemStore`] that claims it.
#[derive(Debug, Clone, Default)]
pub struct MemDisk {
    state: Arc<RwLock<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    /// What readers see.
    entries: BTreeMap<Key, Bytes>,
    /// A batch that reached the disk although its commit failed. Only the next claim makes it visible.
    kept: Option<(Sequence, Batch)>,
    /// Keys whose record has a flipped bit.
    damaged: BTreeSet<Key>,
    epoch: Epoch,
    last: Sequence,
    /// The commit that fails, counted from now: 1 is the next one.
    fail_in: Option<(u64, FailMode)>,
    /// Why nothing works any more until the next claim.
    failed: Option<String>,
    room_is_low: bool,
    commits_are_refused: bool,
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `n`-th commit from now fail as [`CommitError::Failed`] (1 is the next one); `mode` says what of it is
    /// there after the next claim. Replaces an earlier order that is still open. 0 withdraws it.
    pub fn fail_nth_io(&self, n: u64, mode: FailMode) {
        self.write().fail_in = (n > 0).then_some((n, mode));
    }

    /// Whether [`Store::room`] answers [`Room::Low`]. Commits go on.
    pub fn refuse(&self, room_is_low: bool) {
        self.write().room_is_low = room_is_low;
    }

    /// Whether each commit fails as [`CommitError::Refused`].
    pub fn refuse_commits(&self, refused: bool) {
        self.write().commits_are_refused = refused;
    }

    /// Flips a bit in the record that `seed` points at and returns its key; `None` on an empty disk. Until that key is
    /// written again, reads of it fail as [`ReadError::Corrupt`].
    pub fn flip_bit(&self, seed: u64) -> Option<Key> {
        let mut state = self.write();
        let count = state.entries.len() as u64;
        let nth = seed.checked_rem(count)?;
        let key = state.entries.keys().nth(nth as usize)?.clone();
        state.damaged.insert(key.clone());
        Some(key)
    }

    /// Flips a bit in the record at `key`; `false` if there is none.
    pub fn flip_bit_at(&self, key: &[u8]) -> bool {
        let mut state = self.write();
        let Some((key, _)) = state.entries.get_key_value(key) else { return false };
        let key = key.clone();
        state.damaged.insert(key);
        true
    }

    /// Every entry as it would read without damage, ascending.
    pub fn entries(&self) -> Vec<Entry> {
        self.read().entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// A number that is equal for equal entries, for comparing states. Not meant to resist an adversary.
    pub fn digest(&self) -> u64 {
        let mut digest = Fnv::default();
        for (key, value) in &self.read().entries {
            digest.add_sized(key);
            digest.add_sized(value);
        }
        digest.0
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the last commit that readers see.
    pub fn last_sequence(&self) -> Sequence {
        self.read().last
    }

    fn read(&self) -> RwLockReadGuard<'_, DiskState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, DiskState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskState {
    fn apply(&mut self, sequence: Sequence, batch: Batch) {
        for (key, edit) in batch {
            self.damaged.remove(&key);
            // Invariant: what is inserted was not there. A store that keeps its word about deletes needs it.
            assert!(
                !matches!(edit, Edit::Insert(_)) || !self.entries.contains_key(&key),
                "a key that exists was inserted: {}",
                crate::hex::of(&key)
            );
            match edit {
                Edit::Put(value) | Edit::Insert(value) => self.entries.insert(key, value),
                Edit::Delete => self.entries.remove(&key),
            };
        }
        self.last = sequence;
    }

    /// Counts this commit against the order to fail; the mode if it is this one's turn.
    fn failure_due(&mut self) -> Option<FailMode> {
        let (n, mode) = self.fail_in.take()?;
        if n == 1 {
            return Some(mode);
        }
        self.fail_in = Some((n - 1, mode));
        None
    }

    fn entry(&self, key: &Key, value: &Bytes) -> Result<Entry, ReadError> {
        if self.damaged.contains(key) {
            return Err(flipped(key));
        }
        Ok((key.clone(), value.clone()))
    }
}

fn flipped(key: &[u8]) -> ReadError {
    ReadError::Corrupt { key: crate::hex::of(key), fault: "checksum does not match (flipped bit)".into() }
}

/// The store on a [`MemDisk`]: a commit is durable and visible when it returns.
#[derive(Debug)]
pub struct MemStore {
    disk: MemDisk,
    epoch: Epoch,
}

impl MemStore {
    /// A store on an empty disk of its own.
    pub fn new() -> Self {
        Self::claim(&MemDisk::new())
    }

    /// Becomes the writer of `disk` under the next epoch, and reads what is there: a batch that a failed commit left
    /// behind ([`FailMode::Kept`]) is seen from now on. An earlier writer of the disk is fenced off.
    pub fn claim(disk: &MemDisk) -> Self {
        let mut state = disk.write();
        state.epoch = Epoch(state.epoch.0 + 1);
        state.failed = None;
        if let Some((sequence, batch)) = state.kept.take() {
            state.apply(sequence, batch);
        }
        Self { disk: disk.clone(), epoch: state.epoch }
    }

    /// The process dies: what is left is the disk. What was committed is there, for nothing else is promised.
    pub fn crash(self) -> MemDisk {
        self.disk
    }

    /// The disk below, for making it fail.
    pub fn disk(&self) -> &MemDisk {
        &self.disk
    }
}

impl Default for MemStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemStore {
    type Reader = MemReader;

    fn reader(&self) -> MemReader {
        MemReader { disk: self.disk.clone() }
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn commit(&mut self, batch: Batch) -> Result<Sequence, CommitError> {
        let mut state = self.disk.write();
        if state.epoch != self.epoch {
            return Err(CommitError::Fenced(state.epoch));
        }
        if let Some(reason) = &state.failed {
            return Err(CommitError::Failed(reason.clone()));
        }
        if batch.is_empty() {
            return Ok(state.last);
        }
        if state.commits_are_refused {
            return Err(CommitError::Refused("the disk in memory was told to refuse".into()));
        }
        let sequence = Sequence(state.last.0 + 1);
        if let Some(mode) = state.failure_due() {
            let reason = format!("the sync of commit {} was told to fail", sequence.0);
            state.failed = Some(reason.clone());
            state.kept = (mode == FailMode::Kept).then_some((sequence, batch));
            return Err(CommitError::Failed(reason));
        }
        state.apply(sequence, batch);
        Ok(sequence)
    }

    fn room(&mut self) -> Room {
        if self.disk.read().room_is_low { Room::Low } else { Room::Enough }
    }
}

/// Reads a [`MemDisk`].
#[derive(Debug, Clone)]
pub struct MemReader {
    disk: MemDisk,
}

impl Read for MemReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let state = self.disk.read();
        let Some((key, value)) = state.entries.get_key_value(key) else { return Ok(None) };
        state.entry(key, value).map(|(_, value)| Some(value))
    }

    fn get_from_memory(&self, key: &[u8]) -> Result<Option<Bytes>, OnDisk> {
        self.get(key).map_err(|_| OnDisk)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let state = self.disk.read();
        let hits = state.entries.range::<[u8], _>(bounds(range)).take(limit);
        hits.map(|(key, value)| state.entry(key, value)).collect()
    }

    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let state = self.disk.read();
        let hits = state.entries.range::<[u8], _>(bounds(range)).rev().take(limit);
        hits.map(|(key, value)| state.entry(key, value)).collect()
    }
}

/// The range as `BTreeMap` wants it: an inverted one is empty instead of a panic.
fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = if range.end < range.start { &range.start } else { &range.end };
    (Bound::Included(&range.start), Bound::Excluded(end))
}

/// FNV-1a with 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// The length goes in first, so that two neighbours cannot trade bytes unseen.
    fn add_sized(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_be_bytes());
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Batch {
        let mut batch = Batch::new();
        batch.put(key, value);
        batch
    }

    #[test]
    fn a_commit_survives_a_crash_and_raises_the_epoch() {
        let mut store = MemStore::new();
        assert_eq!(store.commit(put("a", "1")).unwrap(), Sequence(1));
        assert_eq!(store.commit(Batch::new()).unwrap(), Sequence(1));
        let disk = store.crash();
        let store = MemStore::claim(&disk);
        assert_eq!(store.epoch(), Epoch(2));
        assert_eq!(store.reader().get(b"a").unwrap().unwrap(), "1");
    }

    #[test]
    fn the_nth_commit_fails_and_everything_after_it() {
        for (mode, seen) in [(FailMode::Lost, None), (FailMode::Kept, Some(Bytes::from("2")))] {
            let mut store = MemStore::new();
            store.disk().fail_nth_io(2, mode);
            store.commit(put("a", "1")).unwrap();
            assert!(matches!(store.commit(put("b", "2")), Err(CommitError::Failed(_))));
            assert!(matches!(store.commit(put("c", "3")), Err(CommitError::Failed(_))));
            assert_eq!(store.reader().get(b"b").unwrap(), None, "not visible before the next claim");
            let mut store = MemStore::claim(&store.crash());
            assert_eq!(store.reader().get(b"b").unwrap(), seen);
            store.commit(put("d", "4")).unwrap();
        }
    }

    #[test]
    fn refusals_leave_nothing_and_end() {
        let mut store = MemStore::new();
        store.disk().refuse(true);
        assert_eq!(store.room(), Room::Low);
        store.commit(put("a", "1")).unwrap();
        store.disk().refuse_commits(true);
        assert!(matches!(store.commit(put("a", "2")), Err(CommitError::Refused(_))));
        store.disk().refuse_commits(false);
        assert_eq!(store.reader().get(b"a").unwrap().unwrap(), "1");
        assert_eq!(store.commit(put("a", "2")).unwrap(), Sequence(2));
    }

    #[test]
    fn a_flipped_bit_is_corrupt_until_written_again() {
        let mut store = MemStore::new();
        assert_eq!(store.disk().flip_bit(7), None);
        store.commit(put("a", "1")).unwrap();
        assert_eq!(store.disk().flip_bit(7).unwrap(), "a".into());
        let reader = store.reader();
        assert!(matches!(reader.get(b"a"), Err(ReadError::Corrupt { .. })));
        assert!(reader.scan(&KeyRange::prefix(b"a"), 9).is_err());
        store.commit(put("a", "2")).unwrap();
        assert_eq!(reader.get(b"a").unwrap().unwrap(), "2");
    }

    #[test]
    fn an_older_writer_is_fenced() {
        let mut old = MemStore::new();
        let _new = MemStore::claim(old.disk());
        assert!(matches!(old.commit(put("a", "1")), Err(CommitError::Fenced(Epoch(2)))));
    }

    #[test]
    fn scans_are_ordered_bounded_and_accept_inverted_ranges() {
        let mut store = MemStore::new();
        for key in ["a", "b", "c", "d"] {
            store.commit(put(key, "x")).unwrap();
        }
        let reader = store.reader();
        let keys = |entries: Vec<Entry>| entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(reader.scan(&KeyRange::new("b", "z"), 2).unwrap()), ["b", "c"].map(Key::from));
        assert_eq!(keys(reader.scan_back(&KeyRange::new("a", "d"), 2).unwrap()), ["c", "b"].map(Key::from));
        assert!(reader.scan(&KeyRange::new("z", "a"), 2).unwrap().is_empty());
    }

    #[test]
    fn equal_entries_have_equal_digests() {
        let (mut one, mut two) = (MemStore::new(), MemStore::new());
        one.commit(put("a", "1")).unwrap();
        two.commit(put("a", "0")).unwrap();
        assert_ne!(one.disk().digest(), two.disk().digest());
        two.commit(put("a", "1")).unwrap();
        assert_eq!(one.disk().digest(), two.disk().digest());
        assert_eq!(one.disk().entries(), two.disk().entries());
    }
}
