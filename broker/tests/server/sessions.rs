//! Sessions as a client sees them: hellos, messages, transactions, checks, settlements.

use crate::harness::*;
use escrow_protocol::v1;
use escrow_protocol::v1::consumer_request::Kind as ConsumerUp;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_request::Kind as ProducerUp;
use escrow_protocol::v1::producer_result::Result as Outcome;
use tonic::Code;

#[tokio::test]
async fn a_session_begins_with_a_hello() {
    let harness = Harness::start().await;
    let mut producer = ProducerStream::open(harness.producer()).await;
    producer.frame(vec![publish(1, message("t", "x"))]).await;
    assert_refused(&producer.next().await.unwrap_err(), Code::InvalidArgument, "HELLO_EXPECTED", None);

    let mut consumer = ConsumerStream::open(harness.consumer()).await;
    consumer.credit(1).await;
    assert_refused(&consumer.next().await.unwrap_err(), Code::InvalidArgument, "HELLO_EXPECTED", None);
}

#[tokio::test]
async fn a_second_hello_ends_the_session() {
    let harness = Harness::start().await;
    let mut producer = harness.producer_session("orders", &[]).await;
    producer.send(ProducerUp::Hello(producer_hello("orders", &[]))).await;
    assert_refused(&producer.next().await.unwrap_err(), Code::InvalidArgument, "HELLO_EXPECTED", None);

    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.send(ConsumerUp::Hello(consumer_hello("billing", "t"))).await;
    assert_refused(&consumer.next().await.unwrap_err(), Code::InvalidArgument, "HELLO_EXPECTED", None);
}

#[tokio::test]
async fn both_sides_speak_the_lower_version() {
    let harness = Harness::start().await;
    let mut newer = ProducerStream::open(harness.producer()).await;
    let hello = v1::ProducerHello { protocol_version: 7, ..producer_hello("orders", &[]) };
    assert_eq!(newer.hello(hello).await.protocol_version, 1);

    let mut newer = ConsumerStream::open(harness.consumer()).await;
    let hello =
        v1::ConsumerHello { protocol_version: 7, protocol_version_min: 1, ..consumer_hello("billing", "t") };
    assert_eq!(newer.hello(hello).await.protocol_version, 1);

    let mut none = ConsumerStream::open(harness.consumer()).await;
    let hello = v1::ConsumerHello { protocol_version: 0, ..consumer_hello("billing", "t") };
    none.send(ConsumerUp::Hello(hello)).await;
    let status = none.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("protocol_version"));

    let mut confused = ConsumerStream::open(harness.consumer()).await;
    let hello = v1::ConsumerHello { protocol_version_min: 2, ..consumer_hello("billing", "t") };
    confused.send(ConsumerUp::Hello(hello)).await;
    let status = confused.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("protocol_version_min"));
}

#[tokio::test]
async fn a_client_that_speaks_no_version_of_the_broker_is_told_both_and_what_to_do() {
    let harness = Harness::start().await;
    let mut producer = ProducerStream::open(harness.producer()).await;
    let hello =
        v1::ProducerHello { protocol_version: 9, protocol_version_min: 7, ..producer_hello("orders", &[]) };
    producer.send(ProducerUp::Hello(hello)).await;
    let of_producer = producer.next().await.unwrap_err();

    let mut consumer = ConsumerStream::open(harness.consumer()).await;
    let hello =
        v1::ConsumerHello { protocol_version: 9, protocol_version_min: 7, ..consumer_hello("billing", "t") };
    consumer.send(ConsumerUp::Hello(hello)).await;
    let of_consumer = consumer.next().await.unwrap_err();
    for status in [of_producer, of_consumer] {
        assert_refused(&status, Code::FailedPrecondition, "PROTOCOL_VERSION", None);
        for words in ["7 to 9", "1 to 1", "upgrade the broker, or use an older client"] {
            assert!(status.message().contains(words), "{}", status.message());
        }
    }
}

