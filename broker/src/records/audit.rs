//! What is stored of operations by hand: one record for each, written in the batch of the operation itself, never changed.

use super::{DecodeError, Reader, Record, Writer};

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident $word:literal,)*) => {
        /// What was done by hand.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum AuditVerb { $($(#[$doc])* $name,)* }

        impl AuditVerb {
            /// All of them, in the order of their numbers on disk: new ones go to the end.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its word on the wire and on pages: noun and verb, as on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

verbs! {
    /// A topic was made.
    TopicCreate "topic.create",
    /// A topic keeps messages otherwise.
    TopicUpdate "topic.update",
    /// A topic was removed.
    TopicDelete "topic.delete",
    /// A group was made.
    GroupCreate "group.create",
    /// A group works otherwise, or listens to something else.
    GroupUpdate "group.update",
    /// A group was removed.
    GroupDelete "group.delete",
    /// A group was paused.
    GroupPause "group.pause",
    /// A group was resumed.
    GroupResume "group.resume",
    /// A group was moved.
    GroupSeek "group.seek",
    /// A check was ordered.
    TransactionCheck "tx.check",
    /// A parked transaction is checked again.
    TransactionResume "tx.resume",
    /// A transaction was committed.
    TransactionCommit "tx.commit",
    /// A transaction was rolled back.
    TransactionRollback "tx.rollback",
    /// A scheduled message was cancelled.
    ScheduledCancel "scheduled.cancel",
    /// A dead letter was sent again, or a job that does so was started.
    DeadLetterRedrive "dlq.redrive",
    /// A dead letter was given up, or a job that does so was started.
    DeadLetterDiscard "dlq.discard",
    /// A dead letter was sent again as a new message that is otherwise.
    DeadLetterEdit "dlq.edit",
    /// A job was told to wait.
    JobPause "job.pause",
    /// A job was told to go on.
    JobResume "job.resume",
    /// A job was ended.
    JobCancel "job.cancel",
    /// An alarm was taken care of.
    AlarmAck "alarm.ack",
    /// A retry was made due at once.
    RetryRun "retry.run",
    /// A retry was given up.
    RetryGiveUp "retry.give-up",
    /// A scheduled message was given another time.
    ScheduledMove "scheduled.move",
    /// A sink of alarms was tried.
    AlarmTest "alarm.test",
    /// Every record was read.
    StoreVerify "store.verify",
    /// A backup was begun.
    StoreBackup "store.backup",
    /// Dead letters were taken out as a file.
    DeadLetterExport "dlq.export",
    /// The audit was taken out as a file.
    AuditExport "audit.export",
}

impl AuditVerb {
    /// The verb with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.as_str() == word)
    }
}

/// An operation by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Who.
    pub name: String,
    /// Why; empty where none was given.
    pub reason: String,
    /// What.
    pub verb: AuditVerb,
    /// On which name or id.
    pub target: String,
    /// How that stood before; empty: it was not there.
    pub before: String,
    /// How it stands since; empty: it is gone.
    pub after: String,
}

impl Record for AuditEntry {
    const NAME: &'static str = "audit entry";

    fn write(&self, to: &mut Writer) {
        to.int(self.at_ms);
        to.text(&self.name);
        to.text(&self.reason);
        let verb = AuditVerb::ALL.iter().position(|verb| *verb == self.verb);
        to.u8(verb.expect("ALL holds every verb") as u8);
        to.text(&self.target);
        to.text(&self.before);
        to.text(&self.after);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            at_ms: from.int()?,
            name: from.text()?,
            reason: from.text()?,
            verb: {
                let verb = from.u8()?;
                let known = AuditVerb::ALL.get(usize::from(verb));
                *known.ok_or_else(|| from.fault("the verb is not known"))?
            },
            target: from.text()?,
            before: from.text()?,
            after: from.text()?,
        })
    }
}
