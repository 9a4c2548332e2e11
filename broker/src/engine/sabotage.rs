//! Faults planted on purpose, one at a time, so that the simulator can prove that it would notice each of them. Without
//! the feature `sabotage` there is none: [`planted`] is a constant `false`, and the hooks compile to nothing.

/// A fault. Each breaks one promise at the one place that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The number of a transaction is given again after a restart.
    IdReusedAfterRestart,
    /// Lease tokens begin anew with each process.
    TokenReusedAfterRestart,
    /// A topic's order has holes.
    OffsetSkipped,
    /// A group's floor is stored one too far.
    FloorTooFar,
    /// A group's floor is stored one short.
    FloorBackwards,
    /// An ack is answered and its progress never stored.
    AckNotStored,
    /// A lease counts although its time is over.
    LateAckAccepted,
    /// An extension is answered and not made.
    ExtendIgnored,
    /// A message leaves before the batch that justifies it is durable.
    DeliveredBeforeCommit,
    /// A half message is queued at once.
    HalfMessageVisible,
    /// A rolled-back message is queued.
    RolledBackVisible,
    /// The opposite of a decision is taken for the same.
    DecisionNotFinal,
    /// Any group may decide.
    WrongGroupDecides,
    /// Anybody may answer a check.
    StrangerAnswersCheck,
    /// A check is counted that reached nobody.
    CheckCountedWithoutChecker,
    /// There is no end of checks.
    ChecksUnbounded,
    /// Retries are forgotten with the process.
    RetryLostOnRestart,
    /// The delay of a retry is forgotten with the process.
    RetryDelayLostOnRestart,
    /// A retry comes early.
    RetryEarly,
    /// A failed attempt counts twice.
    AttemptCountedTwice,
    /// A failed attempt does not count.
    AttemptNotCounted,
    /// A retry's record outlives its end: the message is in the dead letters, too.
    RetryOutlivesItsEnd,
    /// A scheduled message comes early.
    ScheduledEarly,
    /// A scheduled message is called cancelled and comes.
    CancelIgnored,
    /// A scheduled message is called moved and comes at its old time.
    MoveIgnored,
    /// A retry is called due at once and is not.
    RunNowIgnored,
    /// A retry that is given up is in no dead letters.
    GivenUpForgotten,
    /// A message that was stored is stored again.
    DeduplicationForgotten,
    /// Messages of one ordering key go out side by side.
    OrderingKeyNotHeld,
    /// Credit in bytes does not bind.
    CreditIgnored,
    /// A message goes when the first group has finished it.
    RemovedTooEarly,
    /// A message is delivered however old it is.
    TimeToLiveIgnored,
    /// A paused group is served.
    PauseIgnored,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::IdReusedAfterRestart,
        Self::TokenReusedAfterRestart,
        Self::OffsetSkipped,
        Self::FloorTooFar,
        Self::FloorBackwards,
        Self::AckNotStored,
        Self::LateAckAccepted,
        Self::ExtendIgnored,
        Self::DeliveredBeforeCommit,
        Self::HalfMessageVisible,
        Self::RolledBackVisible,
        Self::DecisionNotFinal,
        Self::WrongGroupDecides,
        Self::StrangerAnswersCheck,
        Self::CheckCountedWithoutChecker,
        Self::ChecksUnbounded,
        Self::RetryLostOnRestart,
        Self::RetryDelayLostOnRestart,
        Self::RetryEarly,
        Self::AttemptCountedTwice,
        Self::AttemptNotCounted,
        Self::RetryOutlivesItsEnd,
        Self::ScheduledEarly,
        Self::CancelIgnored,
        Self::MoveIgnored,
        Self::RunNowIgnored,
        Self::GivenUpForgotten,
        Self::DeduplicationForgotten,
        Self::OrderingKeyNotHeld,
        Self::CreditIgnored,
        Self::RemovedTooEarly,
        Self::TimeToLiveIgnored,
        Self::PauseIgnored,
    ];
}

#[cfg(feature = "sabotage")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Plants `fault` in every engine of this thread, in place of the one before; `None` removes it.
#[cfg(feature = "sabotage")]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether `fault` is to happen.
#[cfg(feature = "sabotage")]
pub(super) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Whether `fault` is to happen: never.
#[cfg(not(feature = "sabotage"))]
pub(super) const fn planted(_fault: Fault) -> bool {
    false
}
