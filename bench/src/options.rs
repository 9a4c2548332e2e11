//! What a run is set to, for programs and for the command line.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::stamp::STAMP_BYTES;

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Messages published, each answered when it is on disk.
    Publish,
    /// Transactions: a half message and its decision.
    Tx,
    /// A backlog consumed, each message acked and the ack answered when it is on disk.
    Consume,
}

/// Everything about a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Options {
    /// What to measure.
    pub scenario: Scenario,
    /// The broker, e.g. `http://127.0.0.1:7800`.
    pub url: String,
    /// The topic; made if missing. `None`: one of its own, deleted afterwards.
    pub topic: Option<String>,
    /// Producers, each with a connection of its own.
    pub producers: usize,
    /// Consumers, each with a connection of its own: for `consume`, and for the verification of the others.
    pub consumers: usize,
    /// Operations under way at once, over all producers (`consume`: acks, over all consumers). The closed loop.
    pub outstanding: usize,
    /// Operations a second, over all producers: an open loop, latency counted from the intended time. `None`: closed.
    pub rate: Option<f64>,
    /// Bytes of each body.
    pub body_bytes: usize,
    /// Messages of each transaction (`tx`).
    pub messages_per_transaction: usize,
    /// Of a hundred transactions, this many are rolled back (`tx`).
    pub rollback_percent: u8,
    /// Messages of the backlog (`consume`).
    pub backlog: u64,
    /// Deliveries each consumer may hold.
    pub prefetch: u32,
    /// How long is measured (`publish`, `tx`).
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// How long it runs before that, unmeasured.
    #[serde(serialize_with = "seconds")]
    pub warm_up: Duration,
    /// Receive everything afterwards and compare.
    pub verify: bool,
    /// The broker's process on this machine, to read its CPU time, memory and writes.
    pub broker_pid: Option<u32>,
    /// What was measured, e.g. a commit; goes into the report as it is.
    pub commit: Option<String>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Options {
    /// The defaults: one producer and consumer, 64 outstanding, 1 KiB bodies, 10 s after 2 s of warm-up, verified.
    pub fn new(scenario: Scenario, url: impl Into<String>) -> Self {
        Self {
            scenario,
            url: url.into(),
            topic: None,
            producers: 1,
            consumers: 1,
            outstanding: 64,
            rate: None,
            body_bytes: 1024,
            messages_per_transaction: 1,
            rollback_percent: 0,
            backlog: 100_000,
            prefetch: 1024,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(2),
            verify: true,
            broker_pid: None,
            commit: None,
        }
    }

    /// # Errors
    /// [`Error::Options`] names the option that cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fault = match self {
            Self { producers: 0, .. } => "there must be at least one producer",
            Self { consumers: 0, .. } => "there must be at least one consumer",
            Self { outstanding: 0, .. } => "at least one operation must be outstanding",
            Self { rate: Some(rate), .. } if !(rate.is_finite() && *rate > 0.0) => {
                "the rate must be a positive number"
            }
            Self { body_bytes, .. } if *body_bytes < STAMP_BYTES => {
                "a body must have 16 bytes at least, for the stamp that verifies it"
            }
            Self { messages_per_transaction, .. } if !(1..=100).contains(messages_per_transaction) => {
                "a transaction holds 1 to 100 messages"
            }
            Self { rollback_percent: 101.., .. } => "no more than 100 percent can be rolled back",
            Self { scenario: Scenario::Consume, backlog: 0, .. } => "the backlog must not be empty",
            Self { scenario: Scenario::Publish | Scenario::Tx, duration: Duration::ZERO, .. } => {
                "the duration must not be zero"
            }
            _ => return Ok(()),
        };
        Err(Error::Options(fault.to_owned()))
    }
}

/// The options as arguments of a command (`#[command(flatten)]` them into one for each scenario).
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Topic to use; made if missing [default: one of its own, deleted afterwards]
    #[arg(long)]
    pub topic: Option<String>,
    /// Producers, each with its own connection
    #[arg(long, default_value_t = 1)]
    pub producers: usize,
    /// Consumers, each with its own connection
    #[arg(long, default_value_t = 1)]
    pub consumers: usize,
    /// Operations under way at once, over all
    #[arg(long, short = 'n', default_value_t = 64)]
    pub outstanding: usize,
    /// Operations per second; latency then counts from the intended time [default: as fast as it goes]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Bytes of each body
    #[arg(long, default_value_t = 1024)]
    pub body_bytes: usize,
    /// Messages of each transaction (tx)
    #[arg(long, default_value_t = 1)]
    pub messages_per_transaction: usize,
    /// Percent of the transactions that are rolled back (tx)
    #[arg(long, default_value_t = 0)]
    pub rollback_percent: u8,
    /// Messages of the backlog (consume)
    #[arg(long, default_value_t = 100_000)]
    pub backlog: u64,
    /// Deliveries each consumer may hold
    #[arg(long, default_value_t = 1024)]
    pub prefetch: u32,
    /// Seconds measured
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds before that, unmeasured
    #[arg(long, default_value_t = 2.0)]
    pub warm_up_seconds: f64,
    /// Do not receive and compare afterwards
    #[arg(long)]
    pub no_verify: bool,
    /// Process id of the broker on this machine, to report its CPU time, memory and writes
    #[arg(long)]
    pub broker_pid: Option<u32>,
}

impl Arguments {
    /// The options they mean.
    ///
    /// # Errors
    /// [`Error::Options`] if a number of seconds is no duration.
    pub fn into_options(self, scenario: Scenario, url: impl Into<String>) -> Result<Options, Error> {
        Ok(Options {
            topic: self.topic,
            producers: self.producers,
            consumers: self.consumers,
            outstanding: self.outstanding,
            rate: self.rate,
            body_bytes: self.body_bytes,
            messages_per_transaction: self.messages_per_transaction,
            rollback_percent: self.rollback_percent,
            backlog: self.backlog,
            prefetch: self.prefetch,
            duration: duration_of(self.seconds)?,
            warm_up: duration_of(self.warm_up_seconds)?,
            verify: !self.no_verify,
            broker_pid: self.broker_pid,
            ..Options::new(scenario, url)
        })
    }
}

fn duration_of(seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds).map_err(|error| Error::Options(format!("{seconds} s: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_options_are_refused_by_name() {
        let options = || Options::new(Scenario::Tx, "http://127.0.0.1:7800");
        options().check().expect("the defaults are possible");
        for (options, word) in [
            (Options { producers: 0, ..options() }, "producer"),
            (Options { outstanding: 0, ..options() }, "outstanding"),
            (Options { rate: Some(0.0), ..options() }, "rate"),
            (Options { body_bytes: 15, ..options() }, "16 bytes"),
            (Options { messages_per_transaction: 101, ..options() }, "1 to 100"),
            (Options { rollback_percent: 101, ..options() }, "percent"),
        ] {
            let error = options.check().expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
