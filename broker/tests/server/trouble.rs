//! Trouble: stalled peers, too much at once, disks that are full or fail, and the end.

use std::net::SocketAddr;
use std::time::Duration;

use escrow_broker::broker::{Broker, BrokerConfig, StartError};
use escrow_broker::driver::{DriverError, InboxLimits};
use escrow_protocol::v1;
use escrow_protocol::v1::consumer_response::Kind as ConsumerDown;
use escrow_protocol::v1::producer_response::Kind as ProducerDown;
use escrow_storage::{DiskStore, FailMode, MemStore, Options};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::*;

fn published(body: &str) -> v1::PublishRequest {
    v1::PublishRequest { message: Some(message("t", body)) }
}

#[tokio::test]
async fn too_much_at_once_is_refused_with_a_time_to_come_back() {
    let gate = Gate::default();
    let inbox = InboxLimits { inputs_max: 4, ..InboxLimits::default() };
    let store = Gated { store: MemStore::new(), gate: gate.clone() };
    let broker = Broker::start(BrokerConfig { inbox, ..config() }, store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let client = v1::producer_service_client::ProducerServiceClient::new(channel);
    let mut session = ProducerStream::open(client.clone()).await;
    session.hello(producer_hello("orders", &[])).await;

    gate.close();
    session.frame(vec![publish(1, message("t", "held"))]).await;
    gate.reached().await;
    // The engine waits for the disk: four more fit, the others are told so at once.
    session.frame((2..=9).map(|n| publish(n, message("t", "x"))).collect()).await;
    let refused = session.collect(4).await;
    for (result, correlation) in refused.iter().zip(6..) {
        let Some(v1::producer_result::Result::Fault(fault)) = &result.result else { panic!("{result:?}") };
        assert_eq!((result.correlation, fault.reason.as_str()), (correlation, "OVERLOADED"));
        assert!(fault.code == Code::ResourceExhausted as i32 && fault.retry_after_ms > 0);
    }
    let status = client.clone().publish(published("x")).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "OVERLOADED", None);
    let details = status.get_error_details();
    assert!(details.retry_info().expect("RetryInfo").retry_delay.expect("a delay") > Duration::ZERO);

    gate.open();
    let answered = session.collect(5).await;
    assert!(
        answered
            .iter()
            .all(|result| matches!(result.result, Some(v1::producer_result::Result::Published(_))))
    );
    assert!(client.clone().publish(published("x")).await.is_ok());
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let gate = Gate::default();
    let store = Gated { store: MemStore::new(), gate: gate.clone() };
    let disk = store.store.disk().clone();
    let broker = Broker::start(config(), store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut client = v1::producer_service_client::ProducerServiceClient::new(channel.clone());
    gate.close();
    let publishing = tokio::spawn(async move { client.publish(published("x")).await });
    gate.reached().await;
    let before = disk.last_sequence();
    // An answer that was under way on this connection would be there before these.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for _ in 0..20 {
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    }
    assert!(!publishing.is_finished());
    gate.open();
    publishing.await.unwrap().unwrap();
    assert!(disk.last_sequence() > before);
}

