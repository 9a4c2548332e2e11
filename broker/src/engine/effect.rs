//! Everything the engine can cause, on one screen: [`Effect`], and the answers to inputs: [`Reply`]. None of it may
//! leave before the batch of its turn is durable.

use std::sync::Arc;

use escrow_protocol::{ClientId, GroupName, Kind, LeaseToken, MessageId, Offset, TopicName, TransactionId};

use super::SessionId;
use crate::records::{
    Alarm, DeadReason, Decider, Facets, GroupNumber, GroupSettings, JobPlan, JobProgress, JobState,
    Subscription, TopicNumber, TopicSettings, TransactionState,
};

/// What goes out to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a checker.
    AskCheck(CheckQuestion),
    /// Hand a message to a consumer.
    Deliver(Delivery),
    /// End a stream, with the reason for its client.
    Close(SessionId, String),
}

/// A question for a checker; the dispatcher adds the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckQuestion {
    /// The checker's stream.
    pub session: SessionId,
    /// The transaction.
    pub transaction: TransactionId,
    /// Which question: the answer repeats it.
    pub check: u64,
}

/// A message under lease; the dispatcher adds the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The consumer's stream.
    pub session: SessionId,
    /// The group.
    pub group: GroupName,
    /// The message.
    pub id: MessageId,
    /// Where it lies, by number
    pub topic: TopicNumber,
    /// and by name (`None`: the topic is gone, but not the retries of its messages: the message knows its name),
    pub topic_name: Option<TopicName>,
    /// and its place there.
    pub offset: Offset,
    /// 1 for the first.
    pub attempt: u32,
    /// The lease.
    pub token: LeaseToken,
    /// Its duration, milliseconds.
    pub lease_ms: u64,
    /// When the message became visible there, Unix milliseconds.
    pub at_ms: u64,
    /// The transaction it came in.
    pub transaction: Option<TransactionId>,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// It lies in a dead-letter topic: the dispatcher adds where it came from.
    pub dead_letter: bool,
}

/// The answer to an input that was not refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It counted.
    Done,
    /// A producer is known.
    Welcome,
    /// A consumer belongs to a group.
    Joined {
        /// The group (with broadcast, the client's own).
        group: GroupName,
        /// Its lease duration, milliseconds.
        lease_ms: u64,
    },
    /// A message is stored.
    Published {
        /// Its place; `None` while it waits for its time, or when a duplicate's place is no longer known.
        offset: Option<Offset>,
        /// The id had been stored before.
        duplicate: bool,
    },
    /// A half message is stored.
    Prepared {
        /// Its transaction.
        transaction: TransactionId,
        /// Its messages: those first stored under it when it is a duplicate.
        messages: Vec<MessageId>,
        /// Where that stands.
        state: TransactionState,
        /// It had been stored before.
        duplicate: bool,
    },
    /// A transaction is decided.
    Decided {
        /// Committed or rolled back.
        state: TransactionState,
        /// By whom, when.
        decider: Decider,
        /// It had been decided so before.
        duplicate: bool,
    },
    /// A topic as it now is.
    Topic(TopicView),
    /// A group as it now is.
    Group(GroupView),
    /// A group is gone, and what it had.
    GroupDeleted {
        /// Retries that ended.
        retries: u64,
        /// Dead letters that ended.
        dead_letters: u64,
    },
    /// How many messages.
    Count(u64),
    /// A group was moved (or would be).
    Sought {
        /// Its floor before,
        from: Offset,
        /// and after.
        to: Offset,
        /// Messages that will be delivered again,
        replayed: u64,
        /// or never.
        skipped: u64,
    },
    /// What became of a scheduled message.
    Cancelled(Cancelled),
    /// What became of a scheduled message that was to get another time.
    Moved(Moved),
    /// What became of a dead letter or a retry (or would): the message it holds.
    Resolved(MessageId),
    /// A new message was made of a dead one (or would be).
    Copied {
        /// The dead one.
        of: MessageId,
        /// The new one.
        copy: MessageId,
        /// Where it goes.
        topic: TopicName,
    },
    /// A job as it now is.
    Job(JobView),
    /// An alarm as it now is, and whether this changed it.
    Alarm(Alarm, bool),
    /// What was asked for.
    Seen(Seen),
}

/// The exact answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It will never be delivered.
    Cancelled,
    /// It is in its topic already.
    TooLate,
    /// No scheduled message has this id.
    NotKnown,
}

