//! Looking at everything at once: what the broker says of itself, what a restart would make of it, and what lies on its
//! disk, against the model.

use std::collections::BTreeMap;

use escrow_broker::engine::{GroupView, Inspect, Seen, StatusView, Whereabout};
use escrow_broker::records::keys::{self, space};
use escrow_broker::records::{GroupNumber, TopicNumber, TransactionState};
use escrow_protocol::{GroupName, MessageId, Offset};

use super::model::{Held, MessageFate, Model, Stand, Standing, Verdict, require};
use super::world::World;

/// What holds of the broker now, or would after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Live,
    Restarted,
}

impl World {
    /// A restart at this moment must come to the same, but for leases and streams.
    pub(super) fn compare_with_twin(&mut self) -> Verdict {
        let now = self.clock.now();
        let mut twin = self.broker.twin(now)?;
        self.compare(View::Live, |world, question| world.broker.inspect(now, question))?;
        self.compare(View::Restarted, |_, question| twin.inspect(now, question))
    }

    fn compare(&mut self, view: View, mut ask: impl FnMut(&mut Self, Inspect) -> Verdict<Seen>) -> Verdict {
        let said = |fault: String| format!("{view:?}: {fault}");
        let Seen::Status(status) = ask(self, Inspect::Status)? else { return Err("no status".into()) };
        self.model.is_its_status(view, &status).map_err(said)?;

        let Seen::Jobs(jobs) = ask(self, Inspect::Jobs { before: None, limit: 1_000 })? else {
            return Err("no jobs".into());
        };
        self.model.are_its_jobs(&jobs).map_err(said)?;

        let names: Vec<GroupName> = self.model.groups.values().map(|group| group.name.clone()).collect();
        for name in names {
            let Seen::Group(seen) = ask(self, Inspect::Group(name))? else { return Err("no group".into()) };
            self.model.is_its_group(view, &seen).map_err(said)?;
        }
        for (topic, offset) in self.model.kept_places() {
            let question = Inspect::Whereabouts { topic, offset };
            let Seen::Whereabouts(seen) = ask(self, question)? else { return Err("no whereabouts".into()) };
            let seen: BTreeMap<GroupName, Whereabout> = seen.into_iter().collect();
            self.model.stands_where(view, (topic, offset), &seen).map_err(said)?;
        }
        Ok(())
    }

    /// At the very end, with all retention over: the disk holds what is still needed, and nothing else.
    pub(super) fn audit_disk(&self) -> Verdict {
        let mut spaces: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
        for (key, _) in self.broker.disk().entries() {
            spaces.entry(key[0]).or_default().push(key.to_vec());
        }
        let of = |space: u8| spaces.get(&space).cloned().unwrap_or_default();
        let (messages, business_keys) = self.model.needed_messages();
        let ids = |space: u8| -> Vec<MessageId> {
            of(space).iter().filter_map(|key| MessageId::from_slice(&key[1..]).ok()).collect()
        };
        same("messages", ids(space::MESSAGE), messages.clone())?;
        same("places", ids(space::PLACE), messages)?;
        same("business keys", of(space::BUSINESS_KEY), business_keys)?;
        let held =
            |space: u8| -> Vec<Held> { of(space).iter().filter_map(|key| keys::held_of(key)).collect() };
        same("dead places", held(space::DEAD_PLACE), self.model.dead_held())?;
        require!(
            of(space::DEAD_LETTER).len() == of(space::DEAD_PLACE).len(),
            "there are {} dead letters and {} places of them",
            of(space::DEAD_LETTER).len(),
            of(space::DEAD_PLACE).len()
        );
        let queue: Vec<_> = of(space::QUEUE).iter().filter_map(|key| keys::queue_of(key)).collect();
        same("queue entries", queue, self.model.needed_queue())?;
        let topics: Vec<_> = of(space::TOPIC).iter().filter_map(|key| keys::topic_of(key)).collect();
        let known: Vec<_> =
            self.model.topics.iter().filter(|(_, it)| !it.deleted).map(|(it, _)| *it).collect();
        same("topics", topics.clone(), known)?;
        let tails: Vec<_> = of(space::TAIL).iter().filter_map(|key| keys::topic_of(key)).collect();
        same("tails", tails, topics)?;
        let groups: Vec<_> = of(space::GROUP).iter().filter_map(|key| keys::group_of(key)).collect();
        same("groups", groups, self.model.groups.keys().copied().collect())?;
        let progress: Vec<_> = of(space::PROGRESS).iter().filter_map(|key| keys::progress_of(key)).collect();
        same("progress", progress, self.model.places_of_groups())?;
        for (space, name) in [
            (space::RETRY, "retries"),
            (space::UNDECIDED, "undecided transactions"),
            (space::DECIDED, "decided transactions"),
            (space::DECIDED_LOG, "logs of decisions"),
            (space::TRANSACTION_KEY, "transaction keys"),
            (space::REMEMBERED, "remembered ids"),
            (space::SCHEDULED, "scheduled messages"),
        ] {
            require!(of(space).is_empty(), "{} {name} are left over on the disk", of(space).len());
        }
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, on_disk: Vec<T>, needed: Vec<T>) -> Verdict {
    let surplus: Vec<&T> = on_disk.iter().filter(|it| !needed.contains(it)).collect();
    let missing: Vec<&T> = needed.iter().filter(|it| !on_disk.contains(it)).collect();
    require!(
        surplus.is_empty() && missing.is_empty(),
        "{what} on the disk: nobody needs {surplus:?}; missing are {missing:?}"
    );
    Ok(())
}

impl Model {
    /// Unresolved dead letters, as a person would list them.
    pub(super) fn dead_letters(&self) -> Vec<(GroupName, Offset)> {
        let letters = self.dead_held_with_place();
        letters.filter_map(|(held, at)| Some((self.groups.get(&held.2)?.name.clone(), at))).collect()
    }

