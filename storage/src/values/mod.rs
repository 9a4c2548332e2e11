//! Values that are too large for the table: where they lie, and how they are read back.
//!
//! Owns `<data>/values/`. The table holds a [`Pointer`] to such a value; the value itself is written once, in the
//! journal, and its journal file is kept for it ("adopted": moved here when the journal is done with it), or it was
//! copied into a file of copies. Must never delete a file that the table points into.

mod copies;
mod file;
mod frames;
mod relocate;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::directory::{create_with_parents, io_error, sync_dir};
use crate::journal;
use crate::lock::{read, write};
use crate::{OpenError, ReadError, hex, remedy};

pub(crate) use copies::Copies;
pub(crate) use file::ValueFile;
pub(crate) use frames::Frames;
pub(crate) use relocate::{Resting, resting_in};

/// Values from this length on are kept out of the table. Smaller ones cost less inside it than a pointer and a read.
pub(crate) const SEPARATE_BYTES_MIN: usize = 512;

/// What the names of files of copies end in.
const COPIES_SUFFIX: &str = ".copy";
/// How many files are kept open for reading.
const OPEN_FILES_MAX: usize = 256;

/// A file that holds values: a journal file, by its first sequence, or a file of copies, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub(crate) u64);

impl FileId {
    /// Set in the ids of files of copies.
    const COPIES: u64 = 1 << 63;

    pub(crate) fn journal(first: u64) -> Self {
        Self(first)
    }

    pub(crate) fn copies(number: u64) -> Self {
        Self(number | Self::COPIES)
    }

    /// The number of a file of copies.
    pub(crate) fn copies_number(self) -> Option<u64> {
        (self.0 & Self::COPIES != 0).then_some(self.0 & !Self::COPIES)
    }

    fn name(self) -> String {
        match self.copies_number() {
            Some(number) => format!("{number:020}{COPIES_SUFFIX}"),
            None => format!("{:020}{}", self.0, journal::SUFFIX),
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        let (stem, is_copies) = match name.strip_suffix(COPIES_SUFFIX) {
            Some(stem) => (stem, true),
            None => (name.strip_suffix(journal::SUFFIX)?, false),
        };
        let is_number = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
        let number = stem.parse::<u64>().ok().filter(|number| is_number && number & Self::COPIES == 0)?;
        Some(if is_copies { Self::copies(number) } else { Self::journal(number) })
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// Where a value lies: in which file, and from which byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) file: FileId,
    pub(crate) offset: u64,
}

/// What the table holds instead of a large value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) at: Location,
    pub(crate) length: u32,
    /// Of the key's length, the key and the value: neither another value nor a part of one passes.
    pub(crate) crc: u32,
}

impl Pointer {
    pub(crate) fn to(at: Location, key: &[u8], value: &[u8]) -> Self {
        Self { at, length: value.len() as u32, crc: checksum(key, value) }
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u32).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// What is held at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// The value, shorter than [`SEPARATE_BYTES_MIN`].
    Inline(Bytes),
    /// Where the value is.
    At(Pointer),
}

/// How much of a file the table points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Live {
    pub(crate) values: u64,
    pub(crate) bytes: u64,
}

/// Why a value was not read.
#[derive(Debug)]
pub(crate) enum ValueError {
    /// Its file is not there: it was moved meanwhile, or it is lost.
    Gone,
    /// It is not what was written.
    Damaged(String),
    /// The disk failed.
    Io(io::Error),
}

/// The files that hold values, for readers and for the thread that writes the table.
#[derive(Debug)]
pub(crate) struct Values {
    dir: PathBuf,
    journal: PathBuf,
    open: RwLock<HashMap<FileId, Arc<ValueFile>>>,
    /// What was written to the journal last.
    frames: Frames,
}

impl Values {
    /// The files of the data directory `root`. Nothing is read or made.
    pub(crate) fn of(root: &Path) -> Self {
        let layout = crate::directory::Layout::new(root);
        let (dir, journal) = (layout.values(), layout.journal());
        Self { dir, journal, open: RwLock::default(), frames: Frames::default() }
    }

    /// What was written to the journal last.
    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn make_dir(&self) -> Result<(), OpenError> {
        create_with_parents(&self.dir)
    }

    /// The value of what is held at `key`.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`]: it is not there, or not what was written; or it was moved since `held` was found.
    pub(crate) fn resolve(&self, key: &[u8], held: &Held) -> Result<Bytes, ReadError> {
        let pointer = match held {
            Held::Inline(value) => return Ok(value.clone()),
            Held::At(pointer) => pointer,
        };
        let fault = match self.read(key, pointer) {
            Ok(value) => return Ok(value),
            Err(ValueError::Io(error)) => {
                return Err(ReadError::Failed(format!("{}: {error}", self.shown(pointer.at.file))));
            }
            Err(ValueError::Gone) => {
                format!("the file of its value, {}, is missing", self.shown(pointer.at.file))
            }
            // A file that was let go may have been written over.
            Err(ValueError::Damaged(fault)) => fault,
        };
        Err(ReadError::Corrupt { key: hex::of(key), fault })
    }

