//! Appending to the journal.
//!
//! Owns the newest journal file. After a failed sync, or a failed write that could not be cut back, it refuses
//! everything: what is on disk is then unknown until the next start reads it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file::JournalFile;
use super::frame::{self, HEADER_BYTES, Header};
use super::{Spares, UNFINISHED, file_path};
use crate::clock;
use crate::directory::sync_dir;
use crate::failpoints::{FailPoint, FailPoints};
use crate::faults::Faults;
use crate::values::{FileId, Location};
use crate::{Batch, Epoch, Options};

/// Why an append did not happen.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// No space; the journal is as it was before.
    NoSpace(io::Error),
    /// Unknown state: nothing may be appended any more.
    Failed(String),
}

/// A journal file that takes no more frames.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) path: PathBuf,
    /// As what the table knows it, if it points into it.
    pub(crate) id: FileId,
    /// The sequence of its last frame: it may go when the table holds that.
    pub(crate) last: u64,
    pub(crate) bytes: u64,
}

/// A frame that is durable, and how long the two halves of its append took.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) bytes: u64,
    /// Where the frame lies.
    pub(crate) at: Location,
    pub(crate) frame: Vec<u8>,
    pub(crate) write: Duration,
    pub(crate) sync: Duration,
}

/// The writer of the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    file: JournalFile,
    header: Header,
    /// Where the next frame goes.
    offset: u64,
    /// Up to where the file has blocks: zeros, frames, or what it held before.
    written_to: u64,
    last: u64,
    /// Why nothing may be appended any more.
    poison: Option<String>,
    buffer: Vec<u8>,
    file_bytes_max: u64,
    ahead_bytes: u64,
    /// What the next files may be written over.
    spares: Arc<Spares>,
    failpoints: FailPoints,
    faults: Faults,
}

/// A frame of this size takes about as long to be written once more (1 GB/s) as its sync takes to add its blocks (0.24 ms for 4 KiB
/// instead of 0.15: "Without a broker" in docs/performance.md). Where 64 KiB were the bound, publishing with 64 outstanding, whose largest frames are as large, lost a
/// tenth of its speed.
const ZEROS_PAY_BELOW_BYTES: u64 = 128 << 10;

/// The size above which the memory in which frames are put together is not kept for the next.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

impl Journal {
    /// Begins a new file after sequence `last`. Its header makes `epoch` durable.
    pub(crate) fn begin(dir: &Path, epoch: Epoch, last: u64, options: &Options) -> io::Result<Self> {
        let header = Header { epoch, first: last + 1, is_reused: false };
        let file = create_file(dir, &header, &options.faults)?;
        Ok(Self {
            dir: dir.into(),
            file,
            header,
            offset: HEADER_BYTES as u64,
            written_to: HEADER_BYTES as u64,
            last,
            poison: None,
            buffer: Vec::new(),
            file_bytes_max: options.journal_file_bytes_max,
            ahead_bytes: options.journal_ahead_bytes,
            spares: Arc::new(Spares::new(dir, options.spare_bytes_max())),
            failpoints: options.failpoints.clone(),
            faults: options.faults.clone(),
        })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Where files go that are no longer needed.
    pub(crate) fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// Whether `batch` should go to a new file. One that is larger than a whole file gets a file to itself.
    pub(crate) fn is_full_for(&self, batch: &Batch) -> bool {
        !self.is_empty() && self.offset + frame::size_of(batch) > self.file_bytes_max
    }

    /// Whether nothing was appended to the newest file.
    pub(crate) fn is_empty(&self) -> bool {
        self.offset == HEADER_BYTES as u64
    }

    /// The size of the newest file without the zeros ahead.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset
    }

