//! Mending a directory that does not open: small files are written again, a damaged journal is cut where the damage
//! begins. What that costs is named, and nothing is given up without consent.
//!
//! Must never touch a table: that is saved by a salvage into a new directory, or restored.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::directory::{self, Layout, io_error, sync_dir};
use crate::journal::frame::Header;
use crate::journal::{self, Damage, Scan};
use crate::table::{self, Meta, Table};
use crate::values::{FileId, Values};
use crate::watermark::{Mark, Watermark};
use crate::{Epoch, Faults, OpenError, Options};

/// An epoch that cannot be read any more is passed over by this much: no store is opened so often.
const EPOCH_MARGIN: u64 = 1_000_000;

/// What the caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Only say what would be done and lost.
    LookOnly,
    /// Do it, and give up the commits that are named as lost.
    GiveUpLostCommits,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Whether anything was changed.
    pub was_done: bool,
    /// The commits that are given up. They were acknowledged.
    pub lost_sequences: Option<RangeInclusive<u64>>,
    /// What is mended, in words, with the file.
    pub steps: Vec<(PathBuf, String)>,
}

/// Why nothing was mended.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The table is damaged; no repair in place can bring back what it lost. Remedy: restore a backup, or salvage.
    #[error("the table cannot be mended in place: {0}")]
    Table(#[source] OpenError),
    /// The directory cannot be opened or written.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Mends `dir`, which no process may have open.
///
/// # Errors
/// [`RepairError`]. With [`Consent::LookOnly`] nothing is changed.
pub fn repair(
    dir: impl AsRef<Path>,
    options: &Options,
    consent: Consent,
) -> Result<RepairReport, RepairError> {
    let layout = Layout::new(dir.as_ref());
    let options = options.clone().checked();
    let (_lock, format) = directory::claim_existing(&layout)?;
    let (meta, mark, pointed_into) = read_table(&layout, &options)?;
    let mark_is_damaged = mark.is_none();
    let (scan, _) = journal::scan(&layout.journal(), meta.sequence, |_| ())?;
    let cut = Cut::plan(&layout, &scan, meta, mark.unwrap_or_default())?;

    let mut report = RepairReport::default();
    if let Some(error) = &format {
        report.steps.push((layout.format(), format!("written again, because {error}")));
    }
    if mark_is_damaged {
        let step = format!("written again from the table, as of sequence {}", meta.sequence);
        report.steps.push((layout.watermark(), step));
    }
    if let Some(cut) = &cut {
        report.steps.extend(cut.steps());
        report.lost_sequences = cut.lost.clone();
    }
    if consent == Consent::LookOnly || report.steps.is_empty() {
        return Ok(report);
    }
    // What is kept is noted as committed below, and a next file may begin behind it.
    let committed = mark.map_or(0, |mark| mark.committed);
    journal::make_durable(&scan, committed, &options.faults)?;
    let mut mark = mark.unwrap_or(Mark { sequence: meta.sequence, records: meta.records, ..Mark::default() });
    (mark.epoch, mark.committed) = (mark.epoch.max(scan.epoch().0), scan.last());
    if let Some(cut) = &cut {
        cut.run(&layout, &pointed_into)?;
        (mark.epoch, mark.committed) = (cut.next.epoch.0, cut.next.first - 1);
    }
    if cut.is_some() || mark_is_damaged {
        Watermark::create(&layout.watermark(), mark)?;
    }
    if format.is_some() {
        directory::write_format(&layout)?;
    }
    report.was_done = true;
    Ok(report)
}

/// What the table says of itself, the watermark unless it has to be written again, and the files into which it points.
fn read_table(
    layout: &Layout,
    options: &Options,
) -> Result<(Meta, Option<Mark>, HashSet<FileId>), RepairError> {
    let mark = match Watermark::open(&layout.watermark()) {
        Ok(watermark) => Some(watermark.mark()),
        Err(OpenError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if !table::exists(&layout.table()) {
        return Err(RepairError::Table(table::lost(&layout.table(), "it is missing".into())));
    }
    let table = Table::open(&layout.table(), options.table_cache_bytes, options.table_open_limit)
        .map_err(RepairError::Table)?;
    let meta =
        crate::disk::check_against_mark(&table, mark.unwrap_or_default()).map_err(RepairError::Table)?;
    table.values().check(&table.live()).map_err(RepairError::Table)?;
    Ok((meta, mark, table.live().into_keys().collect()))
}

/// What happens to the journal.
#[derive(Debug)]
struct Cut {
    /// Where the damage is.
    damage: Damage,
    /// This file is cut at this length.
    shortened: Option<(PathBuf, u64)>,
    /// These are deleted.
    deleted: Vec<PathBuf>,
    /// An empty file with this header ends the journal.
    next: Header,
    lost: Option<RangeInclusive<u64>>,
}

impl Cut {
    /// `None` if the journal is whole and fits the table.
    fn plan(layout: &Layout, scan: &Scan, meta: Meta, mark: Mark) -> Result<Option<Self>, OpenError> {
        let Some(damage) = scan.damage.clone().or_else(|| misfit(layout, scan, meta, mark)) else {
            return Ok(None);
        };
        let behind = journal::Remains::of(&layout.journal())?;
        let known = behind.epoch.0.max(mark.epoch);
        let epoch = if behind.has_unreadable { known + EPOCH_MARGIN } else { known };
        // Good batches are kept only if they continue the table without a gap.
        let continues = scan.files.first().is_some_and(|oldest| oldest.header.first <= meta.sequence + 1);
        let is_useful = continues && scan.last() > meta.sequence;
        let last = if is_useful { scan.last() } else { meta.sequence };
        let kept: Vec<_> = scan.files.iter().filter(|file| is_useful && file.frames > 0).collect();
        let shortened = kept.last().filter(|file| file.end < file.size);
        let end = behind.last.max(mark.committed);
        let deleted = behind.paths.iter().filter(|path| kept.iter().all(|file| file.path != **path));
        Ok(Some(Self {
            damage,
            shortened: shortened.map(|file| (file.path.clone(), file.end)),
            deleted: deleted.cloned().collect(),
            next: Header { epoch: Epoch(epoch), first: last + 1, is_reused: false },
            lost: (end > last).then_some(last + 1..=end),
        }))
    }

    fn steps(&self) -> Vec<(PathBuf, String)> {
        let damage = format!("damaged at offset {}: {}", self.damage.offset, self.damage.fault);
        let mut steps = vec![(self.damage.path.clone(), damage)];
        steps.extend(self.shortened.iter().map(|(path, end)| (path.clone(), format!("cut at offset {end}"))));
        steps.extend(self.deleted.iter().map(|path| (path.clone(), "deleted".to_owned())));
        steps
    }

    /// Newest first, so that a crash half-way leaves a journal that is damaged no worse than before. A file into which
    /// the table points leaves the journal, but stays.
    fn run(&self, layout: &Layout, pointed_into: &HashSet<FileId>) -> Result<(), OpenError> {
        let dir = layout.journal();
        let values = Values::of(&layout.root);
        values.make_dir()?;
        for path in self.deleted.iter().rev() {
            let id = journal::first_of(path).map(FileId::journal).filter(|id| pointed_into.contains(id));
            let retired = match id {
                Some(id) => values.adopt(path, id).and_then(|()| values.sync_dir()),
                None => std::fs::remove_file(path),
            };
            retired.map_err(|source| io_error(path, source))?;
        }
        if let Some((path, end)) = &self.shortened {
            let file = OpenOptions::new().write(true).open(path);
            let cut = file.and_then(|file| {
                file.set_len(*end)?;
                file.sync_all()
            });
            cut.map_err(|source| io_error(path, source))?;
        }
        sync_dir(&dir).map_err(|source| io_error(&dir, source))?;
        journal::create_file(&dir, &self.next, &Faults::default())
            .map_err(|error| io_error(&dir, error.into()))?;
        Ok(())
    }
}

/// A journal that is whole in itself, but does not continue the table.
fn misfit(layout: &Layout, scan: &Scan, meta: Meta, mark: Mark) -> Option<Damage> {
    let error = crate::disk::check_against_journal(layout, scan, meta, mark).err()?;
    Some(Damage { path: layout.journal(), offset: 0, fault: error.to_string(), good: meta.sequence })
}
