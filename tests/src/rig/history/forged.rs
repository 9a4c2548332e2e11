//! Forged histories: good ones are acquitted, and each broken promise is convicted by its name.

use super::*;

const GROUPS: [&str; 2] = ["billing", "stock"];

/// Writes a history, each event a second behind the one before.
#[derive(Default)]
struct Forger {
    events: Vec<Noted>,
    operations: u64,
}

impl Forger {
    fn event(&mut self, event: Event) -> &mut Self {
        self.after(1_000, event)
    }

    fn after(&mut self, ms: u64, event: Event) -> &mut Self {
        let now = self.events.last().map_or(0, |(ms, _)| *ms);
        self.events.push((now + ms, event));
        self
    }

    fn invoked(&mut self, operation: Operation) -> u64 {
        self.operations += 1;
        self.event(Event::Invoked(self.operations, operation));
        self.operations
    }

    fn done(&mut self, operation: Operation, answer: Answer) -> &mut Self {
        let number = self.invoked(operation);
        self.event(Event::Answered(number, answer))
    }

    fn made(&mut self, message: u64, choice: Choice) -> &mut Self {
        self.event(Event::Made { message, choice, ordering_key: None, delay_ms: 0 })
    }

    fn made_in_order(&mut self, message: u64, ordering_key: u64) -> &mut Self {
        let ordering_key = Some(ordering_key);
        self.event(Event::Made { message, choice: Choice::Publish, ordering_key, delay_ms: 0 })
    }

    fn half(&mut self, message: u64, choice: Choice) -> &mut Self {
        self.made(message, choice).done(Operation::Half(message), Answer::Ok)
    }

    fn decided(&mut self, message: u64, decision: Decision) -> &mut Self {
        self.done(Operation::Decide(message, decision), Answer::Decided(decision))
    }

    fn committed(&mut self, message: u64) -> &mut Self {
        self.half(message, Choice::Commit).decided(message, Decision::Commit)
    }

    fn published(&mut self, message: u64, offset: u64) -> &mut Self {
        self.made(message, Choice::Publish).done(Operation::Publish(message), Answer::Queued(offset))
    }

    fn delivered(&mut self, group: &'static str, message: u64, offset: u64, lease: u64) -> &mut Self {
        self.event(Event::Delivered(Delivered { group, message, offset, lease, attempt: 1 }))
    }

    fn settled(
        &mut self,
        group: &'static str,
        message: u64,
        lease: u64,
        verb: Verb,
        answer: Answer,
    ) -> &mut Self {
        self.done(Operation::Settle { group, message, lease, verb }, answer)
    }

    fn acked(&mut self, group: &'static str, message: u64, lease: u64) -> &mut Self {
        self.settled(group, message, lease, Verb::Ack, Answer::Ok)
    }

    /// Delivered and acked in every group; the leases are `10 * message` and the one behind.
    fn arrived(&mut self, message: u64, offset: u64) -> &mut Self {
        for (lease, group) in (10 * message..).zip(GROUPS) {
            self.delivered(group, message, offset, lease).acked(group, message, lease);
        }
        self
    }

    fn rejected(&mut self, group: &'static str, message: u64, lease: u64) -> &mut Self {
        self.settled(group, message, lease, Verb::Reject, Answer::Ok)
    }

    fn dead(&mut self, group: &'static str, message: u64) -> &mut Self {
        self.event(Event::Dead { group, message })
    }

    fn verdicts(&self) -> Verdicts {
        judge(&self.events, &GROUPS)
    }

    fn acquitted(&self) {
        assert_eq!(self.verdicts().faults, Vec::<String>::new());
    }

    fn convicted(&self, word: &str) {
        let faults = self.verdicts().faults;
        assert!(faults.iter().any(|fault| fault.contains(word)), "not convicted of {word:?}: {faults:?}");
    }
}

fn forger() -> Forger {
    Forger::default()
}

/// One committed message that arrived everywhere.
fn good() -> Forger {
    let mut forger = forger();
    forger.committed(1).arrived(1, 0);
    forger
}

/// Rejected by `stock`, redriven, with lease 12 to follow.
fn redriven() -> Forger {
    let mut forger = forger();
    forger.committed(1).delivered("billing", 1, 0, 10).acked("billing", 1, 10);
    forger.delivered("stock", 1, 0, 11).rejected("stock", 1, 11);
    forger.done(Operation::Redrive { group: "stock", message: 1 }, Answer::Ok);
    forger
}

#[test]
fn a_good_history_is_acquitted_and_counted() {
    good().acquitted();
    let verdicts = good().verdicts();
    assert_eq!((verdicts.promised, verdicts.deliveries, verdicts.done), (1, 2, 4));
}

