//! Forgetting, in good time and a little in each turn: finished messages, old dead letters if so configured; ids, decided
//! transactions and operations by hand that have been remembered long enough.

use std::collections::BTreeSet;

use escrow_protocol::Offset;
use escrow_storage::ReadError;

use super::sabotage::{Fault, planted};
use super::timers::WallTimer;
use super::trouble::Step;
use super::turn::decode;
use super::window::Batch;
use super::{Engine, Now, Turn};
use crate::records::{
    DeadLetter, DecidedLog, GroupNumber, QueueEntry, Remembered, Resolution, Tail, TopicNumber, Transaction,
    keys,
};

/// Batches of ids or of decided transactions that are forgotten in one turn.
const FORGOTTEN_PER_TURN: usize = 64;

/// What may go from the front of a topic.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Everything: the topic was deleted.
    All,
    /// What every group has finished, once it is old enough or too much.
    Finished { until: Offset, keep_ms: u64, bytes_max: u64 },
    /// Nobody listens: what is old enough, or too much.
    Unheard { keep_ms: u64, bytes_max: u64 },
    /// Dead letters: those that were resolved, and with a bound those that are old enough.
    DeadLetters { keep_ms: Option<u64> },
}

impl Engine {
    /// Removes what topics need not keep, `limit` messages at most.
    pub(super) fn trim_topics(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) -> Step<()> {
        let mut left = limit;
        while left > 0 {
            let Some(number) = self.topics.to_trim.pop_first() else { return Ok(()) };
            if self.topics.get(number).is_none() {
                continue;
            }
            let removed = self.trim_topic(now, turn, number, left)?;
            if removed == left {
                self.topics.to_trim.insert(number);
            }
            left -= removed;
        }
        Ok(())
    }

    fn rule_of(&self, number: TopicNumber) -> Rule {
        let topic = self.topics.known(number);
        let settings = topic.record.settings;
        if topic.record.deleted {
            return Rule::All;
        }
        if topic.record.dead_letters_of.is_some() {
            return Rule::DeadLetters { keep_ms: Some(settings.keep_finished_ms).filter(|ms| *ms > 0) };
        }
        let floors = topic.groups.iter().map(|group| self.groups.known(*group).positions[&number].floor());
        let last = if planted(Fault::RemovedTooEarly) { floors.max() } else { floors.min() };
        match last {
            None => Rule::Unheard {
                keep_ms: self.settings.retention.unsubscribed_ms.max(settings.keep_finished_ms),
                bytes_max: self.settings.retention.unsubscribed_bytes.max(settings.keep_finished_bytes),
            },
            Some(until) => Rule::Finished {
                until,
                keep_ms: settings.keep_finished_ms,
                bytes_max: match settings.keep_finished_bytes {
                    0 => u64::MAX,
                    bytes => bytes,
                },
            },
        }
    }

    /// Returns how many entries were removed.
    fn trim_topic(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: TopicNumber,
        limit: usize,
    ) -> Step<usize> {
        let rule = self.rule_of(number);
        let Tail { head, next, .. } = self.topics.known(number).tail;
        let end = match rule {
            Rule::Finished { until, .. } => until.min(next),
            _ => next,
        };
        let end = Offset(end.0.min(head.0.saturating_add(limit as u64)));
        if head >= end {
            self.drop_if_deleted(turn, number);
            return Ok(0);
        }
        let held = self.held_places(turn, number, head, end)?;
        let mut removed = 0;
        for at in (head.0..end.0).map(Offset) {
            let key = keys::queue(number, at);
            let entry: Option<QueueEntry> = self.read_or_report(turn, &key)?;
            if let Some(entry) = &entry
                && let Err(kept_until_ms) = self.may_remove(now, number, rule, entry)
            {
                self.plan_retention_at(number, kept_until_ms);
                break;
            }
            if let Some(entry) = entry {
                self.remove_entry(turn, number, at, &entry, held.contains(&at))?;
            }
            turn.delete(key);
            self.topics.tail_mut(number).head = at.next();
            self.pass_over(number, at);
            removed += 1;
        }
        self.drop_if_deleted(turn, number);
        Ok(removed)
    }

    /// Dead letters go without asking who reads them: what a listener has not read yet is finished for it.
    fn pass_over(&mut self, number: TopicNumber, at: Offset) {
        let listeners: Vec<GroupNumber> = self.topics.known(number).groups.iter().copied().collect();
        for listener in listeners {
            let position = self.groups.known_mut(listener).positions.get_mut(&number);
            let position = position.expect("a listener has a place in the topic");
            if !position.is_finished(at) {
                position.finish(at);
                self.groups.touch(listener, number);
            }
        }
    }

    /// Whether the oldest entry of a topic may go now; if not, until when it is kept at least (`None`: until
    /// something happens).
    fn may_remove(
        &self,
        now: Now,
        number: TopicNumber,
        rule: Rule,
        entry: &QueueEntry,
    ) -> Result<(), Option<u64>> {
        let bytes = self.topics.known(number).tail.bytes;
        let old_enough = |keep_ms: u64| match entry.at_ms.saturating_add(keep_ms) {
            until if until <= now.unix_ms => Ok(()),
            until => Err(Some(until)),
        };
        match rule {
            Rule::All => Ok(()),
            Rule::Finished { keep_ms, bytes_max, .. } | Rule::Unheard { keep_ms, bytes_max } => {
                if bytes > bytes_max { Ok(()) } else { old_enough(keep_ms) }
            }
            Rule::DeadLetters { .. } if entry.resolution.is_some() => Ok(()),
            Rule::DeadLetters { keep_ms: Some(keep_ms) } => old_enough(keep_ms),
            Rule::DeadLetters { keep_ms: None } => Err(None),
        }
    }

