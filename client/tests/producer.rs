//! What a producer does when the broker answers, refuses, disappears, asks, or stops reading.

mod scripted;

use std::time::Duration;

use escrow::v1::producer_command::Command;
use escrow::v1::{
    CheckQuestion, CheckVerdict, Goodbye, TransactionState, producer_response, producer_result,
};
use escrow::{CheckRequest, Client, Decision, ErrorKind, Message, Producer, Reason, Verdict, WithChecker};
use tokio::time::Instant;
use tonic::{Code, Status};

use scripted::{ProducerSession, ScriptedBroker, decided, fault, prepared, stored, within};

async fn plain(broker: &mut ScriptedBroker, client: &Client) -> (Producer, ProducerSession) {
    let (producer, session) = tokio::join!(client.producer("orders").build(), broker.welcomed_producer());
    (producer.expect("welcomed"), session)
}

async fn checked(
    broker: &mut ScriptedBroker,
    client: &Client,
    checker: impl escrow::Checker,
) -> (Producer<WithChecker>, ProducerSession) {
    let build = client.producer("orders").checker(checker).build();
    let (producer, session) = tokio::join!(build, broker.welcomed_producer());
    (producer.expect("welcomed"), session)
}

async fn unknown(_: CheckRequest) -> Verdict {
    Verdict::Unknown
}

fn question(transaction_id: u64, check: u64) -> CheckQuestion {
    CheckQuestion { transaction_id, check, kind: "orders".into(), ..CheckQuestion::default() }
}

fn message_id(command: &Command) -> Vec<u8> {
    match command {
        Command::Publish(request) => request.message.as_ref().expect("a message").id.to_vec(),
        other => panic!("not a publish: {other:?}"),
    }
}

#[tokio::test]
async fn an_unreachable_broker_is_a_clear_error_at_once() {
    let error = Client::connect("http://127.0.0.1:1").await.expect_err("nobody listens there");
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Unavailable, false));
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
    let error = Client::connect("localhost:7800").await.expect_err("no URL");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_refused_hello_is_the_builders_error() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let refuse = async {
        let session = broker.producer().await;
        assert_eq!((session.hello.client_id.as_str(), session.hello.protocol_version), ("test-1", 1));
        assert_eq!(session.hello.protocol_version_min, 1);
        session.refuse(Status::failed_precondition("too old")).await;
    };
    let (producer, ()) = tokio::join!(client.producer("orders").build(), refuse);
    assert_eq!(producer.expect_err("refused").kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_version_this_client_does_not_speak_is_refused_by_it() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    for (version, remedy) in [(2, "upgrade this client"), (0, "upgrade the broker")] {
        let welcome = async {
            let session = broker.producer().await;
            session.welcome_with_version(version).await;
            session
        };
        let (producer, _session) = tokio::join!(client.producer("orders").build(), welcome);
        let error = producer.expect_err("refused");
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Conflict, Some(Reason::ProtocolVersion)));
        assert!(error.message().contains(remedy), "{error}");
        assert!(!error.is_retryable() && !error.outcome_unknown());
    }
}

#[tokio::test]
async fn an_unanswered_publish_is_sent_again_by_the_same_id_after_a_lost_session() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let script = async {
        let (_, first) = session.command().await;
        session.break_off().await;
        let mut session = broker.welcomed_producer().await;
        let (correlation, second) = session.command().await;
        assert_eq!(message_id(&first), message_id(&second));
        session.answer(correlation, stored(7)).await;
        session
    };
    let (published, _session) = tokio::join!(producer.publish(Message::new("orders")), script);
    assert_eq!(published.expect("stored").offset, Some(7));
}

#[tokio::test]
async fn a_decision_is_sent_again_after_a_lost_reply() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = checked(&mut broker, &client, unknown).await;
    let store = async {
        let (correlation, _) = session.command().await;
        session.answer(correlation, prepared(42)).await;
        session
    };
    let (half, mut session) = tokio::join!(producer.send_half(Message::new("orders")), store);
    let script = async {
        let (_, first) = session.command().await;
        session.break_off().await;
        let mut session = broker.welcomed_producer().await;
        let (correlation, second) = session.command().await;
        assert_eq!(first, second);
        session.answer(correlation, decided(42, TransactionState::Committed)).await;
        session
    };
    let (outcome, _session) = tokio::join!(half.expect("stored").commit(), script);
    assert_eq!(outcome.expect("decided").state, TransactionState::Committed);
}

