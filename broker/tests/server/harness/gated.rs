//! A store whose commits wait at a gate: for tests that need to know what waits while nothing is durable yet.

use std::sync::{Arc, Condvar, Mutex};

use escrow_broker::service::{Administered, StoreAdmin};
use escrow_storage::{Batch, CommitError, Epoch, MemReader, MemStore, Room, Sequence, Store};

/// Opens and closes the way of commits. A clone is the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    closed: bool,
    waiting: usize,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.shared.0.lock().unwrap().closed = true;
    }

    pub(crate) fn open(&self) {
        self.shared.0.lock().unwrap().closed = false;
        self.shared.1.notify_all();
    }

    fn pass(&self) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| state.closed).unwrap();
        state.waiting -= 1;
    }

    /// Waits until a commit stands before the closed gate.
    pub(crate) async fn reached(&self) {
        let gate = self.clone();
        let waiting = tokio::task::spawn_blocking(move || {
            let (state, changed) = &*gate.shared;
            drop(changed.wait_while(state.lock().unwrap(), |state| state.waiting == 0).unwrap());
        });
        waiting.await.expect("waited");
    }
}

/// See the module.
pub(crate) struct Gated {
    pub(crate) store: MemStore,
    pub(crate) gate: Gate,
}

impl Store for Gated {
    type Reader = MemReader;

    fn reader(&self) -> MemReader {
        self.store.reader()
    }

    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn commit(&mut self, batch: Batch) -> Result<Sequence, CommitError> {
        // Nothing to write is not synced.
        if !batch.is_empty() {
            self.gate.pass();
        }
        self.store.commit(batch)
    }

    fn room(&mut self) -> Room {
        self.store.room()
    }
}

impl Administered for Gated {
    fn admin(&self) -> Arc<dyn StoreAdmin> {
        self.store.admin()
    }
}
