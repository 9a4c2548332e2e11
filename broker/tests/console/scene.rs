//! A broker with one of everything that pages show.

use escrow_protocol::v1;

use crate::harness::*;
use crate::html::Page;
use crate::web::{Answer, Ask, form, get};

pub(crate) struct Scene {
    pub(crate) harness: Harness,
    /// An undecided transaction, and one more.
    pub(crate) transactions: [String; 2],
    /// A message with the key `order-42`.
    pub(crate) message: String,
    /// A scheduled message.
    pub(crate) scheduled: String,
    /// Kept open, so that the clients page has clients.
    _sessions: (ConsumerStream, ProducerStream),
}

/// What no page may let through.
pub(crate) const HOSTILE: &str = "<script>alert(\"1\")</script>&amp;";

impl Scene {
    /// Three dead letters in group `billing`, one message that is retried, one scheduled, two transactions undecided.
    pub(crate) async fn set() -> Self {
        let harness = Harness::start().await;
        let mut consumer = harness.consumer_session("billing", "order-paid").await;
        let producer = harness.producer_session("orders", &["order.create"]).await;
        consumer.credit(4).await;
        for key in ["order-42", "order-43", "order-44", HOSTILE] {
            let body = bytes::Bytes::from(format!("{{\"order\":\"{}\"}}", key.replace('"', "'")));
            let header = v1::Header { name: "note".to_owned(), value: HOSTILE.to_owned() };
            let headers = vec![header];
            let message = v1::Message { key: key.to_owned(), body, headers, ..message("order-paid", "") };
            harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
        }
        let deliveries = consumer.deliveries(4).await;
        for delivery in &deliveries[..3] {
            consumer.settle(reject(1, delivery)).await;
            assert_eq!(consumer.result().await.fault, None);
        }
        consumer.settle(nack(1, &deliveries[3], 3_600_000)).await;
        assert_eq!(consumer.result().await.fault, None);

        let later = v1::Message {
            deliver_at_ms: 4_000_000_000_000,
            key: "later".to_owned(),
            ..message("order-paid", "x")
        };
        let far = harness.producer().publish(v1::PublishRequest { message: Some(later) }).await;
        // A year ahead at most: the broker says so, and the test asks for less.
        assert!(far.is_err());
        let soon = deliveries[0].committed_at_ms + 86_400_000;
        let later =
            v1::Message { deliver_at_ms: soon, key: "later".to_owned(), ..message("order-paid", "x") };
        let later = harness.producer().publish(v1::PublishRequest { message: Some(later) }).await.unwrap();

        let transactions = [half(&harness, "t-1").await, half(&harness, "t-2").await];
        let message = uuid(&deliveries[0].message.as_ref().unwrap().id);
        let scheduled = uuid(&later.into_inner().message_id);
        Self { harness, transactions, message, scheduled, _sessions: (consumer, producer) }
    }

    /// The page at this address.
    pub(crate) async fn page(&self, path: impl Into<String>) -> Page {
        Page::read(self.answer(get(path)).await.expect(200).text())
    }

    pub(crate) async fn answer(&self, ask: Ask) -> Answer {
        ask.of(self.harness.broker.http_addr()).await
    }

    /// Opens a form, and sends it with these fields and its token.
    pub(crate) async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.page(path).await.field("token").expect("a form has a token");
        let mut all = vec![("token", token.as_str())];
        all.extend_from_slice(fields);
        self.answer(form(path, &all)).await
    }
}

async fn half(harness: &Harness, key: &str) -> String {
    let request = v1::SendHalfRequest {
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        kind: "order.create".to_owned(),
        messages: vec![v1::Message { key: key.to_owned(), ..message("order-paid", "half") }],
        ..Default::default()
    };
    let answer = harness.producer().send_half(request).await.unwrap().into_inner();
    escrow_protocol::TransactionId::from_u64(answer.transaction_id).to_string()
}

fn uuid(bytes: &[u8]) -> String {
    escrow_protocol::MessageId::from_slice(bytes).unwrap().to_string()
}
