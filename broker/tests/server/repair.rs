//! What a person finds and mends: the life of a message that is gone, retries, scheduled messages, dead letters and
//! transactions among many.

use escrow_protocol::v1;
use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn a_message_that_is_gone_is_found_by_its_key_and_its_life_is_told() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(10).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let keyed = |key: &str| v1::Message { key: key.to_owned(), ..message("t", "x") };
    let prepared = producer.run(send_half(1, vec![keyed("o-42")])).await;
    let v1::producer_result::Result::Prepared(prepared) = prepared else { panic!("{prepared:?}") };
    producer.run(decide(2, prepared.transaction_id, v1::Decision::Commit)).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    // Not at once: the next attempt would come in the frame of the result, which is read for the result alone.
    consumer.settle(nack(3, &delivery, 100)).await;
    consumer.result().await;
    let again = consumer.deliveries(1).await.remove(0);
    consumer.settle(ack(4, &again)).await;
    assert_eq!(consumer.result().await.fault, None);
    let rolled_back = producer.run(send_half(3, vec![keyed("o-42")])).await;
    let v1::producer_result::Result::Prepared(rolled_back) = rolled_back else { panic!("{rolled_back:?}") };
    producer.run(decide(4, rolled_back.transaction_id, v1::Decision::Rollback)).await;

    let id = prepared.message_ids[0].clone();
    let gone = admin.get_message(v1::GetMessageRequest { message_id: id.clone() }).await;
    assert_refused(&gone.unwrap_err(), Code::NotFound, "UNKNOWN_MESSAGE", None);
    let trace = admin.trace_message(v1::TraceMessageRequest { message_id: id.clone() }).await;
    let trace = trace.unwrap().into_inner();
    let known = trace.message.unwrap();
    assert_eq!(
        (known.state.as_str(), known.ending.as_str(), known.topic.as_str()),
        ("REMOVED", "FINISHED", "t")
    );
    assert!(known.removed_at_ms >= again.committed_at_ms, "{known:?}");
    let events: Vec<_> =
        trace.events.iter().map(|e| (e.event.as_str(), e.group.as_str(), e.attempt)).collect();
    assert_eq!(
        events,
        [
            ("STORED", "", 0),
            ("DECIDED", "", 0),
            ("QUEUED", "", 0),
            ("DELIVERED", "g", 1),
            ("FAILED", "g", 1),
            ("DELIVERED", "g", 2),
            ("ACKED", "g", 2),
            ("REMOVED", "", 0),
        ],
        "{:?}",
        trace.events
    );
    assert_eq!(trace.events[4].detail, "not now");

    // By key: both, the last to go first, a page at a time.
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = Some(v1::Page { limit: 1, cursor });
        let request = v1::FindMessagesRequest { key: "o-42".to_owned(), page };
        let answer = admin.find_messages(request).await.unwrap().into_inner();
        found.extend(answer.messages.into_iter().map(|found| (found.ending, found.message.unwrap().id)));
        cursor = answer.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    let other = rolled_back.message_ids[0].clone();
    assert_eq!(found, [("ROLLED_BACK".to_owned(), other), ("FINISHED".to_owned(), id)]);
    let request = v1::FindMessagesRequest { key: "o-43".to_owned(), page: None };
    assert_eq!(admin.find_messages(request).await.unwrap().into_inner().messages, vec![]);
    let transaction =
        admin.get_transaction(v1::GetTransactionRequest { transaction_id: prepared.transaction_id });
    let events = transaction.await.unwrap().into_inner().events;
    assert_eq!(events.iter().map(|e| e.event.as_str()).collect::<Vec<_>>(), ["STORED", "DECIDED"]);
}

