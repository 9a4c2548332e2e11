//! What the engine does for alarms: tells what they are about, and writes down what became of them. Which there are, and
//! who is told, is decided in `crate::alarms`.

use std::ops::Bound;

use escrow_protocol::{GroupName, Reason};

use super::trouble::Step;
use super::{AlarmNotes, Engine, GroupVitals, Now, Operator, Refusal, Reply, Turn, UnansweredKind, Vitals};
use crate::records::{Alarm, AlarmAck, GroupNumber, keys};

/// Groups of one look, at most.
const GROUPS_MAX: usize = 250;
/// Places of groups in topics of one look, about: a group is looked at whole.
const PLACES_MAX: usize = 1_000;
/// Kinds without a checker that are listed, at most.
const KINDS_MAX: usize = 100;

impl Engine {
    /// What alarms are about: the broker, and the page of groups behind `after`.
    pub(super) fn vitals(&self, after: Option<&GroupName>) -> Vitals {
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let mut names = self.groups.by_name.range::<str, _>((start, Bound::Unbounded)).peekable();
        let (mut groups, mut places) = (Vec::new(), 0);
        while groups.len() < GROUPS_MAX
            && places < PLACES_MAX
            && let Some((_, number)) = names.next()
        {
            places += self.groups.known(*number).positions.len();
            groups.push(self.group_vitals(*number));
        }
        let mut unanswered: Vec<_> = self.unanswered_kinds().take(KINDS_MAX + 1).collect();
        let more_unanswered = unanswered.len() > KINDS_MAX;
        unanswered.truncate(KINDS_MAX);
        let oldest = self.transactions.undecided.oldest();
        let parked = self.transactions.parked.keys().next();
        Vitals {
            undecided: self.transactions.undecided.len() as u64,
            parked: self.transactions.parked.len() as u64,
            damaged: self.counts.records_damaged,
            oldest_undecided: oldest
                .map(|(number, undecided)| (self.transaction_id(number), undecided.created_at_ms)),
            oldest_parked: parked.map(|number| self.transaction_id(*number)),
            unanswered,
            more_unanswered,
            more_groups: names.peek().is_some(),
            groups,
        }
    }

    fn unanswered_kinds(&self) -> impl Iterator<Item = UnansweredKind> {
        let kinds = self.kinds.iter().filter(|kind| kind.checkers.is_empty());
        kinds.filter_map(|kind| {
            let (group, name) = kind.name.clone()?;
            let oldest = self.transaction_id(*kind.due.first()?);
            Some(UnansweredKind { group, kind: name, due: kind.due.len() as u64, oldest })
        })
    }

    fn group_vitals(&self, number: GroupNumber) -> GroupVitals {
        let group = self.groups.known(number);
        let (mut lag, mut heads) = (0, Vec::new());
        for (topic, position) in &group.positions {
            let owed = position.lag(self.topics.known(*topic).tail.next);
            if owed > 0 {
                lag += owed;
                heads.push((*topic, position.floor()));
            }
        }
        let tail = self.topics.known(group.record.dead_letters).tail;
        GroupVitals {
            number,
            name: group.record.name.clone(),
            lag,
            heads,
            dead_letters: tail.dead_letters,
            dead_letter_topic: group.record.dead_letters,
            dead_letters_next: tail.next,
            worst_retry: group.retries.worst().map(|(attempts, (topic, offset))| (attempts, topic, offset)),
        }
    }

    pub(super) fn note_alarms(&mut self, turn: &mut Turn<'_>, notes: AlarmNotes) -> Step<Reply> {
        for (number, alarm) in notes.alarms {
            match alarm {
                Some(alarm) => turn.put(keys::alarm(number), &alarm),
                None => turn.delete(keys::alarm(number)),
            }
        }
        for (number, notice) in notes.notices {
            match notice {
                Some(notice) => turn.put(keys::alarm_notice(number), &notice),
                None => turn.delete(keys::alarm_notice(number)),
            }
        }
        if let Some(sinks) = notes.sinks {
            turn.put(keys::alarm_sinks(), &sinks);
        }
        Ok(Reply::Done)
    }

    /// Who was first stays the one: whoever comes later is told so and changes nothing.
    pub(super) fn acknowledge_alarm(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        operator: Operator,
        number: u64,
    ) -> Step<Reply> {
        let Some(mut alarm) = turn.get::<Alarm>(&keys::alarm(number))? else {
            return Err(unknown_alarm(number).into());
        };
        if let Some(at_ms) = alarm.resolved_at_ms {
            let text = format!("alarm {number} is over; there is nothing left to look after");
            return Err(Refusal::new(Reason::AlarmResolved, text).with("resolved_at_ms", at_ms).into());
        }
        if alarm.ack.is_some() {
            return Ok(Reply::Alarm(alarm, false));
        }
        let Operator { name, reason } = operator;
        alarm.ack = Some(AlarmAck { at_ms: now.unix_ms, name, reason });
        turn.put(keys::alarm(number), &alarm);
        Ok(Reply::Alarm(alarm, true))
    }
}

/// There is no such alarm.
pub(crate) fn unknown_alarm(number: u64) -> Refusal {
    let text = format!(
        "there is no alarm {number}: never raised, or forgotten since; `escrow alarms ls` lists them"
    );
    Refusal::new(Reason::UnknownAlarm, text).with("alarm_id", number)
}
