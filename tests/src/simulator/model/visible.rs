//! Messages on their way to their queue: stored once, visible when their time has come, in dense order, and never
//! before their transaction is committed.

use escrow_broker::engine::{Cancelled, NewMessage, Now, Outcome, Reply};
use escrow_broker::records::{
    GroupNumber, Message, QueueEntry, Record as _, Resolution, Stub, TopicNumber, keys,
};
use escrow_protocol::{MessageId, Offset, Reason, TopicName, TransactionId};

use super::stands::{Expected, Stand, Standing};
use super::{Changes, Expectations, Held, MessageFate, MessageModel, Model, Placed, Verdict, require};

impl Model {
    pub(super) fn published(
        &mut self,
        now: Now,
        message: &NewMessage,
        outcome: &Outcome,
        expected: &Expectations,
    ) -> Verdict {
        match outcome {
            Ok(Reply::Published { duplicate: false, offset }) => {
                self.is_new(now, message.id, expected)?;
                self.tally.published += 1;
                let topic = self.named(&message.topic)?;
                self.arrive(now, message, topic, None);
                self.release(now, message.id);
                let due = message.deliver_at_ms <= now.unix_ms;
                require!(
                    due == offset.is_some(),
                    "an offset is answered for a scheduled message, or none for another"
                );
                Ok(())
            }
            Ok(Reply::Published { duplicate: true, offset }) => {
                let Some(known) = self.messages.get(&message.id) else {
                    return Err("a message that was never stored is called a duplicate".into());
                };
                require!(
                    known.transaction.is_none(),
                    "a message of a transaction is called a plain duplicate"
                );
                if let Some(offset) = offset {
                    let there = known.places.iter().any(|(_, at)| at == offset);
                    // A place given earlier in the same turn is on the disk only at its end.
                    require!(
                        there || known.fate == MessageFate::DueNow,
                        "the duplicate is not at that offset"
                    );
                }
                Ok(())
            }
            Ok(_) => Err("a publish was answered with something else".into()),
            Err(refusal) => match refusal.reason {
                Reason::MessageIdReused => {
                    require!(self.messages.contains_key(&message.id), "a new id is called reused");
                    Ok(())
                }
                _ => self.refused_message(&message.topic, refusal),
            },
        }
    }

    /// The number of a topic that took a message.
    pub(super) fn named(&self, name: &TopicName) -> Verdict<TopicNumber> {
        self.topic_number(name).ok_or_else(|| format!("a message went to topic {name}, which does not exist"))
    }

    /// Deduplication: what is stored or remembered is not stored again.
    pub(super) fn is_new(&mut self, now: Now, id: MessageId, expected: &Expectations) -> Verdict {
        if self.messages.get(&id).is_some_and(|known| known.stored) {
            self.left_in_this_turn(now, id, expected)?;
        }
        let Some(known) = self.messages.get(&id) else { return Ok(()) };
        let remembered_until = known.arrived_at_ms + self.settings.retention.ids_ms;
        require!(
            remembered_until <= self.latest_unix_ms.max(now.unix_ms),
            "message {id} was forgotten before its time: its id is remembered until {remembered_until}"
        );
        Ok(())
    }

    /// A stored message may end and come again within one turn; the disk then shows the new one, and what was removed of
    /// the old one.
    fn left_in_this_turn(&mut self, now: Now, id: MessageId, expected: &Expectations) -> Verdict {
        let known = &self.messages[&id];
        let is_over = match known.fate {
            MessageFate::RolledBack | MessageFate::Cancelled => true,
            MessageFate::Queued => !known.places.is_empty(),
            MessageFate::Undecided | MessageFate::DueNow | MessageFate::Scheduled { .. } => false,
        };
        require!(is_over, "message {id} is stored and was stored again");
        for (topic, offset) in known.places.clone() {
            self.is_left((topic, offset), expected)
                .map_err(|kept| format!("message {id} is stored and was stored again: {kept}"))?;
            if !self.is_trimmed(topic, offset) {
                self.trimmed(now, topic, offset)?;
            }
        }
        Ok(())
    }

