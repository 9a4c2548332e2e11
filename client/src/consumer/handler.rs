//! A consumer as a handler: concurrency, order per ordering key, graceful stop.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug, Display};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::v1::Ack;
use escrow_protocol::v1::settlement::Verb;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::consumer::SubscriptionBuilder;
use crate::consumer::delivery::{Delivery, Lease, nack_verb, reject_verb};
use crate::consumer::received::Received;
use crate::error::Error;
use crate::trace::in_trace_of;

/// What becomes of a delivery that was handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ack,
    /// Failed: it comes again.
    Nack {
        /// When, at the earliest; `None`: as the group's retry policy says.
        after: Option<Duration>,
        /// Why, kept with the message.
        reason: String,
    },
    /// Cannot succeed: to the dead letters now.
    Reject {
        /// Why, kept with the message.
        reason: String,
    },
}

impl Outcome {
    /// Failed: it comes again as the group's retry policy says.
    pub fn nack(reason: impl Display) -> Self {
        Self::Nack { after: None, reason: reason.to_string() }
    }

    /// Failed: it comes again after `delay`.
    pub fn nack_after(delay: Duration, reason: impl Display) -> Self {
        Self::Nack { after: Some(delay), reason: reason.to_string() }
    }

    /// Cannot succeed: to the dead letters now.
    pub fn reject(reason: impl Display) -> Self {
        Self::Reject { reason: reason.to_string() }
    }

    fn into_verb(self) -> Verb {
        match self {
            Self::Ack => Verb::Ack(Ack {}),
            Self::Nack { after, reason } => nack_verb(after, &reason),
            Self::Reject { reason } => reject_verb(&reason),
        }
    }
}

/// What a handler may return: `()` or `Ok(())` for an ack, `Err(e)` for a nack with the error as its reason, an
/// [`Outcome`] (or `Ok` of one) for anything else.
pub trait IntoOutcome {
    /// What becomes of the delivery.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Ack
    }
}

impl<T: IntoOutcome, E: Display> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(outcome) => outcome.into_outcome(),
            Err(error) => Outcome::nack(error),
        }
    }
}

type Handler = Arc<dyn Fn(Received) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A consumer that calls a function for each message. Made by
/// [`SubscriptionBuilder::handler`](crate::SubscriptionBuilder::handler).
#[must_use = "nothing happens before `run` or `run_until`"]
pub struct HandlerConsumer {
    subscription: SubscriptionBuilder,
    handler: Handler,
}

impl Debug for HandlerConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerConsumer").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

impl HandlerConsumer {
    pub(crate) fn new<F, Fut>(subscription: SubscriptionBuilder, handler: F) -> Self
    where
        F: Fn(Received) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoOutcome,
    {
        let handler: Handler = Arc::new(move |received| {
            let handled = handler(received);
            async move { handled.await.into_outcome() }.boxed()
        });
        Self { subscription, handler }
    }

    /// Runs until the broker refuses the consumer for good.
    ///
    /// # Errors
    /// Those of [`SubscriptionBuilder::open`](crate::SubscriptionBuilder::open), at the start or after a loss.
    ///
    /// Dropped, running handlers are aborted at their next await point and their messages are nacked.
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `stop` is ready, then stops gracefully: takes no more, releases what no handler has seen, waits for
    /// the running handlers up to the grace period ([`SubscriptionBuilder::grace`](crate::SubscriptionBuilder::grace),
    /// 30 s) and their settlements; handlers that take longer are aborted at their next await point, and their messages
    /// nacked.
    ///
    /// A handler's panic is a nack. Messages of one ordering key are handled one after another, others up to the
    /// concurrency at once. While a handler runs, its lease is renewed (see [`Delivery`]).
    ///
    /// # Errors
    /// Those of [`SubscriptionBuilder::open`](crate::SubscriptionBuilder::open), at the start or after a loss (then the
    /// running handlers are waited for first).
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let grace = self.subscription.grace;
        let concurrency = self.subscription.concurrency;
        let mut deliveries = self.subscription.open().await?;
        let mut crew = Crew::new(self.handler);
        let mut stop = pin!(stop);
        let outcome = loop {
            tokio::select! {
                () = &mut stop => break Ok(()),
                () = crew.works() => {}
                next = deliveries.next(), if crew.busy() < concurrency => match next {
                    Some(Ok(delivery)) => crew.take(delivery),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
            }
        };
        crew.release_waiting();
        deliveries.stop();
        if timeout(grace, crew.finishes()).await.is_err() {
            tracing::warn!(
                handlers = crew.busy(),
                "handlers did not finish within the grace period, aborted"
            );
            crew.abort().await;
        }
        deliveries.close().await;
        outcome
    }
}

