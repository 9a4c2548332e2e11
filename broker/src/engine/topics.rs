//! Topics: their names and numbers, the end of each one's order, and putting messages there.

use std::collections::{BTreeMap, BTreeSet};

use escrow_protocol::{MessageId, Offset, Reason, TopicName, TransactionId};

use escrow_storage::ReadError;

use super::sabotage::{Fault, planted};
use super::trouble::Step;
use super::{Engine, Now, Refusal, Turn};
use crate::records::{
    Ending, GroupNumber, Happening, Place, QueueEntry, Standing, Stub, Subject, Tail, Topic as TopicRecord,
    TopicNumber, TopicSettings, keys,
};

/// A topic in memory.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) record: TopicRecord,
    pub(super) tail: Tail,
    pub(super) groups: BTreeSet<GroupNumber>,
    /// When its retention timer is planned.
    pub(super) retention_at_ms: Option<u64>,
}

/// All topics. Those deleted keep their number until their last message is gone, but have lost their name.
#[derive(Debug, Default)]
pub(super) struct Topics {
    pub(super) by_number: BTreeMap<TopicNumber, Topic>,
    pub(super) by_name: BTreeMap<TopicName, TopicNumber>,
    /// Tails that differ from what is stored.
    dirty: BTreeSet<TopicNumber>,
    /// Topics that may have messages to remove.
    pub(super) to_trim: BTreeSet<TopicNumber>,
}

impl Topics {
    pub(super) fn find(&self, name: &str) -> Result<TopicNumber, Refusal> {
        self.by_name.get(name).copied().ok_or_else(|| {
            Refusal::new(
                Reason::UnknownTopic,
                format!("there is no topic {name:?}; create it with `escrow topic create {name}`"),
            )
            .with("topic", name)
        })
    }

    pub(super) fn get(&self, number: TopicNumber) -> Option<&Topic> {
        self.by_number.get(&number)
    }

    /// A topic that must exist.
    pub(super) fn known(&self, number: TopicNumber) -> &Topic {
        self.by_number.get(&number).expect("a number in use belongs to a topic")
    }

    pub(super) fn known_mut(&mut self, number: TopicNumber) -> &mut Topic {
        self.by_number.get_mut(&number).expect("a number in use belongs to a topic")
    }

    /// The tail of a topic, to be changed: it is written at the end of the turn.
    pub(super) fn tail_mut(&mut self, number: TopicNumber) -> &mut Tail {
        self.dirty.insert(number);
        &mut self.known_mut(number).tail
    }

    /// Forgets a topic whose last message is gone.
    pub(super) fn drop_empty(&mut self, number: TopicNumber) {
        self.dirty.remove(&number);
        self.to_trim.remove(&number);
        self.by_number.remove(&number);
    }

    /// Writes every tail that changed in this turn, once.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) {
        for number in std::mem::take(&mut self.dirty) {
            if let Some(topic) = self.by_number.get(&number) {
                turn.put(keys::tail(number), &topic.tail);
            }
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }
}

impl Engine {
    /// The topic a producer names: known, or made now if the settings say so; never one of dead letters.
    pub(super) fn topic_to_publish(&self, name: &TopicName) -> Result<Option<TopicNumber>, Refusal> {
        if name.is_dead_letter_topic() {
            return Err(Refusal::new(
                Reason::ReservedTopic,
                format!(
                    "topic {name:?} is kept for the dead letters of a group; publish to a topic of your own"
                ),
            )
            .with("topic", name));
        }
        match self.topics.find(name.as_str()) {
            Ok(number) => Ok(Some(number)),
            Err(refusal) if !self.settings.topics.create_on_use => Err(refusal),
            Err(_) => self.room_for_topics(1).map(|()| None),
        }
    }

    pub(super) fn room_for_topics(&self, more: usize) -> Result<(), Refusal> {
        let max = self.settings.limits.topics_max;
        if self.topics.by_number.len() + more > max {
            return Err(Refusal::new(
                Reason::LimitReached,
                format!(
                    "there are {max} topics, as many as `limits.topics_max` allows; delete some or raise it"
                ),
            )
            .with("limit", "limits.topics_max"));
        }
        Ok(())
    }

    /// Makes a topic. The name is free and there is room.
    pub(super) fn make_topic(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        name: TopicName,
        settings: TopicSettings,
        dead_letters_of: Option<GroupNumber>,
    ) -> TopicNumber {
        self.counters_mut().topic += 1;
        let number = TopicNumber(self.counters.topic);
        let created_at_ms = now.unix_ms;
        let record =
            TopicRecord { name: name.clone(), settings, created_at_ms, dead_letters_of, deleted: false };
        turn.put(keys::topic(number), &record);
        let topic = Topic { record, tail: Tail::default(), groups: BTreeSet::new(), retention_at_ms: None };
        self.topics.by_number.insert(number, topic);
        self.topics.by_name.insert(name, number);
        self.topics.tail_mut(number);
        number
    }

