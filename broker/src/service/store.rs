//! What the store says of itself, whichever it is.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escrow_protocol::Reason;
use escrow_storage::{BackupError, DiskReader, DiskStore, MemStore, ReadError, Store};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::patience::Patience;
use super::{Operator, Service};
use crate::engine::Refusal;
use crate::records::AuditVerb;

/// Pieces of a backup that wait for whoever takes them; beyond that the backup waits.
const PIECES_WAITING_MAX: usize = 8;
/// When whoever stalled a backup may begin another, milliseconds.
const BACKUP_RETRY_MS: u64 = 1_000;

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
    /// Bytes of the commits since the start, as the journal has them.
    pub appended_bytes: u64,
    /// Bytes in the overlay.
    pub overlay_bytes: u64,
    /// How full the overlay is, hundredths of where new messages are refused.
    pub overlay_percent: u64,
    /// Bytes of the table on disk.
    pub table_bytes: u64,
    /// Syncs so far.
    pub syncs: u64,
    /// How long the last one took, microseconds.
    pub last_sync_us: u64,
    /// What half of the syncs since the start took at most, and 99 of 100; microseconds, 0: there was none.
    pub sync_p50_us: u64,
    /// See `sync_p50_us`.
    pub sync_p99_us: u64,
    /// How long the last spill took, microseconds; 0: there was none yet.
    pub last_spill_us: u64,
    /// Damaged records met since the start, by the store's checksums or by the engine that could not read one: whichever
    /// met more, for most are met by both.
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
    /// Records of the table and commits of the journal that were read.
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
    /// See [`NoBackup`].
    fn backup(&self, take: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), NoBackup>;
}

/// Why a backup was not taken to its end.
#[derive(Debug, thiserror::Error)]
pub enum NoBackup {
    /// The disk failed or a record is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// This store has none.
    #[error("{0}")]
    Unsupported(&'static str),
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
    /// If the broker is overloaded or stopping.
    pub async fn store_numbers(&self) -> Result<StoreNumbers, Refusal> {
        Ok(self.status().await?.store)
    }

    /// The store's numbers, beside what the engine has met of damage.
    pub(super) async fn store_beside(&self, damaged: u64) -> Result<StoreNumbers, Refusal> {
        let store = self.parts.store.clone();
        let asking = tokio::task::spawn_blocking(move || store.numbers());
        let numbers = asking.await;
        let numbers = numbers
            .map_err(|error| Refusal::new(Reason::Internal, format!("asking ended early: {error}")))?;
        let activity = self.parts.metrics.activity();
        let sync = |share| activity.sync.quantile_since(None, share).unwrap_or(0);
        let numbers = StoreNumbers {
            corrupt_records: numbers.corrupt_records.max(damaged),
            sync_p50_us: sync(0.50),
            sync_p99_us: sync(0.99),
            last_spill_us: activity.last_spill_us,
            ..numbers
        };
        Ok(match &self.parts.data_dir {
            Some(data_dir) => StoreNumbers { data_dir: data_dir.display().to_string(), ..numbers },
            None => numbers,
        })
    }

    /// Reads every record of the store.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn verify_store(&self, operator: Operator) -> Result<Verification, Refusal> {
        let store = self.parts.store.clone();
        let verifying = tokio::task::spawn_blocking(move || store.verify());
        let found = match verifying.await {
            Ok(found) => found.map_err(|error| self.unreadable(error))?,
            Err(error) => {
                return Err(Refusal::new(Reason::Internal, format!("verifying ended early: {error}")));
            }
        };
        let outcome = format!("records={} faults={}", found.records, found.faults.len());
        self.attest(operator, AuditVerb::StoreVerify, "store".to_owned(), outcome).await?;
        Ok(found)
    }

