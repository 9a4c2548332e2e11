//! The thread that moves frozen overlays to the table, and then drops the journal below them.
//!
//! The only writer of the table and of the watermark. Must never drop a journal file before the table is synced and the
//! watermark durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::shared::{GateState, Shared};
use crate::clock;
use crate::directory::sync_dir;
use crate::failpoints::FailPoint;
use crate::journal::Closed;
use crate::lock::{lock, read, write};
use crate::overlay::Frozen;
use crate::stats::Counters;
use crate::table::Outcome;
use crate::watermark::{Mark, Watermark};

/// How often a spill that waits for room on disk looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Runs until the store is closed or the table fails; gives the watermark back.
pub(super) fn run(shared: &Arc<Shared>, mut watermark: Watermark) -> Watermark {
    while let Some(frozen) = next(shared) {
        // Were it to die of a panic, commits would wait and snapshots hang without a word.
        let caught = catch_unwind(AssertUnwindSafe(|| spill(shared, &frozen, &mut watermark)));
        let spilled = caught.unwrap_or_else(|_| Err("the spill thread panicked".into()));
        lock(&shared.gate.state).is_spilling = false;
        // Freed before the others wake, and under no lock: it may be large.
        drop(frozen);
        if let Err(fault) = &spilled {
            shared.fail(format!("writing to the table failed: {fault}"));
        }
        shared.gate.changed.notify_all();
        if spilled.is_err() {
            break;
        }
    }
    watermark
}

/// Waits for a frozen overlay that may be written; `None` when the store is closed.
fn next(shared: &Shared) -> Option<Arc<Frozen>> {
    let mut state = lock(&shared.gate.state);
    loop {
        if state.is_stopping {
            return None;
        }
        let frozen = read(&shared.layers).frozen().cloned();
        match frozen {
            Some(frozen) if state.pins == 0 && shared.room.has_room_for_spill() => {
                state.is_spilling = true;
                return Some(frozen);
            }
            Some(_) if state.pins == 0 => {
                let is_stopping = |state: &mut GateState| state.is_stopping;
                state = clock::wait_until(&shared.gate.changed, state, LOOK_AGAIN, is_stopping);
            }
            _ => state = shared.gate.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

fn spill(shared: &Shared, frozen: &Frozen, watermark: &mut Watermark) -> Result<(), String> {
    let started = clock::now();
    let failpoints = &shared.options.failpoints;
    let is_stopped = || lock(&shared.gate.state).is_stopping;
    let edits = frozen.overlay.iter();
    let applied = shared.table.apply(edits, frozen.last, &is_stopped, failpoints);
    let meta = match applied.map_err(|error| error.to_string())? {
        Outcome::Done(meta) => meta,
        // The journal still holds all of it.
        Outcome::Stopped => return Ok(()),
    };
    shared.table.sync(failpoints).map_err(|error| error.to_string())?;
    let committed = read(&shared.layers).last();
    let mark = Mark { sequence: meta.sequence, records: meta.records, epoch: shared.epoch.0, committed };
    watermark.write(mark).map_err(|error| format!("{}: {error}", watermark.path().display()))?;
    shared.spilled.store(mark.sequence, Ordering::Release);
    let dropped = write(&shared.layers).drop_frozen();
    drop(dropped);
    Counters::add(&shared.counters.spills, 1);
    failpoints.pass(FailPoint::BeforeJournalDrop);
    drop_journal(shared, mark.sequence);
    if let Some(observer) = &shared.options.observer {
        observer.spilled(frozen.overlay.len() as u64, clock::now() - started);
    }
    Ok(())
}

/// Deletes the journal files that hold nothing above `sequence`, oldest first so that no gap can arise.
fn drop_journal(shared: &Shared, sequence: u64) {
    let done: Vec<Closed> = {
        let mut closed = lock(&shared.closed_files);
        let kept = closed.iter().position(|file| file.last > sequence).unwrap_or(closed.len());
        closed.drain(..kept).collect()
    };
    if done.is_empty() {
        return;
    }
    for file in &done {
        if let Err(error) = shared.spare.retire(file, shared.room.has_room_for_spare(file.bytes)) {
            // The next start deletes it; until then it only takes space.
            tracing::warn!(file = %file.path.display(), %error, "an old journal file could not be deleted");
            break;
        }
    }
    shared.options.failpoints.pass(FailPoint::AfterJournalDrop);
    match sync_dir(&shared.layout.journal()) {
        Ok(()) => shared.spare.names_are_durable(),
        Err(error) => {
            tracing::warn!(%error, "the journal directory could not be synced after old files were deleted");
        }
    }
}
