//! Everything that can happen to the engine, on one screen: [`Input`]. Inputs are validated at the edge; what they hold
//! is well formed.

use std::collections::BTreeMap;

use bytes::Bytes;
use escrow_protocol::{
    ClientId, GroupName, Kind, LeaseToken, MessageId, Offset, Tag, TopicName, TransactionId,
};

use crate::records::{
    Alarm, AlarmNotice, AlarmSinks, AuditVerb, CheckPolicy, Decision, GroupSettings, InDoubt, JobKind,
    LetterFilter, Message, Record as _, Role, Subject, TopicNumber, TopicSettings,
};

/// A live stream, or one unary call that takes deliveries. Numbered by the edge, never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Everything that can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// A producer said hello. → `Reply::Welcome`
    ProducerConnected(ProducerConnected),
    /// A consumer said hello. → `Reply::Joined`
    ConsumerConnected(ConsumerConnected),
    /// A stream broke off: its leases count as failed attempts. → `Reply::Done`
    SessionClosed(SessionId),
    /// A client ended its stream in order: what it left unsettled it never looked at; no attempt is counted.
    /// → `Reply::Done`
    SessionFinished(SessionId),
    /// One message, visible at once or at its time. → `Reply::Published`
    Publish(NewMessage),
    /// A half message. → `Reply::Prepared`
    SendHalf(SendHalf),
    /// A decision by a producer or a person. → `Reply::Decided`
    Decide(Decide),
    /// A checker's answer. → `Reply::Done`
    CheckAnswered(CheckAnswered),
    /// A consumer may be sent more. → `Reply::Done`
    Credit(Credit),
    /// What became of a delivery. → `Reply::Done`
    Settle(Settle),
    /// The body of a leased message cannot be read: to the dead letters, reason `Damaged`. → `Reply::Done`
    Undeliverable(LeaseToken, String),
    /// A person's order. → see [`Command`]
    Command(Operator, Command),
    /// What became of alarms, to be written down. → `Reply::Done`
    NoteAlarms(AlarmNotes),
    /// A question about what is in memory; changes nothing. → `Reply::Seen`
    Inspect(Inspect),
}

/// A producer that connected.
#[derive(Debug, Clone)]
pub struct ProducerConnected {
    /// Its stream.
    pub session: SessionId,
    /// Its instance.
    pub client: ClientId,
    /// Its group.
    pub group: GroupName,
    /// The kinds it answers checks for.
    pub kinds: Vec<Kind>,
    /// Where it called from, for lists.
    pub address: String,
}

/// A consumer that connected.
#[derive(Debug, Clone)]
pub struct ConsumerConnected {
    /// Its stream.
    pub session: SessionId,
    /// Its instance.
    pub client: ClientId,
    /// Its group.
    pub group: GroupName,
    /// What it wants to listen to. Empty: what the group listens to.
    pub subscriptions: Vec<Wanted>,
    /// A group of its own: `<group>.<client>`.
    pub broadcast: bool,
    /// Where what this creates starts.
    pub start: Start,
    /// A unary call: its leases outlive it.
    pub detached: bool,
    /// Where it called from, for lists.
    pub address: String,
}

/// A topic with the tags wanted of it (none: all). Sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The topic.
    pub topic: TopicName,
    /// The tags.
    pub tags: Vec<Tag>,
}

/// Where a new subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest message kept.
    #[default]
    Oldest,
    /// Behind the newest.
    Newest,
    /// At the first that became visible at or after this time, Unix milliseconds.
    Time(u64),
}

/// A message to store: what the engine needs to know of it, and the record as the edge has encoded it.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: TopicName,
    /// Its business key.
    pub key: Option<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its tag.
    pub tag: Option<Tag>,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Not before, Unix milliseconds; 0: at once.
    pub deliver_at_ms: u64,
    /// Milliseconds it may be delivered for; 0: no bound.
    pub time_to_live_ms: u64,
    /// [`Message`], encoded.
    pub record: Bytes,
}

