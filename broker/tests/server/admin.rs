//! The admin service, call by call, on a broker with something in it.

use escrow_protocol::v1;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::harness::*;

/// A group that tries again at once, twice, then gives up.
async fn impatient_group(harness: &Harness, name: &str, topic: &str) {
    let retry = v1::RetryPolicy {
        delays: Some(v1::retry_policy::Delays::FixedMs(0)),
        max_attempts: 2,
        ..Default::default()
    };
    let request = v1::CreateGroupRequest {
        name: name.to_owned(),
        subscriptions: vec![v1::Subscription { topic: topic.to_owned(), tags: Vec::new() }],
        settings: Some(v1::GroupSettings { retry: Some(retry), ..Default::default() }),
        operator: operator(),
        ..Default::default()
    };
    harness.admin().create_group(request).await.unwrap();
}

/// Publishes `count` messages and rejects each.
async fn make_dead_letters(harness: &Harness, group: &str, topic: &str, count: usize) {
    let mut consumer = harness.consumer_session(group, topic).await;
    consumer.credit(count as u32).await;
    for n in 0..count {
        let message = v1::Message { key: format!("k{n}"), ..message(topic, "bad") };
        harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
    }
    for delivery in consumer.deliveries(count).await {
        consumer.settle(reject(1, &delivery)).await;
        assert_eq!(consumer.result().await.fault, None);
    }
}

/// The job once it has ended, and what it could not do.
async fn ended(harness: &Harness, job: v1::Job) -> v1::GetJobResponse {
    loop {
        let request = v1::GetJobRequest { job_id: job.job_id, ..Default::default() };
        let answer = harness.admin().get_job(request).await.unwrap().into_inner();
        if answer.job.as_ref().unwrap().ended_at_ms > 0 {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

fn of_group(group: &str) -> Option<v1::DeadLetterFilter> {
    Some(v1::DeadLetterFilter { group: group.to_owned(), ..Default::default() })
}

#[tokio::test]
async fn topics_are_made_shown_paged_changed_and_deleted() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    for name in ["a", "b", "c"] {
        let request =
            v1::CreateTopicRequest { name: name.to_owned(), operator: operator(), ..Default::default() };
        assert_eq!(admin.create_topic(request).await.unwrap().into_inner().name, name);
    }
    let again = v1::CreateTopicRequest { name: "a".to_owned(), operator: operator(), ..Default::default() };
    assert_refused(&admin.create_topic(again).await.unwrap_err(), Code::AlreadyExists, "TOPIC_EXISTS", None);

    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = Some(v1::Page { limit: 2, cursor });
        let request = v1::ListTopicsRequest { page, ..Default::default() };
        let answer = admin.list_topics(request).await.unwrap().into_inner();
        names.extend(answer.topics.into_iter().map(|topic| topic.name));
        cursor = answer.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);

    let settings = v1::TopicSettings { keep_finished_ms: 5_000, keep_finished_bytes: 7 };
    let request =
        v1::UpdateTopicRequest { name: "b".to_owned(), settings: Some(settings), operator: operator() };
    admin.update_topic(request).await.unwrap();
    let shown = admin.get_topic(v1::GetTopicRequest { name: "b".to_owned() }).await.unwrap().into_inner();
    assert_eq!(shown.settings, Some(settings));

    let request = v1::DeleteTopicRequest { name: "b".to_owned(), force: false, operator: operator() };
    admin.delete_topic(request).await.unwrap();
    let gone = admin.get_topic(v1::GetTopicRequest { name: "b".to_owned() }).await.unwrap_err();
    assert_refused(&gone, Code::NotFound, "UNKNOWN_TOPIC", None);
}

#[tokio::test]
async fn groups_are_made_shown_paused_moved_and_deleted() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    impatient_group(&harness, "g", "t").await;
    for _ in 0..3 {
        harness.publish("t", "x").await;
    }
    let group = admin.get_group(v1::GetGroupRequest { name: "g".to_owned() }).await.unwrap().into_inner();
    assert_eq!((group.positions[0].lag, group.dead_letter_topic.as_str()), (3, "g.dlq"));
    let retry = group.settings.unwrap().retry.unwrap();
    assert_eq!((retry.max_attempts, retry.delays), (2, Some(v1::retry_policy::Delays::FixedMs(0))));

    let request = v1::PauseGroupRequest { name: "g".to_owned(), operator: operator() };
    assert!(admin.pause_group(request).await.unwrap().into_inner().paused);
    let request = v1::ResumeGroupRequest { name: "g".to_owned(), operator: operator() };
    assert!(!admin.resume_group(request).await.unwrap().into_inner().paused);

    for dry_run in [true, false] {
        let request = v1::SeekGroupRequest {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            to: Some(v1::seek_group_request::To::Newest(true)),
            dry_run,
            operator: operator(),
        };
        let sought = admin.seek_group(request).await.unwrap().into_inner();
        assert_eq!((sought.from_offset, sought.to_offset, sought.skipped), (0, 3, 3));
    }
    let request = v1::UpdateGroupRequest {
        name: "g".to_owned(),
        subscriptions: vec![v1::Subscription { topic: "u".to_owned(), tags: vec!["eu".to_owned()] }],
        operator: operator(),
        ..Default::default()
    };
    let group = admin.update_group(request).await.unwrap().into_inner();
    assert_eq!(group.positions.iter().map(|p| p.topic.as_str()).collect::<Vec<_>>(), ["t", "u"]);

    let listed = admin.list_groups(v1::ListGroupsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.groups.len(), 1);
    let request = v1::DeleteGroupRequest { name: "g".to_owned(), force: false, operator: operator() };
    admin.delete_group(request).await.unwrap();
    let gone = admin.get_group(v1::GetGroupRequest { name: "g".to_owned() }).await.unwrap_err();
    assert_refused(&gone, Code::NotFound, "UNKNOWN_GROUP", None);
}

