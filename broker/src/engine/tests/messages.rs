//! Messages: stored once, scheduled, filtered, kept and removed.

use super::*;

#[test]
fn the_same_message_is_stored_once() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    assert_eq!(bench.publish(message.clone()), Some(Offset(0)));
    bench.restart();
    let again = bench.ask(Input::Publish(message.clone().into()));
    assert_eq!(again, Reply::Published { offset: Some(Offset(0)), duplicate: true });
    assert_eq!(bench.refused(half(vec![message])), Reason::MessageIdReused);
}

#[test]
fn a_scheduled_message_is_never_early_and_its_cancel_is_exact() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (_, _) = bench.consumer("billing", "paid");
    let at = bench.now.unix_ms + 5_000;
    let kept = Message { deliver_at_ms: at, ..bench.message("paid") };
    let dropped = Message { deliver_at_ms: at, ..bench.message("paid") };
    assert_eq!(bench.publish(kept.clone()), None);
    assert_eq!(bench.publish(dropped.clone()), None);
    assert_eq!(bench.status().scheduled, 2);
    let cancel = |id| by_hand(Command::CancelScheduled(id));
    assert_eq!(bench.ask(cancel(dropped.id)), Reply::Cancelled(Cancelled::Cancelled));
    assert_eq!(bench.ask(cancel(dropped.id)), Reply::Cancelled(Cancelled::Cancelled));
    assert_eq!(deliveries(bench.later(4_999)), vec![]);
    bench.restart();
    bench.later(1);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.iter().map(|d| d.id).collect::<Vec<_>>(), vec![kept.id]);
    assert_eq!(bench.ask(cancel(kept.id)), Reply::Cancelled(Cancelled::TooLate));
    assert_eq!(bench.ask(cancel(MessageId::new(1, [99; 10]))), Reply::Cancelled(Cancelled::NotKnown));
}

#[test]
fn a_filter_passes_over_what_it_does_not_want() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let tag: Tag = name("eu");
    for tag in [None, Some(tag.clone()), None] {
        let message = Message { tag, ..bench.message("paid") };
        bench.publish(message);
    }
    let session = bench.session();
    let hello = ConsumerConnected {
        session,
        client: name::<ClientId>("c"),
        group: name("eu-only"),
        subscriptions: vec![Wanted { topic: name::<TopicName>("paid"), tags: vec![tag] }],
        broadcast: false,
        start: Start::Oldest,
        detached: false,
        address: String::new(),
    };
    let credit = Credit { session, messages: 10, bytes: 1000 };
    let (_, effects) = bench.turn(vec![Input::ConsumerConnected(hello), Input::Credit(credit)]);
    let got = deliveries(effects);
    assert_eq!(got.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![1]);
    bench.ask(settle("eu-only", got[0].token, Verb::Ack));
    bench.later(0);
    assert_eq!(bench.count(keys::space::QUEUE), 0);
}

#[test]
fn what_outlives_its_time_goes_to_the_dead_letters() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    let message = Message { time_to_live_ms: 1_000, ..bench.message("paid") };
    bench.publish(message);
    bench.later(1_000);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got, vec![]);
    bench.later(0);
    assert_eq!(bench.group_view("billing").dead_letters, 1);
}

#[test]
fn finished_messages_are_kept_for_replay_when_the_topic_says_so() {
    let mut bench = Bench::new();
    let settings = crate::records::TopicSettings { keep_finished_ms: 60_000, keep_finished_bytes: 0 };
    bench.ask(by_hand(Command::CreateTopic { name: name("paid"), settings }));
    for _ in 0..3 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    for delivery in &got {
        bench.ask(settle("billing", delivery.token, Verb::Ack));
    }
    assert_eq!(deliveries(bench.later(30_000)), vec![]);
    let seek = Command::Seek {
        group: name("billing"),
        topic: name("paid"),
        to: SeekTo::Offset(Offset(1)),
        dry_run: false,
    };
    let (outcomes, effects) = bench.turn(vec![by_hand(seek)]);
    let expected = Reply::Sought { from: Offset(3), to: Offset(1), replayed: 2, skipped: 0 };
    assert_eq!(outcomes, vec![Ok(expected)]);
    let again = deliveries(effects);
    assert_eq!(again.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![1, 2]);
    for delivery in &again {
        bench.ask(settle("billing", delivery.token, Verb::Ack));
    }
    bench.later(30_000);
    assert_eq!(bench.count(keys::space::QUEUE), 0);
}

#[test]
fn a_deleted_topic_and_group_leave_nothing_behind() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..3 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, nack()));
    bench.ask(settle("billing", got[1].token, Verb::Reject { reason: "broken".into() }));
    let delete = |force| by_hand(Command::DeleteGroup { name: name("billing"), force });
    assert_eq!(bench.refused(delete(false)), Reason::InUse);
    assert_eq!(bench.ask(delete(true)), Reply::GroupDeleted { retries: 1, dead_letters: 1 });
    bench.ask(by_hand(Command::DeleteTopic { name: name("paid"), force: false }));
    bench.later(0);
    use keys::space;
    for space in [
        space::TOPIC,
        space::TAIL,
        space::GROUP,
        space::PROGRESS,
        space::QUEUE,
        space::MESSAGE,
        space::PLACE,
        space::BUSINESS_KEY,
        space::RETRY,
        space::DEAD_PLACE,
        space::DEAD_LETTER,
    ] {
        assert_eq!(bench.count(space), 0, "keyspace {space:#04x}");
    }
}

#[test]
fn ids_of_two_turns_of_one_millisecond_are_all_remembered() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let scheduled = Message { deliver_at_ms: bench.now.unix_ms + 10_000, ..bench.message("paid") };
    let other = bench.message("paid");
    bench.turn(vec![Input::Publish(scheduled.clone().into()), Input::Publish(other.clone().into())]);
    bench.ask(by_hand(Command::CancelScheduled(scheduled.id)));
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, Verb::Ack));
    bench.later(0);
    bench.restart();
    let again = bench.ask(Input::Publish(other.into()));
    assert_eq!(again, Reply::Published { offset: None, duplicate: true });
}

#[test]
fn a_bound_in_bytes_without_a_time_is_refused() {
    let mut bench = Bench::new();
    let settings = crate::records::TopicSettings { keep_finished_ms: 0, keep_finished_bytes: 1 << 30 };
    let create = Command::CreateTopic { name: name("paid"), settings };
    assert_eq!(bench.refused(by_hand(create)), Reason::InvalidField);
}

#[test]
fn a_message_that_came_and_went_within_a_turn_is_remembered_in_it() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let message = Message { deliver_at_ms: bench.now.unix_ms + 60_000, ..message };
    let cancel = || by_hand(Command::CancelScheduled(message.id));
    let publish = || Input::Publish(message.clone().into());
    let (outcomes, _) = bench.turn(vec![publish(), cancel(), cancel(), publish()]);
    let expected = [
        Reply::Published { offset: None, duplicate: false },
        Reply::Cancelled(Cancelled::Cancelled),
        Reply::Cancelled(Cancelled::Cancelled),
        Reply::Published { offset: None, duplicate: true },
    ];
    assert_eq!(outcomes, expected.map(Ok));
    bench.restart();
    assert_eq!(bench.ask(publish()), Reply::Published { offset: None, duplicate: true });
}
