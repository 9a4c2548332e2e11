//! What of the engine can be configured, with the defaults. `config` reads and checks them; the engine trusts them.

use std::collections::BTreeMap;

use escrow_protocol::{Kind, limits};

use crate::records::{CheckPolicy, GroupSettings, InDoubt, OrderingPolicy, RetryPolicy};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Checks and in-doubt policies.
    pub transactions: TransactionSettings,
    /// What a new group works by.
    pub groups: GroupDefaults,
    /// What may be made by using it.
    pub topics: TopicDefaults,
    /// How long things are kept.
    pub retention: RetentionSettings,
    /// Bounds.
    pub limits: EngineLimits,
}

/// Checks and in-doubt policies.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionSettings {
    /// Milliseconds from the half message to the first check. Default 6 s.
    pub first_check_after_ms: u64,
    /// Milliseconds between further checks; the last repeats. Never empty.
    pub check_delays_ms: Vec<u64>,
    /// ± this percentage of each delay. Default 20.
    pub check_jitter_percent: u32,
    /// How long a checker may take, milliseconds. Default 5 s.
    pub check_timeout_ms: u64,
    /// Delivered checks before the in-doubt policy. Default 15.
    pub max_checks: u32,
    /// Milliseconds undecided before the in-doubt policy. Default 24 h.
    pub max_undecided_age_ms: u64,
    /// The in-doubt policy. Default: park.
    pub in_doubt: InDoubt,
    /// The in-doubt policy of single kinds.
    pub kinds: BTreeMap<Kind, InDoubt>,
    /// Questions under way at one checker; further ones wait. Default 256.
    pub questions_per_checker_max: u32,
}

impl TransactionSettings {
    /// How transactions of `kind` are checked unless they say otherwise.
    pub fn policy_of(&self, kind: &Kind) -> CheckPolicy {
        CheckPolicy {
            first_check_after_ms: self.first_check_after_ms,
            max_checks: self.max_checks,
            max_undecided_age_ms: self.max_undecided_age_ms,
            in_doubt: self.kinds.get(kind).copied().unwrap_or(self.in_doubt),
        }
    }

    /// The delay behind the `delivered`-th delivered check, milliseconds, before jitter.
    pub fn delay_after(&self, delivered: u32) -> u64 {
        let last = self.check_delays_ms.len() - 1;
        self.check_delays_ms[last.min(delivered.saturating_sub(1) as usize)]
    }
}

impl Default for TransactionSettings {
    fn default() -> Self {
        const SECOND: u64 = 1000;
        const MINUTE: u64 = 60 * SECOND;
        Self {
            first_check_after_ms: 6 * SECOND,
            check_delays_ms: vec![
                30 * SECOND,
                MINUTE,
                2 * MINUTE,
                5 * MINUTE,
                10 * MINUTE,
                30 * MINUTE,
                60 * MINUTE,
            ],
            check_jitter_percent: 20,
            check_timeout_ms: 5 * SECOND,
            max_checks: 15,
            max_undecided_age_ms: 24 * 60 * MINUTE,
            in_doubt: InDoubt::Park,
            kinds: BTreeMap::new(),
            questions_per_checker_max: 256,
        }
    }
}

/// What a new group works by, and whether using one makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupDefaults {
    /// The settings of a group that is made without.
    pub settings: GroupSettings,
    /// Subscribing under an unknown name makes the group. Default true.
    pub create_on_use: bool,
    /// A broadcast client's own group ends when the client stays away this long, milliseconds. Default 1 h.
    pub broadcast_idle_ms: u64,
}

impl Default for GroupDefaults {
    fn default() -> Self {
        Self {
            settings: GroupSettings {
                retry: RetryPolicy::default(),
                ordering: OrderingPolicy::Block,
                lease_ms: 30_000,
            },
            create_on_use: true,
            broadcast_idle_ms: 3600 * 1000,
        }
    }
}

/// Whether using a topic makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicDefaults {
    /// Publishing or subscribing to an unknown name makes the topic. Default false: a typing error would keep messages
    /// where nobody reads them.
    pub create_on_use: bool,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Messages of a topic that no group listens to, milliseconds. Default 72 h.
    pub unsubscribed_ms: u64,
    /// … and at most this many bytes of bodies. Default 1 GiB.
    pub unsubscribed_bytes: u64,
    /// Decided transactions, milliseconds, for late decisions. Default 24 h.
    pub decided_ms: u64,
    /// … and at most this many. Default one million.
    pub decided_max: usize,
    /// Message ids, milliseconds, for deduplication. Default 10 min.
    pub ids_ms: u64,
    /// … and at most this many. Default one million.
    pub ids_max: usize,
    /// The audit of operations by hand, milliseconds. Default 90 days.
    pub audit_ms: u64,
    /// … and at most this many operations. Default 100,000.
    pub audit_max: u64,
    /// What happened to messages, milliseconds. Default 7 days.
    pub story_ms: u64,
    /// … and at most this many notes of it; a transaction that goes well takes three. 0: none. Default 3 million.
    pub story_max: u64,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            unsubscribed_ms: 72 * 3600 * 1000,
            unsubscribed_bytes: 1 << 30,
            decided_ms: 24 * 3600 * 1000,
            decided_max: 1_000_000,
            ids_ms: 10 * 60 * 1000,
            ids_max: limits::REMEMBERED_IDS_DEFAULT,
            audit_ms: 90 * 24 * 3600 * 1000,
            audit_max: 100_000,
            story_ms: 7 * 24 * 3600 * 1000,
            story_max: 3_000_000,
        }
    }
}

/// Bounds of what is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Topics, dead-letter topics included. Default 10,000.
    pub topics_max: usize,
    /// Groups. Default 10,000.
    pub groups_max: usize,
    /// Producers and consumers connected. Default 20,000.
    pub sessions_max: usize,
    /// Undecided transactions, parked ones included. Default 5 million.
    pub undecided_max: usize,
    /// Messages of one group that wait for their next attempt; beyond that it is given no new ones. Default 1 million.
    pub retrying_per_group_max: usize,
    /// How far beyond its floor a group reads a topic: leased, blocked and finished out of order. Default 100,000.
    pub window_max: u64,
    /// Queue entries read ahead for a group at a time. Default 256.
    pub page: usize,
    /// Pages read ahead in one turn, over all groups: bounds what passing over unwanted messages costs. Default 64.
    pub pages_per_turn_max: usize,
    /// Deliveries handed out in one turn. Default 2,048.
    pub deliveries_per_turn_max: usize,
    /// Due timers handled in one turn. Default 1,024.
    pub timers_per_turn_max: usize,
    /// Leases of lost consumers counted as failed in one turn. Default 4,096: more than a client holds unless told to.
    pub lost_leases_per_turn_max: usize,
    /// Jobs under way at the same time, paused ones included. Default 8.
    pub jobs_max: usize,
    /// Finished messages removed in one turn. Default 1,024.
    pub removals_per_turn_max: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            topics_max: 10_000,
            groups_max: 10_000,
            sessions_max: 20_000,
            undecided_max: 5_000_000,
            retrying_per_group_max: 1_000_000,
            window_max: 100_000,
            page: 256,
            pages_per_turn_max: 64,
            deliveries_per_turn_max: 2_048,
            timers_per_turn_max: 1_024,
            lost_leases_per_turn_max: 4_096,
            jobs_max: 8,
            removals_per_turn_max: 1_024,
        }
    }
}
