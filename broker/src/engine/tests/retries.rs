//! Retries by hand, and scheduled messages that get another time.

use super::*;
use crate::records::{AuditEntry, DeadLetter, DeadReason, Record as _, TopicNumber, keys};

fn run(group: &str, id: MessageId) -> Input {
    by_hand(Command::RunRetry { group: name(group), id })
}

fn give_up(group: &str, id: MessageId) -> Input {
    by_hand(Command::GiveUpRetry { group: name(group), id })
}

/// A message of group billing that failed once and is due much later.
fn retrying(bench: &mut Bench) -> Message {
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.retry.delays = RetryDelays::Fixed(3_600_000));
    let message = bench.message("paid");
    bench.publish(message.clone());
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, nack()));
    assert_eq!(deliveries(bench.later(60_000)), vec![]);
    message
}

fn letter(bench: &Bench, topic: TopicNumber) -> DeadLetter {
    use escrow_storage::Read as _;
    let found = bench.store.reader().get(&keys::dead_letter(topic, Offset(0))).expect("reads");
    DeadLetter::decode(found.expect("it is there")).expect("decodes")
}

fn last_audit(bench: &mut Bench) -> (String, String) {
    use escrow_storage::Read as _;
    let found = bench.store.reader().scan_back(&keys::all(keys::space::AUDIT), 1).expect("reads");
    let entry = AuditEntry::decode(found[0].1.clone()).expect("decodes");
    (entry.verb.as_str().to_owned(), entry.target)
}

#[test]
fn a_retry_that_is_run_comes_at_once_also_after_a_restart() {
    let mut bench = Bench::new();
    let message = retrying(&mut bench);
    let (outcomes, effects) = bench.turn(vec![run("billing", message.id)]);
    assert_eq!(outcomes, vec![Ok(Reply::Resolved(message.id))]);
    let got = deliveries(effects);
    assert_eq!(got.iter().map(|d| (d.id, d.attempt)).collect::<Vec<_>>(), vec![(message.id, 2)]);
    assert_eq!(last_audit(&mut bench), ("retry.run".into(), format!("billing/{}", message.id)));
    // A consumer has it now: what comes of that attempt is not known.
    assert_eq!(bench.refused(run("billing", message.id)), Reason::InUse);
    assert_eq!(bench.refused(give_up("billing", message.id)), Reason::InUse);
    bench.restart();
    bench.later(0);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got[0].attempt, 2, "the attempt that the restart cut off is not counted");
    bench.ask(settle("billing", got[0].token, Verb::Ack));
    assert_eq!(bench.refused(run("billing", message.id)), Reason::UnknownRetry);
    assert_eq!(bench.refused(run("nobody", message.id)), Reason::UnknownGroup);
}

#[test]
fn a_retry_that_is_given_up_is_a_dead_letter_with_its_attempts() {
    let mut bench = Bench::new();
    let message = retrying(&mut bench);
    assert_eq!(bench.ask(give_up("billing", message.id)), Reply::Resolved(message.id));
    assert_eq!(last_audit(&mut bench), ("retry.give-up".into(), format!("billing/{}", message.id)));
    let group = bench.group_view("billing");
    assert_eq!((group.retrying, group.dead_letters), (0, 1));
    let letter = letter(&bench, group.dead_letter_topic);
    assert_eq!((letter.reason, letter.attempts_made, letter.attempts.len()), (DeadReason::GivenUp, 1, 1));
    assert_eq!(letter.error, "given up by ada: a test");
    assert_eq!(bench.refused(give_up("billing", message.id)), Reason::UnknownRetry);
    assert_eq!(deliveries(bench.later(7_200_000)), vec![]);
}

