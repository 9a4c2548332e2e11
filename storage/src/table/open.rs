//! Opening sled so that damage is an error: neither a panic nor a hang reaches the caller.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, RwLock};
use std::time::Duration;

use super::guard::guarded;
use super::meta::{META_KEY, Meta};
use super::{Table, TableError};
use crate::directory::{io_error, sync_dir};
use crate::lock::lock;
use crate::values::{FileId, Live, Values};
use crate::{OpenError, clock, remedy};

/// Where sled keeps everything.
pub(super) const DATABASE_FILE: &str = "db";
/// Where sled would put large pages.
pub(super) const BLOB_DIR: &str = "blobs";

/// sled's own default. Its garbage collection runs only in the thread that this starts.
const FLUSH_EVERY_MS: u64 = 500;
/// How often, and in what interval, a table is tried again that a handle of this process is still closing.
const CLOSING_TRIES: u32 = 100;
const CLOSING_WAIT: Duration = Duration::from_millis(20);

impl Table {
    /// Opens the table in `dir`, or creates it. The caller holds the lock of the data directory.
    pub(crate) fn open(dir: &Path, cache_bytes: u64, limit: Duration) -> Result<Self, OpenError> {
        let (db, file, meta) = open_files(dir, cache_bytes, limit)?;
        let live = Self::read_live(&db).map_err(|error| damaged(dir, error.to_string()))?;
        Ok(Self::of(dir, db, file, meta, Some(live)))
    }

    /// As [`Table::open`], of a table of which is saved what can be: what it says of the files of values may be lost, as
    /// nobody needs it who writes nothing.
    pub(crate) fn open_to_save(dir: &Path, cache_bytes: u64, limit: Duration) -> Result<Self, OpenError> {
        let (db, file, meta) = open_files(dir, cache_bytes, limit)?;
        let live = Self::read_live(&db).ok();
        Ok(Self::of(dir, db, file, meta, live))
    }

    fn of(
        dir: &Path,
        db: sled::Db,
        file: File,
        meta: Option<Meta>,
        live: Option<HashMap<FileId, Live>>,
    ) -> Self {
        Self {
            db: RwLock::new(Some(db)),
            dir: dir.into(),
            file,
            meta: Mutex::new(meta),
            knows_live: live.is_some(),
            live: Mutex::new(live.unwrap_or_default()),
            structure: RwLock::default(),
            writes: AtomicU64::default(),
            recent: super::recent::Recent::default(),
            values: Values::of(dir.parent().unwrap_or(dir)),
        }
    }

    /// The last step of creating a table: from now on one that opens empty has lost something.
    pub(crate) fn initialise(&self, meta: Meta) -> Result<(), OpenError> {
        let initialised = || {
            let db = self.writing()?;
            guarded(|| db.insert(META_KEY, meta.encode()))?;
            self.sync(&crate::FailPoints::off())?;
            self.sync_small_files().map_err(TableError::Io)
        };
        initialised().map_err(|error: TableError| match error {
            TableError::Io(source) => io_error(&self.path(), source),
            other => damaged(&self.dir, other.to_string()),
        })?;
        *lock(&self.meta) = Some(meta);
        Ok(())
    }
}

impl Table {
    /// sled writes its settings without a sync; cut short they would keep it from opening.
    fn sync_small_files(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.is_file() {
                File::open(&path)?.sync_all()?;
            }
        }
        sync_dir(&self.dir)
    }
}

/// sled, its file, and what the table says of itself.
fn open_files(
    dir: &Path,
    cache_bytes: u64,
    limit: Duration,
) -> Result<(sled::Db, File, Option<Meta>), OpenError> {
    let mut tries = 0;
    let db = loop {
        match open_in_time(dir, cache_bytes, limit) {
            // The last handle of a table that was just closed goes away with sled's threads.
            Err(TableError::Io(error)) if is_lock_error(&error) && tries < CLOSING_TRIES => {
                tries += 1;
                let never = (Mutex::new(()), Condvar::new());
                drop(clock::wait_until(&never.1, lock(&never.0), CLOSING_WAIT, |()| false));
            }
            Err(TableError::Io(source)) => return Err(io_error(&dir.join(DATABASE_FILE), source)),
            Err(error) => return Err(lost(dir, error.to_string())),
            Ok(db) => break db,
        }
    };
    let path = dir.join(DATABASE_FILE);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(|source| io_error(&path, source))?;
    let meta = Table::read_meta(&db).map_err(|error| lost(dir, error.to_string()))?;
    Ok((db, file, meta))
}

/// Opens sled on a thread of its own. One that hangs is left behind: the process is about to end anyway.
fn open_in_time(dir: &Path, cache_bytes: u64, limit: Duration) -> Result<sled::Db, TableError> {
    let config =
        sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
    let (answer, opened) = channel();
    let spawned = std::thread::Builder::new().name("escrow-table-open".into()).spawn(move || {
        // Nobody listens any more if this took too long.
        let _ = answer.send(guarded(|| config.open()));
    });
    spawned.map_err(TableError::Io)?;
    match opened.recv_timeout(limit) {
        Ok(opened) => opened,
        Err(RecvTimeoutError::Timeout) => {
            Err(TableError::Damaged(format!("it did not open within {} s", limit.as_secs())))
        }
        Err(RecvTimeoutError::Disconnected) => Err(TableError::Panicked("its thread ended".into())),
    }
}

fn is_lock_error(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// The error for a table that opens and is not what it should be.
pub(crate) fn damaged(dir: &Path, fault: String) -> OpenError {
    let salvage = remedy::salvage(remedy::root_above(dir, 1));
    OpenError::Damaged {
        file: dir.join(DATABASE_FILE),
        fault,
        remedy: format!("{}, or {salvage}", remedy::RESTORE),
    }
}

/// The error for a table that does not open: nothing can be read of it, so nothing can be saved.
pub(crate) fn lost(dir: &Path, fault: String) -> OpenError {
    OpenError::Damaged { file: dir.join(DATABASE_FILE), fault, remedy: remedy::RESTORE.into() }
}
