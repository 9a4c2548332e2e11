//! The name of every metric, with what it says; units last. Labels are few and closed: topics, groups, kinds of events;
//! never an id or a key.

use crate::engine::Counts;

/// A metric: its name and what it says.
pub type Named = (&'static str, &'static str);
/// A metric with where its value is found.
pub type Counted = (Named, fn(&Counts) -> u64);

/// Counters that the engine keeps: since the start, or since the engine was last rebuilt.
pub const ENGINE_COUNTERS: &[Counted] = &[
    (("escrow_messages_published_total", "Messages stored on their own"), |c| c.messages_published),
    (("escrow_messages_deduplicated_total", "Messages that had been stored before"), |c| {
        c.messages_deduplicated
    }),
    (("escrow_transactions_prepared_total", "Transactions put in escrow"), |c| c.transactions_prepared),
    (("escrow_transactions_committed_total", "Transactions committed"), |c| c.transactions_committed),
    (("escrow_transactions_rolled_back_total", "Transactions rolled back"), |c| c.transactions_rolled_back),
    (("escrow_transactions_parked_total", "Transactions that began to wait for a person"), |c| {
        c.transactions_parked
    }),
    (("escrow_transactions_resumed_total", "Parked transactions that are checked again"), |c| {
        c.transactions_resumed
    }),
    (("escrow_decisions_by_policy_total", "Decisions by an in-doubt policy"), |c| c.decisions_by_policy),
    (("escrow_decisions_repeated_total", "Decisions that had been taken before"), |c| c.decisions_repeated),
    (("escrow_decision_conflicts_total", "Contradicting decisions that were refused"), |c| {
        c.decision_conflicts
    }),
    (("escrow_checks_asked_total", "Questions sent to checkers"), |c| c.checks_asked),
    (("escrow_checks_delivered_total", "Checks that reached a checker"), |c| c.checks_delivered),
    (("escrow_checks_unknown_total", "Checks answered with unknown"), |c| c.checks_unknown),
    (("escrow_checks_timed_out_total", "Checks not answered in time"), |c| c.checks_timed_out),
    (("escrow_checks_without_checker_total", "Checks due with nobody to ask"), |c| c.checks_without_checker),
    (("escrow_deliveries_total", "Messages handed to consumers"), |c| c.deliveries),
    (("escrow_redeliveries_total", "Of these, handed out again"), |c| c.redeliveries),
    (("escrow_acks_total", "Deliveries acknowledged"), |c| c.acks),
    (("escrow_nacks_total", "Deliveries that failed by the consumer's word"), |c| c.nacks),
    (("escrow_rejects_total", "Deliveries that cannot succeed by the consumer's word"), |c| c.rejects),
    (("escrow_releases_total", "Deliveries given back untouched"), |c| c.releases),
    (("escrow_lease_extensions_total", "Leases begun again"), |c| c.extends),
    (("escrow_stale_settlements_total", "Settlements that came after their lease"), |c| c.stale_settlements),
    (("escrow_leases_expired_total", "Leases that ran out"), |c| c.leases_expired),
    (("escrow_leases_lost_total", "Leases whose consumer was gone"), |c| c.leases_lost),
    (("escrow_dead_letters_total", "Messages moved to the dead letters"), |c| c.dead_letters),
    (("escrow_dead_letters_redriven_total", "Dead letters sent again"), |c| c.redrives),
    (("escrow_dead_letters_discarded_total", "Dead letters given up"), |c| c.discards),
    (("escrow_messages_scheduled_total", "Messages stored for later"), |c| c.scheduled),
    (("escrow_scheduled_released_total", "Scheduled messages whose time came"), |c| c.scheduled_released),
    (("escrow_scheduled_cancelled_total", "Scheduled messages withdrawn"), |c| c.scheduled_cancelled),
    (("escrow_messages_expired_total", "Messages that outlived their time to live"), |c| c.messages_expired),
    (("escrow_messages_removed_total", "Finished messages removed"), |c| c.messages_removed),
    (("escrow_damaged_records_total", "Damaged records met"), |c| c.records_damaged),
];

