//! The engine as the store says it was: the same records that live turns write, read through the same code. Writes
//! nothing; what cannot be read is reported and left alone.

use std::sync::Arc;

use escrow_storage::{KeyRange, Read, ReadError, Room};

use super::checks::{Kinds, Questions};
use super::groups::{Group, Groups, Retrying};
use super::position::{Candidate, Position};
use super::publish::{Deduplication, Schedule};
use super::sabotage::{Fault, planted};
use super::sessions::Sessions;
use super::timers::{Timers, WallTimer};
use super::topics::{Topic, Topics};
use super::transactions::Transactions;
use super::trouble::Trouble;
use super::turn::{behind, decode, hex, key_in};
use super::{Boot, Counts, Engine, Now, Recovered, Turn};
use crate::records::{
    Counters, DecidedLog, Group as GroupRecord, Progress, Record, Remembered, Retry, Tail,
    Topic as TopicRecord, Transaction, keys,
};

/// Records read at a time.
const PAGE: usize = 1024;
/// Lease tokens and question numbers: 8 bits shard, 16 bits claim, 40 bits counter.
const COUNTER_BITS: u32 = 40;
const EPOCH_MASK: u64 = 0xffff;

impl Engine {
    pub(super) fn rebuild(boot: Boot, now: Now, view: &dyn Read) -> Result<(Self, Recovered), ReadError> {
        let Boot { shard, epoch, seed, settings } = boot;
        let epoch = if planted(Fault::TokenReusedAfterRestart) { 0 } else { epoch.0 };
        let first_token = u64::from(shard.0) << 56 | (epoch & EPOCH_MASK) << COUNTER_BITS | 1;
        let retention = settings.retention;
        let mut engine = Self {
            shard,
            rng: fastrand::Rng::with_seed(seed),
            counters: Counters::default(),
            counters_dirty: false,
            topics: Topics::default(),
            groups: Groups::new(first_token),
            transactions: Transactions::new(retention.decided_ms, retention.decided_max),
            kinds: Kinds::default(),
            questions: Questions::new(first_token),
            deduplication: Deduplication::new(retention.ids_ms, retention.ids_max),
            schedule: Schedule::default(),
            sessions: Sessions::default(),
            timers: Timers::default(),
            last_served: None,
            accepting: true,
            counts: Counts::default(),
            reports: Vec::new(),
            settings,
        };
        engine.recover_counters(view)?;
        engine.recover_topics(view)?;
        engine.recover_groups(now, view)?;
        engine.recover_retries(view)?;
        engine.recover_transactions(view)?;
        engine.recover_memories(view)?;
        engine.recover_schedule(view)?;
        let recovered = Recovered {
            topics: engine.topics.by_number.len(),
            groups: engine.groups.by_number.len(),
            undecided: engine.transactions.undecided.len() + engine.transactions.parked.len(),
            retrying: engine.groups.by_number.values().map(|group| group.retries.len()).sum(),
            damaged: std::mem::take(&mut engine.reports),
        };
        Ok((engine, recovered))
    }

    fn recover_counters(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        // Without its counters the shard would give numbers twice: that is no damage to work around.
        let key = keys::counters();
        let counters = view.get(&key)?.map(|bytes| decode(&key, bytes)).transpose();
        self.counters = counters.map_err(|error| ReadError::Failed(error.to_string()))?.unwrap_or_default();
        if planted(Fault::IdReusedAfterRestart) {
            self.counters.transaction = self.counters.transaction.saturating_sub(1);
        }
        Ok(())
    }

