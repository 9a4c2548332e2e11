//! Consumers: deliveries under leases, with credit, as a stream or as a handler.

mod credit;
mod deliveries;
mod delivery;
mod handler;
mod leases;
mod link;
mod ready;
mod received;
mod session;
mod settlements;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use escrow_protocol::limits::{CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX};
use escrow_protocol::v1::{ConsumerHello, StartPosition, Subscription};
use escrow_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Tag, TopicName};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::client::check_group;
use crate::clock;
use crate::error::Error;
use crate::settings::{EXTENSIONS_QUEUED_MAX, Settings};

use self::credit::Credit;
pub use self::deliveries::Deliveries;
use self::delivery::SettleHandle;
pub use self::delivery::{Delivery, Nack};
pub use self::handler::{HandlerConsumer, IntoOutcome, Outcome};
use self::leases::Leases;
use self::link::ConsumerLink;
pub use self::received::Received;
use self::session::{ConsumerSession, ConsumerState, SettleQueues};

/// Where a new group starts in its topics. A group that exists goes on where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest message kept.
    #[default]
    Oldest,
    /// Behind the newest message.
    Newest,
    /// At the first message committed at this time or later.
    At(SystemTime),
}

/// Settings of a consumer.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `open` or `handler`"]
pub struct SubscriptionBuilder {
    channel: Channel,
    settings: Arc<Settings>,
    group: String,
    subscriptions: Vec<Subscription>,
    broadcast: bool,
    start: Start,
    prefetch: u32,
    prefetch_bytes: u64,
    hold_max: Duration,
    concurrency: usize,
    grace: Duration,
}

impl SubscriptionBuilder {
    pub(crate) fn new(channel: Channel, settings: Arc<Settings>, group: String) -> Self {
        Self {
            channel,
            settings,
            group,
            subscriptions: Vec::new(),
            broadcast: false,
            start: Start::Oldest,
            prefetch: 256,
            prefetch_bytes: 64 * 1024 * 1024,
            hold_max: Duration::from_secs(3600),
            concurrency: 16,
            grace: Duration::from_secs(30),
        }
    }

