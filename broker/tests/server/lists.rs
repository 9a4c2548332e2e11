//! What lists show, and what their filters find: retries, scheduled messages, clients, transactions of one key.

use escrow_protocol::v1;
use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn retries_are_listed_with_their_attempts() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(2).await;
    for _ in 0..2 {
        harness.publish("t", "x").await;
    }
    for delivery in consumer.deliveries(2).await {
        consumer.settle(nack(1, &delivery, 60_000)).await;
        assert_eq!(consumer.result().await.fault, None);
    }
    let page = |cursor| Some(v1::Page { limit: 1, cursor });
    let request =
        v1::ListRetriesRequest { group: "g".to_owned(), page: page(String::new()), ..Default::default() };
    let first = harness.admin().list_retries(request).await.unwrap().into_inner();
    let retry = &first.retries[0];
    assert_eq!((retry.topic.as_str(), retry.offset, retry.next_attempt, retry.max_attempts), ("t", 0, 2, 16));
    assert_eq!((retry.attempts[0].kind.as_str(), retry.attempts[0].error.as_str()), ("NACK", "not now"));
    let request =
        v1::ListRetriesRequest { group: "g".to_owned(), page: page(first.next_cursor), ..Default::default() };
    let second = harness.admin().list_retries(request).await.unwrap().into_inner();
    assert_eq!(second.retries[0].offset, 1);
}

#[tokio::test]
async fn the_key_of_a_retry_is_shown_where_that_costs_no_large_body_and_found_everywhere() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("g", "t").await;
    for (key, body) in [("small", "x".to_owned()), ("large", "x".repeat(65 << 10))] {
        let message = v1::Message { key: key.to_owned(), ..message("t", &body) };
        harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
    }
    consumer.credit(2).await;
    for delivery in consumer.deliveries(2).await {
        consumer.settle(nack(1, &delivery, 60_000)).await;
        assert_eq!(consumer.result().await.fault, None);
    }
    let mut admin = harness.admin();
    let all = || v1::ListRetriesRequest { group: "g".to_owned(), ..Default::default() };
    let listed = admin.list_retries(all()).await.unwrap().into_inner().retries;
    let keys: Vec<_> = listed.iter().map(|retry| retry.key.as_str()).collect();
    assert_eq!(keys, ["small", ""]);
    let request = v1::ListRetriesRequest { key: "large".to_owned(), ..all() };
    let found = admin.list_retries(request).await.unwrap().into_inner().retries;
    assert_eq!(found.iter().map(|retry| retry.offset).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn retries_scheduled_messages_and_clients_are_filtered() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut consumer = harness.consumer_session("g", "t").await;
    let _producer = harness.producer_session("orders", &["order.create"]).await;
    for key in ["a", "b", "a"] {
        let message = v1::Message { key: key.to_owned(), ..message("t", "x") };
        harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
    }
    consumer.credit(4).await;
    // The first fails twice, the others once.
    let deliveries = consumer.deliveries(3).await;
    // Without a correlation there is no result that could come with the next delivery.
    consumer.settle(nack(0, &deliveries[0], 0)).await;
    let again = consumer.deliveries(1).await.remove(0);
    assert_eq!(again.attempt, 2);
    for delivery in [&again, &deliveries[1], &deliveries[2]] {
        consumer.settle(nack(1, delivery, 60_000)).await;
        assert_eq!(consumer.result().await.fault, None);
    }
    let all = || v1::ListRetriesRequest { group: "g".to_owned(), ..Default::default() };
    for (request, offsets) in [
        (all(), vec![0, 1, 2]),
        (v1::ListRetriesRequest { attempt_min: 3, ..all() }, vec![0]),
        (v1::ListRetriesRequest { attempt_min: 4, ..all() }, vec![]),
        (v1::ListRetriesRequest { topic: "t".to_owned(), attempt_min: 2, ..all() }, vec![0, 1, 2]),
        (v1::ListRetriesRequest { topic: "nobody".to_owned(), ..all() }, vec![]),
        (v1::ListRetriesRequest { key: "a".to_owned(), ..all() }, vec![0, 2]),
        (v1::ListRetriesRequest { key: "a".to_owned(), attempt_min: 3, ..all() }, vec![0]),
        (v1::ListRetriesRequest { key: "c".to_owned(), ..all() }, vec![]),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = Some(v1::Page { limit: 1, cursor });
            let request = v1::ListRetriesRequest { page, ..request.clone() };
            let answer = admin.list_retries(request).await.unwrap().into_inner();
            found.extend(answer.retries.iter().map(|retry| retry.offset));
            cursor = answer.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        assert_eq!(found, offsets, "{request:?}");
    }

    let now_ms = admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().now_ms;
    for (topic, key, hours) in [("t", "later", 3), ("t", "soon", 1), ("u", "later", 2)] {
        let deliver_at_ms = now_ms + hours * 3_600_000;
        let later = v1::Message { deliver_at_ms, key: key.to_owned(), ..message(topic, "x") };
        harness.producer().publish(v1::PublishRequest { message: Some(later) }).await.unwrap();
    }
    for (topic, key, found) in [
        ("", "", vec!["t soon", "u later", "t later"]),
        ("t", "", vec!["t soon", "t later"]),
        ("", "later", vec!["u later", "t later"]),
        ("t", "later", vec!["t later"]),
        ("t", "never", vec![]),
        ("nobody", "", vec![]),
    ] {
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = Some(v1::Page { limit: 1, cursor });
            let request = v1::ListScheduledRequest { page, topic: topic.to_owned(), key: key.to_owned() };
            let answer = admin.list_scheduled(request).await.unwrap().into_inner();
            listed.extend(answer.scheduled.iter().map(|one| format!("{} {}", one.topic, one.key)));
            cursor = answer.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(listed, found, "{topic} {key}");
    }

    let asked = |role: &str, group: &str, name: &str| v1::ListClientsRequest {
        role: role.to_owned(),
        group: group.to_owned(),
        client_id: name.to_owned(),
        ..Default::default()
    };
    for (request, groups) in [
        (asked("", "", ""), vec!["g", "orders"]),
        (asked("producer", "", ""), vec!["orders"]),
        (asked("consumer", "orders", ""), vec![]),
        (asked("", "orders", ""), vec!["orders"]),
        (asked("", "", "nobody-has-this"), vec![]),
    ] {
        let answer = admin.list_clients(request.clone()).await.unwrap().into_inner();
        let mut found: Vec<_> = answer.clients.into_iter().map(|client| client.group).collect();
        found.sort_unstable();
        assert_eq!(found, groups, "{request:?}");
    }
    let status = admin.list_clients(asked("both", "", "")).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("role"));
}

