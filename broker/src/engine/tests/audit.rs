//! The audit of operations by hand.

use super::*;
use crate::records::{AuditEntry, AuditVerb, Record as _};

impl Bench {
    fn audit(&self) -> Vec<(u64, AuditEntry)> {
        use escrow_storage::Read as _;
        let entries = self.store.reader().scan(&keys::all(keys::space::AUDIT), 1_000).expect("reads");
        let decoded = entries.into_iter().map(|(key, value)| {
            (keys::audit_of(&key).expect("a number"), AuditEntry::decode(value).expect("an entry"))
        });
        decoded.collect()
    }
}

fn pause(paused: bool) -> Input {
    by_hand(Command::SetPaused { name: name("billing"), paused })
}

#[test]
fn what_is_done_by_hand_is_written_with_what_it_does_and_only_then() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    bench.ask(pause(true));
    let before = bench.audit();
    let words: Vec<_> = before.iter().map(|(_, entry)| entry.verb.as_str()).collect();
    assert_eq!(words, ["topic.create", "group.create", "group.pause"]);
    let paused = &before[2].1;
    assert_eq!((paused.before.as_str(), paused.after.as_str()), ("running", "paused"));
    assert_eq!(
        (paused.name.as_str(), paused.reason.as_str(), paused.target.as_str()),
        ("ada", "a test", "billing")
    );
    assert_eq!(paused.at_ms, bench.now.unix_ms);

    // Refused, rehearsed, too late, lost before its commit: not done, so not written.
    bench.refused(by_hand(Command::SetPaused { name: name("nobody"), paused: true }));
    let seek =
        Command::Seek { group: name("billing"), topic: name("paid"), to: SeekTo::Newest, dry_run: true };
    bench.ask(by_hand(seek));
    bench.ask(by_hand(Command::CancelScheduled(MessageId::new(1, [1; 10]))));
    bench.handle_and_die(pause(false));
    assert_eq!(bench.audit(), before);
    bench.restart();
    bench.ask(pause(false));
    assert_eq!(
        bench.audit().last().map(|(number, entry)| (*number, entry.verb)),
        Some((4, AuditVerb::GroupResume))
    );
}

#[test]
fn a_decision_by_a_person_is_written_and_one_by_its_producer_is_not() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let by_producer = bench.half(vec![message]);
    bench.ask(decide(by_producer, Decision::Commit));
    let message = bench.message("paid");
    let by_person = bench.half(vec![message]);
    let decide = |decision| {
        let (name, reason) = ("eve".into(), "the customer called".into());
        Input::Decide(Decide {
            transaction: by_person,
            decision,
            role: Role::Person,
            group: None,
            name,
            reason,
        })
    };
    bench.ask(decide(Decision::Rollback));
    bench.ask(decide(Decision::Rollback));
    bench.refused(decide(Decision::Commit));
    let written = bench.audit().split_off(1);
    assert_eq!(written.len(), 1);
    let entry = &written[0].1;
    assert_eq!((entry.verb, entry.target.clone()), (AuditVerb::TransactionRollback, by_person.to_string()));
    assert_eq!((entry.before.as_str(), entry.after.as_str()), ("PREPARED", "ROLLED_BACK"));
}

#[test]
fn the_audit_is_kept_for_its_time_and_its_count_and_gives_no_number_twice() {
    let mut settings = Settings::default();
    settings.retention.audit_ms = 10_000;
    settings.retention.audit_max = 3;
    let mut bench = Bench::with(settings);
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    for paused in [true, false, true] {
        bench.ask(pause(paused));
    }
    bench.later(0);
    let numbers = |bench: &Bench| bench.audit().into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(&bench), [3, 4, 5]);
    bench.later(9_999);
    bench.restart();
    bench.ask(pause(false));
    bench.later(0);
    assert_eq!(numbers(&bench), [4, 5, 6]);
    bench.later(1);
    assert_eq!(numbers(&bench), [6]);
    // The newest stays, however old it is: it says which number comes next.
    bench.later(1_000_000);
    assert_eq!(numbers(&bench), [6]);
    bench.restart();
    bench.ask(pause(true));
    bench.later(0);
    assert_eq!(numbers(&bench), [7]);
}