    fn is_trimmed(&self, topic: TopicNumber, offset: Offset) -> bool {
        self.placed(topic, offset).is_some_and(|placed| placed.trimmed)
    }

    /// With this turn nothing keeps a message at this place: it is in no queue, and no retry and no dead letter holds it.
    fn is_left(&self, (topic, offset): (TopicNumber, Offset), expected: &Expectations) -> Verdict {
        let is_gone = self.is_trimmed(topic, offset) || expected.removed_places.contains(&(topic, offset));
        require!(is_gone, "it is in a queue at {offset}");
        let from = (topic, offset, GroupNumber(0));
        let until = (topic, offset.next(), GroupNumber(0));
        let dead = self.dead_places.range(from..until).map(|(held, _)| held);
        let mut held = self.retries.range(from..until).chain(dead);
        let kept = held.find(|held| !expected.removed_holds.contains(held));
        require!(kept.is_none(), "{kept:?} holds it");
        Ok(())
    }

    pub(super) fn arrive(
        &mut self,
        now: Now,
        message: &NewMessage,
        topic: TopicNumber,
        transaction: Option<TransactionId>,
    ) {
        let stub = Stub {
            id: message.id,
            topic,
            key_hash: message.key.as_deref().map(keys::hash_of),
            tag: message.tag.clone(),
            ordering_key: message.ordering_key.clone(),
            body_bytes: message.body_bytes,
            deliver_at_ms: message.deliver_at_ms,
            time_to_live_ms: message.time_to_live_ms,
        };
        let places = Vec::new();
        let fate = MessageFate::Undecided;
        let arrived_at_ms = now.unix_ms;
        let model = MessageModel { stub, transaction, arrived_at_ms, fate, stored: true, places };
        self.messages.insert(message.id, model);
    }

    /// The message is free to be seen: now, or at its time.
    pub(super) fn release(&mut self, now: Now, id: MessageId) {
        let message = self.messages.get_mut(&id).expect("what is released has arrived");
        message.fate = match message.stub.deliver_at_ms {
            due_ms if due_ms <= now.unix_ms => MessageFate::DueNow,
            due_ms => {
                self.tally.scheduled += 1;
                MessageFate::Scheduled { due_ms }
            }
        };
    }

    /// Whether a message that was in its queue may be gone already: with this turn nothing of it is left, neither a place nor
    /// what held one.
    pub(super) fn leaves_in_this_turn(&self, id: MessageId, expected: &Expectations) -> bool {
        let known = &self.messages[&id];
        let mut places = known.places.iter();
        known.fate == MessageFate::Queued
            && !known.places.is_empty()
            && places.all(|place| self.is_left(*place, expected).is_ok())
    }

    pub(super) fn cancelled(&mut self, id: MessageId, outcome: &Outcome, expected: &Expectations) -> Verdict {
        let Ok(Reply::Cancelled(answer)) = outcome else {
            return Err("a cancel was not answered exactly".into());
        };
        let fate = self.messages.get(&id).map(|message| message.fate);
        let in_the_queue = matches!(fate, Some(MessageFate::Queued | MessageFate::DueNow));
        match answer {
            Cancelled::Cancelled => {
                let waits = matches!(fate, Some(MessageFate::Scheduled { .. } | MessageFate::Cancelled));
                require!(waits, "a message was called cancelled that is {fate:?}");
                let message = self.messages.get_mut(&id).expect("it has a fate");
                message.fate = MessageFate::Cancelled;
            }
            Cancelled::TooLate => require!(in_the_queue, "too late to cancel a message that is {fate:?}"),
            Cancelled::NotKnown => {
                let waits = matches!(fate, Some(MessageFate::Scheduled { .. }));
                require!(!waits, "a scheduled message is not known");
                let stored = self.messages.get(&id).is_some_and(|message| message.stored);
                let is_there = in_the_queue && stored && !self.leaves_in_this_turn(id, expected);
                require!(!is_there, "a message in its queue is not known");
            }
        }
        Ok(())
    }

