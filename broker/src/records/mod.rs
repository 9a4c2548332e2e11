//! What the broker stores, record by record: types with one written form, and the keys they lie under.
//!
//! Stored types are neither wire types nor engine types: a change here is a change of the format (docs/format.md).

mod alarm;
mod audit;
mod codec;
mod delivery;
mod facets;
mod job;
pub mod keys;
mod message;
mod naming;
mod story;
mod transaction;

pub use alarm::{Alarm, AlarmAck, AlarmEvent, AlarmNotice, AlarmRule, AlarmSinks};
pub use audit::{AuditEntry, AuditVerb};
pub use codec::{DecodeError, Reader, Record, Writer};
pub use delivery::{
    Attempt, AttemptKind, DeadLetter, DeadPlace, DeadReason, Progress, QueueEntry, Resolution, Retry,
};
pub use facets::Facets;
pub use job::{JobDeed, JobDeeds, JobFailure, JobKind, JobPlan, JobProgress, JobState, LetterFilter};
pub use keys::{GroupNumber, TopicNumber};
pub use message::{Fate, Message, Place, Remembered, Standing, Stub};
pub use naming::{
    Counters, Group, GroupSettings, OrderingPolicy, RetryDelays, RetryPolicy, Subscription, Tail, Topic,
    TopicSettings,
};
pub use story::{Chapter, CheckAnswer, Ending, Happening, Note, Story, Subject, Tried};
pub use transaction::{
    CheckCounts, CheckPolicy, DecidedLog, Decider, Decision, InDoubt, Role, Transaction, TransactionKey,
    TransactionMessage, TransactionState,
};