/// A handler that has ended.
struct Handled {
    key: String,
    lease: Lease,
    outcome: Outcome,
}

/// The handlers that run, and what waits for one of the same ordering key.
struct Crew {
    handler: Handler,
    handlers: JoinSet<Handled>,
    /// For each ordering key with a running handler: what waits for it. Bounded by the prefetch.
    keys: HashMap<String, VecDeque<Delivery>>,
    /// Settlements whose result is not known. Bounded by the prefetch.
    settling: FuturesUnordered<BoxFuture<'static, Result<(), Error>>>,
}

impl Crew {
    fn new(handler: Handler) -> Self {
        Self { handler, handlers: JoinSet::new(), keys: HashMap::new(), settling: FuturesUnordered::new() }
    }

    /// How many handlers run.
    fn busy(&self) -> usize {
        self.handlers.len()
    }

    /// Handles it now, or after what is before it in its ordering key.
    fn take(&mut self, delivery: Delivery) {
        let key = delivery.ordering_key();
        if key.is_empty() {
            return self.start(String::new(), delivery);
        }
        match self.keys.get_mut(key) {
            Some(waiting) => waiting.push_back(delivery),
            None => {
                let key = key.to_owned();
                self.keys.insert(key.clone(), VecDeque::new());
                self.start(key, delivery);
            }
        }
    }

    fn start(&mut self, key: String, delivery: Delivery) {
        let handler = Arc::clone(&self.handler);
        let (received, lease) = delivery.into_parts();
        self.handlers.spawn(async move {
            // What the handler sends belongs to the trace of what it handles.
            let trace = received.traceparent().map(str::to_owned);
            let handled = in_trace_of(trace, async move { handler(received).await });
            let handled = AssertUnwindSafe(handled).catch_unwind().await;
            let outcome = handled.unwrap_or_else(|panic| Outcome::nack(panic_text(&*panic)));
            Handled { key, lease, outcome }
        });
    }

    /// Waits until a handler or a settlement ends and does what follows; for ever if there is none. Cancel safe.
    async fn works(&mut self) {
        tokio::select! {
            Some(handled) = self.handlers.join_next() => {
                // An error here is an aborted handler: its lease is nacked by being dropped.
                if let Ok(handled) = handled {
                    self.settle(handled);
                }
            }
            Some(settled) = self.settling.next() => {
                if let Err(error) = settled {
                    tracing::warn!(error = %error, "settlement failed, the message may come again");
                }
            }
            else => std::future::pending().await,
        }
    }

    fn settle(&mut self, handled: Handled) {
        self.settling.push(handled.lease.settle(handled.outcome.into_verb()).boxed());
        if handled.key.is_empty() {
            return;
        }
        match self.keys.get_mut(&handled.key).and_then(VecDeque::pop_front) {
            Some(next) => self.start(handled.key, next),
            None => {
                self.keys.remove(&handled.key);
            }
        }
    }

    /// What no handler has seen goes back to the queue.
    fn release_waiting(&mut self) {
        for delivery in self.keys.values_mut().flat_map(std::mem::take) {
            let (_, lease) = delivery.into_parts();
            lease.settle_silently(Verb::Release(escrow_protocol::v1::Release {}));
        }
    }

    /// Until nothing runs and everything is settled.
    async fn finishes(&mut self) {
        while !self.handlers.is_empty() || !self.settling.is_empty() {
            self.works().await;
        }
    }

    async fn abort(&mut self) {
        self.handlers.abort_all();
        while self.handlers.join_next().await.is_some() {}
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text");
    format!("the handler panicked: {text}")
}