#[test]
fn a_dead_letter_counts_as_an_end() {
    let mut forger = forger();
    forger.committed(1).delivered("billing", 1, 0, 10).acked("billing", 1, 10);
    forger.delivered("stock", 1, 0, 11).rejected("stock", 1, 11).dead("stock", 1).acquitted();
}

#[test]
fn a_lost_message_is_convicted() {
    let mut forger = forger();
    forger.published(1, 0).delivered("billing", 1, 0, 10).acked("billing", 1, 10);
    forger.convicted("stock: message 1 was committed, and neither acked nor dead");
}

#[test]
fn an_ack_without_an_answer_may_have_counted_and_one_that_failed_has_not() {
    for (answer, is_good) in [(Answer::Unknown, true), (Answer::Failed, false)] {
        let mut forger = forger();
        forger.committed(1).delivered("billing", 1, 0, 10).acked("billing", 1, 10);
        forger.delivered("stock", 1, 0, 11).settled("stock", 1, 11, Verb::Ack, answer);
        match is_good {
            true => forger.acquitted(),
            false => forger.convicted("stock: message 1"),
        }
    }
}

#[test]
fn a_message_of_unknown_outcome_may_be_lost_but_not_for_one_group_only() {
    let mut forger = forger();
    forger.made(1, Choice::Publish).done(Operation::Publish(1), Answer::Unknown).acquitted();
    forger.delivered("billing", 1, 0, 10).acked("billing", 1, 10).convicted("stock: message 1");
}

#[test]
fn a_half_message_that_was_stored_must_be_settled() {
    forger().half(1, Choice::CheckCommit).convicted("neither acked nor dead");
    forger().half(1, Choice::CheckRollback).acquitted();
}

#[test]
fn a_half_message_that_nobody_remembers_is_convicted() {
    let mut forger = forger();
    forger.half(1, Choice::Rollback).done(Operation::Decide(1, Decision::Rollback), Answer::Forgotten);
    forger.convicted("nobody knew of it");
}

#[test]
fn a_delivery_before_the_commit_is_convicted() {
    let mut forger = forger();
    forger.half(1, Choice::Commit).delivered("billing", 1, 0, 10);
    forger.decided(1, Decision::Commit).acked("billing", 1, 10).convicted("before anybody committed");
}

#[test]
fn a_checker_may_commit_before_the_producer_hears_that_it_is_stored() {
    let mut forger = forger();
    forger.made(1, Choice::Commit).invoked(Operation::Half(1));
    forger.invoked(Operation::Decide(1, Decision::Commit));
    forger.arrived(1, 0).acquitted();
}

#[test]
fn an_early_delivery_of_a_scheduled_message_is_convicted() {
    for (after_ms, set_clock, is_good) in [(58_000, false, true), (57_900, false, false), (0, true, true)] {
        let mut forger = forger();
        let choice = Choice::Publish;
        forger.event(Event::Made { message: 1, choice, ordering_key: None, delay_ms: 60_000 });
        forger.done(Operation::Publish(1), Answer::Ok);
        if set_clock {
            forger.event(Event::ClockSetting).event(Event::ClockSet);
        }
        let delivered = Delivered { group: "stock", message: 1, offset: 0, lease: 9, attempt: 1 };
        forger.after(after_ms, Event::Delivered(delivered)).acked("stock", 1, 9);
        forger.delivered("billing", 1, 0, 10).acked("billing", 1, 10);
        match is_good {
            true => forger.acquitted(),
            false => forger.convicted("early"),
        }
    }
}

#[test]
fn a_rolled_back_delivery_is_convicted() {
    forger().half(1, Choice::CheckRollback).delivered("billing", 1, 0, 10).convicted("was to be rolled back");
    let mut forger = forger();
    forger.half(1, Choice::Contested).invoked(Operation::Decide(1, Decision::Commit));
    forger.decided(1, Decision::Rollback).acquitted();
    forger.delivered("billing", 1, 0, 10).convicted("is rolled back");
}

#[test]
fn a_failure_that_was_none_is_convicted() {
    let mut publish = forger();
    publish.made(1, Choice::Publish).done(Operation::Publish(1), Answer::Failed).acquitted();
    publish.arrived(1, 0).convicted("knew that it was not published");

    let mut half = forger();
    half.made(1, Choice::CheckCommit).done(Operation::Half(1), Answer::Failed).acquitted();
    half.invoked(Operation::Decide(1, Decision::Commit));
    half.arrived(1, 0).convicted("knew that it was not stored");

    let mut commit = forger();
    commit.half(1, Choice::Commit).done(Operation::Decide(1, Decision::Commit), Answer::Failed);
    commit.arrived(1, 0).convicted("before anybody committed");
}

