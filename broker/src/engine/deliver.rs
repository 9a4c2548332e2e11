//! Handing out: for each group with consumers that have credit, what is ready goes out under leases. Writes nothing:
//! leases are memory, and what it finds out (filtered, expired) is written by the next turn.

use std::sync::Arc;

use escrow_protocol::{LeaseToken, Offset};
use escrow_storage::{Read, ReadError};

use super::groups::Lease;
use super::ordering::Admission;
use super::position::Candidate;
use super::sabotage::{Fault, planted};
use super::timers::MonoTimer;
use super::turn::decode;
use super::{Delivery, Effect, Engine, Now, SessionId};
use crate::records::{DeadReason, GroupNumber, QueueEntry, TopicNumber, keys};

impl Engine {
    /// See [`Engine::deliver`].
    pub(super) fn hand_out(&mut self, now: Now, view: &dyn Read) -> Result<Vec<Effect>, ReadError> {
        let mut effects = Vec::new();
        let max = self.settings.limits.deliveries_per_turn_max;
        self.pages_left = self.settings.limits.pages_per_turn_max;
        // From where the last turn stopped, so that no group starves when there is more than a turn can hand out.
        let mut groups: Vec<GroupNumber> = self.groups.awake.iter().copied().collect();
        let start = groups.partition_point(|group| Some(*group) <= self.last_served);
        groups.rotate_left(start);
        for number in groups {
            self.last_served = Some(number);
            let is_done = self.serve(now, view, number, max, &mut effects)?;
            if !is_done {
                break;
            }
            self.groups.awake.remove(&number);
        }
        Ok(effects)
    }

