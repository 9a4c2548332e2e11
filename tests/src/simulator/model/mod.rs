//! What must hold, said a second time and more simply. The model is told what the clients asked, what they were answered,
//! what became durable and what was delivered; it knows nothing of the engine's insides, and objects to whatever its
//! own, plainer rules do not explain.
//!
//! It must never decide anything for the engine, and never read the store by itself: [`Changes`] of committed batches
//! and effects that left are all it sees.

mod auditing;
mod changes;
mod checking;
mod config;
mod deciding;
mod delivering;
mod jobs;
mod progress;
mod refusing;
mod removing;
mod retrying;
mod settling;
mod stands;
mod visible;

use std::collections::{BTreeMap, BTreeSet};

use escrow_broker::engine::{Effect, Input, Now, Outcome, SessionId, Settings};
use escrow_broker::records::{
    GroupNumber, GroupSettings, JobPlan, JobProgress, OrderingPolicy, Progress, Resolution, Stub,
    TopicNumber, TopicSettings,
};
use escrow_protocol::{
    ClientId, GroupName, Kind, LeaseToken, MessageId, Offset, Tag, TopicName, TransactionId,
};
use escrow_storage::Batch;

pub(crate) use changes::{Changes, Held};
pub(crate) use deciding::TransactionModel;
pub(crate) use stands::{Lease, Stand, Standing};

/// `Err` is a broken promise, in words.
pub(crate) type Verdict<T = ()> = Result<T, String>;

/// Objects unless the condition holds.
macro_rules! require {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use require;

/// A topic.
#[derive(Debug)]
pub(crate) struct TopicModel {
    pub(crate) name: TopicName,
    pub(crate) settings: TopicSettings,
    pub(crate) deleted: bool,
    pub(crate) dead_letters_of: Option<GroupNumber>,
    pub(crate) head: Offset,
    pub(crate) next: Offset,
    pub(crate) places: BTreeMap<Offset, Placed>,
    /// Since when no group listens, Unix milliseconds.
    pub(crate) unsubscribed_since_ms: Option<u64>,
}

/// A message in a topic's order.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) id: MessageId,
    pub(crate) at_ms: u64,
    pub(crate) expires_at_ms: u64,
    pub(crate) tag: Option<Tag>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) body_bytes: u32,
    pub(crate) resolution: Option<Resolution>,
    /// Its queue entry is gone.
    pub(crate) trimmed: bool,
}

/// A group.
#[derive(Debug)]
pub(crate) struct GroupModel {
    pub(crate) name: GroupName,
    pub(crate) settings: GroupSettings,
    /// The policy before the last change: what it doomed is buried a turn later.
    pub(crate) ordering_before: OrderingPolicy,
    pub(crate) paused: bool,
    pub(crate) broadcast: bool,
    pub(crate) dead_letters: TopicNumber,
    pub(crate) subscriptions: BTreeMap<TopicNumber, SubscriptionModel>,
    /// Where the group stands with the messages it has had to do with; all others of its topics wait. A redriven
    /// message may be of a topic that it listens to no more.
    pub(crate) stands: BTreeMap<(TopicNumber, Offset), Stand>,
    /// Dead letters whose messages are owed again, for the group was moved back.
    pub(crate) replayed: BTreeSet<Held>,
}

/// A group in one topic.
#[derive(Debug)]
pub(crate) struct SubscriptionModel {
    pub(crate) tags: Vec<Tag>,
    /// What lies before was never owed.
    pub(crate) start: Offset,
    pub(crate) progress: Progress,
}

/// A message, as its producer made it, and what became of it.
#[derive(Debug)]
pub(crate) struct MessageModel {
    pub(crate) stub: Stub,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) arrived_at_ms: u64,
    pub(crate) fate: MessageFate,
    /// Its record is on the disk.
    pub(crate) stored: bool,
    pub(crate) places: Vec<(TopicNumber, Offset)>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageFate {
    Undecided,
    /// Decided or plain; it has to be seen in its queue before the turn ends.
    DueNow,
    Scheduled {
        due_ms: u64,
    },
    Queued,
    RolledBack,
    Cancelled,
}

