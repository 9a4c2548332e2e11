//! Producers: publishing, half messages, decisions and check-back, all pipelined on one stream.

mod checker;
mod checks;
mod half;
mod handle;
mod ledger;
mod link;
mod session;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_MESSAGES_MAX};
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_protocol::v1::{ProducerHello, PublishRequest};
use escrow_protocol::{Kind, MessageId, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, TransactionId};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::client::check_group;
use crate::error::{Error, ErrorKind};
use crate::message::Message;
use crate::settings::{OPERATIONS_QUEUED_MAX, Settings};

use self::checker::AnyChecker;
pub use self::checker::{CheckMessage, CheckRequest, Checker, Verdict};
use self::checks::Checks;
pub use self::half::{CheckPolicy, Decided, Decision, HalfBuilder, HalfMessage};
use self::handle::{ProducerHandle, SessionState};
use self::link::ProducerLink;
use self::session::ProducerSession;

/// Marks a producer that can answer check-backs, and so may send half messages.
#[derive(Debug, Clone, Copy)]
pub struct WithChecker(());

/// Marks a producer that cannot answer check-backs, and so may only publish and decide.
#[derive(Debug, Clone, Copy)]
pub struct WithoutChecker(());

/// Settings of a producer.
#[must_use = "nothing happens before `build`"]
pub struct ProducerBuilder<S> {
    channel: Channel,
    settings: Arc<Settings>,
    group: String,
    checker: Option<Arc<dyn AnyChecker>>,
    kinds: Vec<String>,
    check_timeout: Duration,
    marker: PhantomData<S>,
}

impl<S> std::fmt::Debug for ProducerBuilder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerBuilder").field("group", &self.group).field("kinds", &self.kinds).finish()
    }
}

impl ProducerBuilder<WithoutChecker> {
    pub(crate) fn new(channel: Channel, settings: Arc<Settings>, group: String) -> Self {
        Self {
            channel,
            settings,
            group,
            checker: None,
            kinds: Vec::new(),
            check_timeout: Duration::from_secs(5),
            marker: PhantomData,
        }
    }

    /// Gives it a checker, which answers what became of transactions that were left undecided. Only a producer with
    /// one can send half messages.
    pub fn checker(self, checker: impl Checker) -> ProducerBuilder<WithChecker> {
        ProducerBuilder {
            checker: Some(Arc::new(checker)),
            channel: self.channel,
            settings: self.settings,
            group: self.group,
            kinds: self.kinds,
            check_timeout: self.check_timeout,
            marker: PhantomData,
        }
    }
}

impl ProducerBuilder<WithChecker> {
    /// The kinds of transactions the checker can answer for, 1 to 64. The first is the default of the half messages
    /// sent here. Default: one kind, the name of the group.
    pub fn kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// How long a check may take before it is dropped and answered "unknown". Default 5 s, the time the broker waits.
    pub fn check_timeout(mut self, time: Duration) -> Self {
        self.check_timeout = time;
        self
    }
}

impl<S> ProducerBuilder<S> {
    /// Opens the producer's session.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the group or a kind is no name, [`ErrorKind::Unavailable`] if the broker does
    /// not welcome it within the connect timeout. Tried once; later losses reconnect.
    ///
    /// Cancel safe: nothing is left behind.
    pub async fn build(self) -> Result<Producer<S>, Error> {
        check_group(&self.group)?;
        let kinds = match (&self.checker, self.kinds.is_empty()) {
            (None, _) => Vec::new(),
            (Some(_), true) => vec![self.group.clone()],
            (Some(_), false) => self.kinds,
        };
        for kind in &kinds {
            Kind::new(kind)?;
        }
        let default_kind = kinds.first().cloned().unwrap_or_default();
        let hello = ProducerHello {
            protocol_version: PROTOCOL_VERSION,
            protocol_version_min: PROTOCOL_VERSION_MIN,
            client_id: self.settings.client_id.clone(),
            group: self.group.clone(),
            check_kinds: kinds,
        };
        let link = ProducerLink { channel: self.channel, settings: Arc::clone(&self.settings), hello };
        let stream = link.open().await?;
        let (sender, operations) = mpsc::channel(OPERATIONS_QUEUED_MAX);
        let state = Arc::new(SessionState::default());
        state.take_limits(&stream.welcome);
        let handle = ProducerHandle::new(
            sender,
            self.settings.bytes_under_way_max,
            self.settings.operation_timeout,
            Arc::clone(&state),
        );
        let checks = Checks::new(self.checker, self.check_timeout);
        tokio::spawn(ProducerSession::new(link, operations, checks, state).run(stream));
        Ok(Producer {
            handle,
            group: self.group.into(),
            default_kind: default_kind.into(),
            marker: PhantomData,
        })
    }
}