    /// What of a range of places is needed by a retry or a dead letter.
    fn held_places(
        &self,
        turn: &Turn<'_>,
        number: TopicNumber,
        from: Offset,
        until: Offset,
    ) -> Step<BTreeSet<Offset>> {
        let mut held = BTreeSet::new();
        for range in [keys::retry_range(number, from, until), keys::dead_place_range(number, from, until)] {
            // One message has as many holds as there are groups at most.
            let most = (until.0 - from.0) as usize * (self.groups.by_number.len() + 1);
            let found = match turn.scan(&range, most) {
                Ok(found) => found,
                // Something there is damaged: all of it counts as needed, for what is removed cannot be brought back.
                Err(ReadError::Corrupt { .. }) => return Ok((from.0..until.0).map(Offset).collect()),
                Err(error) => return Err(error.into()),
            };
            held.extend(found.iter().filter_map(|(key, _)| keys::held_of(key)).map(|(_, offset, _)| offset));
        }
        Ok(held)
    }

    fn remove_entry(
        &mut self,
        turn: &mut Turn<'_>,
        number: TopicNumber,
        at: Offset,
        entry: &QueueEntry,
        is_held: bool,
    ) -> Step<()> {
        self.topics.tail_mut(number).bytes -= u64::from(entry.body_bytes);
        match self.topics.known(number).record.dead_letters_of {
            None if is_held => Ok(()),
            None => {
                self.remove_queued(turn, (number, at), entry);
                Ok(())
            }
            // The message of a dead letter belongs to where it came from.
            Some(group) if entry.resolution.is_none() => self.purge_letter(turn, group, number, at),
            Some(_) => Ok(()),
        }
    }

    /// A dead letter that nobody resolved: its bound of time is over, or its group was deleted.
    fn purge_letter(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupNumber,
        number: TopicNumber,
        at: Offset,
    ) -> Step<()> {
        let letter: Option<DeadLetter> = self.read_or_report(turn, &keys::dead_letter(number, at))?;
        let Some(letter) = letter else { return Ok(()) };
        self.counts.discards += 1;
        self.resolve(turn, group, number, at, &letter, Resolution::Discarded)
    }

    fn drop_if_deleted(&mut self, turn: &mut Turn<'_>, number: TopicNumber) {
        let topic = self.topics.known(number);
        if topic.record.deleted && topic.tail.head == topic.tail.next {
            turn.delete(keys::topic(number));
            turn.delete(keys::tail(number));
            if let Some(at_ms) = topic.retention_at_ms {
                self.timers.cancel(at_ms, WallTimer::Retention(number));
            }
            self.topics.drop_empty(number);
            self.facets.drop_topic(number);
        }
    }

    /// Looks at a topic again when its oldest message may be old enough.
    fn plan_retention_at(&mut self, number: TopicNumber, at_ms: Option<u64>) {
        let topic = self.topics.known_mut(number);
        let planned = std::mem::replace(&mut topic.retention_at_ms, at_ms);
        if let Some(planned) = planned {
            self.timers.cancel(planned, WallTimer::Retention(number));
        }
        if let Some(at_ms) = at_ms {
            self.timers.plan(at_ms, WallTimer::Retention(number));
        }
    }

    pub(super) fn retention_due(&mut self, number: TopicNumber) {
        if let Some(topic) = self.topics.by_number.get_mut(&number) {
            topic.retention_at_ms = None;
            self.topics.to_trim.insert(number);
        }
    }

    /// Forgets ids and decided transactions that have been remembered long enough.
    pub(super) fn forget_outdated(&mut self, now: Now, turn: &mut Turn<'_>) -> Step<()> {
        self.story.forget_outdated(now.unix_ms, turn);
        for _ in 0..FORGOTTEN_PER_TURN {
            let ids = self.deduplication.pop_outdated(now);
            let transactions = self.transactions.pop_outdated(now);
            let operation = self.audit.pop_outdated(now);
            if ids.is_none() && transactions.is_none() && operation.is_none() {
                break;
            }
            if let Some(number) = operation {
                self.forget_operation(turn, number)?;
            }
            if let Some(batch) = ids {
                let key = keys::remembered(batch.at_ms, batch.first);
                let record: Option<Remembered> = self.read_or_report(turn, &key)?;
                self.deduplication.forget(batch.first, &record.unwrap_or_default());
                turn.delete(key);
            }
            if let Some(batch) = transactions {
                self.forget_transactions(turn, &batch)?;
            }
        }
        Ok(())
    }

    fn forget_transactions(&mut self, turn: &mut Turn<'_>, batch: &Batch<u64>) -> Step<()> {
        let key = keys::decided_log(batch.at_ms, batch.first);
        let log: Option<DecidedLog> = self.read_or_report(turn, &key)?;
        for number in log.unwrap_or_default().numbers {
            let record: Option<Transaction> = self.read_or_report(turn, &keys::decided(number))?;
            if let Some(Transaction { group, key: Some(key), .. }) = record {
                turn.delete(keys::transaction_key(group.as_str(), &key));
            }
            turn.delete(keys::decided(number));
        }
        turn.delete(key);
        Ok(())
    }

    /// The record at `key`; one that is damaged is reported, and taken as missing.
    pub(super) fn read_or_report<R: crate::records::Record>(
        &mut self,
        turn: &Turn<'_>,
        key: &[u8],
    ) -> Step<Option<R>> {
        let read = turn.get_bytes(key).and_then(|bytes| bytes.map(|bytes| decode(key, bytes)).transpose());
        match read {
            Ok(record) => Ok(record),
            Err(ReadError::Corrupt { fault, .. }) => {
                self.report_damaged(key, &fault);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
