//! Groups: what each listens to, how far it has come, what it has under lease, retrying and held back by order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use escrow_protocol::{GroupName, Offset, Reason, TopicName};

use super::ordering::{Blocked, Gate};
use super::position::{Candidate, Position};
use super::retries::Retries;
use super::timers::{MonoTimer, WallTimer};
use super::trouble::Step;
use super::{ConsumerConnected, Engine, Now, Refusal, Reply, SessionId, Start, Turn, Wanted};
use crate::records::{
    DeadReason, Group as GroupRecord, GroupNumber, GroupSettings, QueueEntry, Subscription, TopicNumber, keys,
};

/// The place of a message within a group.
pub(super) type PlaceInGroup = (TopicNumber, Offset);

/// An ordering key of a topic.
type GateKey = (TopicNumber, String);

/// A message that waits for its next attempt, is about to get it, or has it.
#[derive(Debug, Clone)]
pub(super) struct Retrying {
    pub(super) due_at_ms: u64,
    /// Its timer has not fired yet.
    pub(super) is_planned: bool,
    pub(super) attempts_made: u32,
    pub(super) entry: Arc<QueueEntry>,
}

/// A delivery that is out.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) group: GroupNumber,
    pub(super) candidate: Candidate,
    pub(super) session: SessionId,
    pub(super) client: escrow_protocol::ClientId,
    /// Monotonic.
    pub(super) deadline_ms: u64,
    /// Unix milliseconds.
    pub(super) delivered_at_ms: u64,
    /// Its consumer is gone: nobody may settle it any more, and it is about to be counted as failed.
    pub(super) is_lost: bool,
}

/// A group in memory.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) record: GroupRecord,
    pub(super) positions: BTreeMap<TopicNumber, Position>,
    /// Read before, and free to go (again): released, no longer held back, or due for the next attempt. Goes first.
    pub(super) ready: BTreeMap<PlaceInGroup, Candidate>,
    pub(super) retries: Retries,
    pub(super) leased: BTreeMap<PlaceInGroup, u64>,
    pub(super) gates: HashMap<GateKey, Gate>,
    /// How many of the gates hold something back.
    pub(super) blocked: Blocked,
    /// To be moved to the dead letters in the next turn, for delivering writes nothing.
    pub(super) doomed: VecDeque<(Candidate, DeadReason, String)>,
    pub(super) consumers: Vec<SessionId>,
    /// Whose turn it is.
    pub(super) consumer_turn: usize,
    /// The topic that was read last: the next turn begins behind it.
    pub(super) topic_turn: Option<TopicNumber>,
    /// A broadcast client's own group without its client: when it ends, Unix milliseconds.
    pub(super) idle_until_ms: Option<u64>,
    pub(super) acked: u64,
    pub(super) nacked: u64,
    pub(super) expired_leases: u64,
}

impl Group {
    pub(super) fn new(record: GroupRecord) -> Self {
        Self {
            record,
            positions: BTreeMap::new(),
            ready: BTreeMap::new(),
            retries: Retries::default(),
            leased: BTreeMap::new(),
            gates: HashMap::new(),
            blocked: Blocked::default(),
            doomed: VecDeque::new(),
            consumers: Vec::new(),
            consumer_turn: 0,
            topic_turn: None,
            idle_until_ms: None,
            acked: 0,
            nacked: 0,
            expired_leases: 0,
        }
    }

    fn gate_key(candidate: &Candidate) -> Option<GateKey> {
        candidate.entry.ordering_key.as_ref().map(|key| (candidate.topic, key.clone()))
    }

    /// The gate of a message's ordering key, if it has one; made when there is none.
    pub(super) fn gate_of(&mut self, candidate: &Candidate) -> Option<&mut Gate> {
        let Self { gates, blocked, .. } = self;
        Self::gate_key(candidate).map(|key| gates.entry(key).or_insert_with(|| Gate::counted_in(blocked)))
    }

