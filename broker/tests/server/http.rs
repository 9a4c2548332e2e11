//! The HTTP port.

use crate::harness::*;

#[tokio::test]
async fn a_ready_broker_says_so_and_shows_its_numbers() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    harness.publish("order-paid", "x").await;
    harness.consumer_session("billing", "order-paid").await;
    assert_eq!(http_get(address, "/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(http_get(address, "/readyz").await, (200, "ready\n".to_owned()));
    let (status, page) = http_get(address, "/").await;
    assert_eq!(status, 200);
    assert!(page.contains("<h1>Overview") && page.contains("Undecided"), "{page}");

    let (status, metrics) = http_get(address, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "escrow_messages_published_total 1",
        "escrow_topics 1",
        "escrow_accepting 1",
        "escrow_topic_next_offset{topic=\"order-paid\"} 1",
        "escrow_group_lag_messages{group=\"billing\",topic=\"order-paid\"} 1",
        "escrow_commit_seconds_bucket",
        "escrow_publish_seconds_count 1",
        "escrow_store_last_sequence",
    ] {
        assert!(metrics.contains(line), "{line:?} is not in\n{metrics}");
    }
    assert_eq!(http_get(address, "/nothing").await.0, 404);
}

#[tokio::test]
async fn brokers_in_one_process_do_not_mix_their_numbers() {
    let (one, other) = (Harness::start().await, Harness::start().await);
    one.publish("t", "x").await;
    let (_, metrics) = http_get(other.broker.http_addr(), "/metrics").await;
    assert!(metrics.contains("escrow_messages_published_total 0"), "{metrics}");
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let harness = Harness::start().await;
    let request = escrow_protocol::v1::PublishRequest { message: Some(message("no spaces", "x")) };
    harness.producer().publish(request).await.unwrap_err();
    let (_, metrics) = http_get(harness.broker.http_addr(), "/metrics").await;
    assert!(metrics.contains("escrow_refused_total{reason=\"INVALID_FIELD\"} 1"), "{metrics}");
}

#[tokio::test]
async fn metrics_can_be_turned_off() {
    let harness =
        Harness::start_with(escrow_broker::broker::BrokerConfig { metrics: false, ..config() }).await;
    assert_eq!(http_get(harness.broker.http_addr(), "/metrics").await.0, 404);
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once_and_its_place_is_given_on() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let config = escrow_broker::broker::BrokerConfig { http_connections_max: 1, ..config() };
    let harness = Harness::start_with(config).await;
    let address = harness.broker.http_addr();
    let mut held = tokio::net::TcpStream::connect(address).await.unwrap();
    held.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    assert!(held.read(&mut answer).await.unwrap() > 0, "the first is served");

    let mut beyond = tokio::net::TcpStream::connect(address).await.unwrap();
    let patience = std::time::Duration::from_secs(20);
    let read = tokio::time::timeout(patience, beyond.read(&mut answer)).await;
    assert!(matches!(read.expect("closed"), Ok(0) | Err(_)));
    drop(held);
    let given_on = async {
        loop {
            let mut next = tokio::net::TcpStream::connect(address).await.unwrap();
            // One that is turned away fails here or there.
            let _ = next.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            if matches!(next.read(&mut answer).await, Ok(1..)) {
                break;
            }
        }
    };
    tokio::time::timeout(patience, given_on).await.expect("its place is free again");
}
