//! Topics and groups come and go: what the disk says of their settings is what was ordered; what goes with them goes
//! whole.

use escrow_broker::engine::{Command, Now, Outcome, Reply, SeekTo, Start};
use escrow_broker::records::{Group, GroupNumber, Topic, TopicNumber};
use escrow_protocol::{GroupName, Offset, Reason, TopicName};

use super::{
    Changes, Expectations, GroupModel, Model, SessionModel, Standing, SubscriptionModel, TopicModel, Verdict,
    require,
};

impl Model {
    /// New topics, groups and subscriptions of this turn, before anything is said about them.
    pub(super) fn learn_topics_and_groups(
        &mut self,
        now: Now,
        changes: &Changes,
        expected: &mut Expectations,
    ) -> Verdict {
        for (number, topic) in &changes.topics {
            if let Some(topic) = topic {
                self.learn_topic(now, *number, topic)?;
            }
        }
        for (number, group) in &changes.groups {
            if let Some(group) = group {
                self.learn_group(*number, group, changes, expected)?;
            }
        }
        Ok(())
    }

    fn learn_topic(&mut self, now: Now, number: TopicNumber, topic: &Topic) -> Verdict {
        if let Some(known) = self.topics.get_mut(&number) {
            require!(known.name == topic.name, "topic {number:?} was renamed: numbers are used once");
            known.settings = topic.settings;
            return Ok(());
        }
        require!(
            self.topics.keys().next_back().is_none_or(|last| *last < number),
            "topic number {number:?} was used before"
        );
        let model = TopicModel {
            name: topic.name.clone(),
            settings: topic.settings,
            deleted: false,
            dead_letters_of: topic.dead_letters_of,
            head: Offset(0),
            next: Offset(0),
            places: Default::default(),
            unsubscribed_since_ms: Some(now.unix_ms),
        };
        self.topics.insert(number, model);
        Ok(())
    }

    fn learn_group(
        &mut self,
        number: GroupNumber,
        group: &Group,
        changes: &Changes,
        expected: &mut Expectations,
    ) -> Verdict {
        let mut added = Vec::new();
        let highest = self.groups.keys().next_back().copied();
        let known = self.groups.entry(number).or_insert_with(|| GroupModel {
            name: group.name.clone(),
            settings: group.settings.clone(),
            ordering_before: group.settings.ordering,
            paused: group.paused,
            broadcast: group.broadcast,
            dead_letters: group.dead_letters,
            subscriptions: Default::default(),
            stands: Default::default(),
            replayed: Default::default(),
        });
        require!(known.name == group.name, "group {number:?} was renamed: numbers are used once");
        require!(
            highest.is_none_or(|highest| highest >= number || number.0 > highest.0),
            "a group number was reused"
        );
        known.ordering_before = known.settings.ordering;
        known.settings = group.settings.clone();
        known.paused = group.paused;
        for subscription in &group.subscriptions {
            let tags = subscription.tags.clone();
            if let Some(known) = known.subscriptions.get_mut(&subscription.topic) {
                known.tags = tags;
                continue;
            }
            let Some(progress) = changes.progress_of(number, subscription.topic) else {
                return Err(format!("group {} listens to a topic and has no place there", group.name));
            };
            let (start, progress) = (progress.floor, progress.clone());
            let model = SubscriptionModel { tags, start, progress };
            known.subscriptions.insert(subscription.topic, model);
            added.push((subscription.topic, start));
        }
        for (topic, start) in added {
            self.begin_at(number, topic, start, expected);
        }
        Ok(())
    }

    /// What is gone for good at the end of the turn.
    pub(super) fn forget_topics_and_groups(&mut self, now: Now, changes: &Changes) -> Verdict {
        let gone = changes.groups.iter().filter(|(_, group)| group.is_none());
        for number in gone.map(|(number, _)| *number).collect::<Vec<_>>() {
            let Some(group) = self.groups.get(&number) else { continue };
            require!(group.broadcast, "group {} is gone, and nobody deleted it", group.name);
            let used = self
                .sessions
                .values()
                .any(|session| matches!(session, SessionModel::Consumer { group, .. } if *group == number));
            require!(!used, "group {} is gone, and its client is connected", group.name);
            self.forget_group(number);
        }
        for (number, topic) in &changes.topics {
            let deleted = self.topics.get(number).is_none_or(|topic| topic.deleted);
            require!(topic.is_some() || deleted, "topic {number:?} is gone, and nobody deleted it");
        }
        let listened: Vec<TopicNumber> =
            self.groups.values().flat_map(|group| group.subscriptions.keys().copied()).collect();
        for (number, topic) in &mut self.topics {
            match listened.contains(number) {
                true => topic.unsubscribed_since_ms = None,
                false => topic.unsubscribed_since_ms = topic.unsubscribed_since_ms.or(Some(now.unix_ms)),
            }
        }
        Ok(())
    }

