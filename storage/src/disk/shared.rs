//! What the writer, the readers and the spill thread share.
//!
//! Lock order: gate before layers. Nobody holds the lock of the layers while taking another, or while syncing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

use crate::directory::{DirectoryLock, Layout};
use crate::journal::{Closed, Spares};
use crate::lock::{lock, read};
use crate::overlay::Layers;
use crate::room::RoomWatch;
use crate::stats::Counters;
use crate::table::Table;
use crate::{Epoch, Options, ReadError, Room, Sequence, Stats, throttle};

/// Everything but the journal, which only the writer touches.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) layers: RwLock<Layers>,
    pub(super) table: Table,
    pub(super) gate: Gate,
    pub(super) counters: Counters,
    pub(super) room: RoomWatch,
    /// Journal files that take no more frames, ascending.
    pub(super) closed_files: Mutex<Vec<Closed>>,
    /// Where they go when the table has overtaken them.
    pub(super) spares: Arc<Spares>,
    /// The last sequence that is in the table and synced.
    pub(super) spilled: AtomicU64,
    /// The claim under which the store works.
    pub(super) epoch: Epoch,
    /// Why the store takes no more commits, if the table failed.
    pub(super) failure: Mutex<Option<String>>,
    pub(super) layout: Layout,
    pub(super) options: Options,
    /// Given back when the store is closed.
    pub(super) lock: Mutex<Option<DirectoryLock>>,
}

/// Who may change the table: the spill thread, unless a snapshot holds it as it is.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) state: Mutex<GateState>,
    /// Notified when anything of the state changes, when an overlay is frozen and when one has reached the table.
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct GateState {
    /// How many snapshots need the table as it is.
    pub(super) pins: usize,
    /// Whether an overlay is being written to the table.
    pub(super) is_spilling: bool,
    /// Whether the store is being closed.
    pub(super) is_stopping: bool,
}

impl Shared {
    /// The delay of a commit now.
    pub(super) fn commit_delay(&self) -> Duration {
        let options = &self.options;
        let (load, is_behind) = {
            let layers = read(&self.layers);
            (options.load(&layers), layers.frozen().is_some())
        };
        if !is_behind {
            return Duration::ZERO;
        }
        throttle::delay(load, options.overlay_bytes_max, options.live_limit(), options.commit_delay_max)
    }

    pub(super) fn room(&self) -> Room {
        let load = self.options.load(&read(&self.layers));
        self.room.room(load)
    }

    /// Counts a damaged record that a read met.
    pub(super) fn counted<T>(&self, read: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(ReadError::Corrupt { key, fault }) = &read {
            tracing::error!(key, fault, "a damaged record was met and not served");
            Counters::add(&self.counters.corrupt_records, 1);
            if let Some(observer) = &self.options.observer {
                observer.met_corrupt();
            }
        }
        read
    }

    /// No commit is taken any more.
    pub(super) fn fail(&self, reason: String) {
        tracing::error!(reason, "the store failed; no commit is taken until it is opened again");
        lock(&self.failure).get_or_insert(reason);
    }

    pub(super) fn stats(&self) -> Stats {
        let (last, overlay_bytes, frozen_bytes) = {
            let layers = read(&self.layers);
            (layers.last(), layers.live_bytes(), layers.frozen_bytes())
        };
        let (closed_bytes, closed_count) = {
            let closed = lock(&self.closed_files);
            (closed.iter().map(|file| file.bytes).sum::<u64>(), closed.len() as u64)
        };
        let live = self.table.live();
        Stats {
            value_files: live.len() as u64,
            value_bytes: live.values().map(|live| live.bytes).sum(),
            last_sequence: Sequence(last),
            spilled_sequence: Sequence(self.spilled.load(Ordering::Acquire)),
            journal_bytes: closed_bytes + Counters::get(&self.counters.journal_bytes),
            journal_files: closed_count + 1,
            appended_bytes: Counters::get(&self.counters.appended_bytes),
            overlay_bytes,
            overlay_bytes_hard: self.room.hard_limit(),
            frozen_bytes,
            table_bytes: self.table.size(),
            table_records: self.table.meta().unwrap_or_default().records,
            syncs: self.counters.syncs(),
            spills: Counters::get(&self.counters.spills),
            corrupt_records: Counters::get(&self.counters.corrupt_records),
            commit_delay: self.commit_delay(),
            room: self.room(),
            free_bytes: self.room.free(),
        }
    }

    /// Journal files that may be read while the store runs.
    pub(crate) fn closed(&self) -> Vec<Closed> {
        lock(&self.closed_files).clone()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn wake(self: &Arc<Self>) {
        // Locked so that a thread between its look at the layers and its wait is not missed.
        drop(lock(&self.gate.state));
        self.gate.changed.notify_all();
    }
}
