//! Storing messages: deduplication by id, publishing at once, and messages that wait for their time.

use escrow_protocol::{MessageId, Reason, TransactionId};
use escrow_storage::{Key, KeyRange, ReadError, Room};

use super::sabotage::{Fault, planted};
use super::trouble::Step;
use super::turn::key_in;
use super::{Cancelled, Engine, Moved, NewMessage, Now, Refusal, Reply, Turn};
use crate::records::{
    Ending, Fate, Happening, Message, Place, Record as _, Standing, Stub, Subject, TopicNumber, Transaction,
    TransactionState, keys,
};

/// How long a refused producer should wait for space.
const DISK_FULL_RETRY_MS: u64 = 5_000;

/// A message that was stored before.
pub(super) struct Known {
    /// The transaction it came in.
    pub(super) transaction: Option<TransactionId>,
    /// Where it is, if it still is.
    pub(super) place: Option<Place>,
}

impl Engine {
    pub(super) fn known(&self, turn: &Turn<'_>, id: MessageId) -> Step<Option<Known>> {
        if planted(Fault::DeduplicationForgotten) {
            return Ok(None);
        }
        let place: Option<Place> = turn.get(&keys::place(id))?;
        let transaction = match &place {
            Some(place) => place.transaction,
            None => match self.deduplication.fate_of(turn, id)? {
                Some(fate) => fate.transaction,
                None => return Ok(None),
            },
        };
        Ok(Some(Known { transaction, place }))
    }

    pub(super) fn refuse_without_room(&self, turn: &Turn<'_>) -> Result<(), Refusal> {
        match turn.room() {
            Room::Enough => Ok(()),
            Room::Low => Err(Refusal::new(
                Reason::DiskFull,
                "the store is short of room (disk space, or data that waits to be written to the table): new messages are \
                 refused until there is some again; decisions and acks go on",
            )
            .retry_after(DISK_FULL_RETRY_MS)),
        }
    }

    pub(super) fn publish(&mut self, now: Now, turn: &mut Turn<'_>, message: NewMessage) -> Step<Reply> {
        let topic = self.topic_to_publish(&message.topic)?;
        if let Some(known) = self.known(turn, message.id)? {
            return self.published_before(topic, &message, &known);
        }
        self.refuse_without_room(turn)?;

        let stub = self.store(now, turn, message, topic, None);
        let offset = self.make_visible(now, turn, &stub, None, now.unix_ms);
        self.counts.messages_published += 1;
        Ok(Reply::Published { offset, duplicate: false })
    }

    fn published_before(
        &mut self,
        topic: Option<TopicNumber>,
        message: &NewMessage,
        known: &Known,
    ) -> Step<Reply> {
        let offset = match known.place.as_ref().map(|place| place.standing) {
            Some(Standing::Queued { topic, offset, .. }) => Some((topic, offset)),
            _ => None,
        };
        let elsewhere = offset.is_some_and(|(queued_in, _)| Some(queued_in) != topic);
        if known.transaction.is_some() || elsewhere {
            return Err(reused(message.id).into());
        }
        self.counts.messages_deduplicated += 1;
        Ok(Reply::Published { offset: offset.map(|(_, offset)| offset), duplicate: true })
    }

    /// Stores what the producer sent. It is in no queue yet.
    pub(super) fn store(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        message: NewMessage,
        topic: Option<TopicNumber>,
        transaction: Option<TransactionId>,
    ) -> Stub {
        let topic = topic.or_else(|| self.topics.by_name.get(&message.topic).copied());
        let topic = topic
            .unwrap_or_else(|| self.make_topic(now, turn, message.topic.clone(), Default::default(), None));
        let stub = Stub {
            id: message.id,
            topic,
            key_hash: message.key.as_deref().map(keys::hash_of),
            tag: message.tag,
            ordering_key: message.ordering_key,
            body_bytes: message.body_bytes,
            deliver_at_ms: message.deliver_at_ms,
            time_to_live_ms: message.time_to_live_ms,
        };
        turn.insert_bytes(keys::message(stub.id), message.record);
        if let Some(hash) = stub.key_hash {
            turn.insert_bytes(keys::business_key(hash, stub.id), Default::default());
        }
        // Whoever queues or schedules it in the same turn replaces this.
        let place = Place { stored_at_ms: now.unix_ms, transaction, standing: Standing::Undecided };
        turn.insert(keys::place(stub.id), &place);
        self.deduplication.remember(stub.id, Fate { transaction, cancelled: false });
        stub
    }

