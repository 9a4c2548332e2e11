//! Where a group stands with each message: waiting, leased, retrying, dead or finished; exactly one of these. And the
//! only moves between them.

use escrow_broker::engine::{Now, SessionId};
use escrow_broker::records::{
    DeadReason, GroupNumber, OrderingPolicy, RetryDelays, RetryPolicy, TopicNumber,
};
use escrow_protocol::{LeaseToken, Offset};

use super::{Expectations, GroupModel, Held, Model, Placed, SubscriptionModel};

/// Where a group stands with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Leased(LeaseToken),
    Retrying,
    /// At this place of its dead-letter topic.
    Dead(Offset),
    Finished,
}

/// A group's standing with a message it has had to do with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub(crate) standing: Standing,
    /// Attempts that failed, since the first delivery or the last redrive.
    pub(crate) attempts_made: u32,
    /// Of a retrying one: when it may be delivered again, Unix milliseconds.
    pub(crate) due_at_ms: u64,
    /// Answered acks are final, until a person moves the group back.
    pub(crate) acked: bool,
    /// A person sent it again: it is delivered however old it is.
    pub(crate) redriven: bool,
}

impl Stand {
    pub(super) const FRESH: Self =
        Self { standing: Standing::Waiting, attempts_made: 0, due_at_ms: 0, acked: false, redriven: false };
}

/// A lease that counts.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) token: LeaseToken,
    pub(crate) held: Held,
    pub(crate) session: SessionId,
    /// When it runs out, monotonic milliseconds.
    pub(crate) deadline_ms: u64,
    /// The message was retrying before.
    pub(crate) was_retrying: bool,
}

/// What a turn must have left on the disk of one message of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A retry due between the two (both included).
    Retry { attempts_made: u32, due_from_ms: u64, due_until_ms: u64 },
    /// A dead letter.
    Dead { reason: DeadReason, attempts_made: u32 },
    /// Neither.
    Nothing,
}

/// How a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// By the group's policy.
    ByPolicy,
    /// The consumer names the delay, milliseconds.
    After(u64),
}

/// The delay before the attempt behind the `attempts_made`-th failed one: without and with all of the jitter.
fn delay_bounds(policy: &RetryPolicy, attempts_made: u32) -> (u64, u64) {
    if attempts_made <= policy.immediate_attempts {
        return (0, 0);
    }
    let step = attempts_made - policy.immediate_attempts - 1;
    let delay = match &policy.delays {
        RetryDelays::Ladder(steps) => steps[(step as usize).min(steps.len() - 1)],
        RetryDelays::Fixed(delay) => *delay,
        RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => {
            let grow = |delay: u64| delay.saturating_mul(u64::from(*multiplier_permille)) / 1000;
            (0..step).fold((*initial_ms).min(*max_ms), |delay, _| grow(delay).min(*max_ms))
        }
    };
    (delay, delay + delay * u64::from(policy.jitter_percent) / 100)
}

impl SubscriptionModel {
    pub(crate) fn wants(&self, placed: &Placed) -> bool {
        self.tags.is_empty() || placed.tag.as_ref().is_some_and(|tag| self.tags.contains(tag))
    }

    /// Where a group stands that has had nothing to do with a message yet.
    fn untouched(&self, offset: Offset, placed: &Placed) -> Stand {
        let owed = offset >= self.start && self.wants(placed) && placed.resolution.is_none();
        let standing = if owed { Standing::Waiting } else { Standing::Finished };
        Stand { standing, ..Stand::FRESH }
    }
}

impl GroupModel {
    fn stand(&self, topic: TopicNumber, offset: Offset, placed: &Placed) -> Option<Stand> {
        let touched = self.stands.get(&(topic, offset)).copied();
        touched.or_else(|| Some(self.subscriptions.get(&topic)?.untouched(offset, placed)))
    }
}

impl Model {
    pub(super) fn subscription(&self, held: Held) -> Option<&SubscriptionModel> {
        self.groups.get(&held.2)?.subscriptions.get(&held.0)
    }

    pub(super) fn subscription_mut(&mut self, held: Held) -> Option<&mut SubscriptionModel> {
        self.groups.get_mut(&held.2)?.subscriptions.get_mut(&held.0)
    }

    pub(crate) fn placed(&self, topic: TopicNumber, offset: Offset) -> Option<&Placed> {
        self.topics.get(&topic)?.places.get(&offset)
    }

