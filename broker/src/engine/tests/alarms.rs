//! What the engine tells alarms, and what it writes down for them.

use super::*;
use crate::records::{Alarm, AlarmEvent, AlarmNotice, AlarmRule, AuditEntry, AuditVerb, Record as _};

impl Bench {
    fn vitals(&mut self, after: Option<&str>) -> Vitals {
        match self.ask(Input::Inspect(Inspect::Vitals { after: after.map(name) })) {
            Reply::Seen(Seen::Vitals(vitals)) => vitals,
            other => panic!("{other:?}"),
        }
    }
}

fn alarm(rule: AlarmRule) -> Alarm {
    Alarm {
        rule,
        subject: "billing".into(),
        id: String::new(),
        raised_at_ms: 1,
        value: 1,
        limit: 1,
        worst: 1,
        told_at_ms: 1,
        repeats: 0,
        notices: 1,
        ack: None,
        resolved_at_ms: None,
    }
}

#[test]
fn the_worst_retry_is_known_whatever_becomes_of_the_others() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| {
        settings.retry = RetryPolicy { delays: RetryDelays::Fixed(1_000), ..RetryPolicy::default() };
    });
    for _ in 0..2 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, mut got) = bench.consumer("billing", "paid");
    assert_eq!(bench.vitals(None).groups[0].worst_retry, None);
    let worst = |bench: &mut Bench| {
        bench.vitals(None).groups[0].worst_retry.map(|(attempts, _, offset)| (attempts, offset.0))
    };
    // The first message fails once, the second again and again.
    bench.ask(settle("billing", got[0].token, nack()));
    bench.ask(settle("billing", got[1].token, nack()));
    assert_eq!(worst(&mut bench), Some((1, 1)));
    got = deliveries(bench.later(1_000));
    let first = got.iter().find(|delivery| delivery.offset == Offset(0)).expect("it comes again").token;
    let second = got.iter().find(|delivery| delivery.offset == Offset(1)).expect("it comes again").token;
    bench.ask(settle("billing", second, nack()));
    assert_eq!(worst(&mut bench), Some((2, 1)));
    bench.restart();
    assert_eq!(worst(&mut bench), Some((2, 1)));
    bench.refused(settle("billing", first, Verb::Ack));
    let (_, mut got) = bench.consumer("billing", "paid");
    got.extend(deliveries(bench.later(1_000)));
    for delivery in got {
        bench.ask(settle("billing", delivery.token, Verb::Ack));
    }
    assert_eq!(worst(&mut bench), None);
}

#[test]
fn vitals_are_a_page_of_groups_and_what_nobody_can_be_asked_about() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for group in ["a", "b", "c"] {
        bench.group(group, "paid", |_| {});
    }
    let message = bench.message("paid");
    bench.publish(message);
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.later(10_000);
    let vitals = bench.vitals(None);
    assert_eq!(vitals.groups.iter().map(|group| group.name.to_string()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(
        !vitals.more_groups && vitals.groups.iter().all(|group| group.lag == 1 && group.heads.len() == 1)
    );
    assert_eq!(vitals.oldest_undecided.map(|(oldest, _)| oldest), Some(transaction));
    assert_eq!((vitals.undecided, vitals.parked, vitals.oldest_parked), (1, 0, None));
    let unanswered: Vec<_> =
        vitals.unanswered.iter().map(|kind| (kind.kind.to_string(), kind.due, kind.oldest)).collect();
    assert_eq!(unanswered, [("orders".to_owned(), 1, transaction)]);
    let rest = bench.vitals(Some("a"));
    assert_eq!(rest.groups.iter().map(|group| group.name.to_string()).collect::<Vec<_>>(), ["b", "c"]);
    // Somebody who can be asked.
    bench.checker();
    assert_eq!(bench.vitals(None).unanswered, []);
}

#[test]
fn what_became_of_alarms_is_written_down_and_forgotten_as_told() {
    let mut bench = Bench::new();
    let notice = AlarmNotice {
        sink: "oncall".into(),
        event: AlarmEvent::Raised,
        at_ms: 1,
        attempts: 0,
        due_at_ms: 1,
        error: String::new(),
        alarm: alarm(AlarmRule::DeadLetters),
    };
    let mut notes = AlarmNotes::default();
    notes.alarms.insert(1, Some(alarm(AlarmRule::DeadLetters)));
    notes.notices.insert((1, 1), Some(notice));
    assert_eq!(bench.ask(Input::NoteAlarms(notes)), Reply::Done);
    let counts = |bench: &Bench| (bench.count(keys::space::ALARM), bench.count(keys::space::ALARM_NOTICE));
    assert_eq!(counts(&bench), (1, 1));
    bench.restart();
    assert_eq!(counts(&bench), (1, 1));
    let mut notes = AlarmNotes::default();
    notes.alarms.insert(1, None);
    notes.notices.insert((1, 1), None);
    bench.ask(Input::NoteAlarms(notes));
    assert_eq!(counts(&bench), (0, 0));
}

#[test]
fn an_acknowledgement_is_in_the_audit_once_and_only_of_an_alarm_that_is_open() {
    let mut bench = Bench::new();
    let mut notes = AlarmNotes::default();
    notes.alarms.insert(1, Some(alarm(AlarmRule::DeadLetters)));
    notes.alarms.insert(2, Some(Alarm { resolved_at_ms: Some(5), ..alarm(AlarmRule::Lag) }));
    bench.ask(Input::NoteAlarms(notes));
    let acknowledge = |number| by_hand(Command::AcknowledgeAlarm(number));
    assert_eq!(bench.refused(acknowledge(3)), Reason::UnknownAlarm);
    assert_eq!(bench.refused(acknowledge(2)), Reason::AlarmResolved);
    let Reply::Alarm(mine, true) = bench.ask(acknowledge(1)) else { panic!("it was not acknowledged") };
    assert_eq!(mine.ack.as_ref().map(|ack| (ack.name.as_str(), ack.at_ms)), Some(("ada", bench.now.unix_ms)));
    bench.restart();
    assert_eq!(bench.ask(acknowledge(1)), Reply::Alarm(mine, false));
    let written = {
        use escrow_storage::Read as _;
        bench.store.reader().scan(&keys::all(keys::space::AUDIT), 9).expect("reads")
    };
    assert_eq!(written.len(), 1);
    let entry = AuditEntry::decode(written[0].1.clone()).expect("an entry");
    assert_eq!((entry.verb, entry.target.as_str()), (AuditVerb::AlarmAck, "1"));
    assert_eq!(entry.before, "open rule=dead_letters subject=billing");
    assert_eq!(entry.after, "acknowledged by ada rule=dead_letters subject=billing");
}