#[tokio::test]
async fn retries_are_run_and_given_up_one_by_one() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(10).await;
    let mut ids = Vec::new();
    for body in ["a", "b"] {
        harness.publish("t", body).await;
        let delivery = consumer.deliveries(1).await.remove(0);
        consumer.settle(nack(1, &delivery, 3_600_000)).await;
        consumer.result().await;
        ids.push(delivery.message.unwrap().id);
    }
    let by = |reason: &str| Some(v1::Operator { name: "ada".to_owned(), reason: reason.to_owned() });
    let stranger = bytes::Bytes::from(vec![5; 16]);
    let run = v1::RunRetriesRequest {
        group: "g".to_owned(),
        message_ids: vec![ids[0].clone(), stranger.clone()],
        operator: by(""),
    };
    let answer = admin.run_retries(run).await.unwrap().into_inner();
    assert_eq!((answer.done, answer.results.len()), (1, 2));
    assert_eq!(answer.results[1].fault.as_ref().unwrap().reason, "UNKNOWN_RETRY");
    let delivery = consumer.deliveries(1).await.remove(0);
    assert_eq!((delivery.message.as_ref().unwrap().id.clone(), delivery.attempt), (ids[0].clone(), 2));

    let give_up = |reason: &str, ids: Vec<bytes::Bytes>| v1::GiveUpRetriesRequest {
        group: "g".to_owned(),
        message_ids: ids,
        operator: by(reason),
    };
    let unexplained = admin.give_up_retries(give_up("", ids.clone())).await.unwrap_err();
    assert_refused(&unexplained, Code::InvalidArgument, "INVALID_FIELD", Some("operator.reason"));
    let nothing = admin.give_up_retries(give_up("gone", vec![])).await.unwrap_err();
    assert_refused(&nothing, Code::InvalidArgument, "INVALID_FIELD", Some("message_ids"));
    let answer = admin.give_up_retries(give_up("gone", ids.clone())).await.unwrap().into_inner();
    // The first is with a consumer.
    assert_eq!(answer.results[0].fault.as_ref().unwrap().reason, "IN_USE");
    assert_eq!((answer.done, answer.results[1].fault.clone()), (1, None));
    let filter = Some(v1::DeadLetterFilter {
        group: "g".to_owned(),
        reason: "GIVEN_UP".to_owned(),
        ..Default::default()
    });
    let request = v1::ListDeadLettersRequest { filter, page: None };
    let dead = admin.list_dead_letters(request).await.unwrap().into_inner().dead_letters;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].origin.as_ref().unwrap().error.contains("ada: gone"), "{dead:?}");
}

#[tokio::test]
async fn a_scheduled_message_is_moved_and_answers_exactly() {
    use v1::move_scheduled_response::Outcome;
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(10).await;
    let now_ms = admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().now_ms;
    let later = v1::Message { deliver_at_ms: now_ms + 3_600_000, ..message("t", "x") };
    let id = harness.producer().publish(v1::PublishRequest { message: Some(later) }).await.unwrap();
    let id = id.into_inner().message_id;
    let to = |at_ms| v1::MoveScheduledRequest {
        message_id: id.clone(),
        deliver_at_ms: at_ms,
        operator: Some(v1::Operator { name: "ada".to_owned(), reason: "the shop is open".to_owned() }),
    };
    let far = admin.move_scheduled(to(now_ms + 400 * 86_400_000)).await.unwrap_err();
    assert_refused(&far, Code::InvalidArgument, "INVALID_FIELD", Some("deliver_at_ms"));
    let none = admin.move_scheduled(to(0)).await.unwrap_err();
    assert_refused(&none, Code::InvalidArgument, "INVALID_FIELD", Some("deliver_at_ms"));
    let moved = admin.move_scheduled(to(now_ms + 7_200_000)).await.unwrap().into_inner();
    assert_eq!(moved.outcome(), Outcome::Moved);
    let listed = admin.list_scheduled(v1::ListScheduledRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.scheduled[0].deliver_at_ms, now_ms + 7_200_000);
    assert_eq!(admin.move_scheduled(to(1)).await.unwrap().into_inner().outcome(), Outcome::Moved);
    assert_eq!(consumer.deliveries(1).await[0].message.as_ref().unwrap().id, id);
    assert_eq!(admin.move_scheduled(to(1)).await.unwrap().into_inner().outcome(), Outcome::TooLate);
    let trace = admin.trace_message(v1::TraceMessageRequest { message_id: id.clone() }).await;
    let events = trace.unwrap().into_inner().events;
    let moves: Vec<_> = events.iter().filter(|e| e.event == "MOVED").map(|e| e.who.as_str()).collect();
    assert_eq!(moves, ["ada", "ada"]);
}

