//! The configuration as the rest of the broker sees it: plain, checked values. [`super::keys`] fills them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use escrow_protocol::limits;
use escrow_storage::Options;

use crate::alarms::AlarmSettings;
use crate::engine::{
    EngineLimits, GroupDefaults, RetentionSettings, Settings, TopicDefaults, TransactionSettings,
};
use crate::records::{GroupSettings, InDoubt, OrderingPolicy, RetryDelays, RetryPolicy};
use crate::telemetry::TelemetryConfig;

/// Where clients connect unless configured otherwise.
const GRPC_PORT: u16 = 7800;
/// Where people and Prometheus connect unless configured otherwise.
const HTTP_PORT: u16 = 7880;

/// gRPC connections at once unless configured otherwise: one for each of as many sessions as there may be.
pub const CONNECTIONS_MAX_DEFAULT: usize = 20_000;

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the store lives. Default `./escrow-data`.
    pub data_dir: PathBuf,
    /// The gRPC server.
    pub grpc: GrpcSection,
    /// The HTTP server.
    pub http: HttpSection,
    /// The store.
    pub store: StoreSection,
    /// Checks and in-doubt policies.
    pub transactions: TransactionSettings,
    /// Deliveries of a group that is made without settings.
    pub delivery: DeliverySection,
    /// Retries of a group that is made without settings.
    pub retry: RetrySection,
    /// What may be made by using it.
    pub topics: TopicDefaults,
    /// Groups.
    pub groups: GroupsSection,
    /// How long things are kept.
    pub retention: RetentionSettings,
    /// Bounds.
    pub limits: LimitsSection,
    /// What raises an alarm, and who is told.
    pub alarms: AlarmSettings,
    /// Logs.
    pub log: LogSection,
    /// Metrics.
    pub metrics: MetricsSection,
    /// Traces.
    pub telemetry: TelemetrySection,
    /// Listening beyond loopback without authentication was asked for in as many words (`--insecure`).
    pub insecure: bool,
}

/// The gRPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcSection {
    /// Where it listens. Port 0: any free one.
    pub listen: SocketAddr,
    /// What it is called by clients, where that is not the same; empty: as it listens. Shown, not used.
    pub advertised: String,
}

/// The HTTP server: whatever is not gRPC, /metrics and the probes among it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSection {
    /// Where it listens. Port 0: any free one.
    pub listen: SocketAddr,
}

/// The store. The names and defaults of `escrow_storage::Options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSection {
    /// The overlay goes to the table when it is larger, bytes.
    pub overlay_bytes_max: u64,
    /// What overlays take together at most, bytes; 0: four times `overlay_bytes_max`.
    pub overlay_bytes_hard: u64,
    /// Size of a journal file, bytes.
    pub journal_file_bytes_max: u64,
    /// The overlay goes to the table when the journal has grown by this, bytes.
    pub journal_bytes_max: u64,
    /// Zeros written ahead of the journal's end, bytes.
    pub journal_ahead_bytes: u64,
    /// The table's cache, bytes.
    pub table_cache_bytes: u64,
    /// How long the table may take to open, milliseconds.
    pub table_open_limit_ms: u64,
    /// Free space below which new messages are refused, bytes.
    pub free_floor_bytes: u64,
    /// Size of the file given up when the disk is full, bytes.
    pub ballast_bytes: u64,
    /// The longest a commit is delayed while the table catches up, milliseconds.
    pub commit_delay_max_ms: u64,
}

/// Deliveries of a group that is made without settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySection {
    /// The lease, milliseconds.
    pub lease_ms: u64,
    /// What a failure means for its ordering key.
    pub ordering: OrderingPolicy,
}

/// Which of the delays in [`RetrySection`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryStrategy {
    /// A list of delays.
    Ladder,
    /// A delay that grows.
    Exponential,
    /// One delay.
    Fixed,
}

