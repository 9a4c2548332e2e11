//! The live sessions and their outboxes. Owned by the edge: a session registers before the engine hears of it, and is
//! forgotten after the engine heard that it is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Outbox;
use crate::engine::SessionId;

/// See the module. A clone is the same registry.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    last: AtomicU64,
    outboxes: Mutex<HashMap<SessionId, Arc<Outbox>>>,
}

impl Sessions {
    /// A new session, with a number that no other had in this process.
    pub fn open(&self) -> Arc<Outbox> {
        let id = SessionId(self.shared.last.fetch_add(1, Ordering::Relaxed) + 1);
        let outbox = Arc::new(Outbox::new(id));
        self.lock().insert(id, outbox.clone());
        outbox
    }

    /// Forgets a session.
    pub fn forget(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    /// The outbox of a session that is still there.
    pub fn outbox(&self, id: SessionId) -> Option<Arc<Outbox>> {
        self.lock().get(&id).cloned()
    }

    /// Orders every session to end.
    pub fn close_all(&self, reason: &str, retry_after_ms: u64) {
        let outboxes: Vec<_> = self.lock().values().cloned().collect();
        outboxes.iter().for_each(|outbox| outbox.close(reason, retry_after_ms));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Outbox>>> {
        self.shared.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
