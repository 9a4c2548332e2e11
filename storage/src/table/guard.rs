//! Calls into sled, which panics on pages that it cannot read.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{ReadError, hex};

/// The only file that sled reads, as people find it.
const FILE: &str = "table/db";

/// How a call into the table failed.
#[derive(Debug)]
pub(crate) enum TableError {
    /// sled panicked: a damaged page, as a rule.
    Panicked(String),
    /// sled says that its file is damaged.
    Damaged(String),
    /// The disk failed or is full.
    Io(io::Error),
}

impl TableError {
    /// The error of a read at `key` (empty if it is not known).
    pub(crate) fn into_read_error(self, key: &[u8]) -> ReadError {
        match self {
            Self::Panicked(fault) => {
                ReadError::Corrupt { key: hex::of(key), fault: format!("its page cannot be read: {fault}") }
            }
            Self::Damaged(fault) => ReadError::Corrupt { key: hex::of(key), fault },
            Self::Io(error) => ReadError::Failed(format!("{FILE} of the data directory: {error}")),
        }
    }
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panicked(fault) => write!(f, "sled panicked: {fault}"),
            Self::Damaged(fault) => write!(f, "sled found damage: {fault}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

/// Runs `call`; a panic becomes an error.
pub(crate) fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, TableError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(TableError::Io(error)),
        Ok(Err(error)) => Err(TableError::Damaged(error.to_string())),
        Err(panic) => Err(TableError::Panicked(panic_text(panic.as_ref()))),
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
