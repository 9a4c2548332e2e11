//! The state machine and the outbox by table: time is a number, nothing is sent.

use std::collections::BTreeMap;

use super::book::{Book, Happening, KEPT_MAX, OPEN_MAX, Reading, Scope};
use super::outbox::{Attempt, Next, Outbox, Patience, Sent, WAITING_MAX};
use super::rules::{Limit, Rules};
use crate::engine::Now;
use crate::records::{Alarm, AlarmAck, AlarmEvent, AlarmNotice, AlarmRule};

pub(super) fn alarm(rule: AlarmRule, subject: &str, value: u64) -> Alarm {
    Alarm {
        rule,
        subject: subject.to_owned(),
        id: String::new(),
        raised_at_ms: 1_000,
        value,
        limit: 1,
        worst: value,
        told_at_ms: 1_000,
        repeats: 0,
        notices: 0,
        ack: None,
        resolved_at_ms: None,
    }
}

fn at(ms: u64) -> Now {
    Now { unix_ms: 1_000_000 + ms, mono_ms: ms }
}

fn rules(limits: &[(AlarmRule, &str)]) -> Rules {
    let mut rules = Rules::off();
    for (rule, text) in limits {
        rules.set(*rule, Limit::read(*rule, text).expect("the limit is sound"));
    }
    rules
}

fn everything() -> Scope {
    Scope { all_kinds: true, ..Scope::default() }
}

fn reading(rule: AlarmRule, subject: &str, value: u64) -> Reading {
    Reading { rule, subject: subject.to_owned(), value }
}

/// What a book makes of values of one rule over time, in words.
fn story(
    rule: AlarmRule,
    limit: &str,
    repeat_ms: u64,
    values: &[(u64, Option<u64>)],
) -> Vec<(u64, &'static str)> {
    let mut book = Book::new(rules(&[(rule, limit)]), repeat_ms, BTreeMap::new());
    let mut told = Vec::new();
    for (ms, value) in values {
        let readings: Vec<_> = value.iter().map(|value| reading(rule, "billing", *value)).collect();
        let happenings = book.evaluate(at(*ms), &everything(), &readings);
        told.extend(happenings.into_iter().map(|happening| (*ms, happening.event.as_str())));
    }
    told
}

#[test]
fn an_alarm_is_raised_told_once_and_resolved() {
    let values = [(0, Some(0)), (1, Some(1)), (2, Some(5)), (3, Some(1)), (4, Some(0)), (5, None)];
    assert_eq!(story(AlarmRule::DeadLetters, "1", 0, &values), [(1, "raised"), (4, "resolved")]);
}

#[test]
fn what_is_no_longer_there_is_over() {
    let values = [(1, Some(1)), (2, None), (3, None), (4, Some(1))];
    let told = story(AlarmRule::DeadLetters, "1", 0, &values);
    assert_eq!(told, [(1, "raised"), (2, "resolved"), (4, "raised")]);
}

#[test]
fn a_value_must_stay_beyond_its_limit_for_as_long_as_the_rule_says_and_as_long_below() {
    let limit = "10 for 5s clear 5";
    let values = [
        (0, Some(10)),
        (4_999, Some(12)),
        // A moment below, and it begins anew.
        (5_000, Some(9)),
        (6_000, Some(10)),
        (10_999, Some(10)),
        (11_000, Some(10)),
        // Between both nothing changes, however long.
        (20_000, Some(6)),
        (40_000, Some(9)),
        (41_000, Some(5)),
        (45_999, Some(0)),
        // Up again, and that begins anew too.
        (46_000, Some(6)),
        (47_000, Some(5)),
        (51_999, Some(5)),
        (52_000, None),
    ];
    assert_eq!(story(AlarmRule::Lag, limit, 0, &values), [(11_000, "raised"), (52_000, "resolved")]);
}

#[test]
fn less_disk_is_worse() {
    let values = [(0, Some(100)), (1, Some(10)), (2, Some(15)), (3, Some(20))];
    let told = story(AlarmRule::DiskFree, "10B clear 20B", 0, &values);
    assert_eq!(told, [(1, "raised"), (3, "resolved")]);
}

