//! `escrow store`: the numbers of a store, whether it is sound, backups, and repair. With `--data-dir` on a directory
//! that no broker has open, without it through the broker.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use escrow_protocol::v1;
use escrow_storage::{
    Consent, DiskStore, OpenError, Opened, Options, RepairReport, RestoreError, SalvageReport, VerifyReport,
    backup, repair, restore, salvage, verify,
};
use futures::StreamExt;

use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::{CliError, not_made, not_opened, with_causes};
use crate::cli::output::{Bytes, Count};
use crate::cli::progress::Progress;
use crate::cli::view::{StoreStatsView, StoredStatsView, VerifyView};

/// What can be done with a store.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum StoreVerb {
    /// The numbers of the broker's store; with --data-dir those that lie in the directory, all of which is read.
    #[command(after_help = "Examples:
  escrow store stats -o json | jq .disk_free_bytes
  escrow store stats --data-dir ./escrow-data")]
    Stats {
        #[command(flatten)]
        offline: Offline,
    },
    /// Read everything and name what is damaged. Changes nothing. Status 1 if anything is.
    #[command(after_help = "Examples:
  escrow store verify
  escrow store verify --data-dir ./escrow-data")]
    Verify {
        #[command(flatten)]
        offline: Offline,
    },
    /// Write everything into one file, while the broker runs or from a directory.
    #[command(after_help = "Examples:
  escrow store backup --to escrow.backup
  escrow store backup --to - --data-dir ./escrow-data | gzip > escrow.backup.gz")]
    Backup {
        /// The file; must not exist. `-`: stdout.
        #[arg(long = "to", value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        offline: Offline,
    },
    /// Put a backup into an empty directory. Also the way to shrink a store: its table never shrinks by itself.
    #[command(after_help = "Examples:
  escrow store restore escrow.backup --data-dir ./escrow-data
  gzip -dc escrow.backup.gz | escrow store restore - --data-dir ./escrow-data")]
    Restore {
        /// The backup. `-`: stdin.
        file: PathBuf,
        /// Where to; must be empty or absent.
        #[arg(long, value_name = "DIRECTORY")]
        data_dir: PathBuf,
        /// Only check that the directory would do; the backup is not read.
        #[arg(long)]
        dry_run: bool,
    },
    /// Mend a damaged store in place, or save what is readable into another directory. Commits may be given up: take a
    /// copy of the directory first.
    #[command(after_help = "Examples:
  escrow store repair --data-dir ./escrow-data --dry-run
  escrow store repair --data-dir ./escrow-data --salvage-into ./escrow-saved")]
    Repair {
        /// The damaged store.
        #[arg(long, value_name = "DIRECTORY")]
        data_dir: PathBuf,
        /// Leave it as it is, and save what is readable here; must be empty or absent.
        #[arg(long, value_name = "DIRECTORY")]
        salvage_into: Option<PathBuf>,
        #[command(flatten)]
        caution: Caution,
    },
}

/// Without the broker.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Offline {
    /// Not through the broker, but on this directory, which no broker may have open.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

/// Does it.
pub(crate) async fn run(verb: StoreVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        StoreVerb::Stats { offline: Offline { data_dir: Some(data_dir) } } => {
            Ok(global.printer().one(&stats_of(&data_dir)?)?)
        }
        StoreVerb::Stats { offline: Offline { data_dir: None } } => {
            let stats =
                global.admin().await?.get_store_stats(v1::GetStoreStatsRequest {}).await?.into_inner();
            Ok(global.printer().one(&StoreStatsView::from(stats))?)
        }
        StoreVerb::Verify { offline } => verify_store(offline.data_dir.as_deref(), global).await,
        StoreVerb::Backup { file, offline } => match offline.data_dir {
            Some(data_dir) => backup_directory(&data_dir, &file),
            None => backup_broker(&file, global).await,
        },
        StoreVerb::Restore { file, data_dir, dry_run } => restore_into(&file, &data_dir, dry_run, global),
        StoreVerb::Repair { data_dir, salvage_into: Some(into), caution } => {
            salvage_into(&data_dir, &into, caution, global)
        }
        StoreVerb::Repair { data_dir, salvage_into: None, caution } => {
            repair_in_place(&data_dir, caution, global)
        }
    }
}