#[tokio::test]
async fn what_waits_for_a_checker_is_found_by_key_behind_what_does_not() {
    let mut config = config();
    config.settings.transactions.first_check_after_ms = 0;
    let harness = Harness::start_with(config).await;
    // Of the kind that this session answers for nothing waits: it is asked.
    let _checker = harness.producer_session("orders", &["answered"]).await;
    for kind in ["unanswered", "answered", "answered"] {
        let request = v1::SendHalfRequest {
            group: "orders".to_owned(),
            client_id: "orders-1".to_owned(),
            kind: kind.to_owned(),
            messages: vec![v1::Message { key: "order-42".to_owned(), ..message("t", "half") }],
            ..Default::default()
        };
        harness.producer().send_half(request).await.unwrap();
    }
    let mut admin = harness.admin();
    while admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().waiting_for_checker != 1 {
        tokio::task::yield_now().await;
    }
    let (mut cursor, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let request = v1::ListTransactionsRequest {
            filter: v1::TransactionFilter::WaitingForChecker.into(),
            key: "order-42".to_owned(),
            page: Some(v1::Page { limit: 1, cursor }),
            ..Default::default()
        };
        let page = admin.list_transactions(request).await.unwrap().into_inner();
        found.extend(page.transactions.into_iter().map(|one| one.kind));
        (cursor, pages) = (page.next_cursor, pages + 1);
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["unanswered"]);
    assert!(pages > 2, "each page looks at as many as it holds");
}

#[tokio::test]
async fn a_damaged_scheduled_message_hides_no_other() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let now_ms = admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().now_ms;
    let mut ids = Vec::new();
    for key in ["damaged", "whole"] {
        let deliver_at_ms = now_ms + 3_600_000;
        let later = v1::Message { deliver_at_ms, key: key.to_owned(), ..message("t", "x") };
        let request = v1::PublishRequest { message: Some(later) };
        ids.push(harness.producer().publish(request).await.unwrap().into_inner().message_id);
    }
    let damaged = escrow_protocol::MessageId::from_slice(&ids[0]).unwrap();
    assert!(harness.disk.flip_bit_at(&escrow_broker::records::keys::message(damaged)));
    let request = v1::ListScheduledRequest { page: whole(), ..Default::default() };
    let listed = admin.list_scheduled(request).await.unwrap().into_inner().scheduled;
    let mut keys: Vec<_> = listed.iter().map(|one| one.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["", "whole"]);
}