    /// The value of what is held at `key`, if it is in memory, and whole.
    pub(crate) fn in_memory(&self, key: &[u8], held: &Held) -> Option<Bytes> {
        match held {
            Held::Inline(value) => Some(value.clone()),
            Held::At(pointer) => {
                let value = self.frames.read(pointer.at, pointer.length)?;
                (checksum(key, &value) == pointer.crc).then_some(value)
            }
        }
    }

    /// The value that `pointer`, found at `key`, leads to.
    pub(crate) fn read(&self, key: &[u8], pointer: &Pointer) -> Result<Bytes, ValueError> {
        let value = match self.frames.read(pointer.at, pointer.length) {
            Some(value) => value,
            None => self.read_file(pointer)?,
        };
        if checksum(key, &value) != pointer.crc {
            let fault = format!(
                "the checksum of its value in {} at offset {} does not match",
                self.shown(pointer.at.file),
                pointer.at.offset
            );
            return Err(ValueError::Damaged(fault));
        }
        Ok(value)
    }

    fn read_file(&self, pointer: &Pointer) -> Result<Bytes, ValueError> {
        let file = self.file(pointer.at.file)?;
        file.read(pointer.at.offset, pointer.length).map_err(|error| match error {
            ValueError::Damaged(fault) => {
                ValueError::Damaged(format!("{}: {fault}", self.shown(pointer.at.file)))
            }
            other => other,
        })
    }

    /// The open file of this id, wherever it lies.
    pub(crate) fn file(&self, id: FileId) -> Result<Arc<ValueFile>, ValueError> {
        if let Some(file) = read(&self.open).get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.open_file(id)?);
        let mut open = write(&self.open);
        if open.len() >= OPEN_FILES_MAX {
            // Which one does not matter much: those in use are opened again.
            let some = open.keys().next().copied();
            some.map(|id| open.remove(&id));
        }
        Ok(Arc::clone(open.entry(id).or_insert(file)))
    }

    /// A journal file is looked for where it was adopted to, then where it was written. It is moved but once, in that
    /// direction, so it is looked for again if it was in neither.
    fn open_file(&self, id: FileId) -> Result<ValueFile, ValueError> {
        let places = [self.path(id), self.journal.join(id.name()), self.path(id)];
        let count = if id.copies_number().is_some() { 1 } else { places.len() };
        for path in &places[..count] {
            match ValueFile::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ValueError::Io(error)),
                Ok(file) => return Ok(file),
            }
        }
        Err(ValueError::Gone)
    }

    /// Where a file of this id lies, unless it is still part of the journal.
    pub(crate) fn path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.name())
    }

    /// Where a file of this id lies, for messages: where it should, if it is nowhere.
    fn place(&self, id: FileId) -> PathBuf {
        let (here, there) = (self.path(id), self.journal.join(id.name()));
        let is_still_the_journals = id.copies_number().is_none() && !here.exists() && there.exists();
        if is_still_the_journals { there } else { here }
    }

    /// That place within the data directory, for messages.
    fn shown(&self, id: FileId) -> String {
        let is_here = self.place(id).starts_with(&self.dir);
        format!("{}/{id}", if is_here { "values" } else { "journal" })
    }

    /// Moves a journal file here that the journal is done with. Durable when the directories are synced.
    pub(crate) fn adopt(&self, journal_file: &Path, id: FileId) -> io::Result<()> {
        std::fs::rename(journal_file, self.path(id))
    }

    /// Closes a file that may be written over.
    pub(crate) fn forget(&self, id: FileId) {
        write(&self.open).remove(&id);
    }

    /// Makes the names of the files durable.
    pub(crate) fn sync_dir(&self) -> io::Result<()> {
        sync_dir(&self.dir)
    }

    /// Deletes a file to which nothing points. A reader that has it open reads on.
    pub(crate) fn delete(&self, id: FileId) -> io::Result<()> {
        self.forget(id);
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// The ids of the files that are here; a foreign name is refused.
    pub(crate) fn list(&self) -> Result<Vec<FileId>, OpenError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error(&self.dir, source)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| io_error(&self.dir, source))?.file_name();
            let name = name.to_string_lossy();
            let id = FileId::of_name(&name).ok_or_else(|| OpenError::NotOurs {
                path: self.dir.clone(),
                fault: format!("it holds {name}"),
            })?;
            ids.push(id);
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The size of a file, wherever it lies.
    pub(crate) fn size(&self, id: FileId) -> Result<u64, ValueError> {
        self.file(id)?.size().map_err(ValueError::Io)
    }

    /// Each file that the table points into is there and long enough for what lives in it.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] names the first that is not.
    pub(crate) fn check(&self, live: &HashMap<FileId, Live>) -> Result<(), OpenError> {
        for (id, live) in live {
            let fault = match self.size(*id) {
                Ok(size) if size >= live.bytes => continue,
                Ok(size) => format!("it has {size} bytes, values of {} bytes lie in it", live.bytes),
                Err(ValueError::Gone) => format!("it is missing, and {} values lie in it", live.values),
                Err(ValueError::Damaged(fault)) => fault,
                Err(ValueError::Io(source)) => return Err(io_error(&self.place(*id), source)),
            };
            let salvage = remedy::salvage(remedy::root_above(&self.dir, 1));
            return Err(OpenError::Damaged {
                file: self.place(*id),
                fault,
                remedy: format!("{}, or {salvage}", remedy::RESTORE),
            });
        }
        Ok(())
    }
}
