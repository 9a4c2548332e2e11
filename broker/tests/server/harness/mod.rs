//! A broker in this process, on ports of its own, over a store in memory that can be told to fail; and raw clients.

mod consumer;
mod faulty;
mod gated;
mod producer;
mod receiver;

use std::net::SocketAddr;

use escrow_broker::broker::{Broker, BrokerConfig};
use escrow_protocol::v1;
use escrow_protocol::v1::admin_service_client::AdminServiceClient;
use escrow_protocol::v1::consumer_service_client::ConsumerServiceClient;
use escrow_protocol::v1::producer_service_client::ProducerServiceClient;
use escrow_storage::{MemDisk, MemStore};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub(crate) use consumer::{ConsumerStream, ack, consumer_hello, nack, reject};
pub(crate) use faulty::{Faults, Faulty};
pub(crate) use gated::{Gate, Gated};
pub(crate) use producer::{ProducerStream, decide, producer_hello, publish, send_half};
pub(crate) use receiver::{Dialogue, Posted, Webhook, mail_server, tls_file};

/// A broker with its disk and a connection.
pub(crate) struct Harness {
    pub(crate) broker: Broker,
    pub(crate) disk: MemDisk,
    pub(crate) channel: Channel,
}

/// Loopback, any port; topics are made by using them.
pub(crate) fn config() -> BrokerConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = BrokerConfig { grpc_listen: any, http_listen: any, ..BrokerConfig::default() };
    config.settings.topics.create_on_use = true;
    config
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::start_on(config(), MemStore::new()).await
    }

    pub(crate) async fn start_with(config: BrokerConfig) -> Self {
        Self::start_on(config, MemStore::new()).await
    }

    pub(crate) async fn start_on(config: BrokerConfig, store: MemStore) -> Self {
        let disk = store.disk().clone();
        let broker = Broker::start(config, store).await.expect("the broker starts");
        let channel = connect(broker.grpc_addr()).await;
        Self { broker, disk, channel }
    }

    pub(crate) fn producer(&self) -> ProducerServiceClient<Channel> {
        ProducerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn consumer(&self) -> ConsumerServiceClient<Channel> {
        ConsumerServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// A producer's session behind its welcome.
    pub(crate) async fn producer_session(&self, group: &str, kinds: &[&str]) -> ProducerStream {
        let mut session = ProducerStream::open(self.producer()).await;
        session.hello(producer_hello(group, kinds)).await;
        session
    }

    /// A consumer's session behind its welcome, without credit.
    pub(crate) async fn consumer_session(&self, group: &str, topic: &str) -> ConsumerStream {
        let mut session = ConsumerStream::open(self.consumer()).await;
        session.hello(consumer_hello(group, topic)).await;
        session
    }

    /// Publishes one message by a unary call.
    pub(crate) async fn publish(&self, topic: &str, body: &str) -> v1::PublishResponse {
        let request = v1::PublishRequest { message: Some(message(topic, body)) };
        self.producer().publish(request).await.expect("published").into_inner()
    }
}

/// A connection of its own.
pub(crate) async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a legal address");
    endpoint.connect().await.expect("the broker listens")
}

/// A message without an id.
pub(crate) fn message(topic: &str, body: &str) -> v1::Message {
    v1::Message {
        topic: topic.to_owned(),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        ..v1::Message::default()
    }
}

/// Who does things by hand in tests.
pub(crate) fn operator() -> Option<v1::Operator> {
    Some(v1::Operator { name: "ada".to_owned(), reason: "a test".to_owned() })
}

/// The page of everything.
pub(crate) fn whole() -> Option<v1::Page> {
    Some(v1::Page { limit: 1000, cursor: String::new() })
}

/// Asserts code and reason of a refusal, and that a wrong field is named.
#[track_caller]
pub(crate) fn assert_refused(status: &Status, code: Code, reason: &str, field: Option<&str>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{}", status.message());
    assert_eq!(info.domain, "escrow");
    if let Some(field) = field {
        assert_eq!(info.metadata["field"], field, "{}", status.message());
        assert!(status.message().contains(field), "{}", status.message());
    }
}

/// What `GET path` of the HTTP port answers: status and body.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("HTTP listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let status = answer[9..12].parse().expect("a status line");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}
