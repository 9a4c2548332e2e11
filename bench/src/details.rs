//! What only some scenarios find out.

use serde::Serialize;

use crate::meter::Meter;
use crate::readings::Used;
use crate::report::Latency;

/// What only this scenario has. In JSON: the struct itself, or null.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "one for each run")]
pub enum Details {
    /// Nothing.
    None,
    /// `steady`, `e2e`, `soak`.
    Steady(Steady),
    /// `backlog`.
    Backlog(Backlog),
    /// `backlog --curve`.
    Curve(Curve),
    /// `undecided`.
    Undecided(Undecided),
    /// `restart`.
    Restart(Restart),
    /// `retries`, `scheduled`.
    Due(Due),
}

impl Details {
    /// What makes the run unsound, beside what verification finds.
    pub fn fault(&self) -> Option<String> {
        match self {
            Self::Due(due) if due.early > 0 => Some(format!("{} messages came before their time", due.early)),
            Self::Undecided(found) if found.checks < found.checks_due => Some(format!(
                "{} of {} checks due never came",
                found.checks_due - found.checks,
                found.checks_due
            )),
            _ => None,
        }
    }
}

/// One part of a run, measured by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stage {
    /// Operations that succeeded.
    pub operations: u64,
    /// How long it took.
    pub seconds: f64,
    /// The same, a second.
    pub per_second: f64,
    /// From the call to the answer.
    pub latency_us: Latency,
    /// CPU time of the broker for each operation, if its pid is known.
    pub cpu_us_per_operation: Option<f64>,
    /// Bytes the broker caused to be written to disk for each operation, if its pid is known.
    pub bytes_written_per_operation: Option<f64>,
}

impl Stage {
    pub(crate) fn of(meter: &Meter, used: &Used) -> Self {
        let cost = used.broker(meter.operations);
        Self {
            operations: meter.operations,
            seconds: used.seconds,
            per_second: meter.operations as f64 / used.seconds.max(f64::EPSILON),
            latency_us: Latency::of(&meter.histogram),
            cpu_us_per_operation: cost.map(|cost| cost.cpu_us_per_operation),
            bytes_written_per_operation: cost.map(|cost| cost.bytes_written_per_operation),
        }
    }
}

/// Transactions, deliveries and acks at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Steady {
    /// Transactions decided a second.
    pub transactions_per_second: f64,
    /// From the (intended) call of send_half to the answer of the decision.
    pub transaction_latency_us: Latency,
    /// From the call of ack to its answer.
    pub ack_latency_us: Latency,
    /// Bytes written to disk for each byte of committed and acked body, over the whole run, if the pid is known.
    pub bytes_written_per_body_byte: Option<f64>,
}

/// A growing backlog, and then its consumption.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Backlog {
    /// Messages in the backlog when publishing ended.
    pub messages: u64,
    /// Resident memory of the broker then, if its pid is known.
    pub rss_bytes: Option<u64>,
    /// Its consumption, acks included.
    pub consume: Stage,
}

/// The cost by the size of the backlog.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// One for each power of ten.
    pub points: Vec<CurvePoint>,
    /// The dearest publish over the cheapest, by CPU time of the broker.
    pub publish_cost_ratio: Option<f64>,
    /// The dearest consume over the cheapest, by CPU time of the broker.
    pub consume_cost_ratio: Option<f64>,
}

/// At one size of the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Messages in the backlog.
    pub backlog: u64,
    /// Publishing into it.
    pub publish: Stage,
    /// Consuming its oldest, acks included.
    pub consume: Stage,
    /// Resident memory of the broker, if its pid is known.
    pub rss_bytes: Option<u64>,
}

/// With few and with many undecided transactions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Undecided {
    /// How many are few.
    pub few: u64,
    /// How many are many.
    pub many: u64,
    /// Resident memory of the broker with many, if its pid is known.
    pub rss_bytes: Option<u64>,
    /// Putting them in escrow.
    pub send_half: Stage,
    /// Decisions with few undecided.
    pub decisions_with_few: Stage,
    /// Decisions with many undecided.
    pub decisions_with_many: Stage,
    /// Speed with many over speed with few.
    pub decisions_ratio: f64,
    /// CPU time of the broker for a check with few, microseconds.
    pub check_cpu_us_with_few: Option<f64>,
    /// … with many.
    pub check_cpu_us_with_many: Option<f64>,
    /// The latter over the former.
    pub check_cpu_ratio: Option<f64>,
    /// Bytes of the commits for each check, as the journal has them: the messages' bodies would be more.
    pub bytes_appended_per_check: f64,
    /// Checks that fell due while they were counted.
    pub checks_due: u64,
    /// … and that came.
    pub checks: u64,
    /// A publish every 2 ms beside many undecided and their checks: its slowest answer is the longest pause.
    pub probe_latency_us: Latency,
}

/// After `kill -9`, from the start of the process to the answer of the first message.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Restart {
    /// Of a broker without messages.
    pub empty_seconds: f64,
    /// Bytes of bodies that were live at the second kill.
    pub live_bytes: u64,
    /// With them.
    pub live_seconds: f64,
    /// What they cost beyond an empty one, for 10⁹ bytes.
    pub seconds_per_gigabyte: f64,
    /// When all of them had been consumed.
    pub consumed_seconds: f64,
}

/// Messages that fell due at a rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Due {
    /// Messages that came before their time: there must be none.
    pub early: u64,
    /// From the first that was due to the last that came.
    pub span_seconds: f64,
}