    /// Something changed for the ordering key of `candidate`: whoever was held back by it may now go.
    pub(super) fn reopen_gate(&mut self, candidate: &Candidate) {
        if let Some(key) = Self::gate_key(candidate) {
            self.reopen_gate_at(&key);
        }
    }

    fn reopen_gate_at(&mut self, key: &GateKey) {
        let policy = self.record.settings.ordering;
        let Some(gate) = self.gates.get_mut(key) else { return };
        if let Some(next) = gate.next(policy) {
            self.ready.insert((next.topic, next.offset), next);
        }
        if gate.is_idle() {
            self.gates.remove(key);
        }
    }

    /// The message at `offset` is no longer for this group: whoever stood behind it may go, also when it was itself
    /// ready to go. Where its entry does not read, any gate of the topic may be its.
    pub(super) fn withdraw_from_gates(
        &mut self,
        topic: TopicNumber,
        offset: Offset,
        entry: Option<&QueueEntry>,
    ) {
        let keys: Vec<GateKey> = match entry {
            Some(entry) => entry.ordering_key.iter().map(|key| (topic, key.clone())).collect(),
            None => self.gates.keys().filter(|(gate_topic, _)| *gate_topic == topic).cloned().collect(),
        };
        for key in keys {
            if let Some(gate) = self.gates.get_mut(&key) {
                gate.unlease(offset);
                gate.stop_retrying(offset);
                gate.forget(offset);
                self.reopen_gate_at(&key);
            }
        }
    }

    /// Every gate of `topic` from the start: used when a seek has changed what is under way.
    pub(super) fn rebuild_gates(&mut self, topic: TopicNumber) {
        self.gates.retain(|(gate_topic, _), _| *gate_topic != topic);
        for ((retry_topic, offset), retrying) in self.retries.iter() {
            if *retry_topic == topic
                && let Some(key) = &retrying.entry.ordering_key
            {
                let gate = self.gates.entry((topic, key.clone()));
                gate.or_insert_with(|| Gate::counted_in(&self.blocked)).start_retrying(*offset);
            }
        }
    }

    /// Everything that order holds back is free to be asked again: the policy has changed.
    pub(super) fn reopen_all_gates(&mut self) {
        for gate in self.gates.values_mut() {
            for candidate in gate.take_waiting() {
                self.ready.insert((candidate.topic, candidate.offset), candidate);
            }
        }
        self.gates.retain(|_, gate| !gate.is_idle());
    }

    /// The retries of `topic` that are due and held back by order.
    pub(super) fn waiting_retries(&self, topic: TopicNumber) -> Vec<Candidate> {
        let gates = self.gates.iter().filter(|((gate_topic, _), _)| *gate_topic == topic);
        let mut retries: Vec<_> =
            gates.flat_map(|(_, gate)| gate.waiting()).filter(|c| c.is_retry).cloned().collect();
        retries.sort_by_key(|candidate| candidate.offset);
        retries
    }

    /// The tags it wants of `topic`, if it listens.
    pub(super) fn tags_of(&self, topic: TopicNumber) -> Option<&[escrow_protocol::Tag]> {
        self.positions.get(&topic).map(|position| position.tags.as_slice())
    }

    /// Brings the stored subscriptions in line with the positions.
    fn refresh_record(&mut self) {
        let subscriptions = self.positions.iter();
        self.record.subscriptions = subscriptions
            .map(|(topic, position)| Subscription { topic: *topic, tags: position.tags.clone() })
            .collect();
    }
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) by_number: BTreeMap<GroupNumber, Group>,
    pub(super) by_name: BTreeMap<GroupName, GroupNumber>,
    /// All that is out, by token.
    pub(super) leases: BTreeMap<u64, Lease>,
    next_token: u64,
    /// Leases of consumers that are gone: each is to be counted as a failed attempt.
    pub(super) lost: VecDeque<u64>,
    /// Positions that differ from what is stored.
    dirty: BTreeSet<(GroupNumber, TopicNumber)>,
    /// Groups that may have something to deliver.
    pub(super) awake: BTreeSet<GroupNumber>,
    /// Groups with something to move to the dead letters.
    pub(super) with_doomed: BTreeSet<GroupNumber>,
}

