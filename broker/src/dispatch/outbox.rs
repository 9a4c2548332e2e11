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
    /// Bytes that are read for it.
    pub fn weight(&self) -> usize {
        match self {
            Self::Answer(..) => 0,
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
    /// Answers: they go first, for they never wait for memory.
    answers: VecDeque<Parcel>,
    /// Deliveries and questions, for which something must be read.
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
            for parcel in parcels {
                match parcel {
                    Parcel::Answer(..) => waiting.answers.push_back(parcel),
                    Parcel::Deliver(_) | Parcel::Ask(_) => waiting.parcels.push_back(parcel),
                }
            }
            if waiting.answers.len() + waiting.parcels.len() > OUTBOX_ENTRIES_MAX {
                waiting.answers.clear();
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

    /// Waits for something to come; the bytes that would be read for what [`Outbox::take`] would then give.
    ///
    /// Cancel-safe. One caller at a time, of this and [`Outbox::answered`].
    ///
    /// # Errors
    /// Why nothing more will come.
    pub async fn weigh(&self, entries_max: usize, bytes_max: usize) -> Result<usize, Closing> {
        loop {
            if let Some(weighed) = self.lock().weigh(entries_max, bytes_max) {
                return weighed;
            }
            // `notify_one` stores a permit when nobody waits: nothing posted in between is missed.
            self.filled.notified().await;
        }
    }

    /// Waits for an answer to come. Cancel-safe.
    pub async fn answered(&self) {
        while self.lock().answers.is_empty() {
            self.filled.notified().await;
        }
    }

    /// What waits, the answers first, each kind in its order: at most `entries_max`, and about as many bytes to be read
    /// as `bytes_max` (one parcel at least, unless it is 0: then answers only).
    pub fn take(&self, entries_max: usize, bytes_max: usize) -> Vec<Parcel> {
        let mut waiting = self.lock();
        let answers = waiting.answers.len().min(entries_max);
        let (others, _) = waiting.others(entries_max - answers, bytes_max);
        let mut taken = Vec::with_capacity(answers + others);
        taken.extend(waiting.answers.drain(..answers));
        taken.extend(waiting.parcels.drain(..others));
        waiting.owed = waiting.owed.saturating_sub(answers);
        drop(waiting);
        if answers > 0 {
            self.emptied.notify_one();
        }
        taken
    }

    /// Puts back what was taken and not read, in its order, before everything else that waits.
    pub fn put_back(&self, parcels: Vec<Parcel>) {
        let mut waiting = self.lock();
        for parcel in parcels.into_iter().rev() {
            waiting.parcels.push_front(parcel);
        }
    }

    /// Everything that waits, at once.
    pub fn take_all(&self) -> Vec<Parcel> {
        self.take(usize::MAX, usize::MAX)
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

impl Waiting {
    /// See [`Outbox::weigh`]; `None` if there is nothing yet.
    fn weigh(&self, entries_max: usize, bytes_max: usize) -> Option<Result<usize, Closing>> {
        if self.answers.is_empty() && self.parcels.is_empty() {
            let settled = (self.finishing && self.owed == 0).then_some(Closing::Settled);
            return self.closing.clone().or(settled).map(Err);
        }
        let entries_left = entries_max.saturating_sub(self.answers.len());
        Some(Ok(self.others(entries_left, bytes_max).1))
    }

    /// How many deliveries and questions fit, and the bytes to be read for them.
    fn others(&self, entries_max: usize, bytes_max: usize) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0_usize);
        let entries_max = if bytes_max == 0 { 0 } else { entries_max };
        for parcel in self.parcels.iter().take(entries_max) {
            if count > 0 && bytes.saturating_add(parcel.weight()) > bytes_max {
                break;
            }
            bytes = bytes.saturating_add(parcel.weight());
            count += 1;
        }
        (count, bytes)
    }
}

#[cfg(test)]
mod tests {
    use escrow_protocol::ShardId;

    use super::*;
    use crate::engine::Reply;

    fn answer(correlation: u64) -> Parcel {
        Parcel::Answer(Ticket::SendHalf(correlation), Ok(Reply::Done))
    }

    fn question(transaction: u64) -> Parcel {
        let transaction = TransactionId::new(ShardId::default(), transaction);
        Parcel::Ask(CheckQuestion { session: SessionId(1), transaction, check: 1 })
    }

    #[tokio::test]
    async fn what_one_turn_posts_is_taken_together_and_in_order() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post((0..5).map(answer));
        assert_eq!(outbox.weigh(3, usize::MAX).await, Ok(0));
        let taken = outbox.take(3, usize::MAX);
        assert!(matches!(taken[..], [Parcel::Answer(Ticket::SendHalf(0), _), _, _]));
        assert_eq!(outbox.take(1024, usize::MAX).len(), 2);
    }

    #[tokio::test]
    async fn answers_wait_for_no_memory() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post([question(1), question(2), answer(1)]);
        assert_eq!(outbox.weigh(1024, 1).await, Ok(QUESTION_BODY_BYTES_MAX));
        assert!(matches!(outbox.take(1024, 0)[..], [Parcel::Answer(..)]));
        assert!(outbox.take(1024, 0).is_empty());
        assert!(matches!(outbox.take(1024, 1)[..], [Parcel::Ask(_)]), "a large parcel goes alone");
    }

    #[tokio::test]
    async fn what_is_put_back_comes_first_again() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post((1..=3).map(question));
        let mut taken = outbox.take(2, usize::MAX);
        outbox.put_back(taken.split_off(1));
        let order: Vec<_> = outbox
            .take_all()
            .iter()
            .map(|parcel| match parcel {
                Parcel::Ask(question) => question.transaction.number(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [2, 3]);
    }

    #[tokio::test]
    async fn an_outbox_over_its_bound_closes_and_forgets() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post((0..=OUTBOX_ENTRIES_MAX as u64).map(answer));
        assert_eq!(outbox.weigh(1024, usize::MAX).await.unwrap_err(), Closing::Overrun);
    }

    #[tokio::test]
    async fn what_waits_goes_out_before_an_ordered_close() {
        let outbox = Outbox::new(SessionId(1));
        outbox.post([answer(1)]);
        outbox.close("stopping", 5);
        assert!(outbox.weigh(1024, usize::MAX).await.is_ok());
        assert_eq!(outbox.take(1024, usize::MAX).len(), 1);
        let closing = outbox.weigh(1024, usize::MAX).await.unwrap_err();
        assert_eq!(closing, Closing::Ordered("stopping".into(), 5));
    }

    #[tokio::test]
    async fn a_finished_session_is_settled_when_its_last_answer_was_taken() {
        let outbox = Outbox::new(SessionId(1));
        outbox.owe(1);
        outbox.finish();
        outbox.post([answer(1)]);
        assert_eq!(outbox.take(1024, usize::MAX).len(), 1);
        assert_eq!(outbox.weigh(1024, usize::MAX).await.unwrap_err(), Closing::Settled);
    }
}