#[tokio::test]
async fn the_opposite_decision_is_a_conflict_that_names_the_first() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let script = async {
        let (correlation, _) = session.command().await;
        let mut conflict = fault(Code::FailedPrecondition, "ALREADY_DECIDED", 0);
        conflict.details.insert("by".into(), "check".into());
        session.answer(correlation, producer_result::Result::Fault(conflict)).await;
    };
    let id = escrow::TransactionId::from_u64(42);
    let (outcome, ()) = tokio::join!(producer.decide(id, Decision::Rollback), script);
    let error = outcome.expect_err("refused");
    assert_eq!((error.reason(), error.outcome_unknown()), (Some(Reason::AlreadyDecided), false));
    assert_eq!(error.details()["by"], "check");
}

#[tokio::test]
async fn a_refusal_that_says_when_is_tried_again_by_the_client() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let script = async {
        let (correlation, first) = session.command().await;
        let overloaded = fault(Code::ResourceExhausted, "OVERLOADED", 1);
        session.answer(correlation, producer_result::Result::Fault(overloaded)).await;
        let (correlation, second) = session.command().await;
        assert_eq!(message_id(&first), message_id(&second));
        session.answer(correlation, stored(0)).await;
    };
    let (published, ()) = tokio::join!(producer.publish(Message::new("orders")), script);
    published.expect("stored in the end");
}

#[tokio::test]
async fn a_refusal_that_says_not_when_is_the_callers() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let script = async {
        let (correlation, _) = session.command().await;
        let limit = fault(Code::ResourceExhausted, "LIMIT_REACHED", 0);
        session.answer(correlation, producer_result::Result::Fault(limit)).await;
    };
    let (published, ()) = tokio::join!(producer.publish(Message::new("orders")), script);
    assert_eq!(published.expect_err("refused").reason(), Some(Reason::LimitReached));
}

#[tokio::test]
async fn a_body_the_broker_would_refuse_is_not_sent() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, _session) = plain(&mut broker, &client).await;
    let large = Message::new("orders").bytes(vec![0; 4 * 1024 * 1024 + 1]);
    let error = producer.publish(large).await.expect_err("too large");
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::InvalidRequest, false));
}

#[tokio::test]
async fn a_checker_answers_and_is_registered_again_after_a_lost_session() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let commits = |_: CheckRequest| async { Verdict::Commit };
    let (_producer, session) = checked(&mut broker, &client, commits).await;
    assert_eq!(session.hello.check_kinds, ["orders"]);
    session.break_off().await;
    let mut session = broker.welcomed_producer().await;
    assert_eq!(session.hello.check_kinds, ["orders"]);
    session.ask(question(42, 3)).await;
    let (_, command) = session.command().await;
    let Command::CheckAnswer(answer) = command else { panic!("not an answer: {command:?}") };
    assert_eq!((answer.transaction_id, answer.check), (42, 3));
    assert_eq!(answer.verdict(), CheckVerdict::VerdictCommit);
}

#[tokio::test]
async fn a_panic_of_the_checker_is_unknown_and_the_next_check_is_answered() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let panics_once = |half: CheckRequest| async move {
        assert!(half.transaction_id().number() != 1, "on purpose");
        Verdict::Rollback
    };
    let (_producer, mut session) = checked(&mut broker, &client, panics_once).await;
    for (transaction, verdict) in [(1, CheckVerdict::Unknown), (2, CheckVerdict::VerdictRollback)] {
        session.ask(question(transaction, 1)).await;
        let (_, command) = session.command().await;
        let Command::CheckAnswer(answer) = command else { panic!("not an answer: {command:?}") };
        assert_eq!(answer.verdict(), verdict);
    }
}

#[tokio::test]
async fn a_checker_that_takes_too_long_is_unknown() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let never = |_: CheckRequest| std::future::pending::<Verdict>();
    let build = client
        .producer("orders")
        .checker(never)
        .check_timeout(Duration::from_millis(10))
        .kinds(["order.create"]);
    let (producer, mut session) = tokio::join!(build.build(), broker.welcomed_producer());
    let _producer = producer.expect("welcomed");
    assert_eq!(session.hello.check_kinds, ["order.create"]);
    session.ask(question(1, 1)).await;
    let (_, command) = session.command().await;
    let Command::CheckAnswer(answer) = command else { panic!("not an answer: {command:?}") };
    assert_eq!(answer.verdict(), CheckVerdict::Unknown);
}