impl Groups {
    /// Tokens are given from `first_token` on.
    pub(super) fn new(first_token: u64) -> Self {
        Self {
            by_number: BTreeMap::new(),
            by_name: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_token: first_token,
            lost: VecDeque::new(),
            dirty: BTreeSet::new(),
            awake: BTreeSet::new(),
            with_doomed: BTreeSet::new(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<GroupNumber, Refusal> {
        self.by_name.get(name).copied().ok_or_else(|| {
            Refusal::new(
                Reason::UnknownGroup,
                format!(
                    "there is no group {name:?}; create it with `escrow group create {name} --topic <topic>`"
                ),
            )
            .with("group", name)
        })
    }

    /// A group that must exist.
    pub(super) fn known(&self, number: GroupNumber) -> &Group {
        self.by_number.get(&number).expect("a number in use belongs to a group")
    }

    pub(super) fn known_mut(&mut self, number: GroupNumber) -> &mut Group {
        self.by_number.get_mut(&number).expect("a number in use belongs to a group")
    }

    pub(super) fn take_token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }

    pub(super) fn give_tokens_behind(&mut self, before: &Self) {
        self.next_token = self.next_token.max(before.next_token);
    }

    pub(super) fn touch(&mut self, group: GroupNumber, topic: TopicNumber) {
        self.dirty.insert((group, topic));
    }

    /// Writes every position that changed in this turn, once.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) {
        for (number, topic) in std::mem::take(&mut self.dirty) {
            let position = self.by_number.get(&number).and_then(|group| group.positions.get(&topic));
            if let Some(position) = position {
                turn.put(keys::progress(number, topic), &position.progress());
            }
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }
}

impl Engine {
    /// A message arrived in `topic`: whoever listens has something to do.
    pub(super) fn wake_subscribers(&mut self, topic: TopicNumber) {
        let groups = &self.topics.known(topic).groups;
        self.groups.awake.extend(groups.iter().copied());
    }

    /// A consumer said hello.
    pub(super) fn join(&mut self, now: Now, turn: &mut Turn<'_>, hello: ConsumerConnected) -> Step<Reply> {
        self.sessions.admit(hello.session, self.settings.limits.sessions_max)?;
        let name = match hello.broadcast {
            false => hello.group.clone(),
            true => broadcast_group(&hello)?,
        };
        let number = match self.groups.find(name.as_str()) {
            Ok(number) => {
                self.refuse_other_sort(number, hello.broadcast)?;
                self.join_existing(now, turn, number, &hello)?;
                number
            }
            Err(refusal) if !self.settings.groups.create_on_use && !hello.broadcast => {
                return Err(refusal.into());
            }
            Err(_) if hello.subscriptions.is_empty() => {
                return Err(Refusal::invalid(
                    "subscriptions",
                    format!("group {name:?} does not exist yet: name at least one topic to make it"),
                )
                .into());
            }
            Err(_) => {
                // Not all of a broadcast need be replayed to a client that is new: the default start is the newest.
                let start = match (hello.broadcast, hello.start) {
                    (true, Start::Oldest) => Start::Newest,
                    (_, start) => start,
                };
                self.make_group(now, turn, name.clone(), &hello.subscriptions, None, start, hello.broadcast)?
            }
        };
        let group = self.groups.known_mut(number);
        group.consumers.push(hello.session);
        group.idle_until_ms = None;
        let lease_ms = group.record.settings.lease_ms;
        self.sessions.consumers.insert(
            hello.session,
            super::sessions::ConsumerSession {
                client: hello.client,
                group: number,
                group_name: name.clone(),
                credit_messages: 0,
                credit_bytes: 0,
                leases: BTreeSet::new(),
                detached: hello.detached,
                connected_at_ms: now.unix_ms,
                address: hello.address,
            },
        );
        Ok(Reply::Joined { group: name, lease_ms })
    }

    /// A broadcast client's own group is nobody else's, and an ordinary group is no broadcast client's own.
    fn refuse_other_sort(&self, number: GroupNumber, broadcast: bool) -> Result<(), Refusal> {
        let record = &self.groups.known(number).record;
        if record.broadcast == broadcast {
            return Ok(());
        }
        let fault = match record.broadcast {
            true => "belongs to one client of a broadcast: join with broadcast, or choose another group",
            false => "is an ordinary group: choose another group or client id for the broadcast",
        };
        Err(Refusal::new(Reason::SubscriptionMismatch, format!("group {:?} {fault}", record.name))
            .with("group", &record.name))
    }

    fn join_existing(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        hello: &ConsumerConnected,
    ) -> Step<()> {
        let group = self.groups.known(number);
        for wanted in &hello.subscriptions {
            let Some(topic) = self.topics.by_name.get(&wanted.topic) else { continue };
            match group.tags_of(*topic) {
                Some(tags) if tags != wanted.tags.as_slice() => {
                    return Err(Refusal::new(
                        Reason::SubscriptionMismatch,
                        format!(
                            "group {:?} listens to topic {:?} with tags {tags:?}, this consumer asks for {:?}; use the \
                             same tags, or change them with `escrow group update`",
                            group.record.name, wanted.topic, wanted.tags
                        ),
                    )
                    .with("topic", &wanted.topic)
                    .into());
                }
                _ => {}
            }
        }
        self.subscribe(now, turn, number, &hello.subscriptions, hello.start)
    }

    /// The topics a group wants: known, or made now if the settings say so. Checks before anything changes.
    pub(super) fn check_wanted(&self, wanted: &[Wanted]) -> Result<(), Refusal> {
        let mut new_topics = BTreeSet::new();
        for wanted in wanted {
            match self.topics.find(wanted.topic.as_str()) {
                Ok(_) => {}
                Err(refusal)
                    if !self.settings.topics.create_on_use || wanted.topic.is_dead_letter_topic() =>
                {
                    return Err(refusal);
                }
                Err(_) => {
                    new_topics.insert(&wanted.topic);
                }
            }
        }
        self.room_for_topics(new_topics.len())
    }

    /// Makes a group with its dead-letter topic. The name is free.
    #[allow(clippy::too_many_arguments, reason = "each is a field of the new group")]
    pub(super) fn make_group(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        name: GroupName,
        wanted: &[Wanted],
        settings: Option<GroupSettings>,
        start: Start,
        broadcast: bool,
    ) -> Step<GroupNumber> {
        self.check_wanted(wanted)?;
        let new_topics =
            wanted.iter().filter(|wanted| !self.topics.by_name.contains_key(&wanted.topic)).count();
        self.room_for_topics(new_topics + 1)?;
        // A damaged record refuses the whole, before anything has changed.
        for topic in wanted.iter().filter_map(|wanted| self.topics.by_name.get(&wanted.topic)) {
            self.start_of(turn, *topic, start)?;
        }
        let max = self.settings.limits.groups_max;
        if self.groups.by_number.len() >= max {
            return Err(Refusal::new(
                Reason::LimitReached,
                format!(
                    "there are {max} groups, as many as `limits.groups_max` allows; delete some or raise it"
                ),
            )
            .with("limit", "limits.groups_max")
            .into());
        }
        let dead_letters: TopicName = name.dead_letter_topic().map_err(|error| {
            Refusal::invalid("group", format!("its dead-letter topic needs a name, too: {error}"))
        })?;

        self.counters_mut().group += 1;
        let number = GroupNumber(self.counters.group);
        let dead_letters = self.make_topic(now, turn, dead_letters, Default::default(), Some(number));
        let record = GroupRecord {
            name: name.clone(),
            settings: settings.unwrap_or_else(|| self.settings.groups.settings.clone()),
            paused: false,
            broadcast,
            created_at_ms: now.unix_ms,
            subscriptions: Vec::new(),
            dead_letters,
        };
        self.groups.by_number.insert(number, Group::new(record));
        self.groups.by_name.insert(name, number);
        self.subscribe(now, turn, number, wanted, start)?;
        self.write_group(turn, number);
        Ok(number)
    }

    /// Adds what a group does not listen to yet.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        wanted: &[Wanted],
        start: Start,
    ) -> Step<()> {
        self.check_wanted(wanted)?;
        let mut added = Vec::new();
        for wanted in wanted {
            let topic = self.topics.by_name.get(&wanted.topic).copied();
            if topic.is_some_and(|topic| self.groups.known(number).positions.contains_key(&topic)) {
                continue;
            }
            // Found before anything changes: a damaged record refuses the whole.
            let floor = match topic {
                Some(topic) => self.start_of(turn, topic, start)?,
                None => Offset(0),
            };
            added.push((wanted, topic, floor));
        }
        if added.is_empty() {
            return Ok(());
        }
        for (wanted, topic, floor) in added {
            let topic = topic.unwrap_or_else(|| {
                self.make_topic(now, turn, wanted.topic.clone(), Default::default(), None)
            });
            let position = Position::at(floor, wanted.tags.clone());
            self.groups.known_mut(number).positions.insert(topic, position);
            self.topics.known_mut(topic).groups.insert(number);
            // A message redriven while the group did not listen comes from the queue now, or stays a retry.
            self.move_position(turn, number, topic, floor)?;
        }
        self.write_group(turn, number);
        Ok(())
    }

    fn start_of(&self, turn: &Turn<'_>, topic: TopicNumber, start: Start) -> Step<Offset> {
        let tail = self.topics.known(topic).tail;
        match start {
            Start::Oldest => Ok(tail.head),
            Start::Newest => Ok(tail.next),
            Start::Time(time_ms) => self.offset_at_time(turn, topic, time_ms),
        }
    }

    pub(super) fn write_group(&mut self, turn: &mut Turn<'_>, number: GroupNumber) {
        let group = self.groups.known_mut(number);
        group.refresh_record();
        turn.put(keys::group(number), &group.record);
    }

    /// A group stops listening to a topic: what it has of it under way ends.
    pub(super) fn unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        topic: TopicNumber,
    ) -> Step<()> {
        self.revoke_leases(number, topic);
        self.end_retries(turn, number, |place| place.0 == topic)?;
        let group = self.groups.known_mut(number);
        group.positions.remove(&topic);
        group.ready.retain(|place, _| place.0 != topic);
        group.doomed.retain(|(candidate, ..)| candidate.topic != topic);
        group.rebuild_gates(topic);
        turn.delete(keys::progress(number, topic));
        if let Some(topic_state) = self.topics.by_number.get_mut(&topic) {
            topic_state.groups.remove(&number);
            self.topics.to_trim.insert(topic);
        }
        Ok(())
    }