#[test]
fn a_decision_that_changed_is_convicted() {
    good().decided(1, Decision::Rollback).convicted("the decision on message 1 changed");
    let rollback = Operation::Decide(1, Decision::Rollback);
    good().done(rollback, Answer::Conflict(Decision::Commit)).acquitted();
    good().done(rollback, Answer::Conflict(Decision::Rollback)).convicted("changed");
    good().done(rollback, Answer::Decided(Decision::Commit)).convicted("was answered ok, with Commit");
    let commit = Operation::Decide(1, Decision::Commit);
    good().done(commit, Answer::Decided(Decision::Commit)).acquitted();
    good().done(commit, Answer::Conflict(Decision::Commit)).convicted("was refused for being Commit already");
}

#[test]
fn a_delivery_behind_an_answered_ack_is_convicted() {
    good().delivered("billing", 1, 0, 99).convicted("delivered after its ack");
}

#[test]
fn an_older_lease_that_is_seen_late_is_no_delivery_behind_the_ack() {
    let mut forger = forger();
    forger.committed(1).delivered("billing", 1, 0, 12).acked("billing", 1, 12);
    forger.delivered("billing", 1, 0, 10).settled("billing", 1, 10, Verb::Ack, Answer::Failed);
    forger.delivered("stock", 1, 0, 11).acked("stock", 1, 11).acquitted();
}

#[test]
fn a_stale_ack_is_convicted() {
    let mut forger = forger();
    forger.committed(1).delivered("billing", 1, 0, 10).delivered("billing", 1, 0, 12);
    forger.delivered("stock", 1, 0, 11).acked("stock", 1, 11);
    forger.acked("billing", 1, 10).convicted("stale lease 10");
}

#[test]
fn an_offset_used_twice_is_convicted() {
    let mut forger = good();
    forger.committed(2).arrived(2, 0).convicted("offset 0 is message 1 and message 2");
    good().published(2, 0).convicted("offset 0 is message 1 and message 2");
}

#[test]
fn a_double_commit_is_convicted() {
    good().delivered("stock", 1, 7, 99).convicted("queued more than once");
}

#[test]
fn a_double_commit_that_only_a_reader_sees_is_convicted() {
    good().event(Event::Found { message: 1, offset: 0 }).acquitted();
    good().event(Event::Found { message: 1, offset: 77 }).convicted("queued more than once");
}

#[test]
fn another_body_is_convicted() {
    good().event(Event::Altered { message: 1 }).convicted("another body");
}

#[test]
fn a_lease_used_twice_is_convicted() {
    let mut forger = forger();
    forger.committed(1).delivered("billing", 1, 0, 10).delivered("billing", 1, 0, 10);
    forger.convicted("twice under lease 10");
}

#[test]
fn a_nack_that_is_early_or_forgotten_is_convicted() {
    for (attempt, after_ms, word) in
        [(2, 60_000, None), (2, 58_000, Some("early")), (1, 60_000, Some("a nack is lost"))]
    {
        let mut forger = forger();
        forger.committed(1).delivered("billing", 1, 0, 10);
        forger.settled("billing", 1, 10, Verb::Nack(60_000), Answer::Ok);
        let again = Delivered { group: "billing", message: 1, offset: 0, lease: 12, attempt };
        forger.after(after_ms - 1_000, Event::Delivered(again)).acked("billing", 1, 12);
        forger.delivered("stock", 1, 0, 13).acked("stock", 1, 13);
        match word {
            None => forger.acquitted(),
            Some(word) => forger.convicted(word),
        }
    }
}

#[test]
fn attempts_that_go_back_are_convicted() {
    let mut forger = forger();
    forger.committed(1);
    for (lease, attempt) in [(10, 3), (12, 2)] {
        let delivered = Delivered { group: "billing", message: 1, offset: 0, lease, attempt };
        forger.event(Event::Delivered(delivered));
    }
    forger.convicted("as attempt 2 after attempt 3");
}

#[test]
fn a_redriven_message_that_arrives_is_acquitted() {
    redriven().delivered("stock", 1, 0, 12).acked("stock", 1, 12).acquitted();
    redriven().delivered("stock", 1, 0, 12).rejected("stock", 1, 12).dead("stock", 1).acquitted();
}

#[test]
fn a_lost_redrive_is_convicted() {
    redriven().convicted("was redriven, and neither acked nor dead");
}

#[test]
fn a_lost_dead_letter_is_convicted() {
    let mut forger = forger();
    forger.committed(1).delivered("billing", 1, 0, 10).acked("billing", 1, 10);
    forger.delivered("stock", 1, 0, 11).rejected("stock", 1, 11).convicted("not in the dead letters");
    forger.delivered("stock", 1, 0, 12).convicted("after it was rejected");
}

