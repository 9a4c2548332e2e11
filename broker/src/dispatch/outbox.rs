//! What waits to go out to one session: answers, deliveries, questions. Filled by the engine's thread after the commit
//! that justifies it, emptied by the session's own task. Bounded: a peer that takes nothing is closed, not buffered for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use escrow_protocol::{LeaseToken, MessageId, TransactionId};
use tokio::sync::Notify;

use crate::engine::{CheckQuestion, Delivery, Outcome, SessionId};

/// Most entries that may wait for one session. Answers are bounded by [`COMMANDS_UNDER_WAY_MAX`], deliveries by credit
/// (`limits::CREDIT_MESSAGES_MAX`), questions by the engine's settings: whoever exceeds the sum has stalled.
pub const OUTBOX_ENTRIES_MAX: usize = 131_072;
/// Most commands of one session that may be without an answer: beyond that its next frame is not read.
pub const COMMANDS_UNDER_WAY_MAX: usize = 16_384;
/// What a question is taken for when a frame is filled, bytes: its bodies are at most this much together.
pub(super) const QUESTION_BODY_BYTES_MAX: usize = 64 * 1024;

/// What the edge must remember of a command to word its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// A publish: its correlation, the message's id.
    Publish(u64, MessageId),
    /// A half message: its correlation.
    SendHalf(u64),
    /// A decision: its correlation, the transaction.
    Decide(u64, TransactionId),
    /// A settlement: its correlation, the lease.
    Settle(u64, LeaseToken),
}

/// One thing that waits to go out.
#[derive(Debug)]
pub enum Parcel {
    /// The outcome of a command.
    Answer(Ticket, Outcome),
    /// A message under lease; its body is read when its turn comes.
    Deliver(Delivery),
    /// A question for a checker; its messages are read when its turn comes.
    Ask(CheckQuestion),
}

impl Parcel {
    fn weight(&self) -> usize {
        match self {
            Self::Answer(..) => 64,
            Self::Deliver(delivery) => delivery.body_bytes as usize + 128,
            Self::Ask(_) => QUESTION_BODY_BYTES_MAX,
        }
    }
}

/// Why nothing more goes out to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// The broker ends it, for this reason; the client may come back after so many milliseconds.
    Ordered(String, u64),
    /// More waited than may: its peer has stalled.
    Overrun,
    /// Its client has finished, and everything it asked is answered.
    Settled,
}

#[derive(Debug, Default)]
struct Waiting {
    parcels: VecDeque<Parcel>,
    /// Commands handed to the engine whose answers were not taken yet.
    owed: usize,
    /// No command follows: end when nothing is owed.
    finishing: bool,
    closing: Option<Closing>,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    id: SessionId,
    waiting: Mutex<Waiting>,
    /// Something can be taken.
    filled: Notify,
    /// Answers were taken.
    emptied: Notify,
}

impl Outbox {
    pub(super) fn new(id: SessionId) -> Self {
        Self { id, waiting: Mutex::default(), filled: Notify::new(), emptied: Notify::new() }
    }

    /// Whose it is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Counts `commands` whose answers will come.
    pub fn owe(&self, commands: usize) {
        self.lock().owed += commands;
    }

    /// Puts parcels in, in this order.
    pub fn post(&self, parcels: impl IntoIterator<Item = Parcel>) {
        {
            let mut waiting = self.lock();
            waiting.parcels.extend(parcels);
            if waiting.parcels.len() > OUTBOX_ENTRIES_MAX {
                waiting.parcels.clear();
                waiting.closing = Some(Closing::Overrun);
            }
        }
        self.filled.notify_one();
    }

    /// Orders the session to end once it has sent what waits.
    pub fn close(&self, reason: &str, retry_after_ms: u64) {
        self.lock().closing.get_or_insert_with(|| Closing::Ordered(reason.to_owned(), retry_after_ms));
        self.filled.notify_one();
    }