    /// Puts a message at the end of its topic's order: from the end of this turn on every group may see it.
    pub(super) fn append(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        stub: &Stub,
        transaction: Option<TransactionId>,
        stored_at_ms: u64,
    ) -> Offset {
        let expires_at_ms = match stub.time_to_live_ms {
            0 => 0,
            ttl => now.unix_ms.saturating_add(ttl),
        };
        let entry = QueueEntry {
            id: stub.id,
            at_ms: now.unix_ms,
            transaction,
            key_hash: stub.key_hash,
            tag: stub.tag.clone(),
            ordering_key: stub.ordering_key.clone(),
            body_bytes: stub.body_bytes,
            expires_at_ms,
            resolution: None,
        };
        let offset = self.append_entry(turn, stub.topic, &entry);
        let standing = Standing::Queued { topic: stub.topic, offset, at_ms: now.unix_ms };
        turn.put(keys::place(stub.id), &Place { stored_at_ms, transaction, standing });
        offset
    }

    /// The lower half of [`Engine::append`]; dead letters, too, are appended so.
    pub(super) fn append_entry(
        &mut self,
        turn: &mut Turn<'_>,
        number: TopicNumber,
        entry: &QueueEntry,
    ) -> Offset {
        let tail = self.topics.tail_mut(number);
        let offset = tail.next;
        tail.next = if planted(Fault::OffsetSkipped) { offset.next().next() } else { offset.next() };
        tail.bytes += u64::from(entry.body_bytes);
        turn.insert(keys::queue(number, offset), entry);
        self.wake_subscribers(number);
        self.topics.to_trim.insert(number);
        offset
    }

    /// Removes a message for good: no queue, retry or dead letter needs it.
    pub(super) fn remove_message(&mut self, turn: &mut Turn<'_>, id: MessageId, key_hash: Option<u64>) {
        turn.delete(keys::message(id));
        turn.delete(keys::place(id));
        if let Some(hash) = key_hash {
            turn.delete(keys::business_key(hash, id));
        }
        self.counts.messages_removed += 1;
    }

    /// A retry or dead letter of the message at this place has ended: the message goes if nothing needs it any more.
    pub(super) fn release_hold(
        &mut self,
        turn: &mut Turn<'_>,
        topic: TopicNumber,
        offset: Offset,
        entry: &QueueEntry,
    ) -> Step<()> {
        let queued = self.topics.get(topic).is_some_and(|topic| offset >= topic.tail.head);
        if queued || self.is_held(turn, topic, offset)? {
            return Ok(());
        }
        self.remove_queued(turn, (topic, offset), entry);
        Ok(())
    }

    /// Removes a message that was visible at `place`.
    pub(super) fn remove_queued(
        &mut self,
        turn: &mut Turn<'_>,
        (topic, offset): (TopicNumber, Offset),
        entry: &QueueEntry,
    ) {
        let place = Some((topic, offset, entry.at_ms));
        let is_heard =
            self.topics.get(topic).is_some_and(|topic| !topic.record.deleted && !topic.groups.is_empty());
        let ending = if is_heard { Ending::Finished } else { Ending::Dropped };
        self.note_end(entry.id, ending, (entry.key_hash, entry.transaction), place);
        self.remove_message(turn, entry.id, entry.key_hash);
    }

    /// Notes that a message is about to be removed.
    pub(super) fn note_end(
        &mut self,
        id: MessageId,
        ending: Ending,
        (key_hash, transaction): (Option<u64>, Option<TransactionId>),
        place: Option<(TopicNumber, Offset, u64)>,
    ) {
        let by = if ending == Ending::Cancelled { self.story.by() } else { String::new() };
        let happening = Happening::Removed { ending, key_hash, transaction, place, by };
        self.note(Subject::Message(id), happening);
    }

    /// Whether a retry or a dead letter needs the message at this place. A damaged record counts as a need.
    fn is_held(&self, turn: &Turn<'_>, topic: TopicNumber, offset: Offset) -> Step<bool> {
        for range in [
            keys::retry_range(topic, offset, offset.next()),
            keys::dead_place_range(topic, offset, offset.next()),
        ] {
            match turn.scan(&range, 1) {
                Ok(found) if found.is_empty() => {}
                Ok(_) | Err(ReadError::Corrupt { .. }) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// The first place in a topic whose message became visible at or after `time_ms`: a binary search, for a topic's
    /// order is that of time (as far as the clock did not jump).
    pub(super) fn offset_at_time(&self, turn: &Turn<'_>, number: TopicNumber, time_ms: u64) -> Step<Offset> {
        let tail = self.topics.known(number).tail;
        let (mut low, mut high) = (tail.head.0, tail.next.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry: Option<QueueEntry> = turn.get(&keys::queue(number, Offset(middle)))?;
            match entry {
                Some(entry) if entry.at_ms >= time_ms => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(Offset(low))
    }
}
