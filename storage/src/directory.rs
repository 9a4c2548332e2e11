//! The data directory: where each part lies, whose it is, and which format it has.
//!
//! Owns `LOCK` and `FORMAT`. Must never change a directory that is not ours, and writes `FORMAT` last, so that a
//! directory that has one was created completely.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::journal::frame::HEADER_BYTES;
use crate::{OpenError, remedy};

/// The format number of the whole data directory that this release writes, and the newest that it reads: the one in its
/// file `FORMAT`.
pub const FORMAT: u32 = 2;

const FORMAT_NAME: &str = "FORMAT";
const FORMAT_UNFINISHED: &str = "FORMAT.tmp";
const LOCK_NAME: &str = "LOCK";
/// What a directory of ours may hold. `lost+found` is what a fresh file system holds at its root.
const KNOWN: [&str; 9] = [
    FORMAT_NAME,
    FORMAT_UNFINISHED,
    LOCK_NAME,
    "journal",
    "table",
    "values",
    "WATERMARK",
    "BALLAST",
    "lost+found",
];

/// The paths of a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.root.join("table")
    }

    pub(crate) fn values(&self) -> PathBuf {
        self.root.join("values")
    }

    pub(crate) fn watermark(&self) -> PathBuf {
        self.root.join("WATERMARK")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("BALLAST")
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join(FORMAT_NAME)
    }
}

/// What was found in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A complete data directory of a format we read.
    Ours,
    /// Nothing, or what a creation that was interrupted leaves: no commit was ever made.
    Fresh,
}

/// The lock of a directory. Held until it is dropped, at the latest until the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that was just forked holds the file too, until it runs its own program.
        let _ = self.file.unlock();
    }
}

/// Makes the directory if need be, locks it, and says what it is. A directory that is not ours is not touched.
pub(crate) fn claim(layout: &Layout) -> Result<(DirectoryLock, Found), OpenError> {
    create_with_parents(&layout.root)?;
    refuse_foreign(layout)?;
    let lock = lock(layout)?;
    Ok((lock, inspect(layout)?))
}

/// Locks a directory that exists, for looking at it or mending it. The second answer is what is wrong with `FORMAT`.
pub(crate) fn claim_existing(layout: &Layout) -> Result<(DirectoryLock, Option<OpenError>), OpenError> {
    if !layout.root.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(io_error(&layout.root, source));
    }
    refuse_foreign(layout)?;
    if !layout.format().exists() && !layout.journal().exists() {
        let fault = "nothing was ever stored here".into();
        return Err(OpenError::NotOurs { path: layout.root.clone(), fault });
    }
    let format = match read_format(layout) {
        Ok(_) => None,
        Err(OpenError::Newer { path, found, supported }) => {
            return Err(OpenError::Newer { path, found, supported });
        }
        Err(error) => Some(error),
    };
    Ok((lock(layout)?, format))
}

/// Locks the directory, whatever it holds.
pub(crate) fn lock_only(layout: &Layout) -> Result<DirectoryLock, OpenError> {
    lock(layout)
}

/// Writes `FORMAT`, the last step of a creation.
pub(crate) fn write_format(layout: &Layout) -> Result<(), OpenError> {
    let unfinished = layout.root.join(FORMAT_UNFINISHED);
    let written = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(format_text(FORMAT).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, layout.format())?;
        sync_dir(&layout.root)
    };
    written().map_err(|source| io_error(&layout.format(), source))
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes `dir` and its missing parents, durably.
pub(crate) fn create_with_parents(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_with_parents(parent)?;
    std::fs::create_dir(dir)
        .or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })
        .and_then(|()| sync_dir(parent))
        .map_err(|source| io_error(dir, source))
}

/// An error of the system at `path`.
pub(crate) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.into(), source }
}

