//! The reasons for which a request is refused: one list, the same on every call (`google.rpc.ErrorInfo.reason`).

use std::fmt;
use std::str::FromStr;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a request was refused, for programs. docs/protocol.md says for each what the client does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its form on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        impl FromStr for Reason {
            type Err = ();

            /// Reads the wire form. A reason this release does not know is an `Err(())`.
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($text => Ok(Self::$name),)* _ => Err(()) }
            }
        }
    };
}

reasons! {
    /// A field has an illegal value; details name `field`. Fix the request. (INVALID_ARGUMENT)
    InvalidField = "INVALID_FIELD",
    /// The first frame of a session was not a hello, or a second one came. (INVALID_ARGUMENT)
    HelloExpected = "HELLO_EXPECTED",
    /// Client and broker have no version of the protocol in common; details name both. (FAILED_PRECONDITION)
    ProtocolVersion = "PROTOCOL_VERSION",
    /// No such topic. (NOT_FOUND)
    UnknownTopic = "UNKNOWN_TOPIC",
    /// No such group. (NOT_FOUND)
    UnknownGroup = "UNKNOWN_GROUP",
    /// No such transaction, or it was decided longer ago than is remembered. (NOT_FOUND)
    UnknownTransaction = "UNKNOWN_TRANSACTION",
    /// No such message, or it is finished and gone. (NOT_FOUND)
    UnknownMessage = "UNKNOWN_MESSAGE",
    /// No dead letter at that place: redriven, discarded, or never there. (NOT_FOUND)
    UnknownDeadLetter = "UNKNOWN_DEAD_LETTER",
    /// The group does not retry that message. (NOT_FOUND)
    UnknownRetry = "UNKNOWN_RETRY",
    /// The group is not subscribed to that topic. (NOT_FOUND)
    UnknownSubscription = "UNKNOWN_SUBSCRIPTION",
    /// No such job, or it ended long ago. (NOT_FOUND)
    UnknownJob = "UNKNOWN_JOB",
    /// No such alarm, or it was over long ago. (NOT_FOUND)
    UnknownAlarm = "UNKNOWN_ALARM",
    /// No sink of alarms has that name. (NOT_FOUND)
    UnknownSink = "UNKNOWN_SINK",
    /// The topic exists. (ALREADY_EXISTS)
    TopicExists = "TOPIC_EXISTS",
    /// The group exists. (ALREADY_EXISTS)
    GroupExists = "GROUP_EXISTS",
    /// The message id was used for another message. (ALREADY_EXISTS)
    MessageIdReused = "MESSAGE_ID_REUSED",
    /// The transaction key was used for a transaction of other messages. (ALREADY_EXISTS)
    TransactionKeyReused = "TRANSACTION_KEY_REUSED",
    /// The opposite was decided; details: `state`, `by`, `at_ms`. (FAILED_PRECONDITION)
    AlreadyDecided = "ALREADY_DECIDED",
    /// Only the producer group that made the transaction may decide it. (PERMISSION_DENIED)
    WrongGroup = "WRONG_GROUP",
    /// The lease is over: another attempt may be under way. (FAILED_PRECONDITION)
    StaleLease = "STALE_LEASE",
    /// The group is subscribed with other tags. (FAILED_PRECONDITION)
    SubscriptionMismatch = "SUBSCRIPTION_MISMATCH",
    /// The topic belongs to a group's dead letters and takes nothing else. (FAILED_PRECONDITION)
    ReservedTopic = "RESERVED_TOPIC",
    /// Still in use: subscribed, connected, or holding dead letters. (FAILED_PRECONDITION)
    InUse = "IN_USE",
    /// The transaction is not parked. (FAILED_PRECONDITION)
    NotParked = "NOT_PARKED",
    /// The transaction is decided. (FAILED_PRECONDITION)
    NotUndecided = "NOT_UNDECIDED",
    /// The job has ended; details: `state`. (FAILED_PRECONDITION)
    JobEnded = "JOB_ENDED",
    /// The alarm is over; details: `resolved_at_ms`. (FAILED_PRECONDITION)
    AlarmResolved = "ALARM_RESOLVED",
    /// The position is outside what is kept; details: `oldest`, `next`. (OUT_OF_RANGE)
    OffsetOutOfRange = "OFFSET_OUT_OF_RANGE",
    /// A bound of the broker is reached; details name it. (RESOURCE_EXHAUSTED, with RetryInfo where others may free room)
    LimitReached = "LIMIT_REACHED",
    /// Space is short: no new messages until some is freed. (RESOURCE_EXHAUSTED, with RetryInfo)
    DiskFull = "DISK_FULL",
    /// More waits than the broker queues. (RESOURCE_EXHAUSTED, with RetryInfo)
    Overloaded = "OVERLOADED",
    /// The broker is stopping. (UNAVAILABLE, with RetryInfo)
    ShuttingDown = "SHUTTING_DOWN",
    /// A record of this message or transaction is damaged. (DATA_LOSS)
    Damaged = "DAMAGED",
    /// A fault of the broker itself. (INTERNAL)
    Internal = "INTERNAL",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_what_it_writes() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert_eq!("NEW_IN_A_LATER_RELEASE".parse::<Reason>(), Err(()));
    }
}