    fn forget_group(&mut self, number: GroupNumber) {
        let Some(group) = self.groups.remove(&number) else { return };
        self.leases.retain(|_, lease| lease.held.2 != number);
        self.retries.retain(|held| held.2 != number);
        self.dead_places.retain(|held, _| held.2 != number);
        self.forget_topic(group.dead_letters);
    }

    /// Nobody listens to it any more, and it takes nothing more.
    fn forget_topic(&mut self, number: TopicNumber) {
        if let Some(topic) = self.topics.get_mut(&number) {
            topic.deleted = true;
        }
        let groups: Vec<GroupNumber> = self.groups.keys().copied().collect();
        for group in groups {
            self.forget_subscription(group, number);
        }
    }

    fn forget_subscription(&mut self, group: GroupNumber, topic: TopicNumber) {
        self.leases.retain(|_, lease| (lease.held.0, lease.held.2) != (topic, group));
        self.retries.retain(|held| (held.0, held.2) != (topic, group));
        if let Some(group) = self.groups.get_mut(&group) {
            group.subscriptions.remove(&topic);
            group.stands.retain(|(of, _), stand| *of != topic || matches!(stand.standing, Standing::Dead(_)));
        }
    }

    /// Orders that concern topics and groups themselves.
    pub(super) fn ordered(&mut self, command: &Command, outcome: &Outcome) -> Verdict {
        match (command, outcome) {
            (Command::DeleteGroup { name, .. }, Ok(Reply::GroupDeleted { retries, dead_letters })) => {
                let number = self.existing_group(name)?;
                let of_group = self.retries.iter().filter(|held| held.2 == number).count() as u64;
                let dead = self.dead_places.keys().filter(|held| held.2 == number).count() as u64;
                require!(*retries == of_group, "the group had {of_group} retries");
                require!(*dead_letters == dead, "the group had {dead} dead letters");
                self.forget_group(number);
            }
            (Command::DeleteTopic { name, .. }, Ok(_)) => {
                let number = self.named(name)?;
                self.forget_topic(number);
            }
            (Command::UpdateGroup { name, unsubscribe, .. }, Ok(_)) => {
                let number = self.existing_group(name)?;
                for topic in unsubscribe {
                    let topic = self.named(topic)?;
                    self.forget_subscription(number, topic);
                }
            }
            (Command::CreateGroup { name, settings, start, .. }, Ok(Reply::Group(view))) => {
                let number = self.existing_group(name)?;
                if let Some(settings) = settings {
                    require!(view.settings == *settings, "the group works along {:?}", view.settings);
                }
                self.starts_where_it_should(number, *start)?;
            }
            (Command::CreateGroup { name, .. }, Err(refusal)) if refusal.reason == Reason::GroupExists => {
                self.existing_group(name)?;
            }
            (Command::SetPaused { name, paused }, Ok(Reply::Group(view))) => {
                self.existing_group(name)?;
                require!(view.paused == *paused, "the group is paused: {}", view.paused);
            }
            _ => {}
        }
        Ok(())
    }

    fn existing_group(&self, name: &GroupName) -> Verdict<GroupNumber> {
        self.group_number(name).ok_or_else(|| format!("group {name} does not exist and was answered for"))
    }

    fn starts_where_it_should(&self, number: GroupNumber, start: Start) -> Verdict {
        let subscriptions = self.groups[&number].subscriptions.iter();
        for (topic, subscription) in subscriptions {
            let topic = &self.topics[topic];
            let floor = subscription.start;
            let right = match start {
                Start::Oldest => floor == topic.head,
                Start::Newest => floor >= topic.next,
                Start::Time(time_ms) => self.is_first_since(topic, floor, time_ms),
            };
            require!(right, "a group that starts at {start:?} starts at {floor} of {}", topic.name);
        }
        Ok(())
    }

    /// Whether `floor` is the first kept place at or after a time. Only sure where time never went back.
    fn is_first_since(&self, topic: &TopicModel, floor: Offset, time_ms: u64) -> bool {
        let kept: Vec<_> = topic.places.range(topic.head..).collect();
        if !kept.is_sorted_by_key(|(_, placed)| placed.at_ms) {
            return true;
        }
        let first = kept.iter().find(|(_, placed)| placed.at_ms >= time_ms);
        first.map_or(floor >= topic.next, |(offset, _)| **offset == floor)
    }
}

/// Orders that name a place.
pub(super) fn seek_of(command: &Command) -> Option<(&GroupName, &TopicName, SeekTo, bool)> {
    match command {
        Command::Seek { group, topic, to, dry_run } => Some((group, topic, *to, *dry_run)),
        _ => None,
    }
}
