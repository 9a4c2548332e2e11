//! Dead letters: how a message gets there, and how a person sends it again or gives it up. Each step is one batch.

use std::sync::Arc;

use escrow_protocol::{MessageId, Offset, Reason, TopicName};

use super::groups::Retrying;
use super::position::Candidate;
use super::story::noted;
use super::timers::WallTimer;
use super::trouble::Step;
use super::{Engine, MessageEdit, NewMessage, Now, Refusal, Reply, Turn};
use crate::records::{
    DeadLetter, DeadPlace, DeadReason, GroupNumber, Happening, Message, QueueEntry, Resolution, Retry,
    Subject, TopicNumber, keys,
};

/// Names the message that a redriven copy was made of.
const REDRIVEN_FROM: &str = "escrow-redriven-from";

impl Engine {
    /// Moves a message to its group's dead letters: the retry ends, and the letter begins, in one batch.
    ///
    /// A dead letter that fails in a group listening to a dead-letter topic is not buried again: it is there already.
    #[allow(clippy::too_many_arguments, reason = "the parts of a dead letter")]
    pub(super) fn bury(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        candidate: &Candidate,
        retry: Retry,
        reason: DeadReason,
        error: String,
    ) -> Step<()> {
        let (topic, offset) = (candidate.topic, candidate.offset);
        if self.topics.get(topic).is_some_and(|topic| topic.record.dead_letters_of.is_some()) {
            return self.end_delivery(turn, number, candidate);
        }
        self.supersede(turn, number, topic, offset)?;
        let group = self.groups.known(number);
        let dead_letters = group.record.dead_letters;
        let letter = DeadLetter {
            group: group.record.name.clone(),
            topic,
            topic_name: self.name_of(turn, topic, candidate.entry.id)?,
            offset,
            entry: retry.entry,
            reason,
            error,
            at_ms: now.unix_ms,
            attempts_made: retry.attempts_made,
            attempts: retry.attempts,
            redrives: retry.redrives,
        };
        let entry = QueueEntry { at_ms: now.unix_ms, expires_at_ms: 0, ..letter.entry.clone() };
        let at = self.append_entry(turn, dead_letters, &entry);
        turn.put(keys::dead_letter(dead_letters, at), &letter);
        turn.put(keys::dead_place(topic, offset, number), &DeadPlace { offset: at });
        let error = noted(&letter.error);
        self.note(
            Subject::Place(topic, offset),
            Happening::Died { group: number, offset: at, reason, error },
        );
        self.topics.tail_mut(dead_letters).dead_letters += 1;
        self.facets.add(dead_letters, reason, &letter.topic_name);
        self.counts.dead_letters += 1;
        self.counts.messages_expired += u64::from(reason == DeadReason::Expired);
        self.end_delivery(turn, number, candidate)
    }

    /// After a replay the same message may die twice: the newer letter replaces the older.
    fn supersede(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        topic: TopicNumber,
        offset: Offset,
    ) -> Step<()> {
        let older: Option<DeadPlace> = self.read_or_report(turn, &keys::dead_place(topic, offset, number))?;
        let Some(DeadPlace { offset: older }) = older else { return Ok(()) };
        let dead_letters = self.groups.known(number).record.dead_letters;
        self.mark_resolved(turn, dead_letters, older, Resolution::Discarded)
    }

    /// A topic may be gone before its retries; then the message itself still knows its name.
    fn name_of(&mut self, turn: &Turn<'_>, topic: TopicNumber, id: MessageId) -> Step<TopicName> {
        if let Some(topic) = self.topics.get(topic) {
            return Ok(topic.record.name.clone());
        }
        let message: Option<Message> = self.read_or_report(turn, &keys::message(id))?;
        Ok(message.map_or_else(|| TopicName::new("unknown").expect("a legal name"), |message| message.topic))
    }

