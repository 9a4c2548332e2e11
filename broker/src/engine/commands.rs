//! A person's orders about topics and groups.

use std::collections::VecDeque;

use escrow_protocol::{GroupName, Offset, Reason, TopicName};

use super::trouble::Step;
use super::{Command, Engine, Now, Operator, Refusal, Reply, SeekTo, Start, Turn, Wanted};
use crate::records::{GroupNumber, GroupSettings, Tail, TopicNumber, TopicSettings, keys};

impl Engine {
    /// `operator`: for what keeps whose it is in a record of its own.
    pub(super) fn command(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        operator: Operator,
        command: Command,
    ) -> Step<Reply> {
        match command {
            Command::CreateTopic { name, settings } => self.create_topic(now, turn, name, settings),
            Command::UpdateTopic { name, settings } => self.update_topic(turn, &name, settings),
            Command::DeleteTopic { name, force } => self.delete_topic(turn, &name, force),
            Command::CreateGroup { name, subscriptions, settings, start } => {
                self.create_group(now, turn, name, &subscriptions, settings, start)
            }
            Command::UpdateGroup { name, settings, subscriptions, unsubscribe, start } => {
                self.update_group(now, turn, &name, settings, &subscriptions, &unsubscribe, start)
            }
            Command::DeleteGroup { name, force } => self.delete_group(turn, &name, force),
            Command::SetPaused { name, paused } => self.set_paused(turn, &name, paused),
            Command::Seek { group, topic, to, dry_run } => self.seek(turn, &group, &topic, to, dry_run),
            Command::CheckNow(transaction) => self.check_now(turn, transaction),
            Command::Resume(transaction) => self.resume(now, turn, transaction),
            Command::CancelScheduled(id) => self.cancel_scheduled(turn, id),
            Command::MoveScheduled { id, deliver_at_ms } => {
                self.move_scheduled(turn, id, deliver_at_ms).map(Reply::Moved)
            }
            Command::RunRetry { group, id } => self.run_retry(now, turn, &group, id),
            Command::GiveUpRetry { group, id } => self.give_up_retry(now, turn, (&group, id), &operator),
            Command::Redrive { group, offset, to, edit, dry_run } => {
                let number = self.groups.find(group.as_str())?;
                self.redrive(now, turn, number, offset, (to, edit), dry_run)
            }
            Command::Discard { group, offset, dry_run } => {
                let number = self.groups.find(group.as_str())?;
                self.discard(turn, number, offset, dry_run)
            }
            Command::StartJob { group, kind, filter, rate, dry_run } => {
                self.start_job(now, turn, operator, (group, kind, filter), (rate, dry_run))
            }
            Command::OrderJob(number, order) => self.order_job(now, turn, number, order),
            Command::AcknowledgeAlarm(number) => self.acknowledge_alarm(now, turn, operator, number),
            Command::Attest { .. } => Ok(Reply::Done),
        }
    }

    fn create_topic(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        name: TopicName,
        settings: TopicSettings,
    ) -> Step<Reply> {
        if name.is_dead_letter_topic() {
            return Err(Refusal::new(
                Reason::ReservedTopic,
                format!("names ending in .dlq are kept for dead letters; choose another name than {name:?}"),
            )
            .with("topic", &name)
            .into());
        }
        if self.topics.by_name.contains_key(&name) {
            let message = format!("topic {name:?} exists; change it with `escrow topic update`");
            return Err(Refusal::new(Reason::TopicExists, message).with("topic", &name).into());
        }
        check_topic_settings(settings)?;
        self.room_for_topics(1)?;
        let number = self.make_topic(now, turn, name, settings, None);
        Ok(Reply::Topic(self.topic_view(number)))
    }

    fn update_topic(
        &mut self,
        turn: &mut Turn<'_>,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Step<Reply> {
        check_topic_settings(settings)?;
        let number = self.topics.find(name.as_str())?;
        let topic = self.topics.known_mut(number);
        topic.record.settings = settings;
        turn.put(keys::topic(number), &topic.record);
        self.topics.to_trim.insert(number);
        Ok(Reply::Topic(self.topic_view(number)))
    }

