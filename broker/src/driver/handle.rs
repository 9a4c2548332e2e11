//! The way to the engine, for everybody outside its thread.

use std::sync::Arc;

use escrow_protocol::Reason;
use escrow_storage::ReadError;
use tokio::sync::oneshot;

use super::inbox::{Envelope, Inbox, NotTaken};
use crate::clock::Clock;
use crate::dispatch::{Outbox, Parcel, ReplyTo, Ticket};
use crate::engine::{Input, Outcome, Refusal};

/// When a client that found the inbox full should try again, milliseconds: when what waits longest has been waiting, for so
/// long will it take again; a few turns at least, and soon enough that nobody takes the broker for gone.
const RETRY_WHEN_FULL_MS: std::ops::RangeInclusive<u64> = 50..=5_000;
/// When a client that met a stopping broker should try again, milliseconds.
const RETRY_WHEN_STOPPING_MS: u64 = 1_000;

/// See the module. A clone leads to the same engine.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    pub(super) inbox: Arc<Inbox>,
    pub(super) clock: Clock,
}

impl EngineHandle {
    /// What becomes of `input`, once that is durable. Refuses at once when too much waits.
    ///
    /// Dropped early, the input may still take effect. If the store fails meanwhile there is no answer, ever: the
    /// caller is about to be cut off with its connection.
    ///
    /// # Errors
    /// The engine's refusal; `Overloaded`: try again later; `ShuttingDown`: try again at the next start.
    pub async fn ask(&self, input: Input) -> Outcome {
        let (reply_to, answer) = oneshot::channel();
        let asked = vec![self.envelope(input, ReplyTo::Caller(reply_to))];
        self.put(asked).map_err(|(_, refusal)| refusal)?;
        settle(answer).await
    }

    /// As [`EngineHandle::ask`], but waits for room: for what people ask for, and for what must not be lost.
    ///
    /// # Errors
    /// The engine's refusal; `ShuttingDown`.
    pub async fn insist(&self, input: Input) -> Outcome {
        let (reply_to, answer) = oneshot::channel();
        if !self.inbox.put_when_room(vec![self.envelope(input, ReplyTo::Caller(reply_to))]).await {
            return Err(stopping());
        }
        settle(answer).await
    }

    /// What becomes of each of `inputs`, in order.
    pub async fn ask_all(&self, inputs: Vec<Input>) -> Vec<Outcome> {
        let (answers, asked): (Vec<_>, Vec<_>) = inputs
            .into_iter()
            .map(|input| {
                let (reply_to, answer) = oneshot::channel();
                (answer, self.envelope(input, ReplyTo::Caller(reply_to)))
            })
            .unzip();
        let refused = match self.put(asked) {
            Ok(()) => None,
            Err((rest, refusal)) => Some((answers.len() - rest.len(), refusal)),
        };
        let mut outcomes = Vec::with_capacity(answers.len());
        for (nth, answer) in answers.into_iter().enumerate() {
            outcomes.push(match &refused {
                Some((taken, refusal)) if nth >= *taken => Err(refusal.clone()),
                _ => settle(answer).await,
            });
        }
        outcomes
    }

    /// Hands in the commands of a session's frame; each answer, or the refusal of what found no room, arrives in its
    /// outbox. Whether there was room for all.
    pub fn submit(&self, outbox: &Arc<Outbox>, commands: Vec<(Input, Ticket)>) -> bool {
        // One look at the clock for all of a frame, which came at one time.
        let queued_at_us = self.clock.micros();
        let envelopes = commands.into_iter().map(|(input, ticket)| {
            let reply_to = ReplyTo::Session(outbox.clone(), ticket);
            Envelope { input, reply_to, queued_at_us }
        });
        let Err((rest, refusal)) = self.put(envelopes.collect()) else { return true };
        outbox.post(rest.into_iter().filter_map(|reply_to| match reply_to {
            ReplyTo::Session(_, ticket) => Some(Parcel::Answer(ticket, Err(refusal.clone()))),
            ReplyTo::Nobody | ReplyTo::Caller(_) => None,
        }));
        false
    }

    /// Waits until what waits for the engine is down to half of what may: until then, more would mostly be refused.
    /// Cancel-safe.
    pub async fn relieved(&self) {
        self.inbox.relieved().await;
    }

    /// As [`EngineHandle::submit`], but waits for room; an input without a ticket gets no answer. Not cancel-safe.
    pub async fn submit_when_room(&self, outbox: &Arc<Outbox>, inputs: Vec<(Input, Option<Ticket>)>) {
        let queued_at_us = self.clock.micros();
        let envelopes = inputs.into_iter().map(|(input, ticket)| {
            let reply_to = ticket.map_or(ReplyTo::Nobody, |ticket| ReplyTo::Session(outbox.clone(), ticket));
            Envelope { input, reply_to, queued_at_us }
        });
        // If the engine stops there is no answer, and the session ends.
        self.inbox.put_when_room(envelopes.collect()).await;
    }

    /// Says what happened, as soon as there is room. Not cancel-safe.
    pub async fn tell(&self, input: Input) {
        // If the engine stops nobody needs to know.
        self.inbox.put_when_room(vec![self.envelope(input, ReplyTo::Nobody)]).await;
    }

    /// The store failed elsewhere: the engine stops as if its own read had failed. What waits for it is not answered.
    pub fn fail(&self, error: ReadError) {
        self.inbox.fail(error);
    }

    fn put(&self, envelopes: Vec<Envelope>) -> Result<(), (Vec<ReplyTo>, Refusal)> {
        self.inbox.put(envelopes).map_err(|(rest, why)| {
            let refusal = match why {
                NotTaken::Full => self.full(),
                NotTaken::Closed => stopping(),
            };
            (rest.into_iter().map(|envelope| envelope.reply_to).collect(), refusal)
        })
    }

    fn full(&self) -> Refusal {
        let oldest_at_us = self.inbox.oldest_at_us();
        let waits_ms = oldest_at_us.map_or(0, |at_us| self.clock.micros().saturating_sub(at_us) / 1_000);
        let (soonest, latest) = RETRY_WHEN_FULL_MS.into_inner();
        Refusal::new(
            Reason::Overloaded,
            "more waits than the broker queues; send less at a time and try again",
        )
        .retry_after(waits_ms.clamp(soonest, latest))
    }

    fn envelope(&self, input: Input, reply_to: ReplyTo) -> Envelope {
        Envelope { input, reply_to, queued_at_us: self.clock.micros() }
    }
}

async fn settle(answer: oneshot::Receiver<Outcome>) -> Outcome {
    match answer.await {
        Ok(outcome) => outcome,
        // The engine died with the input: what became of it is not known, so nothing may be said.
        Err(_) => std::future::pending().await,
    }
}

/// The refusal of a broker that stops.
pub fn stopping() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "the broker is stopping; connect again")
        .retry_after(RETRY_WHEN_STOPPING_MS)
}
