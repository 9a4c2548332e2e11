//! Raw sessions: a client that says exactly what a rig wants said, and sees every frame that comes back.

use escrow_protocol::v1;
use escrow_protocol::v1::consumer_response::Kind as ConsumerDown;
use escrow_protocol::v1::producer_response::Kind as ProducerDown;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Frames under way to the broker.
const FRAMES_MAX: usize = 64;

/// One session, whoever its peer.
pub struct Raw<Up, Down> {
    up: mpsc::Sender<Up>,
    down: Streaming<Down>,
}

/// A producer's session.
pub type RawProducer = Raw<v1::ProducerRequest, v1::ProducerResponse>;
/// A consumer's session.
pub type RawConsumer = Raw<v1::ConsumerRequest, v1::ConsumerResponse>;

/// A connection of its own to `url`.
///
/// # Errors
/// If nobody listens.
pub async fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(url.to_owned())?.connect().await
}

impl<Up, Down> Raw<Up, Down> {
    /// Sends a frame. A stream that the broker ended takes none: reading says why.
    pub async fn send(&self, frame: Up) {
        let _ = self.up.send(frame).await;
    }

    /// Whether a frame can be sent without waiting: HTTP/2 holds the sender of a broker that reads no more.
    pub fn has_room(&self) -> bool {
        self.up.capacity() > 0
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// Why the broker ended it.
    pub async fn next(&mut self) -> Result<Option<Down>, Status> {
        self.down.message().await
    }

    /// The next frame, if it is there already.
    ///
    /// # Errors
    /// Why the broker ended it.
    pub fn arrived(&mut self) -> Result<Option<Down>, Status> {
        self.down.message().now_or_never().unwrap_or(Ok(None))
    }
}

impl RawProducer {
    /// A session behind its welcome.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn open(channel: Channel, group: &str, kinds: &[&str]) -> Result<Self, Status> {
        let (up, receiver) = mpsc::channel(FRAMES_MAX);
        let mut client = v1::producer_service_client::ProducerServiceClient::new(channel);
        let hello = v1::ProducerHello {
            protocol_version: 1,
            client_id: format!("{group}-1"),
            group: group.to_owned(),
            check_kinds: kinds.iter().map(ToString::to_string).collect(),
            ..v1::ProducerHello::default()
        };
        let hello = v1::producer_request::Kind::Hello(hello);
        let _ = up.send(v1::ProducerRequest { kind: Some(hello) }).await;
        let down = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        let mut session = Self { up, down };
        match session.next().await? {
            Some(v1::ProducerResponse { kind: Some(ProducerDown::Welcome(_)) }) => Ok(session),
            other => Err(Status::internal(format!("no welcome but {other:?}"))),
        }
    }

    /// Sends one command.
    pub async fn command(&self, correlation: u64, command: v1::producer_command::Command) {
        let commands = vec![v1::ProducerCommand { correlation, command: Some(command) }];
        let frame = v1::producer_request::Kind::Frame(v1::ProducerFrame { commands });
        self.send(v1::ProducerRequest { kind: Some(frame) }).await;
    }

    /// The next results and questions.
    ///
    /// # Errors
    /// The end of the stream.
    pub async fn results(&mut self) -> Result<v1::ProducerResults, Status> {
        match self.next().await? {
            Some(v1::ProducerResponse { kind: Some(ProducerDown::Frame(frame)) }) => Ok(frame),
            other => Err(Status::aborted(format!("no results but {other:?}"))),
        }
    }
}

impl RawConsumer {
    /// A session behind its welcome, without credit.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn open(channel: Channel, group: &str, client: &str, topic: &str) -> Result<Self, Status> {
        let (up, receiver) = mpsc::channel(FRAMES_MAX);
        let mut service = v1::consumer_service_client::ConsumerServiceClient::new(channel);
        let hello = v1::ConsumerHello {
            protocol_version: 1,
            client_id: client.to_owned(),
            group: group.to_owned(),
            subscriptions: vec![v1::Subscription { topic: topic.to_owned(), tags: Vec::new() }],
            ..v1::ConsumerHello::default()
        };
        let hello = v1::consumer_request::Kind::Hello(hello);
        let _ = up.send(v1::ConsumerRequest { kind: Some(hello) }).await;
        let down = service.session(ReceiverStream::new(receiver)).await?.into_inner();
        let mut session = Self { up, down };
        match session.next().await? {
            Some(v1::ConsumerResponse { kind: Some(ConsumerDown::Welcome(_)) }) => Ok(session),
            other => Err(Status::internal(format!("no welcome but {other:?}"))),
        }
    }

    /// Sends credit and settlements.
    pub async fn frame(&self, credit: Option<v1::Credit>, settlements: Vec<v1::Settlement>) {
        let frame = v1::consumer_request::Kind::Frame(v1::ConsumerFrame { credit, settlements });
        self.send(v1::ConsumerRequest { kind: Some(frame) }).await;
    }

    /// The next deliveries and results.
    ///
    /// # Errors
    /// The end of the stream.
    pub async fn batch(&mut self) -> Result<v1::ConsumerBatch, Status> {
        match self.next().await? {
            Some(v1::ConsumerResponse { kind: Some(ConsumerDown::Frame(batch)) }) => Ok(batch),
            other => Err(Status::aborted(format!("no batch but {other:?}"))),
        }
    }
}