#[tokio::test]
async fn transactions_are_listed_shown_and_decided_by_hand() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut ids = Vec::new();
    for n in 0..3 {
        let half = v1::SendHalfRequest {
            messages: vec![v1::Message { key: format!("o-{n}"), ..message("t", "x") }],
            group: "orders".to_owned(),
            client_id: "orders-1".to_owned(),
            ..Default::default()
        };
        ids.push(harness.producer().send_half(half).await.unwrap().into_inner().transaction_id);
    }
    let list = |filter: v1::TransactionFilter, limit| v1::ListTransactionsRequest {
        filter: filter.into(),
        page: Some(v1::Page { limit, cursor: String::new() }),
        ..Default::default()
    };
    let undecided =
        admin.list_transactions(list(v1::TransactionFilter::Undecided, 2)).await.unwrap().into_inner();
    assert_eq!(undecided.transactions.iter().map(|t| t.transaction_id).collect::<Vec<_>>(), ids[..2]);
    let message = &undecided.transactions[0].messages[0];
    assert_eq!((message.topic.as_str(), message.key.as_str()), ("t", "o-0"));
    let request = v1::ListTransactionsRequest {
        filter: 0,
        page: Some(v1::Page { limit: 2, cursor: undecided.next_cursor }),
        ..Default::default()
    };
    let rest = admin.list_transactions(request).await.unwrap().into_inner();
    assert_eq!((rest.transactions.len(), rest.next_cursor.as_str()), (1, ""));

    for (id, decision) in [(ids[0], v1::Decision::Commit), (ids[1], v1::Decision::Rollback)] {
        let request = v1::DecideTransactionRequest {
            transaction_id: id,
            decision: decision.into(),
            operator: operator(),
        };
        let decided = admin.decide_transaction(request).await.unwrap().into_inner();
        let decider = decided.decider.expect("decided");
        assert_eq!(
            (decider.role.as_str(), decider.name.as_str(), decider.reason.as_str()),
            ("person", "ada", "a test")
        );
    }
    let decided =
        admin.list_transactions(list(v1::TransactionFilter::Decided, 10)).await.unwrap().into_inner();
    assert_eq!(decided.transactions.iter().map(|t| t.transaction_id).collect::<Vec<_>>(), [ids[1], ids[0]]);

    let contradiction = v1::DecideTransactionRequest {
        transaction_id: ids[0],
        decision: v1::Decision::Rollback.into(),
        operator: operator(),
    };
    let status = admin.decide_transaction(contradiction).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "ALREADY_DECIDED", None);
    let request = v1::GetTransactionRequest { transaction_id: ids[0] };
    let shown = admin.get_transaction(request).await.unwrap().into_inner();
    assert_eq!((shown.state(), shown.conflicts), (v1::TransactionState::Committed, 1));

    let check = v1::CheckTransactionRequest { transaction_id: ids[0], operator: operator() };
    let status = admin.check_transaction(check).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "NOT_UNDECIDED", None);
    let resume = v1::ResumeTransactionRequest { transaction_id: ids[2], operator: operator() };
    let status = admin.resume_transaction(resume).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "NOT_PARKED", None);
    let unknown = admin.get_transaction(v1::GetTransactionRequest { transaction_id: 999 }).await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, "UNKNOWN_TRANSACTION", None);
}

