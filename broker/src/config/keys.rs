//! The one table of keys: what each is called, means, takes, and where its value goes. Reading, checking, printing and
//! suggesting all go through it, so none of them can drift from another.

use std::path::PathBuf;

use escrow_protocol::limits;
use escrow_storage::COMMIT_DELAY_MAX;

use super::section::{Choice, Config, LogFormat, RetryStrategy};
use super::shape::{Shape, Value, words};
use crate::records::{AlarmRule, InDoubt, OrderingPolicy};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 366 * DAY;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Counts beyond this are a slip of the finger, and would not fit into memory either.
const COUNT_MAX: u64 = 1_000_000_000;

/// One key.
pub(super) struct Key {
    /// `section.name`, or the name alone.
    pub(super) name: &'static str,
    /// What it does, for `print-defaults`.
    pub(super) doc: &'static str,
    /// What it takes.
    pub(super) shape: Shape,
    /// Its value in a configuration.
    pub(super) get: fn(&Config) -> Value,
    /// Puts a value that `shape` has read into a configuration.
    pub(super) set: fn(&mut Config, Value),
}

impl Key {
    /// The section; empty for what stands above all sections.
    pub(super) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within its section.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }
}

/// What the sections are about, in the order they are printed.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("grpc", "What producers, consumers and `escrow …` talk to."),
    ("http", "Whatever is not gRPC, /metrics, /livez and /readyz among it."),
    ("store", "The journal, the overlay in memory and the table on disk."),
    ("transactions", "When a silent producer is asked, and what happens when nobody knows."),
    ("delivery", "Deliveries of groups that are made without settings of their own."),
    ("retry", "Retries of groups that are made without settings of their own."),
    ("topics", "Topics."),
    ("groups", "Groups."),
    ("retention", "How long things are kept."),
    ("limits", "Bounds. The defaults fit a machine with 4 GiB of memory."),
    (
        "alarms",
        "What raises an alarm, and who is told. A limit reads: VALUE [for DURATION] [clear VALUE], or off. The alarm is raised when the value was reached for that long, and over when it was as long on the other side of `clear`.",
    ),
    ("log", "Log lines, on stderr."),
    ("metrics", "Numbers for Prometheus."),
    ("telemetry", "Traces for OpenTelemetry."),
];

/// The key called `name`.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

macro_rules! number {
    ($name:literal, $shape:expr, $($field:ident).+, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: $shape,
            get: |config| Value::Number(config.$($field).+.try_into().expect("a number of the configuration fits 64 bits")),
            set: |config, value| if let Value::Number(number) = value {
                config.$($field).+ = number.try_into().expect("the key's maximum fits its field");
            },
        }
    };
}

macro_rules! numbers {
    ($name:literal, $shape:expr, $($field:ident).+, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: $shape,
            get: |config| Value::Numbers(config.$($field).+.clone()),
            set: |config, value| if let Value::Numbers(all) = value { config.$($field).+ = all },
        }
    };
}

macro_rules! flag {
    ($name:literal, $($field:ident).+, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: Shape::Flag,
            get: |config| Value::Flag(config.$($field).+),
            set: |config, value| if let Value::Flag(flag) = value { config.$($field).+ = flag },
        }
    };
}

macro_rules! choice {
    ($name:literal, $type:ty, $($field:ident).+, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: Shape::Choice(words::<$type>),
            get: |config| Value::Text(config.$($field).+.word().to_owned()),
            set: |config, value| if let Value::Text(word) = value {
                config.$($field).+ = <$type>::from_word(&word).expect("the shape lets only its words pass");
            },
        }
    };
}

macro_rules! text {
    ($name:literal, $shape:expr, $($field:ident).+, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: $shape,
            get: |config| Value::Text(config.$($field).+.clone()),
            set: |config, value| if let Value::Text(text) = value { config.$($field).+ = text },
        }
    };
}

macro_rules! limit {
    ($name:literal, $rule:ident, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: Shape::Limit(AlarmRule::$rule),
            get: |config| Value::Limit(config.alarms.rules.get(AlarmRule::$rule)),
            set: |config, value| {
                if let Value::Limit(limit) = value {
                    config.alarms.rules.set(AlarmRule::$rule, limit);
                }
            },
        }
    };
}

