//! Reading the store on disk from any thread.

use std::sync::Arc;

use bytes::Bytes;

use super::Snapshot;
use super::shared::Shared;
use crate::table::Direction;
use crate::{Entry, KeyRange, OnDisk, Read, ReadError, Stats, merge};

/// Reads a [`crate::DiskStore`]. A clone reads the same store. Reads of a store that was closed fail.
#[derive(Debug, Clone)]
pub struct DiskReader {
    shared: Arc<Shared>,
}

impl DiskReader {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// Everything as of the last commit, for as long as the snapshot lives. Waits for an overlay that is on its way to
    /// the table; until the snapshot is dropped none other is started, so that memory grows and commits are throttled in
    /// the end: do not keep it longer than needed.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.shared)
    }

    /// The state of the store now.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Checks the table record by record and the closed journal files frame by frame, while the store runs.
    ///
    /// # Errors
    /// [`ReadError`] if the disk failed; damage is part of the report.
    pub fn verify(&self) -> Result<crate::VerifyReport, ReadError> {
        crate::verify::verify_running(&self.shared, &self.snapshot())
    }
}

impl Read for DiskReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.shared.counted(merge::get(&self.shared.table, &self.shared.layers, key))
    }

    fn get_from_memory(&self, key: &[u8]) -> Result<Option<Bytes>, OnDisk> {
        merge::get_from_memory(self.shared.table.values(), &self.shared.layers, key)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let Shared { table, layers, .. } = &*self.shared;
        self.shared.counted(merge::scan(table, layers, range, Direction::Forward, limit))
    }

    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let Shared { table, layers, .. } = &*self.shared;
        self.shared.counted(merge::scan(table, layers, range, Direction::Backward, limit))
    }
}