    /// Subscribes the group to all messages of `topic`. Without any topic, the consumer joins the group as it is.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.topic_with_tags(topic, std::iter::empty::<String>())
    }

    /// Subscribes the group to those messages of `topic` that have one of `tags` (at most 64; none: all).
    pub fn topic_with_tags<T: Into<String>>(
        mut self,
        topic: impl Into<String>,
        tags: impl IntoIterator<Item = T>,
    ) -> Self {
        let tags = tags.into_iter().map(Into::into).collect();
        self.subscriptions.push(Subscription { topic: topic.into(), tags });
        self
    }

    /// Gives this client a group of its own, `<group>.<client_id>`, so that every client gets every message. Set a
    /// [`client_id`](crate::ClientBuilder::client_id) that stays the same to go on after a restart.
    pub fn broadcast(mut self) -> Self {
        self.broadcast = true;
        self
    }

    /// Where the group starts if this subscription creates it. Default: [`Start::Oldest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How many deliveries may be here at once, in the client and in user code, until settled; 1 to 100,000. More
    /// hides the way to the broker, less spreads work better over consumers. Default 256.
    pub fn prefetch(mut self, messages: u32) -> Self {
        self.prefetch = messages;
        self
    }

    /// How many bytes of bodies may be here at once, at most 1 GiB. A larger body still comes, alone. Default 64 MiB.
    pub fn prefetch_bytes(mut self, bytes: u64) -> Self {
        self.prefetch_bytes = bytes;
        self
    }

    /// How long a delivery's lease is renewed by itself, counted from its arrival in the client. After that the lease
    /// runs out and the message is tried again elsewhere: the bound for a consumer that hangs. Default 1 h.
    pub fn hold_max(mut self, time: Duration) -> Self {
        self.hold_max = time;
        self
    }

    /// How many handlers run at once; at least 1. Only for [`handler`](Self::handler). Default 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.max(1);
        self
    }

    /// How long a graceful stop waits for running handlers. Only for [`handler`](Self::handler). Default 30 s.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// A consumer that calls `handler` for each message: `Ok` acks, `Err` nacks with the error as the reason, an
    /// [`Outcome`] says it exactly.
    ///
    /// ```no_run
    /// # async fn example(client: escrow::Client, stop: impl Future<Output = ()>) -> Result<(), escrow::Error> {
    /// let consumer = client.subscribe("mail").topic("order-paid").concurrency(32);
    /// consumer
    ///     .handler(|received| async move {
    ///         println!("order {} was paid", received.key());
    ///         Ok::<_, std::io::Error>(())
    ///     })
    ///     .run_until(stop)
    ///     .await
    /// # }
    /// ```
    pub fn handler<F, Fut>(self, handler: F) -> HandlerConsumer
    where
        F: Fn(Received) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoOutcome,
    {
        HandlerConsumer::new(self, handler)
    }

    /// Opens the consumer's session.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) if a name or a number is not allowed;
    /// [`Reason::UnknownTopic`](crate::Reason::UnknownTopic) if a topic does not exist;
    /// [`Reason::SubscriptionMismatch`](crate::Reason::SubscriptionMismatch) if the group is subscribed with other
    /// tags; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker does not welcome it within the
    /// connect timeout. Tried once; later losses reconnect.
    ///
    /// Cancel safe: nothing is left behind but, perhaps, the group.
    pub async fn open(self) -> Result<Deliveries, Error> {
        self.check()?;
        let link = ConsumerLink { hello: self.hello(), channel: self.channel, settings: self.settings };
        let stream = link.open().await?;
        let group = stream.welcome.group.clone();
        let (settle_sender, settlements) = mpsc::channel(self.prefetch as usize);
        let (extend_sender, extensions) = mpsc::channel(EXTENSIONS_QUEUED_MAX);
        let handle = SettleHandle {
            settlements: settle_sender,
            extensions: extend_sender,
            operation_timeout: link.settings.operation_timeout,
        };
        let state = Arc::new(ConsumerState::default());
        let session = ConsumerSession::new(
            link,
            SettleQueues { settlements, extensions },
            Credit::new(self.prefetch, self.prefetch_bytes),
            Leases::new(self.hold_max),
            Arc::clone(&state),
        );
        tokio::spawn(session.run(stream));
        Ok(Deliveries::new(state, handle, group))
    }

    fn check(&self) -> Result<(), Error> {
        check_group(&self.group)?;
        for subscription in &self.subscriptions {
            TopicName::new(&subscription.topic)?;
            for tag in &subscription.tags {
                Tag::new(tag)?;
            }
        }
        if !(1..=CREDIT_MESSAGES_MAX).contains(&self.prefetch) {
            return Err(Error::invalid(format!(
                "a prefetch of {} messages is not between 1 and {CREDIT_MESSAGES_MAX}",
                self.prefetch
            )));
        }
        if !(1..=CREDIT_BYTES_MAX).contains(&self.prefetch_bytes) {
            return Err(Error::invalid(format!(
                "a prefetch of {} bytes is not between 1 and {CREDIT_BYTES_MAX}",
                self.prefetch_bytes
            )));
        }
        Ok(())
    }

    fn hello(&self) -> ConsumerHello {
        let (start, start_time_ms) = match self.start {
            Start::Oldest => (StartPosition::Oldest, 0),
            Start::Newest => (StartPosition::Newest, 0),
            Start::At(time) => {
                let ms = clock::milliseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default());
                (StartPosition::FromTime, i64::try_from(ms).unwrap_or(i64::MAX))
            }
        };
        ConsumerHello {
            protocol_version: PROTOCOL_VERSION,
            protocol_version_min: PROTOCOL_VERSION_MIN,
            client_id: self.settings.client_id.clone(),
            group: self.group.clone(),
            subscriptions: self.subscriptions.clone(),
            broadcast: self.broadcast,
            start: start.into(),
            start_time_ms,
        }
    }
}
