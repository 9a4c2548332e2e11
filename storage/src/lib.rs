//! Bytes on disk for one shard of Escrow: an ordered key-value store whose commits are durable when they return.
//!
//! It knows nothing of messages, transactions or groups. Keys are bytes in order, values are bytes; one writer
//! (whoever holds the [`Store`]) and any number of readers (clones of [`Store::Reader`]).

mod batch;
mod error;
mod hex;
mod mem;
mod read;
mod store;

pub use batch::{Batch, Edit};
pub use error::{CommitError, OpenError, ReadError};
pub use mem::{FailMode, MemDisk, MemReader, MemStore};
pub use read::{Entry, KeyRange, Read};
pub use store::{Epoch, Room, Sequence, Store};