/// A stream.
#[derive(Debug)]
pub(crate) enum SessionModel {
    Producer { client: ClientId, group: GroupName, kinds: Vec<Kind> },
    Consumer { group: GroupNumber, detached: bool, credit: CreditModel },
}

/// What a consumer may still be sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CreditModel {
    pub(crate) messages: i64,
    pub(crate) bytes: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) settings: Settings,
    pub(crate) topics: BTreeMap<TopicNumber, TopicModel>,
    pub(crate) groups: BTreeMap<GroupNumber, GroupModel>,
    pub(crate) messages: BTreeMap<MessageId, MessageModel>,
    pub(crate) transactions: BTreeMap<TransactionId, TransactionModel>,
    pub(crate) transaction_keys: BTreeMap<(GroupName, String), TransactionId>,
    pub(crate) sessions: BTreeMap<SessionId, SessionModel>,
    pub(crate) leases: BTreeMap<LeaseToken, Lease>,
    tokens_seen: BTreeSet<LeaseToken>,
    /// Retry records on the disk.
    retries: BTreeSet<Held>,
    dead_places: BTreeMap<Held, Offset>,
    questions: BTreeMap<TransactionId, checking::Question>,
    /// The latest wall-clock time that any turn had: what is forgotten by age was forgotten then.
    latest_unix_ms: u64,
    /// When timers were handled last.
    fired_unix_ms: u64,
    pub(crate) jobs: BTreeMap<u64, (JobPlan, JobProgress)>,
    /// The number of the last audit entry.
    audited: u64,
    pub(crate) tally: Tally,
}

/// How much a run made happen: a simulator that does nothing finds nothing.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "each name is its meaning")]
pub struct Tally {
    pub turns: u64,
    pub published: u64,
    pub prepared: u64,
    pub committed: u64,
    pub rolled_back: u64,
    pub parked: u64,
    pub questions: u64,
    pub deliveries: u64,
    pub acked: u64,
    pub failed_attempts: u64,
    pub dead: u64,
    pub redriven: u64,
    pub by_jobs: u64,
    pub expired: u64,
    pub scheduled: u64,
    pub restarts: u64,
    pub refused: u64,
    pub seeks: u64,
}

/// What one turn must have left on the disk, by where it must lie.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    held: BTreeMap<Held, stands::Expected>,
    /// Copies that are redriven into a topic: of which message, and to which topic.
    copies: Vec<(MessageId, TopicNumber)>,
    /// Resolved dead letters.
    resolved: BTreeMap<(TopicNumber, Offset), Resolution>,
    /// Subscriptions moved by hand: their floor may jump.
    sought: BTreeSet<(GroupNumber, TopicNumber)>,
    /// What the turn removes of messages: their places in queues, retries, and places in dead letters.
    removed_places: BTreeSet<(TopicNumber, Offset)>,
    removed_holds: BTreeSet<Held>,
    /// Dead letters that came and went within the turn: of their places nothing is in the batch.
    traceless: BTreeSet<(TopicNumber, Offset)>,
}

impl Expectations {
    fn of(changes: &Changes) -> Self {
        let places = changes.queue.iter().filter(|(_, entry)| entry.is_none()).map(|(place, _)| *place);
        let retries = changes.retries.iter().filter(|(_, retry)| retry.is_none()).map(|(held, _)| *held);
        let dead = changes.dead_places.iter().filter(|(_, dead)| dead.is_none()).map(|(held, _)| *held);
        Self {
            removed_places: places.collect(),
            removed_holds: retries.chain(dead).collect(),
            ..Self::default()
        }
    }
}

