//! From what was seen of the broker to readings of the rules. Pure.

use std::collections::BTreeMap;

use escrow_protocol::{MessageId, Offset};

use super::book::{Reading, Scope};
use super::rate::Growths;
use super::rules::Rules;
use crate::engine::{GroupVitals, Now, Vitals};
use crate::records::{AlarmRule, GroupNumber, TopicNumber};
use crate::service::StoreNumbers;

/// What was seen at one look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Groups behind this name were looked at.
    pub(crate) after: Option<String>,
    /// The engine.
    pub(crate) vitals: Vitals,
    /// The store.
    pub(crate) store: StoreNumbers,
    /// The oldest message that each lagging group has yet to finish: when it became visible, Unix milliseconds, and its id.
    pub(crate) oldest: BTreeMap<GroupNumber, (u64, MessageId)>,
}

/// What leads to the id that an alarm names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clue {
    /// The id itself.
    Id(String),
    /// The newest dead letter before this place.
    DeadLetter(TopicNumber, Offset),
    /// The message of this retry.
    Retry(TopicNumber, Offset, GroupNumber),
}

/// What the rules make of a look.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) scope: Scope,
    pub(super) readings: Vec<Reading>,
    clues: BTreeMap<(AlarmRule, String), Clue>,
}

impl Look {
    /// The readings of the rules that are on.
    pub(super) fn of(sample: &Sample, rules: &Rules, growths: &mut Growths, now: Now) -> Self {
        let vitals = &sample.vitals;
        let until = vitals.groups.last().filter(|_| vitals.more_groups);
        let scope = Scope {
            groups_after: sample.after.clone(),
            groups_until: until.map(|group| group.name.to_string()),
            all_kinds: !vitals.more_unanswered,
        };
        let mut look = Self { scope, ..Self::default() };
        look.broker(sample, now);
        for group in &vitals.groups {
            look.group(sample, group, growths, now);
        }
        look.readings.retain(|reading| rules.get(reading.rule).is_some());
        look
    }

    fn broker(&mut self, sample: &Sample, now: Now) {
        let (vitals, store) = (&sample.vitals, &sample.store);
        let id = |id: escrow_protocol::TransactionId| Clue::Id(id.to_string());
        let age = vitals.oldest_undecided.map_or(0, |(_, at_ms)| now.unix_ms.saturating_sub(at_ms));
        let oldest = vitals.oldest_undecided.map(|(oldest, _)| id(oldest));
        self.read(AlarmRule::UndecidedAge, "", age, oldest.clone());
        self.read(AlarmRule::UndecidedCount, "", vitals.undecided, oldest);
        self.read(AlarmRule::Parked, "", vitals.parked, vitals.oldest_parked.map(id));
        for kind in &vitals.unanswered {
            let subject = format!("{}/{}", kind.group, kind.kind);
            self.read(AlarmRule::NoChecker, &subject, kind.due, Some(id(kind.oldest)));
        }
        // A store in memory has no disk, no table and no format.
        if store.format > 0 {
            self.read(AlarmRule::DiskFree, "", store.disk_free_bytes, None);
            self.read(AlarmRule::SpillBehind, "", store.overlay_percent, None);
        }
        self.read(AlarmRule::Damaged, "", store.corrupt_records, None);
    }

    fn group(&mut self, sample: &Sample, group: &GroupVitals, growths: &mut Growths, now: Now) {
        let name = group.name.as_str();
        let newest = Clue::DeadLetter(group.dead_letter_topic, group.dead_letters_next);
        let growth = growths.of(name, now.mono_ms, group.dead_letters_next.0);
        self.read(AlarmRule::DeadLetters, name, group.dead_letters, Some(newest.clone()));
        self.read(AlarmRule::DeadLetterRate, name, growth, Some(newest));
        if let Some((attempts, topic, offset)) = group.worst_retry {
            let clue = Clue::Retry(topic, offset, group.number);
            self.read(AlarmRule::RetryAttempt, name, attempts.into(), Some(clue));
        }
        let oldest = sample.oldest.get(&group.number);
        let id = oldest.map(|(_, id)| Clue::Id(id.to_string()));
        self.read(AlarmRule::Lag, name, group.lag, id.clone());
        if let Some((at_ms, _)) = oldest {
            self.read(AlarmRule::LagAge, name, now.unix_ms.saturating_sub(*at_ms), id);
        }
    }

    fn read(&mut self, rule: AlarmRule, subject: &str, value: u64, clue: Option<Clue>) {
        self.readings.push(Reading { rule, subject: subject.to_owned(), value });
        if let Some(clue) = clue {
            self.clues.insert((rule, subject.to_owned()), clue);
        }
    }