/// Publishes messages, sends half messages and decides them. Cheap to clone; clones share one session, on which any
/// number of operations may be under way at once.
///
/// What is under way is bounded: 64 MiB
/// ([`ClientBuilder::bytes_under_way_max`](crate::ClientBuilder::bytes_under_way_max)) and 16,384 operations; beyond,
/// calls wait. An operation that meets a lost connection, or a broker that is stopping, short of room or overloaded, is
/// sent again by the same ids until its time is over (30 s,
/// [`ClientBuilder::operation_timeout`](crate::ClientBuilder::operation_timeout)).
///
/// A producer without a checker has no `send_half`:
///
/// ```compile_fail,E0599
/// # async fn example(client: escrow::Client) -> Result<(), escrow::Error> {
/// let producer = client.producer("orders").build().await?;
/// let half = producer.send_half(escrow::Message::new("order-paid")).await?; // does not compile
/// # Ok(()) }
/// ```
///
/// A half message is decided at most once, because deciding consumes it:
///
/// ```compile_fail,E0382
/// # async fn example(half: escrow::HalfMessage) -> Result<(), escrow::Error> {
/// half.commit().await?;
/// half.rollback().await?; // does not compile
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Producer<S = WithoutChecker> {
    handle: ProducerHandle,
    group: Arc<str>,
    default_kind: Arc<str>,
    marker: PhantomData<S>,
}

impl<S> Clone for Producer<S> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            group: Arc::clone(&self.group),
            default_kind: Arc::clone(&self.default_kind),
            marker: PhantomData,
        }
    }
}

/// A message is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its id.
    pub message_id: MessageId,
    /// Its place in the topic; `None` while it waits for its `deliver_at`.
    pub offset: Option<u64>,
    /// The same id had been stored before; nothing was stored again.
    pub duplicate: bool,
}

impl<S> Producer<S> {
    /// The producer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Publishes one message, visible at once or at its `deliver_at`. When this returns, it is on disk.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`]: fix the message, nothing was stored. [`ErrorKind::NotFound`]: no such topic.
    /// [`ErrorKind::Exhausted`]: the broker is short of space. Errors with [`outcome_unknown`](Error::outcome_unknown):
    /// it may be stored; publish a clone of the same message, and it is stored once.
    ///
    /// Dropped before it returns: it may be stored.
    pub async fn publish(&self, message: Message) -> Result<Published, Error> {
        check_body(&message, self.handle.body_bytes_max())?;
        let id = message.id();
        let request = PublishRequest { message: Some(message.into_wire()) };
        match self.handle.perform(Command::Publish(request)).await? {
            Outcome::Published(published) => {
                Ok(Published { message_id: id, offset: published.offset, duplicate: published.duplicate })
            }
            _ => Err(unexpected()),
        }
    }

    /// Decides a transaction of this group by its id: for half messages whose [`HalfMessage`] is gone, or whose
    /// decision ended with an unknown outcome. Idempotent.
    ///
    /// # Errors
    /// Those of [`HalfMessage::commit`], and [`Reason::WrongGroup`](crate::Reason::WrongGroup) for the transaction of
    /// another group.
    pub async fn decide(&self, transaction_id: TransactionId, decision: Decision) -> Result<Decided, Error> {
        half::decide(&self.handle, transaction_id, decision).await
    }

    /// Ends the session, of all clones, once everything under way is answered; waits until it has. Half messages that
    /// are undecided stay so. Dropping the last clone (and the last [`HalfMessage`]) ends it too, in the background.
    ///
    /// Cancel safe: the session ends all the same.
    pub async fn close(self) {
        self.handle.close().await;
    }
}

impl Producer<WithChecker> {
    /// Puts one message in escrow: stored, invisible until [`HalfMessage::commit`].
    ///
    /// # Errors
    /// Those of [`HalfBuilder::send`].
    pub async fn send_half(&self, message: Message) -> Result<HalfMessage, Error> {
        self.half().message(message).send().await
    }

    /// A half message of several messages, or with settings of its own.
    pub fn half(&self) -> HalfBuilder<'_> {
        HalfBuilder::new(&self.handle, &self.default_kind)
    }
}

/// What the broker would refuse, or could not even receive.
fn check_body(message: &Message, body_bytes_max: u64) -> Result<(), Error> {
    let bytes = message.body_bytes();
    if body_bytes_max > 0 && bytes as u64 > body_bytes_max {
        return Err(Error::invalid(format!(
            "the body of message {} has {bytes} bytes, the broker takes {body_bytes_max}",
            message.id()
        )));
    }
    Ok(())
}

fn check_messages(messages: &[Message], body_bytes_max: u64) -> Result<(), Error> {
    if messages.is_empty() || messages.len() > TRANSACTION_MESSAGES_MAX {
        return Err(Error::invalid(format!(
            "a transaction holds 1 to {TRANSACTION_MESSAGES_MAX} messages, not {}",
            messages.len()
        )));
    }
    messages.iter().try_for_each(|message| check_body(message, body_bytes_max))?;
    let bytes: usize = messages.iter().map(Message::body_bytes).sum();
    if bytes > TRANSACTION_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the bodies of the transaction have {bytes} bytes together, the broker takes {TRANSACTION_BYTES_MAX}"
        )));
    }
    Ok(())
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the broker answered another question than was asked")
        .with_unknown_outcome(true)
}