    /// A backup in pieces, taken while the broker works. Dropping the receiver ends it; so does taking nothing for as
    /// long as a peer may stall, or too little over a longer time: the backup's view of the store keeps its overlay in
    /// memory, and in the end no message would be accepted.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub async fn backup_store(
        &self,
        operator: Operator,
    ) -> Result<mpsc::Receiver<Result<Bytes, Refusal>>, Refusal> {
        self.attest(operator, AuditVerb::StoreBackup, "store".to_owned(), String::new()).await?;
        Ok(self.begin_backup())
    }

    fn begin_backup(&self) -> mpsc::Receiver<Result<Bytes, Refusal>> {
        let service = self.clone();
        let stall = self.parts.peer_stall;
        let (pieces, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let clock = &service.parts.clock;
            let mut patience = Patience::new(stall);
            let mut stalled = false;
            let taken = service.parts.store.backup(&mut |piece| {
                let (bytes, began_us) = (piece.len(), clock.micros());
                match runtime.block_on(async { timeout(patience.left(), pieces.send(Ok(piece))).await }) {
                    Ok(Ok(())) => {
                        patience.spend(Duration::from_micros(clock.micros() - began_us), bytes);
                        ControlFlow::Continue(())
                    }
                    Ok(Err(_)) => ControlFlow::Break(()),
                    Err(_) => {
                        stalled = true;
                        ControlFlow::Break(())
                    }
                }
            });
            // Invariant: the view of the store is gone from here on; telling the end may take as long as it likes.
            let end = match taken {
                _ if stalled => Some(backup_stalled(stall)),
                Ok(()) => None,
                Err(NoBackup::Read(error)) => Some(service.unreadable(error)),
                Err(error @ NoBackup::Unsupported(_)) => {
                    Some(Refusal::new(Reason::Internal, error.to_string()))
                }
            };
            if let Some(refusal) = end {
                // A task: a peer that takes nothing must not hold a thread. It ends with the stream at the latest.
                runtime.spawn(async move {
                    // Nobody listens: then nobody misses it.
                    let _ = pieces.send(Err(refusal)).await;
                });
            }
        });
        receiver
    }
}

fn backup_stalled(stall: Duration) -> Refusal {
    tracing::warn!(stalled_ms = stall.as_millis() as u64, "backup ended: nobody takes its pieces");
    let text = format!(
        "nothing of the backup was taken for {} s, or too little over a longer time, so it was ended and is not whole; \
         begin again, and write it where it can be written faster",
        stall.as_secs_f32()
    );
    Refusal::new(Reason::Overloaded, text).retry_after(BACKUP_RETRY_MS)
}

/// The store on disk.
struct DiskAdmin {
    reader: DiskReader,
}

impl StoreAdmin for DiskAdmin {
    fn numbers(&self) -> StoreNumbers {
        let stats = self.reader.stats();
        StoreNumbers {
            last_sequence: stats.last_sequence.0,
            spilled_sequence: stats.spilled_sequence.0,
            journal_files: stats.journal_files,
            journal_bytes: stats.journal_bytes,
            overlay_bytes: stats.overlay_bytes + stats.frozen_bytes,
            overlay_percent: (stats.overlay_bytes + stats.frozen_bytes).saturating_mul(100)
                / stats.overlay_bytes_hard.max(1),
            table_bytes: stats.table_bytes,
            appended_bytes: stats.appended_bytes,
            syncs: stats.syncs.count,
            last_sync_us: stats.syncs.last.as_micros() as u64,
            // What was timed is the metrics' to know.
            sync_p50_us: 0,
            sync_p99_us: 0,
            last_spill_us: 0,
            corrupt_records: stats.corrupt_records,
            disk_free_bytes: stats.free_bytes,
            data_dir: String::new(),
            format: escrow_storage::FORMAT,
        }
    }

    fn verify(&self) -> Result<Verification, ReadError> {
        let report = self.reader.verify()?;
        let mut faults: Vec<_> = report
            .findings
            .into_iter()
            .map(|finding| format!("{}: {}; {}", finding.file.display(), finding.fault, finding.remedy))
            .collect();
        if report.findings_left_out > 0 {
            faults.push(format!("and {} more", report.findings_left_out));
        }
        Ok(Verification { records: report.table_records + report.frames, faults })
    }

    fn backup(&self, take: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), NoBackup> {
        let mut pieces = Pieces { take };
        match escrow_storage::backup(&self.reader.snapshot(), &mut pieces) {
            Ok(report) => {
                tracing::info!(records = report.records, bytes = report.bytes, "backup taken");
                Ok(())
            }
            Err(BackupError::Read(error)) => Err(error.into()),
            // Whoever took the pieces went away.
            Err(BackupError::Write(_)) => Ok(()),
        }
    }
}

/// Hands what is written on, piece by piece.
struct Pieces<'a> {
    take: &'a mut dyn FnMut(Bytes) -> ControlFlow<()>,
}

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.take)(Bytes::copy_from_slice(bytes)) {
            ControlFlow::Continue(()) => Ok(bytes.len()),
            ControlFlow::Break(()) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Administered for DiskStore {
    fn admin(&self) -> Arc<dyn StoreAdmin> {
        Arc::new(DiskAdmin { reader: self.reader() })
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
    fn backup(&self, _: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), NoBackup> {
        Err(NoBackup::Unsupported("a store in memory has no backup; use a data directory"))
    }
}

impl Administered for MemStore {
    fn admin(&self) -> Arc<dyn StoreAdmin> {
        Arc::new(MemAdmin { disk: self.disk().clone(), reader: self.reader() })
    }
}
