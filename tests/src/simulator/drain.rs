//! The end of a run: nothing fails any more, consumers ack, checkers know, people settle what is parked. Then
//! everything that was committed must have come to every group, or lie in its dead letters; and when all retention is
//! over, the disk must be clean.

use escrow_broker::engine::Command;
use escrow_broker::records::{Decision, TransactionState};
use escrow_protocol::{TopicName, TransactionId};

use super::agenda::Act;
use super::model::Verdict;
use super::persons::PersonAct;
use super::world::World;

/// How often people look whether something is left to do, milliseconds.
const LOOK_MS: u64 = 20_000;
/// Looks until the broker must be quiet: four hours.
const LOOKS_MAX: u64 = 720;
/// Longer than any retention.
const RETENTION_MS: u64 = 3 * 3_600_000;

impl World {
    pub(super) fn drain(&mut self) -> Verdict {
        self.is_draining = true;
        self.broker.set_room(false);
        self.be_quiet()?;
        self.compare_with_twin()?;
        self.run_until(self.clock.elapsed_ms() + RETENTION_MS)?;
        // What was stored before the clock was set back, more than once perhaps, is kept by that much longer.
        self.run_until(self.clock.elapsed_ms() + self.clock.set_back_ms())?;
        self.be_quiet()?;
        self.compare_with_twin()?;
        self.audit_disk()
    }

    fn be_quiet(&mut self) -> Verdict {
        for _ in 0..LOOKS_MAX {
            self.run_until(self.clock.elapsed_ms() + LOOK_MS)?;
            // A paused group reads on no further: it keeps even what it does not want.
            let is_paused = self.model.groups.values().any(|group| group.paused);
            if self.model.unrest().is_none() && !is_paused && self.broker.is_running() {
                return Ok(());
            }
            self.settle_parked();
            self.resume_paused();
            self.make_missing_topics();
        }
        let unrest = self.model.unrest().unwrap_or_else(|| "it does not run".into());
        Err(format!("all are healthy, and after hours the broker has not come to rest: {unrest}"))
    }

    fn resume_paused(&mut self) {
        let paused = self.model.groups.values().filter(|group| group.paused);
        for name in paused.map(|group| group.name.clone()).collect::<Vec<_>>() {
            let resume = Command::SetPaused { name, paused: false };
            self.later(1, Act::Person(PersonAct::Order(Box::new(resume))));
        }
    }

    /// Consumers that listen to a topic which somebody deleted are refused, told to create it, and kept from their other
    /// topics meanwhile: people do as they are told.
    fn make_missing_topics(&mut self) {
        let is_there =
            |name: &TopicName| self.model.topics.values().any(|topic| !topic.deleted && topic.name == *name);
        let missing: Vec<_> = self.plan.topics.iter().filter(|(name, _)| !is_there(name)).cloned().collect();
        for (name, settings) in missing {
            let create = Command::CreateTopic { name, settings };
            self.later(1, Act::Person(PersonAct::Order(Box::new(create))));
        }
    }

    fn settle_parked(&mut self) {
        let parked = self.model.transactions.iter().filter(|(_, it)| it.state == TransactionState::Parked);
        for id in parked.map(|(id, _)| *id).collect::<Vec<TransactionId>>() {
            self.later(1, Act::Person(PersonAct::Decide(id, Decision::Commit)));
        }
    }
}