    /// What became visible in this turn, and that all that had to did.
    pub(super) fn take_new_places(
        &mut self,
        now: Now,
        changes: &Changes,
        expected: &mut Expectations,
    ) -> Verdict {
        for ((topic, offset), entry) in &changes.queue {
            let Some(entry) = entry else {
                self.resolved_and_gone(changes, (*topic, *offset), expected);
                continue;
            };
            let known = self.placed(*topic, *offset).is_some();
            match known {
                true => self.resolution_changed(changes, (*topic, *offset), entry, expected)?,
                false => self.became_visible(now, changes, (*topic, *offset), entry, expected)?,
            }
        }
        for (topic, offset) in std::mem::take(&mut expected.traceless) {
            self.resolved_and_gone(changes, (topic, offset), expected);
            let placed = self.topics.get_mut(&topic).and_then(|topic| topic.places.get_mut(&offset));
            placed.ok_or("a dead letter without a place")?.trimmed = true;
        }
        let forgotten = self.messages.iter().find(|(_, message)| message.fate == MessageFate::DueNow);
        if let Some((id, _)) = forgotten {
            return Err(format!("message {id} is due and committed, and in no queue at the end of the turn"));
        }
        require!(expected.copies.is_empty(), "redriven and in no queue: {:?}", expected.copies);
        require!(expected.resolved.is_empty(), "resolved and not marked so: {:?}", expected.resolved);
        for (topic, tail) in &changes.tails {
            let (Some(tail), Some(model)) = (tail, self.topics.get(topic)) else { continue };
            require!(
                tail.next == model.next,
                "topic {} is at {}, its record says {}",
                model.name,
                model.next,
                tail.next
            );
        }
        Ok(())
    }

    fn became_visible(
        &mut self,
        now: Now,
        changes: &Changes,
        (number, offset): (TopicNumber, Offset),
        entry: &QueueEntry,
        expected: &mut Expectations,
    ) -> Verdict {
        let Some(topic) = self.topics.get_mut(&number) else {
            return Err(format!("message {} went to topic {number:?}, which does not exist", entry.id));
        };
        require!(
            offset == topic.next,
            "topic {} is at offset {}, and {} was given: offsets are dense and used once",
            topic.name,
            topic.next,
            offset
        );
        topic.next = offset.next();
        let is_dead_letter = topic.dead_letters_of.is_some();
        let placed = Placed {
            id: entry.id,
            at_ms: entry.at_ms,
            expires_at_ms: entry.expires_at_ms,
            tag: entry.tag.clone(),
            ordering_key: entry.ordering_key.clone(),
            body_bytes: entry.body_bytes,
            resolution: entry.resolution,
            trimmed: false,
        };
        topic.places.insert(offset, placed);
        if is_dead_letter {
            return self.dead_letter_appeared(changes, number, offset, entry);
        }
        self.take_copy(now, changes, number, entry, expected)?;
        self.message_appeared(now, number, entry)?;
        let message = self.messages.get_mut(&entry.id).expect("it just appeared");
        message.places.push((number, offset));
        Ok(())
    }

    fn dead_letter_appeared(
        &self,
        changes: &Changes,
        topic: TopicNumber,
        offset: Offset,
        entry: &QueueEntry,
    ) -> Verdict {
        require!(entry.resolution.is_none(), "a dead letter was born resolved");
        let Some(letter) = changes.dead_letter(topic, offset) else {
            return Err(format!("message {} is in a dead-letter topic without a dead letter", entry.id));
        };
        let held = self.group_number(&letter.group).map(|group| (letter.topic, letter.offset, group));
        let place = held.and_then(|held| changes.dead_place(held)).and_then(|it| it.as_ref());
        require!(
            place.is_some_and(|place| place.offset == offset),
            "the dead letter {letter:?} is not where its place says"
        );
        Ok(())
    }

