//! How far groups have come: floors go up only, over what is finished only, unless a person moves them.

use escrow_broker::engine::{Outcome, Reply, SeekTo};
use escrow_broker::records::{GroupNumber, Progress, TopicNumber};
use escrow_protocol::{GroupName, Offset, Reason, TopicName};

use super::stands::Expected;
use super::{Changes, Expectations, Held, Lease, Model, Standing, Verdict, require};

impl Model {
    pub(super) fn take_progress(&mut self, changes: &Changes, expected: &Expectations) -> Verdict {
        for ((group, topic), progress) in &changes.progress {
            let Some(progress) = progress else { continue };
            self.moved(*group, *topic, progress, expected)?;
        }
        Ok(())
    }

    fn moved(
        &mut self,
        group: GroupNumber,
        topic: TopicNumber,
        progress: &Progress,
        expected: &Expectations,
    ) -> Verdict {
        let held = (topic, Offset(0), group);
        let Some(subscription) = self.subscription(held) else { return Ok(()) };
        let before = subscription.progress.floor;
        let sought = expected.sought.contains(&(group, topic));
        require!(
            sought || progress.floor >= before,
            "the floor of group {group:?} in topic {topic:?} went back from {before} to {}",
            progress.floor
        );
        let next = self.topics.get(&topic).map_or(Offset(0), |topic| topic.next);
        require!(progress.floor <= next, "a floor at {} is beyond the end {next}", progress.floor);
        self.is_finished(group, topic, before..progress.floor)?;
        for (start, end) in &progress.finished {
            self.is_finished(group, topic, *start..*end)?;
        }
        let subscription = self.subscription_mut(held).expect("it was just found");
        subscription.progress = progress.clone();
        Ok(())
    }

    /// Nothing in `range` is still owed from the queue.
    fn is_finished(&self, group: GroupNumber, topic: TopicNumber, range: std::ops::Range<Offset>) -> Verdict {
        let Some(model) = self.topics.get(&topic) else { return Ok(()) };
        if range.start >= range.end {
            return Ok(());
        }
        for (offset, _) in model.places.range(range) {
            let held = (topic, *offset, group);
            let Some(stand) = self.stand(held) else { continue };
            let owed = match stand.standing {
                Standing::Waiting => true,
                Standing::Leased(token) => self.leases.get(&token).is_some_and(|lease| !lease.was_retrying),
                Standing::Retrying | Standing::Dead(_) | Standing::Finished => false,
            };
            require!(
                !owed,
                "group {group:?} moved past offset {offset} of topic {topic:?}, which is {:?}",
                stand.standing
            );
        }
        Ok(())
    }

    /// A person moved a group.
    pub(super) fn sought(
        &mut self,
        (group, topic): (&GroupName, &TopicName),
        to: SeekTo,
        dry_run: bool,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        let found = self.group_number(group).zip(self.topic_number(topic));
        let found = found.filter(|(group, topic)| self.subscription((*topic, Offset(0), *group)).is_some());
        let Some((group, topic)) = found else {
            require!(outcome.is_err(), "a group was moved where it does not listen");
            return Ok(());
        };
        let (head, next) = (self.topics[&topic].head, self.topics[&topic].next);
        let Ok(Reply::Sought { to: floor, .. }) = outcome else {
            let out_of_range = outcome.as_ref().is_err_and(|it| it.reason == Reason::OffsetOutOfRange);
            let outside = matches!(to, SeekTo::Offset(offset) if offset < head || offset > next);
            require!(out_of_range && outside, "a group was not moved within what is kept, {head} to {next}");
            return Ok(());
        };
        require!(*floor >= head, "a group was moved to {floor}, before the oldest message kept, {head}");
        match to {
            SeekTo::Oldest => require!(*floor == head, "the oldest is {head}"),
            SeekTo::Offset(offset) => require!(*floor == offset, "it was moved to {floor}"),
            // Messages that came earlier in this turn are in no place yet.
            SeekTo::Newest => require!(*floor >= next, "the newest is {next}"),
            SeekTo::Time(_) => {}
        }
        if dry_run {
            return Ok(());
        }
        self.tally.seeks += 1;
        expected.sought.insert((group, topic));
        self.begin_at(group, topic, *floor, expected);
        Ok(())
    }

    /// From the floor on everything is owed again, and what lies before, and was owed, never will be; but retries of
    /// earlier messages stay what they are.
    pub(super) fn begin_at(
        &mut self,
        group: GroupNumber,
        topic: TopicNumber,
        floor: Offset,
        expected: &mut Expectations,
    ) {
        let leased: Vec<Lease> =
            self.leases.values().filter(|it| (it.held.0, it.held.2) == (topic, group)).cloned().collect();
        for lease in leased {
            self.leases.remove(&lease.token);
            self.give_back(&lease);
        }
        let ended: Vec<Held> = self
            .retries
            .iter()
            .filter(|held| held.0 == topic && held.1 >= floor && held.2 == group)
            .copied()
            .collect();
        expected.held.extend(ended.into_iter().map(|held| (held, Expected::Nothing)));
        if let Some(subscription) = self.subscription_mut((topic, floor, group)) {
            subscription.progress = Progress { floor, finished: Vec::new() };
            subscription.start = floor;
        }
        self.owe_again(group, topic, floor);
    }

    /// A group begins (again) at `start`: dead letters behind it are owed once more, although they stay dead.
    fn owe_again(&mut self, number: GroupNumber, topic: TopicNumber, start: Offset) {
        let dead =
            self.dead_places.keys().filter(|held| held.0 == topic && held.1 >= start && held.2 == number);
        let dead: Vec<Held> = dead.copied().collect();
        let Some(group) = self.groups.get_mut(&number) else { return };
        group.replayed.extend(dead);
        group.stands.retain(|(of, offset), stand| {
            let holds = matches!(stand.standing, Standing::Retrying | Standing::Dead(_));
            *of != topic || (*offset < start && holds)
        });
    }
}
