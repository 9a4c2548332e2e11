//! The writer of the store on disk.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::DiskReader;
use super::shared::Shared;
use crate::codec::{BATCH_BYTES_MAX, KEY_BYTES_MAX, edits_length};
use crate::journal::{AppendError, Appended, Journal};
use crate::lock::{lock, read, write};
use crate::overlay::{Layers, Written};
use crate::watermark::{Mark, Watermark};
use crate::{Batch, CommitError, Epoch, Options, Room, Sequence, Snapshot, Stats, Store, clock};

/// While there is no room, so often at most an overlay is written to the table before it is large: that takes room, too.
const CLEAR_AWAY_EVERY: Duration = Duration::from_secs(1);

/// The embedded store. Opened with [`DiskStore::open`]; dropping it closes it.
#[derive(Debug)]
pub struct DiskStore {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) spill: Option<JoinHandle<Watermark>>,
    /// Up to which freeze the journal has begun a new file.
    pub(super) freezes_seen: u64,
    /// When an overlay was last frozen for want of room.
    pub(super) cleared_away: Option<Instant>,
}

impl DiskStore {
    /// The state of the store now.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// See [`DiskReader::snapshot`].
    pub fn snapshot(&self) -> Snapshot {
        self.reader().snapshot()
    }

    /// Freezes what is in memory and waits until the table holds it, so that a restart has little to read. Waits for
    /// snapshots to be dropped. Not needed for durability.
    ///
    /// # Errors
    /// [`CommitError::Failed`] if the table failed, [`CommitError::Refused`] if there is no room for writing it.
    pub fn settle(&mut self) -> Result<(), CommitError> {
        loop {
            self.freeze_if(|_, _| true);
            let gate = &self.shared.gate;
            let is_done = || read(&self.shared.layers).frozen().is_none() || self.failure().is_some();
            let wait = Duration::from_secs(1);
            drop(clock::wait_until(&gate.changed, lock(&gate.state), wait, |_| is_done()));
            if let Some(reason) = self.failure() {
                return Err(CommitError::Failed(reason));
            }
            if !self.shared.room.has_room_for_spill() {
                return Err(CommitError::Refused(
                    "the table is not written to while the disk is full".into(),
                ));
            }
            let layers = read(&self.shared.layers);
            if layers.frozen().is_none() && !layers.can_freeze() {
                return Ok(());
            }
        }
    }

    /// Closes the store: ends the spill thread (what it has not moved stays in the journal), notes how far the journal
    /// goes, closes the table and gives the lock back. Readers that are left fail from now on.
    ///
    /// # Errors
    /// If the end of the journal could not be noted. Nothing is lost by that.
    pub fn close(mut self) -> std::io::Result<()> {
        self.shut()
    }

    fn shut(&mut self) -> std::io::Result<()> {
        let Some(spill) = self.spill.take() else { return Ok(()) };
        lock(&self.shared.gate.state).is_stopping = true;
        self.shared.gate.changed.notify_all();
        let watermark = spill.join();
        if watermark.is_err() {
            self.shared.fail("the spill thread panicked".into());
        }
        let noted = watermark.map_or(Ok(()), |watermark| self.note_end(watermark));
        self.shared.table.close();
        lock(&self.shared.lock).take();
        noted
    }

    /// Makes it known how far the journal goes, so that the next open misses nothing unseen. Not after a failure: then
    /// nobody knows.
    fn note_end(&mut self, mut watermark: Watermark) -> std::io::Result<()> {
        if self.failure().is_some() {
            return Ok(());
        }
        self.journal.close();
        watermark.write(Mark { committed: self.journal.last(), ..watermark.mark() })
    }

    fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    /// Holds the commit back a little if the table is behind; ends early when it has caught up.
    fn throttle(&self) -> Duration {
        let delay = self.shared.commit_delay();
        if delay.is_zero() {
            return delay;
        }
        let started = clock::now();
        let gate = &self.shared.gate;
        let has_caught_up = || read(&self.shared.layers).frozen().is_none();
        drop(clock::wait_until(&gate.changed, lock(&gate.state), delay, |_| has_caught_up()));
        clock::now() - started
    }

    /// Appends; if the disk is full, once more without the spare files, and once more without the ballast.
    fn append(&mut self, batch: &Batch) -> Result<Appended, CommitError> {
        let mut appended = self.journal.append(batch);
        if matches!(appended, Err(AppendError::NoSpace(_))) && self.shared.spares.give_up() {
            appended = self.journal.append(batch);
        }
        if matches!(appended, Err(AppendError::NoSpace(_))) && self.shared.room.give_up_ballast() {
            appended = self.journal.append(batch);
        }
        appended.map_err(|error| match error {
            AppendError::NoSpace(error) => CommitError::Refused(error.to_string()),
            AppendError::Failed(reason) => self.failed(reason),
        })
    }

