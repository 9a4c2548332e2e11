//! What a run is set to. The command line's side of it is `arguments`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::stamp::STAMP_BYTES;

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Messages published, each answered when it is on disk. Nobody consumes before the measured time is over.
    Publish,
    /// Transactions: a half message and its decision. Nobody consumes before the measured time is over.
    Tx,
    /// A backlog consumed, each message acked and the ack answered when it is on disk.
    Consume,
    /// Transactions produced, delivered and acked, all at once.
    Steady,
    /// Transactions at a rate: the time from the call of commit to the message in the consumer's hand.
    E2e,
    /// Messages published for a long time while nobody consumes, then consumed; or the cost by the size of the backlog.
    Backlog,
    /// Many undecided transactions: memory, cost of a check, speed of decisions, pauses.
    Undecided,
    /// Kill -9, and the time to the first message accepted after it.
    Restart,
    /// Messages that were nacked and fall due at a rate: how late they come.
    Retries,
    /// Messages that were published for later and fall due at a rate: how late they come.
    Scheduled,
    /// Nothing happens: memory and CPU of a broker that waits.
    Idle,
    /// As [`Steady`](Self::Steady), at a rate, in order per key, with rollbacks and nacks, for hours.
    Soak,
}

impl Scenario {
    /// Its name, as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Tx => "tx",
            Self::Consume => "consume",
            Self::Steady => "steady",
            Self::E2e => "e2e",
            Self::Backlog => "backlog",
            Self::Undecided => "undecided",
            Self::Restart => "restart",
            Self::Retries => "retries",
            Self::Scheduled => "scheduled",
            Self::Idle => "idle",
            Self::Soak => "soak",
        }
    }

    /// Whether it loads the broker for a time, and not with a number of messages.
    fn is_timed(self) -> bool {
        use Scenario::{Backlog, E2e, Idle, Publish, Soak, Steady, Tx};
        matches!(self, Publish | Tx | Steady | E2e | Backlog | Idle | Soak)
    }
}

/// Where the broker of a run comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It runs already, at the URL.
    Running,
    /// A process of its own for this run, with a directory of its own, both gone afterwards.
    Spawn(Spawn),
    /// A server that answers everything and stores nothing: what the generator itself can do.
    Null(Spawn),
}

/// How a process is started for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spawn {
    /// The program `escrow`. Not in reports: where it lies on one machine says nothing on another.
    #[serde(skip)]
    pub program: PathBuf,
    /// Its data goes into a new directory in here: so this says which disk is measured.
    pub directory: PathBuf,
    /// Settings for it, as for `escrow server --set`.
    pub set: Vec<String>,
}

