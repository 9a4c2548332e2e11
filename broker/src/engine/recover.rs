//! The engine as the store says it was: the same records that live turns write, read through the same code. Writes
//! nothing; what cannot be read is reported and left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use escrow_protocol::Offset;
use escrow_storage::{Key, KeyRange, Read, ReadError, Room};

use super::audit::AuditLog;
use super::checks::{Kinds, Questions};
use super::deduplication::Deduplication;
use super::groups::{Group, Groups, Retrying};
use super::jobs::Jobs;
use super::position::{Candidate, Position};
use super::publish::Schedule;
use super::sabotage::{Fault, planted};
use super::sessions::Sessions;
use super::story::StoryLog;
use super::timers::{Timers, WallTimer};
use super::topics::{Topic, Topics};
use super::transactions::Transactions;
use super::trouble::Trouble;
use super::turn::{decode, hex, key_in};
use super::{Boot, Counts, Engine, Now, Recovered, Turn};
use crate::records::{
    Counters, DecidedLog, Group as GroupRecord, Progress, Record, Remembered, Retry, Tail,
    Topic as TopicRecord, TopicNumber, Transaction, keys,
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
            jobs: Jobs::default(),
            audit: AuditLog::new(retention.audit_ms, retention.audit_max),
            facets: Default::default(),
            story: StoryLog::new(retention.story_ms, retention.story_max),
            timers: Timers::default(),
            pages_left: 0,
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
        engine.recover_audit(view)?;
        engine.recover_jobs(now, view)?;
        engine.recover_facets(view)?;
        engine.recover_story(view)?;
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
        let key = keys::counters();
        match view.get(&key).and_then(|bytes| bytes.map(|bytes| decode(&key, bytes)).transpose()) {
            Ok(Some(counters)) => self.counters = counters,
            // A store that was never used has none.
            Ok(None) if view.scan(&keys::all(keys::space::TOPIC), 1).is_ok_and(|found| found.is_empty()) => {}
            Ok(None) => self.report_damaged(&key, "the counters are missing"),
            Err(ReadError::Corrupt { fault, .. }) => self.report_damaged(&key, &fault),
            Err(error) => return Err(error),
        }
        if planted(Fault::IdReusedAfterRestart) {
            self.counters.transaction = self.counters.transaction.saturating_sub(1);
        }
        self.refuse_damaged_foundation()
    }

    /// Without its counters, topics, tails or groups a shard would give numbers twice, or remove what somebody has not
    /// finished: that is no damage to work around.
    fn refuse_damaged_foundation(&self) -> Result<(), ReadError> {
        if self.reports.is_empty() {
            return Ok(());
        }
        Err(ReadError::Failed(format!(
            "what everything else rests on is damaged, nothing was changed: {}; restore the last backup with \
             `escrow store restore <backup> --data-dir <empty directory>`",
            self.reports.join("; ")
        )))
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
        let mut without_tail: BTreeSet<TopicNumber> = self.topics.by_number.keys().copied().collect();
        self.each_record(view, keys::space::TAIL, |engine, key, tail: Tail| {
            let topic = keys::topic_of(key);
            match topic
                .and_then(|number| engine.topics.by_number.get_mut(&number).map(|topic| (number, topic)))
            {
                Some((number, topic)) => {
                    topic.tail = tail;
                    without_tail.remove(&number);
                }
                None => engine.misplaced(key),
            }
        })?;
        for number in without_tail {
            self.report_damaged(&keys::tail(number), "the end of a topic is missing");
        }
        self.refuse_entries_behind_tails(view)?;
        self.refuse_damaged_foundation()
    }

    /// An entry where the next message would go says that the tail is older than its topic.
    fn refuse_entries_behind_tails(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        let ends: Vec<_> =
            self.topics.by_number.iter().map(|(number, topic)| (*number, topic.tail.next)).collect();
        for (number, next) in ends {
            match view.scan(&keys::queue_range(number, next, Offset(u64::MAX)), 1) {
                Ok(found) if found.is_empty() => {}
                Ok(_) | Err(ReadError::Corrupt { .. }) => {
                    self.report_damaged(&keys::tail(number), "the topic has messages behind its end");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn recover_groups(&mut self, now: Now, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, keys::space::GROUP, |engine, key, record: GroupRecord| {
            let Some(number) = keys::group_of(key) else { return engine.misplaced(key) };
            engine.groups.by_name.insert(record.name.clone(), number);
            let mut group = Group::new(record);
            for subscription in &group.record.subscriptions {
                let Some(topic) = engine.topics.by_number.get_mut(&subscription.topic) else {
                    engine.report_damaged(key, "a topic that the group listens to is missing");
                    continue;
                };
                topic.groups.insert(number);
                let position = Position::at(topic.tail.head, subscription.tags.clone());
                group.positions.insert(subscription.topic, position);
            }
            if !engine.topics.by_number.contains_key(&group.record.dead_letters) {
                engine.report_damaged(key, "the group's dead-letter topic is missing");
            }
            engine.groups.by_number.insert(number, group);
            engine.groups.awake.insert(number);
            engine.watch_broadcast(now, number);
        })?;
        self.report_orphaned_dead_letter_topics();
        self.refuse_damaged_foundation()?;
        self.recover_progress(view)
    }

    fn report_orphaned_dead_letter_topics(&mut self) {
        let topics = self.topics.by_number.iter().filter(|(_, topic)| !topic.record.deleted);
        let owners = topics.filter_map(|(_, topic)| topic.record.dead_letters_of);
        let lost: Vec<_> = owners.filter(|owner| !self.groups.by_number.contains_key(owner)).collect();
        for owner in lost {
            self.report_damaged(&keys::group(owner), "the group of a dead-letter topic is missing");
        }
    }

    /// A position whose record is damaged starts at the oldest message kept: delivered twice rather than never.
    fn recover_progress(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        let groups = self.groups.by_number.iter();
        let mut unread: BTreeSet<_> = groups
            .flat_map(|(number, group)| group.positions.keys().map(|topic| (*number, *topic)))
            .collect();
        let mut orphans = Vec::new();
        self.each_record(view, keys::space::PROGRESS, |engine, key, progress: Progress| {
            let place = keys::progress_of(key).filter(|place| unread.remove(place));
            let Some((number, topic)) = place else { return orphans.push(hex(key)) };
            let group = engine.groups.known_mut(number);
            if let Some(position) = group.positions.get_mut(&topic) {
                *position = Position::recovered(&progress, std::mem::take(&mut position.tags));
            }
        })?;
        if let Some(orphan) = orphans.first() {
            let fault = format!("{orphan} is the progress of a group that is missing");
            self.reports.push(fault);
            return self.refuse_damaged_foundation();
        }
        for (number, topic) in unread {
            let key = keys::progress(number, topic);
            self.report_damaged(
                &key,
                "it is missing or damaged: the group starts at the oldest message kept",
            );
        }
        Ok(())
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
        self.deduplication.go_on_behind(self.counters.remembered);
        self.each_record(view, keys::space::REMEMBERED, |engine, key, remembered: Remembered| {
            match keys::remembered_of(key) {
                Some((at_ms, number)) => engine.deduplication.recover(at_ms, number, &remembered),
                None => engine.misplaced(key),
            }
        })?;
        self.deduplication.recovered();
        Ok(())
    }

    fn recover_schedule(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        let turn = Turn::new(view, Room::Enough);
        match self.schedule.go_on_from(keys::all(keys::space::SCHEDULED).start, &turn) {
            Ok(()) => Ok(()),
            Err(Trouble::Failed(error)) => Err(error),
            Err(Trouble::Refused(refusal)) => Err(ReadError::Failed(refusal.to_string())),
        }
    }

    pub(super) fn misplaced(&mut self, key: &[u8]) {
        self.report_damaged(key, "it belongs to nothing that is known");
    }

    /// Every record of a keyspace, in order; damaged ones are reported and passed over.
    pub(super) fn each_record<R: Record>(
        &mut self,
        view: &dyn Read,
        space: u8,
        each: impl FnMut(&mut Self, &[u8], R),
    ) -> Result<(), ReadError> {
        self.each_record_in(view, keys::all(space), each)
    }

    /// Every record of a range, as [`Engine::each_record`].
    pub(super) fn each_record_in<R: Record>(
        &mut self,
        view: &dyn Read,
        range: KeyRange,
        mut each: impl FnMut(&mut Self, &[u8], R),
    ) -> Result<(), ReadError> {
        let KeyRange { mut start, end } = range;
        let mut stepped_over = None;
        loop {
            let page = match view.scan(&KeyRange::new(start.clone(), end.clone()), PAGE) {
                Ok(page) => page,
                // At the place that was just stepped over to: no damaged record, but a page that cannot be read.
                Err(ReadError::Corrupt { key, fault })
                    if stepped_over.as_ref() == Some(&start) && key == hex(&start) =>
                {
                    return self.step_over_page(view, start, end, &fault, &mut each);
                }
                Err(ReadError::Corrupt { key, fault }) => {
                    start = self.step_over(view, &start, &end, &key, &fault, &mut each)?;
                    stepped_over = Some(start.clone());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some((last, _)) = page.last() else { return Ok(()) };
            start = Key::behind(last);
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
        start: &Key,
        end: &Key,
        damaged: &str,
        fault: &str,
        each: &mut impl FnMut(&mut Self, &[u8], R),
    ) -> Result<Key, ReadError> {
        let key = key_in(&KeyRange::new(start.clone(), end.clone()), damaged)?;
        let before = view.scan(&KeyRange::new(start.clone(), key.clone()), PAGE)?;
        for (key, value) in before {
            self.take_record(&key, value, each);
        }
        self.report_damaged(&key, fault);
        Ok(Key::behind(&key))
    }

    /// From `start` on nothing can be read, up to nobody knows where: what lies behind is found from the other end.
    fn step_over_page<R: Record>(
        &mut self,
        view: &dyn Read,
        start: Key,
        end: Key,
        fault: &str,
        each: &mut impl FnMut(&mut Self, &[u8], R),
    ) -> Result<(), ReadError> {
        let mut behind_page = Vec::new();
        let mut until = end;
        loop {
            match view.scan_back(&KeyRange::new(start.clone(), until.clone()), 1) {
                Ok(mut found) => match found.pop() {
                    None => break,
                    Some((key, value)) => {
                        until = key.clone();
                        behind_page.push((key, value));
                    }
                },
                Err(ReadError::Corrupt { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        for (key, value) in behind_page.into_iter().rev() {
            self.take_record(&key, value, each);
        }
        self.report_damaged(&start, &format!("nothing from here to {} can be read: {fault}", hex(&until)));
        Ok(())
    }

    /// Notes a record that cannot be used: counted, named, never served.
    pub(super) fn report_damaged(&mut self, key: &[u8], fault: &str) {
        self.counts.records_damaged += 1;
        self.reports.push(format!("record {}: {fault}", hex(key)));
    }
}
