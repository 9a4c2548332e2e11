//! The store as it was at one commit, for backups and checks.
//!
//! How it is consistent: no overlay is being written to the table when it is taken, and none is started until it is
//! dropped; the live overlay is frozen (or copied, if a frozen one waits already). So layers and table together are the
//! state as of that commit, while new commits go to the journal and to a new overlay.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::shared::Shared;
use crate::lock::{lock, write};
use crate::overlay::Layers;
use crate::table::Direction;
use crate::{Entry, Epoch, Key, KeyRange, Read, ReadError, Sequence, merge};

/// How many edits a walk over everything takes at a time.
const WALK_EDITS: usize = 256;

/// A consistent view. While it lives the table does not change.
#[derive(Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    layers: Layers,
}

impl Snapshot {
    pub(super) fn take(shared: &Arc<Shared>) -> Self {
        let gate = &shared.gate;
        let mut state = lock(&gate.state);
        // From here on no new spill begins, so the wait is for one spill at most.
        state.pins += 1;
        let waited = gate.changed.wait_while(state, |state| state.is_spilling);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        let layers = {
            let mut layers = write(&shared.layers);
            if layers.can_freeze() {
                layers.freeze();
            }
            layers.clone()
        };
        drop(state);
        Self { shared: Arc::clone(shared), layers }
    }

    /// The last commit it contains.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.layers.last())
    }

    /// The claim under which the store works.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Hands every entry to `visit`, ascending, until it breaks off. `visit` must not read the store: a close that waits
    /// for this walk would let neither go on.
    ///
    /// # Errors
    /// As [`Read::scan`].
    pub fn walk(&self, visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>) -> Result<(), ReadError> {
        let range = everything();
        let walked =
            merge::walk(&self.shared.table, &self.layers, &range, Direction::Forward, WALK_EDITS, visit);
        self.shared.counted(walked)
    }
}

/// A range that holds every key.
pub(crate) fn everything() -> KeyRange {
    KeyRange::new(Bytes::new(), vec![0xff; crate::KEY_BYTES_MAX + 1])
}

impl Read for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.shared.counted(merge::get(&self.shared.table, &self.layers, key))
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let found = merge::scan(&self.shared.table, &self.layers, range, Direction::Forward, limit);
        self.shared.counted(found)
    }

    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let found = merge::scan(&self.shared.table, &self.layers, range, Direction::Backward, limit);
        self.shared.counted(found)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        lock(&self.shared.gate.state).pins -= 1;
        self.shared.gate.changed.notify_all();
    }
}