    /// Ends the leases of a group in a topic without settling them: their tokens are stale from now on. Fresh messages
    /// are free for whoever reads them next; retries stay retries.
    pub(super) fn revoke_leases(&mut self, number: GroupNumber, topic: TopicNumber) {
        let group = self.groups.known(number);
        let range = (topic, Offset(0))..=(topic, Offset(u64::MAX));
        let tokens: Vec<u64> = group.leased.range(range).map(|(_, token)| *token).collect();
        for token in tokens {
            self.take_lease(token);
        }
    }

    /// Removes a lease from all that know of it. Its message is nowhere then: the caller puts it somewhere.
    pub(super) fn take_lease(&mut self, token: u64) -> Option<Lease> {
        let lease = self.groups.leases.remove(&token)?;
        self.timers.cancel_mono(lease.deadline_ms, MonoTimer::Lease(token));
        if let Some(consumer) = self.sessions.consumers.get_mut(&lease.session) {
            consumer.leases.remove(&token);
        }
        let group = self.groups.known_mut(lease.group);
        group.leased.remove(&(lease.candidate.topic, lease.candidate.offset));
        if let Some(gate) = group.gate_of(&lease.candidate) {
            gate.unlease(lease.candidate.offset);
        }
        self.groups.awake.insert(lease.group);
        Some(lease)
    }

