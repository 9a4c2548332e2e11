//! What a consumer does with deliveries, leases and credit, and when the broker disappears.

mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use escrow::v1::settlement::Verb;
use escrow::{Client, Deliveries, ErrorKind, Outcome, Reason, SubscriptionBuilder};
use tokio::sync::{Notify, oneshot};
use tonic::{Code, Status};

use scripted::{ConsumerSession, ScriptedBroker, fault, within};

const LONG_LEASE: Duration = Duration::from_secs(30);

async fn open(
    broker: &mut ScriptedBroker,
    subscription: SubscriptionBuilder,
) -> (Deliveries, ConsumerSession) {
    let (deliveries, session) = tokio::join!(subscription.open(), broker.welcomed_consumer(LONG_LEASE));
    (deliveries.expect("welcomed"), session)
}

fn orders(client: &Client) -> SubscriptionBuilder {
    client.subscribe("billing").topic("orders")
}

async fn next(deliveries: &mut Deliveries) -> escrow::Delivery {
    within("a delivery", deliveries.next()).await.expect("the stream goes on").expect("a delivery")
}

fn verbs(settlements: &[escrow::v1::Settlement]) -> Vec<(u64, &'static str)> {
    settlements
        .iter()
        .map(|settlement| {
            let verb = match settlement.verb {
                Some(Verb::Ack(_)) => "ack",
                Some(Verb::Nack(_)) => "nack",
                Some(Verb::Reject(_)) => "reject",
                Some(Verb::Extend(_)) => "extend",
                Some(Verb::Release(_)) => "release",
                None => "nothing",
            };
            (settlement.lease_token, verb)
        })
        .collect()
}

#[tokio::test]
async fn the_hello_says_what_was_subscribed_and_the_prefetch_is_granted() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let subscription = orders(&client).topic_with_tags("refunds", ["eu", "us"]).broadcast().prefetch(17);
    let (_deliveries, mut session) = open(&mut broker, subscription).await;
    let hello = &session.hello;
    assert!(hello.broadcast && hello.group == "billing" && hello.client_id == "test-1");
    assert_eq!(hello.subscriptions[1].tags, ["eu", "us"]);
    assert_eq!(session.granted().await, 17);
}

#[tokio::test]
async fn a_refused_hello_is_the_builders_error() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let refuse = async { broker.consumer().await.refuse(Status::not_found("no such topic")).await };
    let (opened, ()) = tokio::join!(orders(&client).open(), refuse);
    assert_eq!(opened.expect_err("refused").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_ack_returns_when_the_broker_has_answered() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([7]).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.key(), delivery.offset(), delivery.attempt()), ("key-7", 7, 1));
    let script = async {
        let settlement = session.settlement().await;
        assert_eq!(
            (settlement.lease_token, settlement.verb.clone()),
            (7, Some(Verb::Ack(Default::default())))
        );
        session.answer(&settlement, None).await;
    };
    let (acked, ()) = tokio::join!(delivery.ack(), script);
    acked.expect("it counted");
}

#[tokio::test]
async fn nack_and_reject_carry_their_delay_and_reason() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([1, 2]).await;
    let (first, second) = (next(&mut deliveries).await, next(&mut deliveries).await);
    let script = async {
        let settlement = session.settlement().await;
        let Some(Verb::Nack(nack)) = &settlement.verb else { panic!("not a nack: {settlement:?}") };
        assert_eq!((nack.delay_ms, nack.reason.as_str()), (Some(10_000), "bank is closed"));
        session.answer(&settlement, None).await;
        let settlement = session.settlement().await;
        let Some(Verb::Reject(reject)) = &settlement.verb else { panic!("not a reject: {settlement:?}") };
        assert_eq!(reject.reason, "no such account");
        session.answer(&settlement, Some(fault(Code::FailedPrecondition, "STALE_LEASE", 0))).await;
    };
    let settle = async {
        first.nack().after(Duration::from_secs(10)).reason("bank is closed").await.expect("it counted");
        second.reject("no such account").await.expect_err("the lease was over")
    };
    let (stale, ()) = tokio::join!(settle, script);
    assert_eq!((stale.reason(), stale.outcome_unknown()), (Some(Reason::StaleLease), false));
}

