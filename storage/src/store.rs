//! The seam: what the broker needs of a store, whatever engine lies below.

use crate::{Batch, CommitError, Read};

/// The number of a commit: 1 for the first, one more for each. Never reused, not after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

/// How often the store was claimed. Durable before the claim returns, so what was made under an older claim (a lease
/// token) can be told from what is made under this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Whether new messages may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    Enough,
    /// Free space is below the floor: refuse new messages; commits that settle or free what is there go on from the
    /// reserve.
    Low,
}

/// An ordered key-value store whose commits are durable when they return. Synchronous; one writer, who got it by
/// claiming it.
pub trait Store: Send {
    /// What other threads read through.
    type Reader: Read + Clone + 'static;

    /// A handle for reading, for this thread or any other. It sees each commit as soon as [`Store::commit`] returned.
    fn reader(&self) -> Self::Reader;

    /// The claim under which this writer works.
    fn epoch(&self) -> Epoch;

    /// Makes `batch` durable, then visible to readers; returns its number. An empty batch costs nothing and returns
    /// the last number.
    ///
    /// # Errors
    /// See [`CommitError`]: after anything but `Refused` this store must not be used again.
    fn commit(&mut self, batch: Batch) -> Result<Sequence, CommitError>;

    /// Whether there is room for new messages; where there is none, what was deleted is cleared away now and then. Cheap:
    /// may be called before every batch, and must be when one is refused, for nothing else makes room.
    fn room(&mut self) -> Room;
}
