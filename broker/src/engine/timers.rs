//! When to wake: what is planned, in order of time. Derived from records and leases, never stored. The timers of undecided
//! transactions lie with these, for there may be millions: `undecided`.
//!
//! Two clocks, two lists: stored times are Unix time, leases and time-outs are monotonic.

use std::collections::BTreeSet;

use escrow_protocol::Offset;

use super::Now;
use crate::records::{GroupNumber, TopicNumber};

/// What is planned by Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WallTimer {
    /// The next attempt of a message.
    Retry(GroupNumber, TopicNumber, Offset),
    /// A topic's oldest message has been kept long enough.
    Retention(TopicNumber),
    /// A broadcast client has been away long enough.
    BroadcastIdle(GroupNumber),
}

/// What is planned by monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MonoTimer {
    /// A lease runs out.
    Lease(u64),
    /// A checker has had its time.
    Question(u64),
}

/// All that is planned.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: BTreeSet<(u64, WallTimer)>,
    mono: BTreeSet<(u64, MonoTimer)>,
}

impl Timers {
    pub(super) fn plan(&mut self, at_unix_ms: u64, timer: WallTimer) {
        self.wall.insert((at_unix_ms, timer));
    }

    pub(super) fn cancel(&mut self, at_unix_ms: u64, timer: WallTimer) {
        self.wall.remove(&(at_unix_ms, timer));
    }

    pub(super) fn plan_mono(&mut self, at_mono_ms: u64, timer: MonoTimer) {
        self.mono.insert((at_mono_ms, timer));
    }

    pub(super) fn cancel_mono(&mut self, at_mono_ms: u64, timer: MonoTimer) {
        self.mono.remove(&(at_mono_ms, timer));
    }

    /// When the earliest by Unix time is planned, milliseconds.
    pub(super) fn next_wall_at(&self) -> Option<u64> {
        self.wall.first().map(|(at_ms, _)| *at_ms)
    }

    /// The earliest timer that is due by Unix time, taken out.
    pub(super) fn pop_wall(&mut self, now: Now) -> Option<WallTimer> {
        let first = *self.wall.first().filter(|(at, _)| *at <= now.unix_ms)?;
        self.wall.remove(&first);
        Some(first.1)
    }

    /// The earliest timer that is due by monotonic time, taken out.
    pub(super) fn pop_mono(&mut self, now: Now) -> Option<MonoTimer> {
        let first = *self.mono.first().filter(|(at, _)| *at <= now.mono_ms)?;
        self.mono.remove(&first);
        Some(first.1)
    }

    /// Milliseconds until the earliest.
    pub(super) fn next_in(&self, now: Now) -> Option<u64> {
        let wall = self.wall.first().map(|(at, _)| at.saturating_sub(now.unix_ms));
        let mono = self.mono.first().map(|(at, _)| at.saturating_sub(now.mono_ms));
        wall.into_iter().chain(mono).min()
    }

    /// For assertions: how many of each sort.
    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for (_, timer) in &self.wall {
            match timer {
                WallTimer::Retry(..) => census.retries += 1,
                WallTimer::Retention(_) | WallTimer::BroadcastIdle(_) => {}
            }
        }
        for (_, timer) in &self.mono {
            match timer {
                MonoTimer::Lease(_) => census.leases += 1,
                MonoTimer::Question(_) => census.questions += 1,
            }
        }
        census
    }
}

/// How many timers of each sort there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) retries: usize,
    pub(super) leases: usize,
    pub(super) questions: usize,
}
