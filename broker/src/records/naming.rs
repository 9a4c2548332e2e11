//! Topics and groups: what is configured, and how far each has come; and the counters that give numbers once.

use escrow_protocol::{GroupName, Offset, Tag, TopicName};

use super::{DecodeError, GroupNumber, Reader, Record, TopicNumber, Writer};

/// The numbers that were given last (never lowered), and what is counted over the whole shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Of transactions.
    pub transaction: u64,
    /// Of topics.
    pub topic: u32,
    /// Of groups.
    pub group: u32,
    /// How many messages are scheduled now (this one goes up and down).
    pub scheduled: u64,
    /// Of records of remembered ids.
    pub remembered: u64,
}

impl Record for Counters {
    const NAME: &'static str = "counters";

    fn write(&self, to: &mut Writer) {
        to.int(self.transaction);
        to.int(self.topic);
        to.int(self.group);
        to.int(self.scheduled);
        to.int(self.remembered);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            transaction: from.int()?,
            topic: from.int32()?,
            group: from.int32()?,
            scheduled: from.int()?,
            remembered: from.int()?,
        })
    }
}

/// How a topic keeps what every group has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicSettings {
    /// Kept this long after it became visible, milliseconds; 0: not at all.
    pub keep_finished_ms: u64,
    /// … while the topic holds at most this many bytes of bodies; 0: no such bound.
    pub keep_finished_bytes: u64,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// How it keeps messages.
    pub settings: TopicSettings,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// For a dead-letter topic: the group it belongs to.
    pub dead_letters_of: Option<GroupNumber>,
    /// It was deleted: takes nothing more, and ends when its last message is gone.
    pub deleted: bool,
}

impl Record for Topic {
    const NAME: &'static str = "topic";

    fn write(&self, to: &mut Writer) {
        to.text(self.name.as_str());
        to.int(self.settings.keep_finished_ms);
        to.int(self.settings.keep_finished_bytes);
        to.int(self.created_at_ms);
        to.int(self.dead_letters_of.map_or(0, |group| group.0));
        to.flag(self.deleted);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.name()?,
            settings: TopicSettings { keep_finished_ms: from.int()?, keep_finished_bytes: from.int()? },
            created_at_ms: from.int()?,
            // Numbers begin at 1.
            dead_letters_of: Some(from.int32()?).filter(|number| *number != 0).map(GroupNumber),
            deleted: from.flag()?,
        })
    }
}

/// How far a topic has come. Kept apart from [`Topic`], for it changes with every turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// The oldest offset kept.
    pub head: Offset,
    /// The next to be given.
    pub next: Offset,
    /// Bytes of the bodies between the two.
    pub bytes: u64,
    /// Messages that will come here: undecided or scheduled.
    pub awaited: u64,
    /// In a dead-letter topic: the dead letters that were neither redriven nor discarded.
    pub dead_letters: u64,
}

impl Record for Tail {
    const NAME: &'static str = "tail";

    fn write(&self, to: &mut Writer) {
        to.int(self.head.0);
        to.int(self.next.0);
        to.int(self.bytes);
        to.int(self.awaited);
        to.int(self.dead_letters);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            head: from.offset()?,
            next: from.offset()?,
            bytes: from.int()?,
            awaited: from.int()?,
            dead_letters: from.int()?,
        })
    }
}

/// The delay before each further attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryDelays {
    /// These, milliseconds, one after another; the last repeats. Never empty.
    Ladder(Vec<u64>),
    /// `initial`, then each `multiplier / 1000` times the one before, up to `max`.
    Exponential {
        /// The first, milliseconds.
        initial_ms: u64,
        /// Times 1000: 2000 doubles.
        multiplier_permille: u32,
        /// The longest, milliseconds.
        max_ms: u64,
    },
    /// Always this one, milliseconds.
    Fixed(u64),
}