/// Refusals.
pub const REFUSED: Named = ("escrow_refused_total", "Inputs that were refused, by reason");
/// Traces.
pub const SPANS_SENT: Named = ("escrow_trace_spans_sent_total", "Spans of traces that the collector took");
/// Traces.
pub const SPANS_DROPPED: Named = (
    "escrow_trace_spans_dropped_total",
    "Spans of traces that were given up: the collector was away, refused them, or was too slow",
);
/// Turns.
pub const TURNS: Named = ("escrow_turns_total", "Batches made durable");

/// Inputs of a turn.
pub const TURN_INPUTS: Named = ("escrow_turn_inputs", "Inputs that became durable together");
/// The sync.
pub const COMMIT_SECONDS: Named = ("escrow_commit_seconds", "Append and fdatasync of a batch");
/// Of the sync, writing.
pub const APPEND_SECONDS: Named = ("escrow_store_append_seconds", "Writing a batch to the journal");
/// Of the sync, waiting for the disk.
pub const SYNC_SECONDS: Named = ("escrow_store_sync_seconds", "fdatasync of the journal");
/// The table.
pub const SPILL_SECONDS: Named =
    ("escrow_store_spill_seconds", "Writing a frozen overlay to the table and syncing it");
/// Publishing.
pub const PUBLISH_SECONDS: Named =
    ("escrow_publish_seconds", "From receiving a message or half message to durable");
/// Deciding.
pub const DECISION_SECONDS: Named = ("escrow_decision_seconds", "From receiving a decision to durable");
/// Delivering.
pub const DELIVERY_DELAY_SECONDS: Named =
    ("escrow_delivery_delay_seconds", "From visible to the first delivery to a group");

/// The release.
pub const BUILD_INFO: Named = ("escrow_build_info", "1; the label says which release this is");
/// Gauges of the broker as a whole.
pub const TOPICS: Named = ("escrow_topics", "Topics, dead-letter topics not counted");
/// Groups.
pub const GROUPS: Named = ("escrow_groups", "Groups");
/// Undecided.
pub const UNDECIDED: Named = ("escrow_transactions_undecided", "Transactions undecided and not parked");
/// Waiting.
pub const WAITING_FOR_CHECKER: Named =
    ("escrow_transactions_waiting_for_checker", "Transactions due for a check with nobody to ask");
/// Parked.
pub const PARKED: Named = ("escrow_transactions_parked", "Transactions that wait for a person");
/// The oldest.
pub const OLDEST_UNDECIDED_SECONDS: Named =
    ("escrow_oldest_undecided_age_seconds", "Age of the oldest undecided transaction; 0: none");
/// Retrying.
pub const RETRYING: Named = ("escrow_messages_retrying", "Messages that wait for their next attempt");
/// Scheduled.
pub const SCHEDULED: Named = ("escrow_messages_scheduled", "Messages that wait for their time");
/// Leased.
pub const LEASED: Named = ("escrow_messages_leased", "Messages with a consumer");
/// Dead letters.
pub const DEAD_LETTERS: Named = ("escrow_dead_letters", "Dead letters");
/// Lag.
pub const LAG: Named = ("escrow_lag_messages", "Messages that groups have yet to finish, summed over groups");
/// Producers.
pub const PRODUCERS: Named = ("escrow_producers_connected", "Producers connected");
/// Consumers.
pub const CONSUMERS: Named = ("escrow_consumers_connected", "Consumers connected");
/// Room.
pub const ACCEPTING: Named =
    ("escrow_accepting", "1 while new messages are accepted, 0 while space is short");

/// Of a topic.
pub const TOPIC_MESSAGES: Named = ("escrow_topic_messages", "Messages that a topic keeps");
/// Of a topic.
pub const TOPIC_BODY_BYTES: Named = ("escrow_topic_body_bytes", "Bytes of the bodies that a topic keeps");
/// Of a topic.
pub const TOPIC_NEXT_OFFSET: Named =
    ("escrow_topic_next_offset", "Messages that ever became visible in a topic");
/// Of a topic.
pub const TOPIC_AWAITED: Named =
    ("escrow_topic_awaited_messages", "Undecided or scheduled messages that will come to a topic");
