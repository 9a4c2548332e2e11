//! Deliveries: leases, attempts, credit, order and dead letters.

use super::*;

#[test]
fn a_nack_is_retried_in_time_and_ends_in_the_dead_letters_also_over_restarts() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| {
        settings.retry =
            RetryPolicy { delays: RetryDelays::Fixed(1_000), max_attempts: 3, ..RetryPolicy::default() };
    });
    let message = bench.message("paid");
    bench.publish(message.clone());
    let (_, mut got) = bench.consumer("billing", "paid");
    for attempt in 1..=3 {
        assert_eq!(got.iter().map(|d| d.attempt).collect::<Vec<_>>(), vec![attempt]);
        bench.ask(settle("billing", got[0].token, nack()));
        assert_eq!(deliveries(bench.later(999)), vec![], "a retry came early");
        bench.restart();
        (_, got) = bench.consumer("billing", "paid");
        got.extend(deliveries(bench.later(1)));
    }
    assert_eq!(got, vec![]);
    let view = bench.group_view("billing");
    assert_eq!((view.retrying, view.dead_letters, view.positions[0].lag), (0, 1, 0));

    // Sent again, to this group only, with all its attempts.
    let redrive =
        Command::Redrive { group: name("billing"), offset: Offset(0), to: None, edit: None, dry_run: false };
    let (outcomes, mut effects) = bench.turn(vec![by_hand(redrive.clone())]);
    assert_eq!(outcomes, vec![Ok(Reply::Resolved(message.id))]);
    effects.extend(bench.later(0));
    let got = deliveries(effects);
    assert_eq!(got.iter().map(|d| (d.id, d.attempt)).collect::<Vec<_>>(), vec![(message.id, 1)]);
    assert_eq!(bench.refused(by_hand(redrive)), Reason::UnknownDeadLetter);
    bench.ask(settle("billing", got[0].token, Verb::Ack));
    bench.later(0);
    for space in [keys::space::MESSAGE, keys::space::RETRY, keys::space::DEAD_LETTER, keys::space::DEAD_PLACE]
    {
        assert_eq!(bench.count(space), 0);
    }
    assert_eq!(bench.count(keys::space::QUEUE), 0);
}

#[test]
fn a_late_ack_is_refused_and_the_attempt_counted() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    bench.later(30_000);
    assert_eq!(bench.refused(settle("billing", got[0].token, Verb::Ack)), Reason::StaleLease);
    let again = deliveries(bench.later(10_000));
    assert_eq!(again[0].attempt, 2);
    assert_ne!(again[0].token, got[0].token);
}

#[test]
fn after_a_restart_it_is_delivered_again_and_old_tokens_are_stale() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    bench.restart();
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!((again[0].offset, again[0].attempt), (got[0].offset, 1));
    assert_eq!(bench.refused(settle("billing", got[0].token, Verb::Ack)), Reason::StaleLease);
}

#[test]
fn an_acked_message_is_not_delivered_again() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..5 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 5);
    for at in [1, 3] {
        bench.ask(settle("billing", got[at].token, Verb::Ack));
    }
    bench.restart();
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!(again.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![0, 2, 4]);
}

#[test]
fn an_ordering_key_is_delivered_one_at_a_time_and_blocks_while_retrying() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..3 {
        let message = Message { ordering_key: Some("o-42".into()), ..bench.message("paid") };
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![0]);
    bench.ask(settle("billing", got[0].token, nack()));
    assert_eq!(deliveries(bench.later(9_999)), vec![]);
    assert_eq!(bench.group_view("billing").blocked_keys, 1);
    let again = deliveries(bench.later(1));
    assert_eq!((again.len(), again[0].offset.0, again[0].attempt), (1, 0, 2));
    let (_, effects) = bench.turn(vec![settle("billing", again[0].token, Verb::Ack)]);
    assert_eq!(deliveries(effects)[0].offset, Offset(1));
}

#[test]
fn a_key_whose_policy_is_to_dead_letter_takes_its_followers_along() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.ordering = OrderingPolicy::DeadLetter);
    for _ in 0..3 {
        let message = Message { ordering_key: Some("o-42".into()), ..bench.message("paid") };
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, nack()));
    bench.later(0);
    let view = bench.group_view("billing");
    assert_eq!((view.retrying, view.dead_letters), (1, 2));
}

#[test]
fn credit_bounds_what_is_sent() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    for _ in 0..5 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let session = bench.session();
    let hello = ConsumerConnected {
        session,
        client: name("c"),
        group: name("billing"),
        subscriptions: vec![],
        broadcast: false,
        start: Start::Oldest,
        detached: false,
        address: String::new(),
    };
    bench.ask(Input::ConsumerConnected(hello));
    let (_, effects) = bench.turn(vec![Input::Credit(Credit { session, messages: 2, bytes: 1000 })]);
    assert_eq!(deliveries(effects).len(), 2);
    // Each body has 4 bytes: 6 bytes are room for one.
    let (_, effects) = bench.turn(vec![Input::Credit(Credit { session, messages: 2, bytes: 0 })]);
    assert_eq!(deliveries(effects).len(), 2);
    assert_eq!(deliveries(bench.later(0)).len(), 0);
}