async fn verify_store(data_dir: Option<&Path>, global: &Global) -> Result<(), CliError> {
    let view = match data_dir {
        Some(data_dir) => view_of(&verify_directory(data_dir)?),
        None => {
            let answer = global
                .admin()
                .await?
                .verify_store(v1::VerifyStoreRequest { operator: global.operator(None) })
                .await?
                .into_inner();
            VerifyView::from(answer)
        }
    };
    global.printer().one(&view)?;
    if view.sound {
        Ok(())
    } else {
        Err(CliError::failed("the store is damaged; the remedies are named above"))
    }
}

/// Looks at a directory under its lock; claims nothing and changes nothing.
fn verify_directory(data_dir: &Path) -> Result<VerifyReport, CliError> {
    if !data_dir.is_dir() {
        return Err(CliError::failed(format!("there is no directory {}", data_dir.display())));
    }
    verify(data_dir, &Options::default()).map_err(open_in_words)
}

fn stats_of(data_dir: &Path) -> Result<StoredStatsView, CliError> {
    let report = verify_directory(data_dir)?;
    Ok(StoredStatsView {
        data_dir: data_dir.display().to_string(),
        last_sequence: report.last_sequence.0,
        table_records: Count(report.table_records),
        table_bytes: Bytes(bytes_in(&data_dir.join("table"))?),
        journal_files: report.journal_files,
        journal_frames: Count(report.frames),
        journal_bytes: Bytes(bytes_in(&data_dir.join("journal"))?),
        torn_bytes: Bytes(report.torn_bytes),
        faults: Count(report.findings.len() as u64 + report.findings_left_out),
    })
}