    fn delete_topic(&mut self, turn: &mut Turn<'_>, name: &TopicName, force: bool) -> Step<Reply> {
        let number = self.topics.find(name.as_str())?;
        let topic = self.topics.known(number);
        if topic.record.dead_letters_of.is_some() {
            let message = format!("topic {name:?} holds the dead letters of a group and goes with the group");
            return Err(Refusal::new(Reason::ReservedTopic, message).with("topic", name).into());
        }
        let Tail { head, next, awaited, .. } = topic.tail;
        if awaited > 0 {
            return Err(Refusal::new(
                Reason::InUse,
                format!(
                    "{awaited} undecided or scheduled messages will come to topic {name:?}; decide or cancel them first"
                ),
            )
            .with("awaited", awaited)
            .into());
        }
        if !topic.groups.is_empty() && !force {
            return Err(Refusal::new(
                Reason::InUse,
                format!(
                    "{} groups listen to topic {name:?}; unsubscribe them, or force it",
                    topic.groups.len()
                ),
            )
            .with("groups", topic.groups.len())
            .into());
        }
        self.delete_topic_number(turn, number)?;
        Ok(Reply::Count(next.0 - head.0))
    }

    /// Takes a topic's name and listeners; its messages go in the turns that follow.
    pub(super) fn delete_topic_number(&mut self, turn: &mut Turn<'_>, number: TopicNumber) -> Step<()> {
        let groups: Vec<GroupNumber> = self.topics.known(number).groups.iter().copied().collect();
        for group in groups {
            self.unsubscribe(turn, group, number)?;
            self.write_group(turn, group);
        }
        let topic = self.topics.known_mut(number);
        topic.record.deleted = true;
        turn.put(keys::topic(number), &topic.record);
        let name = topic.record.name.clone();
        self.topics.by_name.remove(&name);
        self.topics.to_trim.insert(number);
        Ok(())
    }