#[test]
fn a_lost_consumer_counts_as_a_failed_attempt_a_release_does_not() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (session, got) = bench.consumer("billing", "paid");
    let (_, effects) = bench.turn(vec![settle("billing", got[0].token, Verb::Release)]);
    assert_eq!(deliveries(effects)[0].attempt, 1);
    bench.ask(Input::SessionClosed(session));
    assert_eq!(bench.group_view("billing").retrying, 1);
    bench.later(10_000);
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!(again[0].attempt, 2);
}

#[test]
fn damage_met_for_a_consumer_that_is_gone_leaves_its_attempt_to_be_counted() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (session, got) = bench.consumer("billing", "paid");
    let undeliverable = Input::Undeliverable(got[0].token, "a flipped bit".into());
    let view = bench.store.reader();
    let mut turn = Turn::new(&view, Room::Enough);
    for input in [Input::SessionClosed(session), undeliverable] {
        bench.engine.handle(bench.now, &mut turn, input).expect("not refused");
    }
    bench.engine.fire(bench.now, &mut turn);
    let finished = bench.engine.finish(bench.now, turn).expect("the store works");
    bench.store.commit(finished.batch).expect("the store works");
    assert!(bench.engine.take_reports()[0].contains("a flipped bit"), "the damage is told all the same");
    let view = bench.group_view("billing");
    assert_eq!((view.retrying, view.dead_letters), (1, 0));
}

#[test]
fn what_a_consumer_leaves_when_it_ends_in_order_was_never_tried() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (session, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 1);
    bench.ask(Input::SessionFinished(session));
    assert_eq!(bench.group_view("billing").retrying, 0);
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!(again.iter().map(|d| (d.offset, d.attempt)).collect::<Vec<_>>(), vec![(got[0].offset, 1)]);
}

#[test]
fn an_engine_rebuilt_within_one_claim_gives_no_token_twice() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    let mut rebuilt = Bench::boot(&bench.store, bench.now, bench.engine.settings.clone());
    rebuilt.succeed(&bench.engine);
    bench.engine = rebuilt;
    let (_, again) = bench.consumer("billing", "paid");
    assert!(again[0].token > got[0].token);
    assert_eq!(bench.refused(settle("billing", got[0].token, Verb::Ack)), Reason::StaleLease);
}

/// Two dead letters of one ordering key, read by a group of its own.
fn letters_of_one_key() -> (Bench, Vec<Delivery>) {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.retry.max_attempts = 1);
    for _ in 0..2 {
        let message = Message { ordering_key: Some("k".into()), ..bench.message("paid") };
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    let (_, effects) =
        bench.turn(vec![settle("billing", got[0].token, Verb::Reject { reason: "no".into() })]);
    bench.ask(settle("billing", deliveries(effects)[0].token, Verb::Reject { reason: "no".into() }));
    bench.group("undertaker", "billing.dlq", |settings| settings.retry = fixed_delay(3_600_000));
    let (_, got) = bench.consumer("undertaker", "billing.dlq");
    assert_eq!(got.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![0]);
    (bench, got)
}

fn discard(offset: u64) -> Input {
    by_hand(Command::Discard { group: name("billing"), offset: Offset(offset), dry_run: false })
}

#[test]
fn a_resolved_letter_frees_the_ordering_key_of_those_who_read_letters() {
    let (mut bench, got) = letters_of_one_key();
    bench.ask(settle("undertaker", got[0].token, nack()));
    let (_, effects) = bench.turn(vec![discard(0)]);
    assert_eq!(deliveries(effects)[0].offset, Offset(1), "the first was waiting for its retry");

    let (mut bench, got) = letters_of_one_key();
    let (_, effects) = bench.turn(vec![discard(0)]);
    assert_eq!(deliveries(effects)[0].offset, Offset(1), "the first was under lease");
    assert_eq!(bench.refused(settle("undertaker", got[0].token, Verb::Ack)), Reason::StaleLease);

    let (mut bench, got) = letters_of_one_key();
    // Given back in the same turn: it is ready to go when it is discarded.
    let (_, effects) = bench.turn(vec![settle("undertaker", got[0].token, Verb::Release), discard(0)]);
    assert_eq!(deliveries(effects)[0].offset, Offset(1), "the first was ready");
}

fn fixed_delay(delay_ms: u64) -> RetryPolicy {
    RetryPolicy { delays: RetryDelays::Fixed(delay_ms), ..RetryPolicy::default() }
}

