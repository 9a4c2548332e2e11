//! Bad input at the edge: each gets its typed error, names the field, and the broker goes on.

use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_protocol::{limits, v1};
use tonic::Code;

use crate::harness::*;

type Spoil = fn(&mut v1::Message);

/// What can be wrong with a message, by field.
const BAD_MESSAGES: &[(&str, Spoil)] = &[
    ("message.topic", |m| m.topic = String::new()),
    ("message.topic", |m| m.topic = "no spaces".to_owned()),
    ("message.topic", |m| m.topic = "x".repeat(128)),
    ("message.id", |m| m.id = vec![1; 15].into()),
    ("message.id", |m| m.id = vec![0; 16].into()),
    ("message.key", |m| m.key = "k".repeat(257)),
    ("message.ordering_key", |m| m.ordering_key = "k".repeat(257)),
    ("message.tag", |m| m.tag = "-".to_owned()),
    ("message.headers", |m| m.headers = vec![header("a", "b"); limits::HEADERS_MAX + 1]),
    ("message.headers", |m| m.headers = vec![header("a", &"b".repeat(limits::HEADER_BYTES_MAX))]),
    ("message.headers", |m| m.headers = vec![header("", "b")]),
    ("message.headers", |m| m.headers = vec![header("Escrow-secret", "b")]),
    ("message.body", |m| m.body = vec![0; limits::BODY_BYTES_MAX_DEFAULT + 1].into()),
    ("message.deliver_at_ms", |m| m.deliver_at_ms = -1),
    ("message.deliver_at_ms", |m| m.deliver_at_ms = i64::MAX),
    ("message.time_to_live_ms", |m| m.time_to_live_ms = -1),
];

fn header(name: &str, value: &str) -> v1::Header {
    v1::Header { name: name.to_owned(), value: value.to_owned() }
}

fn spoiled(spoil: Spoil) -> v1::Message {
    let mut message = message("t", "x");
    spoil(&mut message);
    message
}

