//! What answers the broker's question "what became of this transaction?".

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use escrow_protocol::{MessageId, TransactionId, v1};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::message::TRACEPARENT;

/// What a [`Checker`] knows about a local transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It committed: make the messages visible.
    Commit,
    /// It did not commit and never will: remove the messages. Answer so only when a transaction that is still running
    /// can no longer commit.
    Rollback,
    /// Not known now: ask again later.
    Unknown,
}

impl<E> From<Result<Verdict, E>> for Verdict {
    /// An error is [`Verdict::Unknown`].
    fn from(result: Result<Verdict, E>) -> Self {
        result.unwrap_or(Verdict::Unknown)
    }
}

/// Answers check-backs: the broker asks what became of a transaction that its producer left undecided.
///
/// Any instance of the group may be asked, also one that did not send the half message, so look into what all instances
/// share (the database), not into memory. Answer within 5 s, the time the broker waits.
///
/// A panic, or no answer within the [check timeout](crate::ProducerBuilder::check_timeout), is
/// [`Verdict::Unknown`]. At most 64 checks run at once in one producer. The future is dropped at its next await point
/// when the time is over or the program ends.
///
/// A closure `|check| async move { Verdict::Unknown }` is a checker too.
pub trait Checker: Send + Sync + 'static {
    /// What became of the local transaction behind `half`?
    fn check(&self, half: CheckRequest) -> impl Future<Output = Verdict> + Send;
}

impl<F, Answer> Checker for F
where
    F: Fn(CheckRequest) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Verdict> + Send,
{
    fn check(&self, half: CheckRequest) -> impl Future<Output = Verdict> + Send {
        self(half)
    }
}

/// A [`Checker`] whose future is boxed, so that the session needs no type parameter.
pub(crate) trait AnyChecker: Send + Sync {
    fn check_boxed(&self, half: CheckRequest) -> Pin<Box<dyn Future<Output = Verdict> + Send + '_>>;
}

impl<C: Checker> AnyChecker for C {
    fn check_boxed(&self, half: CheckRequest) -> Pin<Box<dyn Future<Output = Verdict> + Send + '_>> {
        Box::pin(self.check(half))
    }
}

/// A question about an undecided transaction.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    question: v1::CheckQuestion,
}

impl CheckRequest {
    pub(crate) fn new(question: v1::CheckQuestion) -> Self {
        Self { question }
    }

    /// The transaction in question.
    pub fn transaction_id(&self) -> TransactionId {
        TransactionId::from_u64(self.question.transaction_id)
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.question.kind
    }

    /// Its transaction key, empty if it was sent without one.
    pub fn transaction_key(&self) -> &str {
        &self.question.transaction_key
    }

    /// When the half message was stored.
    pub fn created_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.question.created_at_ms).unwrap_or(0))
    }

    /// How many checks were delivered before this one.
    pub fn checks_before(&self) -> u32 {
        self.question.checks_before
    }

    /// Its messages as they were sent. Bodies are missing if [`bodies_omitted`](Self::bodies_omitted).
    pub fn messages(&self) -> impl ExactSizeIterator<Item = CheckMessage<'_>> {
        self.question.messages.iter().map(CheckMessage)
    }

    /// The business key of its first message: what most checkers look up. Empty if there is none.
    pub fn key(&self) -> &str {
        self.question.messages.first().map_or("", |message| &message.key)
    }

    /// The W3C trace context of its first message.
    pub fn traceparent(&self) -> Option<&str> {
        let mut messages = self.messages();
        messages.next().and_then(|message| message.header(TRACEPARENT))
    }

    /// Whether the bodies were left out because together they exceed 64 KiB.
    pub fn bodies_omitted(&self) -> bool {
        self.question.bodies_omitted
    }
}

/// A message of the transaction in question.
#[derive(Debug, Clone, Copy)]
pub struct CheckMessage<'a>(&'a v1::Message);

impl<'a> CheckMessage<'a> {
    /// Its id; `None` if the broker sent none that is one.
    pub fn id(&self) -> Option<MessageId> {
        MessageId::from_slice(&self.0.id).ok()
    }

    /// The topic it goes to.
    pub fn topic(&self) -> &'a str {
        &self.0.topic
    }

    /// Its business key; empty: none.
    pub fn key(&self) -> &'a str {
        &self.0.key
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.0.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    /// Its body, unless omitted.
    pub fn body(&self) -> &'a Bytes {
        &self.0.body
    }

    /// Its body, read as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Json`](crate::ErrorKind::Json) if it is not the JSON of a `T`; so it is when it was omitted.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.0.body)?)
    }
}