fn reorder(bench: &mut Bench, group: &str, ordering: OrderingPolicy) {
    let settings = GroupSettings { ordering, ..bench.group_view(group).settings };
    bench.ask(by_hand(Command::UpdateGroup {
        name: name(group),
        settings: Some(settings),
        subscriptions: vec![],
        unsubscribe: vec![],
        start: Start::Oldest,
    }));
}

#[test]
fn another_ordering_policy_frees_or_dooms_what_waits() {
    for (ordering, delivered, dead) in [(OrderingPolicy::Skip, 1, 0), (OrderingPolicy::DeadLetter, 0, 2)] {
        let mut bench = Bench::new();
        bench.topic("paid");
        bench.group("billing", "paid", |settings| settings.retry = fixed_delay(3_600_000));
        for _ in 0..3 {
            let message = Message { ordering_key: Some("k".into()), ..bench.message("paid") };
            bench.publish(message);
        }
        let (_, got) = bench.consumer("billing", "paid");
        bench.ask(settle("billing", got[0].token, nack()));
        assert_eq!(deliveries(bench.later(0)), vec![]);
        let session = got[0].session;
        reorder(&mut bench, "billing", ordering);
        bench.later(0);
        let view = bench.group_view("billing");
        assert_eq!((view.leased, view.dead_letters), (delivered, dead), "{ordering:?}, consumer {session:?}");
    }
}

#[test]
fn a_seek_keeps_a_retry_that_has_just_expired() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.retry = fixed_delay(1_000));
    let message = Message { ordering_key: Some("k".into()), time_to_live_ms: 500, ..bench.message("paid") };
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, nack()));
    // The retry falls due, and the delivery of that turn finds that it has expired.
    bench.now = bench.now + 1_000;
    bench.turn(vec![]);
    let seek =
        Command::Seek { group: name("billing"), topic: name("paid"), to: SeekTo::Newest, dry_run: false };
    bench.ask(by_hand(seek));
    bench.later(0);
    let view = bench.group_view("billing");
    assert_eq!((view.retrying, view.dead_letters), (0, 1));
}

#[test]
fn passing_over_a_backlog_takes_bounded_turns() {
    let settings = Settings {
        limits: EngineLimits { page: 4, pages_per_turn_max: 2, ..EngineLimits::default() },
        ..Settings::default()
    };
    let mut bench = Bench::with(settings);
    bench.topic("paid");
    for _ in 0..40 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let session = bench.session();
    let hello = ConsumerConnected {
        session,
        client: name("c"),
        group: name("narrow"),
        subscriptions: vec![Wanted { topic: name("paid"), tags: vec![name("never")] }],
        broadcast: false,
        start: Start::Oldest,
        detached: false,
        address: String::new(),
    };
    bench.turn(vec![
        Input::ConsumerConnected(hello),
        Input::Credit(Credit { session, messages: 1, bytes: 1_000 }),
    ]);
    assert_eq!(bench.group_view("narrow").positions[0].floor, Offset(8), "two pages of four");
    bench.later(0);
    assert_eq!(bench.group_view("narrow").positions[0].floor, Offset(40));
}

#[test]
fn a_broadcast_client_does_not_join_an_ordinary_group_nor_the_other_way_round() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("mail.eu", "paid", |_| {});
    let hello = |session, client: &str, group: &str, broadcast| ConsumerConnected {
        session,
        client: name(client),
        group: name(group),
        subscriptions: vec![Wanted { topic: name("paid"), tags: vec![] }],
        broadcast,
        start: Start::Oldest,
        detached: false,
        address: String::new(),
    };
    let session = bench.session();
    let refused = bench.refused(Input::ConsumerConnected(hello(session, "eu", "mail", true)));
    assert_eq!(refused, Reason::SubscriptionMismatch);
    let session = bench.session();
    bench.ask(Input::ConsumerConnected(hello(session, "us", "mail", true)));
    let session = bench.session();
    let refused = bench.refused(Input::ConsumerConnected(hello(session, "x", "mail.us", false)));
    assert_eq!(refused, Reason::SubscriptionMismatch);
}

#[test]
fn a_lost_consumer_with_very_many_leases_is_handled_over_several_turns() {
    let settings = Settings {
        limits: EngineLimits { lost_leases_per_turn_max: 3, ..EngineLimits::default() },
        ..Settings::default()
    };
    let mut bench = Bench::with(settings);
    bench.topic("paid");
    for _ in 0..10 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (session, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 10);
    bench.turn(vec![Input::SessionClosed(session)]);
    let status = bench.status();
    assert_eq!((status.retrying, status.leased), (3, 7), "three in a turn");
    bench.later(0);
    assert_eq!((bench.status().retrying, bench.status().leased), (10, 0));
}
