//! Reading everything and naming what is wrong, without changing anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::directory::{self, Layout};
use crate::disk::{self, Shared};
use crate::journal::{self, Kept, Scan};
use crate::table::{self, Lost, Table};
use crate::watermark::{Mark, Watermark};
use crate::{Key, OpenError, Options, ReadError, Sequence, Snapshot, hex, remedy};

/// So many findings are listed; the rest is counted.
const FINDINGS_MAX: usize = 1000;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file it is in.
    pub file: PathBuf,
    /// What does not fit, with the key or the offset.
    pub fault: String,
    /// What helps.
    pub remedy: String,
}

/// What was read, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many journal files were read.
    pub journal_files: u64,
    /// How many whole frames they hold.
    pub frames: u64,
    /// The last whole commit.
    pub last_sequence: Sequence,
    /// Bytes of a torn last write. No fault: the next open cuts them.
    pub torn_bytes: u64,
    /// How many records of the table were read.
    pub table_records: u64,
    /// What is wrong, at most 1000.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub findings_left_out: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }

    /// Adds damage; passes any other error on.
    fn add_error(&mut self, error: OpenError) -> Result<(), OpenError> {
        match error {
            OpenError::Damaged { file, fault, remedy } => {
                self.add(Finding { file, fault, remedy });
                Ok(())
            }
            OpenError::NotOurs { path, fault } => {
                let remedy = "move what is not Escrow's out of the directory".into();
                self.add(Finding { file: path, fault, remedy });
                Ok(())
            }
            other => Err(other),
        }
    }

    fn add_lost(&mut self, file: &Path, lost: Lost) {
        let fault = match lost.key {
            Some(key) => format!("the record at key {}: {}", hex::of(&key), lost.fault),
            None => lost.fault,
        };
        let salvage = remedy::salvage(remedy::root_above(file, 2));
        self.add(Finding { file: file.into(), fault, remedy: format!("{}, or {salvage}", remedy::RESTORE) });
    }
}

/// Checks a data directory that no process has open.
///
/// # Errors
/// [`OpenError`] if it cannot be looked at: locked, newer, not ours, or the system refuses. Damage is in the report.
pub fn verify(dir: impl AsRef<Path>, options: &Options) -> Result<VerifyReport, OpenError> {
    let layout = Layout::new(dir.as_ref());
    let options = options.clone().checked();
    let mut report = VerifyReport::default();
    let (_lock, format) = directory::claim_existing(&layout)?;
    format.map_or(Ok(()), |error| report.add_error(error))?;
    let mark = match Watermark::open(&layout.watermark()) {
        Ok(watermark) => Some(watermark.mark()),
        Err(error) => {
            report.add_error(error)?;
            None
        }
    };
    let table = table::exists(&layout.table())
        .then(|| Table::open(&layout.table(), options.table_cache_bytes, options.table_open_limit));
    // A repair of the journal refuses where the table, or what it points to, is damaged: nobody is sent there then.
    let can_repair = table.as_ref().is_some_and(|table| {
        table.as_ref().is_ok_and(|table| {
            let fits = disk::check_against_mark(table, mark.unwrap_or_default());
            fits.is_ok() && table.values().check(&table.live()).is_ok()
        })
    });
    let (scan, rewritten) = check_journal(&layout, mark.unwrap_or_default(), can_repair, &mut report)?;
    match table {
        None => report.add_error(table::lost(&layout.table(), "the table is missing".into()))?,
        Some(Ok(table)) => check_table(&layout, &table, mark, &scan, &rewritten, &mut report)?,
        Some(Err(error)) => report.add_error(error)?,
    }
    Ok(report)
}