#[tokio::test]
async fn a_published_message_is_delivered_acked_and_gone() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    consumer.credit(10).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let sent = v1::Message {
        key: "o-42".to_owned(),
        tag: "eu".to_owned(),
        headers: vec![v1::Header { name: "trace".to_owned(), value: "1".to_owned() }],
        ..message("order-paid", "paid")
    };
    let Outcome::Published(published) = producer.run(publish(7, sent.clone())).await else {
        panic!("not published")
    };
    assert_eq!((published.offset, published.duplicate), (Some(0), false));

    let delivery = consumer.deliveries(1).await.remove(0);
    let received = delivery.message.clone().unwrap();
    assert_eq!(received, v1::Message { id: published.message_id.clone(), ..sent });
    assert_eq!((delivery.topic.as_str(), delivery.offset, delivery.attempt), ("order-paid", 0, 1));

    consumer.settle(ack(3, &delivery)).await;
    let result = consumer.result().await;
    assert_eq!((result.correlation, result.fault), (3, None));
    consumer.settle(ack(4, &delivery)).await;
    let fault = consumer.result().await.fault.expect("a late ack is refused");
    assert_eq!((fault.reason.as_str(), fault.code), ("STALE_LEASE", Code::FailedPrecondition as i32));
}

#[tokio::test]
async fn the_same_id_is_the_same_message() {
    let harness = Harness::start().await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let sent = v1::Message { id: vec![7; 16].into(), ..message("t", "x") };
    for duplicate in [false, true] {
        let Outcome::Published(published) = producer.run(publish(1, sent.clone())).await else {
            panic!("not published")
        };
        assert_eq!(published.duplicate, duplicate);
    }
}

#[tokio::test]
async fn a_half_message_is_seen_after_its_commit_only() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.credit(10).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let Outcome::Prepared(rolled_back) = producer.run(send_half(1, vec![message("t", "no")])).await else {
        panic!("not prepared")
    };
    let Outcome::Prepared(committed) =
        producer.run(send_half(2, vec![message("t", "one"), message("t", "two")])).await
    else {
        panic!("not prepared")
    };
    assert_eq!(committed.state(), v1::TransactionState::Prepared);
    producer.run(decide(3, rolled_back.transaction_id, v1::Decision::Rollback)).await;
    let Outcome::Decided(decided) =
        producer.run(decide(4, committed.transaction_id, v1::Decision::Commit)).await
    else {
        panic!("not decided")
    };
    assert_eq!(decided.state(), v1::TransactionState::Committed);
    assert_eq!(decided.decider.unwrap().name, "orders-1");

    let deliveries = consumer.deliveries(2).await;
    let bodies: Vec<_> = deliveries.iter().map(|d| d.message.as_ref().unwrap().body.clone()).collect();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!(deliveries[0].transaction_id, committed.transaction_id);

    let Outcome::Fault(fault) =
        producer.run(decide(5, committed.transaction_id, v1::Decision::Rollback)).await
    else {
        panic!("a contradiction was accepted")
    };
    assert_eq!(fault.reason, "ALREADY_DECIDED");
    assert!(!fault.details["by"].is_empty());
}

#[tokio::test]
async fn a_silent_producer_is_asked_and_its_answer_decides() {
    let mut config = config();
    config.settings.transactions.first_check_after_ms = 1;
    let harness = Harness::start_with(config).await;
    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.credit(10).await;
    let mut checker = harness.producer_session("orders", &["order.create"]).await;
    let half = v1::SendHalfRequest {
        messages: vec![v1::Message { key: "o-1".to_owned(), ..message("t", "body") }],
        kind: "order.create".to_owned(),
        transaction_key: "o-1".to_owned(),
        ..Default::default()
    };
    let command = v1::ProducerCommand { correlation: 1, command: Some(Command::SendHalf(half)) };
    checker.frame(vec![command]).await;
    let question = checker.question().await;
    assert_eq!((question.kind.as_str(), question.transaction_key.as_str()), ("order.create", "o-1"));
    assert_eq!(question.messages[0].body, "body");
    assert!(!question.bodies_omitted);
    let answer = v1::CheckAnswer {
        transaction_id: question.transaction_id,
        check: question.check,
        verdict: v1::CheckVerdict::VerdictCommit.into(),
    };
    let command = v1::ProducerCommand { correlation: 0, command: Some(Command::CheckAnswer(answer)) };
    checker.frame(vec![command]).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    assert_eq!(delivery.transaction_id, question.transaction_id);
}