impl From<Message> for NewMessage {
    fn from(message: Message) -> Self {
        let record = message.encode();
        Self {
            id: message.id,
            topic: message.topic,
            key: message.key,
            ordering_key: message.ordering_key,
            tag: message.tag,
            body_bytes: message.body.len() as u32,
            deliver_at_ms: message.deliver_at_ms,
            time_to_live_ms: message.time_to_live_ms,
            record,
        }
    }
}

/// A half message.
#[derive(Debug, Clone)]
pub struct SendHalf {
    /// The producer group.
    pub group: GroupName,
    /// The instance.
    pub client: ClientId,
    /// Who can answer for it.
    pub kind: Kind,
    /// The producer's own key.
    pub key: Option<String>,
    /// Departures from the settings.
    pub overrides: CheckOverrides,
    /// 1 to 100.
    pub messages: Vec<NewMessage>,
}

/// Departures of one transaction from the check settings. `None` keeps the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOverrides {
    /// Milliseconds to the first check.
    pub first_check_after_ms: Option<u64>,
    /// Delivered checks before the in-doubt policy.
    pub max_checks: Option<u32>,
    /// Milliseconds undecided before the in-doubt policy.
    pub max_undecided_age_ms: Option<u64>,
    /// The in-doubt policy.
    pub in_doubt: Option<InDoubt>,
}

impl CheckOverrides {
    /// The settings with these departures.
    pub fn over(&self, settings: CheckPolicy) -> CheckPolicy {
        CheckPolicy {
            first_check_after_ms: self.first_check_after_ms.unwrap_or(settings.first_check_after_ms),
            max_checks: self.max_checks.unwrap_or(settings.max_checks),
            max_undecided_age_ms: self.max_undecided_age_ms.unwrap_or(settings.max_undecided_age_ms),
            in_doubt: self.in_doubt.unwrap_or(settings.in_doubt),
        }
    }
}

/// A decision.
#[derive(Debug, Clone)]
pub struct Decide {
    /// The transaction.
    pub transaction: TransactionId,
    /// Which way.
    pub decision: Decision,
    /// `Producer` or `Person`.
    pub role: Role,
    /// A producer's group; it must be the transaction's.
    pub group: Option<GroupName>,
    /// The client id or the person's name.
    pub name: String,
    /// Why; people must say.
    pub reason: String,
}

/// A checker's answer.
#[derive(Debug, Clone)]
pub struct CheckAnswered {
    /// The checker's stream.
    pub session: SessionId,
    /// The transaction asked about.
    pub transaction: TransactionId,
    /// Which question.
    pub check: u64,
    /// `None`: unknown.
    pub verdict: Option<Decision>,
}

/// More credit for a consumer.
#[derive(Debug, Clone, Copy)]
pub struct Credit {
    /// Its stream.
    pub session: SessionId,
    /// Messages.
    pub messages: u32,
    /// Bytes of bodies.
    pub bytes: u64,
}

/// What became of a delivery.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The group that says so; the lease must be its own.
    pub group: GroupName,
    /// The lease.
    pub token: LeaseToken,
    /// What became of it.
    pub verb: Verb,
}

/// What may become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Done.
    Ack,
    /// Failed: again after `delay_ms`, or by the group's policy.
    Nack {
        /// Milliseconds; 0 means at once.
        delay_ms: Option<u64>,
        /// The error.
        reason: String,
    },
    /// Cannot succeed: to the dead letters.
    Reject {
        /// The error.
        reason: String,
    },
    /// The lease starts again.
    Extend {
        /// Milliseconds; `None`: the group's lease duration.
        lease_ms: Option<u64>,
    },
    /// Was never looked at: back, no attempt counted.
    Release,
}

/// Where to move a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// The oldest kept.
    Oldest,
    /// Behind the newest.
    Newest,
    /// This place.
    Offset(Offset),
    /// The first that became visible at or after this time, Unix milliseconds.
    Time(u64),
}

/// Who orders something by hand, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operator {
    /// The person.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// A person's orders.
