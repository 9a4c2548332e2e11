//! A raw consumer's session.

use escrow_protocol::v1;
use escrow_protocol::v1::consumer_request::Kind as Up;
use escrow_protocol::v1::consumer_response::Kind as Down;
use escrow_protocol::v1::consumer_service_client::ConsumerServiceClient;
use escrow_protocol::v1::settlement::Verb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) struct ConsumerStream {
    pub(crate) up: mpsc::Sender<v1::ConsumerRequest>,
    pub(crate) down: Streaming<v1::ConsumerResponse>,
}

impl ConsumerStream {
    pub(crate) async fn open(mut client: ConsumerServiceClient<Channel>) -> Self {
        let (up, receiver) = mpsc::channel(64);
        let down = client.session(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Self { up, down }
    }

    pub(crate) async fn send(&self, kind: Up) {
        // A stream that the broker ended takes nothing: the test reads why.
        let _ = self.up.send(v1::ConsumerRequest { kind: Some(kind) }).await;
    }

    pub(crate) async fn frame(&self, credit: Option<v1::Credit>, settlements: Vec<v1::Settlement>) {
        self.send(Up::Frame(v1::ConsumerFrame { credit, settlements })).await;
    }

    pub(crate) async fn credit(&self, messages: u32) {
        self.frame(Some(v1::Credit { messages, bytes: 1 << 20 }), Vec::new()).await;
    }

    pub(crate) async fn settle(&self, settlement: v1::Settlement) {
        self.frame(None, vec![settlement]).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Down>, Status> {
        Ok(self.down.message().await?.map(|response| response.kind.expect("a known kind")))
    }

    pub(crate) async fn hello(&mut self, hello: v1::ConsumerHello) -> v1::ConsumerWelcome {
        self.send(Up::Hello(hello)).await;
        match self.next().await {
            Ok(Some(Down::Welcome(welcome))) => welcome,
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub(crate) async fn batch(&mut self) -> v1::ConsumerBatch {
        match self.next().await {
            Ok(Some(Down::Frame(batch))) => batch,
            other => panic!("no batch but {other:?}"),
        }
    }

    /// Collects deliveries until there are `count`.
    pub(crate) async fn deliveries(&mut self, count: usize) -> Vec<v1::Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            deliveries.extend(self.batch().await.deliveries);
        }
        deliveries
    }

    /// The next result of a settlement.
    pub(crate) async fn result(&mut self) -> v1::SettleResult {
        loop {
            let mut batch = self.batch().await;
            if let Some(result) = batch.results.pop() {
                return result;
            }
        }
    }
}

pub(crate) fn consumer_hello(group: &str, topic: &str) -> v1::ConsumerHello {
    v1::ConsumerHello {
        protocol_version: 1,
        client_id: format!("{group}-1"),
        group: group.to_owned(),
        subscriptions: vec![v1::Subscription { topic: topic.to_owned(), tags: Vec::new() }],
        ..v1::ConsumerHello::default()
    }
}

fn settlement(correlation: u64, delivery: &v1::Delivery, verb: Verb) -> v1::Settlement {
    v1::Settlement { correlation, lease_token: delivery.lease_token, verb: Some(verb) }
}

pub(crate) fn ack(correlation: u64, delivery: &v1::Delivery) -> v1::Settlement {
    settlement(correlation, delivery, Verb::Ack(v1::Ack {}))
}

pub(crate) fn nack(correlation: u64, delivery: &v1::Delivery, delay_ms: i64) -> v1::Settlement {
    let nack = v1::Nack { delay_ms: Some(delay_ms), reason: "not now".to_owned() };
    settlement(correlation, delivery, Verb::Nack(nack))
}

pub(crate) fn reject(correlation: u64, delivery: &v1::Delivery) -> v1::Settlement {
    settlement(correlation, delivery, Verb::Reject(v1::Reject { reason: "never".to_owned() }))
}