#[test]
fn an_open_alarm_is_told_again_until_somebody_looks_after_it() {
    let mut book = Book::new(rules(&[(AlarmRule::Parked, "1")]), 1_000, BTreeMap::new());
    let look = |book: &mut Book, ms, value| {
        let happenings = book.evaluate(at(ms), &everything(), &[reading(AlarmRule::Parked, "", value)]);
        happenings.into_iter().map(|happening| happening.event.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(look(&mut book, 0, 1), ["raised"]);
    assert!(look(&mut book, 999, 3).is_empty());
    assert_eq!(look(&mut book, 1_000, 2), ["repeated"]);
    assert!(look(&mut book, 1_500, 2).is_empty());
    let alarm = book.get(1).expect("it is kept").clone();
    assert_eq!((alarm.value, alarm.worst, alarm.repeats), (2, 3, 1), "the present value, and the worst");
    let ack = AlarmAck { at_ms: 1, name: "ada".to_owned(), reason: "on it".to_owned() };
    let told = book.acknowledge(1, ack);
    assert_eq!(told, Some(Happening { alarm: 1, event: AlarmEvent::Acknowledged }));
    assert!(look(&mut book, 9_000, 1).is_empty());
    assert_eq!(look(&mut book, 9_001, 0), ["resolved"]);
    // The next one is another, and nobody looks after it yet.
    assert_eq!(look(&mut book, 9_002, 1), ["raised"]);
    assert_eq!(book.get(2).and_then(|alarm| alarm.ack.clone()), None);
}

#[test]
fn each_subject_has_alarms_of_its_own() {
    let mut book = Book::new(rules(&[(AlarmRule::DeadLetters, "1")]), 0, BTreeMap::new());
    let both = [reading(AlarmRule::DeadLetters, "a", 1), reading(AlarmRule::DeadLetters, "b", 2)];
    assert_eq!(book.evaluate(at(0), &everything(), &both).len(), 2);
    let happenings = book.evaluate(at(1), &everything(), &both[1..]);
    assert_eq!(happenings, [Happening { alarm: 1, event: AlarmEvent::Resolved }]);
    assert_eq!(book.page(None, true, 9).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
    assert_eq!(book.page(None, false, 1).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
    assert_eq!(book.page(Some(2), false, 9).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_was_not_looked_at_stays_as_it_is() {
    let limits = rules(&[(AlarmRule::DeadLetters, "1"), (AlarmRule::NoChecker, "1")]);
    let mut book = Book::new(limits, 0, BTreeMap::new());
    let readings = [
        reading(AlarmRule::DeadLetters, "b", 1),
        reading(AlarmRule::DeadLetters, "d", 1),
        reading(AlarmRule::NoChecker, "orders/create", 1),
    ];
    assert_eq!(book.evaluate(at(0), &everything(), &readings).len(), 3);
    let page = |after: Option<&str>, until: Option<&str>| Scope {
        groups_after: after.map(str::to_owned),
        groups_until: until.map(str::to_owned),
        all_kinds: false,
    };
    for (scope, resolved) in [
        (page(None, Some("a")), vec![]),
        (page(Some("b"), Some("c")), vec![]),
        (page(Some("c"), None), vec![2]),
        (page(None, Some("b")), vec![1]),
        (Scope { all_kinds: true, ..page(None, Some("a")) }, vec![3]),
    ] {
        let happenings = book.evaluate(at(1), &scope, &[]);
        let numbers: Vec<_> = happenings.iter().map(|happening| happening.alarm).collect();
        assert_eq!(numbers, resolved, "{scope:?}");
    }
}

#[test]
fn alarms_outlive_a_restart_and_end_with_their_rule() {
    let kept = BTreeMap::from([
        (4, alarm(AlarmRule::Parked, "", 1)),
        (5, Alarm { resolved_at_ms: Some(1), ..alarm(AlarmRule::Lag, "a", 1) }),
    ]);
    let mut book = Book::new(rules(&[(AlarmRule::Parked, "1")]), 0, kept.clone());
    let still = [reading(AlarmRule::Parked, "", 1), reading(AlarmRule::Parked, "x", 1)];
    assert_eq!(book.evaluate(at(0), &everything(), &still[..1]), []);
    assert_eq!(
        book.evaluate(at(0), &everything(), &still),
        [Happening { alarm: 6, event: AlarmEvent::Raised }]
    );
    let mut book = Book::new(Rules::off(), 0, kept);
    assert_eq!(
        book.evaluate(at(0), &everything(), &[]),
        [Happening { alarm: 4, event: AlarmEvent::Resolved }]
    );
}

#[test]
fn there_is_a_bound_on_what_is_open_and_on_what_is_kept() {
    let mut book = Book::new(rules(&[(AlarmRule::DeadLetters, "1")]), 0, BTreeMap::new());
    let names: Vec<_> =
        (0..OPEN_MAX + 5).map(|nth| reading(AlarmRule::DeadLetters, &format!("g{nth:05}"), 1)).collect();
    assert_eq!(book.evaluate(at(0), &everything(), &names).len(), OPEN_MAX);
    assert_eq!((book.open(), book.raised()), (OPEN_MAX, (OPEN_MAX as u64, 5)));
    for round in 1..4 {
        book.evaluate(at(round * 10), &everything(), &[]);
        book.evaluate(at(round * 10 + 1), &everything(), &names[..OPEN_MAX]);
    }
    let gone = book.forget();
    assert_eq!(gone.len(), 4 * OPEN_MAX - KEPT_MAX);
    assert_eq!(gone[0], 1);
    assert_eq!(book.page(None, true, usize::MAX).len(), OPEN_MAX);
    assert!(book.forget().is_empty());
}

#[test]
fn an_alarm_has_the_value_of_now_and_in_the_end_that_which_was_wrong_last() {
    let mut book = Book::new(rules(&[(AlarmRule::Lag, "10 for 5s")]), 0, BTreeMap::new());
    let mut value_at = |ms, value: Option<u64>| {
        let readings: Vec<_> = value.iter().map(|value| reading(AlarmRule::Lag, "billing", *value)).collect();
        book.evaluate(at(ms), &everything(), &readings);
        book.get(1).map(|alarm| (alarm.value, alarm.is_resolved()))
    };
    assert_eq!(value_at(0, Some(20)), None);
    assert_eq!(value_at(5_000, Some(30)), Some((30, false)));
    assert_eq!(value_at(6_000, Some(12)), Some((12, false)));
    assert_eq!(value_at(7_000, Some(3)), Some((12, false)), "on its way to be over");
    assert_eq!(value_at(12_000, Some(2)), Some((12, true)));
    assert_eq!(value_at(13_000, Some(9)), Some((12, true)));
}

fn outbox(sinks: &[&str]) -> Outbox {
    let patience = Patience { delays_ms: vec![10, 100], give_up_ms: 1_000 };
    Outbox::new(patience, sinks.iter().map(|name| (*name).to_owned()))
}

fn failed() -> Attempt {
    Attempt::Failed("503".to_owned())
}

fn sends(outbox: &Outbox, sink: &str, now_ms: u64) -> Option<(u64, u64)> {
    match outbox.next(sink, now_ms) {
        Next::Send(id, _) => Some(id),
        Next::Wait(_) | Next::Idle => None,
    }
}

#[test]
fn a_notice_is_tried_again_with_growing_delays_and_given_up_in_the_end() {
    let mut outbox = outbox(&["a"]);
    let mut parked = alarm(AlarmRule::Parked, "", 1);
    outbox.tell(0, (7, &mut parked), AlarmEvent::Raised);
    assert_eq!(parked.notices, 1);
    for (now_ms, wait_ms) in [(0, 10), (10, 100), (110, 100), (210, 100)] {
        assert_eq!(sends(&outbox, "a", now_ms), Some((7, 1)), "at {now_ms}");
        let (_, written) = outbox.settle(now_ms, "a", (7, 1), failed()).expect("it is written down");
        let written = written.expect("it stays");
        assert_eq!((written.due_at_ms, written.error.as_str()), (now_ms + wait_ms, "503"));
        assert_eq!(outbox.next("a", now_ms), Next::Wait(wait_ms));
    }
    assert_eq!(outbox.settle(1_000, "a", (7, 1), failed()), Some(((7, 1), None)));
    assert_eq!(outbox.next("a", 2_000), Next::Idle);
    assert_eq!(outbox.sent(), Sent { taken: 0, failed: 5, given_up: 1 });
}

#[test]
fn each_sink_is_told_and_none_hears_of_an_end_before_the_beginning() {
    let mut outbox = outbox(&["a", "b"]);
    let (mut first, mut second) = (alarm(AlarmRule::Parked, "", 1), alarm(AlarmRule::Lag, "g", 1));
    outbox.tell(0, (1, &mut first), AlarmEvent::Raised);
    assert_eq!((sends(&outbox, "a", 0), sends(&outbox, "b", 0)), (Some((1, 1)), Some((1, 2))));
    outbox.settle(0, "a", (1, 1), failed());
    outbox.settle(0, "b", (1, 2), Attempt::Taken);
    outbox.tell(1, (1, &mut first), AlarmEvent::Resolved);
    outbox.tell(2, (2, &mut second), AlarmEvent::Raised);
    // The end of the first alarm waits for its beginning, another alarm does not.
    assert_eq!(sends(&outbox, "a", 5), Some((2, 1)));
    outbox.settle(5, "a", (2, 1), Attempt::Taken);
    assert_eq!(sends(&outbox, "a", 9), None);
    assert_eq!(sends(&outbox, "a", 10), Some((1, 1)));
    outbox.settle(10, "a", (1, 1), Attempt::Taken);
    assert_eq!(sends(&outbox, "a", 10), Some((1, 3)));
    assert_eq!(sends(&outbox, "b", 10), Some((1, 4)));
}

#[test]
fn what_was_written_down_is_sent_after_a_restart_to_sinks_that_are_still_there() {
    let notice = |sink: &str| AlarmNotice {
        sink: sink.to_owned(),
        event: AlarmEvent::Raised,
        at_ms: 0,
        attempts: 1,
        due_at_ms: 50,
        error: "503".to_owned(),
        alarm: alarm(AlarmRule::Parked, "", 1),
    };
    let mut outbox = outbox(&["a"]);
    assert!(outbox.put_back((1, 1), notice("a")));
    assert!(!outbox.put_back((1, 2), notice("gone")));
    assert_eq!(outbox.next("a", 49), Next::Wait(1));
    assert_eq!(sends(&outbox, "a", 50), Some((1, 1)));
    let error = outbox.standing("a").1.map(|notice| notice.error.clone());
    assert_eq!((outbox.waiting(), error.as_deref()), (1, Some("503")));
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_for_longer_than_its_delay() {
    let mut outbox = outbox(&["a"]);
    outbox.tell(1_000_000, (1, &mut alarm(AlarmRule::Parked, "", 1)), AlarmEvent::Raised);
    assert_eq!(outbox.next("a", 0), Next::Wait(100));
}

#[test]
fn a_sink_that_stays_away_keeps_the_newest() {
    let mut outbox = outbox(&["a"]);
    for number in 1..=WAITING_MAX as u64 {
        let made = outbox.tell(0, (number, &mut alarm(AlarmRule::Parked, "", 1)), AlarmEvent::Raised);
        assert_eq!(made.len(), 1);
    }
    let made = outbox.tell(0, (9_999, &mut alarm(AlarmRule::Parked, "", 1)), AlarmEvent::Raised);
    assert_eq!(made[1], ((1, 1), None));
    assert_eq!((outbox.waiting(), outbox.sent().given_up), (WAITING_MAX, 1));
}
