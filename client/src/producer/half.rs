//! Half messages: stored, invisible, waiting for the word of their producer.

use std::time::Duration;

use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_protocol::v1::{CheckPolicy as WirePolicy, DecideRequest, SendHalfRequest};
use escrow_protocol::{MessageId, TransactionId, v1};

use crate::clock;
use crate::error::Error;
use crate::message::Message;
use crate::producer::handle::ProducerHandle;
use crate::producer::{check_messages, unexpected};

/// What to do with a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Make its messages visible to every group.
    Commit,
    /// Remove them; nobody ever sees them.
    Rollback,
}

impl Decision {
    fn to_wire(self) -> i32 {
        match self {
            Self::Commit => v1::Decision::Commit.into(),
            Self::Rollback => v1::Decision::Rollback.into(),
        }
    }
}

/// The stored outcome of a decided transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decided {
    /// The transaction.
    pub transaction_id: TransactionId,
    /// `Committed` or `RolledBack`.
    pub state: v1::TransactionState,
    /// Who decided, and when; for a duplicate: the first time.
    pub decider: Option<v1::Decider>,
    /// It had been decided the same way before.
    pub duplicate: bool,
}

/// Departures from the broker's check policy for one transaction. What is not set keeps the broker's setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckPolicy(WirePolicy);

impl CheckPolicy {
    /// The broker's policy, unchanged.
    pub fn new() -> Self {
        Self::default()
    }

    /// From the half message to the first check. Milliseconds count. The broker's default is 6 s.
    pub fn first_check_after(mut self, delay: Duration) -> Self {
        self.0.first_check_after_ms = whole_ms(delay);
        self
    }

    /// How many delivered checks before the in-doubt policy. The broker's default is 15.
    pub fn max_checks(mut self, checks: u32) -> Self {
        self.0.max_checks = checks;
        self
    }

    /// How long undecided before the in-doubt policy. The broker's default is 24 h.
    pub fn max_undecided_age(mut self, age: Duration) -> Self {
        self.0.max_undecided_age_ms = whole_ms(age);
        self
    }

    /// What becomes of the transaction then. The broker's default is to park it.
    pub fn in_doubt(mut self, policy: v1::InDoubtPolicy) -> Self {
        self.0.set_in_doubt(policy);
        self
    }
}

/// At least 1 ms, since 0 means "not set".
fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(clock::milliseconds(duration).max(1)).unwrap_or(i64::MAX)
}

/// A half message to be sent: 1 to 100 messages that become visible together, or not at all.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct HalfBuilder<'a> {
    handle: &'a ProducerHandle,
    request: SendHalfRequest,
    messages: Vec<Message>,
}

impl<'a> HalfBuilder<'a> {
    pub(crate) fn new(handle: &'a ProducerHandle, kind: &str) -> Self {
        let request = SendHalfRequest { kind: kind.to_owned(), ..SendHalfRequest::default() };
        Self { handle, request, messages: Vec::new() }
    }

    /// Adds a message, to any topic.
    pub fn message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds messages.
    pub fn messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.messages.extend(messages);
        self
    }

    /// Sets the kind: which checkers can answer for it. Default: the first of the producer's
    /// [`kinds`](crate::ProducerBuilder::kinds), that is its group unless it named others.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.request.kind = kind.into();
        self
    }

    /// Sets the transaction key, at most 256 bytes: the same key again, in this producer group, returns the same
    /// transaction instead of a second one. Default: none.
    pub fn transaction_key(mut self, key: impl Into<String>) -> Self {
        self.request.transaction_key = key.into();
        self
    }

    /// Departs from the broker's check policy.
    pub fn check_policy(mut self, policy: CheckPolicy) -> Self {
        self.request.check_policy = Some(policy.0);
        self
    }

    /// Stores it at the broker. When this returns, the messages are on disk, invisible, and will be checked back.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest): fix the request, nothing was stored.
    /// [`Reason::TransactionKeyReused`](crate::Reason::TransactionKeyReused): the key names other messages. Errors with
    /// [`outcome_unknown`](Error::outcome_unknown): it may be stored; the check-back settles it, or send the same
    /// messages again, which returns the same transaction.
    ///
    /// Dropped before it returns: it may be stored, and the check-back settles it.
    pub async fn send(self) -> Result<HalfMessage, Error> {
        check_messages(&self.messages, self.handle.body_bytes_max())?;
        let messages = self.messages.into_iter().map(Message::into_wire).collect();
        let request = SendHalfRequest { messages, ..self.request };
        match self.handle.perform(Command::SendHalf(request)).await? {
            Outcome::Prepared(prepared) => Ok(HalfMessage {
                handle: self.handle.clone(),
                transaction_id: TransactionId::from_u64(prepared.transaction_id),
                message_ids: prepared
                    .message_ids
                    .iter()
                    .filter_map(|id| MessageId::from_slice(id).ok())
                    .collect(),
                state: prepared.state(),
                duplicate: prepared.duplicate,
            }),
            _ => Err(unexpected()),
        }
    }
}