    /// The letter at `offset` of a group's dead-letter topic.
    pub(super) fn letter(
        &self,
        turn: &Turn<'_>,
        number: GroupNumber,
        offset: Offset,
    ) -> Step<(TopicNumber, DeadLetter)> {
        let group = self.groups.known(number);
        let dead_letters = group.record.dead_letters;
        let letter = turn.get(&keys::dead_letter(dead_letters, offset))?;
        let letter = letter.ok_or_else(|| {
            Refusal::new(
                Reason::UnknownDeadLetter,
                format!(
                    "group {:?} has no dead letter at {offset}: redriven, discarded, or never there",
                    group.record.name
                ),
            )
            .with("offset", offset)
        })?;
        Ok((dead_letters, letter))
    }

    pub(super) fn redrive(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        offset: Offset,
        (to, edit): (Option<TopicName>, Option<MessageEdit>),
        dry_run: bool,
    ) -> Step<Reply> {
        let (dead_letters, letter) = self.letter(turn, number, offset)?;
        let id = letter.entry.id;
        let to = to.or_else(|| edit.is_some().then(|| letter.topic_name.clone()));
        let copy = match &to {
            Some(topic) => Some(self.copy_for(now, turn, id, topic, edit.unwrap_or_default())?),
            None => None,
        };
        let reply = match &copy {
            Some(copy) => Reply::Copied { of: id, copy: copy.id, topic: copy.topic.clone() },
            None => Reply::Resolved(id),
        };
        if dry_run {
            return Ok(reply);
        }
        let by = self.story.by();
        let happening = match &copy {
            Some(copy) => Happening::Copied(number, copy.id, by),
            None => Happening::Redriven(number, by),
        };
        self.note(Subject::Place(letter.topic, letter.offset), happening);
        match copy {
            Some(copy) => {
                let topic = self.topic_to_publish(&copy.topic)?;
                let stub = self.store(now, turn, copy, topic, None);
                self.make_visible(now, turn, &stub, None, now.unix_ms);
            }
            None => self.retry_again(now, turn, number, &letter),
        }
        self.resolve(turn, number, dead_letters, offset, &letter, Resolution::Redriven)?;
        self.counts.redrives += 1;
        Ok(reply)
    }

    /// A new message made of a dead one. The one case in which the engine reads a body.
    fn copy_for(
        &mut self,
        now: Now,
        turn: &Turn<'_>,
        id: MessageId,
        topic: &TopicName,
        edit: MessageEdit,
    ) -> Step<NewMessage> {
        self.topic_to_publish(topic)?;
        self.refuse_without_room(turn)?;
        let mut message = self.read_message(turn, id)?;
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        message.id = MessageId::new(now.unix_ms, random);
        message.topic = topic.clone();
        message.deliver_at_ms = 0;
        message.headers = edit.headers.unwrap_or(message.headers);
        message.body = edit.body.unwrap_or(message.body);
        message.headers.retain(|(name, _)| name != REDRIVEN_FROM);
        message.headers.push((REDRIVEN_FROM.into(), id.to_string()));
        Ok(NewMessage::from(message))
    }

    /// The failing group gets it again, at once, with all its attempts; what is known of the old ones stays.
    fn retry_again(&mut self, now: Now, turn: &mut Turn<'_>, number: GroupNumber, letter: &DeadLetter) {
        let (topic, offset) = (letter.topic, letter.offset);
        let group = self.groups.known_mut(number);
        let is_owed = group.positions.get(&topic).is_some_and(|position| !position.is_finished(offset));
        if is_owed || group.retries.contains_key(&(topic, offset)) {
            // A replay has brought it back already.
            return;
        }
        // A person wants it delivered, however old it is.
        let entry = QueueEntry { expires_at_ms: 0, ..letter.entry.clone() };
        let shared = Arc::new(entry.clone());
        let retry = Retry {
            entry,
            due_at_ms: now.unix_ms,
            attempts_made: 0,
            attempts: letter.attempts.clone(),
            redrives: letter.redrives + 1,
        };
        turn.put(keys::retry(topic, offset, number), &retry);
        self.timers.plan(now.unix_ms, WallTimer::Retry(number, topic, offset));
        let candidate =
            Candidate { topic, offset, entry: Arc::clone(&shared), attempts_made: 0, is_retry: true };
        let retrying = Retrying { due_at_ms: now.unix_ms, is_planned: true, attempts_made: 0, entry: shared };
        group.retries.insert((topic, offset), retrying);
        if let Some(gate) = group.gate_of(&candidate) {
            gate.start_retrying(offset);
        }
    }