    /// Where a group stands with a message; `None` if it has nothing to do with it.
    pub(crate) fn stand(&self, held: Held) -> Option<Stand> {
        let placed = self.placed(held.0, held.1)?;
        self.groups.get(&held.2)?.stand(held.0, held.1, placed)
    }

    pub(super) fn stand_mut(&mut self, held: Held) -> Option<&mut Stand> {
        let group = self.groups.get_mut(&held.2)?;
        Some(group.stands.entry((held.0, held.1)).or_insert(Stand::FRESH))
    }

    pub(super) fn set_standing(&mut self, held: Held, standing: Standing) {
        if let Some(stand) = self.stand_mut(held) {
            stand.standing = standing;
        }
    }

    /// The lease is over and nothing else has happened.
    pub(super) fn give_back(&mut self, lease: &Lease) {
        let standing = if lease.was_retrying { Standing::Retrying } else { Standing::Waiting };
        self.set_standing(lease.held, standing);
    }

    /// A delivery failed: again later, or never.
    pub(super) fn fail(&mut self, now: Now, lease: &Lease, failure: Failure, expected: &mut Expectations) {
        self.tally.failed_attempts += 1;
        let Some(group) = self.groups.get(&lease.held.2) else { return };
        let policy = group.settings.retry.clone();
        let Some(stand) = self.stand_mut(lease.held) else { return };
        stand.attempts_made += 1;
        let attempts_made = stand.attempts_made;
        if attempts_made >= policy.max_attempts {
            return self.bury(lease.held, DeadReason::AttemptsExhausted, expected);
        }
        let (low, high) = match failure {
            Failure::ByPolicy => delay_bounds(&policy, attempts_made),
            Failure::After(delay) => (delay, delay),
        };
        stand.standing = Standing::Retrying;
        let (due_from_ms, due_until_ms) = (now.unix_ms + low, now.unix_ms + high);
        expected.held.insert(lease.held, Expected::Retry { attempts_made, due_from_ms, due_until_ms });
    }

    /// A message ends in the dead letters of its group (or just ends, where it is a dead letter already). Its place
    /// there is learnt from the disk.
    pub(super) fn bury(&mut self, held: Held, reason: DeadReason, expected: &mut Expectations) {
        let of_dead_letters = self.topics.get(&held.0).is_some_and(|topic| topic.dead_letters_of.is_some());
        // After a replay the newer letter replaces the older.
        if let (Some(older), Some(group)) = (self.dead_places.get(&held), self.groups.get(&held.2)) {
            self.withdrawn(group.dead_letters, *older, expected);
        }
        let Some(stand) = self.stand_mut(held) else { return };
        stand.standing = Standing::Finished;
        let attempts_made = stand.attempts_made;
        // A group that reads a dead-letter topic feeds nobody: what fails there for good just ends.
        let outcome = match of_dead_letters {
            false => Expected::Dead { reason, attempts_made },
            true => Expected::Nothing,
        };
        expected.held.insert(held, outcome);
    }

    /// Whether an earlier message of the same ordering key of this group is in one of these standings.
    pub(super) fn earlier_of_key(&self, held: Held, is: impl Fn(&Stand, &Placed) -> bool) -> Option<Offset> {
        let topic = self.topics.get(&held.0)?;
        let key = topic.places.get(&held.1)?.ordering_key.as_ref()?;
        let group = self.groups.get(&held.2)?;
        let earlier = topic.places.range(..held.1);
        let mut same_key = earlier.filter(|(_, placed)| placed.ordering_key.as_ref() == Some(key));
        let found = same_key
            .find(|(offset, placed)| group.stand(held.0, **offset, placed).is_some_and(|it| is(&it, placed)));
        found.map(|(offset, _)| *offset)
    }

    /// A lease of another message of the same ordering key of this group.
    pub(super) fn lease_of_key(&self, held: Held) -> Option<&Lease> {
        let key = self.placed(held.0, held.1)?.ordering_key.as_ref()?;
        self.leases.values().find(|lease| {
            (lease.held.0, lease.held.2) == (held.0, held.2)
                && lease.held.1 != held.1
                && self.placed(lease.held.0, lease.held.1).and_then(|it| it.ordering_key.as_ref())
                    == Some(key)
        })
    }

    pub(super) fn ordering_of(&self, group: GroupNumber) -> OrderingPolicy {
        self.groups.get(&group).map_or(OrderingPolicy::Block, |group| group.settings.ordering)
    }
}