/// A half message that is stored and waits for [`commit`](Self::commit) or [`rollback`](Self::rollback).
///
/// Dropped, it stays undecided, on purpose: the local work may have committed, and only the checker can tell. The
/// check-back settles it.
#[derive(Debug)]
#[must_use = "undecided until `commit` or `rollback`; dropped, it is settled by the check-back"]
pub struct HalfMessage {
    handle: ProducerHandle,
    transaction_id: TransactionId,
    message_ids: Vec<MessageId>,
    state: v1::TransactionState,
    duplicate: bool,
}

impl HalfMessage {
    /// The transaction: keep it to decide later with [`Producer::decide`](crate::Producer::decide).
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// The ids of its messages, in the order they were given.
    pub fn message_ids(&self) -> &[MessageId] {
        &self.message_ids
    }

    /// Where it stands: `Prepared`, or what became of it when this was a [`duplicate`](Self::duplicate).
    pub fn state(&self) -> v1::TransactionState {
        self.state
    }

    /// It had been stored before, by the same message ids or the same transaction key.
    pub fn duplicate(&self) -> bool {
        self.duplicate
    }

    /// Makes its messages visible to every group. When this returns, the decision is on disk.
    ///
    /// # Errors
    /// [`Reason::AlreadyDecided`](crate::Reason::AlreadyDecided): it was rolled back before; details say by whom and
    /// when. [`Reason::UnknownTransaction`](crate::Reason::UnknownTransaction): decided longer ago than is remembered.
    /// Errors with [`outcome_unknown`](Error::outcome_unknown): the client has resent the decision until its deadline
    /// and got no answer. Deciding is idempotent: try again with [`Producer::decide`](crate::Producer::decide) and the
    /// [`transaction_id`](Self::transaction_id), or leave it to the check-back.
    ///
    /// Dropped before it returns: it may be committed, or stay undecided for the check-back.
    pub async fn commit(self) -> Result<Decided, Error> {
        decide(&self.handle, self.transaction_id, Decision::Commit).await
    }

    /// Removes its messages; nobody ever sees them. When this returns, the decision is on disk.
    ///
    /// # Errors
    /// As those of [`commit`](Self::commit), with the sides changed.
    pub async fn rollback(self) -> Result<Decided, Error> {
        decide(&self.handle, self.transaction_id, Decision::Rollback).await
    }
}

/// Decides a transaction; the same decision again answers with the stored outcome.
pub(crate) async fn decide(
    handle: &ProducerHandle,
    transaction_id: TransactionId,
    decision: Decision,
) -> Result<Decided, Error> {
    let request = DecideRequest {
        transaction_id: transaction_id.as_u64(),
        decision: decision.to_wire(),
        ..DecideRequest::default()
    };
    match handle.perform(Command::Decide(request)).await? {
        Outcome::Decided(decided) => Ok(Decided {
            transaction_id: TransactionId::from_u64(decided.transaction_id),
            state: decided.state(),
            duplicate: decided.duplicate,
            decider: decided.decider,
        }),
        _ => Err(unexpected()),
    }
}