#[tokio::test]
async fn a_dropped_half_message_sends_nothing() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = checked(&mut broker, &client, unknown).await;
    let store = async {
        let (correlation, command) = session.command().await;
        let Command::SendHalf(request) = command else { panic!("not a half message: {command:?}") };
        assert_eq!((request.kind.as_str(), request.messages.len()), ("orders", 2));
        session.answer(correlation, prepared(42)).await;
    };
    let two = producer.half().message(Message::new("a")).message(Message::new("b")).send();
    let (half, ()) = tokio::join!(two, store);
    drop(half.expect("stored"));
    let next = async {
        let (correlation, command) = session.command().await;
        assert!(matches!(command, Command::Publish(_)), "{command:?}");
        session.answer(correlation, stored(0)).await;
    };
    let (published, ()) = tokio::join!(producer.publish(Message::new("orders")), next);
    published.expect("stored");
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // It measures that the client did stay away.
async fn a_goodbye_is_honoured_and_answers_before_it_are_taken() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let stay_away = Duration::from_millis(60);
    let script = async {
        let (correlation, _) = session.command().await;
        let said_at = Instant::now();
        let goodbye = Goodbye { reason: "restart".into(), retry_after_ms: stay_away.as_millis() as i64 };
        session.send(producer_response::Kind::Goodbye(goodbye)).await;
        session.answer(correlation, stored(3)).await;
        let _session = broker.welcomed_producer().await;
        said_at.elapsed()
    };
    let (published, away) = tokio::join!(producer.publish(Message::new("orders")), script);
    assert_eq!(published.expect("answered after the goodbye").offset, Some(3));
    assert!(away >= stay_away, "came back after {away:?}");
}

#[tokio::test]
async fn a_refusal_after_a_loss_ends_the_producer_with_that_error() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, session) = plain(&mut broker, &client).await;
    session.break_off().await;
    let script = async { broker.producer().await.refuse(Status::permission_denied("not any more")).await };
    let (published, ()) = tokio::join!(producer.publish(Message::new("orders")), script);
    assert_eq!(published.expect_err("refused").kind(), ErrorKind::Denied);
    let later = producer.publish(Message::new("orders")).await.expect_err("still refused");
    assert_eq!((later.kind(), later.outcome_unknown()), (ErrorKind::Denied, false));
}

#[tokio::test]
async fn close_waits_for_what_is_under_way_and_ends_the_stream() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let publishing = producer.clone();
    let script = async {
        let (correlation, _) = session.command().await;
        session.answer(correlation, stored(0)).await;
        assert!(session.frame().await.is_empty(), "the client ended its side");
        drop(session);
    };
    let mut publish = Box::pin(publishing.publish(Message::new("orders")));
    assert!(futures::poll!(&mut publish).is_pending());
    let (published, (), ()) = tokio::join!(publish, producer.close(), script);
    published.expect("stored");
    let error = publishing.publish(Message::new("orders")).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn operations_that_wait_share_a_frame_once_enough_frames_are_unanswered() {
    const FRAMES: usize = 256;
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (producer, mut session) = plain(&mut broker, &client).await;
    let mut publishes = Vec::new();
    let mut first = None;
    for _ in 0..FRAMES {
        publishes.push(Box::pin(producer.publish(Message::new("orders"))));
        assert!(futures::poll!(publishes.last_mut().expect("pushed")).is_pending());
        let (correlation, _) = session.command().await;
        first.get_or_insert(correlation);
    }
    for _ in 0..44 {
        publishes.push(Box::pin(producer.publish(Message::new("orders"))));
        assert!(futures::poll!(publishes.last_mut().expect("pushed")).is_pending());
        // The session task has every chance to write it alone.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    session.answer(first.expect("sent"), stored(0)).await;
    assert_eq!(session.frame().await.len(), 44, "they waited and went together");
}

#[tokio::test]
async fn a_broker_that_does_not_read_costs_timeouts_and_not_the_connection() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client_with_operations_of(Duration::from_millis(400)).await;
    let (producer, session) = plain(&mut broker, &client).await;
    let (other, mut other_session) = plain(&mut broker, &client).await;
    let mut publishes = Vec::new();
    for _ in 0..4000 {
        publishes.push(Box::pin(producer.publish(Message::new("orders"))));
        assert!(futures::poll!(publishes.last_mut().expect("pushed")).is_pending());
        // The session task writes what it has: a frame of its own for each, if it may.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    for publish in publishes {
        let error = within("the deadline", publish).await.expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    drop(session);
    let script = async {
        let (correlation, _) = other_session.command().await;
        other_session.answer(correlation, stored(1)).await;
    };
    let (published, ()) = tokio::join!(other.publish(Message::new("orders")), script);
    published.expect("the other session on the same connection still works");
}
