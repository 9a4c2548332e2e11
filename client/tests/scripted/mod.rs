//! A broker on loopback that does exactly what a test tells it: each session that a client opens is handed to the test,
//! which reads the client's frames and writes the broker's.

#![allow(dead_code)] // Each test file uses its part of it.

use std::net::SocketAddr;
use std::time::Duration;

use escrow::Client;
use escrow::v1::consumer_service_server::{ConsumerService, ConsumerServiceServer};
use escrow::v1::producer_command::Command;
use escrow::v1::producer_service_server::{ProducerService, ProducerServiceServer};
use escrow::v1::{self, consumer_request, consumer_response, producer_request, producer_response};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for what must come. Never waited for in a test that passes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for frames the test writes ahead of the client.
const FRAMES_AHEAD: usize = 64;

pub(crate) struct ScriptedBroker {
    address: SocketAddr,
    producers: mpsc::Receiver<ProducerSession>,
    consumers: mpsc::Receiver<ConsumerSession>,
}

impl ScriptedBroker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (producer_sender, producers) = mpsc::channel(16);
        let (consumer_sender, consumers) = mpsc::channel(16);
        let server = Server::builder()
            .add_service(ProducerServiceServer::new(Sessions(producer_sender)))
            .add_service(ConsumerServiceServer::new(Sessions(consumer_sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Self { address, producers, consumers }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client that reconnects at once.
    pub(crate) async fn client(&self) -> Client {
        self.client_with_operations_of(Duration::from_secs(30)).await
    }

    pub(crate) async fn client_with_operations_of(&self, time: Duration) -> Client {
        Client::builder(self.url())
            .client_id("test-1")
            .reconnect_delays(Duration::from_millis(1), Duration::from_millis(5))
            .operation_timeout(time)
            .connect()
            .await
            .expect("connected")
    }

    /// The next session a producer opens, before its welcome.
    pub(crate) async fn producer(&mut self) -> ProducerSession {
        let mut session = within("a producer session", self.producers.recv()).await.expect("broker runs");
        session.hello = session.read_hello().await;
        session
    }

    /// The next session a producer opens, welcomed.
    pub(crate) async fn welcomed_producer(&mut self) -> ProducerSession {
        let session = self.producer().await;
        session.welcome().await;
        session
    }

    /// The next session a consumer opens, before its welcome.
    pub(crate) async fn consumer(&mut self) -> ConsumerSession {
        let mut session = within("a consumer session", self.consumers.recv()).await.expect("broker runs");
        session.hello = session.read_hello().await;
        session
    }

    /// The next session a consumer opens, welcomed, with leases of that length.
    pub(crate) async fn welcomed_consumer(&mut self, lease: Duration) -> ConsumerSession {
        let mut session = self.consumer().await;
        session.welcome(lease).await;
        session
    }
}

/// What must happen, happens soon.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(crate) struct ProducerSession {
    pub(crate) hello: v1::ProducerHello,
    inbound: Streaming<v1::ProducerRequest>,
    outbound: mpsc::Sender<Result<v1::ProducerResponse, Status>>,
}

impl ProducerSession {
    async fn read_hello(&mut self) -> v1::ProducerHello {
        match within("a hello", self.inbound.message()).await.expect("readable").and_then(|frame| frame.kind)
        {
            Some(producer_request::Kind::Hello(hello)) => hello,
            other => panic!("the first frame was {other:?}"),
        }
    }

    pub(crate) async fn welcome(&self) {
        self.welcome_with_version(1).await;
    }

    pub(crate) async fn welcome_with_version(&self, protocol_version: u32) {
        self.send(producer_response::Kind::Welcome(v1::ProducerWelcome {
            protocol_version,
            broker_version: "scripted".into(),
            body_bytes_max: 4 * 1024 * 1024,
        }))
        .await;
    }

    /// The commands of the next frame; none at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Vec<v1::ProducerCommand> {
        match within("a frame", self.inbound.message()).await.ok().flatten().and_then(|frame| frame.kind) {
            Some(producer_request::Kind::Frame(frame)) => frame.commands,
            None => Vec::new(),
            other => panic!("instead of a frame came {other:?}"),
        }
    }

    /// The one command of the next frame.
    pub(crate) async fn command(&mut self) -> (u64, Command) {
        let mut commands = self.frame().await;
        assert_eq!(commands.len(), 1, "{commands:?}");
        let command = commands.remove(0);
        (command.correlation, command.command.expect("a command"))
    }

    pub(crate) async fn answer(&self, correlation: u64, result: v1::producer_result::Result) {
        let results = vec![v1::ProducerResult { correlation, result: Some(result) }];
        self.send(producer_response::Kind::Frame(v1::ProducerResults { results, questions: Vec::new() }))
            .await;
    }

    pub(crate) async fn ask(&self, question: v1::CheckQuestion) {
        let questions = vec![question];
        self.send(producer_response::Kind::Frame(v1::ProducerResults { results: Vec::new(), questions }))
            .await;
    }

    pub(crate) async fn send(&self, kind: producer_response::Kind) {
        let response = v1::ProducerResponse { kind: Some(kind) };
        within("room for a frame", self.outbound.send(Ok(response))).await.expect("client reads");
    }

    /// Ends the stream as a broken connection would.
    pub(crate) async fn break_off(self) {
        let _ = self.outbound.send(Err(Status::unavailable("connection reset"))).await;
    }

    /// Ends the stream as a refusal.
    pub(crate) async fn refuse(self, status: Status) {
        let _ = self.outbound.send(Err(status)).await;
    }
}

