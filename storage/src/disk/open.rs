//! Opening a data directory: everything is read and checked before anything is changed.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use super::shared::{Gate, Shared};
use super::{DiskStore, spill};
use crate::builder::{Builder, without_format};
use crate::directory::{self, Found, Layout, io_error};
use crate::failpoints::FailPoint;
use crate::journal::{self, Closed, FileScan, Journal, JournalFile, Scan, Tail};
use crate::overlay::{Layers, Written};
use crate::room::RoomWatch;
use crate::stats::Counters;
use crate::table::{self, Meta, Table, TableError};
use crate::values::FileId;
use crate::watermark::{Mark, Watermark};
use crate::{Epoch, Faults, OpenError, Options, Sequence, remedy};

/// What an open found and mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Whether the directory was empty.
    pub was_created: bool,
    /// The claim under which the store works from now on.
    pub epoch: Epoch,
    /// The last commit that is there.
    pub last_sequence: Sequence,
    /// The last commit that was in the table.
    pub spilled_sequence: Sequence,
    /// How many records the table holds.
    pub table_records: u64,
    /// How many batches were read from the journal.
    pub frames_replayed: u64,
    /// How many bytes of a torn last write were cut from the journal. Nobody was told that they were stored.
    pub torn_bytes_cut: u64,
    /// How many journal files were deleted that a crash had left behind.
    pub old_files_deleted: u64,
}

impl DiskStore {
    /// Opens the data directory `dir`, creates it if it is absent or empty, and becomes its writer under the next epoch,
    /// which is durable when this returns.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then, but that a ballast may have been given up on a full disk.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<(Self, Opened), OpenError> {
        let options = options.checked();
        let layout = Layout::new(dir.as_ref());
        let (lock, found) = directory::claim(&layout)?;
        let room = RoomWatch::new(&layout, &options);
        room.make_room_to_open();
        let was_created = found == Found::Fresh;
        let table = match found {
            Found::Fresh => Some(create(&layout, &options)?),
            Found::Ours => None,
        };
        let mut watermark = Watermark::open(&layout.watermark())?;
        let after = watermark.mark().sequence;
        let (scan, batches) =
            journal::scan(&layout.journal(), after, |kept| Written::of(kept.sequence, kept.batch, kept.at))?;
        // The table first: what is wrong with it or beneath it, only a restore or a salvage helps against, and a journal
        // that is damaged too would name a repair, which refuses then.
        let table = table.map_or_else(|| open_table(&layout, &options), Ok)?;
        let meta = check_against_mark(&table, watermark.mark())?;
        table.values().check(&table.live())?;
        if let Some(damage) = &scan.damage {
            return Err(damage.clone().into_error());
        }
        check_against_journal(&layout, &scan, meta, watermark.mark())?;
        let value_files = table.values().list()?;
        options.failpoints.pass(FailPoint::DuringRecovery);

        // Before anything is raised or begun upon what was read.
        journal::make_durable(&scan, watermark.mark().committed, &options.faults)?;
        sync_if_ahead(&table, &mut watermark, meta)?;
        table.values().make_dir()?;
        bring_up_to_date(&layout, &table)?;
        let mut opened = Opened {
            was_created,
            epoch: Epoch(scan.epoch().0 + 1),
            last_sequence: Sequence(scan.last()),
            spilled_sequence: Sequence(meta.sequence),
            table_records: meta.records_now,
            frames_replayed: 0,
            torn_bytes_cut: scan.torn_bytes(),
            old_files_deleted: 0,
        };
        cut_torn_tail(&scan, &options.faults)?;
        let closed = retire_old_files(&layout, &scan, &table, meta.sequence, &mut opened)?;
        delete_unused(&table, &value_files)?;
        let journal = Journal::begin(&layout.journal(), opened.epoch, scan.last(), &options)
            .map_err(|source| io_error(&layout.journal(), source))?;
        let mark = Mark { epoch: opened.epoch.0, committed: scan.last(), ..watermark.mark() };
        watermark.write(mark).map_err(|source| io_error(watermark.path(), source))?;
        let layers = replay(batches, meta.sequence, &mut opened);
        table.values().frames().keep(options.frames_bytes_max());
        let shared = Arc::new(Shared {
            layers: RwLock::new(layers),
            table,
            gate: Gate::default(),
            counters: Counters::default(),
            room,
            closed_files: Mutex::new(closed),
            spares: Arc::clone(journal.spares()),
            spilled: AtomicU64::new(meta.sequence),
            epoch: opened.epoch,
            failure: Mutex::new(None),
            layout,
            options,
            lock: Mutex::new(Some(lock)),
        });
        Ok((start(shared, journal, watermark)?, opened))
    }
}

