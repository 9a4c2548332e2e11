//! A delivery: a received message under a lease, to be settled once.

use std::fmt::Display;
use std::future::{Future, IntoFuture};
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use escrow_protocol::limits::REASON_BYTES_MAX;
use escrow_protocol::v1;
use escrow_protocol::v1::settlement::Verb;
use escrow_protocol::v1::{Ack, Extend, Release};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{timeout, timeout_at};

use crate::clock;
use crate::consumer::received::Received;
use crate::consumer::settlements::Settle;
use crate::error::{Error, ErrorKind};

/// A way to the session's task for settlements.
#[derive(Debug, Clone)]
pub(crate) struct SettleHandle {
    /// As many places as the prefetch. Invariant: never full, for each lease sends one final settlement, and no more
    /// leases are held than the prefetch.
    pub(crate) settlements: mpsc::Sender<Settle>,
    pub(crate) extensions: mpsc::Sender<Settle>,
    pub(crate) operation_timeout: Duration,
}

/// The right to settle one delivery. Dropped, it is a nack.
#[derive(Debug)]
pub(crate) struct Lease {
    handle: SettleHandle,
    token: u64,
    settled: bool,
}

impl Lease {
    pub(crate) fn new(handle: SettleHandle, token: u64) -> Self {
        Self { handle, token, settled: false }
    }

    /// Hands the settlement over at once; the future waits for the broker's word.
    pub(crate) fn settle(mut self, verb: Verb) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let handed_over = self.hand_over(verb, Some(reply));
        let time = self.handle.operation_timeout;
        async move {
            handed_over?;
            wait_for(answer, time).await
        }
    }

    /// Settles without waiting for a result.
    pub(crate) fn settle_silently(mut self, verb: Verb) {
        let _ = self.hand_over(verb, None);
    }

    async fn extend(&self, time: Duration) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let lease_ms = i64::try_from(clock::milliseconds(time)).unwrap_or(i64::MAX);
        let verb = Verb::Extend(Extend { lease_ms });
        let settle = Settle { token: self.token, verb, reply: Some(reply) };
        let deadline = clock::now() + self.handle.operation_timeout;
        match timeout_at(deadline, self.handle.extensions.send(settle)).await {
            Ok(handed_over) => handed_over.map_err(|_closed| Error::closed("consumer"))?,
            Err(elapsed) => {
                let text = "too many extensions wait for the session: this one was not sent in time";
                return Err(Error::new(ErrorKind::Timeout, text).because(elapsed));
            }
        }
        wait_for(answer, deadline.saturating_duration_since(clock::now())).await
    }

    fn hand_over(
        &mut self,
        verb: Verb,
        reply: Option<oneshot::Sender<Result<(), Error>>>,
    ) -> Result<(), Error> {
        self.settled = true;
        let settle = Settle { token: self.token, verb, reply };
        self.handle.settlements.try_send(settle).map_err(|_closed| Error::closed("consumer"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            let _ = self.hand_over(nack_verb(None, "dropped by the consumer without an answer"), None);
        }
    }
}

async fn wait_for(answer: oneshot::Receiver<Result<(), Error>>, time: Duration) -> Result<(), Error> {
    match timeout(time, answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_session_gone)) => Err(Error::closed("consumer").with_unknown_outcome(true)),
        Err(elapsed) => {
            let text = "the broker did not answer the settlement in time";
            Err(Error::new(ErrorKind::Timeout, text).because(elapsed).with_unknown_outcome(true))
        }
    }
}

pub(crate) fn nack_verb(delay: Option<Duration>, reason: &str) -> Verb {
    let delay_ms = delay.map(|delay| i64::try_from(clock::milliseconds(delay)).unwrap_or(i64::MAX));
    Verb::Nack(v1::Nack { delay_ms, reason: cut(reason) })
}

pub(crate) fn reject_verb(reason: &str) -> Verb {
    Verb::Reject(v1::Reject { reason: cut(reason) })
}