#[tokio::test]
async fn dead_letters_are_counted_by_cause_and_topic_and_found_by_message() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut ids = Vec::new();
    for (topic, key) in [("t", "a"), ("t", "b"), ("u", "a")] {
        let mut consumer = harness.consumer_session("g", topic).await;
        consumer.credit(1).await;
        let sent = v1::Message { key: key.to_owned(), ..message(topic, "x") };
        let request = v1::PublishRequest { message: Some(sent) };
        ids.push(harness.producer().publish(request).await.unwrap().into_inner().message_id);
        let delivery = consumer.deliveries(1).await.remove(0);
        consumer.settle(reject(1, &delivery)).await;
        consumer.result().await;
    }
    let facets = async || {
        let request = v1::GetDeadLetterFacetsRequest { group: "g".to_owned() };
        let facets = harness.admin().get_dead_letter_facets(request).await.unwrap().into_inner();
        let pairs = |facets: Vec<v1::DeadLetterFacet>| -> Vec<(String, u64)> {
            facets.into_iter().map(|facet| (facet.value, facet.count)).collect()
        };
        (pairs(facets.reasons), pairs(facets.topics))
    };
    let counted = |counts: &[(&str, u64)]| -> Vec<(String, u64)> {
        counts.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect()
    };
    assert_eq!(facets().await, (counted(&[("REJECTED", 3)]), counted(&[("t", 2), ("u", 1)])));

    let of = |change: fn(&mut v1::DeadLetterFilter), id: &bytes::Bytes| {
        let mut filter = v1::DeadLetterFilter { group: "g".to_owned(), ..Default::default() };
        change(&mut filter);
        if filter.key.is_empty() {
            filter.message_id = id.clone();
        }
        filter
    };
    let found = async |filter: v1::DeadLetterFilter| -> Vec<bytes::Bytes> {
        let request = v1::ListDeadLettersRequest { page: None, filter: Some(filter) };
        let found = harness.admin().list_dead_letters(request).await.unwrap().into_inner();
        found.dead_letters.into_iter().map(|dead| dead.message.unwrap().id).collect()
    };
    assert_eq!(found(of(|_| {}, &ids[1])).await, [ids[1].clone()]);
    assert_eq!(found(of(|f| f.topic = "u".to_owned(), &ids[1])).await, Vec::<bytes::Bytes>::new());
    let mut of_key = found(of(|f| f.key = "a".to_owned(), &ids[0])).await;
    of_key.sort();
    let mut expected = vec![ids[0].clone(), ids[2].clone()];
    expected.sort();
    assert_eq!(of_key, expected);

    // A job over one message touches that message only, and what is gone is counted no more.
    let by = Some(v1::Operator { name: "ada".to_owned(), reason: "a test".to_owned() });
    let discard = v1::DiscardDeadLettersRequest {
        filter: Some(of(|_| {}, &ids[2])),
        dry_run: false,
        operator: by.clone(),
    };
    let job = admin.discard_dead_letters(discard.clone()).await.unwrap().into_inner();
    assert_eq!(job.total, 1);
    while facets().await.1.len() > 1 {}
    assert_eq!(facets().await, (counted(&[("REJECTED", 2)]), counted(&[("t", 2)])));
    let again = admin.discard_dead_letters(discard).await.unwrap_err();
    assert_refused(&again, Code::NotFound, "UNKNOWN_DEAD_LETTER", None);
    let unknown = v1::GetDeadLetterFacetsRequest { group: "nobody".to_owned() };
    let unknown = admin.get_dead_letter_facets(unknown).await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, "UNKNOWN_GROUP", None);
}

#[tokio::test]
async fn transactions_are_found_by_kind_group_and_key() {
    let harness = Harness::start().await;
    let mut ids = Vec::new();
    for (group, kind, key) in [
        ("orders", "pay", "o-1"),
        ("orders", "ship", "o-2"),
        ("stock", "pay", "o-1"),
        ("orders", "pay", "o-3"),
    ] {
        let half = v1::SendHalfRequest {
            group: group.to_owned(),
            client_id: "c".to_owned(),
            kind: kind.to_owned(),
            transaction_key: format!("{group}-{key}"),
            messages: vec![v1::Message { key: key.to_owned(), ..message("t", "x") }],
            ..Default::default()
        };
        ids.push(harness.producer().send_half(half).await.unwrap().into_inner().transaction_id);
    }
    let decide = v1::DecideTransactionRequest {
        transaction_id: ids[3],
        decision: v1::Decision::Rollback.into(),
        operator: Some(v1::Operator { name: "ada".to_owned(), reason: "a test".to_owned() }),
    };
    harness.admin().decide_transaction(decide).await.unwrap();
    let undecided = v1::TransactionFilter::Undecided;
    let decided = v1::TransactionFilter::Decided;
    for (filter, group, kind, key, expected) in [
        (undecided, "orders", "", "", vec![ids[0], ids[1]]),
        (undecided, "", "pay", "", vec![ids[0], ids[2]]),
        (undecided, "orders", "pay", "", vec![ids[0]]),
        (undecided, "", "", "o-1", vec![ids[2], ids[0]]),
        (undecided, "stock", "", "o-1", vec![ids[2]]),
        (undecided, "orders", "", "orders-o-2", vec![ids[1]]),
        (undecided, "nobody", "", "", vec![]),
        (decided, "orders", "pay", "", vec![ids[3]]),
        (decided, "stock", "", "", vec![]),
        // Rolled back and gone: found through what is told of its message.
        (decided, "", "", "o-3", vec![ids[3]]),
        (v1::TransactionFilter::OnlyParked, "orders", "", "", vec![]),
        (v1::TransactionFilter::WaitingForChecker, "orders", "", "", vec![]),
    ] {
        // A page at a time.
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let request = v1::ListTransactionsRequest {
                page: Some(v1::Page { limit: 1, cursor }),
                filter: filter.into(),
                group: group.to_owned(),
                kind: kind.to_owned(),
                key: key.to_owned(),
            };
            let page = harness.admin().list_transactions(request).await.unwrap().into_inner();
            found.extend(page.transactions.iter().map(|transaction| transaction.transaction_id));
            cursor = page.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "{filter:?} {group:?} {kind:?} {key:?}");
    }
}