#[tokio::test]
async fn a_bad_message_is_refused_by_field() {
    let harness = Harness::start().await;
    for (field, spoil) in BAD_MESSAGES {
        let request = v1::PublishRequest { message: Some(spoiled(*spoil)) };
        let status = harness.producer().publish(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
    let status = harness.producer().publish(v1::PublishRequest::default()).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("message"));
    harness.publish("t", "still there").await;
}

#[tokio::test]
async fn a_bad_command_does_not_end_its_session() {
    let harness = Harness::start().await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let mut commands: Vec<_> = (0..)
        .zip(BAD_MESSAGES)
        .filter(|(_, (field, _))| *field != "message.body")
        .map(|(n, (_, spoil))| publish(n, spoiled(*spoil)))
        .collect();
    commands.push(v1::ProducerCommand { correlation: 97, command: None });
    commands.push(decide(98, 0, v1::Decision::Commit));
    commands.push(publish(99, message("t", "good")));
    let count = commands.len();
    producer.frame(commands).await;
    let mut results = producer.collect(count).await;
    let Some(Outcome::Published(_)) = results.pop().unwrap().result else {
        panic!("the good one was refused")
    };
    for result in results {
        let Some(Outcome::Fault(fault)) = result.result else { panic!("{result:?} was accepted") };
        assert_eq!((fault.reason.as_str(), fault.code), ("INVALID_FIELD", Code::InvalidArgument as i32));
        assert!(fault.details.contains_key("field"), "{fault:?}");
    }
}

#[tokio::test]
async fn a_bad_half_message_is_refused_by_field() {
    let harness = Harness::start().await;
    let good = || v1::SendHalfRequest {
        messages: vec![message("t", "x")],
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        ..Default::default()
    };
    let policy = |policy| v1::SendHalfRequest { check_policy: Some(policy), ..good() };
    let twice = v1::Message { id: vec![1; 16].into(), ..message("t", "x") };
    let cases: Vec<(&str, v1::SendHalfRequest)> = vec![
        ("group", v1::SendHalfRequest { group: String::new(), ..good() }),
        ("client_id", v1::SendHalfRequest { client_id: "a b".to_owned(), ..good() }),
        ("kind", v1::SendHalfRequest { kind: "a/b".to_owned(), ..good() }),
        ("transaction_key", v1::SendHalfRequest { transaction_key: "k".repeat(257), ..good() }),
        ("messages", v1::SendHalfRequest { messages: Vec::new(), ..good() }),
        ("messages", v1::SendHalfRequest { messages: vec![message("t", "x"); 101], ..good() }),
        ("messages.id", v1::SendHalfRequest { messages: vec![twice; 2], ..good() }),
        (
            "messages",
            v1::SendHalfRequest { messages: vec![message("t", &"x".repeat(3 << 20)); 12], ..good() },
        ),
        ("check_policy.max_checks", policy(v1::CheckPolicy { max_checks: 1001, ..Default::default() })),
        ("check_policy.in_doubt", policy(v1::CheckPolicy { in_doubt: 77, ..Default::default() })),
        (
            "check_policy.first_check_after_ms",
            policy(v1::CheckPolicy { first_check_after_ms: -1, ..Default::default() }),
        ),
        (
            "check_policy.max_undecided_age_ms",
            policy(v1::CheckPolicy { max_undecided_age_ms: i64::MAX, ..Default::default() }),
        ),
    ];
    for (field, request) in cases {
        let status = harness.producer().send_half(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
    assert!(harness.producer().send_half(good()).await.is_ok());
}

#[tokio::test]
async fn a_decision_must_be_one() {
    let harness = Harness::start().await;
    let decide = |transaction_id, decision| v1::DecideRequest {
        transaction_id,
        decision,
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
    };
    for (field, request) in
        [("transaction_id", decide(0, 1)), ("decision", decide(1, 0)), ("decision", decide(1, 9))]
    {
        let status = harness.producer().decide(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
    let status = harness.producer().decide(decide(12345, 1)).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "UNKNOWN_TRANSACTION", None);
}

#[tokio::test]
async fn only_the_group_that_made_it_decides() {
    let harness = Harness::start().await;
    let half = v1::SendHalfRequest {
        messages: vec![message("t", "x")],
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        ..Default::default()
    };
    let prepared = harness.producer().send_half(half).await.unwrap().into_inner();
    let stranger = v1::DecideRequest {
        transaction_id: prepared.transaction_id,
        decision: v1::Decision::Commit.into(),
        group: "strangers".to_owned(),
        client_id: "s-1".to_owned(),
    };
    let status = harness.producer().decide(stranger).await.unwrap_err();
    assert_refused(&status, Code::PermissionDenied, "WRONG_GROUP", None);
}

#[tokio::test]
async fn a_bad_hello_is_refused_by_field() {
    let harness = Harness::start().await;
    let good = || producer_hello("orders", &[]);
    let cases = [
        ("group", v1::ProducerHello { group: String::new(), ..good() }),
        ("client_id", v1::ProducerHello { client_id: "ä".to_owned(), ..good() }),
        ("check_kinds", v1::ProducerHello { check_kinds: vec![String::new()], ..good() }),
        ("check_kinds", v1::ProducerHello { check_kinds: vec!["k".to_owned(); 65], ..good() }),
    ];
    for (field, hello) in cases {
        let mut producer = ProducerStream::open(harness.producer()).await;
        producer.send(v1::producer_request::Kind::Hello(hello)).await;
        let status = producer.next().await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }

    let good = || consumer_hello("billing", "t");
    let subscribe = |topics: &[&str], tags: usize| {
        let subscription =
            |topic: &&str| v1::Subscription { topic: topic.to_string(), tags: vec!["tag".to_owned(); tags] };
        v1::ConsumerHello { subscriptions: topics.iter().map(subscription).collect(), ..good() }
    };
    let cases = [
        ("group", v1::ConsumerHello { group: "-".to_owned(), ..good() }),
        ("group", v1::ConsumerHello { group: "g".repeat(125), ..good() }),
        ("client_id", v1::ConsumerHello { client_id: String::new(), ..good() }),
        (
            "client_id",
            v1::ConsumerHello {
                broadcast: true,
                group: "g".repeat(100),
                client_id: "c".repeat(100),
                ..good()
            },
        ),
        ("subscriptions", subscribe(&["no spaces"], 0)),
        ("subscriptions", subscribe(&["t", "t"], 0)),
        ("subscriptions", subscribe(&["t"], 65)),
        ("start", v1::ConsumerHello { start: 9, ..good() }),
        ("start_time_ms", v1::ConsumerHello { start: 2, start_time_ms: -5, ..good() }),
    ];
    for (field, hello) in cases {
        let mut consumer = ConsumerStream::open(harness.consumer()).await;
        consumer.send(v1::consumer_request::Kind::Hello(hello)).await;
        let status = consumer.next().await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
}

#[tokio::test]
async fn a_frame_with_too_much_in_it_ends_its_session_only() {
    let harness = Harness::start().await;
    let mut producer = harness.producer_session("orders", &[]).await;
    producer.frame((0..1025).map(|n| publish(n, message("t", "x"))).collect()).await;
    let status = producer.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("commands"));

    let mut producer = harness.producer_session("orders", &[]).await;
    let large = "x".repeat(3 << 20);
    producer.frame((0..3).map(|n| publish(n, message("t", &large))).collect()).await;
    let status = producer.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("commands"));

    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.frame(None, vec![v1::Settlement::default(); 1025]).await;
    let status = consumer.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("settlements"));
    harness.publish("t", "still there").await;
}

#[tokio::test]
async fn a_bad_settlement_does_not_end_its_session() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("billing", "t").await;
    consumer.credit(1).await;
    harness.publish("t", "x").await;
    let delivery = consumer.deliveries(1).await.remove(0);
    let extend = v1::settlement::Verb::Extend(v1::Extend { lease_ms: 5 });
    let bad = [
        v1::Settlement { correlation: 1, lease_token: delivery.lease_token, verb: None },
        v1::Settlement { correlation: 2, lease_token: delivery.lease_token, verb: Some(extend) },
        nack(3, &delivery, -1),
    ];
    for settlement in bad {
        let correlation = settlement.correlation;
        consumer.settle(settlement).await;
        let result = consumer.result().await;
        assert_eq!(result.correlation, correlation);
        assert_eq!(result.fault.expect("refused").reason, "INVALID_FIELD");
    }
    // Without a correlation a failure is told, a success is not.
    consumer.settle(v1::Settlement { lease_token: 1, ..ack(0, &delivery) }).await;
    assert_eq!(consumer.result().await.fault.expect("refused").reason, "STALE_LEASE");
    consumer.settle(ack(0, &delivery)).await;
    consumer.settle(ack(9, &delivery)).await;
    assert_eq!(consumer.result().await.correlation, 9);
}

#[tokio::test]
async fn bad_settings_are_refused_by_field() {
    let harness = Harness::start().await;
    let retry = |retry| v1::GroupSettings { retry: Some(retry), ..Default::default() };
    let delays = |delays| retry(v1::RetryPolicy { delays: Some(delays), ..Default::default() });
    use v1::retry_policy::Delays;
    let exponential = |initial_ms, multiplier_permille, max_ms| {
        delays(Delays::Exponential(v1::Exponential { initial_ms, multiplier_permille, max_ms }))
    };
    let cases = [
        ("settings.lease_ms", v1::GroupSettings { lease_ms: 5, ..Default::default() }),
        ("settings.lease_ms", v1::GroupSettings { lease_ms: i64::MAX, ..Default::default() }),
        ("settings.ordering", v1::GroupSettings { ordering: 9, ..Default::default() }),
        ("settings.retry.max_attempts", retry(v1::RetryPolicy { max_attempts: 1001, ..Default::default() })),
        (
            "settings.retry.jitter_percent",
            retry(v1::RetryPolicy { jitter_percent: 51, ..Default::default() }),
        ),
        (
            "settings.retry.immediate_attempts",
            retry(v1::RetryPolicy { immediate_attempts: 1001, ..Default::default() }),
        ),
        ("settings.retry.fixed_ms", delays(Delays::FixedMs(-1))),
        ("settings.retry.ladder.delays_ms", delays(Delays::Ladder(v1::Ladder::default()))),
        ("settings.retry.ladder.delays_ms", delays(Delays::Ladder(v1::Ladder { delays_ms: vec![1; 65] }))),
        ("settings.retry.exponential.initial_ms", exponential(0, 2000, 10)),
        ("settings.retry.exponential.multiplier_permille", exponential(1, 999, 10)),
        ("settings.retry.exponential.max_ms", exponential(10, 2000, 9)),
    ];
    for (field, settings) in cases {
        let request =
            v1::CreateGroupRequest { name: "g".to_owned(), settings: Some(settings), ..Default::default() };
        let status = harness.admin().create_group(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
}

#[tokio::test]
async fn bad_orders_by_hand_are_refused_by_field() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let by =
        |name: &str, reason: &str| Some(v1::Operator { name: name.to_owned(), reason: reason.to_owned() });
    for (field, operator) in
        [("operator.name", None), ("operator.name", by(" ", "why")), ("operator.reason", by("ada", " "))]
    {
        let request = v1::DecideTransactionRequest { transaction_id: 1, decision: 1, operator };
        let status = admin.decide_transaction(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
    let request = v1::ListTopicsRequest {
        page: Some(v1::Page { limit: 1, cursor: "no cursor".to_owned() }),
        ..Default::default()
    };
    let status = admin.list_topics(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("page.cursor"));
    let status = admin
        .list_transactions(v1::ListTransactionsRequest { filter: 9, ..Default::default() })
        .await
        .unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("filter"));
    let request = v1::RedriveDeadLettersRequest { operator: by("ada", ""), ..Default::default() };
    let status = admin.redrive_dead_letters(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("filter.group"));
    let request = v1::SeekGroupRequest { group: "g".to_owned(), topic: "t".to_owned(), ..Default::default() };
    let status = admin.seek_group(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("to"));
    let status = admin.get_message(v1::GetMessageRequest::default()).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("message_id"));
    let status = admin.find_messages(v1::FindMessagesRequest::default()).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("key"));
}

/// Sends each of these without an operator: it must be refused for that.
macro_rules! unnamed {
    ($admin:ident: $($call:ident($request:ident { $($field:ident: $value:expr),* });)*) => {$(
        let request = v1::$request { $($field: $value,)* ..Default::default() };
        let status = $admin.$call(request).await.err().expect(stringify!($call));
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("operator.name"));
    )*};
}