/// Everything about a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Options {
    /// What to measure.
    pub scenario: Scenario,
    /// The broker, e.g. `http://127.0.0.1:7800`, unless one is spawned.
    pub url: String,
    /// Where the broker comes from.
    pub source: Source,
    /// The null server appends and syncs before it answers.
    pub null_appends: bool,
    /// Measure first what the machine gives without a broker.
    pub roofline: bool,
    /// The topic; made if missing. `None`: of its own, deleted afterwards.
    pub topic: Option<String>,
    /// Over how many topics the messages are spread, one after another. More than one are its own.
    pub topics: usize,
    /// How many groups get every message.
    pub groups: usize,
    /// Producers, each with a connection of its own.
    pub producers: usize,
    /// Consumers of each group, each with a connection of its own: for what consumes, and for the verification of the
    /// others.
    pub consumers: usize,
    /// Operations under way at once, over all producers (`consume`: acks, over all consumers). The closed loop.
    pub outstanding: usize,
    /// Operations a second, over all producers: an open loop, latency counted from the intended time. `None`: closed.
    /// `retries`, `scheduled`: messages that fall due in a second.
    pub rate: Option<f64>,
    /// Bytes of each body.
    pub body_bytes: usize,
    /// Each of the outstanding operations has an ordering key, and the order of each key is verified.
    pub ordered: bool,
    /// Messages of each transaction.
    pub messages_per_transaction: usize,
    /// Of a hundred transactions, this many are rolled back.
    pub rollback_percent: u8,
    /// Of a hundred deliveries, this many are nacked at their first attempt.
    pub nack_percent: u8,
    /// Messages of the backlog (`consume`, `backlog` as a curve, `restart`, `retries`, `scheduled`), or undecided
    /// transactions (`undecided`).
    pub backlog: u64,
    /// `backlog`: measure the cost at ten thousand, a hundred thousand … messages, up to the backlog.
    pub curve: bool,
    /// Deliveries each consumer may hold: those on their way to it, those it handles, and those whose acks wait for their disk.
    /// With fewer than are under way in all of that, it is this number that is measured, not the broker.
    pub prefetch: u32,
    /// How long is measured, where time is the measure.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// How long it runs before that, unmeasured.
    #[serde(serialize_with = "seconds")]
    pub warm_up: Duration,
    /// Receive everything and compare.
    pub verify: bool,
    /// The broker's process on this machine, to read its CPU time, memory and writes. Known if it is spawned.
    pub broker_pid: Option<u32>,
    /// What was measured, e.g. a commit; goes into the report as it is.
    pub commit: Option<String>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Options {
    /// The defaults of a scenario: one producer and consumer, 64 outstanding, 1 KiB bodies, 10 s after 2 s of warm-up,
    /// verified; `e2e` at 10,000 a second, `retries` and `scheduled` at 30,000, `soak` at 2,000 for an hour with all
    /// that can go wrong, `backlog` for ten minutes at 1,024 outstanding, a million undecided and for a restart.
    pub fn new(scenario: Scenario, url: impl Into<String>) -> Self {
        let options = Self {
            scenario,
            url: url.into(),
            source: Source::Running,
            null_appends: false,
            roofline: false,
            topic: None,
            topics: 1,
            groups: 1,
            producers: 1,
            consumers: 1,
            outstanding: 64,
            rate: None,
            body_bytes: 1024,
            ordered: false,
            messages_per_transaction: 1,
            rollback_percent: 0,
            nack_percent: 0,
            backlog: 100_000,
            curve: false,
            prefetch: 4096,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(2),
            verify: true,
            broker_pid: None,
            commit: None,
        };
        match scenario {
            Scenario::Publish | Scenario::Tx | Scenario::Consume | Scenario::Steady | Scenario::Idle => {
                options
            }
            Scenario::E2e => Self { rate: Some(10_000.0), ..options },
            Scenario::Backlog => Self { outstanding: 1024, duration: Duration::from_secs(600), ..options },
            Scenario::Undecided | Scenario::Restart => Self { backlog: 1_000_000, ..options },
            Scenario::Retries | Scenario::Scheduled => {
                Self { rate: Some(30_000.0), backlog: 150_000, ..options }
            }
            Scenario::Soak => Self {
                rate: Some(2_000.0),
                ordered: true,
                rollback_percent: 10,
                nack_percent: 1,
                duration: Duration::from_secs(3600),
                ..options
            },
        }
    }

    /// # Errors
    /// [`Error::Options`] names the option that cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.fault() {
            Some(fault) => Err(Error::Options(fault.to_owned())),
            None => Ok(()),
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let is_null = matches!(self.source, Source::Null(_));
        Some(match self {
            Self { producers: 0, .. } => "there must be at least one producer",
            Self { consumers: 0, .. } => "there must be at least one consumer",
            Self { topics: 0, .. } => "there must be at least one topic",
            Self { groups: 0, .. } => "there must be at least one group",
            Self { topics: 2.., topic: Some(_), .. } => {
                "a topic of your own and several topics contradict each other"
            }
            Self { outstanding: 0, .. } => "at least one operation must be outstanding",
            Self { rate: Some(rate), .. } if !(rate.is_finite() && *rate > 0.0) => {
                "the rate must be a positive number"
            }
            Self {
                rate: None, scenario: Scenario::E2e | Scenario::Retries | Scenario::Scheduled, ..
            } => "this scenario needs a rate",
            Self { body_bytes, .. } if *body_bytes < STAMP_BYTES => {
                "a body must have 16 bytes at least, for the stamp that verifies it"
            }
            Self { messages_per_transaction, .. } if !(1..=100).contains(messages_per_transaction) => {
                "a transaction holds 1 to 100 messages"
            }
            Self { rollback_percent: 101.., .. } => "no more than 100 percent can be rolled back",
            Self { nack_percent: 101.., .. } => "no more than 100 percent can be nacked",
            Self { scenario, backlog: 0, .. } if !scenario.is_timed() => "the backlog must not be empty",
            Self { scenario: Scenario::Backlog, curve: true, backlog: ..10_000, .. } => {
                "a curve needs a backlog of 10,000 messages at least"
            }
            Self { scenario, duration: Duration::ZERO, .. } if scenario.is_timed() => {
                "the duration must not be zero"
            }
            Self { scenario: Scenario::Restart, source: Source::Running, .. } => {
                "a broker that is to be killed must be the run's own: add --spawn"
            }
            Self { scenario: Scenario::Restart | Scenario::Undecided, .. } if is_null => {
                "a server that stores nothing cannot show this"
            }
            Self { groups, topics, .. } if is_null && (*groups > 1 || *topics > 1) => {
                "the null server has one topic and one group"
            }
            _ => return None,
        })
    }
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
            (Options { topics: 2, topic: Some("t".into()), ..options() }, "contradict"),
            (Options { scenario: Scenario::Restart, ..options() }, "--spawn"),
            (Options { scenario: Scenario::E2e, ..options() }, "needs a rate"),
            (Options { scenario: Scenario::Backlog, curve: true, backlog: 9_999, ..options() }, "curve"),
        ] {
            let error = options.check().expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn every_scenario_can_run_with_its_defaults() {
        use Scenario::*;
        for scenario in
            [Publish, Tx, Consume, Steady, E2e, Backlog, Undecided, Retries, Scheduled, Idle, Soak]
        {
            Options::new(scenario, "http://127.0.0.1:7800")
                .check()
                .unwrap_or_else(|fault| panic!("{}: {fault}", scenario.as_str()));
        }
    }
}
