//! Looking at what is in memory. Changes nothing; every list is a page.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use escrow_protocol::{GroupName, Kind, Offset, TransactionId};

use super::groups::Group;
use super::timers::Census;
use super::trouble::Step;
use super::{
    DuePlace, Engine, GroupView, Holding, Inspect, PositionView, Reply, RetryFilter, Seen, StatusView,
    TopicView, TransactionFilter, TransactionLive, Turn, Whereabout,
};
use crate::records::{
    DeadLetter, DeadPlace, GroupNumber, QueueEntry, Record as _, Subscription, TopicNumber, keys,
};

/// Names that begin with `prefix`, from behind `after` on: costs what is taken of it.
fn page_of<'a, Name: Ord + Borrow<str>, Number>(
    names: &'a BTreeMap<Name, Number>,
    after: Option<&str>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Name, &'a Number)> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    names
        .range::<str, _>((start, Bound::Unbounded))
        .take_while(move |(name, _)| (*name).borrow().starts_with(prefix))
}

/// What a filtered page looks at in one turn, at most: nobody's message waits for longer than that.
pub(super) const EXAMINED_MAX: usize = 1_000;

impl Engine {
    pub(super) fn inspect(&self, turn: &Turn<'_>, question: Inspect) -> Step<Reply> {
        Ok(Reply::Seen(match question {
            Inspect::Status => Seen::Status(self.status()),
            Inspect::Topic(name) => Seen::Topic(self.topic_view(self.topics.find(name.as_str())?)),
            Inspect::Topics { after, prefix, dead_letter_topics, limit } => {
                let names = page_of(&self.topics.by_name, after.as_ref().map(|name| name.as_str()), &prefix);
                let names = names.filter(|(name, _)| dead_letter_topics || !name.is_dead_letter_topic());
                Seen::Topics(names.take(limit).map(|(_, number)| self.topic_view(*number)).collect())
            }
            Inspect::Group(name) => Seen::Group(self.group_view(turn, self.groups.find(name.as_str())?)),
            Inspect::Groups { after, prefix, limit } => {
                let names = page_of(&self.groups.by_name, after.as_ref().map(|name| name.as_str()), &prefix);
                Seen::Groups(names.take(limit).map(|(_, number)| self.group_view(turn, *number)).collect())
            }
            Inspect::Holding { what, limit } => Seen::Holding(self.holding(what, limit)),
            Inspect::Transaction(id) => Seen::Transaction(self.live(self.transaction_number(id)?)),
            Inspect::Transactions { filter, group, kind, after, limit } => {
                let numbers = self.numbers_page(filter, (group.as_ref(), kind.as_ref()), after, limit);
                let live = numbers.into_iter().map(|number| (self.transaction_id(number), self.live(number)));
                Seen::Transactions(live.collect())
            }
            Inspect::Retries { group, after, filter, limit } => {
                let number = self.groups.find(group.as_str())?;
                let (found, next) = self.retries_page(number, after, &filter, limit);
                Seen::Retries(number, found, next)
            }
            Inspect::Vitals { after } => Seen::Vitals(self.vitals(after.as_ref())),
            Inspect::Job(number) => Seen::Job(self.jobs.find(number)?),
            Inspect::Jobs { before, limit } => Seen::Jobs(self.jobs.page(before, limit)),
            Inspect::Facets(group) => {
                let group = self.groups.known(self.groups.find(group.as_str())?);
                Seen::Facets(self.facets.of(group.record.dead_letters))
            }
            Inspect::Clients { after, filter, limit } => {
                let (found, next) = self.sessions.list(after, &filter, limit);
                Seen::Clients(found, next)
            }
            Inspect::Stories { subjects, before } => Seen::Stories(self.story.stretches(&subjects, before)),
            Inspect::Whereabouts { topic, offset } => {
                Seen::Whereabouts(self.whereabouts(turn, topic, offset)?)
            }
        }))
    }

    /// The soonest first. No index has a group's retries by topic or attempt: a bounded number of them is looked at.
    fn retries_page(
        &self,
        number: GroupNumber,
        after: Option<DuePlace>,
        filter: &RetryFilter,
        limit: usize,
    ) -> (Vec<DuePlace>, Option<DuePlace>) {
        let topic = match &filter.topic {
            Some(name) => match self.topics.by_name.get(name) {
                Some(number) => Some(*number),
                None => return (Vec::new(), None),
            },
            None => None,
        };
        let retries = &self.groups.known(number).retries;
        let (mut found, mut last) = (Vec::new(), after);
        for (examined, due) in retries.due_after(after).enumerate() {
            if found.len() == limit || examined == EXAMINED_MAX {
                return (found, last);
            }
            last = Some(*due);
            let (_, place) = due;
            let is_meant = topic.is_none_or(|topic| topic == place.0)
                && retries.get(place).is_some_and(|retrying| {
                    retrying.attempts_made.saturating_add(1) >= filter.attempt_min
                        && filter.key_hash.is_none_or(|hash| retrying.entry.key_hash == Some(hash))
                });
            found.extend(is_meant.then_some(*due));
        }
        (found, None)
    }