    fn failed(&self, reason: String) -> CommitError {
        self.shared.fail(reason.clone());
        CommitError::Failed(reason)
    }

    /// Begins a new journal file when an overlay was frozen or when the file is full.
    fn rotate_if_due(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let freezes = read(&self.shared.layers).freezes();
        let is_due = freezes != self.freezes_seen || self.journal.is_full_for(batch);
        if !is_due || self.journal.is_empty() {
            self.freezes_seen = freezes;
            return Ok(());
        }
        match self.journal.rotate() {
            Ok(closed) => {
                lock(&self.shared.closed_files).push(closed);
                self.freezes_seen = freezes;
                Ok(())
            }
            Err(AppendError::NoSpace(error)) => {
                tracing::warn!(%error, "no new journal file could be begun; the old one grows");
                Ok(())
            }
            Err(AppendError::Failed(reason)) => Err(self.failed(reason)),
        }
    }

    fn freeze_if(&mut self, is_due: impl FnOnce(&Layers, &Options) -> bool) {
        let is_frozen = {
            let mut layers = write(&self.shared.layers);
            let is_frozen = layers.can_freeze() && is_due(&layers, &self.shared.options);
            if is_frozen {
                layers.freeze();
            }
            is_frozen
        };
        if is_frozen {
            self.shared.wake();
        }
    }

    pub(super) fn freeze_if_large(&mut self) {
        self.freeze_if(|layers, options| options.load(layers) >= options.overlay_bytes_max);
    }

    /// What is consumed while new messages are refused is deleted in memory only, where it would stay: nothing comes that
    /// would fill the overlay. Its files go with the next spill.
    fn clear_away(&mut self) {
        let now = clock::now();
        let is_due = self.cleared_away.is_none_or(|before| now - before >= CLEAR_AWAY_EVERY);
        // Without room for the table a frozen overlay would only hold commits back.
        if is_due && self.shared.room.has_room_for_spill() {
            self.cleared_away = Some(now);
            self.freeze_if(|_, _| true);
        }
    }

    /// Lets readers see a batch that is durable.
    fn show(&mut self, sequence: u64, batch: Batch, appended: Appended) {
        let Appended { at, frame, .. } = appended;
        let written = Written::of(sequence, batch, at);
        let frames = self.shared.table.values().frames();
        let unused = if written.has_large() { frames.remember(at, frame) } else { Some(frame) };
        self.journal.write_next_in(unused);
        write(&self.shared.layers).apply(written);
    }

    fn note(&mut self, appended: &Appended, delay: Duration) {
        self.shared.counters.add_sync(appended.sync);
        self.shared.counters.set_journal_bytes(self.journal.bytes());
        crate::stats::Counters::add(&self.shared.counters.appended_bytes, appended.bytes);
        self.shared.room.note_written(appended.bytes);
        if let Some(observer) = &self.shared.options.observer {
            observer.committed(appended.bytes, appended.write, appended.sync, delay);
        }
    }
}

/// Whether `batch` can be stored at all. What is refused here is the caller's fault, but must not end the process.
fn check_limits(batch: &Batch) -> Result<(), CommitError> {
    if let Some((key, _)) = batch.iter().find(|(key, _)| key.len() > KEY_BYTES_MAX) {
        let length = key.len();
        return Err(CommitError::Refused(format!("a key of {length} bytes is longer than {KEY_BYTES_MAX}")));
    }
    let length = edits_length(batch);
    if length > BATCH_BYTES_MAX {
        return Err(CommitError::Refused(format!(
            "a batch of {length} bytes is larger than {BATCH_BYTES_MAX}"
        )));
    }
    Ok(())
}

impl Store for DiskStore {
    type Reader = DiskReader;

    fn reader(&self) -> DiskReader {
        DiskReader::new(&self.shared)
    }

    fn epoch(&self) -> Epoch {
        self.journal.epoch()
    }

    fn commit(&mut self, batch: Batch) -> Result<Sequence, CommitError> {
        if let Some(reason) = self.failure() {
            return Err(CommitError::Failed(reason));
        }
        if batch.is_empty() {
            return Ok(Sequence(self.journal.last()));
        }
        check_limits(&batch)?;
        let delay = self.throttle();
        self.rotate_if_due(&batch)?;
        let appended = self.append(&batch)?;
        let sequence = self.journal.last();
        // Durable from here; only now may anyone see it.
        self.note(&appended, delay);
        self.show(sequence, batch, appended);
        self.freeze_if_large();
        Ok(Sequence(sequence))
    }

    fn room(&mut self) -> Room {
        let room = self.shared.room();
        if room == Room::Low {
            // Not for memory that is short: the journal goes on, and would be written twice.
            if self.shared.room.is_disk_low() {
                self.shared.spares.give_up();
            }
            self.clear_away();
        }
        room
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::warn!(%error, "the end of the journal could not be noted");
        }
    }
}
