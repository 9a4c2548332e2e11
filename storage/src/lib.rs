//! Bytes on disk for one shard of Escrow: an ordered key-value store whose commits are durable when they return.
//!
//! It knows nothing of messages, transactions or groups. Keys are bytes in order, values are bytes; one writer
//! (whoever holds the [`Store`]) and any number of readers (clones of [`Store::Reader`]).

mod backup;
mod batch;
mod builder;
mod clock;
mod codec;
mod directory;
mod disk;
mod error;
mod failpoints;
mod faults;
pub mod fuzzing;
mod hex;
mod journal;
mod key;
mod lock;
mod mem;
mod merge;
mod options;
mod overlay;
mod power;
mod read;
mod remedy;
mod repair;
mod restore;
mod room;
mod salvage;
mod stats;
mod store;
mod table;
mod throttle;
mod values;
mod verify;
mod watermark;

pub use backup::{BackupError, BackupReport, Digest, backup};
pub use batch::{Batch, Edit};
pub use codec::{BATCH_BYTES_MAX, KEY_BYTES_MAX};
pub use directory::FORMAT;
pub use disk::{DiskReader, DiskStore, Opened, Snapshot};
pub use error::{CommitError, OpenError, ReadError};
pub use failpoints::{FailPoint, FailPoints, UnknownFailPoint};
pub use faults::{Fault, Faults, Operation};
pub use key::Key;
pub use mem::{FailMode, MemDisk, MemReader, MemStore};
pub use options::{COMMIT_DELAY_MAX, Options};
pub use read::{Entry, KeyRange, OnDisk, Read};
pub use repair::{Consent, RepairError, RepairReport, repair};
pub use restore::{RestoreError, RestoreReport, restore};
pub use salvage::{SalvageReport, salvage};
pub use stats::{Latency, Observer, Stats};
pub use store::{Epoch, Room, Sequence, Store};
pub use verify::{Finding, VerifyReport, verify};