#[tokio::test]
async fn a_question_leaves_out_large_bodies() {
    let mut config = config();
    config.settings.transactions.first_check_after_ms = 1;
    let harness = Harness::start_with(config).await;
    let mut checker = harness.producer_session("orders", &["orders"]).await;
    let body = "x".repeat(40 * 1024);
    checker.frame(vec![send_half(1, vec![message("t", &body), message("t", &body)])]).await;
    let question = checker.question().await;
    assert!(question.bodies_omitted);
    assert!(question.messages.iter().all(|message| message.body.is_empty() && message.topic == "t"));
}

#[tokio::test]
async fn what_one_frame_asks_is_answered_in_order_and_together() {
    let harness = Harness::start().await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let commands = (1..=500).map(|n| publish(n, message("t", "x"))).collect();
    producer.frame(commands).await;
    let mut frames = 0;
    let mut offsets = Vec::new();
    while offsets.len() < 500 {
        frames += 1;
        offsets.extend(producer.results().await.results.into_iter().map(|result| match result.result {
            Some(Outcome::Published(published)) => published.offset.unwrap(),
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(offsets, (0..500).collect::<Vec<_>>());
    assert!(frames <= 4, "{frames} frames for one frame of commands");
}

#[tokio::test]
async fn a_rejected_delivery_is_a_dead_letter_that_can_be_subscribed() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.credit(1).await;
    harness.publish("t", "bad").await;
    let delivery = consumer.deliveries(1).await.remove(0);
    consumer.settle(reject(1, &delivery)).await;
    assert_eq!(consumer.result().await.fault, None);

    let mut undertaker = harness.consumer_session("undertaker", "billing.dlq").await;
    undertaker.credit(1).await;
    let dead = undertaker.deliveries(1).await.remove(0);
    assert_eq!((dead.topic.as_str(), dead.message.unwrap().topic.as_str()), ("billing.dlq", "t"));
    let origin = dead.dead_letter.expect("an origin");
    assert_eq!(
        (origin.topic.as_str(), origin.group.as_str(), origin.reason.as_str()),
        ("t", "billing", "REJECTED")
    );
    assert_eq!(origin.error, "never");
}

#[tokio::test]
async fn a_damaged_message_goes_to_the_dead_letters_and_the_next_is_delivered() {
    let harness = Harness::start().await;
    let damaged = harness.publish("t", "damaged").await;
    harness.publish("t", "whole").await;
    let mut key = vec![escrow_broker::records::keys::space::MESSAGE];
    key.extend_from_slice(&damaged.message_id);
    assert!(harness.disk.flip_bit_at(&key));

    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.credit(10).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    assert_eq!(delivery.message.clone().unwrap().body, "whole");
    consumer.settle(ack(1, &delivery)).await;
    assert_eq!(consumer.result().await.fault, None);
    let filter = v1::DeadLetterFilter { group: "billing".to_owned(), ..Default::default() };
    let request = v1::ListDeadLettersRequest { page: whole(), filter: Some(filter) };
    let dead = harness.admin().list_dead_letters(request).await.unwrap().into_inner().dead_letters;
    assert_eq!(dead[0].origin.as_ref().unwrap().reason, "DAMAGED");
    assert_eq!(dead[0].message, None);
    // A store in memory looks for none: this is what the engine met.
    let mut admin = harness.admin();
    let met =
        admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().store.unwrap().corrupt_records;
    let stats = admin.get_store_stats(v1::GetStoreStatsRequest {}).await.unwrap().into_inner();
    assert!(met > 0 && stats.corrupt_records == met, "{met} {}", stats.corrupt_records);
}

#[tokio::test]
async fn a_client_that_half_closes_still_gets_its_answers() {
    let harness = Harness::start().await;
    let ProducerStream { up, mut down } = harness.producer_session("orders", &[]).await;
    let commands = (1..=50).map(|n| publish(n, message("t", "x"))).collect();
    up.send(v1::ProducerRequest { kind: Some(ProducerUp::Frame(v1::ProducerFrame { commands })) })
        .await
        .unwrap();
    drop(up);
    let mut results = 0;
    while let Some(response) = down.message().await.unwrap() {
        if let Some(v1::producer_response::Kind::Frame(frame)) = response.kind {
            results += frame.results.len();
        }
    }
    assert_eq!(results, 50);
}

#[tokio::test]
async fn unary_receive_and_settle_work_without_a_session() {
    let harness = Harness::start().await;
    let receive = |wait_ms| v1::ReceiveRequest {
        group: "curl".to_owned(),
        client_id: "curl-1".to_owned(),
        subscriptions: vec![v1::Subscription { topic: "t".to_owned(), tags: Vec::new() }],
        max_messages: 10,
        wait_ms,
        ..Default::default()
    };
    let mut consumer = harness.consumer();
    let nothing = consumer.receive(receive(0)).await.unwrap().into_inner();
    assert!(nothing.deliveries.is_empty());

    let waiting = tokio::spawn({
        let mut consumer = harness.consumer();
        async move { consumer.receive(receive(60_000)).await.unwrap().into_inner().deliveries }
    });
    harness.publish("t", "one").await;
    let deliveries = waiting.await.unwrap();
    assert_eq!(deliveries.len(), 1);

    let settle = v1::SettleRequest {
        group: "curl".to_owned(),
        settlements: vec![
            ack(1, &deliveries[0]),
            v1::Settlement { correlation: 2, lease_token: 99, verb: None },
            ack(3, &deliveries[0]),
        ],
    };
    let results = consumer.settle(settle).await.unwrap().into_inner().results;
    let reasons: Vec<_> =
        results.iter().map(|result| result.fault.as_ref().map(|fault| fault.reason.as_str())).collect();
    assert_eq!(reasons, [None, Some("INVALID_FIELD"), Some("STALE_LEASE")]);
}

#[tokio::test]
async fn leases_of_a_lost_consumer_come_back() {
    let harness = Harness::start().await;
    let hello = |client: &str| v1::ConsumerHello { client_id: client.to_owned(), ..consumer_hello("g", "t") };
    let settings = v1::GroupSettings {
        retry: Some(v1::RetryPolicy {
            delays: Some(v1::retry_policy::Delays::FixedMs(0)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let group = v1::CreateGroupRequest {
        name: "g".to_owned(),
        settings: Some(settings),
        operator: operator(),
        ..Default::default()
    };
    harness.admin().create_group(group).await.unwrap();
    let mut first = ConsumerStream::open(harness.consumer()).await;
    first.hello(hello("one")).await;
    first.credit(1).await;
    harness.publish("t", "x").await;
    assert_eq!(first.deliveries(1).await[0].attempt, 1);
    let mut second = ConsumerStream::open(harness.consumer()).await;
    second.hello(hello("two")).await;
    second.credit(1).await;
    // It breaks the rules of its stream: an end of its side alone may count as leaving, where no attempt is counted.
    first.send(ConsumerUp::Hello(hello("one"))).await;
    let again = second.deliveries(1).await.remove(0);
    assert_eq!(again.attempt, 2);
    // The end of the session was enough: nobody waited for the lease to run out.
    let request = v1::TraceMessageRequest { message_id: again.message.unwrap().id };
    let events = harness.admin().trace_message(request).await.unwrap().into_inner().events;
    assert!(events.iter().any(|event| event.text.contains("CONSUMER_LOST")), "{events:?}");
}

#[tokio::test]
async fn a_question_is_asked_although_a_message_is_damaged() {
    let mut config = config();
    config.settings.transactions.first_check_after_ms = 1;
    let harness = Harness::start_with(config).await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let prepared = producer.run(send_half(1, vec![message("t", "damaged"), message("t", "whole")])).await;
    let Outcome::Prepared(prepared) = prepared else { panic!("{prepared:?}") };
    let mut key = vec![escrow_broker::records::keys::space::MESSAGE];
    key.extend_from_slice(&prepared.message_ids[0]);
    assert!(harness.disk.flip_bit_at(&key));
    let mut checker = harness.producer_session("orders", &["orders"]).await;
    let question = checker.question().await;
    assert_eq!((question.messages.len(), question.bodies_omitted), (1, true));
}
