//! Saving what can be read of a damaged directory into a new one.
//!
//! Changes nothing in the old one.

use std::path::Path;

use crate::builder::Builder;
use crate::directory::{self, Layout};
use crate::table::{Lost, Table};
use crate::watermark::Watermark;
use crate::{Edit, Epoch, Key, OpenError, Options, ReadError, Sequence, hex, journal};

/// What was saved and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SalvageReport {
    /// How many records the new directory holds.
    pub records: u64,
    /// The last commit in it.
    pub last_sequence: Sequence,
    /// Each record that was lost: its key in hexadecimal, or the stretch in which an unknown number is, and the fault.
    pub lost: Vec<String>,
}

/// Writes all readable records of `dir` (its table, and on top the whole batches of its journal) to `into`, which must
/// be empty or absent.
///
/// # Errors
/// [`OpenError`]; `into` is then no data directory. A table that does not open at all cannot be saved: restore a backup.
pub fn salvage(
    dir: impl AsRef<Path>,
    into: impl AsRef<Path>,
    options: &Options,
) -> Result<SalvageReport, OpenError> {
    let options = options.clone().checked();
    let from = Layout::new(dir.as_ref());
    let to = Layout::new(into.as_ref());
    let (_lock, _format) = directory::claim_existing(&from)?;
    let (_new_lock, found) = directory::claim(&to)?;
    if found == directory::Found::Ours {
        return Err(OpenError::NotOurs { path: to.root, fault: "it is a data directory already".into() });
    }
    let mark = Watermark::open(&from.watermark()).map(|watermark| watermark.mark()).unwrap_or_default();
    let (scan, batches) = journal::scan(&from.journal(), 0, |kept| (kept.sequence, kept.batch))?;
    let table = Table::open_to_save(&from.table(), options.table_cache_bytes, options.table_open_limit)?;
    let mut builder = Builder::begin(&to, &options)?;

    let scrubbed = table.scrub::<Failure>(&mut |key, value| Ok(builder.add(key, Edit::Put(value))?));
    let scrub = scrubbed.map_err(|Failure(error)| error)?;
    let meta = table.meta().unwrap_or_default();
    let mut lost = scrub.lost;
    // sled can lose records without a word: their number is all that is known of them.
    if scrub.records != meta.records_now {
        let fault = format!("{} records were found, {} were written", scrub.records, meta.records_now);
        lost.push(Lost::somewhere(fault));
    }
    let mut batches = batches.into_iter().filter(|(sequence, _)| *sequence > meta.sequence).peekable();
    let first_batch = batches.peek().map(|(sequence, _)| *sequence);
    for (_, batch) in batches {
        for (key, edit) in batch {
            // What the journal wrote again is not lost.
            lost.retain(|lost| lost.key.as_ref() != Some(&key));
            builder.add(key, edit)?;
        }
    }
    if let Some(damage) = &scan.damage {
        let fault = format!("the journal behind sequence {}: {}", damage.good, damage.fault);
        lost.push(Lost::somewhere(fault));
    }
    let last = meta.sequence.max(scan.last()).max(mark.sequence).max(mark.committed);
    lost.extend(lost_commits(meta.sequence, first_batch, scan.last(), last));
    let epoch = journal::Remains::of(&from.journal())?.epoch.max(Epoch(mark.epoch));
    let new_table = builder.finish(last, epoch, &options)?;
    let records = new_table.meta().unwrap_or_default().records;
    new_table.close();
    directory::write_format(&to)?;
    Ok(SalvageReport {
        records,
        last_sequence: Sequence(last),
        lost: lost.into_iter().map(describe).collect(),
    })
}

/// The commits that are neither in the table, which holds those up to `spilled`, nor in the journal, which holds those from
/// `first_batch` to `journal_last` beside.
fn lost_commits(spilled: u64, first_batch: Option<u64>, journal_last: u64, last: u64) -> Vec<Lost> {
    let behind_table = (spilled + 1, first_batch.map_or(last, |first| first - 1));
    let behind_journal = (first_batch.map_or(last, |_| journal_last) + 1, last);
    let gaps = [behind_table, behind_journal].into_iter().filter(|(first, last)| first <= last);
    gaps.map(|(first, last)| Lost::somewhere(format!("the commits {first} to {last}"))).collect()
}

fn describe(lost: Lost) -> String {
    let name = |key: Key| format!("{}: ", hex::of(&key));
    format!("{}{}", lost.key.map(name).unwrap_or_default(), lost.fault)
}

/// A failed disk on either side.
struct Failure(OpenError);

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self(OpenError::Io { path: "table".into(), source: std::io::Error::other(error) })
    }
}