#[tokio::test]
async fn a_check_by_hand_asks_at_once() {
    let harness = Harness::start().await;
    let mut checker = harness.producer_session("orders", &["orders"]).await;
    checker.frame(vec![send_half(1, vec![message("t", "x")])]).await;
    let result = checker.collect(1).await.remove(0).result;
    let Some(v1::producer_result::Result::Prepared(prepared)) = result else { panic!("{result:?}") };
    let id = prepared.transaction_id;
    let request = v1::CheckTransactionRequest { transaction_id: id, operator: operator() };
    let shown = harness.admin().check_transaction(request).await.unwrap().into_inner();
    assert_eq!((shown.transaction_id, shown.checkers_connected), (id, 1));
    assert_eq!(checker.question().await.transaction_id, id);
}

#[tokio::test]
async fn scheduled_messages_are_listed_and_cancelled_exactly() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let now_ms = admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().now_ms;
    let mut ids = Vec::new();
    for hours in [2, 1] {
        let later = v1::Message {
            deliver_at_ms: now_ms + hours * 3_600_000,
            key: format!("in {hours}"),
            ..message("t", "x")
        };
        let request = v1::PublishRequest { message: Some(later) };
        let published = harness.producer().publish(request).await.unwrap().into_inner();
        assert_eq!(published.offset, None);
        ids.push(published.message_id);
    }
    let page =
        |cursor| v1::ListScheduledRequest { page: Some(v1::Page { limit: 1, cursor }), ..Default::default() };
    let first = admin.list_scheduled(page(String::new())).await.unwrap().into_inner();
    assert_eq!((first.scheduled[0].key.as_str(), first.scheduled[0].topic.as_str()), ("in 1", "t"));
    let second = admin.list_scheduled(page(first.next_cursor)).await.unwrap().into_inner();
    assert_eq!(second.scheduled[0].message_id, ids[0]);

    let visible = harness.publish("t", "now").await.message_id;
    use v1::cancel_scheduled_response::Outcome;
    for (id, outcome) in [
        (ids[0].clone(), Outcome::Cancelled),
        (visible, Outcome::TooLate),
        (vec![9; 16].into(), Outcome::NotKnown),
    ] {
        let request = v1::CancelScheduledRequest { message_id: id, operator: operator() };
        assert_eq!(admin.cancel_scheduled(request).await.unwrap().into_inner().outcome(), outcome);
    }
    let request = v1::GetMessageRequest { message_id: ids[1].clone() };
    assert_eq!(admin.get_message(request).await.unwrap().into_inner().state, "SCHEDULED");
}

