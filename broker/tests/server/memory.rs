//! What the broker reads for clients that take nothing: one bound for all of them together, and nothing for ever.

use std::time::Duration;

use escrow_broker::broker::{Broker, BrokerConfig};
use escrow_protocol::v1;
use escrow_protocol::v1::consumer_service_client::ConsumerServiceClient;
use escrow_storage::MemStore;
use tonic::transport::{Channel, Endpoint};

use crate::harness::*;

const BODY_BYTES: usize = 64 << 10;
const MESSAGES: u64 = 64;
/// What all sessions may be read for, together.
const ALLOWANCE_BYTES: usize = 256 << 10;
const SLOW: u64 = 12;
/// What each of the slow may be given.
const SLOW_MESSAGES: u32 = 5;

/// A broker with a backlog that is many times what it may read ahead, and a consumer group `slow` of clients that read
/// nothing and whose HTTP/2 takes less than one message.
struct Backlog {
    broker: Broker,
    faults: Faults,
    channel: Channel,
    _slow: Vec<ConsumerStream>,
}

impl Backlog {
    async fn new(peer_stall: Duration) -> Self {
        let faults = Faults::default();
        let store = Faulty { store: MemStore::new(), faults: faults.clone() };
        let config = BrokerConfig { read_ahead_bytes_max: ALLOWANCE_BYTES, peer_stall, ..config() };
        let broker = Broker::start(config, store).await.unwrap();
        let channel = connect(broker.grpc_addr()).await;
        // The groups are there before what they are to read.
        for group in ["slow", "quick"] {
            let mut first = ConsumerStream::open(ConsumerServiceClient::new(channel.clone())).await;
            first.hello(consumer_hello(group, "t")).await;
        }
        let mut producer = v1::producer_service_client::ProducerServiceClient::new(channel.clone());
        let body = "x".repeat(BODY_BYTES);
        for _ in 0..MESSAGES {
            let request = v1::PublishRequest { message: Some(message("t", &body)) };
            producer.publish(request).await.unwrap();
        }
        let mut slow = Vec::new();
        for number in 0..SLOW {
            let endpoint = Endpoint::from_shared(format!("http://{}", broker.grpc_addr())).unwrap();
            let narrow = endpoint.initial_stream_window_size(BODY_BYTES as u32 / 2).connect().await.unwrap();
            let mut session = ConsumerStream::open(ConsumerServiceClient::new(narrow)).await;
            let client_id = format!("slow-{number}");
            session.hello(v1::ConsumerHello { client_id, ..consumer_hello("slow", "t") }).await;
            let credit = v1::Credit { messages: SLOW_MESSAGES, bytes: 1 << 30 };
            session.frame(Some(credit), Vec::new()).await;
            slow.push(session);
        }
        let backlog = Self { broker, faults, channel, _slow: slow };
        backlog.until_all_is_handed_out().await;
        backlog
    }

    /// All have what they may have under lease: whoever reads without a bound reads it now.
    async fn until_all_is_handed_out(&self) {
        let mut admin = v1::admin_service_client::AdminServiceClient::new(self.channel.clone());
        let leased = async {
            loop {
                let group = v1::GetGroupRequest { name: "slow".to_owned() };
                if admin.get_group(group).await.unwrap().into_inner().leased
                    == SLOW * u64::from(SLOW_MESSAGES)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), leased).await.expect("all of them have their leases");
        let mut health = tonic_health::pb::health_client::HealthClient::new(self.channel.clone());
        for _ in 0..200 {
            health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_read_for_all_who_take_nothing_is_bounded_together() {
    let backlog = Backlog::new(Duration::from_secs(60)).await;
    let read = backlog.faults.bytes_read();
    // A record is a little more than its body; each share is for one message here.
    let most = ALLOWANCE_BYTES + ALLOWANCE_BYTES / 8;
    assert!((1..=most).contains(&read), "{read} bytes were read, {ALLOWANCE_BYTES} are allowed");
}

#[tokio::test]
async fn whoever_reads_gets_everything_although_others_take_nothing() {
    let backlog = Backlog::new(Duration::from_secs(2)).await;
    let mut quick = ConsumerStream::open(ConsumerServiceClient::new(backlog.channel.clone())).await;
    quick.hello(consumer_hello("quick", "t")).await;
    quick.frame(Some(v1::Credit { messages: 100, bytes: 1 << 30 }), Vec::new()).await;
    // Those who take nothing have the whole allowance: it is free again when their connections were cut.
    let everything = tokio::time::timeout(Duration::from_secs(40), quick.deliveries(MESSAGES as usize));
    assert_eq!(everything.await.expect("its turn comes").len(), MESSAGES as usize);
    drop(backlog.broker);
}
