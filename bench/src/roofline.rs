//! What the machine gives at the moment: the disk by itself, and the wire and the disk together, without a broker. A
//! figure is worth its ratio to this, for machines differ, and one machine differs from hour to hour.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock;
use crate::error::Error;
use crate::meter::{histogram, micros};
use crate::options::{Options, Scenario, Source, Spawn};
use crate::report::{Latency, Report};

/// How long each part is measured.
const PART: Duration = Duration::from_millis(1500);
/// What a journal writes at once when little waits.
const BLOCK_BYTES: usize = 4096;
/// Overwritten again and again, so that the file does not grow.
const PREALLOCATED_BYTES: u64 = 16 * 1024 * 1024;
/// What a journal writes at once when much waits.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The machine's part of a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Roofline {
    /// 4 KiB appended to a file and synced.
    pub fdatasync_append_us: Latency,
    /// 4 KiB written over space that was there, and synced.
    pub fdatasync_overwrite_us: Latency,
    /// 1 MiB at a time, each synced: bytes a second.
    pub fdatasync_bytes_per_second: f64,
    /// The same load against a server that answers at once: operations a second.
    pub wire_per_second: f64,
    /// The same load against a server that appends and syncs what waits, and then answers: operations a second.
    pub wire_and_disk_per_second: f64,
    /// … and how long an operation took.
    pub wire_and_disk_latency_us: Latency,
    /// The speed of the report over that of wire and disk.
    pub ratio: Option<f64>,
}

impl Roofline {
    /// Measures it on the disk and with the load of `options`.
    pub(crate) async fn of(options: &Options) -> Result<Self, Error> {
        let spawn = match &options.source {
            Source::Spawn(spawn) | Source::Null(spawn) => spawn.clone(),
            Source::Running => {
                return Err(Error::Options("a roofline needs --spawn: it measures the same disk".into()));
            }
        };
        let directory = spawn.directory.clone();
        let disk = tokio::task::spawn_blocking(move || disk(&directory)).await?;
        let (append, overwrite, bytes_per_second) = disk.map_err(|error| {
            Error::Options(format!("{} cannot be written to: {error}", spawn.directory.display()))
        })?;
        let wire = null_run(options, &spawn, false).await?;
        let both = null_run(options, &spawn, true).await?;
        Ok(Self {
            fdatasync_append_us: Latency::of(&append),
            fdatasync_overwrite_us: Latency::of(&overwrite),
            fdatasync_bytes_per_second: bytes_per_second,
            wire_per_second: wire.per_second,
            wire_and_disk_per_second: both.per_second,
            wire_and_disk_latency_us: both.latency_us,
            ratio: None,
        })
    }

    /// With the ratio of a result to it.
    pub(crate) fn compared_with(self, report: &Report) -> Self {
        let ratio = report.per_second / self.wire_and_disk_per_second.max(f64::EPSILON);
        Self { ratio: Some(ratio), ..self }
    }
}

/// A closed loop of the same shape, without a broker. Transactions stay transactions; everything else publishes.
async fn null_run(options: &Options, spawn: &Spawn, append: bool) -> Result<Report, Error> {
    let scenario = match options.scenario {
        Scenario::Tx | Scenario::Steady | Scenario::E2e | Scenario::Soak => Scenario::Tx,
        _ => Scenario::Publish,
    };
    let options = Options {
        source: Source::Null(spawn.clone()),
        null_appends: append,
        producers: options.producers,
        outstanding: options.outstanding,
        body_bytes: options.body_bytes,
        messages_per_transaction: options.messages_per_transaction,
        duration: PART,
        warm_up: Duration::from_millis(300),
        verify: false,
        ..Options::new(scenario, "")
    };
    Box::pin(crate::run(options, |_progress| {})).await
}

type Disk = (Histogram<u64>, Histogram<u64>, f64);

fn disk(directory: &Path) -> std::io::Result<Disk> {
    let block = clock::random_body(BLOCK_BYTES);
    let mut appended = tempfile::tempfile_in(directory)?;
    let append = timed(|| {
        appended.write_all(&block)?;
        appended.sync_data()
    })?;

    let mut fixed = tempfile::tempfile_in(directory)?;
    fill(&mut fixed)?;
    let mut place = 0;
    let overwrite = timed(|| {
        fixed.seek(SeekFrom::Start(place))?;
        place = (place + BLOCK_BYTES as u64) % PREALLOCATED_BYTES;
        fixed.write_all(&block)?;
        fixed.sync_data()
    })?;

    let chunk = clock::random_body(CHUNK_BYTES);
    let mut large = tempfile::tempfile_in(directory)?;
    let start = clock::now();
    let chunks = timed(|| {
        large.write_all(&chunk)?;
        large.sync_data()
    })?;
    let seconds = clock::now().saturating_duration_since(start).as_secs_f64();
    Ok((append, overwrite, chunks.len() as f64 * CHUNK_BYTES as f64 / seconds))
}

fn fill(file: &mut File) -> std::io::Result<()> {
    let chunk = clock::random_body(CHUNK_BYTES);
    for _ in 0..PREALLOCATED_BYTES / CHUNK_BYTES as u64 {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}

/// Does it for [`PART`].
fn timed(mut work: impl FnMut() -> std::io::Result<()>) -> std::io::Result<Histogram<u64>> {
    let mut latencies = histogram();
    let end = clock::now() + PART;
    let mut begun = clock::now();
    while begun < end {
        work()?;
        let now = clock::now();
        latencies.saturating_record(micros(now.saturating_duration_since(begun)));
        begun = now;
    }
    Ok(latencies)
}
