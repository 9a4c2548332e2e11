//! What will happen, in order of time; at the same moment, in the order it was planned.

use std::collections::BTreeMap;

use super::consumers::{ConsumerAct, ConsumerAsked};
use super::persons::PersonAct;
use super::producers::{ProducerAct, ProducerAsked};

/// Something that happens outside the broker.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Producer(usize, ProducerAct),
    Consumer(usize, ConsumerAct),
    Person(PersonAct),
    /// The broker's process starts.
    Start,
    /// Somebody sets the wall clock.
    ClockJump,
    /// Room on the disk becomes low, or enough.
    Room {
        is_low: bool,
    },
}

/// Who waits for the answer to an input.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    Producer(usize, ProducerAsked),
    Consumer(usize, ConsumerAsked),
    Nobody,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    acts: BTreeMap<(u64, u64), Act>,
    planned: u64,
}

impl Agenda {
    pub(super) fn plan(&mut self, at_ms: u64, act: Act) {
        self.planned += 1;
        self.acts.insert((at_ms, self.planned), act);
    }

    /// When the next one is.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.acts.keys().next().map(|(at_ms, _)| *at_ms)
    }

    /// The next one, if it is not later than `until_ms`.
    pub(super) fn take(&mut self, until_ms: u64) -> Option<Act> {
        let entry = self.acts.first_entry().filter(|entry| entry.key().0 <= until_ms)?;
        Some(entry.remove())
    }
}
