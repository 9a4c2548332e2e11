//! What the store says of itself, whichever it is.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use escrow_protocol::Reason;
use escrow_storage::{MemStore, ReadError, Store};
use tokio::sync::mpsc;

use super::{Service, unreadable};
use crate::engine::Refusal;

/// Pieces of a backup that wait for whoever takes them; beyond that the backup waits.
const PIECES_WAITING_MAX: usize = 8;

/// The state of the store in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreNumbers {
    /// The last commit.
    pub last_sequence: u64,
    /// The last commit that is in the table.
    pub spilled_sequence: u64,
    /// Journal files.
    pub journal_files: u64,
    /// Bytes in them.
    pub journal_bytes: u64,
    /// Bytes in the overlay.
    pub overlay_bytes: u64,
    /// Bytes of the table on disk.
    pub table_bytes: u64,
    /// Syncs so far.
    pub syncs: u64,
    /// How long the last one took, microseconds.
    pub last_sync_us: u64,
    /// Damaged records met.
    pub corrupt_records: u64,
    /// Free bytes on its disk.
    pub disk_free_bytes: u64,
    /// Where it lies.
    pub data_dir: String,
    /// Its format.
    pub format: u32,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Records read.
    pub records: u64,
    /// Each names the place, the fault and the remedy.
    pub faults: Vec<String>,
}

/// What an operator may ask of a store while it works. May wait for the disk: call it where waiting is allowed.
pub trait StoreAdmin: Send + Sync {
    /// Its numbers. Quick.
    fn numbers(&self) -> StoreNumbers;

    /// Reads every record.
    ///
    /// # Errors
    /// If the disk fails; damage is a finding, not an error.
    fn verify(&self) -> Result<Verification, ReadError>;

    /// Writes the backup file of docs/format.md, piece by piece, until `take` breaks off.
    ///
    /// # Errors
    /// If the disk fails or a record is damaged.
    fn backup(&self, take: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), ReadError>;
}

/// A store that can be asked.
pub trait Administered: Store {
    /// Whom to ask.
    fn admin(&self) -> Arc<dyn StoreAdmin>;
}

impl Service {
    /// The store's numbers.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub async fn store_numbers(&self) -> Result<StoreNumbers, Refusal> {
        let store = self.parts.store.clone();
        let asking = tokio::task::spawn_blocking(move || store.numbers());
        asking.await.map_err(|error| Refusal::new(Reason::Internal, format!("asking ended early: {error}")))
    }

    /// Reads every record of the store.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn verify_store(&self) -> Result<Verification, Refusal> {
        let store = self.parts.store.clone();
        let verifying = tokio::task::spawn_blocking(move || store.verify());
        match verifying.await {
            Ok(found) => found.map_err(unreadable),
            Err(error) => Err(Refusal::new(Reason::Internal, format!("verifying ended early: {error}"))),
        }
    }

    /// A backup in pieces, taken while the broker works. Dropping the receiver ends it.
    pub fn backup_store(&self) -> mpsc::Receiver<Result<Bytes, Refusal>> {
        let store = self.parts.store.clone();
        let (pieces, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::task::spawn_blocking(move || {
            let taken = store.backup(&mut |piece| match pieces.blocking_send(Ok(piece)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            if let Err(error) = taken {
                // Nobody listens: then nobody misses it.
                let _ = pieces.blocking_send(Err(unreadable(error)));
            }
        });
        receiver
    }
}

/// The store in memory: counts what there is.
struct MemAdmin {
    disk: escrow_storage::MemDisk,
    reader: escrow_storage::MemReader,
}

impl StoreAdmin for MemAdmin {
    fn numbers(&self) -> StoreNumbers {
        StoreNumbers {
            last_sequence: self.disk.last_sequence().0,
            data_dir: "in memory".to_owned(),
            ..StoreNumbers::default()
        }
    }

    fn verify(&self) -> Result<Verification, ReadError> {
        use escrow_storage::Read as _;
        let mut found = Verification::default();
        for (key, _) in self.disk.entries() {
            found.records += 1;
            match self.reader.get(&key) {
                Ok(_) => {}
                Err(error @ ReadError::Corrupt { .. }) => found.faults.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Not the file of docs/format.md: what is in memory is not kept.
    fn backup(&self, _: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), ReadError> {
        Err(ReadError::Failed("a store in memory has no backup; use a data directory".to_owned()))
    }
}

impl Administered for MemStore {
    fn admin(&self) -> Arc<dyn StoreAdmin> {
        Arc::new(MemAdmin { disk: self.disk().clone(), reader: self.reader() })
    }
}