    /// No further command comes: [`Outbox::take`] ends with [`Closing::Settled`] when the last answer was taken.
    pub fn finish(&self) {
        self.lock().finishing = true;
        self.filled.notify_one();
    }

    /// What waits, at most `entries_max` and about `bytes_max` (one parcel at least); waits for something to come.
    ///
    /// Cancel-safe: nothing is taken before it returns. One caller at a time.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub async fn take(&self, entries_max: usize, bytes_max: usize) -> Result<Vec<Parcel>, Closing> {
        loop {
            if let Some(taken) = self.try_take(entries_max, bytes_max) {
                return taken;
            }
            // `notify_one` stores a permit when nobody waits: nothing posted in between is missed.
            self.filled.notified().await;
        }
    }

    fn try_take(&self, entries_max: usize, bytes_max: usize) -> Option<Result<Vec<Parcel>, Closing>> {
        let mut waiting = self.lock();
        if waiting.parcels.is_empty() {
            let settled = (waiting.finishing && waiting.owed == 0).then_some(Closing::Settled);
            return waiting.closing.clone().or(settled).map(Err);
        }
        let (mut count, mut bytes) = (0, 0);
        for parcel in waiting.parcels.iter().take(entries_max) {
            if count > 0 && bytes + parcel.weight() > bytes_max {
                break;
            }
            bytes += parcel.weight();
            count += 1;
        }
        let taken: Vec<_> = waiting.parcels.drain(..count).collect();
        let answers = taken.iter().filter(|parcel| matches!(parcel, Parcel::Answer(..))).count();
        waiting.owed = waiting.owed.saturating_sub(answers);
        drop(waiting);
        if answers > 0 {
            self.emptied.notify_one();
        }
        Some(Ok(taken))
    }

    /// Everything that waits, at once.
    pub fn take_all(&self) -> Vec<Parcel> {
        self.lock().parcels.drain(..).collect()
    }

    /// Waits until fewer than [`COMMANDS_UNDER_WAY_MAX`] commands are without an answer. Cancel-safe.
    pub async fn room(&self) {
        while self.lock().owed >= COMMANDS_UNDER_WAY_MAX {
            self.emptied.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reply;

    fn answer(correlation: u64) -> Parcel {
        Parcel::Answer(Ticket::SendHalf(correlation), Ok(Reply::Done))
    }

    #[tokio::test]
    async fn what_one_turn_posts_is_taken_together_and_in_order() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post((0..5).map(answer));
        let taken = outbox.take(3, usize::MAX).await.unwrap();
        assert!(matches!(taken[..], [Parcel::Answer(Ticket::SendHalf(0), _), _, _]));
        assert_eq!(outbox.take(1024, usize::MAX).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_large_parcel_is_taken_alone() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post((0..3).map(answer));
        assert_eq!(outbox.take(1024, 1).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_outbox_over_its_bound_closes_and_forgets() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post((0..=OUTBOX_ENTRIES_MAX as u64).map(answer));
        assert_eq!(outbox.take(1024, usize::MAX).await.unwrap_err(), Closing::Overrun);
    }

    #[tokio::test]
    async fn what_waits_goes_out_before_an_ordered_close() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post([answer(1)]);
        outbox.close("stopping", 5);
        assert_eq!(outbox.take(1024, usize::MAX).await.unwrap().len(), 1);
        let closing = outbox.take(1024, usize::MAX).await.unwrap_err();
        assert_eq!(closing, Closing::Ordered("stopping".into(), 5));
    }

    #[tokio::test]
    async fn a_finished_session_is_settled_when_its_last_answer_was_taken() {
        let outbox = Outbox::new(SessionId(1));
        outbox.owe(1);
        outbox.finish();
        outbox.post([answer(1)]);
        assert_eq!(outbox.take(1024, usize::MAX).await.unwrap().len(), 1);
        assert_eq!(outbox.take(1024, usize::MAX).await.unwrap_err(), Closing::Settled);
    }
}
