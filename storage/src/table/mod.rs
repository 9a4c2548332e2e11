//! The table: everything that has left the overlay, on sled, in blocks of our own.
//!
//! Owns `<data>/table/`. One thread writes, any number read. sled promises little (docs/decisions/0003): a page that it
//! cannot read is a panic, a flush is no sync, so every call is guarded and every sync is ours. Large values are not in
//! it: it points to them (`values`).

mod apply;
pub(crate) mod block;
mod flush;
mod guard;
pub(crate) mod legacy;
mod meta;
mod open;
mod recent;
mod relocate;
mod scrub;
mod walk;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock, RwLockReadGuard};

use bytes::Bytes;

use self::block::PREFIX;
use self::guard::guarded;
use self::recent::{Known, Recent};
use crate::failpoints::{FailPoint, FailPoints};
use crate::lock::{lock, read, write};
use crate::values::{FileId, Held, Live, Values};
use crate::{Key, ReadError, hex};

pub(crate) use apply::{Change, NewValue, Outcome};
pub(crate) use guard::TableError;
pub(crate) use meta::Meta;
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
    /// How much of each file of values the table points to. A file that is not named is not pointed to.
    live: Mutex<HashMap<FileId, Live>>,
    /// Whether it could be read: else nothing may be compared with it, and nothing be written.
    knows_live: bool,
    /// Held for writing while blocks change: two blocks that are read under it are of one moment.
    structure: RwLock<()>,
    /// How often blocks changed.
    writes: AtomicU64,
    recent: Recent,
    values: Values,
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

    /// The files that hold its large values.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// How much of each file of values it points to.
    pub(crate) fn live(&self) -> HashMap<FileId, Live> {
        lock(&self.live).clone()
    }

    /// Whether it points into this file.
    pub(crate) fn points_into(&self, id: FileId) -> bool {
        lock(&self.live).contains_key(&id)
    }

    /// The value at `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.entry(key)?.map(|entry| self.resolve(key, entry)).transpose()
    }

    /// What is stored at `key`.
    fn entry(&self, key: &[u8]) -> Result<Option<Held>, ReadError> {
        if let Some(found) = self.recent.find(key, self.writes.load(Ordering::Acquire)) {
            return Ok(found);
        }
        let known = self.block_for(key)?;
        let found = known.search(key);
        self.recent.remember(key, known);
        Ok(found)
    }

    /// The block in which `key` belongs, read and checked.
    fn block_for(&self, key: &[u8]) -> Result<Known, ReadError> {
        let db = self.reading()?;
        let _unchanged = read(&self.structure);
        let writes = self.writes.load(Ordering::Acquire);
        let failed = |error: TableError| error.into_read_error(key);
        let table_key = block::table_key(key);
        let floor =
            guarded(|| db.range(&[PREFIX][..]..=&table_key[..]).next_back().transpose()).map_err(failed)?;
        let next = guarded(|| db.range::<&[u8], _>((Excluded(&table_key[..]), Unbounded)).next().transpose());
        let until = next.map_err(failed)?.filter(|(next, _)| next.first() == Some(&PREFIX));
        let until = until.map(|(next, _)| Key::from(&next[1..]));
        let Some((block_key, bytes)) = floor else {
            return Ok(Known { writes, from: Key::default(), until, entries: Vec::new() });
        };
        let entries = block::decode(&block_key[1..], &bytes).map_err(|fault| corrupt(key, fault))?;
        Ok(Known { writes, from: Key::from(&block_key[1..]), until, entries })
    }

    /// The value of `held`, which was found at `key`. A value that was moved meanwhile is looked for again.
    fn resolve(&self, key: &[u8], mut held: Held) -> Result<Bytes, ReadError> {
        loop {
            let read = self.values.resolve(key, &held);
            if !matches!(read, Err(ReadError::Corrupt { .. })) {
                return read;
            }
            match self.entry(key)? {
                Some(moved) if moved != held => held = moved,
                _ => return read,
            }
        }
    }

    /// Makes durable what was applied: sled's own flush, then the sync that it leaves out.
    pub(crate) fn sync(&self, failpoints: &FailPoints) -> Result<(), TableError> {
        let db = self.writing()?;
        flush::flush(&db)?;
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
fn corrupt(key: &[u8], fault: String) -> ReadError {
    ReadError::Corrupt { key: hex::of(key), fault }
}

/// Whether anything was ever written to the table of a directory.
pub(crate) fn has_bytes(dir: &Path) -> bool {
    dir.join(open::DATABASE_FILE).metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Whether a directory holds a table.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(open::DATABASE_FILE).exists()
}