#[tokio::test]
async fn a_dropped_delivery_is_a_nack() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([7]).await;
    drop(next(&mut deliveries).await);
    assert_eq!(verbs(&session.settlements().await), [(7, "nack")]);
}

#[tokio::test]
async fn close_releases_what_was_never_handed_out_and_leaves_the_rest_to_be_settled() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([1, 2, 3]).await;
    let in_hand = next(&mut deliveries).await;
    let releases = async {
        assert_eq!(verbs(&session.settlements().await), [(2, "release"), (3, "release")]);
    };
    tokio::join!(deliveries.close(), releases);
    let script = async {
        let settlement = session.settlement().await;
        assert_eq!(verbs(std::slice::from_ref(&settlement)), [(1, "ack")]);
        session.answer(&settlement, None).await;
        assert!(session.frame().await.is_none(), "the client ended its side");
    };
    let (acked, ()) = tokio::join!(in_hand.ack(), script);
    acked.expect("it counted");
}

#[tokio::test]
async fn dropping_the_stream_releases_too() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([1, 2]).await;
    let in_hand = next(&mut deliveries).await;
    drop(deliveries);
    assert_eq!(verbs(&session.settlements().await), [(2, "release")]);
    drop(in_hand);
    assert_eq!(verbs(&session.settlements().await), [(1, "nack")]);
    assert!(session.frame().await.is_none(), "the client ended its side");
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_delivery_is_held() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let lease = Duration::from_millis(60);
    let (deliveries, session) = tokio::join!(orders(&client).open(), broker.welcomed_consumer(lease));
    let (mut deliveries, mut session) = (deliveries.expect("welcomed"), session);
    session.granted().await;
    session.deliver([7]).await;
    let _held = next(&mut deliveries).await;
    for _ in 0..3 {
        let settlement = session.settlement().await;
        assert_eq!(verbs(std::slice::from_ref(&settlement)), [(7, "extend")]);
        assert_eq!(settlement.correlation, 0, "nobody waits for it");
    }
}

#[tokio::test]
async fn user_code_can_extend_and_is_told_when_it_is_too_late() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([7]).await;
    let held = next(&mut deliveries).await;
    let script = async {
        let settlement = session.settlement().await;
        let Some(Verb::Extend(extend)) = &settlement.verb else { panic!("not extended: {settlement:?}") };
        assert_eq!(extend.lease_ms, 600_000);
        session.answer(&settlement, Some(fault(Code::FailedPrecondition, "STALE_LEASE", 0))).await;
    };
    let (extended, ()) = tokio::join!(held.extend(Duration::from_secs(600)), script);
    assert_eq!(extended.expect_err("too late").reason(), Some(Reason::StaleLease));
}

#[tokio::test]
async fn credit_and_deliveries_held_never_exceed_the_prefetch() {
    const PREFETCH: u32 = 8;
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client).prefetch(PREFETCH)).await;
    let consumer = tokio::spawn(async move {
        for _ in 0..500 {
            next(&mut deliveries).await.ack().await.expect("it counted");
        }
    });
    let (mut delivered, mut settled) = (0_u64, 0_u64);
    while settled < 500 {
        let held = u32::try_from(delivered - settled).expect("few");
        assert!(session.credit + held <= PREFETCH, "{} granted, {held} held", session.credit);
        let count = u64::from(session.credit).min(500 - delivered);
        if count > 0 {
            session.deliver(delivered..delivered + count).await;
            delivered += count;
            continue;
        }
        for settlement in session.frame().await.expect("the stream goes on").settlements {
            session.answer(&settlement, None).await;
            settled += 1;
        }
    }
    consumer.await.expect("all were consumed");
}

#[tokio::test]
async fn a_broker_that_sends_beyond_the_credit_gets_it_back() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (_deliveries, mut session) = open(&mut broker, orders(&client).prefetch(2)).await;
    session.granted().await;
    session.credit = 3;
    session.deliver([1, 2, 3]).await;
    assert_eq!(verbs(&session.settlements().await), [(3, "release")]);
}

