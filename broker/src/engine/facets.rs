//! Dead letters counted by what they died of and where they came from, as they come and go: a page that shows them reads
//! none.

use std::collections::{BTreeMap, BTreeSet};

use escrow_protocol::{Offset, TopicName};
use escrow_storage::{KeyRange, Read, ReadError};

use super::{Engine, Turn};
use crate::records::keys::{self, space};
use crate::records::{DeadLetter, DeadReason, Facets, TopicNumber};

/// Those of every dead-letter topic.
#[derive(Debug, Default)]
pub(super) struct AllFacets {
    by_topic: BTreeMap<TopicNumber, Facets>,
    /// Those that differ from what is stored.
    dirty: BTreeSet<TopicNumber>,
}

impl AllFacets {
    pub(super) fn of(&self, dead_letters: TopicNumber) -> Facets {
        self.by_topic.get(&dead_letters).cloned().unwrap_or_default()
    }

    pub(super) fn add(&mut self, dead_letters: TopicNumber, reason: DeadReason, topic: &TopicName) {
        self.by_topic.entry(dead_letters).or_default().add(reason, topic);
        self.dirty.insert(dead_letters);
    }

    pub(super) fn remove(&mut self, dead_letters: TopicNumber, reason: DeadReason, topic: &TopicName) {
        self.by_topic.entry(dead_letters).or_default().remove(reason, topic);
        self.dirty.insert(dead_letters);
    }

    /// The dead-letter topic is gone.
    pub(super) fn drop_topic(&mut self, dead_letters: TopicNumber) {
        self.by_topic.remove(&dead_letters);
        self.dirty.insert(dead_letters);
    }

    /// Writes what changed in this turn.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) {
        for topic in std::mem::take(&mut self.dirty) {
            match self.by_topic.get(&topic).filter(|facets| facets.total() > 0) {
                Some(facets) => turn.put(keys::facets(topic), facets),
                None => turn.delete(keys::facets(topic)),
            }
        }
    }
}

impl Engine {
    /// Counts that do not add up, or are of a release that kept none, are counted anew, once.
    pub(super) fn recover_facets(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, space::FACETS, |engine, key, facets: Facets| match keys::topic_of(key) {
            Some(topic) => drop(engine.facets.by_topic.insert(topic, facets)),
            None => engine.misplaced(key),
        })?;
        let owed: Vec<TopicNumber> = self
            .topics
            .by_number
            .iter()
            .filter(|(number, topic)| self.facets.of(**number).total() != topic.tail.dead_letters)
            .map(|(number, _)| *number)
            .collect();
        for topic in owed {
            let mut counted = Facets::default();
            let KeyRange { start, end } = keys::dead_letter_range(topic, Offset(0), Offset(u64::MAX));
            // Those that are damaged were reported by whoever needs them, and are counted nowhere.
            self.each_record_in(view, KeyRange::new(start, end), |_, _, letter: DeadLetter| {
                counted.add(letter.reason, &letter.topic_name);
            })?;
            self.facets.by_topic.insert(topic, counted);
        }
        Ok(())
    }
}
