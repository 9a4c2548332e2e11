//! The table: everything that has left the overlay, on sled, behind envelopes of our own.
//!
//! Owns `<data>/table/`. One thread writes, any number read. sled promises little (docs/decisions/0003): a page that it
//! cannot read is a panic, a flush is no sync, so every call is guarded and every sync is ours.

mod apply;
mod guard;
mod open;
pub(crate) mod record;
mod scrub;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock, RwLockReadGuard};

use bytes::Bytes;

use self::guard::guarded;
use self::record::{Head, Meta};
use crate::failpoints::{FailPoint, FailPoints};
use crate::lock::{lock, read, write};
use crate::{KeyRange, ReadError, hex};

pub(crate) use apply::Outcome;
pub(crate) use guard::TableError;
pub(crate) use open::{damaged, lost};
pub(crate) use scrub::Lost;

/// The open table.
#[derive(Debug)]
pub(crate) struct Table {
    /// `None` once closed: a reader that outlives the store must not keep sled open.
    db: RwLock<Option<sled::Db>>,
    dir: PathBuf,
    /// sled's file, opened by us, for the sync that sled does not do.
    file: File,
    meta: Mutex<Option<Meta>>,
}

/// In which order a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Table {
    /// What the table says of itself; `None` if it never was written to.
    pub(crate) fn meta(&self) -> Option<Meta> {
        *lock(&self.meta)
    }

    /// The database file.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(open::DATABASE_FILE)
    }

    /// Its size on disk, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// The value at `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let db = self.reading()?;
        let head = guarded(|| db.get(record::head_key(key))).map_err(|error| error.into_read_error(key))?;
        head.map(|head| value_of(&db, key, &head)).transpose()
    }

    /// The heads of the records in `range`, in order.
    pub(crate) fn heads(&self, range: &KeyRange, direction: Direction) -> Result<Heads<'_>, ReadError> {
        let db = self.reading()?;
        let iter = db.range(record::head_key(&range.start)..record::head_key(&range.end));
        Ok(Heads { db, iter, direction, at: range.start.clone() })
    }

    /// Makes durable what was applied: sled's own flush, then the sync that it leaves out.
    pub(crate) fn sync(&self, failpoints: &FailPoints) -> Result<(), TableError> {
        let db = self.writing()?;
        guarded(|| db.flush())?;
        failpoints.pass(FailPoint::BetweenFlushAndSync);
        self.file.sync_data().and_then(|()| self.sync_blobs()).map_err(TableError::Io)
    }

    /// Our records are too small to ever become blob files. Should sled nevertheless make one, it is synced too.
    fn sync_blobs(&self) -> io::Result<()> {
        let dir = self.dir.join(open::BLOB_DIR);
        let mut count = 0;
        for entry in std::fs::read_dir(&dir)? {
            match File::open(entry?.path()) {
                Ok(file) => file.sync_all()?,
                // sled removes blobs in the background.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            count += 1;
        }
        if count > 0 {
            tracing::warn!(count, "the table has blob files; records should be too small for that");
            File::open(&dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Closes sled, waiting for reads that are under way. Later reads fail.
    pub(crate) fn close(&self) {
        let db = write(&self.db).take();
        // Dropping sled joins its threads, which may panic on a database that failed.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(db)));
    }

    fn reading(&self) -> Result<Reading<'_>, ReadError> {
        let guard = read(&self.db);
        if guard.is_none() {
            return Err(ReadError::Failed("the store is closed".into()));
        }
        Ok(Reading { guard })
    }

    fn writing(&self) -> Result<sled::Db, TableError> {
        read(&self.db).clone().ok_or_else(|| TableError::Panicked("the table is closed".into()))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.close();
    }
}

/// sled, open for as long as this lives.
struct Reading<'a> {
    guard: RwLockReadGuard<'a, Option<sled::Db>>,
}

impl std::ops::Deref for Reading<'_> {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        self.guard.as_ref().expect("checked when the guard was taken")
    }
}

/// Walks over the heads of a range.
pub(crate) struct Heads<'a> {
    db: Reading<'a>,
    iter: sled::Iter,
    direction: Direction,
    /// Where the next key is looked for, to say from where on a page cannot be read. The last key seen can be.
    at: Bytes,
}

impl Heads<'_> {
    /// The next key and its stored head.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, sled::IVec)>, ReadError> {
        let next = guarded(|| match self.direction {
            Direction::Forward => self.iter.next().transpose(),
            Direction::Backward => self.iter.next_back().transpose(),
        });
        let Some((key, head)) = next.map_err(|error| error.into_read_error(&self.at))? else {
            return Ok(None);
        };
        let key = Bytes::copy_from_slice(&key[1..]);
        self.at = match self.direction {
            Direction::Forward => [&key[..], &[0]].concat().into(),
            Direction::Backward => key.clone(),
        };
        Ok(Some((key, head)))
    }

    /// The value that belongs to a head of this walk.
    pub(crate) fn value(&self, key: &[u8], head: &[u8]) -> Result<Bytes, ReadError> {
        value_of(&self.db, key, head)
    }
}

fn value_of(db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Bytes, ReadError> {
    let corrupt = |fault| ReadError::Corrupt { key: hex::of(key), fault };
    let head = Head::decode(stored).map_err(corrupt)?;
    let mut parts = Vec::new();
    if record::part_count(head.length) > 0 {
        let scan = guarded(|| {
            let found = db.scan_prefix(record::part_prefix(key)).values();
            found.collect::<sled::Result<Vec<_>>>()
        });
        parts = scan.map_err(|error| error.into_read_error(key))?;
    }
    head.value(key, &parts).map_err(corrupt)
}

/// Whether anything was ever written to the table of a directory.
pub(crate) fn has_bytes(dir: &Path) -> bool {
    dir.join(open::DATABASE_FILE).metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Whether a directory holds a table.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(open::DATABASE_FILE).exists()
}