#[tokio::test]
async fn dead_letters_are_found_and_shown() {
    let harness = Harness::start().await;
    make_dead_letters(&harness, "g", "t", 3).await;
    let mut admin = harness.admin();
    let page = |cursor| Some(v1::Page { limit: 2, cursor });
    let request = v1::ListDeadLettersRequest { page: page(String::new()), filter: of_group("g") };
    let first = admin.list_dead_letters(request).await.unwrap().into_inner();
    assert_eq!(first.dead_letters.len(), 2);
    assert!(first.dead_letters.iter().all(|dead| dead.message.as_ref().unwrap().body.is_empty()));
    // Without a group: the dead letters of all.
    let request = v1::ListDeadLettersRequest { page: page(first.next_cursor), filter: None };
    let rest = admin.list_dead_letters(request).await.unwrap().into_inner();
    assert_eq!((rest.dead_letters.len(), rest.next_cursor.as_str()), (1, ""));

    let by = |change: fn(&mut v1::DeadLetterFilter)| {
        let mut filter = of_group("g").unwrap();
        change(&mut filter);
        v1::ListDeadLettersRequest { page: whole(), filter: Some(filter) }
    };
    for (request, count) in [
        (by(|f| f.key = "k1".to_owned()), 1),
        (by(|f| f.key = "other".to_owned()), 0),
        (by(|f| f.reason = "REJECTED".to_owned()), 3),
        (by(|f| f.reason = "EXPIRED".to_owned()), 0),
        (by(|f| f.topic = "t".to_owned()), 3),
        (by(|f| f.topic = "u".to_owned()), 0),
        (by(|f| f.error_contains = "eve".to_owned()), 3),
        (by(|f| f.from_ms = i64::MAX), 0),
        (by(|f| f.until_ms = 1), 0),
        (by(|f| f.offsets = vec![2, 7]), 1),
    ] {
        let found = admin.list_dead_letters(request.clone()).await.unwrap().into_inner();
        assert_eq!(found.dead_letters.len(), count, "{request:?}");
    }
    let request = v1::GetDeadLetterRequest { group: "g".to_owned(), offset: 1 };
    let shown = admin.get_dead_letter(request).await.unwrap().into_inner();
    assert_eq!(shown.message.unwrap().body, "bad");
    assert_eq!((shown.attempts.len(), shown.attempts[0].kind.as_str()), (1, "REJECTED"));
    let request = v1::GetDeadLetterRequest { group: "g".to_owned(), offset: 9 };
    let status = admin.get_dead_letter(request).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "UNKNOWN_DEAD_LETTER", None);
}