    /// A dead letter was redriven into a topic: a copy under an id of its own, which no client has sent.
    fn take_copy(
        &mut self,
        now: Now,
        changes: &Changes,
        topic: TopicNumber,
        entry: &QueueEntry,
        expected: &mut Expectations,
    ) -> Verdict {
        if self.messages.contains_key(&entry.id) || expected.copies.is_empty() {
            return Ok(());
        }
        let record =
            changes.messages.iter().find(|(id, _)| *id == entry.id).and_then(|(_, record)| record.clone());
        let record = record.ok_or_else(|| format!("message {} is queued and not stored", entry.id))?;
        let copy = Message::decode(record).map_err(|error| error.to_string())?;
        let names = |id: MessageId| copy.headers.iter().any(|(_, value)| *value == id.to_string());
        let of = expected.copies.iter().position(|(id, to)| *to == topic && names(*id));
        let Some(of) = of else {
            return Err(format!("message {} was never sent and is in a queue", entry.id));
        };
        let (original, _) = expected.copies.swap_remove(of);
        let stub = &self.messages[&original].stub;
        let same = (stub.body_bytes, &stub.tag, &stub.ordering_key, stub.key_hash)
            == (entry.body_bytes, &entry.tag, &entry.ordering_key, entry.key_hash);
        require!(same, "the copy of {original} is another message: {copy:?}");
        self.arrive(now, &copy.into(), topic, None);
        self.release(now, entry.id);
        Ok(())
    }

    fn message_appeared(&mut self, now: Now, topic: TopicNumber, entry: &QueueEntry) -> Verdict {
        let id = entry.id;
        let Some(message) = self.messages.get_mut(&id) else {
            return Err(format!("message {id} was never sent and is in a queue"));
        };
        match message.fate {
            MessageFate::DueNow => {}
            MessageFate::Scheduled { due_ms } => require!(
                due_ms <= now.unix_ms,
                "message {id} is scheduled for {due_ms} and was in its queue at {}",
                now.unix_ms
            ),
            fate => return Err(format!("message {id} is {fate:?} and became visible")),
        }
        message.fate = MessageFate::Queued;
        let stub = &message.stub;
        require!(stub.topic == topic, "message {id} went to the wrong topic");
        require!(entry.transaction == message.transaction, "message {id} is filed under another transaction");
        require!(entry.at_ms == now.unix_ms, "message {id} became visible now and says {}", entry.at_ms);
        let expires_at_ms = if stub.time_to_live_ms == 0 { 0 } else { now.unix_ms + stub.time_to_live_ms };
        require!(entry.expires_at_ms == expires_at_ms, "message {id} expires at {expires_at_ms}");
        let same = (&stub.tag, &stub.ordering_key, stub.body_bytes, stub.key_hash)
            == (&entry.tag, &entry.ordering_key, entry.body_bytes, entry.key_hash);
        require!(same, "message {id} is filed as {entry:?}");
        Ok(())
    }

    fn resolution_changed(
        &mut self,
        changes: &Changes,
        (topic, offset): (TopicNumber, Offset),
        entry: &QueueEntry,
        expected: &mut Expectations,
    ) -> Verdict {
        let resolution = self.resolution_of(changes, (topic, offset), expected);
        let placed = self.topics.get_mut(&topic).and_then(|it| it.places.get_mut(&offset));
        let placed = placed.expect("it is known");
        require!(placed.id == entry.id, "another message was put in the place of {}", placed.id);
        require!(
            entry.resolution == placed.resolution || entry.resolution == resolution,
            "dead letter {offset} of topic {topic:?} is marked {:?}, and nobody asked for it",
            entry.resolution
        );
        placed.resolution = entry.resolution;
        Ok(())
    }

    /// What becomes of a dead letter in this turn: a person said so, a newer letter of the same message replaced it, or
    /// its group was deleted.
    fn resolution_of(
        &mut self,
        changes: &Changes,
        (topic, offset): (TopicNumber, Offset),
        expected: &mut Expectations,
    ) -> Option<Resolution> {
        let by_hand = expected.resolved.remove(&(topic, offset));
        let replaced = self.dead_places.iter().any(|(held, at)| {
            let of_topic = self.groups.get(&held.2).is_some_and(|group| group.dead_letters == topic);
            of_topic && *at == offset && changes.dead_place(*held).is_some_and(Option::is_some)
        });
        if replaced {
            self.withdrawn(topic, offset, expected);
        }
        let purged =
            self.topics.get(&topic).is_some_and(|topic| topic.deleted && topic.dead_letters_of.is_some());
        by_hand.or((replaced || purged).then_some(Resolution::Discarded))
    }

