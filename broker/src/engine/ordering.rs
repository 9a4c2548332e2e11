//! Order within a group: the messages of one ordering key of one topic go out one after another, in commit order.
//!
//! A gate exists for a key while one of its messages is leased, retrying or waiting behind another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use escrow_protocol::Offset;

use super::position::Candidate;
use super::sabotage::{Fault, planted};
use crate::records::OrderingPolicy;

/// What a gate says to a message that could go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go.
    Deliver,
    /// Wait for an earlier one.
    Wait,
    /// An earlier one is retrying, and the policy is to dead-letter the key.
    Doom {
        /// The earlier one.
        behind: Offset,
    },
}

/// How many gates of a group hold something back. Each gate counts itself: a look at a group costs no walk over its keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocked(Arc<AtomicU64>);

impl Blocked {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The state of one ordering key.
#[derive(Debug, Default)]
pub(super) struct Gate {
    blocked: Blocked,
    leased: Option<Offset>,
    retrying: BTreeSet<Offset>,
    waiting: BTreeMap<Offset, Candidate>,
}

impl Gate {
    /// A gate that nothing stands at yet.
    pub(super) fn counted_in(blocked: &Blocked) -> Self {
        Self { blocked: blocked.clone(), leased: None, retrying: BTreeSet::new(), waiting: BTreeMap::new() }
    }

    /// Changes who waits, and what is counted with it.
    fn change_waiting<T>(&mut self, change: impl FnOnce(&mut BTreeMap<Offset, Candidate>) -> T) -> T {
        let was_blocked = self.is_blocked();
        let changed = change(&mut self.waiting);
        match (was_blocked, self.is_blocked()) {
            (false, true) => {
                self.blocked.0.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.blocked.0.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        changed
    }

    pub(super) fn admit(&self, candidate: &Candidate, policy: OrderingPolicy) -> Admission {
        let overtakes = |other: &Offset| *other < candidate.offset;
        if planted(Fault::OrderingKeyNotHeld) {
            return Admission::Deliver;
        }
        if self.leased.is_some() || self.waiting.keys().next().is_some_and(overtakes) {
            return Admission::Wait;
        }
        match (policy, self.retrying.first().copied().filter(overtakes)) {
            (_, None) | (OrderingPolicy::Skip, _) => Admission::Deliver,
            (OrderingPolicy::DeadLetter, Some(behind)) if !candidate.is_retry => Admission::Doom { behind },
            (OrderingPolicy::Block | OrderingPolicy::DeadLetter, Some(_)) => Admission::Wait,
        }
    }

    pub(super) fn lease(&mut self, offset: Offset) {
        debug_assert!(
            self.leased.is_none() || planted(Fault::OrderingKeyNotHeld),
            "an ordering key has two messages under lease"
        );
        self.leased = Some(offset);
    }

    /// The lease of `offset` is over.
    pub(super) fn unlease(&mut self, offset: Offset) {
        if self.leased == Some(offset) {
            self.leased = None;
        }
    }

    pub(super) fn start_retrying(&mut self, offset: Offset) {
        self.retrying.insert(offset);
    }

    pub(super) fn stop_retrying(&mut self, offset: Offset) {
        self.retrying.remove(&offset);
    }

    pub(super) fn wait(&mut self, candidate: Candidate) {
        self.change_waiting(|waiting| waiting.insert(candidate.offset, candidate));
    }

    /// Takes `offset` out of those that wait.
    pub(super) fn forget(&mut self, offset: Offset) {
        self.change_waiting(|waiting| waiting.remove(&offset));
    }

    /// The first that waits, if nothing holds it back any more; it is asked again before it goes out.
    pub(super) fn next(&mut self, policy: OrderingPolicy) -> Option<Candidate> {
        let (_, candidate) = self.change_waiting(BTreeMap::pop_first)?;
        if self.admit(&candidate, policy) == Admission::Wait {
            self.wait(candidate);
            return None;
        }
        Some(candidate)
    }

    /// All that wait, taken out.
    pub(super) fn take_waiting(&mut self) -> Vec<Candidate> {
        self.change_waiting(std::mem::take).into_values().collect()
    }

    /// Those that wait, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Candidate> {
        self.waiting.values()
    }

    /// Whether messages wait behind an earlier one.
    pub(super) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.leased.is_none() && self.retrying.is_empty() && self.waiting.is_empty()
    }
}

impl Drop for Gate {
    /// With the topic, or a move of the group.
    fn drop(&mut self) {
        let _ = self.take_waiting();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use escrow_protocol::MessageId;

    use super::*;
    use crate::records::{QueueEntry, TopicNumber};

    fn candidate(offset: u64, is_retry: bool) -> Candidate {
        let entry = QueueEntry {
            id: MessageId::new(1, [1; 10]),
            at_ms: 0,
            transaction: None,
            key_hash: None,
            tag: None,
            ordering_key: Some("k".into()),
            body_bytes: 0,
            expires_at_ms: 0,
            resolution: None,
        };
        Candidate {
            topic: TopicNumber(1),
            offset: Offset(offset),
            entry: Arc::new(entry),
            attempts_made: 0,
            is_retry,
        }
    }

    #[test]
    fn one_at_a_time_under_every_policy() {
        for policy in [OrderingPolicy::Block, OrderingPolicy::Skip, OrderingPolicy::DeadLetter] {
            let mut gate = Gate::default();
            assert_eq!(gate.admit(&candidate(1, false), policy), Admission::Deliver);
            gate.lease(Offset(1));
            assert_eq!(gate.admit(&candidate(2, false), policy), Admission::Wait);
            gate.unlease(Offset(1));
            assert_eq!(gate.admit(&candidate(2, false), policy), Admission::Deliver);
        }
    }

    #[test]
    fn a_retrying_message_holds_lets_pass_or_dooms_those_behind_it() {
        let mut gate = Gate::default();
        gate.start_retrying(Offset(1));
        let behind = candidate(2, false);
        assert_eq!(gate.admit(&behind, OrderingPolicy::Block), Admission::Wait);
        assert_eq!(gate.admit(&behind, OrderingPolicy::Skip), Admission::Deliver);
        assert_eq!(gate.admit(&behind, OrderingPolicy::DeadLetter), Admission::Doom { behind: Offset(1) });
        // The retrying one itself, and one before it, are not held by it.
        for offset in [0, 1] {
            assert_eq!(gate.admit(&candidate(offset, true), OrderingPolicy::Block), Admission::Deliver);
        }
    }

    #[test]
    fn the_waiting_leave_in_order_once_nothing_holds_them() {
        let mut gate = Gate::default();
        gate.lease(Offset(1));
        gate.wait(candidate(3, false));
        gate.wait(candidate(2, false));
        assert!(gate.next(OrderingPolicy::Block).is_none());
        gate.unlease(Offset(1));
        assert_eq!(gate.next(OrderingPolicy::Block).map(|c| c.offset), Some(Offset(2)));
        assert_eq!(gate.admit(&candidate(4, false), OrderingPolicy::Block), Admission::Wait);
    }
}