#[tokio::test]
async fn an_ack_under_way_in_a_lost_session_has_an_unknown_outcome() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client)).await;
    session.granted().await;
    session.deliver([7]).await;
    let delivery = next(&mut deliveries).await;
    let script = async {
        session.settlement().await;
        session.break_off().await;
    };
    let (acked, ()) = tokio::join!(delivery.ack(), script);
    let error = acked.expect_err("lost");
    assert!(error.outcome_unknown(), "{error}");
    assert!(error.to_string().contains("delivered again"), "{error}");
}

#[tokio::test]
async fn after_a_lost_session_the_stream_goes_on_without_what_was_prefetched() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client).prefetch(10)).await;
    session.granted().await;
    session.deliver([1, 2, 3]).await;
    let old = next(&mut deliveries).await;
    session.break_off().await;
    let mut session = broker.welcomed_consumer(LONG_LEASE).await;
    assert_eq!(session.granted().await, 9, "one is still held by user code");
    session.deliver([12]).await;
    let new = next(&mut deliveries).await;
    assert_eq!(new.offset(), 12);
    let script = async {
        let settlement = session.settlement().await;
        assert_eq!(verbs(std::slice::from_ref(&settlement)), [(1, "ack")]);
        session.answer(&settlement, Some(fault(Code::FailedPrecondition, "STALE_LEASE", 0))).await;
    };
    let (acked, ()) = tokio::join!(old.ack(), script);
    assert_eq!(acked.expect_err("the broker judged it").reason(), Some(Reason::StaleLease));
}

#[tokio::test]
async fn while_the_session_is_down_nothing_hangs_and_what_is_not_sent_says_so() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client).prefetch(10)).await;
    session.granted().await;
    session.deliver([1]).await;
    let held = next(&mut deliveries).await;
    session.break_off().await;
    // The next session is asked for and not welcomed.
    let mut down = broker.consumer().await;
    // More extensions than the session keeps waiting.
    for _ in 0..100 {
        let extended = within("the extension", held.extend(Duration::from_secs(60))).await;
        assert_eq!(extended.expect_err("lost").reason(), Some(Reason::StaleLease));
    }
    let error = within("the ack", held.ack()).await.expect_err("lost");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Conflict, Some(Reason::StaleLease)));
    assert!(!error.outcome_unknown(), "{error}");
    down.welcome(LONG_LEASE).await;
    assert_eq!(down.granted().await, 10, "nothing is held any more");
}

#[tokio::test]
async fn a_version_this_client_does_not_speak_is_refused_by_it() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let welcome = async {
        let mut session = broker.consumer().await;
        assert_eq!((session.hello.protocol_version, session.hello.protocol_version_min), (1, 1));
        session.welcome_with_version(2, LONG_LEASE).await;
        session
    };
    let (opened, _session) = tokio::join!(orders(&client).open(), welcome);
    let error = opened.expect_err("refused");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Conflict, Some(Reason::ProtocolVersion)));
    assert!(error.message().contains("upgrade this client"), "{error}");
}

#[tokio::test]
async fn a_refusal_after_a_loss_comes_once_and_then_the_stream_ends() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, session) = open(&mut broker, orders(&client)).await;
    session.break_off().await;
    broker.consumer().await.refuse(Status::not_found("the topic was deleted")).await;
    let error = within("the refusal", deliveries.next()).await.expect("once").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(within("the end", deliveries.next()).await.is_none());
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_memory_for_the_prefetch_and_not_the_connection() {
    const PREFETCH: u32 = 20_000;
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (mut deliveries, mut session) = open(&mut broker, orders(&client).prefetch(PREFETCH)).await;
    assert_eq!(session.granted().await, PREFETCH);
    // One small frame each: unread, h2 would give the connection up after about ten thousand.
    for token in 0..u64::from(PREFETCH) {
        session.deliver([token]).await;
    }
    for token in 0..u64::from(PREFETCH) {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.offset(), token);
        // The lease stays with the test's end; settling twenty thousand is another test's business.
        std::mem::forget(delivery);
    }
}