    /// A dead letter that was resolved and removed within one turn.
    fn resolved_and_gone(
        &mut self,
        changes: &Changes,
        place: (TopicNumber, Offset),
        expected: &mut Expectations,
    ) {
        let resolution = self.resolution_of(changes, place, expected);
        if let Some(placed) = self.topics.get_mut(&place.0).and_then(|topic| topic.places.get_mut(&place.1)) {
            placed.resolution = placed.resolution.or(resolution);
        }
    }

    /// Whoever reads the dead-letter topic loses a letter that was resolved.
    pub(super) fn withdrawn(&mut self, topic: TopicNumber, offset: Offset, expected: &mut Expectations) {
        let listening = self.groups.iter().filter(|(_, group)| group.subscriptions.contains_key(&topic));
        let listeners: Vec<Held> = listening.map(|(number, _)| (topic, offset, *number)).collect();
        for held in listeners {
            self.leases.retain(|_, lease| lease.held != held);
            self.set_standing(held, Standing::Finished);
            expected.held.insert(held, Expected::Nothing);
        }
    }

    /// A person resolved a dead letter: back to its group, into another topic, or given up.
    pub(super) fn resolved(
        &mut self,
        now: Now,
        (group, offset): (&escrow_protocol::GroupName, Offset),
        resolution: Resolution,
        to: Option<&TopicName>,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        let Some(number) = self.group_number(group) else {
            require!(outcome.is_err(), "a dead letter of a group that does not exist was resolved");
            return Ok(());
        };
        let topic = self.groups[&number].dead_letters;
        let held = self.dead_places.iter().find(|(held, at)| held.2 == number && **at == offset);
        let Some(held) = held.map(|(held, _)| *held) else {
            require!(outcome.is_err(), "a dead letter was resolved that does not exist");
            return Ok(());
        };
        let id = self.placed(topic, offset).map(|placed| placed.id);
        let Ok(Reply::Resolved(answered) | Reply::Copied { of: answered, .. }) = outcome else {
            let refusal = outcome.as_ref().expect_err("it was not resolved");
            let for_its_topic = to.is_some()
                && matches!(refusal.reason, Reason::UnknownTopic | Reason::ReservedTopic | Reason::DiskFull);
            let full = refusal.reason == Reason::LimitReached;
            require!(for_its_topic || full, "a dead letter that is there was not resolved");
            return Ok(());
        };
        require!(Some(*answered) == id, "the dead letter there holds message {id:?}");
        expected.resolved.insert((topic, offset), resolution);
        self.withdrawn(topic, offset, expected);
        self.dead_places.remove(&held);
        if let Some(to) = to {
            expected.copies.push((*answered, self.named(to)?));
        }
        if resolution == Resolution::Redriven {
            self.tally.redriven += 1;
        }
        if resolution == Resolution::Redriven && to.is_none() {
            self.comes_again(now, held, expected);
        } else if self.stand(held).is_some_and(|stand| matches!(stand.standing, Standing::Dead(_))) {
            self.set_standing(held, Standing::Finished);
        }
        Ok(())
    }

    /// Redriven to its group; unless the group was moved back, and has it again anyway.
    fn comes_again(&mut self, now: Now, held: Held, expected: &mut Expectations) {
        let group = self.groups.get_mut(&held.2).expect("the caller found it");
        group.replayed.remove(&held);
        let standing = self.stand(held).map_or(Standing::Finished, |stand| stand.standing);
        if matches!(standing, Standing::Waiting | Standing::Leased(_) | Standing::Retrying) {
            return;
        }
        if let Some(stand) = self.stand_mut(held) {
            *stand = Stand { standing: Standing::Retrying, redriven: true, ..Stand::FRESH };
        }
        let (due_from_ms, due_until_ms) = (now.unix_ms, now.unix_ms);
        expected.held.insert(held, Expected::Retry { attempts_made: 0, due_from_ms, due_until_ms });
    }
}
