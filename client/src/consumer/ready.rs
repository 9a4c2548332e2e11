//! Deliveries that wait in the client for user code.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use escrow_protocol::v1;
use futures::task::AtomicWaker;

use crate::error::Error;

/// A queue between the session and one reader. Bounded by the credit: the session grants no more than the prefetch.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    state: Mutex<State>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<v1::Delivery>,
    ended: bool,
    error: Option<Error>,
}

impl Ready {
    /// Adds what came.
    pub(crate) fn add(&self, deliveries: impl IntoIterator<Item = v1::Delivery>) {
        self.lock().queue.extend(deliveries);
        self.reader.wake();
    }

    /// Takes all that waits away from the reader.
    pub(crate) fn take_all(&self) -> VecDeque<v1::Delivery> {
        std::mem::take(&mut self.lock().queue)
    }

    /// Nothing more will come; `error` says why, if somebody should know.
    pub(crate) fn end(&self, error: Option<Error>) {
        let mut state = self.lock();
        state.ended = true;
        if error.is_some() {
            state.error = error;
        }
        drop(state);
        self.reader.wake();
    }

    /// The next for the reader; `None` at the end.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Result<v1::Delivery, Error>>> {
        self.reader.register(cx.waker());
        let mut state = self.lock();
        if let Some(delivery) = state.queue.pop_front() {
            return Poll::Ready(Some(Ok(delivery)));
        }
        match state.error.take() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None if state.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