    /// Counters of all groups are looked at, as for the status; no record is.
    fn holding(&self, what: Holding, limit: usize) -> Vec<(GroupName, u64)> {
        let number_of = |group: &Group| match what {
            Holding::Retries => group.retries.len() as u64,
            Holding::DeadLetters => self.topics.known(group.record.dead_letters).tail.dead_letters,
        };
        let groups = self.groups.by_name.iter();
        let mut holding: Vec<_> = groups
            .map(|(name, number)| (name, number_of(self.groups.known(*number))))
            .filter(|(_, held)| *held > 0)
            .collect();
        // Stable: among equals, by name.
        holding.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
        holding.truncate(limit);
        holding.into_iter().map(|(name, held)| (name.clone(), held)).collect()
    }

    fn status(&self) -> StatusView {
        let groups = || self.groups.by_number.values();
        let oldest = self.transactions.undecided.oldest();
        StatusView {
            topics: self.topics.by_name.keys().filter(|name| !name.is_dead_letter_topic()).count() as u64,
            groups: self.groups.by_number.len() as u64,
            undecided: self.transactions.undecided.len() as u64,
            waiting_for_checker: self.waiting_for_checker(),
            parked: self.transactions.parked.len() as u64,
            oldest_undecided_at_ms: oldest.map(|(_, undecided)| undecided.created_at_ms),
            retrying: groups().map(|group| group.retries.len() as u64).sum(),
            scheduled: self.counters.scheduled,
            leased: self.groups.leases.len() as u64,
            dead_letters: self.dead_letters(),
            lag: groups().map(|group| self.lag_of(group)).sum(),
            producers: self.sessions.producers.len() as u64,
            consumers: self.sessions.consumers.len() as u64,
            accepting: self.accepting,
            damaged: self.counts.records_damaged,
        }
    }

    /// Those of a deleted group are no longer anyone's, although it takes some turns to remove them.
    fn dead_letters(&self) -> u64 {
        let topics = self.topics.by_number.values().filter(|topic| !topic.record.deleted);
        topics.map(|topic| topic.tail.dead_letters).sum()
    }

    fn waiting_for_checker(&self) -> u64 {
        let unanswered = self.kinds.iter().filter(|kind| kind.checkers.is_empty());
        unanswered.map(|kind| kind.due.len() as u64).sum()
    }

    fn lag_of(&self, group: &Group) -> u64 {
        let positions = group.positions.iter();
        positions.map(|(topic, position)| position.lag(self.topics.known(*topic).tail.next)).sum()
    }

    pub(super) fn topic_view(&self, number: TopicNumber) -> TopicView {
        let topic = self.topics.known(number);
        let groups = topic.groups.iter().map(|group| self.groups.known(*group).record.name.clone());
        let owner = topic.record.dead_letters_of.and_then(|group| self.groups.by_number.get(&group));
        TopicView {
            number,
            name: topic.record.name.clone(),
            settings: topic.record.settings,
            created_at_ms: topic.record.created_at_ms,
            head: topic.tail.head,
            next: topic.tail.next,
            bytes: topic.tail.bytes,
            awaited: topic.tail.awaited,
            groups: groups.collect(),
            dead_letters_of: owner.map(|group| group.record.name.clone()),
        }
    }

    pub(super) fn group_view(&self, turn: &Turn<'_>, number: GroupNumber) -> GroupView {
        let group = self.groups.known(number);
        let dead_letters = self.topics.known(group.record.dead_letters);
        let members = group.consumers.iter().map(|session| self.sessions.consumers[session].client.clone());
        GroupView {
            number,
            name: group.record.name.clone(),
            settings: group.record.settings.clone(),
            paused: group.record.paused,
            broadcast: group.record.broadcast,
            created_at_ms: group.record.created_at_ms,
            positions: group.positions.keys().map(|topic| self.position_view(turn, group, *topic)).collect(),
            leased: group.leased.len() as u64,
            retrying: group.retries.len() as u64,
            dead_letters: dead_letters.tail.dead_letters,
            blocked_keys: group.blocked.count(),
            members: members.collect(),
            acked: group.acked,
            nacked: group.nacked,
            expired_leases: group.expired_leases,
            dead_letter_topic: group.record.dead_letters,
            dead_letter_topic_name: dead_letters.record.name.clone(),
        }
    }