/// Checks a store that is open, as of `snapshot`. The newest journal file is left out: it is being written.
pub(crate) fn verify_running(shared: &Shared, snapshot: &Snapshot) -> Result<VerifyReport, ReadError> {
    let mut report = VerifyReport { last_sequence: snapshot.sequence(), ..VerifyReport::default() };
    for file in shared.closed() {
        let finding = match journal::check_closed(&file.path, Some(file.last)) {
            Ok(frames) => {
                report.journal_files += 1;
                report.frames += frames;
                continue;
            }
            Err(error) => error,
        };
        // A file that a spill has just overtaken is gone; that is no fault.
        if file.path.exists() {
            report.add_error(finding).map_err(|error| ReadError::Failed(error.to_string()))?;
        }
    }
    scrub(shared.table(), &BTreeSet::new(), &mut report)?;
    Ok(report)
}

/// Reads the journal; goes on behind damage, file by file, to name all of it.
///
/// Beside it, the keys that are in it: what it holds will be written again, so that damage to them in the table heals by
/// itself.
fn check_journal(
    layout: &Layout,
    mark: Mark,
    can_repair: bool,
    report: &mut VerifyReport,
) -> Result<(Scan, BTreeSet<Key>), OpenError> {
    let keys = |kept: Kept| kept.batch.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let (scan, rewritten) = match journal::scan(&layout.journal(), mark.sequence, keys) {
        Ok(read) => read,
        Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            report.add_error(OpenError::Damaged {
                file: layout.journal(),
                fault: "it is missing".into(),
                remedy: remedy::RESTORE.into(),
            })?;
            return Ok((Scan::default(), BTreeSet::new()));
        }
        Err(error) => return Err(error),
    };
    report.journal_files = scan.files.len() as u64;
    report.frames = scan.files.iter().map(|file| file.frames).sum();
    report.last_sequence = Sequence(scan.last());
    if let Some(damage) = &scan.damage {
        report.add_error(with_remedy(damage.clone().into_error(), can_repair))?;
        for path in journal::paths_behind(&layout.journal(), &damage.path)? {
            match journal::check_closed(&path, None) {
                Ok(_) => {}
                Err(error) => report.add_error(with_remedy(error, can_repair))?,
            }
        }
    } else {
        report.torn_bytes = scan.torn_bytes();
    }
    Ok((scan, rewritten.into_iter().flatten().collect()))
}

/// Damage of the journal, with a remedy that works.
fn with_remedy(error: OpenError, can_repair: bool) -> OpenError {
    match error {
        OpenError::Damaged { file, fault, .. } if !can_repair => {
            let salvage = remedy::salvage(remedy::root_above(&file, 2));
            OpenError::Damaged { file, fault, remedy: format!("{}, or {salvage}", remedy::RESTORE) }
        }
        other => other,
    }
}

fn check_table(
    layout: &Layout,
    table: &Table,
    mark: Option<Mark>,
    scan: &Scan,
    rewritten: &BTreeSet<Key>,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    // Without a watermark the table is taken at its word.
    let mark = mark.unwrap_or_default();
    let fits = disk::check_against_mark(table, mark).and_then(|meta| match scan.damage {
        None => disk::check_against_journal(layout, scan, meta, mark),
        // That it then ends too soon goes without saying.
        Some(_) => Ok(()),
    });
    fits.or_else(|error| report.add_error(error))?;
    table.values().check(&table.live()).or_else(|error| report.add_error(error))?;
    table.values().list().map(drop).or_else(|error| report.add_error(error))?;
    scrub(table, rewritten, report)
        .map_err(|error| directory::io_error(&table.path(), std::io::Error::other(error)))
}

/// Reads every record of the table.
fn scrub(table: &Table, rewritten: &BTreeSet<Key>, report: &mut VerifyReport) -> Result<(), ReadError> {
    let path = table.path();
    let scrub = table.scrub::<ReadError>(&mut |_, _| Ok(()))?;
    report.table_records = scrub.records;
    for lost in scrub.lost {
        if lost.key.as_ref().is_none_or(|key| !rewritten.contains(key)) {
            report.add_lost(&path, lost);
        }
    }
    let expected = table.meta().unwrap_or_default().records_now;
    if expected != report.table_records {
        let fault = format!("{} records were found, {expected} were written", report.table_records);
        report.add_lost(&path, Lost::somewhere(fault));
    }
    Ok(())
}