#[tokio::test]
async fn a_stalled_consumer_hurts_nobody_else() {
    let harness = Harness::start().await;
    // A connection of its own, whose reader never reads.
    let stalled = {
        let channel = connect(harness.broker.grpc_addr()).await;
        let mut session =
            ConsumerStream::open(v1::consumer_service_client::ConsumerServiceClient::new(channel)).await;
        session
            .hello(v1::ConsumerHello { client_id: "stalled".to_owned(), ..consumer_hello("slow", "t") })
            .await;
        session.frame(Some(v1::Credit { messages: 100_000, bytes: 1 << 30 }), Vec::new()).await;
        session
    };
    let mut reader = harness.consumer_session("quick", "t").await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let body = "x".repeat(64 * 1024);
    let mut read = 0;
    for round in 0..40 {
        reader.frame(Some(v1::Credit { messages: 10, bytes: 1 << 20 }), Vec::new()).await;
        producer.frame((0..10).map(|n| publish(round * 10 + n, message("t", &body))).collect()).await;
        producer.collect(10).await;
        for delivery in reader.deliveries(10).await {
            reader.settle(ack(0, &delivery)).await;
            read += 1;
        }
    }
    assert_eq!(read, 400);
    // It has its 25 MB under lease, of which only windows and a few frames left the store.
    let group = v1::GetGroupRequest { name: "slow".to_owned() };
    assert_eq!(harness.admin().get_group(group).await.unwrap().into_inner().leased, 400);
    drop(stalled);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_for_too_long_is_closed() {
    let harness =
        Harness::start_with(BrokerConfig { peer_stall: Duration::from_millis(100), ..config() }).await;
    let channel = connect(harness.broker.grpc_addr()).await;
    let mut stalled =
        ConsumerStream::open(v1::consumer_service_client::ConsumerServiceClient::new(channel)).await;
    stalled.hello(consumer_hello("slow", "t")).await;
    stalled.frame(Some(v1::Credit { messages: 1_000, bytes: 1 << 30 }), Vec::new()).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let body = "x".repeat(256 * 1024);
    for n in 0..64 {
        producer.run(publish(n, message("t", &body))).await;
    }
    let closed = async {
        while harness.admin().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().consumers > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("closed");
    // The producer, who reads, is still there.
    producer.run(publish(99, message("t", "x"))).await;
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once_and_its_place_is_given_on() {
    use tokio::io::AsyncReadExt as _;
    let broker =
        Broker::start(BrokerConfig { connections_max: 1, ..config() }, MemStore::new()).await.unwrap();
    let held = connect(broker.grpc_addr()).await;
    let mut admin = v1::admin_service_client::AdminServiceClient::new(held);
    admin.get_status(v1::GetStatusRequest {}).await.unwrap();
    let mut beyond = tokio::net::TcpStream::connect(broker.grpc_addr()).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(20), beyond.read(&mut [0; 64])).await;
    // Closed without a word; a connection that is kept begins with the broker's settings.
    assert!(matches!(read.expect("closed"), Ok(0) | Err(_)));
    admin.get_status(v1::GetStatusRequest {}).await.expect("the first is still served");
    drop(admin);
    let given_on = async {
        loop {
            let mut next = tokio::net::TcpStream::connect(broker.grpc_addr()).await.unwrap();
            if matches!(next.read(&mut [0; 64]).await, Ok(1..)) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), given_on).await.expect("its place is free again");
}

#[tokio::test]
async fn many_small_frames_to_a_stalled_peer_do_not_kill_its_connection() {
    let harness = Harness::start().await;
    let mut stalled = harness.consumer_session("slow", "t").await;
    stalled.frame(Some(v1::Credit { messages: 20_000, bytes: 1 << 30 }), Vec::new()).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    // Each turn would be a frame of its own for a peer that reads.
    for n in 0..3_000 {
        producer.frame(vec![publish(n, message("t", "x"))]).await;
        producer.collect(1).await;
    }
    assert_eq!(stalled.deliveries(3_000).await.len(), 3_000);
}

#[tokio::test]
async fn a_backup_that_nobody_takes_ends_and_lets_the_store_go_on() {
    let faults = Faults::default();
    let store = Faulty { store: MemStore::new(), faults: faults.clone() };
    let config = BrokerConfig { peer_stall: Duration::from_millis(100), ..config() };
    let broker = Broker::start(config, store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
    let mut pieces =
        admin.backup_store(v1::BackupStoreRequest { operator: operator() }).await.unwrap().into_inner();
    pieces.message().await.unwrap().expect("it begins");
    tokio::time::timeout(Duration::from_secs(20), faults.backup_ended()).await.expect("given up");
    // Whoever comes back finds no end that looks like a whole backup.
    let end = loop {
        match pieces.message().await {
            Ok(piece) => assert!(piece.is_some(), "the backup is not whole"),
            Err(status) => break status,
        }
    };
    assert_refused(&end, Code::ResourceExhausted, "OVERLOADED", None);
    assert!(end.message().contains("backup"), "{}", end.message());
}

#[tokio::test]
async fn a_backup_that_is_taken_drop_by_drop_ends_too() {
    let faults = Faults::default();
    let store = Faulty { store: MemStore::new(), faults: faults.clone() };
    let config = BrokerConfig { peer_stall: Duration::from_millis(500), ..config() };
    let broker = Broker::start(config, store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
    let mut pieces =
        admin.backup_store(v1::BackupStoreRequest { operator: operator() }).await.unwrap().into_inner();
    // Each piece long before its time, and all of them at a quarter of the pace.
    let mut drops = tokio::time::interval(Duration::from_millis(250));
    let taking = async {
        loop {
            drops.tick().await;
            if pieces.message().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taking).await.expect("ended");
    tokio::time::timeout(Duration::from_secs(20), faults.backup_ended()).await.expect("the store is let go");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_stops_the_broker_and_buries_nothing() {
    let store = MemStore::new();
    let disk = store.disk().clone();
    let faults = Faults::default();
    let mut broker = Broker::start(config(), Faulty { store, faults: faults.clone() }).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut producer = v1::producer_service_client::ProducerServiceClient::new(channel.clone());
    producer.publish(published("healthy")).await.unwrap();
    faults.fail_bodies();
    let consumers = v1::consumer_service_client::ConsumerServiceClient::new(channel);
    let mut consumer = ConsumerStream::open(consumers).await;
    consumer.hello(consumer_hello("billing", "t")).await;
    consumer.credit(1).await;
    let end = tokio::time::timeout(Duration::from_secs(20), broker.wait()).await.expect("it stops");
    assert!(matches!(end, DriverError::Read(_)), "{end}");
    drop(broker);

    // The disk is well again: the message is as it was.
    let healed = Harness::start_on(config(), MemStore::claim(&disk)).await;
    let mut consumer = healed.consumer_session("billing", "t").await;
    consumer.credit(1).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    assert_eq!((&delivery.message.unwrap().body[..], delivery.attempt), (&b"healthy"[..], 1));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_fails_a_receive() {
    let faults = Faults::default();
    let store = Faulty { store: MemStore::new(), faults: faults.clone() };
    let mut broker = Broker::start(config(), store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut producer = v1::producer_service_client::ProducerServiceClient::new(channel.clone());
    producer.publish(published("healthy")).await.unwrap();
    faults.fail_bodies();
    let request = v1::ReceiveRequest {
        group: "billing".into(),
        client_id: "billing-1".into(),
        subscriptions: vec![v1::Subscription { topic: "t".into(), tags: Vec::new() }],
        ..v1::ReceiveRequest::default()
    };
    let mut consumer = v1::consumer_service_client::ConsumerServiceClient::new(channel);
    assert!(consumer.receive(request).await.is_err(), "an empty answer would say that nothing was ready");
    let end = tokio::time::timeout(Duration::from_secs(20), broker.wait()).await.expect("it stops");
    assert!(matches!(end, DriverError::Read(_)), "{end}");
}

#[tokio::test]
async fn a_person_who_meets_a_failed_disk_stops_the_broker() {
    let faults = Faults::default();
    let store = Faulty { store: MemStore::new(), faults: faults.clone() };
    let mut broker = Broker::start(config(), store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut producer = v1::producer_service_client::ProducerServiceClient::new(channel.clone());
    let published = producer.publish(published("healthy")).await.unwrap().into_inner();
    faults.fail_bodies();
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
    let request = v1::GetMessageRequest { message_id: published.message_id };
    // The answer may be cut off with the connection.
    if let Err(status) = admin.get_message(request).await
        && status.code() == Code::Internal
    {
        assert!(status.message().contains("input/output error"), "{}", status.message());
    }
    let end = tokio::time::timeout(Duration::from_secs(20), broker.wait()).await.expect("it stops");
    assert!(matches!(end, DriverError::Read(_)), "{end}");
}

#[tokio::test]
async fn a_failed_commit_stops_the_broker_and_nothing_is_answered() {
    let mut harness = Harness::start().await;
    harness.publish("t", "before").await;
    let mut session = harness.producer_session("orders", &[]).await;
    harness.disk.fail_nth_io(1, FailMode::Lost);
    session.frame(vec![publish(1, message("t", "lost"))]).await;
    let error = harness.broker.wait().await;
    assert!(matches!(error, DriverError::Commit(_)), "{error}");
    // Neither an answer nor a goodbye: the connection is cut.
    let cut = session.next().await;
    assert!(cut.is_err(), "{cut:?}");
    assert!(cut.unwrap_err().get_error_details().error_info().is_none());
    let (status, reason) = http_get(harness.broker.http_addr(), "/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("store failed"), "{reason}");
    assert!(harness.producer().publish(published("after")).await.is_err());
    assert!(matches!(harness.broker.wait().await, DriverError::Commit(_)), "it says so every time");

    drop(harness.broker);
    let again = Harness::start_on(config(), MemStore::claim(&harness.disk)).await;
    let topic =
        again.admin().get_topic(v1::GetTopicRequest { name: "t".to_owned() }).await.unwrap().into_inner();
    assert_eq!(topic.next_offset, 1);
}

/// Where everything new is refused nothing is written, and no commit would tell.
#[tokio::test]
async fn a_store_that_failed_by_itself_stops_a_broker_that_writes_nothing() {
    let faults = Faults::default();
    let store = Faulty { store: MemStore::new(), faults: faults.clone() };
    let mut broker = Broker::start(config(), store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    faults.fail_table();
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
    // A question to the engine: whether it is answered does not matter.
    drop(admin.get_status(v1::GetStatusRequest {}).await);
    let ended = tokio::time::timeout(Duration::from_secs(20), broker.wait()).await;
    assert!(matches!(ended, Ok(DriverError::Commit(_))), "{ended:?}");
}

#[tokio::test]
async fn a_commit_without_room_refuses_its_turn_and_the_broker_goes_on() {
    let harness = Harness::start().await;
    harness.publish("t", "before").await;
    let mut session = harness.consumer_session("g", "t").await;
    harness.disk.refuse_commits(true);
    let status = harness.producer().publish(published("refused")).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "DISK_FULL", None);
    assert!(status.get_error_details().retry_info().is_some());
    // The engine has forgotten its sessions: they are sent away, to come back.
    assert!(matches!(session.next().await, Ok(Some(ConsumerDown::Goodbye(_)))));
    assert!(matches!(session.next().await, Ok(None)));
    harness.disk.refuse_commits(false);
    assert_eq!(harness.publish("t", "after").await.offset, Some(1));
    let mut session = harness.consumer_session("g", "t").await;
    session.credit(10).await;
    assert_eq!(session.deliveries(2).await.len(), 2);
}

#[tokio::test]
async fn while_space_is_short_new_messages_wait_and_the_rest_goes_on() {
    let harness = Harness::start().await;
    harness.publish("t", "before").await;
    let mut consumer = harness.consumer_session("g", "t").await;
    harness.disk.refuse(true);
    let status = harness.producer().publish(published("x")).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "DISK_FULL", None);
    consumer.credit(1).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    consumer.settle(ack(1, &delivery)).await;
    assert_eq!(consumer.result().await.fault, None);
    assert!(!harness.admin().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().accepting);
    harness.disk.refuse(false);
    harness.publish("t", "after").await;
}

#[tokio::test]
async fn a_stop_says_goodbye_and_loses_nothing() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(1).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    producer.run(publish(1, message("t", "x"))).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    assert_eq!(delivery.attempt, 1);

    let (disk, http) = (harness.disk.clone(), harness.broker.http_addr());
    let stopping = tokio::spawn(tokio::time::timeout(Duration::from_secs(10), harness.broker.shutdown()));
    let ProducerDown::Goodbye(goodbye) = producer.next().await.unwrap().unwrap() else {
        panic!("no goodbye")
    };
    assert!(goodbye.retry_after_ms > 0 && goodbye.reason.contains("stopping"));
    assert!(matches!(producer.next().await, Ok(None)));
    assert!(matches!(consumer.next().await, Ok(Some(ConsumerDown::Goodbye(_)))));
    assert!(matches!(consumer.next().await, Ok(None)));
    drop((producer, consumer, harness.channel));
    stopping.await.unwrap().expect("within 10 s").unwrap();
    assert!(tokio::net::TcpStream::connect(http).await.is_err());

    // The lease ended with the memory of the broker: that attempt is not counted.
    let again = Harness::start_on(config(), MemStore::claim(&disk)).await;
    let mut consumer = again.consumer_session("g", "t").await;
    consumer.credit(1).await;
    assert_eq!(consumer.deliveries(1).await[0].attempt, 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_peer_that_stays() {
    let harness = Harness::start().await;
    // A raw connection that never says a word.
    let silent = tokio::net::TcpStream::connect(harness.broker.grpc_addr()).await.unwrap();
    let stopping = tokio::time::timeout(Duration::from_secs(10), harness.broker.shutdown());
    stopping.await.expect("within 10 s").unwrap();
    drop(silent);
}

#[tokio::test]
async fn it_does_not_listen_beyond_loopback_unless_told() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    for (grpc, http) in [(everywhere, config().http_listen), (config().grpc_listen, everywhere)] {
        let exposed = BrokerConfig { grpc_listen: grpc, http_listen: http, ..config() };
        let refused = Broker::start(exposed.clone(), MemStore::new()).await.unwrap_err();
        assert!(matches!(refused, StartError::Exposed(_)), "{refused}");
        assert!(refused.to_string().contains("--insecure"));
        let broker =
            Broker::start(BrokerConfig { insecure: true, ..exposed }, MemStore::new()).await.unwrap();
        broker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let harness = Harness::start().await;
    let taken = harness.broker.grpc_addr();
    let refused = Broker::start(BrokerConfig { grpc_listen: taken, ..config() }, MemStore::new()).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, StartError::Listen { address, .. } if address == taken), "{error}");

    // Nothing is left running: on disk the directory would be locked.
    let directory = tempfile::tempdir().unwrap();
    for listen in [taken, config().grpc_listen] {
        let (store, _) = DiskStore::open(directory.path(), Options::default()).expect("not locked");
        let started = Broker::start(BrokerConfig { grpc_listen: listen, ..config() }, store).await;
        assert_eq!(started.is_ok(), listen != taken);
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let harness = Harness::start().await;
    harness.publish("t", "kept").await;
    let half = v1::SendHalfRequest {
        messages: vec![message("t", "half")],
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        ..Default::default()
    };
    let prepared = harness.producer().send_half(half).await.unwrap().into_inner();
    let disk = harness.disk.clone();
    harness.broker.shutdown().await.unwrap();

    let again = Harness::start_on(config(), MemStore::claim(&disk)).await;
    assert_eq!((again.broker.recovered().topics, again.broker.recovered().undecided), (1, 1));
    let decide = v1::DecideRequest {
        transaction_id: prepared.transaction_id,
        decision: v1::Decision::Commit.into(),
        group: "orders".to_owned(),
        client_id: "orders-2".to_owned(),
    };
    again.producer().decide(decide).await.unwrap();
    let mut consumer = again.consumer_session("g", "t").await;
    consumer.credit(10).await;
    assert_eq!(consumer.deliveries(2).await.len(), 2);
}

#[tokio::test]
async fn it_works_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = DiskStore::open(directory.path(), Options::default()).unwrap();
    let path = Some(directory.path().to_owned());
    let broker = Broker::start(BrokerConfig { data_dir: path, ..config() }, store).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let mut producer = v1::producer_service_client::ProducerServiceClient::new(channel.clone());
    for _ in 0..10 {
        producer.publish(published("x")).await.unwrap();
    }
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
    let stats = admin.get_store_stats(v1::GetStoreStatsRequest {}).await.unwrap().into_inner();
    assert!(stats.syncs >= 10 && stats.journal_bytes > 0 && stats.format == 2, "{stats:?}");
    assert_eq!(stats.data_dir, directory.path().display().to_string());
    assert!(
        admin.verify_store(v1::VerifyStoreRequest { operator: operator() }).await.unwrap().into_inner().sound
    );
    let mut pieces =
        admin.backup_store(v1::BackupStoreRequest { operator: operator() }).await.unwrap().into_inner();
    let mut backup = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        backup.extend_from_slice(&piece.data);
    }
    assert!(backup.starts_with(b"ESCROWBK"));
    drop((producer, admin));
    broker.shutdown().await.unwrap();

    // The backup, restored, is the same broker.
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = elsewhere.path().join("restored");
    escrow_storage::restore(&mut backup.as_slice(), &restored, &Options::default()).unwrap();
    for path in [directory.path(), &restored] {
        let (store, _) = DiskStore::open(path, Options::default()).unwrap();
        let broker = Broker::start(config(), store).await.unwrap();
        let topic = broker.service().topic("t".parse().unwrap()).await.unwrap();
        assert_eq!(topic.next.0, 10);
        broker.shutdown().await.unwrap();
    }
}