#[tokio::test]
async fn dead_letters_are_redriven_to_the_failing_group() {
    let harness = Harness::start().await;
    make_dead_letters(&harness, "g", "t", 3).await;
    let mut admin = harness.admin();
    let redrive = |dry_run| v1::RedriveDeadLettersRequest {
        filter: of_group("g"),
        dry_run,
        rate: 1_000,
        operator: operator(),
        ..Default::default()
    };
    for dry_run in [true, false] {
        let job = admin.redrive_dead_letters(redrive(dry_run)).await.unwrap().into_inner();
        assert_eq!((job.total, job.filter.as_ref().unwrap().group.as_str()), (3, "g"));
        let job = ended(&harness, job).await.job.unwrap();
        assert_eq!((job.state(), job.done, job.failed, job.left), (v1::JobState::Done, 3, 0, 0));
        let request = v1::ListDeadLettersRequest { page: whole(), filter: of_group("g") };
        let left = admin.list_dead_letters(request).await.unwrap().into_inner().dead_letters;
        assert_eq!(left.len(), if dry_run { 3 } else { 0 });
    }
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(3).await;
    assert_eq!(consumer.deliveries(3).await.len(), 3);
    let nothing = admin.redrive_dead_letters(redrive(false)).await.unwrap().into_inner();
    assert_eq!(ended(&harness, nothing).await.job.unwrap().done, 0);
    let listed = admin.list_jobs(v1::ListJobsRequest { page: whole() }).await.unwrap().into_inner().jobs;
    assert_eq!(listed.iter().map(|job| job.job_id).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn what_is_taken_out_is_whole_and_the_audit_has_who_took_it() {
    let harness = Harness::start().await;
    // More than is read at a time.
    make_dead_letters(&harness, "g", "t", 120).await;
    let mut admin = harness.admin();
    let filter = v1::DeadLetterFilter { group: "g".to_owned(), topic: "t".to_owned(), ..Default::default() };
    let request = v1::ExportDeadLettersRequest { filter: Some(filter), operator: operator() };
    let letters: Vec<_> = admin.export_dead_letters(request).await.unwrap().into_inner().collect().await;
    let letters: Vec<_> = letters.into_iter().map(Result::unwrap).collect();
    assert_eq!(letters.iter().map(|dead| dead.offset).collect::<Vec<_>>(), (0..120).collect::<Vec<_>>());
    assert!(letters.iter().all(|dead| !dead.message.as_ref().unwrap().body.is_empty()));
    let unknown = v1::ExportDeadLettersRequest { filter: of_group("nobody"), operator: operator() };
    let unknown = admin.export_dead_letters(unknown).await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, "UNKNOWN_GROUP", None);
    let request = v1::ExportAuditRequest { filter: None, operator: operator() };
    let entries: Vec<_> = admin.export_audit(request).await.unwrap().into_inner().collect().await;
    let told: Vec<_> = entries
        .into_iter()
        .map(Result::unwrap)
        .map(|entry| (entry.verb, entry.target, entry.name, entry.after))
        .collect();
    let name = operator().unwrap().name;
    let said = |verb: &str, target: &str, after: &str| {
        (verb.to_owned(), target.to_owned(), name.clone(), after.to_owned())
    };
    let expected = [said("audit.export", "audit", ""), said("dlq.export", "g", "topic=t")];
    assert_eq!(told, expected, "what was refused is not there");
}

#[tokio::test]
async fn chosen_dead_letters_are_discarded_and_what_was_refused_is_said() {
    let harness = Harness::start().await;
    make_dead_letters(&harness, "g", "t", 3).await;
    let mut admin = harness.admin();
    let filter = v1::DeadLetterFilter { group: "g".to_owned(), offsets: vec![1, 8], ..Default::default() };
    let request =
        v1::DiscardDeadLettersRequest { filter: Some(filter), dry_run: false, operator: operator() };
    let job = admin.discard_dead_letters(request).await.unwrap().into_inner();
    let ended = ended(&harness, job).await;
    let job = ended.job.unwrap();
    assert_eq!((job.kind(), job.total, job.done, job.failed), (v1::JobKind::Discard, 2, 1, 1));
    let failures: Vec<_> = ended
        .results
        .iter()
        .filter(|result| result.fault.is_some())
        .map(|failure| (failure.offset, failure.fault.as_ref().unwrap().reason.as_str()))
        .collect();
    assert_eq!(failures, [(8, "UNKNOWN_DEAD_LETTER")]);
    let done: Vec<_> = ended.results.iter().filter(|result| result.fault.is_none()).collect();
    assert_eq!(done.iter().map(|result| result.offset).collect::<Vec<_>>(), [1]);
    assert!(!done[0].message_id.is_empty() && done[0].new_message_id.is_empty());
    let request = v1::ListDeadLettersRequest { page: whole(), filter: of_group("g") };
    let left = admin.list_dead_letters(request).await.unwrap().into_inner().dead_letters;
    assert_eq!(left.iter().map(|dead| dead.offset).collect::<Vec<_>>(), [0, 2]);
}

#[tokio::test]
async fn a_job_is_paused_resumed_and_cancelled_and_not_once_it_has_ended() {
    let harness = Harness::start().await;
    make_dead_letters(&harness, "g", "t", 5).await;
    let request = v1::RedriveDeadLettersRequest {
        filter: of_group("g"),
        // One in a second: it does not end within this test.
        rate: 1,
        operator: operator(),
        ..Default::default()
    };
    let mut admin = harness.admin();
    let job_id = admin.redrive_dead_letters(request).await.unwrap().into_inner().job_id;
    let pause = v1::PauseJobRequest { job_id, operator: operator() };
    assert_eq!(admin.pause_job(pause).await.unwrap().into_inner().state(), v1::JobState::Paused);
    let resume = v1::ResumeJobRequest { job_id, operator: operator() };
    assert_eq!(admin.resume_job(resume).await.unwrap().into_inner().state(), v1::JobState::Running);
    let cancel = v1::CancelJobRequest { job_id, operator: operator() };
    let cancelled = admin.cancel_job(cancel.clone()).await.unwrap().into_inner();
    assert_eq!((cancelled.state(), cancelled.left), (v1::JobState::Cancelled, 0));
    let again = admin.cancel_job(cancel).await.unwrap_err();
    assert_refused(&again, Code::FailedPrecondition, "JOB_ENDED", None);
    let unknown = admin.get_job(v1::GetJobRequest { job_id: 99, ..Default::default() }).await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, "UNKNOWN_JOB", None);
    harness.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn messages_are_found_by_key_newest_first_and_traced() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let mut ids = Vec::new();
    for body in ["old", "new"] {
        let sent = v1::Message { key: "o-42".to_owned(), ..message("t", body) };
        let request = v1::PublishRequest { message: Some(sent) };
        ids.push(harness.producer().publish(request).await.unwrap().into_inner().message_id);
    }
    ids.sort();
    let page = |cursor| Some(v1::Page { limit: 1, cursor });
    let request = v1::FindMessagesRequest { key: "o-42".to_owned(), page: page(String::new()) };
    let first = admin.find_messages(request).await.unwrap().into_inner();
    assert_eq!(first.messages[0].message.as_ref().unwrap().id, ids[1]);
    let request = v1::FindMessagesRequest { key: "o-42".to_owned(), page: page(first.next_cursor) };
    let second = admin.find_messages(request).await.unwrap().into_inner();
    assert_eq!(second.messages[0].message.as_ref().unwrap().id, ids[0]);

    let unknown = admin.trace_message(v1::TraceMessageRequest { message_id: vec![5; 16].into() }).await;
    assert_refused(&unknown.unwrap_err(), Code::NotFound, "UNKNOWN_MESSAGE", None);
}