    /// Queues a stored message, or schedules it if its time has not come.
    pub(super) fn make_visible(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        stub: &Stub,
        transaction: Option<TransactionId>,
        stored_at_ms: u64,
    ) -> Option<escrow_protocol::Offset> {
        let early_ms = if planted(Fault::ScheduledEarly) { 2_000 } else { 0 };
        if stub.deliver_at_ms <= now.unix_ms + early_ms {
            return Some(self.append(now, turn, stub, transaction, stored_at_ms));
        }
        let due_ms = stub.deliver_at_ms;
        let key = keys::scheduled(due_ms, stub.id);
        self.schedule.expect(key.clone());
        turn.insert(key, stub);
        let standing = Standing::Scheduled { due_ms };
        turn.put(keys::place(stub.id), &Place { stored_at_ms, transaction, standing });
        self.topics.tail_mut(stub.topic).awaited += 1;
        self.counters_mut().scheduled += 1;
        self.counts.scheduled += 1;
        None
    }

    /// Queues the scheduled messages whose time has come, `limit` at most.
    pub(super) fn release_scheduled(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) -> Step<()> {
        let Some(range) = self.schedule.due(now) else { return Ok(()) };
        let (due, damaged) = match turn.scan(&range, limit) {
            Ok(due) => (due, None),
            Err(ReadError::Corrupt { key, fault }) => {
                let key = key_in(&range, &key)?;
                let before = KeyRange::new(range.start.clone(), key.clone());
                (turn.scan(&before, limit)?, Some((key, fault)))
            }
            Err(error) => return Err(error.into()),
        };
        let is_full = due.len() == limit;
        let mut from = due.last().map(|(key, _)| Key::behind(key));
        for (key, value) in due {
            match Stub::decode(value) {
                Ok(stub) => self.release_one(now, turn, &stub)?,
                Err(error) => {
                    // It stays where it is, and is counted as scheduled, for nobody knows where it would go.
                    self.report_damaged(&key, &error.to_string());
                    continue;
                }
            }
            turn.delete(key);
            self.counters_mut().scheduled -= 1;
        }
        if let Some((key, fault)) = damaged.filter(|_| !is_full) {
            // It stays where it is; the schedule goes on behind it.
            self.report_damaged(&key, &fault);
            from = Some(Key::behind(&key));
        }
        self.schedule.go_on_from(from.unwrap_or(range.start), turn)
    }

    fn release_one(&mut self, now: Now, turn: &mut Turn<'_>, stub: &Stub) -> Step<()> {
        let place: Option<Place> = turn.get(&keys::place(stub.id))?;
        let (transaction, stored_at_ms) =
            place.map_or((None, 0), |place| (place.transaction, place.stored_at_ms));
        self.topics.tail_mut(stub.topic).awaited -= 1;
        self.note(Subject::Message(stub.id), Happening::Released { due_ms: stub.deliver_at_ms });
        self.append(now, turn, stub, transaction, stored_at_ms);
        self.counts.scheduled_released += 1;
        Ok(())
    }

    /// Answers exactly: cancelled, too late, or not known.
    pub(super) fn cancel_scheduled(&mut self, turn: &mut Turn<'_>, id: MessageId) -> Step<Reply> {
        let place: Option<Place> = turn.get(&keys::place(id))?;
        let Some(place) = place else { return self.cancel_of_gone(turn, id).map(Reply::Cancelled) };
        let due_ms = match place.standing {
            Standing::Scheduled { due_ms } => due_ms,
            Standing::Queued { .. } => return Ok(Reply::Cancelled(Cancelled::TooLate)),
            // Not scheduled yet: its transaction may still be rolled back.
            Standing::Undecided => return Ok(Reply::Cancelled(Cancelled::NotKnown)),
        };
        let key = keys::scheduled(due_ms, id);
        let Some(stub) = turn.get::<Stub>(&key)? else {
            return Ok(Reply::Cancelled(Cancelled::NotKnown));
        };
        if planted(Fault::CancelIgnored) {
            return Ok(Reply::Cancelled(Cancelled::Cancelled));
        }
        turn.delete(key);
        self.note_end(id, Ending::Cancelled, (stub.key_hash, place.transaction), None);
        self.remove_message(turn, id, stub.key_hash);
        self.topics.tail_mut(stub.topic).awaited -= 1;
        self.counters_mut().scheduled -= 1;
        self.deduplication.remember(id, Fate { transaction: place.transaction, cancelled: true });
        self.counts.scheduled_cancelled += 1;
        Ok(Reply::Cancelled(Cancelled::Cancelled))
    }