    /// Makes `batch` durable as sequence `last + 1`.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<Appended, AppendError> {
        if let Some(reason) = &self.poison {
            return Err(AppendError::Failed(reason.clone()));
        }
        let started = clock::now();
        let mut frame = std::mem::take(&mut self.buffer);
        frame::encode(batch, self.last + 1, self.header.salt(), &mut frame);
        self.failpoints.pass(FailPoint::BeforeAppend);
        let appended = self.write_and_sync(frame, started)?;
        self.last += 1;
        Ok(appended)
    }

    /// The next frame is put together in this memory, if it is not too large to be kept.
    pub(crate) fn write_next_in(&mut self, unused: Option<Vec<u8>>) {
        self.buffer = unused.filter(|buffer| buffer.capacity() <= BUFFER_BYTES_KEPT).unwrap_or_default();
    }

    fn write_and_sync(&mut self, frame: Vec<u8>, started: Instant) -> Result<Appended, AppendError> {
        self.write_ahead(frame.len() as u64);
        if let Err(error) = self.file.write(&frame, self.offset) {
            return Err(self.cut_back(error));
        }
        self.failpoints.pass(FailPoint::AfterAppend);
        let written = clock::now();
        self.sync()?;
        self.failpoints.pass(FailPoint::AfterSync);
        let at = Location { file: FileId::journal(self.header.first), offset: self.offset };
        self.offset += frame.len() as u64;
        self.written_to = self.written_to.max(self.offset);
        let (write, sync) = (written - started, clock::now() - written);
        Ok(Appended { bytes: frame.len() as u64, at, frame, write, sync })
    }

    /// Keeps zeros ahead of the frames. They become durable with the next sync, which then only overwrites. Not for
    /// frames so large that writing twice costs more than the sync.
    fn write_ahead(&mut self, frame_bytes: u64) {
        if frame_bytes >= self.ahead_bytes.min(ZEROS_PAY_BELOW_BYTES)
            || self.offset + frame_bytes <= self.written_to
        {
            return;
        }
        let target = self.written_to.max(self.offset);
        // Without these zeros the append is slower, not wrong: its own write reports what is the matter.
        if self.file.write_zeros(self.ahead_bytes, target).is_ok() {
            self.written_to = target + self.ahead_bytes;
        }
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        let synced = self.file.sync_data();
        synced.map_err(|error| self.fail(format!("syncing {} failed: {error}", self.file.path().display())))
    }

    /// Takes back the part of a frame that was written before the disk was full.
    fn cut_back(&mut self, error: io::Error) -> AppendError {
        if !is_full(&error) {
            return self.fail(format!("writing {} failed: {error}", self.file.path().display()));
        }
        if let Err(error) = self.file.cut(self.offset) {
            return self.fail(format!("cutting {} back failed: {error}", self.file.path().display()));
        }
        self.written_to = self.offset;
        AppendError::NoSpace(error)
    }

    fn fail(&mut self, reason: String) -> AppendError {
        self.poison = Some(reason.clone());
        AppendError::Failed(reason)
    }

    /// Closes the newest file and begins the next; returns the closed one.
    pub(crate) fn rotate(&mut self) -> Result<Closed, AppendError> {
        if let Some(reason) = &self.poison {
            return Err(AppendError::Failed(reason.clone()));
        }
        let (header, file, written_to) = match self.next_file() {
            Ok(next) => next,
            // Two newest files must never exist: frames behind the older one would look like damage.
            Err(CreateError::MaybeNamed(error)) => {
                return Err(self.fail(format!("syncing {} failed: {error}", self.dir.display())));
            }
            // Nothing has changed: the frames go on into the old file.
            Err(CreateError::Unnamed(error)) if is_full(&error) => return Err(AppendError::NoSpace(error)),
            // A device that fails is not to be trusted with the old one either.
            Err(CreateError::Unnamed(error)) => {
                return Err(self.fail(format!("beginning a journal file failed: {error}")));
            }
        };
        // What lies behind the last frame is not needed any more; a crash before this is durable leaves it, which is
        // accepted.
        self.file.give_back(self.offset);
        let closed = Closed {
            path: self.file.path().into(),
            id: FileId::journal(self.header.first),
            last: self.last,
            bytes: self.offset,
        };
        self.file = file;
        self.header = header;
        self.offset = HEADER_BYTES as u64;
        self.written_to = written_to;
        Ok(closed)
    }

    /// The next file, and up to where it has blocks: over a spare one if there is one, else a new one.
    fn next_file(&self) -> Result<(Header, JournalFile, u64), CreateError> {
        let header = Header { epoch: self.header.epoch, first: self.last + 1, is_reused: true };
        let path = file_path(&self.dir, header.first);
        let reused = self.spares.reuse(|spare| {
            let file = JournalFile::reuse(spare, &path, &header, &self.faults)?;
            Ok((file.length()?, file))
        });
        let Some(reused) = reused else {
            let header = Header { is_reused: false, ..header };
            let file = create_file(&self.dir, &header, &self.faults)?;
            return Ok((header, file, HEADER_BYTES as u64));
        };
        let (length, file) = reused.map_err(|error| match path.exists() {
            true => CreateError::MaybeNamed(error),
            false => CreateError::Unnamed(error),
        })?;
        sync_dir(&self.dir).map_err(CreateError::MaybeNamed)?;
        Ok((header, file, length))
    }

    /// Takes no more frames. What lies behind them is given back; if not, it is accepted.
    pub(crate) fn close(&mut self) {
        self.spares.give_up();
        if self.poison.is_none() {
            self.file.give_back(self.offset);
            self.poison = Some("the journal is closed".into());
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a file was not created.
#[derive(Debug)]
pub(crate) enum CreateError {
    /// It does not exist under its name.
    Unnamed(io::Error),
    /// It may exist under its name after a crash.
    MaybeNamed(io::Error),
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Unnamed(error) | CreateError::MaybeNamed(error) => error,
        }
    }
}

/// Creates a journal file whose header and name are durable: a file with a torn header never exists under a final name.
/// Replaces a file of that name, which can only be one without frames.
pub(crate) fn create_file(dir: &Path, header: &Header, faults: &Faults) -> Result<JournalFile, CreateError> {
    let unfinished = dir.join(UNFINISHED);
    let path = file_path(dir, header.first);
    let file = JournalFile::create(&unfinished, &path, header, faults).map_err(|error| {
        let _ = std::fs::remove_file(&unfinished);
        CreateError::Unnamed(error)
    })?;
    sync_dir(dir).map_err(CreateError::MaybeNamed)?;
    Ok(file)
}