/// Retries of a group that is made without settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySection {
    /// Which delays count.
    pub strategy: RetryStrategy,
    /// `ladder`: one after another, the last repeats, milliseconds.
    pub delays_ms: Vec<u64>,
    /// `exponential`: the first, milliseconds.
    pub initial_delay_ms: u64,
    /// `exponential`: times 1000.
    pub multiplier_permille: u32,
    /// `exponential`: the longest, milliseconds.
    pub max_delay_ms: u64,
    /// `fixed`: the delay, milliseconds.
    pub fixed_delay_ms: u64,
    /// Retries that come at once, before the delays begin.
    pub immediate_attempts: u32,
    /// Each delay is lengthened by up to this many percent.
    pub jitter_percent: u32,
    /// Attempts in all, before the dead letters.
    pub max_attempts: u32,
}

/// Groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsSection {
    /// Subscribing under an unknown name makes the group.
    pub create_on_use: bool,
    /// A broadcast client's own group ends when the client stays away this long, milliseconds.
    pub broadcast_idle_ms: u64,
}

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsSection {
    /// The largest body, bytes.
    pub body_bytes_max: u64,
    /// What may wait for the engine, inputs.
    pub queue_inputs_max: u64,
    /// … and bytes of messages.
    pub queue_bytes_max: u64,
    /// That, what arrives, and what was read for clients and not taken by them yet, together, bytes.
    pub memory_bytes_max: u64,
    /// gRPC connections at once.
    pub connections_max: u64,
    /// Of the engine.
    pub engine: EngineLimits,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Logs, on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSection {
    /// A level, or a filter such as `info,escrow_storage=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSection {
    /// `/metrics` is served.
    pub enabled: bool,
}

/// Traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySection {
    /// The collector; empty: there are no traces.
    pub otlp_endpoint: String,
    /// What this broker is called there.
    pub service_name: String,
    /// Of the messages without a trace context, so many of a thousand are traced.
    pub sample_permille: u32,
}

impl TelemetrySection {
    /// Where traces go, if anywhere.
    pub fn traced(&self) -> Option<TelemetryConfig> {
        (!self.otlp_endpoint.is_empty()).then(|| TelemetryConfig {
            otlp_endpoint: self.otlp_endpoint.clone(),
            service_name: self.service_name.clone(),
            sample_permille: self.sample_permille,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            data_dir: PathBuf::from("./escrow-data"),
            grpc: GrpcSection {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, GRPC_PORT)),
                advertised: String::new(),
            },
            http: HttpSection { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT)) },
            store: StoreSection::default(),
            transactions: settings.transactions,
            delivery: DeliverySection {
                lease_ms: settings.groups.settings.lease_ms,
                ordering: settings.groups.settings.ordering,
            },
            retry: RetrySection::from(settings.groups.settings.retry),
            topics: settings.topics,
            groups: GroupsSection {
                create_on_use: settings.groups.create_on_use,
                broadcast_idle_ms: settings.groups.broadcast_idle_ms,
            },
            retention: settings.retention,
            limits: LimitsSection {
                body_bytes_max: limits::BODY_BYTES_MAX_DEFAULT as u64,
                queue_inputs_max: 32_768,
                queue_bytes_max: 32 << 20,
                memory_bytes_max: 128 << 20,
                connections_max: CONNECTIONS_MAX_DEFAULT as u64,
                engine: settings.limits,
            },
            alarms: AlarmSettings::default(),
            log: LogSection { level: "info".to_owned(), format: LogFormat::Text },
            metrics: MetricsSection { enabled: true },
            telemetry: TelemetrySection {
                otlp_endpoint: String::new(),
                service_name: "escrow".to_owned(),
                sample_permille: 1000,
            },
            insecure: false,
        }
    }
}