/// Of a group.
pub const GROUP_BLOCKED: Named =
    ("escrow_group_blocked_keys", "Ordering keys of a group whose messages wait for an earlier one");
/// Of a group.
pub const GROUP_PAUSED: Named = ("escrow_group_paused", "1 while a group is paused");
/// Of a group.
pub const GROUP_ACKS: Named = ("escrow_group_acks_total", "Deliveries to a group that were acknowledged");
/// Of a group.
pub const GROUP_NACKS: Named = (
    "escrow_group_nacks_total",
    "Deliveries to a group that failed by the consumer's word, rejects among them",
);
/// Of a group.
pub const GROUP_EXPIRED: Named = ("escrow_group_leases_expired_total", "Leases of a group that ran out");
/// Of a group.
pub const GROUP_LAG: Named =
    ("escrow_group_lag_messages", "Messages of a topic that a group has yet to finish");
/// Of a group.
pub const GROUP_LAG_SECONDS: Named = ("escrow_group_lag_seconds", "Age of the oldest of them");
/// Of a group.
pub const GROUP_LEASED: Named = ("escrow_group_leased_messages", "Messages of a group with a consumer");
/// Of a group.
pub const GROUP_RETRYING: Named =
    ("escrow_group_retrying_messages", "Messages of a group that wait for their next attempt");
/// Of a group.
pub const GROUP_DEAD: Named = ("escrow_group_dead_letters", "Dead letters of a group");
/// Of a group.
pub const GROUP_MEMBERS: Named = ("escrow_group_members", "Consumers of a group that are connected");

/// Of the store.
pub const STORE_SEQUENCE: Named = ("escrow_store_last_sequence", "Number of the last durable batch");
/// Of the store.
pub const STORE_SPILLED: Named = (
    "escrow_store_spilled_sequence",
    "Number of the last batch that is in the table; what came since lies in the journal",
);
/// Of the store.
pub const STORE_JOURNAL_BYTES: Named = ("escrow_store_journal_bytes", "Bytes of the journal");
/// Of the store.
pub const STORE_OVERLAY_BYTES: Named = ("escrow_store_overlay_bytes", "Bytes of the overlay in memory");
/// Of the store.
pub const STORE_TABLE_BYTES: Named = ("escrow_store_table_bytes", "Bytes of the table on disk");
/// Of the store.
pub const STORE_FREE_BYTES: Named = ("escrow_store_disk_free_bytes", "Free bytes on the disk of the store");
/// Of the store.
pub const STORE_SYNCS: Named = ("escrow_store_syncs", "Syncs of the journal since the start");
/// Of the store.
pub const STORE_LAST_SYNC_SECONDS: Named = ("escrow_store_last_sync_seconds", "How long the last sync took");
/// Of the store.
pub const STORE_CORRUPT: Named = ("escrow_store_corrupt_records", "Records the store found damaged");

/// Of alarms.
pub const ALARMS_OPEN: Named = ("escrow_alarms_open", "Alarms that are open, by rule");
/// Of alarms.
pub const ALARMS_RAISED: Named = ("escrow_alarms_raised_total", "Alarms raised");
/// Of alarms.
pub const ALARMS_SUPPRESSED: Named =
    ("escrow_alarms_suppressed_total", "Alarms not raised at a look, for too many were open");
/// Of their notices.
pub const ALARM_NOTICES_WAITING: Named =
    ("escrow_alarm_notices_waiting", "Notices of alarms that a sink has not taken yet");
/// Of their notices.
pub const ALARM_NOTICES_TAKEN: Named = ("escrow_alarm_notices_taken_total", "Notices that a sink has taken");
/// Of their notices.
pub const ALARM_NOTICES_FAILED: Named =
    ("escrow_alarm_notices_failed_total", "Attempts at a sink that failed; they are made again");
/// Of their notices.
pub const ALARM_NOTICES_GIVEN_UP: Named =
    ("escrow_alarm_notices_given_up_total", "Notices that no attempt got through with");

/// Upper bounds of histograms of durations, seconds: from a fast sync to a slow disk.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    60.0,
];
/// Upper bounds of histograms of counts.
pub const COUNT_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