/// The bytes of the files in a directory and below; a directory that is not there has none.
fn bytes_in(directory: &Path) -> io::Result<u64> {
    if !directory.is_dir() {
        return Ok(0);
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn view_of(report: &VerifyReport) -> VerifyView {
    let mut faults: Vec<String> = report
        .findings
        .iter()
        .map(|finding| format!("{}: {}; {}", finding.file.display(), finding.fault, finding.remedy))
        .collect();
    if report.findings_left_out > 0 {
        faults.push(format!("and {} more", report.findings_left_out));
    }
    VerifyView { sound: report.is_whole(), records: Count(report.table_records + report.frames), faults }
}

/// Where a backup goes. A file is new, and durable when this is done.
enum Target {
    Stdout(io::Stdout),
    File(BufWriter<File>, PathBuf),
}

impl Target {
    fn create(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        let file = File::create_new(path).map_err(|error| CliError::failed(not_made(path, &error)))?;
        Ok(Self::File(BufWriter::new(file), path.to_owned()))
    }

    fn finish(self) -> Result<(), CliError> {
        match self {
            Self::Stdout(mut out) => Ok(out.flush()?),
            Self::File(writer, _) => {
                let file = writer.into_inner().map_err(|error| CliError::from(error.into_error()))?;
                Ok(file.sync_all()?)
            }
        }
    }

    /// Half a backup is none: it would be refused by a restore, but should not lie around.
    fn abandon(self) {
        if let Self::File(writer, path) = self {
            drop(writer);
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file, _) => file.flush(),
        }
    }
}

async fn backup_broker(file: &Path, global: &Global) -> Result<(), CliError> {
    let mut chunks = global
        .admin()
        .await?
        .backup_store(v1::BackupStoreRequest { operator: global.operator(None) })
        .await?
        .into_inner();
    let mut target = Target::create(file)?;
    let progress = Progress::of_bytes();
    let mut size = 0;
    while let Some(chunk) = chunks.next().await {
        let written = chunk.map_err(CliError::from).and_then(|chunk| {
            size += chunk.data.len() as u64;
            progress.advance(chunk.data.len() as u64);
            Ok(target.write_all(&chunk.data)?)
        });
        if let Err(error) = written {
            target.abandon();
            return Err(error);
        }
    }
    target.finish()?;
    progress.finish();
    eprintln!("backed up {} to {}", Shown(Bytes(size)), file.display());
    Ok(())
}

fn backup_directory(data_dir: &Path, file: &Path) -> Result<(), CliError> {
    if !data_dir.exists() {
        return Err(CliError::failed(format!("there is no directory {}", data_dir.display())));
    }
    let (store, _opened): (DiskStore, Opened) =
        DiskStore::open(data_dir, Options::default()).map_err(open_in_words)?;
    let mut target = Target::create(file)?;
    match backup(&store.snapshot(), &mut target) {
        Ok(report) => {
            target.finish()?;
            store.close()?;
            let size = Shown(Bytes(report.bytes));
            eprintln!("backed up {} records, {size}, to {}", report.records, file.display());
            Ok(())
        }
        Err(error) => {
            target.abandon();
            Err(in_words(error))
        }
    }
}

fn restore_into(file: &Path, data_dir: &Path, dry_run: bool, global: &Global) -> Result<(), CliError> {
    if dry_run {
        let is_free = std::fs::read_dir(data_dir).map_or(true, |mut entries| entries.next().is_none());
        let (file, data_dir) = (file.display(), data_dir.display());
        return match is_free {
            true => Ok(global.printer().done(&format!("this would restore {file} into {data_dir}"))?),
            false => Err(CliError::failed(format!("{data_dir} is not empty; choose an empty directory"))),
        };
    }
    let not_restored = |error: RestoreError| {
        CliError::failed(format!("{}: {}; nothing was restored", file.display(), with_causes(&error)))
    };
    let report = if file == Path::new("-") {
        restore(&mut io::stdin().lock(), data_dir, &Options::default()).map_err(not_restored)?
    } else {
        let backup = File::open(file)
            .map_err(|error| CliError::failed(format!("{} cannot be read: {error}", file.display())))?;
        restore(&mut BufReader::new(backup), data_dir, &Options::default()).map_err(not_restored)?
    };
    let words = format!(
        "restored {} records, as of commit {}, into {}",
        report.records,
        report.sequence.0,
        data_dir.display()
    );
    Ok(global.printer().done(&words)?)
}

fn repair_in_place(data_dir: &Path, caution: Caution, global: &Global) -> Result<(), CliError> {
    let options = Options::default();
    let plan = repair(data_dir, &options, Consent::LookOnly).map_err(in_words)?;
    let mut printer = global.printer();
    if plan.steps.is_empty() && plan.lost_sequences.is_none() {
        return Ok(printer.done("nothing needs to be repaired")?);
    }
    let what = format!("repair {}: {}", data_dir.display(), plan_in_words(&plan));
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(printer.done(&format!("this would {what}"))?);
    }
    let done = repair(data_dir, &options, Consent::GiveUpLostCommits).map_err(in_words)?;
    Ok(printer.done(&format!("repaired {}: {}", data_dir.display(), plan_in_words(&done)))?)
}

fn plan_in_words(report: &RepairReport) -> String {
    let steps: Vec<String> =
        report.steps.iter().map(|(file, step)| format!("{} {step}", file.display())).collect();
    let lost = match &report.lost_sequences {
        None => "no commit is lost".to_owned(),
        Some(lost) => format!("commits {} to {} are given up for good", lost.start(), lost.end()),
    };
    format!("{}; {lost}", steps.join(", "))
}

fn salvage_into(data_dir: &Path, into: &Path, caution: Caution, global: &Global) -> Result<(), CliError> {
    let what = format!("save what is readable of {} into {}", data_dir.display(), into.display());
    if caution.dry_run {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let report: SalvageReport = salvage(data_dir, into, &Options::default()).map_err(in_words)?;
    for lost in &report.lost {
        eprintln!("lost: {lost}");
    }
    let words =
        format!("saved {} records into {}, {} lost", report.records, into.display(), report.lost.len());
    Ok(global.printer().done(&words)?)
}

fn in_words(error: impl std::error::Error) -> CliError {
    CliError::failed(with_causes(&error))
}

fn open_in_words(error: OpenError) -> CliError {
    CliError::failed(not_opened(&error))
}

/// A size inside a sentence.
struct Shown(Bytes);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::cli::output::Cell;
        f.write_str(&self.0.shown().into_line())
    }
}