/// The exact answer to a move of a scheduled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It comes at its new time.
    Moved,
    /// It is in its topic already.
    TooLate,
    /// No scheduled message has this id.
    NotKnown,
}

/// When a retry is due, and its place.
pub type DuePlace = (u64, (TopicNumber, Offset));

/// Answers to [`super::Inspect`].
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The engine at a glance.
    Status(StatusView),
    /// A topic.
    Topic(TopicView),
    /// A page of topics.
    Topics(Vec<TopicView>),
    /// A group.
    Group(GroupView),
    /// A page of groups.
    Groups(Vec<GroupView>),
    /// Groups, each with how many it has.
    Holding(Vec<(GroupName, u64)>),
    /// What is only in memory of a transaction.
    Transaction(TransactionLive),
    /// A page of transactions.
    Transactions(Vec<(TransactionId, TransactionLive)>),
    /// A page of retries, soonest first: when each is due, and its place; and behind which one to go on, if not all were looked
    /// at.
    Retries(GroupNumber, Vec<DuePlace>, Option<DuePlace>),
    /// A job.
    Job(JobView),
    /// A page of jobs.
    Jobs(Vec<JobView>),
    /// What alarms are about.
    Vitals(Vitals),
    /// A group's dead letters by what they died of and where they came from.
    Facets(Facets),
    /// A page of clients; and behind which one to go on, if not all were looked at.
    Clients(Vec<ClientView>, Option<SessionId>),
    /// Stretches of stories: the first, and behind the last; the newest stretch first.
    Stories(Vec<(u64, u64)>),
    /// Where groups stand with a message.
    Whereabouts(Vec<(GroupName, Whereabout)>),
}

/// The engine at a glance. Counts are exact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusView {
    /// Topics, the dead-letter topics not counted.
    pub topics: u64,
    /// Groups.
    pub groups: u64,
    /// Undecided and not parked.
    pub undecided: u64,
    /// Of these: due for a check, nobody to ask.
    pub waiting_for_checker: u64,
    /// Parked.
    pub parked: u64,
    /// When the oldest undecided one was made, Unix milliseconds.
    pub oldest_undecided_at_ms: Option<u64>,
    /// Messages that wait for their next attempt, over all groups.
    pub retrying: u64,
    /// Messages that wait for their time.
    pub scheduled: u64,
    /// Messages under lease.
    pub leased: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages that groups have yet to finish, summed over groups.
    pub lag: u64,
    /// Producers connected.
    pub producers: u64,
    /// Consumers connected.
    pub consumers: u64,
    /// New messages are accepted.
    pub accepting: bool,
    /// Records that could not be read since the start.
    pub damaged: u64,
}

/// What alarms are about. Costs a page: counters and the heads of indexes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Undecided and not parked.
    pub undecided: u64,
    /// Parked.
    pub parked: u64,
    /// Records that could not be read since the start.
    pub damaged: u64,
    /// The oldest undecided transaction, and when it was made, Unix milliseconds.
    pub oldest_undecided: Option<(TransactionId, u64)>,
    /// The oldest parked one.
    pub oldest_parked: Option<TransactionId>,
    /// Kinds with transactions that are due and nobody to ask.
    pub unanswered: Vec<UnansweredKind>,
    /// There are more of them than are listed.
    pub more_unanswered: bool,
    /// A page of the groups, by name.
    pub groups: Vec<GroupVitals>,
    /// There are more behind it.
    pub more_groups: bool,
}

/// A kind whose checkers are all away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnansweredKind {
    /// The producer group.
    pub group: GroupName,
    /// The kind.
    pub kind: Kind,
    /// Transactions that are due.
    pub due: u64,
    /// The oldest of them.
    pub oldest: TransactionId,
}