impl Default for StoreSection {
    fn default() -> Self {
        let options = Options::default();
        Self {
            overlay_bytes_max: options.overlay_bytes_max,
            overlay_bytes_hard: options.overlay_bytes_hard.unwrap_or(0),
            journal_file_bytes_max: options.journal_file_bytes_max,
            journal_bytes_max: options.journal_bytes_max,
            journal_ahead_bytes: options.journal_ahead_bytes,
            table_cache_bytes: options.table_cache_bytes,
            table_open_limit_ms: whole_ms(options.table_open_limit),
            free_floor_bytes: options.free_floor_bytes,
            ballast_bytes: options.ballast_bytes,
            commit_delay_max_ms: whole_ms(options.commit_delay_max),
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl StoreSection {
    /// How the store is opened. Its observer and fail points are not a matter of configuration.
    pub fn options(&self) -> Options {
        Options {
            overlay_bytes_max: self.overlay_bytes_max,
            overlay_bytes_hard: Some(self.overlay_bytes_hard).filter(|bytes| *bytes > 0),
            journal_file_bytes_max: self.journal_file_bytes_max,
            journal_bytes_max: self.journal_bytes_max,
            journal_ahead_bytes: self.journal_ahead_bytes,
            table_cache_bytes: self.table_cache_bytes,
            table_open_limit: Duration::from_millis(self.table_open_limit_ms),
            free_floor_bytes: self.free_floor_bytes,
            ballast_bytes: self.ballast_bytes,
            commit_delay_max: Duration::from_millis(self.commit_delay_max_ms),
            ..Options::default()
        }
    }
}

impl From<RetryPolicy> for RetrySection {
    /// The delays that `policy` does not use get values that make sense once they are chosen.
    fn from(policy: RetryPolicy) -> Self {
        let mut section = Self {
            strategy: RetryStrategy::Ladder,
            delays_ms: vec![10_000],
            initial_delay_ms: 1_000,
            multiplier_permille: 2_000,
            max_delay_ms: 3600 * 1000,
            fixed_delay_ms: 30_000,
            immediate_attempts: policy.immediate_attempts,
            jitter_percent: policy.jitter_percent,
            max_attempts: policy.max_attempts,
        };
        match policy.delays {
            RetryDelays::Ladder(delays_ms) => section.delays_ms = delays_ms,
            RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => {
                section.strategy = RetryStrategy::Exponential;
                section.initial_delay_ms = initial_ms;
                section.multiplier_permille = multiplier_permille;
                section.max_delay_ms = max_ms;
            }
            RetryDelays::Fixed(delay_ms) => {
                section.strategy = RetryStrategy::Fixed;
                section.fixed_delay_ms = delay_ms;
            }
        }
        section
    }
}

impl RetrySection {
    /// The policy it stands for.
    pub fn policy(&self) -> RetryPolicy {
        let delays = match self.strategy {
            RetryStrategy::Ladder => RetryDelays::Ladder(self.delays_ms.clone()),
            RetryStrategy::Exponential => RetryDelays::Exponential {
                initial_ms: self.initial_delay_ms,
                multiplier_permille: self.multiplier_permille,
                max_ms: self.max_delay_ms,
            },
            RetryStrategy::Fixed => RetryDelays::Fixed(self.fixed_delay_ms),
        };
        RetryPolicy {
            delays,
            immediate_attempts: self.immediate_attempts,
            jitter_percent: self.jitter_percent,
            max_attempts: self.max_attempts,
        }
    }
}

impl Config {
    /// What is allowed and probably not meant, each with its remedy.
    pub fn hints(&self) -> Vec<String> {
        super::rules::hints(self)
    }

    /// What of it the engine needs.
    pub fn settings(&self) -> Settings {
        Settings {
            transactions: self.transactions.clone(),
            groups: GroupDefaults {
                settings: GroupSettings {
                    retry: self.retry.policy(),
                    ordering: self.delivery.ordering,
                    lease_ms: self.delivery.lease_ms,
                },
                create_on_use: self.groups.create_on_use,
                broadcast_idle_ms: self.groups.broadcast_idle_ms,
            },
            topics: self.topics,
            retention: self.retention,
            limits: self.limits.engine,
        }
    }
}

/// A value that is one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// The words and what they stand for.
    const ALL: &'static [(&'static str, Self)];

    /// Its word.
    fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, value)| *value == self)
            .map(|(word, _)| *word)
            .expect("every value has a word: the tests go through them")
    }

    /// What `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }
}

impl Choice for InDoubt {
    const ALL: &'static [(&'static str, Self)] =
        &[("park", Self::Park), ("rollback", Self::Rollback), ("commit", Self::Commit)];
}

impl Choice for OrderingPolicy {
    const ALL: &'static [(&'static str, Self)] =
        &[("block", Self::Block), ("skip", Self::Skip), ("dead_letter", Self::DeadLetter)];
}

impl Choice for RetryStrategy {
    const ALL: &'static [(&'static str, Self)] =
        &[("ladder", Self::Ladder), ("exponential", Self::Exponential), ("fixed", Self::Fixed)];
}

impl Choice for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}