pub(crate) struct ConsumerSession {
    pub(crate) hello: v1::ConsumerHello,
    lease: Duration,
    /// What the client granted and was not used, messages.
    pub(crate) credit: u32,
    inbound: Streaming<v1::ConsumerRequest>,
    outbound: mpsc::Sender<Result<v1::ConsumerResponse, Status>>,
}

impl ConsumerSession {
    async fn read_hello(&mut self) -> v1::ConsumerHello {
        match within("a hello", self.inbound.message()).await.expect("readable").and_then(|frame| frame.kind)
        {
            Some(consumer_request::Kind::Hello(hello)) => hello,
            other => panic!("the first frame was {other:?}"),
        }
    }

    pub(crate) async fn welcome(&mut self, lease: Duration) {
        self.welcome_with_version(1, lease).await;
    }

    pub(crate) async fn welcome_with_version(&mut self, protocol_version: u32, lease: Duration) {
        self.lease = lease;
        self.send(consumer_response::Kind::Welcome(v1::ConsumerWelcome {
            protocol_version,
            broker_version: "scripted".into(),
            group: self.hello.group.clone(),
            lease_ms: lease.as_millis() as i64,
        }))
        .await;
    }

    /// The next frame; `None` at the end of the stream. Its credit is counted.
    pub(crate) async fn frame(&mut self) -> Option<v1::ConsumerFrame> {
        match within("a frame", self.inbound.message()).await.ok().flatten()?.kind {
            Some(consumer_request::Kind::Frame(frame)) => {
                self.credit += frame.credit.map_or(0, |credit| credit.messages);
                Some(frame)
            }
            other => panic!("instead of a frame came {other:?}"),
        }
    }

    /// Reads until credit was granted.
    pub(crate) async fn granted(&mut self) -> u32 {
        while self.credit == 0 {
            self.frame().await.expect("the stream goes on");
        }
        self.credit
    }

    /// Reads until a settlement comes and returns those of its frame.
    pub(crate) async fn settlements(&mut self) -> Vec<v1::Settlement> {
        loop {
            let frame = self.frame().await.expect("the stream goes on");
            if !frame.settlements.is_empty() {
                return frame.settlements;
            }
        }
    }

    /// Reads until one settlement comes.
    pub(crate) async fn settlement(&mut self) -> v1::Settlement {
        let mut settlements = self.settlements().await;
        assert_eq!(settlements.len(), 1, "{settlements:?}");
        settlements.remove(0)
    }

    /// Sends messages under the leases `tokens`, in one frame.
    pub(crate) async fn deliver(&mut self, tokens: impl IntoIterator<Item = u64>) {
        self.deliver_keyed(tokens, "").await;
    }

    pub(crate) async fn deliver_keyed(&mut self, tokens: impl IntoIterator<Item = u64>, ordering_key: &str) {
        let deliveries: Vec<_> =
            tokens.into_iter().map(|token| delivery(token, self.lease, ordering_key)).collect();
        self.credit -= u32::try_from(deliveries.len()).expect("few");
        let batch = v1::ConsumerBatch { deliveries, results: Vec::new() };
        self.send(consumer_response::Kind::Frame(batch)).await;
    }