/// How failures are tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The delays.
    pub delays: RetryDelays,
    /// This many retries come at once, before the delays begin.
    pub immediate_attempts: u32,
    /// Each delay is lengthened by up to this many percent: never early.
    pub jitter_percent: u32,
    /// Attempts in all, before the dead letters.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    /// 16 attempts along RocketMQ's ladder of delays, from 10 s to 2 h.
    fn default() -> Self {
        const SECOND: u64 = 1000;
        const MINUTE: u64 = 60 * SECOND;
        let minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120];
        let ladder = [10 * SECOND, 30 * SECOND].into_iter().chain(minutes.map(|m| m * MINUTE));
        Self {
            delays: RetryDelays::Ladder(ladder.collect()),
            immediate_attempts: 0,
            jitter_percent: 0,
            max_attempts: 16,
        }
    }
}

/// What happens to the messages of an ordering key while an earlier one is retrying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderingPolicy {
    /// They wait.
    #[default]
    Block,
    /// They are delivered.
    Skip,
    /// They go to the dead letters.
    DeadLetter,
}

/// How a group works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// How failures are tried again.
    pub retry: RetryPolicy,
    /// What a failure means for its ordering key.
    pub ordering: OrderingPolicy,
    /// How long a delivery may take, milliseconds, unless extended.
    pub lease_ms: u64,
}

/// A topic that a group listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: TopicNumber,
    /// Only these tags; empty: all messages. Sorted, each once.
    pub tags: Vec<Tag>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// How it works.
    pub settings: GroupSettings,
    /// No deliveries until resumed.
    pub paused: bool,
    /// It belongs to one client of a broadcast, and ends when that stays away.
    pub broadcast: bool,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// What it listens to.
    pub subscriptions: Vec<Subscription>,
    /// Its dead-letter topic.
    pub dead_letters: TopicNumber,
}

impl Record for Group {
    const NAME: &'static str = "group";

    fn write(&self, to: &mut Writer) {
        to.text(self.name.as_str());
        write_settings(&self.settings, to);
        to.flag(self.paused);
        to.flag(self.broadcast);
        to.int(self.created_at_ms);
        to.list(&self.subscriptions, |to, subscription| {
            to.int(subscription.topic.0);
            to.list(&subscription.tags, |to, tag| to.text(tag.as_str()));
        });
        to.int(self.dead_letters.0);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.name()?,
            settings: read_settings(from)?,
            paused: from.flag()?,
            broadcast: from.flag()?,
            created_at_ms: from.int()?,
            subscriptions: from.list(|from| {
                Ok(Subscription { topic: TopicNumber(from.int32()?), tags: from.list(Reader::name)? })
            })?,
            dead_letters: TopicNumber(from.int32()?),
        })
    }
}

fn write_settings(settings: &GroupSettings, to: &mut Writer) {
    match &settings.retry.delays {
        RetryDelays::Ladder(steps) => {
            to.u8(0);
            to.list(steps, |to, step| to.int(*step));
        }
        RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => {
            to.u8(1);
            to.int(*initial_ms);
            to.int(*multiplier_permille);
            to.int(*max_ms);
        }
        RetryDelays::Fixed(delay) => {
            to.u8(2);
            to.int(*delay);
        }
    }
    to.int(settings.retry.immediate_attempts);
    to.int(settings.retry.jitter_percent);
    to.int(settings.retry.max_attempts);
    to.u8(match settings.ordering {
        OrderingPolicy::Block => 0,
        OrderingPolicy::Skip => 1,
        OrderingPolicy::DeadLetter => 2,
    });
    to.int(settings.lease_ms);
}

fn read_settings(from: &mut Reader) -> Result<GroupSettings, DecodeError> {
    let delays = match from.u8()? {
        0 => RetryDelays::Ladder(from.list(Reader::int)?),
        1 => RetryDelays::Exponential {
            initial_ms: from.int()?,
            multiplier_permille: from.int32()?,
            max_ms: from.int()?,
        },
        2 => RetryDelays::Fixed(from.int()?),
        _ => return Err(from.fault("the retry delays are not known")),
    };
    Ok(GroupSettings {
        retry: RetryPolicy {
            delays,
            immediate_attempts: from.int32()?,
            jitter_percent: from.int32()?,
            max_attempts: from.int32()?,
        },
        ordering: match from.u8()? {
            0 => OrderingPolicy::Block,
            1 => OrderingPolicy::Skip,
            2 => OrderingPolicy::DeadLetter,
            _ => return Err(from.fault("the ordering policy is not known")),
        },
        lease_ms: from.int()?,
    })
}
