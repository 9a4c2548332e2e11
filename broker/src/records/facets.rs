//! How many dead letters of a group died of what, and came from where: written when one comes or goes, so that nobody
//! need read them all to know.

use std::collections::BTreeMap;

use escrow_protocol::TopicName;

use super::delivery::{read_dead_reason, write_dead_reason};
use super::{DeadReason, DecodeError, Reader, Record, Writer};

/// See the module. A count of zero is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// By what they died of.
    pub reasons: BTreeMap<DeadReason, u64>,
    /// By the topic they came from.
    pub topics: BTreeMap<TopicName, u64>,
}

impl Facets {
    /// One more.
    pub fn add(&mut self, reason: DeadReason, topic: &TopicName) {
        *self.reasons.entry(reason).or_default() += 1;
        *self.topics.entry(topic.clone()).or_default() += 1;
    }

    /// One less.
    pub fn remove(&mut self, reason: DeadReason, topic: &TopicName) {
        take_one(&mut self.reasons, &reason);
        take_one(&mut self.topics, topic);
    }

    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.reasons.values().sum()
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Record for Facets {
    const NAME: &'static str = "facets of dead letters";

    fn write(&self, to: &mut Writer) {
        to.int(self.reasons.len() as u64);
        for (reason, count) in &self.reasons {
            write_dead_reason(to, *reason);
            to.int(*count);
        }
        to.int(self.topics.len() as u64);
        for (topic, count) in &self.topics {
            to.text(topic.as_str());
            to.int(*count);
        }
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let reasons = from.list(|from| Ok((read_dead_reason(from)?, from.int()?)))?;
        let topics = from.list(|from| Ok((from.name()?, from.int()?)))?;
        let facets = Self { reasons: reasons.into_iter().collect(), topics: topics.into_iter().collect() };
        match facets.reasons.values().chain(facets.topics.values()).all(|count| *count > 0) {
            true => Ok(facets),
            false => Err(from.fault("a count is zero")),
        }
    }
}
