//! Which alarms there are: a state machine over readings. Pure: the time is passed in, nothing is read or sent. It owns the
//! alarms; what is told to whom is the outbox's.

use std::collections::BTreeMap;

use super::rules::Rules;
use crate::engine::Now;
use crate::records::{Alarm, AlarmAck, AlarmEvent, AlarmRule};

/// Alarms open at once; beyond that new ones are counted and not raised: nobody reads a thousand.
pub(super) const OPEN_MAX: usize = 1_000;
/// Alarms kept, the ones that are over included; the oldest of those makes room.
pub(super) const KEPT_MAX: usize = 2_000;

/// What one rule measured of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) rule: AlarmRule,
    /// A group, `producer group/kind`; empty: the broker.
    pub(super) subject: String,
    pub(super) value: u64,
}

/// What was looked at. What was, and has no reading, is at rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Groups behind this name,
    pub(super) groups_after: Option<String>,
    /// up to this one; `None`: to the last.
    pub(super) groups_until: Option<String>,
    /// All kinds without a checker were listed.
    pub(super) all_kinds: bool,
}

impl Scope {
    fn holds(&self, rule: AlarmRule, subject: &str) -> bool {
        match rule {
            AlarmRule::NoChecker => self.all_kinds,
            rule if rule.is_of_groups() => {
                self.groups_after.as_deref().is_none_or(|after| subject > after)
                    && self.groups_until.as_deref().is_none_or(|until| subject <= until)
            }
            _ => true,
        }
    }
}

/// What became of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Happening {
    pub(super) alarm: u64,
    pub(super) event: AlarmEvent,
}

type Spot = (AlarmRule, String);

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    rules: Rules,
    repeat_ms: u64,
    alarms: BTreeMap<u64, Alarm>,
    open: BTreeMap<Spot, u64>,
    /// Since when a spot is on the other side of where its alarm stands, monotonic milliseconds.
    turning: BTreeMap<Spot, u64>,
    next: u64,
    /// Alarms that were not raised, for too many are open.
    suppressed: u64,
    raised: u64,
}

impl Book {
    /// A book with these alarms in it, by number. `repeat_ms`: people are told again after this long; 0: never.
    pub(super) fn new(rules: Rules, repeat_ms: u64, alarms: BTreeMap<u64, Alarm>) -> Self {
        let open = alarms.iter().filter(|(_, alarm)| !alarm.is_resolved());
        let open = open.map(|(number, alarm)| ((alarm.rule, alarm.subject.clone()), *number)).collect();
        let next = alarms.last_key_value().map_or(1, |(last, _)| last + 1);
        Self { rules, repeat_ms, open, turning: BTreeMap::new(), next, alarms, suppressed: 0, raised: 0 }
    }

    /// What the readings of `scope` change. Alarms of rules that are off are over at once.
    pub(super) fn evaluate(&mut self, now: Now, scope: &Scope, readings: &[Reading]) -> Vec<Happening> {
        let mut happenings = self.end_unwatched(now);
        for reading in readings {
            let happening = self.judge(now, reading.rule, &reading.subject, Some(reading.value));
            happenings.extend(happening);
        }
        let read: std::collections::BTreeSet<(AlarmRule, &str)> =
            readings.iter().map(|reading| (reading.rule, reading.subject.as_str())).collect();
        let spots = self.open.keys().chain(self.turning.keys());
        let at_rest = spots.filter(|(rule, subject)| {
            !read.contains(&(*rule, subject.as_str())) && scope.holds(*rule, subject)
        });
        let at_rest: std::collections::BTreeSet<Spot> = at_rest.cloned().collect();
        for (rule, subject) in at_rest {
            happenings.extend(self.judge(now, rule, &subject, None));
        }
        happenings
    }

    fn end_unwatched(&mut self, now: Now) -> Vec<Happening> {
        let unwatched = self.open.keys().filter(|(rule, _)| self.rules.get(*rule).is_none());
        let unwatched: Vec<Spot> = unwatched.cloned().collect();
        unwatched.iter().filter_map(|spot| self.resolve(now, spot)).collect()
    }

    /// `None`: there is nothing to measure, and so nothing wrong.
    fn judge(&mut self, now: Now, rule: AlarmRule, subject: &str, value: Option<u64>) -> Option<Happening> {
        let limit = self.rules.get(rule)?;
        let spot = (rule, subject.to_owned());
        let Some(number) = self.open.get(&spot).copied() else {
            let reached = value.filter(|value| limit.is_reached(rule, *value));
            let value = self.turned(now, &spot, reached.is_some(), limit.for_ms).then_some(reached)??;
            return self.raise(now, spot, value, limit.at);
        };
        let cleared = value.is_none_or(|value| limit.is_cleared(rule, value));
        // What is fine again is not what an alarm was about: one that is over says what was wrong last.
        if let (Some(value), Some(alarm)) = (value.filter(|_| !cleared), self.alarms.get_mut(&number)) {
            alarm.value = value;
            alarm.worst = if rule.is_floor() { alarm.worst.min(value) } else { alarm.worst.max(value) };
        }
        if self.turned(now, &spot, cleared, limit.for_ms) {
            return self.resolve(now, &spot);
        }
        let repeat_ms = self.repeat_ms;
        let alarm = self.alarms.get_mut(&number)?;
        // Whoever looks after it needs no reminder.
        let is_due = repeat_ms > 0 && now.unix_ms.saturating_sub(alarm.told_at_ms) >= repeat_ms;
        if alarm.ack.is_some() || cleared || !is_due {
            return None;
        }
        alarm.told_at_ms = now.unix_ms;
        alarm.repeats += 1;
        Some(Happening { alarm: number, event: AlarmEvent::Repeated })
    }