/// As much of the reason as is kept.
fn cut(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

/// A message under a lease: settle it with [`ack`](Self::ack), [`nack`](Self::nack), [`reject`](Self::reject) or
/// [`release`](Self::release). It dereferences to [`Received`] for its content.
///
/// Dropped without being settled, it is a nack, by the group's retry policy.
///
/// The lease is renewed by itself while the delivery is here, each time when between a half and a third of it is left,
/// until the delivery was held for an hour
/// ([`SubscriptionBuilder::hold_max`](crate::SubscriptionBuilder::hold_max)).
///
/// All ways to settle share these errors: [`Reason::StaleLease`](crate::Reason::StaleLease): the lease was over (held
/// too long, or the session was lost meanwhile), the message is delivered again or has been. Errors with
/// [`outcome_unknown`](Error::outcome_unknown): the session was lost between the settlement and its result; unless it
/// counted, the message is delivered again. In both cases there is nothing to do but to expect it a second time.
#[derive(Debug)]
#[must_use = "dropped, it is a nack"]
pub struct Delivery {
    received: Received,
    lease: Lease,
}

impl Deref for Delivery {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.received
    }
}

impl Delivery {
    pub(crate) fn new(delivery: v1::Delivery, handle: SettleHandle) -> Self {
        let lease = Lease::new(handle, delivery.lease_token);
        Self { received: Received::new(delivery), lease }
    }

    /// Done: it is never delivered to this group again. When this returns, that is on disk.
    ///
    /// # Errors
    /// Those of every settlement, see [`Delivery`].
    ///
    /// Polled once, it is handed over, and dropping the future only forgoes the result. Never polled, it is a nack.
    pub async fn ack(self) -> Result<(), Error> {
        self.lease.settle(Verb::Ack(Ack {})).await
    }

    /// Failed: it comes again. Await the result; [`after`](Nack::after) and [`reason`](Nack::reason) are optional.
    pub fn nack(self) -> Nack {
        Nack { lease: self.lease, delay: None, reason: String::new() }
    }

    /// Cannot succeed: it goes to the dead letters of the group now, with `reason` (at most 1 KiB, longer ones are cut).
    ///
    /// # Errors
    /// Those of every settlement, see [`Delivery`]. Cancel safety as for [`ack`](Self::ack).
    pub async fn reject(self, reason: impl Display) -> Result<(), Error> {
        let verb = reject_verb(&reason.to_string());
        self.lease.settle(verb).await
    }

    /// Was not looked at: it goes back to the queue, and no attempt is counted.
    ///
    /// # Errors
    /// Those of every settlement, see [`Delivery`]. Cancel safety as for [`ack`](Self::ack).
    pub async fn release(self) -> Result<(), Error> {
        self.lease.settle(Verb::Release(Release {})).await
    }

    /// Makes the lease end `time` from now (1 s to 12 h), also past the hour after which it is no longer renewed by
    /// itself.
    ///
    /// # Errors
    /// [`Reason::StaleLease`](crate::Reason::StaleLease): it is over already; stop working on the message.
    ///
    /// Cancel safe: dropped, the lease may have been extended or not.
    pub async fn extend(&self, time: Duration) -> Result<(), Error> {
        self.lease.extend(time).await
    }

    /// The number of this lease: the later of two leases has the larger one, also over a restart of the broker. For
    /// Escrow's own rigs, which check that only the newest lease counts.
    #[doc(hidden)]
    pub fn lease_token(&self) -> u64 {
        self.lease.token
    }

    /// The content alone; the delivery is settled by `Lease`.
    pub(crate) fn into_parts(self) -> (Received, Lease) {
        (self.received, self.lease)
    }
}

/// A nack to be awaited. Dropped without that, it is a nack without a reason all the same.
#[derive(Debug)]
#[must_use = "await it to know that it counted"]
pub struct Nack {
    lease: Lease,
    delay: Option<Duration>,
    reason: String,
}

impl Nack {
    /// When it comes again, at the earliest; at most 30 days. Default: as the group's retry policy says.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Why, for people: kept with the message. At most 1 KiB, longer ones are cut. Default: none.
    pub fn reason(mut self, reason: impl Display) -> Self {
        self.reason = reason.to_string();
        self
    }
}

impl IntoFuture for Nack {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let verb = nack_verb(self.delay, &self.reason);
        Box::pin(self.lease.settle(verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = format!("x{}", "ä".repeat(REASON_BYTES_MAX));
        let cut = cut(&reason);
        assert_eq!(cut.len(), REASON_BYTES_MAX - 1);
        assert!(reason.starts_with(&cut));
        assert_eq!(super::cut("short"), "short");
    }
}