    /// Gives a scheduled message another time. Answers exactly: moved, too late, or not known.
    pub(super) fn move_scheduled(
        &mut self,
        turn: &mut Turn<'_>,
        id: MessageId,
        deliver_at_ms: u64,
    ) -> Step<Moved> {
        let place: Option<Place> = turn.get(&keys::place(id))?;
        let Some(place) = place else {
            return Ok(match self.cancel_of_gone(turn, id)? {
                Cancelled::TooLate => Moved::TooLate,
                Cancelled::Cancelled | Cancelled::NotKnown => Moved::NotKnown,
            });
        };
        let due_ms = match place.standing {
            Standing::Scheduled { due_ms } => due_ms,
            Standing::Queued { .. } => return Ok(Moved::TooLate),
            // Not scheduled yet: its transaction may still be rolled back.
            Standing::Undecided => return Ok(Moved::NotKnown),
        };
        let key = keys::scheduled(due_ms, id);
        let Some(stub) = turn.get::<Stub>(&key)? else { return Ok(Moved::NotKnown) };
        if planted(Fault::MoveIgnored) {
            return Ok(Moved::Moved);
        }
        turn.delete(key);
        let key = keys::scheduled(deliver_at_ms, id);
        self.schedule.expect(key.clone());
        turn.put(key, &Stub { deliver_at_ms, ..stub });
        let standing = Standing::Scheduled { due_ms: deliver_at_ms };
        turn.put(keys::place(id), &Place { standing, ..place });
        let by = self.story.by();
        self.note(Subject::Message(id), Happening::Moved { from_ms: due_ms, to_ms: deliver_at_ms, by });
        Ok(Moved::Moved)
    }

    /// What is remembered of a message that is gone: cancelled before, rolled back, or delivered and finished.
    fn cancel_of_gone(&self, turn: &Turn<'_>, id: MessageId) -> Step<Cancelled> {
        let Some(fate) = self.deduplication.fate_of(turn, id)? else { return Ok(Cancelled::NotKnown) };
        if fate.cancelled {
            return Ok(Cancelled::Cancelled);
        }
        let Some(transaction) = fate.transaction else { return Ok(Cancelled::TooLate) };
        let record: Option<Transaction> = turn.get(&keys::decided(transaction.number()))?;
        Ok(match record.map(|record| record.state) {
            Some(TransactionState::Committed) => Cancelled::TooLate,
            _ => Cancelled::NotKnown,
        })
    }

    /// Reads a message's record whole: for the rare operation that makes a new message of an old one.
    pub(super) fn read_message(&self, turn: &Turn<'_>, id: MessageId) -> Step<Message> {
        let message = turn.get(&keys::message(id))?;
        Ok(message.ok_or_else(|| {
            Refusal::new(Reason::UnknownMessage, format!("message {id} is not stored")).with("message_id", id)
        })?)
    }
}

/// The refusal of an id that means another message.
pub(super) fn reused(id: MessageId) -> Refusal {
    Refusal::new(
        Reason::MessageIdReused,
        format!("message id {id} was used for another message; make a new id for each message"),
    )
    .with("message_id", id)
}

/// When the next scheduled message falls due. The messages themselves are on disk, in order of time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// No scheduled message lies before this key. `None`: there is none at all.
    from: Option<Key>,
}

impl Schedule {
    fn expect(&mut self, key: Key) {
        if self.from.as_ref().is_none_or(|from| key < *from) {
            self.from = Some(key);
        }
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.from.as_ref().map(|key| keys::scheduled_time_of(key).unwrap_or(0))
    }

    /// Where to look for what is due, if anything may be. What lies before was deleted: skipping it costs nothing.
    fn due(&self, now: Now) -> Option<KeyRange> {
        let from = self.from.clone()?;
        let end = keys::scheduled_from(now.unix_ms + 1);
        (from < end).then(|| KeyRange::new(from, end))
    }

    /// Finds the first message at or behind `from`.
    pub(super) fn go_on_from(&mut self, from: Key, turn: &Turn<'_>) -> Step<()> {
        let range = KeyRange::new(from, keys::all(keys::space::SCHEDULED).end);
        self.from = match turn.scan(&range, 1) {
            Ok(found) => found.into_iter().next().map(|(key, _)| key),
            // A damaged entry is met, and reported, when its time comes.
            Err(ReadError::Corrupt { key, .. }) => Some(key_in(&range, &key)?.into()),
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }
}