    /// Whether `spot` has been on the other side for long enough; `is_over`: it is there now.
    fn turned(&mut self, now: Now, spot: &Spot, is_over: bool, for_ms: u64) -> bool {
        if !is_over {
            self.turning.remove(spot);
            return false;
        }
        let since = match self.turning.get(spot) {
            Some(since) => *since,
            None => *self.turning.entry(spot.clone()).or_insert(now.mono_ms),
        };
        let is_long_enough = now.mono_ms.saturating_sub(since) >= for_ms;
        if is_long_enough {
            self.turning.remove(spot);
        }
        is_long_enough
    }

    fn raise(&mut self, now: Now, spot: Spot, value: u64, limit: u64) -> Option<Happening> {
        if self.open.len() >= OPEN_MAX {
            self.suppressed += 1;
            return None;
        }
        let (rule, subject) = spot.clone();
        let alarm = Alarm {
            rule,
            subject,
            id: String::new(),
            raised_at_ms: now.unix_ms,
            value,
            limit,
            worst: value,
            told_at_ms: now.unix_ms,
            repeats: 0,
            notices: 0,
            ack: None,
            resolved_at_ms: None,
        };
        let number = self.next;
        self.next += 1;
        self.raised += 1;
        self.alarms.insert(number, alarm);
        self.open.insert(spot, number);
        Some(Happening { alarm: number, event: AlarmEvent::Raised })
    }

    fn resolve(&mut self, now: Now, spot: &Spot) -> Option<Happening> {
        let number = self.open.remove(spot)?;
        self.turning.remove(spot);
        // Never 0, which says that it is open.
        self.alarms.get_mut(&number)?.resolved_at_ms = Some(now.unix_ms.max(1));
        Some(Happening { alarm: number, event: AlarmEvent::Resolved })
    }

    /// Somebody looks after it.
    pub(super) fn acknowledge(&mut self, number: u64, ack: AlarmAck) -> Option<Happening> {
        let alarm = self.alarms.get_mut(&number)?;
        alarm.ack = Some(ack);
        Some(Happening { alarm: number, event: AlarmEvent::Acknowledged })
    }

    /// The oldest that are over and exceed what is kept: forgotten with this. The newest always stays, so that no number is
    /// given twice.
    pub(super) fn forget(&mut self) -> Vec<u64> {
        let excess = self.alarms.len().saturating_sub(KEPT_MAX);
        if excess == 0 {
            return Vec::new();
        }
        let over = self.alarms.iter().filter(|(_, alarm)| alarm.is_resolved());
        let over: Vec<u64> = over.map(|(number, _)| *number).take(excess).collect();
        over.iter().for_each(|number| drop(self.alarms.remove(number)));
        over
    }

    /// The open alarm that a reading is about, unless that is fine again: then it says what was wrong last.
    pub(super) fn wrong(&self, reading: &Reading) -> Option<u64> {
        let limit = self.rules.get(reading.rule)?;
        let number = *self.open.get(&(reading.rule, reading.subject.clone()))?;
        (!limit.is_cleared(reading.rule, reading.value)).then_some(number)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Alarm> {
        self.alarms.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Alarm> {
        self.alarms.get_mut(&number)
    }

    /// The newest first; open ones only, or all.
    pub(super) fn page(&self, before: Option<u64>, open: bool, limit: usize) -> Vec<(u64, Alarm)> {
        let older = self.alarms.range(..before.unwrap_or(u64::MAX)).rev();
        let wanted = older.filter(|(_, alarm)| !open || !alarm.is_resolved());
        wanted.take(limit).map(|(number, alarm)| (*number, alarm.clone())).collect()
    }

    /// The open ones, by number.
    pub(super) fn open_numbers(&self) -> std::collections::BTreeSet<u64> {
        self.open.values().copied().collect()
    }

    /// How many are open.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// How many of each rule are open.
    pub(super) fn open_by_rule(&self) -> BTreeMap<AlarmRule, u64> {
        let mut counts = BTreeMap::new();
        for (rule, _) in self.open.keys() {
            *counts.entry(*rule).or_insert(0) += 1;
        }
        counts
    }

    /// Raised since the start, and not raised because too many were open.
    pub(super) fn raised(&self) -> (u64, u64) {
        (self.raised, self.suppressed)
    }
}