    /// What leads to the id of an alarm.
    pub(super) fn clue(&self, rule: AlarmRule, subject: &str) -> Option<&Clue> {
        self.clues.get(&(rule, subject.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::UnansweredKind;
    use crate::service::StoreNumbers;

    const NOW: Now = Now { unix_ms: 1_000_000, mono_ms: 5_000 };

    fn value(look: &Look, rule: AlarmRule, subject: &str) -> Option<u64> {
        let found = look.readings.iter().find(|reading| reading.rule == rule && reading.subject == subject);
        found.map(|reading| reading.value)
    }

    fn sample() -> Sample {
        let message = MessageId::new(1, [7; 10]);
        let group = GroupVitals {
            number: GroupNumber(3),
            name: "billing".parse().expect("a name"),
            lag: 12,
            heads: vec![(TopicNumber(1), Offset(5))],
            dead_letters: 2,
            dead_letter_topic: TopicNumber(9),
            dead_letters_next: Offset(40),
            worst_retry: Some((6, TopicNumber(1), Offset(4))),
        };
        let transaction = escrow_protocol::TransactionId::from_u64(17);
        Sample {
            after: None,
            vitals: Vitals {
                undecided: 4,
                parked: 1,
                damaged: 1,
                oldest_undecided: Some((transaction, 400_000)),
                oldest_parked: Some(transaction),
                unanswered: vec![UnansweredKind {
                    group: "orders".parse().expect("a name"),
                    kind: "create".parse().expect("a name"),
                    due: 3,
                    oldest: transaction,
                }],
                groups: vec![group],
                ..Vitals::default()
            },
            store: StoreNumbers {
                format: 1,
                disk_free_bytes: 77,
                overlay_percent: 81,
                corrupt_records: 2,
                ..StoreNumbers::default()
            },
            oldest: [(GroupNumber(3), (900_000, message))].into(),
        }
    }

    #[test]
    fn every_rule_has_its_value() {
        let mut growths = Growths::default();
        growths.of("billing", 1_000, 25);
        let look = Look::of(&sample(), &Rules::default(), &mut growths, NOW);
        for (rule, subject, expected) in [
            (AlarmRule::UndecidedAge, "", Some(600_000)),
            (AlarmRule::UndecidedCount, "", Some(4)),
            (AlarmRule::NoChecker, "orders/create", Some(3)),
            (AlarmRule::Parked, "", Some(1)),
            (AlarmRule::DeadLetters, "billing", Some(2)),
            (AlarmRule::DeadLetterRate, "billing", Some(15)),
            (AlarmRule::RetryAttempt, "billing", Some(6)),
            (AlarmRule::Lag, "billing", Some(12)),
            (AlarmRule::LagAge, "billing", Some(100_000)),
            (AlarmRule::DiskFree, "", Some(77)),
            (AlarmRule::SpillBehind, "", Some(81)),
            (AlarmRule::Damaged, "", Some(2)),
            // Nothing is looked at: the broker says it as it stops.
            (AlarmRule::FailedSync, "", None),
        ] {
            assert_eq!(value(&look, rule, subject), expected, "{}", rule.as_str());
        }
        assert_eq!(
            look.clue(AlarmRule::DeadLetters, "billing"),
            Some(&Clue::DeadLetter(TopicNumber(9), Offset(40)))
        );
        assert!(
            matches!(look.clue(AlarmRule::NoChecker, "orders/create"), Some(Clue::Id(id)) if id.starts_with("tx-"))
        );
    }

    #[test]
    fn rules_that_are_off_read_nothing_and_a_store_in_memory_has_no_disk() {
        let mut rules = Rules::default();
        rules.set(AlarmRule::Lag, None);
        let store = StoreNumbers { format: 0, ..sample().store };
        let look = Look::of(&Sample { store, ..sample() }, &rules, &mut Growths::default(), NOW);
        assert_eq!(value(&look, AlarmRule::Lag, "billing"), None);
        assert_eq!(value(&look, AlarmRule::DiskFree, ""), None);
    }

    #[test]
    fn a_page_of_groups_says_how_far_it_goes() {
        let mut sample = Sample { after: Some("a".to_owned()), ..sample() };
        let look = Look::of(&sample, &Rules::default(), &mut Growths::default(), NOW);
        assert_eq!((look.scope.groups_after.as_deref(), look.scope.groups_until), (Some("a"), None));
        sample.vitals.more_groups = true;
        let look = Look::of(&sample, &Rules::default(), &mut Growths::default(), NOW);
        assert_eq!(look.scope.groups_until.as_deref(), Some("billing"));
    }
}