fn start(shared: Arc<Shared>, journal: Journal, watermark: Watermark) -> Result<DiskStore, OpenError> {
    let spill = std::thread::Builder::new().name("escrow-spill".into()).spawn({
        let shared = Arc::clone(&shared);
        move || spill::run(&shared, watermark)
    });
    let spill = Some(spill.map_err(|source| io_error(&shared.layout.root, source))?);
    let mut store = DiskStore { shared, journal, spill, freezes_seen: 0, cleared_away: None };
    // What was replayed may be more than an overlay should hold.
    store.freeze_if_large();
    // The first look sets the ballast aside.
    store.shared.room();
    Ok(store)
}

/// Makes an empty directory a data directory.
fn create(layout: &Layout, options: &Options) -> Result<Table, OpenError> {
    let interrupted = layout.watermark().exists()
        && Watermark::open(&layout.watermark()).is_ok_and(|watermark| watermark.mark().sequence > 0);
    if interrupted {
        return Err(without_format(layout));
    }
    remove_unbegun_table(layout)?;
    let table = Builder::begin(layout, options)?.finish(0, Epoch(0), options)?;
    directory::write_format(layout)?;
    Ok(table)
}

/// sled writes its settings before anything else. Cut short by a full disk or a power cut they would keep it from opening
/// for good, so a table whose file is still empty is begun anew.
fn remove_unbegun_table(layout: &Layout) -> Result<(), OpenError> {
    let dir = layout.table();
    if !dir.exists() || table::has_bytes(&dir) {
        return Ok(());
    }
    std::fs::remove_dir_all(&dir).map_err(|source| io_error(&dir, source))
}

fn open_table(layout: &Layout, options: &Options) -> Result<Table, OpenError> {
    // sled would create an empty one without a word.
    if !table::exists(&layout.table()) {
        return Err(table::lost(&layout.table(), "the table is missing".into()));
    }
    Table::open(&layout.table(), options.table_cache_bytes, options.table_open_limit)
}

/// A table never holds less than what the watermark says.
pub(crate) fn check_against_mark(table: &Table, mark: Mark) -> Result<Meta, OpenError> {
    let dir = table.path();
    let dir = dir.parent().unwrap_or(&dir);
    let Some(meta) = table.meta() else {
        return Err(table::damaged(dir, "the table opened empty".into()));
    };
    if meta.sequence < mark.sequence {
        let fault =
            format!("the table opened as of sequence {}, it had reached {}", meta.sequence, mark.sequence);
        return Err(table::damaged(dir, fault));
    }
    if meta.sequence == mark.sequence && meta.records != mark.records {
        let fault = format!("the table opened with {} records instead of {}", meta.records, mark.records);
        return Err(table::damaged(dir, fault));
    }
    Ok(meta)
}

/// Journal and table together must have no gap.
pub(crate) fn check_against_journal(
    layout: &Layout,
    scan: &Scan,
    meta: Meta,
    mark: Mark,
) -> Result<(), OpenError> {
    let fault = match scan.files.first() {
        None => "there is no journal file".to_owned(),
        Some(oldest) if oldest.header.first > meta.sequence + 1 => {
            format!(
                "the journal begins with sequence {}, the table ends with {}",
                oldest.header.first, meta.sequence
            )
        }
        Some(_) if scan.last() < meta.sequence => {
            format!("the journal ends with sequence {}, the table with {}", scan.last(), meta.sequence)
        }
        Some(_) if scan.last() < mark.committed => {
            format!(
                "the journal ends with sequence {}, the store had reached {}",
                scan.last(),
                mark.committed
            )
        }
        Some(_) if scan.epoch().0 < mark.epoch => {
            format!("the journal ends with epoch {}, the store had reached {}", scan.epoch().0, mark.epoch)
        }
        Some(_) => return Ok(()),
    };
    // What is missing is missing behind the newest, or before the oldest: its name is where to look.
    let is_at_the_end = scan.files.first().is_some_and(|oldest| oldest.header.first <= meta.sequence + 1);
    let file = if is_at_the_end { scan.files.last() } else { scan.files.first() };
    Err(OpenError::Damaged {
        file: file.map_or_else(|| layout.journal(), |file| file.path.clone()),
        fault,
        remedy: format!(
            "{}, or {}",
            remedy::RESTORE,
            remedy::repair(&layout.root, "give up what is missing")
        ),
    })
}

