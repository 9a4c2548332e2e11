//! The options of a run as arguments of a command (`#[command(flatten)]` them into one for each scenario).

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::options::{Options, Scenario, Source, Spawn};

/// What can be said of every scenario. What is not said keeps the default of the scenario.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Start a broker for this run, in a process and directory of its own, both gone afterwards
    #[arg(long)]
    pub spawn: bool,
    /// Run against a server that answers everything and stores nothing: what the generator itself can do
    #[arg(long, conflicts_with = "spawn")]
    pub null: bool,
    /// With --null: the server appends and syncs before it answers: what wire and disk can do together
    #[arg(long, requires = "null")]
    pub null_appends: bool,
    /// With --spawn: measure first what the machine gives without a broker, and report the ratio
    #[arg(long, requires = "spawn")]
    pub roofline: bool,
    /// With --spawn: where its data directory is made, on the disk to be measured [default: the system's for temporary
    /// files]
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// With --spawn: a setting of the broker, as for `escrow server`; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", requires = "spawn")]
    pub set: Vec<String>,
    /// Topic to use; made if missing [default: of its own, deleted afterwards]
    #[arg(long)]
    pub topic: Option<String>,
    /// Topics the messages are spread over [default: 1]
    #[arg(long)]
    pub topics: Option<usize>,
    /// Groups that get every message [default: 1]
    #[arg(long)]
    pub groups: Option<usize>,
    /// Producers, each with its own connection [default: 1]
    #[arg(long)]
    pub producers: Option<usize>,
    /// Consumers of each group, each with its own connection [default: 1]
    #[arg(long)]
    pub consumers: Option<usize>,
    /// Operations under way at once, over all [default: 64; backlog: 1024]
    #[arg(long, short = 'n')]
    pub outstanding: Option<usize>,
    /// Operations per second; latency then counts from the intended time [default: as fast as it goes; e2e: 10000;
    /// retries, scheduled: 30000; soak: 2000]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Bytes of each body [default: 1024]
    #[arg(long)]
    pub body_bytes: Option<usize>,
    /// Give each operation outstanding an ordering key, and verify the order of each key [soak: always]
    #[arg(long)]
    pub ordered: bool,
    /// Messages of each transaction [default: 1]
    #[arg(long)]
    pub messages_per_transaction: Option<usize>,
    /// Percent of the transactions that are rolled back [default: 0; soak: 10]
    #[arg(long)]
    pub rollback_percent: Option<u8>,
    /// Percent of the deliveries that are nacked at their first attempt (steady, e2e, soak) [default: 0; soak: 1]
    #[arg(long)]
    pub nack_percent: Option<u8>,
    /// Messages of the backlog, or undecided transactions [default: 100000; undecided, restart: 1000000; retries,
    /// scheduled: 150000]
    #[arg(long)]
    pub backlog: Option<u64>,
    /// Measure the cost at ten thousand, a hundred thousand … messages, up to the backlog (backlog)
    #[arg(long)]
    pub curve: bool,
    /// Deliveries each consumer may hold [default: 4096]
    #[arg(long)]
    pub prefetch: Option<u32>,
    /// Seconds measured [default: 10; backlog: 600; soak: 3600]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Seconds before that, unmeasured [default: 2]
    #[arg(long)]
    pub warm_up_seconds: Option<f64>,
    /// Do not receive and compare afterwards
    #[arg(long)]
    pub no_verify: bool,
    /// Process id of a running broker on this machine, to report its CPU time, memory and writes
    #[arg(long)]
    pub broker_pid: Option<u32>,
    /// What is measured, for the report [default: the commit that this program lies in, if it does]
    #[arg(long, env = "ESCROW_BENCH_COMMIT", hide_env_values = true)]
    pub commit: Option<String>,
}

impl Arguments {
    /// The options they mean; `program` is what a spawned broker runs.
    ///
    /// # Errors
    /// [`Error::Options`] if a number of seconds is no duration.
    pub fn into_options(
        self,
        scenario: Scenario,
        url: impl Into<String>,
        program: PathBuf,
    ) -> Result<Options, Error> {
        let defaults = Options::new(scenario, url);
        let directory = self.directory.unwrap_or_else(std::env::temp_dir);
        let spawn = Spawn { program, directory, set: self.set };
        let source = match (self.spawn, self.null) {
            (true, _) => Source::Spawn(spawn),
            (false, true) => Source::Null(spawn),
            (false, false) => Source::Running,
        };
        Ok(Options {
            source,
            null_appends: self.null_appends,
            roofline: self.roofline,
            topic: self.topic,
            topics: self.topics.unwrap_or(defaults.topics),
            groups: self.groups.unwrap_or(defaults.groups),
            producers: self.producers.unwrap_or(defaults.producers),
            consumers: self.consumers.unwrap_or(defaults.consumers),
            outstanding: self.outstanding.unwrap_or(defaults.outstanding),
            rate: self.rate.or(defaults.rate),
            body_bytes: self.body_bytes.unwrap_or(defaults.body_bytes),
            ordered: self.ordered || defaults.ordered,
            messages_per_transaction: self
                .messages_per_transaction
                .unwrap_or(defaults.messages_per_transaction),
            rollback_percent: self.rollback_percent.unwrap_or(defaults.rollback_percent),
            nack_percent: self.nack_percent.unwrap_or(defaults.nack_percent),
            backlog: self.backlog.unwrap_or(defaults.backlog),
            curve: self.curve,
            prefetch: self.prefetch.unwrap_or(defaults.prefetch),
            duration: self.seconds.map_or(Ok(defaults.duration), duration_of)?,
            warm_up: self.warm_up_seconds.map_or(Ok(defaults.warm_up), duration_of)?,
            verify: !self.no_verify,
            broker_pid: self.broker_pid,
            commit: self.commit,
            ..defaults
        })
    }
}

fn duration_of(seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds).map_err(|error| Error::Options(format!("{seconds} s: {error}")))
}