    /// Says what became of a settlement.
    pub(crate) async fn answer(&self, settlement: &v1::Settlement, fault: Option<v1::Fault>) {
        let result = v1::SettleResult {
            correlation: settlement.correlation,
            lease_token: settlement.lease_token,
            fault,
        };
        let batch = v1::ConsumerBatch { deliveries: Vec::new(), results: vec![result] };
        self.send(consumer_response::Kind::Frame(batch)).await;
    }

    pub(crate) async fn send(&self, kind: consumer_response::Kind) {
        let response = v1::ConsumerResponse { kind: Some(kind) };
        within("room for a frame", self.outbound.send(Ok(response))).await.expect("client reads");
    }

    /// Ends the stream as a broken connection would.
    pub(crate) async fn break_off(self) {
        let _ = self.outbound.send(Err(Status::unavailable("connection reset"))).await;
    }

    /// Ends the stream as a refusal.
    pub(crate) async fn refuse(self, status: Status) {
        let _ = self.outbound.send(Err(status)).await;
    }
}

fn delivery(token: u64, lease: Duration, ordering_key: &str) -> v1::Delivery {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&token.to_be_bytes());
    v1::Delivery {
        message: Some(v1::Message {
            id: id.to_vec().into(),
            topic: "orders".into(),
            key: format!("key-{token}"),
            ordering_key: ordering_key.into(),
            ..v1::Message::default()
        }),
        topic: "orders".into(),
        offset: token,
        attempt: 1,
        lease_token: token,
        lease_ms: lease.as_millis() as i64,
        ..v1::Delivery::default()
    }
}

pub(crate) fn stored(offset: u64) -> v1::producer_result::Result {
    let published = v1::PublishResponse { offset: Some(offset), ..v1::PublishResponse::default() };
    v1::producer_result::Result::Published(published)
}

pub(crate) fn prepared(transaction_id: u64) -> v1::producer_result::Result {
    let mut prepared = v1::SendHalfResponse { transaction_id, ..v1::SendHalfResponse::default() };
    prepared.set_state(v1::TransactionState::Prepared);
    v1::producer_result::Result::Prepared(prepared)
}

pub(crate) fn decided(transaction_id: u64, state: v1::TransactionState) -> v1::producer_result::Result {
    let mut decided = v1::DecideResponse { transaction_id, ..v1::DecideResponse::default() };
    decided.set_state(state);
    v1::producer_result::Result::Decided(decided)
}

pub(crate) fn fault(code: tonic::Code, reason: &str, retry_after_ms: i64) -> v1::Fault {
    v1::Fault {
        code: code as i32,
        reason: reason.into(),
        message: "scripted".into(),
        retry_after_ms,
        ..v1::Fault::default()
    }
}

struct Sessions<S>(mpsc::Sender<S>);

#[tonic::async_trait]
impl ProducerService for Sessions<ProducerSession> {
    type SessionStream = ReceiverStream<Result<v1::ProducerResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ProducerRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbound, frames) = mpsc::channel(FRAMES_AHEAD);
        let hello = v1::ProducerHello::default();
        let session = ProducerSession { hello, inbound: request.into_inner(), outbound };
        self.0.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn publish(&self, _: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        Err(Status::unimplemented("the client uses sessions"))
    }

    async fn send_half(
        &self,
        _: Request<v1::SendHalfRequest>,
    ) -> Result<Response<v1::SendHalfResponse>, Status> {
        Err(Status::unimplemented("the client uses sessions"))
    }

    async fn decide(&self, _: Request<v1::DecideRequest>) -> Result<Response<v1::DecideResponse>, Status> {
        Err(Status::unimplemented("the client uses sessions"))
    }
}

#[tonic::async_trait]
impl ConsumerService for Sessions<ConsumerSession> {
    type SessionStream = ReceiverStream<Result<v1::ConsumerResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ConsumerRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbound, frames) = mpsc::channel(FRAMES_AHEAD);
        let session = ConsumerSession {
            hello: v1::ConsumerHello::default(),
            lease: Duration::ZERO,
            credit: 0,
            inbound: request.into_inner(),
            outbound,
        };
        self.0.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn receive(&self, _: Request<v1::ReceiveRequest>) -> Result<Response<v1::ReceiveResponse>, Status> {
        Err(Status::unimplemented("the client uses sessions"))
    }

    async fn settle(&self, _: Request<v1::SettleRequest>) -> Result<Response<v1::SettleResponse>, Status> {
        Err(Status::unimplemented("the client uses sessions"))
    }
}