#[tokio::test]
async fn a_handlers_result_settles_the_delivery() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = orders(&client).concurrency(1).handler(|received| async move {
        match received.offset() {
            1 => Ok(Outcome::Ack),
            2 => Err("bank is closed"),
            3 => Ok(Outcome::reject("no such account")),
            _ => panic!("on purpose"),
        }
    });
    let run = consumer.run_until(async { stopped.await.unwrap_or_default() });
    let script = async {
        let mut session = broker.welcomed_consumer(LONG_LEASE).await;
        session.granted().await;
        session.deliver(1..=4).await;
        let mut seen = Vec::new();
        while seen.len() < 4 {
            for settlement in session.settlements().await {
                session.answer(&settlement, None).await;
                seen.push(settlement);
            }
        }
        stop.send(()).expect("runs");
        assert!(session.frame().await.is_none_or(|frame| frame.settlements.is_empty()));
        seen
    };
    let (outcome, seen) = tokio::join!(run, script);
    outcome.expect("stopped");
    assert_eq!(verbs(&seen), [(1, "ack"), (2, "nack"), (3, "reject"), (4, "nack")]);
    let Some(Verb::Nack(panicked)) = &seen[3].verb else { panic!("{seen:?}") };
    assert_eq!(panicked.reason, "the handler panicked: on purpose");
}

#[tokio::test]
async fn messages_of_one_ordering_key_are_handled_one_after_another() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let running = Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = orders(&client).concurrency(8).handler(move |_received| {
        let running = Arc::clone(&running);
        async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let script = async {
        let mut session = broker.welcomed_consumer(LONG_LEASE).await;
        session.granted().await;
        session.deliver_keyed(1..=20, "account-1").await;
        let mut seen = Vec::new();
        while seen.len() < 20 {
            for settlement in session.settlements().await {
                session.answer(&settlement, None).await;
                seen.push(settlement);
            }
        }
        stop.send(()).expect("runs");
        seen
    };
    let (outcome, seen) =
        tokio::join!(consumer.run_until(async { stopped.await.unwrap_or_default() }), script);
    outcome.expect("stopped");
    let expected: Vec<_> = (1..=20).map(|token| (token, "ack")).collect();
    assert_eq!(verbs(&seen), expected);
}

#[tokio::test]
async fn a_graceful_stop_waits_for_running_handlers_and_releases_the_rest() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (handler_started, handler_goes_on) = (Arc::clone(&started), Arc::clone(&go_on));
    let consumer = orders(&client).concurrency(1).handler(move |_received| {
        let (started, go_on) = (Arc::clone(&handler_started), Arc::clone(&handler_goes_on));
        async move {
            started.notify_one();
            go_on.notified().await;
        }
    });
    let script = async {
        let mut session = broker.welcomed_consumer(LONG_LEASE).await;
        session.granted().await;
        session.deliver([1, 2, 3]).await;
        assert_eq!(verbs(&session.settlements().await), [(2, "release"), (3, "release")]);
        go_on.notify_one();
        let settlement = session.settlement().await;
        assert_eq!(verbs(std::slice::from_ref(&settlement)), [(1, "ack")]);
        session.answer(&settlement, None).await;
    };
    let (outcome, ()) = tokio::join!(consumer.run_until(started.notified()), script);
    outcome.expect("stopped");
}

#[tokio::test]
async fn a_handler_beyond_the_grace_period_is_aborted_and_nacked() {
    let mut broker = ScriptedBroker::start().await;
    let client = broker.client().await;
    let started = Arc::new(Notify::new());
    let handler_started = Arc::clone(&started);
    let consumer = orders(&client).grace(Duration::from_millis(10)).handler(move |_received| {
        handler_started.notify_one();
        std::future::pending::<()>()
    });
    let script = async {
        let mut session = broker.welcomed_consumer(LONG_LEASE).await;
        session.granted().await;
        session.deliver([1]).await;
        assert_eq!(verbs(&session.settlements().await), [(1, "nack")]);
    };
    let (outcome, ()) = tokio::join!(consumer.run_until(started.notified()), script);
    outcome.expect("stopped");
}
