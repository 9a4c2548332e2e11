//! A history taken apart: which operations there were, what became of each, and what was seen of each message. It judges
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Choice, Decision, Delivered, Event, Noted, Operation, Reader, Verb, Verdicts};

/// When: the number of an event, and milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) index: usize,
    pub(super) ms: u64,
}

/// Behind every moment.
pub(super) const LAST: Moment = Moment { index: usize::MAX, ms: u64::MAX };

/// An operation, from its invocation to its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done<T> {
    pub(super) what: T,
    pub(super) invoked: Moment,
    pub(super) answered: Option<Moment>,
    pub(super) answer: Answer,
}

impl<T> Done<T> {
    /// Whether it may have had an effect.
    pub(super) fn may_count(&self) -> bool {
        !matches!(self.answer, Answer::Failed | Answer::Forgotten | Answer::Conflict(_))
    }

    /// Whether its client was told that it had one.
    pub(super) fn is_ok(&self) -> bool {
        matches!(self.answer, Answer::Ok | Answer::Queued(_) | Answer::Decided(_))
    }
}

/// What a producer said of a message when it made it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) at: Moment,
    pub(super) choice: Choice,
    pub(super) ordering_key: Option<u64>,
    pub(super) delay_ms: u64,
}

/// All that is known of one message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) made: Option<Made>,
    pub(super) published: Option<Done<()>>,
    pub(super) half: Option<Done<()>>,
    pub(super) decisions: Vec<Done<Decision>>,
    pub(super) offsets: BTreeSet<u64>,
    /// How often it came with another body than its own.
    pub(super) altered: usize,
    pub(super) by_group: BTreeMap<&'static str, InGroup>,
}

/// What one group did with one message.
#[derive(Debug, Default)]
pub(super) struct InGroup {
    /// In the order of their leases.
    pub(super) deliveries: Vec<(Moment, Delivered)>,
    pub(super) settlements: Vec<Done<(u64, Verb)>>,
    pub(super) redrives: Vec<Done<()>>,
    /// How many dead letters there were of it at the end.
    pub(super) dead: usize,
}

impl InGroup {
    /// Whether it was, or may have been, sent again from the dead letters at any time.
    pub(super) fn may_be_redriven(&self) -> bool {
        self.redrives.iter().any(Done::may_count)
    }
}

impl Message {
    /// What its producers and checkers asked for that makes it visible, and may have had its effect.
    pub(super) fn commits(&self) -> impl Iterator<Item = Moment> {
        let decided = self.decisions.iter().filter(|done| done.what == Decision::Commit && done.may_count());
        let published = self.published.iter().filter(|done| done.may_count());
        decided.map(|done| done.invoked).chain(published.map(|done| done.invoked))
    }

    /// Whether somebody may have rolled it back.
    pub(super) fn may_be_rolled_back(&self) -> bool {
        self.decisions.iter().any(|done| done.what == Decision::Rollback && done.may_count())
    }

    /// The outcomes that clients were told, ok or conflict. More than one: the decision changed.
    pub(super) fn told(&self) -> BTreeSet<Decision> {
        let told = self.decisions.iter().filter_map(|done| match done.answer {
            Answer::Decided(stands) | Answer::Conflict(stands) => Some(stands),
            _ => None,
        });
        let published = self.published.iter().filter(|done| done.is_ok()).map(|_| Decision::Commit);
        told.chain(published).collect()
    }

    /// Whether a group or its dead letters had it.
    pub(super) fn is_seen(&self) -> bool {
        self.by_group.values().any(|group| !group.deliveries.is_empty() || group.dead > 0)
    }
}

/// A history, sorted.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) messages: BTreeMap<u64, Message>,
    /// Deliveries as they were noted.
    pub(super) deliveries: Vec<(Moment, Delivered)>,
    /// Who read which message, and of what time that is.
    pub(super) readings: Vec<(Reader, u64, usize)>,
    /// Who was told how many places of the topic are taken, and of what time that is.
    pub(super) counts: Vec<(Reader, u64, usize)>,
    /// Readers that came to the end.
    pub(super) read_all: Vec<Reader>,
    /// From when to when somebody set the wall clock.
    clock_set: Vec<(Moment, Moment)>,
    operations: Vec<Done<Operation>>,
}

