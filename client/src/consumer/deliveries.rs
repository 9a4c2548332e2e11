//! A consumer as a stream of deliveries.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use crate::consumer::delivery::{Delivery, SettleHandle};
use crate::consumer::session::ConsumerState;
use crate::error::Error;

/// The deliveries of a subscription, as a [`Stream`]; [`next`](Self::next) needs no extension trait.
///
/// It reconnects by itself and never ends on its own, but for one case: the broker takes the consumer back no more,
/// e.g. because a topic was deleted. Then the error comes once, and then `None`.
///
/// Dropped, it stops taking: what was prefetched and not handed out is released, without counting an attempt, and
/// deliveries that were handed out can still be settled. [`close`](Self::close) does the same and waits for it.
#[derive(Debug)]
pub struct Deliveries {
    state: Arc<ConsumerState>,
    handle: SettleHandle,
    group: String,
}

impl Deliveries {
    pub(crate) fn new(state: Arc<ConsumerState>, handle: SettleHandle, group: String) -> Self {
        Self { state, handle, group }
    }

    /// The group joined; for a broadcast subscription the client's own, `<group>.<client_id>`.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The next delivery; `None` after the end.
    ///
    /// # Errors
    /// Those of [`SubscriptionBuilder::open`](crate::SubscriptionBuilder::open), once, when the broker refuses the
    /// consumer after a loss. Open a new subscription when the cause is gone.
    ///
    /// Cancel safe: nothing is taken.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Stops taking, releases what was prefetched and not handed out, and waits until that is done. Deliveries that
    /// were handed out can still be settled.
    ///
    /// Cancel safe: it goes on in the background.
    pub async fn close(self) {
        self.stop();
        self.state.released.cancelled().await;
    }

    /// Stops taking, without waiting.
    pub(crate) fn stop(&self) {
        self.state.closing.cancel();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        self.state
            .ready
            .poll_next(cx)
            .map(|next| next.map(|next| next.map(|delivery| Delivery::new(delivery, self.handle.clone()))))
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.stop();
    }
}
