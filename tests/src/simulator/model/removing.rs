//! Removal: a message goes when no group needs it any more and its topic keeps it no longer; not before.

use escrow_broker::engine::Now;
use escrow_protocol::{MessageId, Offset};

use super::{Changes, MessageFate, Model, Standing, TopicModel, TopicNumber, Verdict, require};

impl Model {
    pub(super) fn take_removals(&mut self, now: Now, changes: &Changes) -> Verdict {
        for ((topic, offset), entry) in &changes.queue {
            if entry.is_none() {
                self.trimmed(now, *topic, *offset)?;
            }
        }
        for (id, record) in &changes.messages {
            if record.is_none() {
                self.removed(now, *id)?;
            }
        }
        for (topic, tail) in &changes.tails {
            let (Some(tail), Some(model)) = (tail, self.topics.get_mut(topic)) else { continue };
            let (name, before) = (&model.name, model.head);
            require!(
                tail.head >= before,
                "the head of topic {name} went back from {before} to {}",
                tail.head
            );
            model.head = tail.head;
            let kept_below = model.places.range(..tail.head).find(|(_, placed)| !placed.trimmed);
            require!(kept_below.is_none(), "topic {name} begins at {} and kept {kept_below:?}", tail.head);
            let gone_above = model.places.range(tail.head..).find(|(_, placed)| placed.trimmed);
            require!(
                gone_above.is_none(),
                "topic {name} begins at {} and has a gap: {gone_above:?}",
                tail.head
            );
        }
        Ok(())
    }

    /// A queue entry is gone: no group may be owed it from the queue.
    pub(super) fn trimmed(&mut self, now: Now, topic: TopicNumber, offset: Offset) -> Verdict {
        let Some(model) = self.topics.get(&topic) else { return Ok(()) };
        let Some(placed) = model.places.get(&offset) else {
            return Err(format!("offset {offset} of topic {topic:?} was removed and never given"));
        };
        if !model.deleted && !self.is_outdated(now, model, topic, placed.at_ms) {
            return Err(format!("offset {offset} of topic {} was removed and is to be kept", model.name));
        }
        let of_dead_letters = model.dead_letters_of.is_some_and(|group| self.groups.contains_key(&group));
        require!(
            !of_dead_letters || placed.resolution.is_some(),
            "dead letter {offset} of topic {} was removed, and nobody resolved it",
            model.name
        );
        let groups: Vec<_> = self.groups.keys().copied().collect();
        for group in groups {
            let held = (topic, offset, group);
            let Some(stand) = self.stand(held) else { continue };
            let owed = match stand.standing {
                Standing::Waiting => !of_dead_letters,
                Standing::Leased(_) => !self.retries.contains(&held) && !of_dead_letters,
                Standing::Retrying | Standing::Dead(_) | Standing::Finished => false,
            };
            require!(!owed, "{held:?} is {:?} and its queue entry was removed", stand.standing);
        }
        let placed = self.topics.get_mut(&topic).and_then(|topic| topic.places.get_mut(&offset));
        placed.expect("it was just found").trimmed = true;
        Ok(())
    }

    /// Whether retention lets a finished message go.
    fn is_outdated(&self, now: Now, topic: &TopicModel, number: TopicNumber, at_ms: u64) -> bool {
        let latest = self.latest_unix_ms.max(now.unix_ms);
        let listeners = self.groups.values().any(|group| group.subscriptions.contains_key(&number));
        if topic.dead_letters_of.is_some() {
            return true;
        }
        if !listeners {
            let keep_ms = self.settings.retention.unsubscribed_ms.max(topic.settings.keep_finished_ms);
            return at_ms + keep_ms <= latest;
        }
        let settings = topic.settings;
        let kept: u64 = topic
            .places
            .values()
            .filter(|placed| !placed.trimmed)
            .map(|placed| u64::from(placed.body_bytes))
            .sum();
        let crowded = settings.keep_finished_bytes > 0 && kept > settings.keep_finished_bytes;
        settings.keep_finished_ms == 0 || crowded || at_ms + settings.keep_finished_ms <= latest
    }

    /// The record of a message is gone: nothing may need it.
    fn removed(&mut self, now: Now, id: MessageId) -> Verdict {
        let _ = now;
        let Some(message) = self.messages.get(&id) else {
            return Err(format!("message {id} was removed and never stored"));
        };
        match message.fate {
            MessageFate::RolledBack | MessageFate::Cancelled | MessageFate::Queued => {}
            fate => {
                let gone = self.topics.get(&message.stub.topic).is_none_or(|topic| topic.deleted);
                require!(gone, "message {id} is {fate:?} and was removed");
            }
        }
        for (topic, offset) in message.places.clone() {
            self.is_not_needed(id, topic, offset)?;
        }
        self.messages.get_mut(&id).expect("it was just found").stored = false;
        Ok(())
    }

    fn is_not_needed(&self, id: MessageId, topic: TopicNumber, offset: Offset) -> Verdict {
        let from = (topic, offset, escrow_broker::records::GroupNumber(0));
        let until = (topic, offset.next(), escrow_broker::records::GroupNumber(0));
        let retry = self.retries.range(from..until).next();
        require!(retry.is_none(), "message {id} was removed and is retrying at {retry:?}");
        let dead = self.dead_places.range(from..until).next();
        require!(dead.is_none(), "message {id} was removed and is a dead letter at {dead:?}");
        let placed = self.placed(topic, offset).expect("a message is where it was put");
        require!(placed.trimmed, "message {id} was removed and is still in its queue at {offset}");
        Ok(())
    }
}
