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