    fn create_group(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        name: GroupName,
        subscriptions: &[Wanted],
        settings: Option<GroupSettings>,
        start: Start,
    ) -> Step<Reply> {
        if self.groups.by_name.contains_key(&name) {
            let message = format!("group {name:?} exists; change it with `escrow group update`");
            return Err(Refusal::new(Reason::GroupExists, message).with("group", &name).into());
        }
        let number = self.make_group(now, turn, name, subscriptions, settings, start, false)?;
        Ok(Reply::Group(self.group_view(turn, number)))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of the order")]
    fn update_group(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        name: &GroupName,
        settings: Option<GroupSettings>,
        subscriptions: &[Wanted],
        unsubscribe: &[TopicName],
        start: Start,
    ) -> Step<Reply> {
        let number = self.groups.find(name.as_str())?;
        self.check_wanted(subscriptions)?;
        let mut ended = Vec::new();
        for topic in unsubscribe {
            let topic_number = self.subscription(number, topic)?;
            ended.push(topic_number);
        }
        self.subscribe(now, turn, number, subscriptions, start)?;
        for wanted in subscriptions {
            let topic = self.topics.find(wanted.topic.as_str())?;
            self.retag(number, topic, wanted);
        }
        for topic in ended {
            self.unsubscribe(turn, number, topic)?;
        }
        if let Some(settings) = settings {
            let group = self.groups.known_mut(number);
            let is_other_order = group.record.settings.ordering != settings.ordering;
            group.record.settings = settings;
            if is_other_order {
                group.reopen_all_gates();
            }
        }
        self.groups.awake.insert(number);
        self.write_group(turn, number);
        Ok(Reply::Group(self.group_view(turn, number)))
    }

    /// The topic of this name, if the group listens to it.
    fn subscription(&self, number: GroupNumber, topic: &TopicName) -> Result<TopicNumber, Refusal> {
        let topic_number = self.topics.find(topic.as_str())?;
        let group = self.groups.known(number);
        match group.positions.contains_key(&topic_number) {
            true => Ok(topic_number),
            false => Err(Refusal::new(
                Reason::UnknownSubscription,
                format!("group {:?} does not listen to topic {topic:?}", group.record.name),
            )
            .with("topic", topic)),
        }
    }

    /// Other tags count for what was not read yet; what was passed over under the old ones is finished.
    fn retag(&mut self, number: GroupNumber, topic: TopicNumber, wanted: &Wanted) {
        let group = self.groups.known_mut(number);
        let Some(position) = group.positions.get_mut(&topic) else { return };
        if position.tags == wanted.tags {
            return;
        }
        let read_from = position.oldest_read().map_or(position.next_read(), |candidate| candidate.offset);
        position.filter_by(wanted.tags.clone(), read_from);
    }

    fn delete_group(&mut self, turn: &mut Turn<'_>, name: &GroupName, force: bool) -> Step<Reply> {
        let number = self.groups.find(name.as_str())?;
        let group = self.groups.known(number);
        let letters = self.topics.known(group.record.dead_letters).tail.dead_letters;
        if !force && (letters > 0 || !group.consumers.is_empty()) {
            return Err(Refusal::new(
                Reason::InUse,
                format!(
                    "group {name:?} has {letters} dead letters and {} consumers; redrive or discard the letters and stop \
                     the consumers, or force it",
                    group.consumers.len()
                ),
            )
            .with("dead_letters", letters)
            .with("consumers", group.consumers.len())
            .into());
        }
        let (retries, dead_letters) = self.remove_group(turn, number)?;
        Ok(Reply::GroupDeleted { retries, dead_letters })
    }

    fn set_paused(&mut self, turn: &mut Turn<'_>, name: &GroupName, paused: bool) -> Step<Reply> {
        let number = self.groups.find(name.as_str())?;
        self.groups.known_mut(number).record.paused = paused;
        self.groups.awake.insert(number);
        self.write_group(turn, number);
        Ok(Reply::Group(self.group_view(turn, number)))
    }

    /// Moves a group in a topic: replays what is kept, or skips what it has not seen.
    fn seek(
        &mut self,
        turn: &mut Turn<'_>,
        group: &GroupName,
        topic: &TopicName,
        to: SeekTo,
        dry_run: bool,
    ) -> Step<Reply> {
        let number = self.groups.find(group.as_str())?;
        let topic = self.subscription(number, topic)?;
        let Tail { head, next, .. } = self.topics.known(topic).tail;
        let target = match to {
            SeekTo::Oldest => head,
            SeekTo::Newest => next,
            SeekTo::Time(time_ms) => self.offset_at_time(turn, topic, time_ms)?,
            SeekTo::Offset(offset) if offset < head || offset > next => {
                return Err(Refusal::new(
                    Reason::OffsetOutOfRange,
                    format!("offset {offset} is outside what is kept: {head} to {next}"),
                )
                .with("oldest", head)
                .with("next", next)
                .into());
            }
            SeekTo::Offset(offset) => offset,
        };
        let position = &self.groups.known(number).positions[&topic];
        let from = position.floor();
        let lag = position.lag(next);
        let to_come = next.0 - target.0;
        let (replayed, skipped) = (to_come.saturating_sub(lag), lag.saturating_sub(to_come));
        if !dry_run {
            self.move_position(turn, number, topic, target)?;
        }
        Ok(Reply::Sought { from, to: target, replayed, skipped })
    }

    pub(super) fn move_position(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        topic: TopicNumber,
        target: Offset,
    ) -> Step<()> {
        // What is retried at or behind the target comes again from the queue; what lies before it is still owed.
        let leased_retries: Vec<_> = self.leased_retries_of(number, topic);
        self.revoke_leases(number, topic);
        self.end_retries(turn, number, |place| place.0 == topic && place.1 >= target)?;

        let group = self.groups.known_mut(number);
        group.ready.retain(|place, candidate| place.0 != topic || candidate.is_retry);
        let (doomed, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut group.doomed)
            .into_iter()
            .partition(|(candidate, ..)| candidate.topic == topic);
        group.doomed = others;
        let doomed =
            doomed.into_iter().map(|(candidate, ..)| candidate).filter(|candidate| candidate.is_retry);
        let waiting = group.waiting_retries(topic).into_iter().chain(doomed).collect::<Vec<_>>();
        group.rebuild_gates(topic);
        for candidate in leased_retries.into_iter().chain(waiting) {
            let place = (topic, candidate.offset);
            if group.retries.contains_key(&place) {
                group.ready.insert(place, candidate);
            }
        }
        let position = group.positions.get_mut(&topic).expect("the group listens to the topic");
        position.seek(target);
        self.groups.touch(number, topic);
        self.groups.awake.insert(number);
        self.topics.to_trim.insert(topic);
        Ok(())
    }

    fn leased_retries_of(&self, number: GroupNumber, topic: TopicNumber) -> Vec<super::position::Candidate> {
        let group = self.groups.known(number);
        let tokens =
            group.leased.range((topic, Offset(0))..=(topic, Offset(u64::MAX))).map(|(_, token)| token);
        let candidates = tokens.map(|token| &self.groups.leases[token].candidate);
        candidates.filter(|candidate| candidate.is_retry).cloned().collect()
    }
}

/// A bound in bytes bounds what is kept by time; alone it would keep nothing.
fn check_topic_settings(settings: TopicSettings) -> Result<(), Refusal> {
    if settings.keep_finished_bytes > 0 && settings.keep_finished_ms == 0 {
        return Err(Refusal::invalid(
            "settings.keep_finished_bytes",
            "it bounds what is kept for a time, and no time is given; set keep_finished_ms, too",
        ));
    }
    Ok(())
}