#[test]
fn what_was_held_back_by_a_retry_that_is_given_up_may_go() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.retry.delays = RetryDelays::Fixed(3_600_000));
    let first = Message { ordering_key: Some("a".into()), ..bench.message("paid") };
    let second = Message { ordering_key: Some("a".into()), ..bench.message("paid") };
    bench.publish(first.clone());
    bench.publish(second.clone());
    let (_, got) = bench.consumer("billing", "paid");
    let (_, effects) = bench.turn(vec![settle("billing", got[0].token, nack())]);
    assert_eq!(deliveries(effects), vec![]);
    let (_, effects) = bench.turn(vec![give_up("billing", first.id)]);
    assert_eq!(deliveries(effects).iter().map(|d| d.id).collect::<Vec<_>>(), vec![second.id]);
}

#[test]
fn a_scheduled_message_comes_at_the_time_it_was_moved_to() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (_, _) = bench.consumer("billing", "paid");
    let start = bench.now.unix_ms;
    let message = Message { deliver_at_ms: start + 5_000, ..bench.message("paid") };
    bench.publish(message.clone());
    let to = |at_ms| by_hand(Command::MoveScheduled { id: message.id, deliver_at_ms: at_ms });
    assert_eq!(bench.ask(to(start + 9_000)), Reply::Moved(Moved::Moved));
    assert_eq!(last_audit(&mut bench), ("scheduled.move".into(), message.id.to_string()));
    assert_eq!(deliveries(bench.later(8_999)), vec![]);
    bench.restart();
    let (_, _) = bench.consumer("billing", "paid");
    // Earlier, too: a time that has passed means at once.
    assert_eq!(bench.ask(to(start + 60_000)), Reply::Moved(Moved::Moved));
    assert_eq!(deliveries(bench.later(10)), vec![]);
    let (outcomes, effects) = bench.turn(vec![to(1)]);
    assert_eq!(outcomes, vec![Ok(Reply::Moved(Moved::Moved))]);
    assert_eq!(deliveries(effects).len(), 1);
    assert_eq!(bench.ask(to(start + 90_000)), Reply::Moved(Moved::TooLate));
    assert_eq!(bench.status().scheduled, 0);
    let unknown = by_hand(Command::MoveScheduled { id: MessageId::new(1, [9; 10]), deliver_at_ms: 1 });
    assert_eq!(bench.ask(unknown), Reply::Moved(Moved::NotKnown));
    assert_eq!(last_audit(&mut bench).0, "scheduled.move");
    assert_eq!(bench.count(keys::space::AUDIT), 4, "the topic, and three moves that moved something");
}

#[test]
fn retries_are_listed_soonest_first_also_after_one_is_run_and_after_a_restart() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    let (consumer, _) = bench.consumer("billing", "paid");
    let mut ids = Vec::new();
    for delay_ms in [60_000, 20_000, 40_000] {
        let message = bench.message("paid");
        ids.push(message.id);
        let (_, effects) = bench.turn(vec![Input::Publish(message.into())]);
        let token = deliveries(effects)[0].token;
        let later = Verb::Nack { delay_ms: Some(delay_ms), reason: "later".into() };
        bench.ask(settle("billing", token, later));
    }
    bench.turn(vec![Input::SessionClosed(consumer)]);
    let listed = |bench: &mut Bench| {
        let (mut offsets, mut after) = (Vec::new(), None);
        loop {
            // One at a time: each place leads on to the next.
            let page = Input::Inspect(Inspect::Retries {
                group: name("billing"),
                after,
                filter: RetryFilter::default(),
                limit: 1,
            });
            let Reply::Seen(Seen::Retries(_, places, _)) = bench.ask(page) else { panic!("no retries") };
            let Some(&(due_at_ms, (topic, offset))) = places.first() else { return offsets };
            offsets.push(offset.0);
            after = Some((due_at_ms, (topic, offset)));
        }
    };
    assert_eq!(listed(&mut bench), vec![1, 2, 0]);
    bench.ask(run("billing", ids[0]));
    assert_eq!(listed(&mut bench), vec![0, 1, 2], "what is due now comes first");
    bench.restart();
    assert_eq!(listed(&mut bench), vec![0, 1, 2]);
}
