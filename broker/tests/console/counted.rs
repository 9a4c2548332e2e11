//! A store in memory that counts what is read of it: for tests that ask what a page costs, which is no matter of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use escrow_broker::service::{Administered, StoreAdmin};
use escrow_storage::{
    Batch, CommitError, Entry, Epoch, KeyRange, MemReader, MemStore, Read, ReadError, Room, Sequence, Store,
};

/// Records read, by key or in a range. A clone is the same count.
#[derive(Clone, Default)]
pub(crate) struct Reads(Arc<AtomicU64>);

impl Reads {
    pub(crate) fn so_far(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn add(&self, records: usize) {
        self.0.fetch_add(records as u64, Ordering::SeqCst);
    }
}

/// See the module.
pub(crate) struct Counted {
    pub(crate) store: MemStore,
    pub(crate) reads: Reads,
}

/// Its reader.
#[derive(Clone)]
pub(crate) struct CountedReader {
    reader: MemReader,
    reads: Reads,
}

impl Read for CountedReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.reads.add(1);
        self.reader.get(key)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let entries = self.reader.scan(range, limit)?;
        self.reads.add(1 + entries.len());
        Ok(entries)
    }

    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let entries = self.reader.scan_back(range, limit)?;
        self.reads.add(1 + entries.len());
        Ok(entries)
    }
}

impl Store for Counted {
    type Reader = CountedReader;

    fn reader(&self) -> CountedReader {
        CountedReader { reader: self.store.reader(), reads: self.reads.clone() }
    }

    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn commit(&mut self, batch: Batch) -> Result<Sequence, CommitError> {
        self.store.commit(batch)
    }

    fn room(&mut self) -> Room {
        self.store.room()
    }
}

impl Administered for Counted {
    fn admin(&self) -> Arc<dyn StoreAdmin> {
        self.store.admin()
    }
}