#[tokio::test]
async fn the_life_of_a_message_is_told_in_order() {
    let harness = Harness::start().await;
    let mut consumer = harness.consumer_session("g", "t").await;
    consumer.credit(10).await;
    harness.consumer_session("h", "t").await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let prepared = producer.run(send_half(1, vec![message("t", "x")])).await;
    let v1::producer_result::Result::Prepared(prepared) = prepared else { panic!("{prepared:?}") };
    producer.run(decide(2, prepared.transaction_id, v1::Decision::Commit)).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    consumer.settle(nack(3, &delivery, 60_000)).await;
    consumer.result().await;

    let request = v1::TraceMessageRequest { message_id: prepared.message_ids[0].clone() };
    let trace = harness.admin().trace_message(request).await.unwrap().into_inner();
    assert_eq!(trace.transaction.unwrap().transaction_id, prepared.transaction_id);
    assert_eq!(trace.message.unwrap().state, "QUEUED");
    let events: Vec<_> = trace.events.iter().map(|e| (e.event.as_str(), e.group.as_str())).collect();
    assert_eq!(
        events,
        [
            ("STORED", ""),
            ("DECIDED", ""),
            ("QUEUED", ""),
            ("DELIVERED", "g"),
            ("FAILED", "g"),
            ("RETRYING", "g"),
            ("WAITING", "h")
        ]
    );
}

#[tokio::test]
async fn clients_status_and_store_are_shown() {
    let harness = Harness::start().await;
    let mut admin = harness.admin();
    let _producer = harness.producer_session("orders", &["order.create"]).await;
    let consumer = harness.consumer_session("g", "t").await;
    consumer.credit(5).await;
    let clients = admin
        .list_clients(v1::ListClientsRequest { page: whole(), ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .clients;
    assert_eq!(
        (clients[0].role.as_str(), &clients[0].check_kinds[..]),
        ("producer", &["order.create".to_owned()][..])
    );
    assert_eq!((clients[1].role.as_str(), clients[1].client_id.as_str()), ("consumer", "g-1"));
    assert!(clients[1].address.starts_with("127.0.0.1:"), "{}", clients[1].address);

    let status = admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.topics, status.groups, status.producers, status.consumers), (1, 1, 1, 1));
    assert!(status.accepting && status.started_at_ms > 0 && !status.version.is_empty());
    assert!(status.store.unwrap().last_sequence > 0);
    let stats = admin.get_store_stats(v1::GetStoreStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.data_dir, "in memory");
    let sound =
        admin.verify_store(v1::VerifyStoreRequest { operator: operator() }).await.unwrap().into_inner();
    assert!(sound.sound && sound.records > 0);
    harness.disk.flip_bit(0);
    let damaged =
        admin.verify_store(v1::VerifyStoreRequest { operator: operator() }).await.unwrap().into_inner();
    assert!(!damaged.sound && damaged.faults.len() == 1);
    let audit = admin.list_audit(v1::ListAuditRequest { page: whole(), filter: None }).await;
    let verified = &audit.unwrap().into_inner().entries[0];
    assert_eq!((verified.verb.as_str(), verified.target.as_str()), ("store.verify", "store"));
    assert!(verified.after.ends_with("faults=1"), "{verified:?}");
}

#[tokio::test]
async fn services_can_be_discovered_and_are_healthy() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let harness = Harness::start().await;
    let mut health = HealthClient::new(harness.channel.clone());
    for service in ["", "escrow.v1.ProducerService", "escrow.v1.ConsumerService", "escrow.v1.AdminService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    use tonic_reflection::pb::v1 as reflection;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(harness.channel.clone());
    let request = reflection::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"escrow.v1.AdminService"), "{names:?}");
}