#[test]
fn being_in_two_states_is_convicted() {
    good().dead("stock", 1).convicted("acked, and dead as well");
    let mut forger = forger();
    forger.committed(1).dead("stock", 1).dead("stock", 1).convicted("2 dead letters");
}

/// Two messages of one ordering key, at offsets 0 and 1.
fn in_order() -> Forger {
    let mut forger = forger();
    for message in [1, 2] {
        forger.made_in_order(message, 5).done(Operation::Publish(message), Answer::Queued(message - 1));
    }
    forger
}

#[test]
fn order_that_is_kept_is_acquitted() {
    in_order().arrived(1, 0).arrived(2, 1).acquitted();
}

#[test]
fn a_broken_order_is_convicted() {
    in_order()
        .arrived(2, 1)
        .delivered("stock", 1, 0, 99)
        .convicted("message 1 was delivered behind message 2");
    let mut overtaking = in_order();
    overtaking.delivered("stock", 1, 0, 10).delivered("stock", 2, 1, 11);
    overtaking.convicted("while message 1 was not done");
}

#[test]
fn a_dead_or_redriven_message_lets_the_key_go_on() {
    let mut forger = in_order();
    for group in GROUPS {
        forger.delivered(group, 1, 0, 10).rejected(group, 1, 10);
        forger.delivered(group, 2, 1, 11).acked(group, 2, 11);
        forger.done(Operation::Redrive { group, message: 1 }, Answer::Ok);
        forger.delivered(group, 1, 0, 12).acked(group, 1, 12);
    }
    forger.acquitted();
}

#[test]
fn places_against_the_order_of_commits_are_convicted() {
    let mut forger = forger();
    for (message, offset) in [(1, 1), (2, 0)] {
        forger.made_in_order(message, 5).done(Operation::Publish(message), Answer::Queued(offset));
    }
    forger.convicted("was committed before message 2");
}

#[test]
fn readers_are_judged_like_groups() {
    use Reader::{Backup, Console, DeadLetters, Export, Http, Replay, Search};
    for reader in [Replay, DeadLetters, Search, Http, Console, Export, Backup] {
        let read = |message, as_of| Event::Read { reader, message, as_of };
        good().event(read(1, 100)).acquitted();
        good().event(read(1, 3)).convicted("before anybody committed");
        good().event(read(7, 100)).convicted("never sent");
        good().half(2, Choice::Rollback).event(read(2, 100)).convicted("was to be rolled back");
    }
}

#[test]
fn places_of_more_messages_than_were_committed_are_convicted() {
    let counted = |places, as_of| Event::Counted { reader: Reader::Console, places, as_of };
    good().half(2, Choice::Rollback).event(counted(1, 100)).acquitted();
    good().half(2, Choice::Rollback).event(counted(2, 100)).convicted("2 messages have a place in the topic");
    good().event(counted(1, 3)).convicted("and 0 commits had begun");
}

#[test]
fn a_replay_that_misses_a_message_is_convicted() {
    good().event(Event::ReadAll(Reader::Replay)).convicted("not there to be replayed");
    let read = Event::Read { reader: Reader::Replay, message: 1, as_of: 100 };
    good().event(read).event(Event::ReadAll(Reader::Replay)).acquitted();
}

#[test]
fn verdicts_add_up() {
    let mut sum = good().verdicts();
    sum.add(good().verdicts());
    assert_eq!((sum.promised, sum.deliveries), (2, 4));
    assert!(sum.seen().starts_with("2 promised"));
}

#[test]
fn what_was_answered_while_the_power_went_is_open_and_what_came_later_never_was() {
    let history = History::default();
    history.note(Event::Made { message: 1, choice: Choice::Publish, ordering_key: None, delay_ms: 0 });
    let sent = history.invoke(Operation::Publish(1));
    let certain = history.len();
    history.answer(sent, Answer::Queued(0));
    let possible = history.len();
    history.note(Event::Made { message: 2, choice: Choice::Publish, ordering_key: None, delay_ms: 0 });
    let verdicts = history.cut(certain, possible).judge(&GROUPS);
    assert_eq!((verdicts.promised, verdicts.unknown, verdicts.hidden), (0, 1, 0), "{verdicts:?}");
    // Answered before the cut, it is promised: a disk without it has lost it.
    let verdicts = history.cut(possible, possible).judge(&GROUPS);
    assert_eq!((verdicts.promised, verdicts.faults.is_empty()), (1, false), "{verdicts:?}");
}
