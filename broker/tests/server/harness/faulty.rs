//! A store in memory whose message bodies cannot be read on order, as on a failing disk, which counts how much of them is
//! read, and whose backup never ends.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use escrow_broker::records::keys;
use escrow_broker::service::{Administered, NoBackup, StoreAdmin, StoreNumbers, Verification};
use escrow_protocol::MessageId;
use escrow_storage::{
    Batch, CommitError, Entry, Epoch, KeyRange, MemReader, MemStore, Read, ReadError, Room, Sequence, Store,
};
use tokio::sync::Notify;

/// What of the store fails, and what became of its backup. A clone is the same switch.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    bodies: Arc<AtomicBool>,
    table: Arc<AtomicBool>,
    bytes_read: Arc<AtomicUsize>,
    backup_ended: Arc<Notify>,
}

impl Faults {
    /// From now on no message record can be read.
    pub(crate) fn fail_bodies(&self) {
        self.bodies.store(true, Ordering::SeqCst);
    }

    /// From now on the table is not written to any more: no commit is taken, as the store finds out for itself.
    pub(crate) fn fail_table(&self) {
        self.table.store(true, Ordering::SeqCst);
    }

    /// Bytes of message records that were read so far.
    pub(crate) fn bytes_read(&self) -> usize {
        self.bytes_read.load(Ordering::SeqCst)
    }

    /// Waits until a backup was given up.
    pub(crate) async fn backup_ended(&self) {
        self.backup_ended.notified().await;
    }
}

/// See the module.
pub(crate) struct Faulty {
    pub(crate) store: MemStore,
    pub(crate) faults: Faults,
}

#[derive(Clone)]
pub(crate) struct FaultyReader {
    reader: MemReader,
    faults: Faults,
}

impl Read for FaultyReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let is_message = key[0] == keys::message(MessageId::new(0, [0; 10]))[0];
        if is_message && self.faults.bodies.load(Ordering::SeqCst) {
            return Err(ReadError::Failed("input/output error".to_owned()));
        }
        let record = self.reader.get(key)?;
        if is_message {
            let bytes = record.as_ref().map_or(0, Bytes::len);
            self.faults.bytes_read.fetch_add(bytes, Ordering::SeqCst);
        }
        Ok(record)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        self.reader.scan(range, limit)
    }

    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        self.reader.scan_back(range, limit)
    }
}

impl Store for Faulty {
    type Reader = FaultyReader;

    fn reader(&self) -> FaultyReader {
        FaultyReader { reader: self.store.reader(), faults: self.faults.clone() }
    }

    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn commit(&mut self, batch: Batch) -> Result<Sequence, CommitError> {
        if self.faults.table.load(Ordering::SeqCst) {
            return Err(CommitError::Failed("writing to the table failed".to_owned()));
        }
        self.store.commit(batch)
    }

    fn room(&mut self) -> Room {
        self.store.room()
    }
}

impl Administered for Faulty {
    fn admin(&self) -> Arc<dyn StoreAdmin> {
        Arc::new(EndlessBackup(self.faults.clone()))
    }
}

/// Hands out pieces until nobody takes them.
struct EndlessBackup(Faults);

impl StoreAdmin for EndlessBackup {
    fn numbers(&self) -> StoreNumbers {
        StoreNumbers::default()
    }

    fn verify(&self) -> Result<Verification, ReadError> {
        Ok(Verification::default())
    }

    fn backup(&self, take: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), NoBackup> {
        let piece = Bytes::from(vec![7; 64 * 1024]);
        while take(piece.clone()).is_continue() {}
        self.0.backup_ended.notify_one();
        Ok(())
    }
}