    fn position_view(&self, turn: &Turn<'_>, group: &Group, number: TopicNumber) -> PositionView {
        let topic = self.topics.known(number);
        let position = &group.positions[&number];
        // The floor is the oldest that is not finished. A damaged entry has no age.
        let oldest: Option<QueueEntry> = match position.floor() < topic.tail.next {
            true => turn.get(&keys::queue(number, position.floor())).unwrap_or_default(),
            false => None,
        };
        PositionView {
            topic: topic.record.name.clone(),
            subscription: Subscription { topic: number, tags: position.tags.clone() },
            floor: position.floor(),
            finished_above: position.finished_above(),
            lag: position.lag(topic.tail.next),
            oldest_at_ms: oldest.map(|entry| entry.at_ms),
        }
    }

    fn live(&self, number: u64) -> TransactionLive {
        if let Some(undecided) = self.transactions.undecided.get(number) {
            let kind = self.kinds.get(undecided.kind);
            return TransactionLive {
                waiting_for_checker: kind.checkers.is_empty() && kind.due.contains(&number),
                next_event_at_ms: Some(undecided.timer_at_ms),
                being_checked: self.questions.about(number).is_some(),
                checkers_connected: kind.checkers.len() as u32,
            };
        }
        let kind = self.transactions.parked.get(&number).map(|kind| self.kinds.get(*kind));
        let checkers_connected = kind.map_or(0, |kind| kind.checkers.len() as u32);
        TransactionLive { checkers_connected, ..TransactionLive::default() }
    }