/// A crash between writing the table and writing the watermark leaves a table that is ahead, and that may be in the
/// system's memory only. It is synced before its journal goes.
fn sync_if_ahead(table: &Table, watermark: &mut Watermark, meta: Meta) -> Result<(), OpenError> {
    if meta.sequence == watermark.mark().sequence {
        return Ok(());
    }
    table
        .sync(&crate::FailPoints::off())
        .map_err(|error| io_error(&table.path(), std::io::Error::other(error.to_string())))?;
    let mark = Mark { sequence: meta.sequence, records: meta.records, ..watermark.mark() };
    watermark.write(mark).map_err(|source| io_error(watermark.path(), source))
}

/// A table of format 1 is moved into the present one. `FORMAT` first: an older release must not take what is half moved
/// for its own.
fn bring_up_to_date(layout: &Layout, table: &Table) -> Result<(), OpenError> {
    let moved = |result: Result<bool, TableError>| match result {
        Ok(answer) => Ok(answer),
        Err(TableError::Io(source)) => Err(io_error(&table.path(), source)),
        Err(error) => Err(table::damaged(&layout.table(), error.to_string())),
    };
    if directory::is_older(layout)? {
        directory::write_format(layout)?;
    }
    if !moved(table.has_legacy())? {
        return Ok(());
    }
    let records = table.meta().unwrap_or_default().records_now;
    tracing::info!(records, "a data directory of format 1 is brought up to date");
    moved(table.move_legacy().and_then(|()| table.sync(&crate::FailPoints::off())).map(|()| true))?;
    tracing::info!(records, "the data directory is up to date");
    Ok(())
}

fn cut_torn_tail(scan: &Scan, faults: &Faults) -> Result<(), OpenError> {
    let Some(newest) = scan.files.last().filter(|file| file.tail != Tail::Clean) else { return Ok(()) };
    if newest.tail == Tail::Torn {
        tracing::warn!(
            file = %newest.path.display(),
            offset = newest.end,
            bytes = scan.torn_bytes(),
            "a torn last write was cut from the journal"
        );
    }
    let cut = JournalFile::open(&newest.path, faults).and_then(|file| {
        file.cut(newest.end)?;
        file.sync_all()
    });
    cut.map_err(|source| io_error(&newest.path, source))
}

/// Takes the files that the table has overtaken out of the journal, oldest first; returns the others that hold batches.
fn retire_old_files(
    layout: &Layout,
    scan: &Scan,
    table: &Table,
    spilled: u64,
    opened: &mut Opened,
) -> Result<Vec<Closed>, OpenError> {
    journal::delete_leftovers(&layout.journal()).map_err(|source| io_error(&layout.journal(), source))?;
    let mut closed = Vec::new();
    // A newest file without a batch is replaced by the one that is begun now.
    for file in scan.files.iter().filter(|file| file.frames > 0) {
        // The newest file keeps the epoch until the next one is there.
        let is_newest = Some(&file.path) == scan.files.last().map(|newest| &newest.path);
        if file.last <= spilled && !is_newest {
            let retired = spill::keep_for_values(table, &as_closed(file))
                .and_then(|is_kept| if is_kept { Ok(()) } else { std::fs::remove_file(&file.path) });
            retired.map_err(|source| io_error(&file.path, source))?;
            opened.old_files_deleted += 1;
        } else {
            closed.push(as_closed(file));
        }
    }
    Ok(closed)
}

/// Deletes files of values into which nothing points: a crash came between writing them and pointing to them, or between
/// letting go of them and deleting them.
fn delete_unused(table: &Table, value_files: &[FileId]) -> Result<(), OpenError> {
    let values = table.values();
    for id in value_files.iter().filter(|id| !table.points_into(**id)) {
        values.delete(*id).map_err(|source| io_error(&values.path(*id), source))?;
    }
    values.sync_dir().map_err(|source| io_error(values.dir(), source))
}

fn as_closed(file: &FileScan) -> Closed {
    Closed {
        path: file.path.clone(),
        id: FileId::journal(file.header.first),
        last: file.last,
        bytes: file.end,
    }
}

fn replay(batches: Vec<Written>, spilled: u64, opened: &mut Opened) -> Layers {
    let mut layers = Layers::new(spilled);
    for written in batches.into_iter().filter(|written| written.sequence() > spilled) {
        layers.apply(written);
        opened.frames_replayed += 1;
    }
    layers
}