#[tokio::test]
async fn whatever_the_audit_has_is_refused_without_a_name() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let (g, t) = (|| "g".to_owned(), || "t".to_owned());
    let id = || bytes::Bytes::from(vec![5; 16]);
    let filter = || Some(v1::DeadLetterFilter { group: "g".to_owned(), ..Default::default() });
    unnamed! { admin:
        create_topic(CreateTopicRequest { name: t() });
        update_topic(UpdateTopicRequest { name: t(), settings: Some(v1::TopicSettings::default()) });
        delete_topic(DeleteTopicRequest { name: t() });
        create_group(CreateGroupRequest { name: g() });
        update_group(UpdateGroupRequest { name: g() });
        delete_group(DeleteGroupRequest { name: g() });
        pause_group(PauseGroupRequest { name: g() });
        resume_group(ResumeGroupRequest { name: g() });
        seek_group(SeekGroupRequest { group: g(), topic: t(), to: Some(v1::seek_group_request::To::Oldest(true)) });
        check_transaction(CheckTransactionRequest { transaction_id: 1 });
        decide_transaction(DecideTransactionRequest { transaction_id: 1, decision: 1 });
        resume_transaction(ResumeTransactionRequest { transaction_id: 1 });
        run_retries(RunRetriesRequest { group: g(), message_ids: vec![id()] });
        give_up_retries(GiveUpRetriesRequest { group: g(), message_ids: vec![id()] });
        cancel_scheduled(CancelScheduledRequest { message_id: id() });
        move_scheduled(MoveScheduledRequest { message_id: id(), deliver_at_ms: 1 });
        redrive_dead_letters(RedriveDeadLettersRequest { filter: filter() });
        discard_dead_letters(DiscardDeadLettersRequest { filter: filter() });
        edit_dead_letter(EditDeadLetterRequest { group: g() });
        export_dead_letters(ExportDeadLettersRequest { filter: filter() });
        pause_job(PauseJobRequest { job_id: 1 });
        resume_job(ResumeJobRequest { job_id: 1 });
        cancel_job(CancelJobRequest { job_id: 1 });
        export_audit(ExportAuditRequest {});
        acknowledge_alarm(AcknowledgeAlarmRequest { alarm_id: 1 });
        test_alarm_sink(TestAlarmSinkRequest { name: "s".to_owned() });
        verify_store(VerifyStoreRequest {});
        backup_store(BackupStoreRequest {});
    }
}