impl Facts {
    pub(super) fn of(events: &[Noted]) -> Self {
        let mut facts = Self::default();
        let mut by_number: BTreeMap<u64, usize> = BTreeMap::new();
        for (index, (ms, event)) in events.iter().enumerate() {
            let at = Moment { index, ms: *ms };
            match *event {
                Event::Invoked(number, what) => {
                    by_number.insert(number, facts.operations.len());
                    facts.operations.push(Done {
                        what,
                        invoked: at,
                        answered: None,
                        answer: Answer::Unknown,
                    });
                }
                Event::Answered(number, answer) => {
                    let operation = by_number.get(&number).expect("an answer is noted behind its operation");
                    let operation = &mut facts.operations[*operation];
                    (operation.answered, operation.answer) = (Some(at), answer);
                }
                Event::Made { message, choice, ordering_key, delay_ms } => {
                    facts.message(message).made = Some(Made { at, choice, ordering_key, delay_ms });
                }
                Event::Delivered(delivered) => facts.deliveries.push((at, delivered)),
                Event::Read { reader, message, as_of } => facts.readings.push((reader, message, as_of)),
                Event::Counted { reader, places, as_of } => facts.counts.push((reader, places, as_of)),
                Event::Found { message, offset } => drop(facts.message(message).offsets.insert(offset)),
                Event::Altered { message } => facts.message(message).altered += 1,
                Event::ReadAll(reader) => facts.read_all.push(reader),
                Event::Dead { group, message } => facts.in_group(group, message).dead += 1,
                Event::ClockSetting => facts.clock_set.push((at, LAST)),
                Event::ClockSet => {
                    if let Some((_, end)) = facts.clock_set.last_mut() {
                        *end = at;
                    }
                }
            }
        }
        facts.sort();
        facts
    }

    fn sort(&mut self) {
        for done in std::mem::take(&mut self.operations) {
            self.sort_in(&done);
            self.operations.push(done);
        }
        for (at, delivered) in std::mem::take(&mut self.deliveries) {
            self.message(delivered.message).offsets.insert(delivered.offset);
            self.in_group(delivered.group, delivered.message).deliveries.push((at, delivered));
            self.deliveries.push((at, delivered));
        }
        for group in self.messages.values_mut().flat_map(|message| message.by_group.values_mut()) {
            group.deliveries.sort_by_key(|(_, delivered)| delivered.lease);
        }
    }

    fn sort_in(&mut self, done: &Done<Operation>) {
        let bare = Done { what: (), invoked: done.invoked, answered: done.answered, answer: done.answer };
        match done.what {
            Operation::Publish(message) => {
                if let Answer::Queued(offset) = done.answer {
                    self.message(message).offsets.insert(offset);
                }
                self.message(message).published = Some(bare);
            }
            Operation::Half(message) => self.message(message).half = Some(bare),
            Operation::Decide(message, what) => {
                let done = Done { what, invoked: bare.invoked, answered: bare.answered, answer: bare.answer };
                self.message(message).decisions.push(done);
            }
            Operation::Settle { group, message, lease, verb } => {
                let what = (lease, verb);
                let done = Done { what, invoked: bare.invoked, answered: bare.answered, answer: bare.answer };
                self.in_group(group, message).settlements.push(done);
            }
            Operation::Redrive { group, message } => self.in_group(group, message).redrives.push(bare),
        }
    }

    fn message(&mut self, message: u64) -> &mut Message {
        self.messages.entry(message).or_default()
    }

    fn in_group(&mut self, group: &'static str, message: u64) -> &mut InGroup {
        self.message(message).by_group.entry(group).or_default()
    }

    /// Each message in each group that had to do with it.
    pub(super) fn in_groups(&self) -> impl Iterator<Item = (u64, &'static str, &InGroup)> {
        self.messages
            .iter()
            .flat_map(|(id, message)| message.by_group.iter().map(|(group, it)| (*id, *group, it)))
    }

    /// Whether somebody set the wall clock between two moments.
    pub(super) fn clock_was_set(&self, from: Moment, until: Moment) -> bool {
        self.clock_set.iter().any(|(begin, end)| from < *end && *begin < until)
    }

    /// Whether anybody set the wall clock at all before: since then it need not agree with that of the clients, and what
    /// is remembered for a time may be forgotten.
    pub(super) fn clock_was_set_before(&self, at: Moment) -> bool {
        self.clock_set.first().is_some_and(|(begin, _)| *begin < at)
    }

    /// How much of everything there was; no faults.
    pub(super) fn counted(&self) -> Verdicts {
        let settled = |it: &InGroup| {
            let back = it.settlements.iter().filter(|done| done.what.1 != Verb::Ack).count();
            back + it.deliveries.len().saturating_sub(it.settlements.len())
        };
        let decisions = self.messages.values().flat_map(|message| &message.decisions);
        let again = self.in_groups().map(|(_, _, group)| group.deliveries.len().saturating_sub(1));
        let answered =
            |wanted: fn(&Answer) -> bool| self.operations.iter().filter(|done| wanted(&done.answer)).count();
        Verdicts {
            done: self.operations.iter().filter(|done| done.is_ok()).count(),
            open: answered(|answer| *answer == Answer::Unknown),
            conflicts: answered(|answer| matches!(answer, Answer::Conflict(_))),
            deliveries: self.deliveries.len(),
            repeated: again.sum(),
            redriven: self
                .in_groups()
                .map(|(_, _, it)| it.redrives.iter().filter(|it| it.is_ok()).count())
                .sum(),
            readings: self.readings.len() + self.counts.len(),
            handed_back: self.in_groups().map(|(_, _, it)| settled(it)).sum(),
            halves: self.messages.values().filter(|message| message.half.is_some()).count(),
            checks: decisions.filter(|done| done.answered.is_none()).count(),
            ..Verdicts::default()
        }
    }
}