    pub(super) fn is_recovered(&self, recovered: &escrow_broker::engine::Recovered) -> Verdict {
        let undecided = self.transactions.values().filter(|it| !it.state.is_decided()).count();
        require!(recovered.undecided == undecided, "{undecided} transactions are undecided: {recovered:?}");
        let retrying = self.retries_on_disk();
        require!(recovered.retrying == retrying, "{retrying} messages are retrying: {recovered:?}");
        require!(
            recovered.groups == self.groups.len(),
            "there are {} groups: {recovered:?}",
            self.groups.len()
        );
        Ok(())
    }

    fn is_its_status(&self, view: View, status: &StatusView) -> Verdict {
        let count = |state: TransactionState| {
            self.transactions.values().filter(|transaction| transaction.state == state).count() as u64
        };
        let scheduled =
            self.messages.values().filter(|it| matches!(it.fate, MessageFate::Scheduled { .. })).count()
                as u64;
        let seen = (
            status.groups,
            status.undecided,
            status.parked,
            status.retrying,
            status.scheduled,
            status.dead_letters,
        );
        let known = (
            self.groups.len() as u64,
            count(TransactionState::Prepared),
            count(TransactionState::Parked),
            self.retries_on_disk() as u64,
            scheduled,
            self.dead_held().len() as u64,
        );
        require!(
            seen == known,
            "groups, undecided, parked, retrying, scheduled, dead are {known:?}, the status says {seen:?}"
        );
        if view == View::Live {
            require!(
                status.leased == self.leases.len() as u64,
                "{} are leased: {status:?}",
                self.leases.len()
            );
            let waiting = self.waiting_for_checker();
            require!(
                waiting.contains(&status.waiting_for_checker),
                "{waiting:?} transactions wait for a checker, the status says {}",
                status.waiting_for_checker
            );
        }
        Ok(())
    }

    fn is_its_group(&self, view: View, seen: &GroupView) -> Verdict {
        let known = &self.groups[&seen.number];
        require!(
            seen.settings == known.settings && seen.paused == known.paused,
            "group {} is set {seen:?}",
            known.name
        );
        let dead = self.dead_held().iter().filter(|held| held.2 == seen.number).count() as u64;
        require!(seen.dead_letters == dead, "group {} has {dead} dead letters: {seen:?}", known.name);
        let topics: Vec<TopicNumber> = seen.positions.iter().map(|it| it.subscription.topic).collect();
        let listens: Vec<TopicNumber> = known.subscriptions.keys().copied().collect();
        require!(topics == listens, "group {} listens to {listens:?}: {seen:?}", known.name);
        if view == View::Live {
            let leased = self.leases.values().filter(|lease| lease.held.2 == seen.number).count() as u64;
            require!(seen.leased == leased, "group {} has {leased} leases: {seen:?}", known.name);
        }
        Ok(())
    }

    /// Every place whose queue entry is there.
    fn kept_places(&self) -> Vec<(TopicNumber, Offset)> {
        let topics = self.topics.iter().filter(|(_, topic)| !topic.deleted);
        let places = topics.flat_map(|(number, topic)| {
            let kept = topic.places.iter().filter(|(_, placed)| !placed.trimmed);
            kept.map(|(offset, _)| (*number, *offset))
        });
        places.collect()
    }

    fn stands_where(
        &self,
        view: View,
        (topic, offset): (TopicNumber, Offset),
        seen: &BTreeMap<GroupName, Whereabout>,
    ) -> Verdict {
        for (number, group) in &self.groups {
            let Some(stand) = self.stand((topic, offset, *number)) else { continue };
            let said = seen.get(&group.name);
            let listens = group.subscriptions.contains_key(&topic);
            let right = match said {
                None => !listens && !matches!(stand.standing, Standing::Retrying | Standing::Leased(_)),
                Some(said) => self.is_there(view, (topic, offset, *number), stand, said),
            };
            require!(
                right,
                "group {} stands with offset {offset} of topic {topic:?} at {stand:?}, it says {said:?}",
                group.name
            );
        }
        Ok(())
    }

