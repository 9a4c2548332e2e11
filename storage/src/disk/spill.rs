//! The thread that moves frozen overlays to the table, and then drops the journal below them.
//!
//! The only writer of the table, of files of values and of the watermark. Must never drop a journal file before the table
//! is synced and the watermark durable, and never one into which the table points.

use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::shared::{GateState, Shared};
use crate::clock;
use crate::directory::sync_dir;
use crate::failpoints::{FailPoint, FailPoints};
use crate::faults::Operation;
use crate::journal::Closed;
use crate::lock::{lock, read, write};
use crate::overlay::{Frozen, Overlay};
use crate::stats::Counters;
use crate::table::{Change, NewValue, Outcome, Table};
use crate::values::{FileId, Held};
use crate::watermark::{Mark, Watermark};

/// How often a spill that waits for room on disk looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A journal file is kept for the values in it if they are at least this share of its bytes, in percent. Of one that
/// holds less they are copied: what is kept on disk for nothing stays below the rest.
const KEEP_PERCENT: u64 = 50;
/// A file of values of which less than this is still in use, in percent, is emptied into another.
const EMPTY_PERCENT: u64 = 50;
/// So many of those are emptied after one spill: what waits for the next one must not wait long.
const EMPTIED_MAX: usize = 2;
/// What emptying may write: of each file less than half, of small ones all.
const EMPTYING_BYTES: u64 = 256 << 20;
/// Files of copies that are smaller than this are put together when there are [`SMALL_FILES_MAX`] of them.
const SMALL_FILE_BYTES: u64 = 1 << 20;
const SMALL_FILES_MAX: usize = 32;

