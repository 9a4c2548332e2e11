//! A client that does one thing at a time and tries nothing twice: what the broker says is what a rig sees.

use std::collections::HashMap;
use std::time::Duration;

use escrow_protocol::v1;
use escrow_protocol::v1::admin_service_client::AdminServiceClient;
use escrow_protocol::v1::consumer_service_client::ConsumerServiceClient;
use escrow_protocol::v1::producer_service_client::ProducerServiceClient;
use escrow_protocol::v1::settlement::Verb;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A call that takes longer has no answer.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// The producer group, and the client of all calls.
const CLIENT: &str = "rig";

/// See the module. A clone shares the connection.
#[derive(Debug, Clone)]
pub struct Unary {
    producer: ProducerServiceClient<Channel>,
    consumer: ConsumerServiceClient<Channel>,
    admin: AdminServiceClient<Channel>,
    topic: &'static str,
    group: &'static str,
}

impl Unary {
    /// Connects, as soon as it is used, and again whenever the broker was away.
    ///
    /// # Panics
    /// If `url` is none.
    pub fn new(url: &str, topic: &'static str, group: &'static str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL").timeout(CALL_LIMIT);
        let channel = endpoint.connect_lazy();
        Self {
            producer: ProducerServiceClient::new(channel.clone()),
            consumer: ConsumerServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            admin: AdminServiceClient::new(channel),
            topic,
            group,
        }
    }

    /// Makes topic and group.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn set_up(&mut self) -> Result<(), Status> {
        let operator = Some(v1::Operator { name: "rig".into(), reason: String::new() });
        let topic = v1::CreateTopicRequest { name: self.topic.into(), operator, ..Default::default() };
        self.admin.create_topic(topic).await?;
        // A group is made by its first consumer.
        self.receive(1).await.map(drop)
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn publish(&mut self, key: u64, body_bytes: usize) -> Result<(), Status> {
        let message = Some(self.message(key, body_bytes));
        self.producer.publish(v1::PublishRequest { message }).await.map(drop)
    }

    /// Sends a half message; says which transaction it is.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn half(&mut self, key: u64, body_bytes: usize) -> Result<u64, Status> {
        let request = v1::SendHalfRequest {
            messages: vec![self.message(key, body_bytes)],
            group: CLIENT.into(),
            client_id: CLIENT.into(),
            ..v1::SendHalfRequest::default()
        };
        Ok(self.producer.send_half(request).await?.into_inner().transaction_id)
    }

    /// Decides a transaction.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn decide(&mut self, transaction_id: u64, decision: v1::Decision) -> Result<(), Status> {
        let (group, client_id) = (CLIENT.into(), CLIENT.into());
        let request = v1::DecideRequest { transaction_id, decision: decision.into(), group, client_id };
        self.producer.decide(request).await.map(drop)
    }

    /// Takes up to `count` messages that are ready: their keys and leases.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn receive(&mut self, count: u32) -> Result<Vec<(u64, u64)>, Status> {
        let subscription = v1::Subscription { topic: self.topic.into(), tags: vec![] };
        let request = v1::ReceiveRequest {
            group: self.group.into(),
            client_id: CLIENT.into(),
            subscriptions: vec![subscription],
            max_messages: count,
            max_bytes: 32 << 20,
            wait_ms: 0,
        };
        let deliveries = self.consumer.receive(request).await?.into_inner().deliveries;
        let named = deliveries.into_iter().map(|delivery| {
            let key = delivery.message.unwrap_or_default().key;
            (key.parse().expect("keys of the rig are numbers"), delivery.lease_token)
        });
        Ok(named.collect())
    }

    /// Acks or rejects leases, all or none of which count.
    ///
    /// # Errors
    /// As the broker says it; if some did not count, `FailedPrecondition`.
    pub async fn settle(&mut self, leases: &[u64], verb: Verb) -> Result<(), Status> {
        let settlements = leases.iter().map(|lease| v1::Settlement {
            correlation: *lease,
            lease_token: *lease,
            verb: Some(verb.clone()),
        });
        let request = v1::SettleRequest { group: self.group.into(), settlements: settlements.collect() };
        let results = self.consumer.settle(request).await?.into_inner().results;
        match results.into_iter().find_map(|result| result.fault) {
            None => Ok(()),
            Some(fault) => Err(status_of(fault)),
        }
    }

    /// The broker at a glance.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn status(&mut self) -> Result<v1::GetStatusResponse, Status> {
        Ok(self.admin.get_status(v1::GetStatusRequest {}).await?.into_inner())
    }

    /// Whether there is a message of this key, of which anybody may know.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn find(&mut self, key: u64) -> Result<bool, Status> {
        let request = v1::FindMessagesRequest { key: key.to_string(), page: None };
        Ok(!self.admin.find_messages(request).await?.into_inner().messages.is_empty())
    }

    /// The keys of all dead letters of the group.
    ///
    /// # Errors
    /// As the broker says it.
    pub async fn dead_letters(&mut self) -> Result<Vec<u64>, Status> {
        let page = Some(v1::Page { limit: 1000, cursor: String::new() });
        let filter = Some(v1::DeadLetterFilter { group: self.group.into(), ..Default::default() });
        let request = v1::ListDeadLettersRequest { page, filter };
        let letters = self.admin.list_dead_letters(request).await?.into_inner().dead_letters;
        let keys = letters.into_iter().map(|letter| letter.message.unwrap_or_default().key);
        Ok(keys.map(|key| key.parse().expect("keys of the rig are numbers")).collect())
    }

    fn message(&self, key: u64, body_bytes: usize) -> v1::Message {
        // No two bodies alike, and none that could be packed.
        let mut rng = fastrand::Rng::with_seed(key);
        let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(body_bytes).collect();
        let (topic, key) = (self.topic.into(), key.to_string());
        v1::Message { topic, key, body: body.into(), ..v1::Message::default() }
    }
}

/// A fault within an answer, as the status that a whole call would have failed with.
fn status_of(fault: v1::Fault) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(fault.reason, "escrow", HashMap::new());
    if let Ok(retry_after_ms @ 1..) = u64::try_from(fault.retry_after_ms) {
        details.set_retry_info(Some(Duration::from_millis(retry_after_ms)));
    }
    Status::with_error_details(Code::from_i32(fault.code), fault.message, details)
}

/// Whether the broker refused for lack of room, as it promises to: `RESOURCE_EXHAUSTED`, `DISK_FULL`, and a hint when to come
/// back.
pub fn is_refused_for_room(status: &Status) -> bool {
    let reason = status.get_details_error_info().map(|info| info.reason);
    status.code() == Code::ResourceExhausted
        && reason.as_deref() == Some("DISK_FULL")
        && status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some())
}