fn lock(layout: &Layout) -> Result<DirectoryLock, OpenError> {
    let path = layout.root.join(LOCK_NAME);
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = open.map_err(|source| io_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let holder =
                pid.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
            return Err(OpenError::Locked { path: layout.root.clone(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(&path, source)),
    }
    // The number is for people only: who holds the lock is decided by the lock.
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| io_error(&path, source))?;
    Ok(DirectoryLock { file })
}

fn refuse_foreign(layout: &Layout) -> Result<(), OpenError> {
    let entries = std::fs::read_dir(&layout.root).map_err(|source| io_error(&layout.root, source))?;
    for entry in entries {
        let name = entry.map_err(|source| io_error(&layout.root, source))?.file_name();
        if !KNOWN.iter().any(|known| name == *known) {
            let fault = format!("it holds {}", name.to_string_lossy());
            return Err(OpenError::NotOurs { path: layout.root.clone(), fault });
        }
    }
    Ok(())
}

fn inspect(layout: &Layout) -> Result<Found, OpenError> {
    if layout.format().exists() {
        read_format(layout)?;
        return Ok(Found::Ours);
    }
    if holds_batches(layout)? {
        return Err(OpenError::Damaged {
            file: layout.format(),
            fault: "it is missing, but there is data".into(),
            remedy: format!("{}; or {}", remedy::write_again(&layout.root), remedy::RESTORE),
        });
    }
    Ok(Found::Fresh)
}

/// Whether there is more than an interrupted creation leaves. The table is checked when it is open.
fn holds_batches(layout: &Layout) -> Result<bool, OpenError> {
    let dir = layout.journal();
    if !dir.exists() {
        return Ok(false);
    }
    let entries = std::fs::read_dir(&dir).map_err(|source| io_error(&dir, source))?;
    for entry in entries {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(|source| io_error(&dir, source))?;
        if metadata.len() > HEADER_BYTES as u64 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Two lines for people, one for machines.
fn format_text(format: u32) -> String {
    let text = format!("escrow store\nformat {format}\n");
    let crc = crc32fast::hash(text.as_bytes());
    format!("{text}crc32 {crc:08x}\n")
}

/// Whether an older release wrote it. It is a directory of ours.
pub(crate) fn is_older(layout: &Layout) -> Result<bool, OpenError> {
    Ok(read_format(layout)? < FORMAT)
}

fn read_format(layout: &Layout) -> Result<u32, OpenError> {
    let path = layout.format();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged_format(&path)),
        Err(source) => return Err(io_error(&path, source)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().nth(1).and_then(|line| line.strip_prefix("format ")?.parse::<u32>().ok());
    match found {
        Some(found) if text != format_text(found) => Err(damaged_format(&path)),
        None => Err(damaged_format(&path)),
        Some(found) if found > FORMAT => {
            Err(OpenError::Newer { path: layout.root.clone(), found, supported: FORMAT })
        }
        Some(found) => Ok(found),
    }
}

fn damaged_format(path: &Path) -> OpenError {
    OpenError::Damaged {
        file: path.into(),
        fault: "it is missing, or does not read as a format number with its checksum".into(),
        remedy: remedy::write_again(remedy::root_above(path, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("a/b"));
        let (first, found) = claim(&layout).unwrap();
        assert_eq!(found, Found::Fresh);
        let error = claim(&layout).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(first);
        claim(&layout).unwrap();
    }

    #[test]
    fn newer_foreign_and_damaged_directories_are_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
        assert!(matches!(claim(&layout), Err(OpenError::NotOurs { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "not even a LOCK was added");
        std::fs::remove_file(dir.path().join("thesis.txt")).unwrap();
        std::fs::write(layout.format(), format_text(FORMAT + 1)).unwrap();
        assert!(matches!(claim(&layout), Err(OpenError::Newer { found: 3, supported: 2, .. })));
        std::fs::write(layout.format(), format_text(FORMAT).replace("format 2", "format 0")).unwrap();
        assert!(matches!(claim(&layout), Err(OpenError::Damaged { .. })));
        std::fs::remove_file(layout.format()).unwrap();
        write_format(&layout).unwrap();
        assert_eq!(claim(&layout).unwrap().1, Found::Ours);
    }
}