/// Runs until the store is closed or the table fails; gives the watermark back.
pub(super) fn run(shared: &Arc<Shared>, mut watermark: Watermark) -> Watermark {
    // Files that cannot be emptied, until the next start.
    let mut stuck = HashSet::new();
    while let Some(frozen) = next(shared) {
        // Were it to die of a panic, commits would wait and snapshots hang without a word.
        let caught = catch_unwind(AssertUnwindSafe(|| spill(shared, &frozen, &mut watermark, &mut stuck)));
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

fn spill(
    shared: &Shared,
    frozen: &Frozen,
    watermark: &mut Watermark,
    stuck: &mut HashSet<FileId>,
) -> Result<(), String> {
    let started = clock::now();
    let failpoints = &shared.options.failpoints;
    let is_stopped = || lock(&shared.gate.state).is_stopping;
    let used_before: Vec<FileId> = shared.table.live().into_keys().collect();
    let kept = worth_keeping(&frozen.overlay);
    let changes = frozen.overlay.iter().map(|(key, edit)| {
        let value = edit.value().map(|held| match held {
            Held::Inline(value) => NewValue::Here(value),
            Held::At(pointer) if kept.contains(&pointer.at.file) => NewValue::At(pointer),
            Held::At(pointer) => NewValue::Leaving(pointer),
        });
        Change { key, value }
    });
    let applied = shared.table.apply(changes, frozen.last, &is_stopped, failpoints);
    let meta = match applied.map_err(|error| error.to_string())? {
        Outcome::Done(meta) => meta,
        // The journal still holds all of it.
        Outcome::Stopped => return Ok(()),
    };
    // Emptying writes before it frees: on a disk that is nearly full that would end the store.
    let may_empty = !is_stopped() && shared.room.has_room_for(EMPTYING_BYTES);
    let emptied = if may_empty { empty_sparse(&shared.table, stuck, failpoints)? } else { Vec::new() };
    shared.table.sync(failpoints).map_err(|error| error.to_string())?;
    let committed = read(&shared.layers).last();
    let mark = Mark { sequence: meta.sequence, records: meta.records, epoch: shared.epoch.0, committed };
    watermark.write(mark).map_err(|error| format!("{}: {error}", watermark.path().display()))?;
    shared.spilled.store(mark.sequence, Ordering::Release);
    // Counted first: who sees nothing frozen sees it counted.
    Counters::add(&shared.counters.spills, 1);
    let dropped = write(&shared.layers).drop_frozen();
    drop(dropped);
    failpoints.pass(FailPoint::BeforeJournalDrop);
    let unused = used_before.into_iter().chain(emptied).filter(|id| !shared.table.points_into(*id));
    let_go(shared, mark.sequence, unused.collect());
    if let Some(observer) = &shared.options.observer {
        observer.spilled(frozen.overlay.len() as u64, clock::now() - started);
    }
    Ok(())
}

/// The journal files that are kept for the values in them.
fn worth_keeping(overlay: &Overlay) -> HashSet<FileId> {
    let mut of_values: HashMap<FileId, u64> = HashMap::new();
    for (_, edit) in overlay.iter() {
        if let Some(Held::At(pointer)) = edit.value() {
            *of_values.entry(pointer.at.file).or_default() += u64::from(pointer.length);
        }
    }
    let written = overlay.journal_bytes();
    let is_worth = |(id, bytes): &(FileId, u64)| {
        bytes * 100 >= written.get(id).copied().unwrap_or(u64::MAX / 100) * KEEP_PERCENT
    };
    of_values.into_iter().filter(is_worth).map(|(id, _)| id).collect()
}

/// Moves what is left in files of values that are mostly unused, and what lies in many small ones; which were looked at.
fn empty_sparse(
    table: &Table,
    stuck: &mut HashSet<FileId>,
    failpoints: &FailPoints,
) -> Result<Vec<FileId>, String> {
    let mut sparse: Vec<(u64, FileId)> = Vec::new();
    let mut small = Vec::new();
    for (id, live) in table.live().into_iter().filter(|(id, _)| !stuck.contains(id)) {
        // One that is still in the journal is looked at when it has left it.
        let Ok(metadata) = table.values().path(id).metadata() else { continue };
        if live.bytes * 100 < metadata.len() * EMPTY_PERCENT {
            sparse.push((live.bytes, id));
        } else if metadata.len() < SMALL_FILE_BYTES && id.copies_number().is_some() {
            small.push(id);
        }
    }
    sparse.sort_unstable();
    let mut files: Vec<FileId> = sparse.into_iter().take(EMPTIED_MAX).map(|(_, id)| id).collect();
    if small.len() >= SMALL_FILES_MAX {
        files.append(&mut small);
    }
    stuck.extend(table.relocate(&files, failpoints).map_err(|error| error.to_string())?);
    Ok(files)
}

/// Takes a file out of the journal that the table has overtaken, if the table points into it; whether it does.
pub(super) fn keep_for_values(table: &Table, file: &Closed) -> io::Result<bool> {
    let is_kept = table.points_into(file.id);
    if is_kept {
        table.values().adopt(&file.path, file.id)?;
    } else {
        // It may be written over: nobody may read old values in it.
        table.values().forget(file.id);
    }
    Ok(is_kept)
}

/// Lets go of the journal files that hold nothing above `sequence`, and of the files of values `unused`, into which the durable
/// table points no more. Some are kept to be written over.
fn let_go(shared: &Shared, sequence: u64, unused: Vec<FileId>) {
    let done: Vec<Closed> = {
        let mut closed = lock(&shared.closed_files);
        let kept = closed.iter().position(|file| file.last > sequence).unwrap_or(closed.len());
        closed.drain(..kept).collect()
    };
    if !shared.room.has_room_for_spare(0) {
        shared.spares.give_up();
    }
    if done.is_empty() && unused.is_empty() {
        return;
    }
    // Oldest first, so that no gap can arise: behind one that stays, all stay, until the next spill.
    for (index, file) in done.iter().enumerate() {
        let retired = keep_for_values(&shared.table, file)
            .and_then(|is_kept| if is_kept { Ok(()) } else { retire(shared, &file.path, true) });
        if let Err(error) = retired {
            tracing::warn!(file = %file.path.display(), %error, "an old journal file could not be retired");
            lock(&shared.closed_files).splice(0..0, done[index..].iter().cloned());
            break;
        }
    }
    for id in unused {
        // Nobody may read old values in a file that is written over.
        shared.table.values().forget(id);
        if let Err(error) = retire(shared, &shared.table.values().path(id), id.copies_number().is_none()) {
            tracing::warn!(file = %id, %error, "an unused file of values could not be retired");
        }
    }
    shared.options.failpoints.pass(FailPoint::AfterJournalDrop);
    match sync_names(shared) {
        Ok(()) => shared.spares.names_are_durable(),
        Err(error) => {
            // A later sync may succeed without having written what this one should have.
            shared.spares.give_up_unnamed();
            tracing::warn!(%error, "the names of journal files could not be synced after old ones were retired");
        }
    }
}

fn sync_names(shared: &Shared) -> io::Result<()> {
    shared.options.faults.check(Operation::SyncNames).map_err(|(_, error)| error)?;
    shared.table.values().sync_dir()?;
    sync_dir(&shared.layout.journal())
}

/// Keeps the file at `path` to be written over, if `is_as_large` as a journal file is and there is room, or deletes it. One that is
/// not there was let go before, or is the journal's still.
fn retire(shared: &Shared, path: &Path, is_as_large: bool) -> io::Result<()> {
    let bytes = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    shared.options.faults.check(Operation::Retire).map_err(|(_, error)| error)?;
    shared.spares.retire(path, bytes, is_as_large && shared.room.has_room_for_spare(bytes))
}