#[tokio::test]
async fn bad_bounds_of_a_receive_are_refused_by_field() {
    let harness = Harness::start().await;
    let good = || v1::ReceiveRequest {
        group: "g".to_owned(),
        client_id: "c".to_owned(),
        subscriptions: vec![v1::Subscription { topic: "t".to_owned(), tags: Vec::new() }],
        ..Default::default()
    };
    let cases = [
        ("max_messages", v1::ReceiveRequest { max_messages: 1025, ..good() }),
        ("max_bytes", v1::ReceiveRequest { max_bytes: u64::MAX, ..good() }),
        ("wait_ms", v1::ReceiveRequest { wait_ms: 60_001, ..good() }),
        ("group", v1::ReceiveRequest { group: String::new(), ..good() }),
    ];
    for (field, request) in cases {
        let status = harness.consumer().receive(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some(field));
    }
}

#[tokio::test]
async fn a_message_beyond_what_grpc_takes_is_refused() {
    let harness = Harness::start().await;
    let request =
        v1::PublishRequest { message: Some(message("t", &"x".repeat(limits::GRPC_MESSAGE_BYTES_MAX))) };
    let status = harness.producer().publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    harness.publish("t", "still there").await;
}

#[tokio::test]
async fn a_frame_beyond_what_grpc_takes_ends_its_session_with_the_reason() {
    let harness = Harness::start().await;
    let mut producer = harness.producer_session("orders", &[]).await;
    producer.frame(vec![publish(1, message("t", &"x".repeat(limits::GRPC_MESSAGE_BYTES_MAX)))]).await;
    let status = producer.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", Some("frame"));
}

#[tokio::test]
async fn unknown_topics_are_refused_unless_using_makes_them() {
    let mut strict = config();
    strict.settings.topics.create_on_use = false;
    let harness = Harness::start_with(strict).await;
    let request = v1::PublishRequest { message: Some(message("tpyo", "x")) };
    let status = harness.producer().publish(request).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "UNKNOWN_TOPIC", None);
}