    /// Ends the retries of a group that `which` names: their records, timers and holds go.
    pub(super) fn end_retries(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        which: impl Fn(&PlaceInGroup) -> bool,
    ) -> Step<u64> {
        let group = self.groups.known(number);
        let ended: Vec<PlaceInGroup> = group.retries.keys().copied().filter(which).collect();
        for place in &ended {
            self.end_retry(turn, number, *place)?;
        }
        Ok(ended.len() as u64)
    }

    /// Ends one retry, if there is one: its record, timer and hold go.
    pub(super) fn end_retry(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        place: PlaceInGroup,
    ) -> Step<()> {
        let group = self.groups.known_mut(number);
        let Some(retrying) = group.retries.remove(&place) else { return Ok(()) };
        group.ready.remove(&place);
        let (topic, offset) = place;
        if retrying.is_planned {
            self.timers.cancel(retrying.due_at_ms, WallTimer::Retry(number, topic, offset));
        }
        turn.delete(keys::retry(topic, offset, number));
        self.release_hold(turn, topic, offset, &retrying.entry)
    }

    /// Removes a group with all it has; its dead-letter topic goes, too.
    pub(super) fn remove_group(&mut self, turn: &mut Turn<'_>, number: GroupNumber) -> Step<(u64, u64)> {
        let group = self.groups.known(number);
        let topics: Vec<TopicNumber> = group.positions.keys().copied().collect();
        let dead_letters = group.record.dead_letters;
        let consumers = group.consumers.clone();
        // What is redriven may be of topics it does not listen to any more.
        let under_way: BTreeSet<TopicNumber> = group.leased.keys().map(|place| place.0).collect();
        for topic in under_way {
            self.revoke_leases(number, topic);
        }
        let retries = self.end_retries(turn, number, |_| true)?;
        for topic in topics {
            self.unsubscribe(turn, number, topic)?;
        }
        for session in consumers {
            self.sessions.consumers.remove(&session);
            let reason = "the group was deleted".to_owned();
            turn.effects.push(super::Effect::Close(session, reason));
        }
        let letters = self.topics.known(dead_letters).tail.dead_letters;
        self.delete_topic_number(turn, dead_letters)?;
        let group = self.groups.by_number.remove(&number).expect("the group is known");
        self.groups.by_name.remove(&group.record.name);
        self.groups.awake.remove(&number);
        self.groups.with_doomed.remove(&number);
        turn.delete(keys::group(number));
        Ok((retries, letters))
    }

    /// The last consumer of a broadcast client's own group has gone: the group waits a while for it.
    pub(super) fn watch_broadcast(&mut self, now: Now, number: GroupNumber) {
        let Some(group) = self.groups.by_number.get_mut(&number) else { return };
        if group.record.broadcast && group.consumers.is_empty() {
            let at_ms = now.unix_ms.saturating_add(self.settings.groups.broadcast_idle_ms);
            group.idle_until_ms = Some(at_ms);
            self.timers.plan(at_ms, WallTimer::BroadcastIdle(number));
        }
    }
}

/// The own group of a broadcast client.
fn broadcast_group(hello: &ConsumerConnected) -> Result<GroupName, Refusal> {
    GroupName::new(&format!("{}.{}", hello.group, hello.client)).map_err(|error| {
        Refusal::invalid(
            "client_id",
            format!("with broadcast, group and client id together name a group: {error}"),
        )
    })
}