#[derive(Debug, Clone)]
pub enum Command {
    /// → `Reply::Topic`
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// How it keeps messages.
        settings: TopicSettings,
    },
    /// → `Reply::Topic`
    UpdateTopic {
        /// Which.
        name: TopicName,
        /// How it keeps messages from now on.
        settings: TopicSettings,
    },
    /// → `Reply::Count`: messages removed
    DeleteTopic {
        /// Which.
        name: TopicName,
        /// Although groups listen to it.
        force: bool,
    },
    /// → `Reply::Group`
    CreateGroup {
        /// Its name.
        name: GroupName,
        /// What it listens to.
        subscriptions: Vec<Wanted>,
        /// How it works; `None`: the broker's defaults.
        settings: Option<GroupSettings>,
        /// Where it starts.
        start: Start,
    },
    /// → `Reply::Group`
    UpdateGroup {
        /// Which.
        name: GroupName,
        /// How it works from now on; `None`: as before.
        settings: Option<GroupSettings>,
        /// Added, or their tags replaced.
        subscriptions: Vec<Wanted>,
        /// Ended.
        unsubscribe: Vec<TopicName>,
        /// Where added ones start.
        start: Start,
    },
    /// → `Reply::GroupDeleted`
    DeleteGroup {
        /// Which.
        name: GroupName,
        /// Although it has members or dead letters.
        force: bool,
    },
    /// → `Reply::Group`
    SetPaused {
        /// Which.
        name: GroupName,
        /// Paused or not.
        paused: bool,
    },
    /// → `Reply::Sought`
    Seek {
        /// The group,
        group: GroupName,
        /// the topic,
        topic: TopicName,
        /// the place.
        to: SeekTo,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Asks a checker at once. → `Reply::Done`
    CheckNow(TransactionId),
    /// A parked transaction is checked again. → `Reply::Done`
    Resume(TransactionId),
    /// → `Reply::Cancelled`
    CancelScheduled(MessageId),
    /// A scheduled message gets another time; one that has passed means at once. → `Reply::Moved`
    MoveScheduled {
        /// The message.
        id: MessageId,
        /// Unix milliseconds.
        deliver_at_ms: u64,
    },
    /// The next attempt of a retrying message comes at once. → `Reply::Resolved`
    RunRetry {
        /// Whose,
        group: GroupName,
        /// which.
        id: MessageId,
    },
    /// A retrying message goes to the dead letters. → `Reply::Resolved`
    GiveUpRetry {
        /// Whose,
        group: GroupName,
        /// which.
        id: MessageId,
    },
    /// One dead letter again. → `Reply::Resolved`, or where a new message is made of it, `Reply::Copied`
    Redrive {
        /// Whose,
        group: GroupName,
        /// which.
        offset: Offset,
        /// `None`: to the failing group only; else as a new arrival in that topic.
        to: Option<TopicName>,
        /// As a new message that is otherwise; without `to` in the topic it came from.
        edit: Option<MessageEdit>,
        /// Only say whether it could.
        dry_run: bool,
    },
    /// One dead letter never. → `Reply::Resolved`
    Discard {
        /// Whose,
        group: GroupName,
        /// which.
        offset: Offset,
        /// Only say whether it could.
        dry_run: bool,
    },
    /// Many dead letters of a group, at a rate. → `Reply::Job`
    StartJob {
        /// Whose.
        group: GroupName,
        /// What is done with each.
        kind: JobKind,
        /// Which.
        filter: LetterFilter,
        /// At most so many a second; 0: as fast as it goes.
        rate: u32,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// → `Reply::Job`
    OrderJob(u64, JobOrder),
    /// A person takes an alarm upon themselves. → `Reply::Alarm`
    AcknowledgeAlarm(u64),
    /// A person did something outside the engine: it goes into the audit, and changes nothing. → `Reply::Done`
    Attest {
        /// What,
        verb: AuditVerb,
        /// on what,
        target: String,
        /// and what came of it.
        outcome: String,
    },
}

/// What became of alarms: records as they stand now, and those that go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmNotes {
    /// Alarms, by number.
    pub alarms: BTreeMap<u64, Option<Alarm>>,
    /// Notices, by alarm and number.
    pub notices: BTreeMap<(u64, u64), Option<AlarmNotice>>,
    /// Who knows of the open ones now, if that has changed.
    pub sinks: Option<AlarmSinks>,
}