    fn is_there(&self, view: View, held: Held, stand: Stand, said: &Whereabout) -> bool {
        let retrying = |said: &Whereabout| match said {
            Whereabout::Retrying { due_at_ms, attempts_made } => {
                *attempts_made == stand.attempts_made && (*due_at_ms == stand.due_at_ms || stand.redriven)
            }
            _ => false,
        };
        match (stand.standing, view) {
            (Standing::Leased(_), View::Live) => {
                matches!(said, Whereabout::Leased { attempt, .. } if *attempt == stand.attempts_made + 1)
            }
            (Standing::Leased(token), View::Restarted) => match self.leases[&token].was_retrying {
                true => retrying(said),
                false => *said == Whereabout::Waiting,
            },
            (Standing::Waiting, _) => *said == Whereabout::Waiting,
            (Standing::Retrying, _) => retrying(said),
            (Standing::Dead(at), _) => {
                matches!(said, Whereabout::Dead { offset, .. } if *offset == at)
                    || self.groups[&held.2].replayed.contains(&held)
            }
            // What a filter passes over is known as finished once it was read. A replayed dead letter, too.
            (Standing::Finished, _) => match said {
                Whereabout::Finished => true,
                Whereabout::Waiting if self.is_resolved(held) => true,
                Whereabout::Waiting => {
                    !stand.acked && !self.groups[&held.2].stands.contains_key(&(held.0, held.1))
                }
                Whereabout::Dead { .. } => {
                    self.groups[&held.2].replayed.contains(&held) || self.is_dead(held)
                }
                _ => false,
            },
        }
    }

    /// A dead letter that was redriven or discarded: a reader of the dead-letter topic passes over it.
    fn is_resolved(&self, held: Held) -> bool {
        self.placed(held.0, held.1).is_some_and(|placed| placed.resolution.is_some())
    }

    /// The ids that something needs once all retention is over, and the keys they are filed under.
    fn needed_messages(&self) -> (Vec<MessageId>, Vec<Vec<u8>>) {
        let held = self.dead_held();
        let needed = self.messages.iter().filter(|(_, message)| {
            message
                .places
                .iter()
                .any(|(topic, offset)| held.iter().any(|held| (held.0, held.1) == (*topic, *offset)))
        });
        let mut business_keys = Vec::new();
        let mut ids = Vec::new();
        for (id, message) in needed {
            ids.push(*id);
            business_keys.extend(message.stub.key_hash.map(|hash| keys::business_key(hash, *id).to_vec()));
        }
        (ids, business_keys)
    }

    /// Dead-letter topics keep all from their first unresolved letter on, for offsets are dense.
    fn needed_queue(&self) -> Vec<(TopicNumber, Offset)> {
        let mut needed = Vec::new();
        for (number, topic) in self.topics.iter().filter(|(_, topic)| !topic.deleted) {
            let first = topic
                .places
                .iter()
                .find(|(_, placed)| topic.dead_letters_of.is_some() && placed.resolution.is_none());
            if let Some((first, _)) = first {
                needed.extend(topic.places.range(first..).map(|(offset, _)| (*number, *offset)));
            }
        }
        needed
    }

    fn places_of_groups(&self) -> Vec<(GroupNumber, TopicNumber)> {
        let groups = self.groups.iter();
        groups.flat_map(|(number, group)| group.subscriptions.keys().map(|topic| (*number, *topic))).collect()
    }

    /// What keeps the broker from being quiet, in words; `None` if nothing does.
    pub(super) fn unrest(&self) -> Option<String> {
        if let Some((id, it)) = self.transactions.iter().find(|(_, it)| !it.state.is_decided()) {
            return Some(format!("transaction {id} is {:?}", it.state));
        }
        let scheduled = self.messages.iter().find(|(_, it)| matches!(it.fate, MessageFate::Scheduled { .. }));
        if let Some((id, message)) = scheduled {
            return Some(format!("message {id} is {:?}", message.fate));
        }
        if let Some(lease) = self.leases.values().next() {
            return Some(format!("{lease:?} is out"));
        }
        for number in self.groups.keys() {
            for (topic, model) in &self.topics {
                for offset in model.places.keys() {
                    let Some(stand) = self.stand((*topic, *offset, *number)) else { continue };
                    if matches!(stand.standing, Standing::Waiting | Standing::Retrying) {
                        return Some(format!(
                            "group {} stands with offset {offset} of topic {} at {stand:?}",
                            self.groups[number].name, model.name
                        ));
                    }
                }
            }
        }
        None
    }
}