    pub(super) fn discard(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        offset: Offset,
        dry_run: bool,
    ) -> Step<Reply> {
        let (dead_letters, letter) = self.letter(turn, number, offset)?;
        if !dry_run {
            let by = self.story.by();
            self.note(Subject::Place(letter.topic, letter.offset), Happening::Discarded(number, by));
            self.resolve(turn, number, dead_letters, offset, &letter, Resolution::Discarded)?;
            self.counts.discards += 1;
        }
        Ok(Reply::Resolved(letter.entry.id))
    }

    /// Ends a letter. Its place in the dead-letter topic stays, for offsets are dense; its message goes, unless
    /// something else needs it.
    pub(super) fn resolve(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        dead_letters: TopicNumber,
        offset: Offset,
        letter: &DeadLetter,
        resolution: Resolution,
    ) -> Step<()> {
        self.mark_resolved(turn, dead_letters, offset, resolution)?;
        let key = keys::dead_place(letter.topic, letter.offset, number);
        let place: Option<DeadPlace> = self.read_or_report(turn, &key)?;
        // After a replay the place may belong to a newer letter.
        if place.is_none_or(|place| place.offset == offset) {
            turn.delete(key);
            self.release_hold(turn, letter.topic, letter.offset, &letter.entry)?;
        }
        Ok(())
    }

    fn mark_resolved(
        &mut self,
        turn: &mut Turn<'_>,
        dead_letters: TopicNumber,
        offset: Offset,
        resolution: Resolution,
    ) -> Step<()> {
        let queue_key = keys::queue(dead_letters, offset);
        let entry: Option<QueueEntry> = self.read_or_report(turn, &queue_key)?;
        if let Some(entry) = &entry {
            turn.put(queue_key, &QueueEntry { resolution: Some(resolution), ..entry.clone() });
        }
        let letter_key = keys::dead_letter(dead_letters, offset);
        let letter: Option<DeadLetter> = self.read_or_report(turn, &letter_key)?;
        if let Some(letter) = letter {
            self.facets.remove(dead_letters, letter.reason, &letter.topic_name);
        }
        turn.delete(letter_key);
        self.topics.tail_mut(dead_letters).dead_letters -= 1;
        self.topics.to_trim.insert(dead_letters);
        let listeners: Vec<GroupNumber> = self.topics.known(dead_letters).groups.iter().copied().collect();
        for listener in listeners {
            self.withdraw(turn, listener, dead_letters, offset, entry.as_ref())?;
        }
        Ok(())
    }

    /// A group that listens to a dead-letter topic loses a letter that was resolved, wherever it stood with it; what
    /// waited behind it in its ordering key may go.
    fn withdraw(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        topic: TopicNumber,
        offset: Offset,
        entry: Option<&QueueEntry>,
    ) -> Step<()> {
        let place = (topic, offset);
        if let Some(token) = self.groups.known(number).leased.get(&place).copied() {
            self.take_lease(token);
        }
        self.end_retry(turn, number, place)?;
        let group = self.groups.known_mut(number);
        group.ready.remove(&place);
        group.doomed.retain(|(candidate, ..)| (candidate.topic, candidate.offset) != place);
        group.withdraw_from_gates(topic, offset, entry);
        self.groups.awake.insert(number);
        let Some(position) = self.groups.known_mut(number).positions.get_mut(&topic) else { return Ok(()) };
        position.forget(offset);
        if offset < position.next_read() && !position.is_finished(offset) {
            position.finish(offset);
            self.groups.touch(number, topic);
        }
        Ok(())
    }
}