    fn recover_topics(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, keys::space::TOPIC, |engine, key, record: TopicRecord| {
            let Some(number) = keys::topic_of(key) else { return engine.misplaced(key) };
            if !record.deleted {
                engine.topics.by_name.insert(record.name.clone(), number);
            }
            let topic =
                Topic { record, tail: Tail::default(), groups: Default::default(), retention_at_ms: None };
            engine.topics.by_number.insert(number, topic);
            engine.topics.to_trim.insert(number);
        })?;
        self.each_record(view, keys::space::TAIL, |engine, key, tail: Tail| {
            match keys::topic_of(key).and_then(|number| engine.topics.by_number.get_mut(&number)) {
                Some(topic) => topic.tail = tail,
                None => engine.misplaced(key),
            }
        })
    }

    fn recover_groups(&mut self, now: Now, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, keys::space::GROUP, |engine, key, record: GroupRecord| {
            let Some(number) = keys::group_of(key) else { return engine.misplaced(key) };
            engine.groups.by_name.insert(record.name.clone(), number);
            let mut group = Group::new(record);
            for subscription in &group.record.subscriptions {
                let Some(topic) = engine.topics.by_number.get_mut(&subscription.topic) else { continue };
                topic.groups.insert(number);
                let position = Position::at(topic.tail.head, subscription.tags.clone());
                group.positions.insert(subscription.topic, position);
            }
            engine.groups.by_number.insert(number, group);
            engine.groups.awake.insert(number);
            engine.watch_broadcast(now, number);
        })?;
        self.each_record(view, keys::space::PROGRESS, |engine, key, progress: Progress| {
            let place = keys::progress_of(key).and_then(|(number, topic)| {
                engine.groups.by_number.get_mut(&number).and_then(|group| group.positions.get_mut(&topic))
            });
            match place {
                Some(position) => {
                    *position = Position::recovered(&progress, std::mem::take(&mut position.tags))
                }
                None => engine.misplaced(key),
            }
        })
    }

    fn recover_retries(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        if planted(Fault::RetryLostOnRestart) {
            return Ok(());
        }
        self.each_record(view, keys::space::RETRY, |engine, key, retry: Retry| {
            let place = keys::held_of(key);
            let known = place.filter(|(_, _, number)| engine.groups.by_number.contains_key(number));
            let Some((topic, offset, number)) = known else { return engine.misplaced(key) };
            let due_at_ms = if planted(Fault::RetryDelayLostOnRestart) { 0 } else { retry.due_at_ms };
            engine.timers.plan(due_at_ms, WallTimer::Retry(number, topic, offset));
            let entry = Arc::new(retry.entry);
            let attempts_made = retry.attempts_made;
            let candidate =
                Candidate { topic, offset, entry: Arc::clone(&entry), attempts_made, is_retry: true };
            let group = engine.groups.known_mut(number);
            let retrying = Retrying { due_at_ms, is_planned: true, attempts_made, entry };
            group.retries.insert((topic, offset), retrying);
            if let Some(gate) = group.gate_of(&candidate) {
                gate.start_retrying(offset);
            }
        })
    }

    fn recover_transactions(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, keys::space::UNDECIDED, |engine, key, record: Transaction| {
            match keys::transaction_of(key) {
                Some(number) => engine.track_undecided(number, &record),
                None => engine.misplaced(key),
            }
        })?;
        self.each_record(view, keys::space::DECIDED_LOG, |engine, key, log: DecidedLog| {
            match keys::decided_log_of(key) {
                Some((at_ms, _)) => engine.transactions.recover_decided(at_ms, &log),
                None => engine.misplaced(key),
            }
        })
    }

    fn recover_memories(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, keys::space::REMEMBERED, |engine, key, remembered: Remembered| {
            match keys::remembered_of(key) {
                Some((at_ms, _)) => engine.deduplication.recover(at_ms, remembered),
                None => engine.misplaced(key),
            }
        })
    }

    fn recover_schedule(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        let turn = Turn::new(view, Room::Enough);
        match self.schedule.go_on_from(keys::all(keys::space::SCHEDULED).start, &turn) {
            Ok(()) => Ok(()),
            Err(Trouble::Failed(error)) => Err(error),
            Err(Trouble::Refused(refusal)) => Err(ReadError::Failed(refusal.to_string())),
        }
    }

    fn misplaced(&mut self, key: &[u8]) {
        self.report_damaged(key, "it belongs to nothing that is known");
    }

    /// Every record of a keyspace, in order; damaged ones are reported and passed over.
    fn each_record<R: Record>(
        &mut self,
        view: &dyn Read,
        space: u8,
        mut each: impl FnMut(&mut Self, &[u8], R),
    ) -> Result<(), ReadError> {
        let KeyRange { mut start, end } = keys::all(space);
        loop {
            let page = match view.scan(&KeyRange::new(start.clone(), end.clone()), PAGE) {
                Ok(page) => page,
                Err(ReadError::Corrupt { key, fault }) => {
                    start = self.step_over(view, &start, &end, &key, &fault, &mut each)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some((last, _)) = page.last() else { return Ok(()) };
            start = behind(last);
            for (key, value) in page {
                self.take_record(&key, value, &mut each);
            }
        }
    }

    fn take_record<R: Record>(
        &mut self,
        key: &[u8],
        value: bytes::Bytes,
        each: &mut impl FnMut(&mut Self, &[u8], R),
    ) {
        match decode(key, value) {
            Ok(record) => each(self, key, record),
            Err(error) => self.report_damaged(key, &error.to_string()),
        }
    }

    /// A page holds a damaged record: what lies before it is taken, and the scan goes on behind it.
    fn step_over<R: Record>(
        &mut self,
        view: &dyn Read,
        start: &bytes::Bytes,
        end: &bytes::Bytes,
        damaged: &str,
        fault: &str,
        each: &mut impl FnMut(&mut Self, &[u8], R),
    ) -> Result<bytes::Bytes, ReadError> {
        let key = key_in(&KeyRange::new(start.clone(), end.clone()), damaged)?;
        let before = view.scan(&KeyRange::new(start.clone(), key.clone()), PAGE)?;
        for (key, value) in before {
            self.take_record(&key, value, each);
        }
        self.report_damaged(&key, fault);
        Ok(behind(&key))
    }

    /// Notes a record that cannot be used: counted, named, never served.
    pub(super) fn report_damaged(&mut self, key: &[u8], fault: &str) {
        self.counts.records_damaged += 1;
        self.reports.push(format!("record {}: {fault}", hex(key)));
    }
}
