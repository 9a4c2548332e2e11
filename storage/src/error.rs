//! What can go wrong, a variant for each reaction of the caller.

use std::path::PathBuf;

/// Why a read gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The record at this key is damaged: it is named and counted, never served. Reaction: report it and go on
    /// without it; `escrow store verify` lists all of them.
    #[error("the record at key {key} is damaged: {fault}")]
    Corrupt {
        /// The key in hexadecimal.
        key: String,
        /// What does not fit: checksum, length, missing part.
        fault: String,
    },
    /// The disk or the table below failed. Reaction: stop the process; a restart reads the truth.
    #[error("reading from the store failed: {0}")]
    Failed(String),
}

/// Why a commit was not made. Each variant is a different reaction of the only caller, the driver.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// There was no room; nothing of the batch is stored. Reaction: answer `RESOURCE_EXHAUSTED`, rebuild the engine
    /// from the store, go on.
    #[error("no room on disk for the batch: {0}")]
    Refused(String),
    /// The append or the `fdatasync` failed: what is on disk is unknown until the next start reads it. Reaction: answer
    /// nothing, stop the process. Never try the sync again (its error is reported once, and the pages are gone).
    #[error("the store failed and must not be used again: {0}")]
    Failed(String),
    /// Another owner claimed the store with a later epoch. Reaction: drop all memory of the shard. Cannot happen on
    /// the embedded engine.
    #[error("the store was claimed by another owner with epoch {0:?}")]
    Fenced(crate::Epoch),
    /// It may or may not have happened. Reaction: claim again and rescan, never retry blindly. Cannot happen on the
    /// embedded engine.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
}

/// Why a data directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it. Remedy: stop that process, or use another directory.
    #[error(
        "the data directory {path} is in use by another process{holder}; stop it or choose another `data_dir`"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// `" (pid N)"` when known, else empty.
        holder: String,
    },
    /// It was written by a newer release. Remedy: start that release, or restore a backup.
    #[error(
        "the data directory {path} has format {found}, this release reads up to {supported}; start a newer release"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format number.
        found: u32,
        /// The newest format this release reads.
        supported: u32,
    },
    /// It holds files, but not ours. Remedy: choose an empty directory.
    #[error("{path} is not an Escrow data directory: {fault}; choose an empty directory")]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What was found instead.
        fault: String,
    },
    /// Something in it is damaged in a way that a torn last write cannot explain. The text names the file and the
    /// command that repairs or restores.
    #[error("the data directory is damaged: {file}: {fault}; {remedy}")]
    Damaged {
        /// The file that is damaged.
        file: PathBuf,
        /// What does not fit.
        fault: String,
        /// The command that helps.
        remedy: String,
    },
    /// The operating system refused: permissions, no space, too many files.
    #[error("cannot open {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}