    /// Numbers of undecided transactions of a producer group and a kind (`None`: of any), ascending: the oldest first.
    fn numbers_page(
        &self,
        filter: TransactionFilter,
        (group, kind): (Option<&GroupName>, Option<&Kind>),
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<u64> {
        let from = after.map_or(0, |after| after.number() + 1);
        let of_any = group.is_none() && kind.is_none();
        match filter {
            TransactionFilter::Undecided => {
                let kinds = (!of_any).then(|| self.kinds.of(group, kind));
                self.transactions.undecided.numbers_from(from, kinds.as_ref()).take(limit).collect()
            }
            TransactionFilter::Parked if of_any => {
                self.transactions.parked.range(from..).take(limit).map(|(number, _)| *number).collect()
            }
            TransactionFilter::Parked | TransactionFilter::WaitingForChecker => {
                let kinds = self.kinds.iter().filter(|state| state.is_of(group, kind));
                // A page of each kind, and the page that these make together.
                let mut numbers: Vec<u64> = kinds
                    .filter_map(|state| match filter == TransactionFilter::Parked {
                        true => Some(&state.parked),
                        false => state.checkers.is_empty().then_some(&state.due),
                    })
                    .flat_map(|numbers| numbers.range(from..).take(limit).copied())
                    .collect();
                numbers.sort_unstable();
                numbers.truncate(limit);
                numbers
            }
        }
    }

    /// Where each group stands with the message at one place: those that listen, and those that still owe it.
    fn whereabouts(
        &self,
        turn: &Turn<'_>,
        topic: TopicNumber,
        offset: Offset,
    ) -> Step<Vec<(GroupName, Whereabout)>> {
        let place = (topic, offset);
        let mut found = Vec::new();
        let range = keys::dead_place_range(topic, offset, offset.next());
        let dead = turn.scan(&range, self.groups.by_number.len() + 1)?;
        for (number, group) in &self.groups.by_number {
            let letter =
                dead.iter().find(|(key, _)| keys::held_of(key).is_some_and(|(.., owner)| owner == *number));
            let whereabout = if let Some(token) = group.leased.get(&place) {
                let lease = &self.groups.leases[token];
                let attempt = lease.candidate.attempts_made + 1;
                Some(Whereabout::Leased { client: Some(lease.client.clone()), attempt })
            } else if let Some(retrying) = group.retries.get(&place) {
                let (due_at_ms, attempts_made) = (retrying.due_at_ms, retrying.attempts_made);
                Some(Whereabout::Retrying { due_at_ms, attempts_made })
            } else if let Some(position) = group.positions.get(&topic).filter(|p| !p.is_finished(offset)) {
                let exists = offset < self.topics.known(topic).tail.next && offset >= position.floor();
                exists.then_some(Whereabout::Waiting)
            } else if let Some((_, value)) = letter {
                self.dead_whereabout(turn, group, value.clone())?
            } else {
                group.positions.contains_key(&topic).then_some(Whereabout::Finished)
            };
            found.extend(whereabout.map(|whereabout| (group.record.name.clone(), whereabout)));
        }
        Ok(found)
    }

    fn dead_whereabout(
        &self,
        turn: &Turn<'_>,
        group: &Group,
        place: bytes::Bytes,
    ) -> Step<Option<Whereabout>> {
        let Ok(DeadPlace { offset }) = DeadPlace::decode(place) else { return Ok(None) };
        let letter: Option<DeadLetter> = turn.get(&keys::dead_letter(group.record.dead_letters, offset))?;
        Ok(letter.map(|letter| Whereabout::Dead { offset, reason: letter.reason }))
    }

    /// See [`Engine::assert_invariants`].
    pub(super) fn assert_all(&self) {
        let groups = || self.groups.by_number.values();
        // Invariant 10: timers in memory = undecided (not parked) + retrying + leased + questions under way. The first
        // are planned where they lie.
        self.transactions.undecided.assert_all();
        let expected = Census {
            retries: groups().map(|group| group.retries.values().filter(|r| r.is_planned).count()).sum(),
            leases: self.groups.leases.len(),
            questions: self.questions.len(),
        };
        assert_eq!(self.timers.census(), expected, "timers are not what is planned");

        let undecided = self.transactions.undecided.len() + self.transactions.parked.len();
        assert_eq!(
            self.kinds.iter().map(|kind| kind.undecided + kind.parked.len()).sum::<usize>(),
            undecided,
            "undecided by kind"
        );
        for kind in self.kinds.iter() {
            for number in &kind.due {
                assert!(self.transactions.undecided.get(*number).is_some(), "transaction {number} is due");
                let asked = self.questions.about(*number);
                assert!(asked.is_none(), "transaction {number} is due and being asked about");
            }
        }
        let leased: usize = groups().map(|group| group.leased.len()).sum();
        assert_eq!(leased, self.groups.leases.len(), "leases of groups are not all leases");
        for (token, lease) in &self.groups.leases {
            let group = self.groups.known(lease.group);
            let place = (lease.candidate.topic, lease.candidate.offset);
            assert_eq!(group.leased.get(&place), Some(token), "a lease its group does not know");
        }
        for group in groups() {
            self.assert_group(group);
        }
        for topic in self.topics.by_number.values() {
            assert!(topic.tail.head <= topic.tail.next, "a topic's head is behind its end");
        }
        for (number, topic) in &self.topics.by_number {
            // A damaged dead letter is in no count of these.
            let (counted, letters) = (self.facets.of(*number).total(), topic.tail.dead_letters);
            assert!(counted <= letters, "topic {number:?}: {counted} of {letters} dead letters are counted");
            let is_whole = self.counts.records_damaged > 0 || counted == letters;
            assert!(is_whole, "topic {number:?}: {counted} of {letters} dead letters are counted");
        }
    }

    fn assert_group(&self, group: &Group) {
        let name = &group.record.name;
        let blocked = group.gates.values().filter(|gate| gate.is_blocked()).count() as u64;
        assert_eq!(group.blocked.count(), blocked, "group {name}: keys that hold something back");
        let mut seen = std::collections::BTreeSet::new();
        let waiting = group.gates.values().flat_map(|gate| gate.waiting()).map(|c| (c.topic, c.offset));
        let doomed = group.doomed.iter().map(|(candidate, ..)| (candidate.topic, candidate.offset));
        let places =
            group.ready.keys().copied().chain(group.leased.keys().copied()).chain(waiting).chain(doomed);
        for place in places {
            assert!(seen.insert(place), "group {name}: {place:?} is in two places at once");
            if let Some(position) = group.positions.get(&place.0)
                && !group.retries.contains_key(&place)
            {
                assert!(!position.is_finished(place.1), "group {name}: {place:?} is finished and under way");
            }
        }
        group.retries.assert_invariants();
        for (place, retrying) in group.retries.iter() {
            let under_way = seen.contains(place);
            assert!(
                retrying.is_planned != under_way,
                "group {name}: retry {place:?} is lost or under way twice"
            );
            if let Some(position) = group.positions.get(&place.0) {
                assert!(
                    position.is_finished(place.1),
                    "group {name}: {place:?} is owed by the queue and retrying"
                );
            }
        }
        for (topic, position) in &group.positions {
            position.assert_invariants();
            let tail = self.topics.known(*topic).tail;
            assert!(position.floor() >= tail.head, "group {name}: its messages were removed");
            assert!(position.next_read() <= tail.next, "group {name} has read beyond the end");
        }
    }
}
