//! What the null server delivers: the stamps of what was published or committed, in order. Not the bodies: a long run
//! would not fit into memory.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use escrow_protocol::v1::Message;
use tokio::sync::Notify;

use crate::stamp::STAMP_BYTES;

/// How the null server lies, so that a test can see whether the run notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests make it lie"))]
pub(crate) enum Forgery {
    /// It does not.
    #[default]
    None,
    /// It loses every hundredth message that it said was stored.
    Loses,
    /// It delivers what was rolled back.
    Leaks,
    /// It delivers the newest first.
    Swaps,
}

/// What is left of a message.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) stamp: Bytes,
    pub(crate) body_bytes: usize,
    pub(crate) ordering_key: String,
}

impl Entry {
    fn of(message: &Message) -> Self {
        Self {
            // Copied: a slice would keep the whole frame.
            stamp: Bytes::copy_from_slice(&message.body[..message.body.len().min(STAMP_BYTES)]),
            body_bytes: message.body.len(),
            ordering_key: message.ordering_key.clone(),
        }
    }
}

/// Shared by all sessions.
pub(crate) struct Log {
    keep: bool,
    forgery: Forgery,
    next_transaction: AtomicU64,
    state: Mutex<State>,
    more: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Entry>,
    undecided: HashMap<u64, Vec<Entry>>,
    added: u64,
}

impl Log {
    pub(crate) fn new(keep: bool, forgery: Forgery) -> Self {
        let (state, more) = (Mutex::default(), Notify::new());
        Self { keep, forgery, next_transaction: AtomicU64::new(1), state, more }
    }

    pub(crate) fn publish(&self, message: &Message) {
        if self.keep {
            self.ready(vec![Entry::of(message)]);
        }
    }

    /// The number of the transaction.
    pub(crate) fn hold(&self, messages: &[Message]) -> u64 {
        let id = self.next_transaction.fetch_add(1, Ordering::Relaxed);
        if self.keep {
            self.state().undecided.insert(id, messages.iter().map(Entry::of).collect());
        }
        id
    }

    pub(crate) fn decide(&self, transaction: u64, commit: bool) {
        if !self.keep {
            return;
        }
        let entries = self.state().undecided.remove(&transaction);
        if commit || self.forgery == Forgery::Leaks {
            self.ready(entries.unwrap_or_default());
        }
    }

    fn ready(&self, entries: Vec<Entry>) {
        let mut state = self.state();
        for entry in entries {
            state.added += 1;
            match self.forgery {
                Forgery::Loses if state.added.is_multiple_of(100) => {}
                Forgery::Swaps => state.ready.push_front(entry),
                _ => state.ready.push_back(entry),
            }
        }
        drop(state);
        self.more.notify_waiters();
    }

    /// At most so many; waits for one at least.
    pub(crate) async fn take(&self, most: usize) -> Vec<Entry> {
        loop {
            let more = self.more.notified();
            {
                let mut state = self.state();
                let count = state.ready.len().min(most);
                if count > 0 {
                    return state.ready.drain(..count).collect();
                }
            }
            more.await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