impl Model {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            messages: BTreeMap::new(),
            transactions: BTreeMap::new(),
            transaction_keys: BTreeMap::new(),
            sessions: BTreeMap::new(),
            leases: BTreeMap::new(),
            tokens_seen: BTreeSet::new(),
            retries: BTreeSet::new(),
            dead_places: BTreeMap::new(),
            questions: BTreeMap::new(),
            latest_unix_ms: 0,
            fired_unix_ms: 0,
            jobs: BTreeMap::new(),
            audited: 0,
            tally: Tally::default(),
        }
    }

    /// A turn is on the disk: its answers and effects must follow from what was asked, and its records from both.
    pub(crate) fn durable(
        &mut self,
        now: Now,
        answers: &[(Input, Outcome)],
        batch: &Batch,
        effects: &[Effect],
    ) -> Verdict {
        self.tally.turns += 1;
        self.latest_unix_ms = self.latest_unix_ms.max(now.unix_ms);
        self.fired_unix_ms = now.unix_ms;
        let changes = Changes::of(batch)?;
        let mut expected = Expectations::of(&changes);
        self.learn_topics_and_groups(now, &changes, &mut expected)?;
        for (input, outcome) in answers {
            self.answered(now, input, outcome, &mut expected)
                .map_err(|fault| format!("{fault}\n    asked: {input:?}\n    answered: {outcome:?}"))?;
        }
        self.take_jobs(now, &changes, &mut expected)?;
        self.questions_timed_out(now, &changes)?;
        self.policy_decided(now, &changes)?;
        self.take_new_places(now, &changes, &mut expected)?;
        self.leases_ran_out(now, &changes, &mut expected)?;
        self.take_retries_and_dead_letters(now, &changes, &expected)?;
        self.take_progress(&changes, &expected)?;
        self.take_transactions(now, &changes)?;
        self.forget_topics_and_groups(now, &changes)?;
        self.take_removals(now, &changes)?;
        self.take_audit(now, answers, batch)?;
        for effect in effects {
            self.effect(now, effect)?;
        }
        self.nobody_waits_for_a_free_checker(now)
    }

    /// What left after the commit of a turn: deliveries, and nothing else.
    pub(crate) fn delivered(&mut self, now: Now, effects: &[Effect]) -> Verdict {
        self.latest_unix_ms = self.latest_unix_ms.max(now.unix_ms);
        for effect in effects {
            require!(!matches!(effect, Effect::AskCheck(_)), "deliver asked a checker: {effect:?}");
            self.effect(now, effect)?;
        }
        Ok(())
    }

    fn effect(&mut self, now: Now, effect: &Effect) -> Verdict {
        match effect {
            Effect::AskCheck(question) => self.asked(now, question),
            Effect::Deliver(delivery) => self.handed_out(now, delivery),
            Effect::Close(session, _) => {
                self.session_closed(now, *session, &mut Expectations::default(), false);
                Ok(())
            }
        }
        .map_err(|fault| format!("{fault}\n    effect: {effect:?}"))
    }

    /// The process is gone: leases, sessions and questions with it, and none of them counts.
    pub(crate) fn crashed(&mut self) {
        for lease in std::mem::take(&mut self.leases).into_values() {
            self.give_back(&lease);
        }
        self.sessions.clear();
        self.questions.clear();
        self.tally.restarts += 1;
    }

    pub(crate) fn group_number(&self, name: &GroupName) -> Option<GroupNumber> {
        self.groups.iter().find(|(_, group)| group.name == *name).map(|(number, _)| *number)
    }

    pub(crate) fn topic_number(&self, name: &TopicName) -> Option<TopicNumber> {
        self.topics.iter().find(|(_, it)| it.name == *name && !it.deleted).map(|(number, _)| *number)
    }

    /// Messages that are dead letters of a group.
    pub(crate) fn dead_held(&self) -> Vec<Held> {
        self.dead_places.keys().copied().collect()
    }

    pub(crate) fn dead_held_with_place(&self) -> impl Iterator<Item = (Held, Offset)> {
        self.dead_places.iter().map(|(held, offset)| (*held, *offset))
    }

    pub(crate) fn is_dead(&self, held: Held) -> bool {
        self.dead_places.contains_key(&held)
    }

    pub(crate) fn retries_on_disk(&self) -> usize {
        self.retries.len()
    }

    /// Whether due timers may be left over for a later turn, because few are handled in one.
    fn timers_may_lag(&self) -> bool {
        self.settings.limits.timers_per_turn_max < 64
    }
}