macro_rules! address {
    ($name:literal, $($field:ident).+, $doc:literal) => {
        Key {
            name: $name,
            doc: $doc,
            shape: Shape::Address,
            get: |config| Value::Address(config.$($field).+),
            set: |config, value| if let Value::Address(address) = value { config.$($field).+ = address },
        }
    };
}

/// All of them, section by section as in [`SECTIONS`].
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        doc: "Where everything is stored. One broker at a time.",
        shape: Shape::Path,
        get: |config| Value::Text(config.data_dir.display().to_string()),
        set: |config, value| {
            if let Value::Text(text) = value {
                config.data_dir = PathBuf::from(text);
            }
        },
    },
    address!(
        "grpc.listen",
        grpc.listen,
        "Where gRPC listens. Beyond loopback only with --insecure: there is no authentication. Port 0: any free one."
    ),
    text!(
        "grpc.advertised",
        Shape::Text,
        grpc.advertised,
        "What clients call this broker, where that differs from `listen` (containers, proxies). Shown, not used. Empty: as it listens."
    ),
    address!(
        "http.listen",
        http.listen,
        "Where HTTP listens. Beyond loopback only with --insecure: there is no authentication. Port 0: any free one."
    ),
    number!(
        "store.cache",
        Shape::Size(MIB, u64::MAX),
        store.table_cache_bytes,
        "What the table keeps of its pages in memory."
    ),
    number!(
        "store.overlay",
        Shape::Size(KIB, u64::MAX),
        store.overlay_bytes_max,
        "New data is written to the table when it takes more memory than this; bodies of 512 bytes and more stay in the journal. Twice as much is ordinary, and half of it of what was written last."
    ),
    number!(
        "store.overlay_hard",
        Shape::Size(0, u64::MAX),
        store.overlay_bytes_hard,
        "Data that waits for the table takes no more memory than this: from half of it on, new messages are refused. 0: four times `overlay`."
    ),
    number!(
        "store.journal_file",
        Shape::Size(4 * KIB, u64::MAX),
        store.journal_file_bytes_max,
        "A journal file of this size is followed by a new one."
    ),
    number!(
        "store.journal",
        Shape::Size(4 * KIB, u64::MAX),
        store.journal_bytes_max,
        "Data goes to the table when the journal has grown by this: it bounds what a restart has to read. Where the table cannot keep up, new messages are refused at twice as much."
    ),
    number!(
        "store.journal_ahead",
        Shape::Size(0, GIB),
        store.journal_ahead_bytes,
        "Zeros written ahead of the journal's end: makes each sync cheaper. None for batches of 128 KiB and more. 0: none at all."
    ),
    number!(
        "store.open_limit",
        Shape::Duration(SECOND, DAY),
        store.table_open_limit_ms,
        "A table that takes longer to open is taken for damaged."
    ),
    number!(
        "store.free_floor",
        Shape::Size(0, u64::MAX),
        store.free_floor_bytes,
        "With less free space on the disk, new messages are refused; everything else goes on. 0: never refused."
    ),
    number!(
        "store.ballast",
        Shape::Size(0, u64::MAX),
        store.ballast_bytes,
        "A file of this size is given up when the disk is full, to be able to free space at all. 0: none."
    ),
    number!(
        "store.commit_delay",
        Shape::Duration(0, COMMIT_DELAY_MAX.as_millis() as u64),
        store.commit_delay_max_ms,
        "The longest that a commit is slowed down while the table catches up."
    ),
    number!(
        "transactions.first_check_after",
        Shape::Duration(0, 30 * DAY),
        transactions.first_check_after_ms,
        "From the half message to the first check."
    ),
    numbers!(
        "transactions.check_delays",
        Shape::Durations(1, 30 * DAY, limits::LADDER_STEPS_MAX),
        transactions.check_delays_ms,
        "Between further checks; the last repeats."
    ),
    number!(
        "transactions.check_jitter_percent",
        Shape::Count(0, 50),
        transactions.check_jitter_percent,
        "Each of these delays is varied by up to ± this many percent."
    ),
    number!(
        "transactions.check_timeout",
        Shape::Duration(10, 10 * MINUTE),
        transactions.check_timeout_ms,
        "How long a checker may take to answer."
    ),
    number!(
        "transactions.max_checks",
        Shape::Count(1, COUNT_MAX),
        transactions.max_checks,
        "Checks that reached a checker, before `in_doubt` decides."
    ),
    number!(
        "transactions.max_undecided_age",
        Shape::Duration(1, YEAR),
        transactions.max_undecided_age_ms,
        "How long a transaction may stay undecided, before `in_doubt` decides."
    ),
    choice!(
        "transactions.in_doubt",
        InDoubt,
        transactions.in_doubt,
        "What becomes of a transaction that nobody can answer for. park: kept, counted, logged and listed by `escrow tx ls`; a person decides."
    ),
    Key {
        name: "transactions.kinds",
        doc: "The same for single kinds of transactions, e.g. { \"order.create\" = \"rollback\" }.",
        shape: Shape::Kinds,
        get: |config| Value::Kinds(config.transactions.kinds.clone()),
        set: |config, value| {
            if let Value::Kinds(kinds) = value {
                config.transactions.kinds = kinds;
            }
        },
    },
    number!(
        "transactions.questions_per_checker",
        Shape::Count(1, 100_000),
        transactions.questions_per_checker_max,
        "Questions under way at one checker; further ones wait."
    ),
    number!(
        "delivery.lease",
        Shape::Duration(limits::LEASE_MS_MIN, limits::LEASE_MS_MAX),
        delivery.lease_ms,
        "How long a delivery may take before it counts as failed. Clients extend it by themselves."
    ),
    choice!(
        "delivery.ordering",
        OrderingPolicy,
        delivery.ordering,
        "What happens to later messages of an ordering key while one is retrying: they wait, are delivered, or die."
    ),
    choice!(
        "retry.strategy",
        RetryStrategy,
        retry.strategy,
        "Which of the delays below count: `delays`, the exponential ones, or `fixed_delay`."
    ),
    numbers!(
        "retry.delays",
        Shape::Durations(0, limits::RETRY_DELAY_MS_MAX, limits::LADDER_STEPS_MAX),
        retry.delays_ms,
        "ladder: the delay before each further attempt; the last repeats."
    ),
    number!(
        "retry.initial_delay",
        Shape::Duration(1, limits::RETRY_DELAY_MS_MAX),
        retry.initial_delay_ms,
        "exponential: the first delay."
    ),
    number!(
        "retry.multiplier",
        Shape::Factor(1000, 100_000),
        retry.multiplier_permille,
        "exponential: each delay is the one before, times this."
    ),
    number!(
        "retry.max_delay",
        Shape::Duration(1, limits::RETRY_DELAY_MS_MAX),
        retry.max_delay_ms,
        "exponential: no delay is longer."
    ),
    number!(
        "retry.fixed_delay",
        Shape::Duration(0, limits::RETRY_DELAY_MS_MAX),
        retry.fixed_delay_ms,
        "fixed: the delay."
    ),
    number!(
        "retry.immediate_attempts",
        Shape::Count(0, limits::ATTEMPTS_MAX as u64),
        retry.immediate_attempts,
        "This many retries come at once, before the delays begin."
    ),
    number!(
        "retry.jitter_percent",
        Shape::Count(0, 50),
        retry.jitter_percent,
        "Each delay is lengthened by up to this many percent; never shortened."
    ),
    number!(
        "retry.max_attempts",
        Shape::Count(1, limits::ATTEMPTS_MAX as u64),
        retry.max_attempts,
        "Attempts in all, before the dead letters."
    ),
    flag!(
        "topics.create_on_use",
        topics.create_on_use,
        "Publishing or subscribing to an unknown topic makes it. Off: a typing error would keep messages where nobody reads them."
    ),
    flag!("groups.create_on_use", groups.create_on_use, "Subscribing as an unknown group makes it."),
    number!(
        "groups.broadcast_idle",
        Shape::Duration(SECOND, YEAR),
        groups.broadcast_idle_ms,
        "A broadcast client's own group ends when the client stays away this long."
    ),
    number!(
        "retention.unsubscribed_age",
        Shape::Duration(0, 100 * YEAR),
        retention.unsubscribed_ms,
        "A topic that no group listens to keeps its messages this long,"
    ),
    number!(
        "retention.unsubscribed_size",
        Shape::Size(0, u64::MAX),
        retention.unsubscribed_bytes,
        "and at most this much of them."
    ),
    number!(
        "retention.decided_age",
        Shape::Duration(0, YEAR),
        retention.decided_ms,
        "Decided transactions are remembered this long, so that late decisions are judged and not guessed,"
    ),
    number!(
        "retention.decided_count",
        Shape::Count(0, COUNT_MAX),
        retention.decided_max,
        "and at most this many of them."
    ),
    number!(
        "retention.ids_age",
        Shape::Duration(0, YEAR),
        retention.ids_ms,
        "Message ids are remembered this long, to recognise what is sent twice,"
    ),
    number!(
        "retention.ids_count",
        Shape::Count(0, COUNT_MAX),
        retention.ids_max,
        "and at most this many of them."
    ),
    number!(
        "retention.audit_age",
        Shape::Duration(0, 100 * YEAR),
        retention.audit_ms,
        "The audit keeps operations by hand this long,"
    ),
    number!(
        "retention.audit_count",
        Shape::Count(1, COUNT_MAX),
        retention.audit_max,
        "and at most this many of them. The newest always stays."
    ),
    number!(
        "retention.story_age",
        Shape::Duration(0, YEAR),
        retention.story_ms,
        "What happened to messages is told for this long, also when they are gone,"
    ),
    number!(
        "retention.story_count",
        Shape::Count(0, 30_000_000),
        retention.story_max,
        "from at most this many notes (a transaction that goes well takes three, about 25 bytes each). 0: nothing is noted."
    ),
    number!(
        "limits.body",
        Shape::Size(1, limits::BODY_BYTES_MAX_CEILING as u64),
        limits.body_bytes_max,
        "The largest body of a message."
    ),
    number!(
        "limits.queue",
        Shape::Count(1, 10_000_000),
        limits.queue_inputs_max,
        "Requests that wait for the engine, what consumers say apart from all else, so many of each; beyond that, clients are told to come back later."
    ),
    number!(
        "limits.queue_size",
        Shape::Size(MIB, u64::MAX),
        limits.queue_bytes_max,
        "Bytes of the messages among them."
    ),
    number!(
        "limits.memory",
        Shape::Size(4 * MIB, u64::MAX),
        limits.memory_bytes_max,
        "Memory for all that is under way between clients and the store: `queue_size` of it for requests that wait, as much for large ones that are arriving, the rest for what was read for clients and not taken by them yet. What finds no room waits."
    ),
    number!(
        "limits.topics",
        Shape::Count(1, 10_000_000),
        limits.engine.topics_max,
        "Topics, the dead-letter topics included."
    ),
    number!("limits.groups", Shape::Count(1, 10_000_000), limits.engine.groups_max, "Groups."),
    number!(
        "limits.sessions",
        Shape::Count(1, 10_000_000),
        limits.engine.sessions_max,
        "Producers and consumers connected."
    ),
    number!(
        "limits.connections",
        Shape::Count(1, 10_000_000),
        limits.connections_max,
        "gRPC connections at once; one beyond is closed at once."
    ),
    number!(
        "limits.undecided",
        Shape::Count(1, COUNT_MAX),
        limits.engine.undecided_max,
        "Undecided transactions, the parked ones included; some 300 bytes of memory each."
    ),
    number!(
        "limits.retrying_per_group",
        Shape::Count(1, COUNT_MAX),
        limits.engine.retrying_per_group_max,
        "Messages of one group that wait for their next attempt; beyond that it is given no new ones."
    ),
    number!(
        "limits.jobs",
        Shape::Count(1, 1_000),
        limits.engine.jobs_max,
        "Redrives and discards of many dead letters that are under way at once, paused ones included."
    ),
    number!(
        "limits.window",
        Shape::Count(1, COUNT_MAX),
        limits.engine.window_max,
        "How far a group reads beyond its oldest unfinished message of a topic."
    ),
    number!(
        "limits.page",
        Shape::Count(1, 65_536),
        limits.engine.page,
        "Messages read ahead for a group at a time."
    ),
    number!(
        "limits.deliveries_per_turn",
        Shape::Count(1, 1_000_000),
        limits.engine.deliveries_per_turn_max,
        "Deliveries handed out in one turn of the engine."
    ),
    number!(
        "limits.timers_per_turn",
        Shape::Count(1, 1_000_000),
        limits.engine.timers_per_turn_max,
        "Checks, retries and leases handled in one turn of the engine."
    ),
    number!(
        "limits.removals_per_turn",
        Shape::Count(1, 1_000_000),
        limits.engine.removals_per_turn_max,
        "Finished messages removed in one turn of the engine."
    ),
    limit!("alarms.undecided_age", UndecidedAge, "Age of the oldest undecided transaction."),
    limit!("alarms.undecided_count", UndecidedCount, "Undecided transactions."),
    limit!(
        "alarms.no_checker",
        NoChecker,
        "Transactions of one kind that are due for a check while no checker of it is connected."
    ),
    limit!("alarms.parked", Parked, "Transactions that wait for a person."),
    limit!("alarms.dead_letters", DeadLetters, "Dead letters of one group."),
    limit!(
        "alarms.dead_letter_rate",
        DeadLetterRate,
        "Messages of one group that died within the last minute."
    ),
    limit!(
        "alarms.retry_attempt",
        RetryAttempt,
        "Failed attempts of the message of a group that failed most often."
    ),
    limit!("alarms.lag", Lag, "Messages that one group has yet to finish."),
    limit!("alarms.lag_age", LagAge, "Age of the oldest of them."),
    limit!(
        "alarms.disk_free",
        DiskFree,
        "Free space on the disk of the store: an alarm at this much or less."
    ),
    limit!(
        "alarms.failed_sync",
        FailedSync,
        "The store failed and the broker stops: told at once, for a few seconds, with its last words. Any limit means on."
    ),
    limit!(
        "alarms.spill_behind",
        SpillBehind,
        "How full the memory is that holds what waits for the table. At 100% new messages are refused."
    ),
    limit!("alarms.damaged", Damaged, "Damaged records met since the start."),
    number!(
        "alarms.repeat",
        Shape::Duration(0, 30 * DAY),
        alarms.repeat_ms,
        "An open alarm that nobody has acknowledged is told again after this long. 0: never."
    ),
    text!(
        "alarms.console",
        Shape::Text,
        alarms.console_url,
        "What people's browsers call the console, for the links in alarms, e.g. https://escrow.example.com. Empty: as HTTP listens."
    ),
    text!(
        "alarms.ca_file",
        Shape::Text,
        alarms.ca_file,
        "A file of certificates (PEM) that are trusted for https:// and smtps:// beside the system's: a company's own authority."
    ),
    numbers!(
        "alarms.retry_delays",
        Shape::Durations(100, DAY, limits::LADDER_STEPS_MAX),
        alarms.retry_delays_ms,
        "Between attempts at a sink that does not take a notice; the last repeats. Also after a restart."
    ),
    number!(
        "alarms.give_up_after",
        Shape::Duration(MINUTE, 30 * DAY),
        alarms.give_up_ms,
        "A notice that no attempt got through with for this long is given up, and counted."
    ),
    number!(
        "alarms.timeout",
        Shape::Duration(100, 10 * MINUTE),
        alarms.timeout_ms,
        "How long one attempt may take."
    ),
    Key {
        name: "alarms.sinks",
        doc: "Who is told: a table for each, [alarms.sinks.NAME], with kind (webhook, dingtalk, feishu, wecom, slack, smtp), url, and as the kind needs: secret or secret_file (signs a webhook; DingTalk's or Feishu's secret; the password of mail), user, from, to, language (en, zh-CN).",
        shape: Shape::Sinks,
        get: |config| Value::Sinks(config.alarms.sinks.clone()),
        set: |config, value| {
            if let Value::Sinks(sinks) = value {
                config.alarms.sinks = sinks;
            }
        },
    },
    text!(
        "log.level",
        Shape::LogFilter,
        log.level,
        "How much is said, as a whole or by module (\"info,escrow_storage=debug\")."
    ),
    choice!("log.format", LogFormat, log.format, "For people, or one JSON object per line."),
    flag!("metrics.enabled", metrics.enabled, "/metrics is served."),
    text!(
        "telemetry.otlp_endpoint",
        Shape::Text,
        telemetry.otlp_endpoint,
        "The collector that spans are sent to by OTLP over gRPC, such as http://127.0.0.1:4317. Empty: none are made."
    ),
    text!(
        "telemetry.service_name",
        Shape::Text,
        telemetry.service_name,
        "What this broker is called there (service.name)."
    ),
    number!(
        "telemetry.sample",
        Shape::Factor(0, 1000),
        telemetry.sample_permille,
        "The share, 0 to 1, of messages without a `traceparent` that are traced. One that has it says so itself."
    ),
];