/// What of a group alarms are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupVitals {
    /// Its number.
    pub number: GroupNumber,
    /// Its name.
    pub name: GroupName,
    /// Yet to be finished.
    pub lag: u64,
    /// Where the oldest of them lies, in each topic that has some.
    pub heads: Vec<(TopicNumber, Offset)>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Its dead-letter topic,
    pub dead_letter_topic: TopicNumber,
    /// and the next place there: rises by one with each dead letter.
    pub dead_letters_next: Offset,
    /// The retry with the most attempts behind it: how many, and where it lies.
    pub worst_retry: Option<(u32, TopicNumber, Offset)>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its number.
    pub number: TopicNumber,
    /// Its name.
    pub name: TopicName,
    /// How it keeps messages.
    pub settings: TopicSettings,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// The oldest offset kept,
    pub head: Offset,
    /// and the next to be given.
    pub next: Offset,
    /// Bytes of the bodies kept.
    pub bytes: u64,
    /// Undecided or scheduled messages that will come here.
    pub awaited: u64,
    /// The groups that listen.
    pub groups: Vec<GroupName>,
    /// For a dead-letter topic: whose.
    pub dead_letters_of: Option<GroupName>,
}

/// A group's place in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionView {
    /// The topic.
    pub topic: TopicName,
    /// What it listens to.
    pub subscription: Subscription,
    /// All below is finished.
    pub floor: Offset,
    /// Finished above the floor.
    pub finished_above: u64,
    /// Yet to be finished.
    pub lag: u64,
    /// When the oldest of them became visible, Unix milliseconds; `None`: no lag.
    pub oldest_at_ms: Option<u64>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Its number.
    pub number: GroupNumber,
    /// Its name.
    pub name: GroupName,
    /// How it works.
    pub settings: GroupSettings,
    /// No deliveries until resumed.
    pub paused: bool,
    /// One client's own group of a broadcast.
    pub broadcast: bool,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// Its places.
    pub positions: Vec<PositionView>,
    /// Messages under lease.
    pub leased: u64,
    /// Messages that wait for their next attempt.
    pub retrying: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Ordering keys whose messages wait for an earlier one.
    pub blocked_keys: u64,
    /// Consumers connected.
    pub members: Vec<ClientId>,
    /// Since the start: acked,
    pub acked: u64,
    /// nacked (rejected too),
    pub nacked: u64,
    /// and leases that ran out.
    pub expired_leases: u64,
    /// Its dead-letter topic, by number
    pub dead_letter_topic: TopicNumber,
    /// and by name.
    pub dead_letter_topic_name: TopicName,
}

/// A job over many dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its number.
    pub number: u64,
    /// What it was told to do.
    pub plan: Arc<JobPlan>,
    /// How far it has come.
    pub progress: JobProgress,
}

impl JobView {
    /// Dead letters it has still to look at. Those that others resolved meanwhile are among them until it has been there.
    pub fn left(&self) -> u64 {
        match self.progress.state {
            JobState::Running | JobState::Paused => self.plan.total.saturating_sub(self.progress.examined),
            _ => 0,
        }
    }
}

/// What is only in memory of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionLive {
    /// Due, and nobody to ask.
    pub waiting_for_checker: bool,
    /// Its next check or in-doubt policy, Unix milliseconds.
    pub next_event_at_ms: Option<u64>,
    /// A question is under way.
    pub being_checked: bool,
    /// Checkers of its kind that are connected.
    pub checkers_connected: u32,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    /// Its stream.
    pub session: SessionId,
    /// Its instance.
    pub client: ClientId,
    /// A consumer (else a producer).
    pub consumer: bool,
    /// Its group.
    pub group: GroupName,
    /// The kinds it answers for.
    pub kinds: Vec<Kind>,
    /// Since when, Unix milliseconds.
    pub connected_at_ms: u64,
    /// Where it called from.
    pub address: String,
    /// Leases it holds.
    pub leased: u64,
    /// Credit it has left, messages.
    pub credit_messages: u64,
}

/// Where a group stands with one message: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabout {
    /// Not delivered yet.
    Waiting,
    /// With a consumer.
    Leased {
        /// Which.
        client: Option<ClientId>,
        /// Which attempt this is.
        attempt: u32,
    },
    /// Waits for its next attempt.
    Retrying {
        /// When that is, Unix milliseconds.
        due_at_ms: u64,
        /// Attempts that failed so far.
        attempts_made: u32,
    },
    /// In its dead-letter topic.
    Dead {
        /// Where.
        offset: Offset,
        /// Why.
        reason: DeadReason,
    },
    /// Acked, or skipped by the group's filter or a seek.
    Finished,
}

impl StatusView {
    /// Messages that could be delivered at once. What retries is no lag any more; a retry under lease is counted with the
    /// leases: then this is a little too low.
    pub fn ready(&self) -> u64 {
        self.lag.saturating_sub(self.leased)
    }
}