    /// Serves one group. Returns whether there is nothing more to do for it.
    fn serve(
        &mut self,
        now: Now,
        view: &dyn Read,
        number: GroupNumber,
        max: usize,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, ReadError> {
        if self
            .groups
            .by_number
            .get(&number)
            .is_none_or(|group| group.record.paused && !planted(Fault::PauseIgnored))
        {
            return Ok(true);
        }
        while self.has_credit(number) {
            if effects.len() >= max {
                return Ok(false);
            }
            // Out of pages is not out of messages: the next turn goes on.
            let Some(candidate) = self.next_candidate(view, number)? else { return Ok(self.pages_left > 0) };
            if !self.may_go(now, number, &candidate) {
                continue;
            }
            let Some(session) = self.choose_consumer(number, candidate.entry.body_bytes) else {
                // Nobody has room for one of this size now: it stays first.
                let group = self.groups.known_mut(number);
                group.ready.insert((candidate.topic, candidate.offset), candidate);
                return Ok(true);
            };
            effects.push(Effect::Deliver(self.lease(now, number, session, candidate)));
        }
        Ok(true)
    }

    fn has_credit(&self, number: GroupNumber) -> bool {
        let consumers = &self.groups.known(number).consumers;
        consumers.iter().any(|session| self.sessions.consumers[session].has_credit_for(0))
    }

    /// What goes next: first what was read before, then the topics in turn.
    fn next_candidate(
        &mut self,
        view: &dyn Read,
        number: GroupNumber,
    ) -> Result<Option<Candidate>, ReadError> {
        let limits = self.settings.limits;
        let group = self.groups.known_mut(number);
        if let Some((_, candidate)) = group.ready.pop_first() {
            return Ok(Some(candidate));
        }
        if group.retries.len() >= limits.retrying_per_group_max {
            return Ok(None);
        }
        let topics: Vec<TopicNumber> = group.positions.keys().copied().collect();
        let start = topics.partition_point(|topic| Some(*topic) <= group.topic_turn);
        for step in 0..topics.len() {
            let topic = topics[(start + step) % topics.len()];
            if let Some(candidate) = self.next_of_topic(view, number, topic)? {
                self.groups.known_mut(number).topic_turn = Some(topic);
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn next_of_topic(
        &mut self,
        view: &dyn Read,
        number: GroupNumber,
        topic: TopicNumber,
    ) -> Result<Option<Candidate>, ReadError> {
        loop {
            let position = self.position_mut(number, topic);
            if let Some(candidate) = position.pop() {
                return Ok(Some(candidate));
            }
            if self.pages_left == 0 || !self.read_ahead(view, number, topic)? {
                return Ok(None);
            }
            self.pages_left -= 1;
        }
    }

    fn position_mut(&mut self, number: GroupNumber, topic: TopicNumber) -> &mut super::position::Position {
        let group = self.groups.known_mut(number);
        group.positions.get_mut(&topic).expect("the group listens to the topic")
    }

    /// Reads a page of a topic for a group. What the group does not want, or has finished, is passed over. Returns
    /// whether anything was read.
    fn read_ahead(
        &mut self,
        view: &dyn Read,
        number: GroupNumber,
        topic: TopicNumber,
    ) -> Result<bool, ReadError> {
        let next = self.topics.known(topic).tail.next;
        let limits = self.settings.limits;
        let position = self.position_mut(number, topic);
        let from = position.next_read();
        if from >= next || position.window() >= limits.window_max {
            return Ok(false);
        }
        let until = Offset(next.0.min(from.0 + limits.page as u64));
        let entries = self.read_entries(view, topic, from, until)?;

        let mut page = Vec::with_capacity(entries.len());
        let mut unwanted = Vec::new();
        let position = self.position_mut(number, topic);
        for (at, entry) in (from.0..until.0).zip(entries) {
            let offset = Offset(at);
            if position.is_finished(offset) {
                continue;
            }
            match entry {
                Some(entry) if entry.resolution.is_none() && position.wants(entry.tag.as_ref()) => {
                    let entry = Arc::new(entry);
                    page.push(Candidate { topic, offset, entry, attempts_made: 0, is_retry: false });
                }
                _ => unwanted.push(offset),
            }
        }
        position.take_in(page, until);
        let mut floor_moved = false;
        for offset in &unwanted {
            floor_moved |= position.finish(*offset);
        }
        if !unwanted.is_empty() {
            self.groups.touch(number, topic);
        }
        if floor_moved {
            self.topics.to_trim.insert(topic);
        }
        Ok(true)
    }

    /// The entries of a topic from `from` to `until`, one for each offset. Offsets are dense: what is missing or does
    /// not read is reported, and `None`.
    fn read_entries(
        &mut self,
        view: &dyn Read,
        topic: TopicNumber,
        from: Offset,
        until: Offset,
    ) -> Result<Vec<Option<QueueEntry>>, ReadError> {
        let count = (until.0 - from.0) as usize;
        match view.scan(&keys::queue_range(topic, from, until), count) {
            Ok(found) if found.len() == count => {
                Ok(found.into_iter().map(|(key, value)| self.decode_or_report(&key, value)).collect())
            }
            Ok(_) | Err(ReadError::Corrupt { .. }) => {
                (from.0..until.0).map(|at| self.read_entry(view, topic, Offset(at))).collect()
            }
            Err(error) => Err(error),
        }
    }

    fn read_entry(
        &mut self,
        view: &dyn Read,
        topic: TopicNumber,
        at: Offset,
    ) -> Result<Option<QueueEntry>, ReadError> {
        let key = keys::queue(topic, at);
        match view.get(&key) {
            Ok(Some(value)) => Ok(self.decode_or_report(&key, value)),
            Ok(None) => {
                self.report_damaged(&key, "an offset of the topic is missing: offsets are dense");
                Ok(None)
            }
            Err(ReadError::Corrupt { fault, .. }) => {
                self.report_damaged(&key, &fault);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn decode_or_report(&mut self, key: &[u8], value: bytes::Bytes) -> Option<QueueEntry> {
        match decode(key, value) {
            Ok(entry) => Some(entry),
            Err(error) => {
                self.report_damaged(key, &error.to_string());
                None
            }
        }
    }

    /// Whether nothing holds a message back. What has outlived its time, or is doomed by its ordering key, is noted for
    /// the next turn; what must wait, waits.
    fn may_go(&mut self, now: Now, number: GroupNumber, candidate: &Candidate) -> bool {
        let group = self.groups.known_mut(number);
        let expires_at_ms = candidate.entry.expires_at_ms;
        if expires_at_ms != 0 && expires_at_ms <= now.unix_ms && !planted(Fault::TimeToLiveIgnored) {
            let error = "its time to live was over before it was delivered".to_owned();
            group.doomed.push_back((candidate.clone(), DeadReason::Expired, error));
            self.groups.with_doomed.insert(number);
            return false;
        }
        let policy = group.record.settings.ordering;
        let Some(gate) = group.gate_of(candidate) else { return true };
        match gate.admit(candidate, policy) {
            Admission::Deliver => true,
            Admission::Wait => {
                gate.wait(candidate.clone());
                false
            }
            Admission::Doom { behind } => {
                let error = format!("an earlier message of its ordering key, at offset {behind}, has failed");
                group.doomed.push_back((candidate.clone(), DeadReason::OrderingKeyFailed, error));
                self.groups.with_doomed.insert(number);
                false
            }
        }
    }

    /// The consumers of a group in turn; only one with credit for a message of this size.
    fn choose_consumer(&mut self, number: GroupNumber, body_bytes: u32) -> Option<SessionId> {
        let group = self.groups.by_number.get_mut(&number)?;
        let count = group.consumers.len();
        let turn = group.consumer_turn;
        let chosen = (0..count)
            .map(|step| (turn + step) % count)
            .find(|at| self.sessions.consumers[&group.consumers[*at]].has_credit_for(body_bytes))?;
        group.consumer_turn = chosen + 1;
        Some(group.consumers[chosen])
    }

    fn lease(&mut self, now: Now, number: GroupNumber, session: SessionId, candidate: Candidate) -> Delivery {
        let token = self.groups.take_token();
        let consumer = self.sessions.consumers.get_mut(&session).expect("the consumer was just chosen");
        consumer.credit_messages -= 1;
        consumer.credit_bytes -= i64::from(candidate.entry.body_bytes);
        consumer.leases.insert(token);
        let client = consumer.client.clone();

        let topic = self.topics.get(candidate.topic);
        let dead_letter = topic.is_some_and(|topic| topic.record.dead_letters_of.is_some());
        let topic_name = topic.map(|topic| topic.record.name.clone());
        let group = self.groups.known_mut(number);
        if let Some(gate) = group.gate_of(&candidate) {
            gate.lease(candidate.offset);
        }
        group.leased.insert((candidate.topic, candidate.offset), token);
        let lease_ms = group.record.settings.lease_ms;
        let deadline_ms = now.mono_ms.saturating_add(lease_ms);
        self.timers.plan_mono(deadline_ms, MonoTimer::Lease(token));

        let attempt = candidate.attempts_made + 1;
        self.counts.deliveries += 1;
        self.counts.redeliveries += u64::from(attempt > 1);
        let entry = Arc::clone(&candidate.entry);
        let delivery = Delivery {
            session,
            group: group.record.name.clone(),
            id: entry.id,
            topic: candidate.topic,
            topic_name,
            offset: candidate.offset,
            attempt,
            token: LeaseToken(token),
            lease_ms,
            at_ms: entry.at_ms,
            transaction: entry.transaction,
            body_bytes: entry.body_bytes,
            dead_letter,
        };
        let lease = Lease {
            group: number,
            candidate,
            session,
            client,
            deadline_ms,
            delivered_at_ms: now.unix_ms,
            is_lost: false,
        };
        self.groups.leases.insert(token, lease);
        delivery
    }
}