impl AlarmNotes {
    /// There is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.alarms.is_empty() && self.notices.is_empty() && self.sinks.is_none()
    }
}

/// What a copy of a message has otherwise. `None`: as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageEdit {
    /// All of its headers.
    pub headers: Option<Vec<(String, String)>>,
    /// Its body.
    pub body: Option<Bytes>,
}

/// A person's word to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOrder {
    /// Wait.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Cancel,
}

/// What of the transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionFilter {
    /// Undecided and not parked.
    Undecided,
    /// Undecided, due, and nobody to ask.
    WaitingForChecker,
    /// Parked.
    Parked,
}

/// What a group may have that a person looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Messages that are tried again.
    Retries,
    /// Dead letters.
    DeadLetters,
}

/// Questions about what is in memory. Every list is a page: ascending, behind `after`, at most `limit`.
#[derive(Debug, Clone)]
pub enum Inspect {
    /// → `Seen::Status`
    Status,
    /// → `Seen::Topic`
    Topic(TopicName),
    /// → `Seen::Topics`
    Topics {
        /// Behind this name.
        after: Option<TopicName>,
        /// Only names that begin so.
        prefix: String,
        /// The dead-letter topics too.
        dead_letter_topics: bool,
        /// At most.
        limit: usize,
    },
    /// → `Seen::Group`
    Group(GroupName),
    /// → `Seen::Groups`
    Groups {
        /// Behind this name.
        after: Option<GroupName>,
        /// Only names that begin so.
        prefix: String,
        /// At most.
        limit: usize,
    },
    /// The groups that have some of these, those with the most first. → `Seen::Holding`
    Holding {
        /// Which.
        what: Holding,
        /// At most.
        limit: usize,
    },
    /// → `Seen::Transaction`
    Transaction(TransactionId),
    /// → `Seen::Transactions`: ids; the records are read from the store.
    Transactions {
        /// Which.
        filter: TransactionFilter,
        /// Of this producer group; `None`: of any.
        group: Option<GroupName>,
        /// Of this kind; `None`: of any.
        kind: Option<Kind>,
        /// Behind this one.
        after: Option<TransactionId>,
        /// At most.
        limit: usize,
    },
    /// → `Seen::Retries`: places; the records are read from the store.
    Retries {
        /// Whose.
        group: GroupName,
        /// Behind the one that was due then, at this place.
        after: Option<(u64, (TopicNumber, Offset))>,
        /// Which.
        filter: RetryFilter,
        /// At most.
        limit: usize,
    },
    /// Of a group's dead letters. → `Seen::Facets`
    Facets(GroupName),
    /// → `Seen::Clients`
    Clients {
        /// Behind this session.
        after: Option<SessionId>,
        /// Which.
        filter: ClientFilter,
        /// At most.
        limit: usize,
    },
    /// What alarms are about: a page of the groups, with what counts in each. → `Seen::Vitals`
    Vitals {
        /// Groups behind this name.
        after: Option<GroupName>,
    },
    /// → `Seen::Job`
    Job(u64),
    /// The newest first. → `Seen::Jobs`
    Jobs {
        /// Older than this one.
        before: Option<u64>,
        /// At most.
        limit: usize,
    },
    /// Where stories may be that tell of these. → `Seen::Stories`
    Stories {
        /// Any of them.
        subjects: Vec<Subject>,
        /// Only stories before this one.
        before: Option<u64>,
    },
    /// Where each group of a topic stands with one message. → `Seen::Whereabouts`
    Whereabouts {
        /// The topic,
        topic: TopicNumber,
        /// the place.
        offset: Offset,
    },
}

/// Which retries of a group. What is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryFilter {
    /// Of this topic.
    pub topic: Option<TopicName>,
    /// Whose next attempt is at least this one; 0: any.
    pub attempt_min: u32,
    /// With a business key that has this hash.
    pub key_hash: Option<u64>,
}

/// Which clients. What is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFilter {
    /// Consumers, or producers.
    pub consumer: Option<bool>,
    /// Of this group.
    pub group: Option<GroupName>,
    /// With an id that has this in it.
    pub name: Option<String>,
}
