//! What a run found out.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::options::{Options, Scenario};

/// The result of a run. Stable as JSON: fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was measured.
    pub scenario: Scenario,
    /// What it was measured on, as given in the options.
    pub commit: Option<String>,
    /// Every setting of the run.
    pub settings: Options,
    /// How long was measured.
    pub seconds: f64,
    /// Operations that succeeded in that time: messages, transactions, or acked deliveries.
    pub operations: u64,
    /// The same, a second.
    pub per_second: f64,
    /// Bytes of bodies a second.
    pub body_bytes_per_second: f64,
    /// From the call (open loop: from the intended time of the call) to the answer.
    pub latency_us: Latency,
    /// Operations that failed in that time.
    pub errors: u64,
    /// … of which it is not known whether they took effect.
    pub unknown_outcomes: u64,
    /// The first error, for people.
    pub first_error: Option<String>,
    /// What was received, compared with what was sent. `None`: not verified.
    pub verified: Option<Verification>,
    /// The broker's process, if its pid was given.
    pub broker: Option<BrokerCost>,
    /// Syncs of the store, as the broker counts them.
    pub store_syncs: u64,
    /// Flushes all disks of this machine were asked for meanwhile. A durable result without any is void.
    pub device_flushes: u64,
}

impl Report {
    /// Whether nothing failed and nothing was lost, invented or wrongly delivered.
    pub fn is_sound(&self) -> bool {
        self.errors == 0 && self.verified.as_ref().is_none_or(Verification::is_sound)
    }
}

/// Latencies, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: u64,
    /// Nine of ten were faster.
    pub p90: u64,
    /// 99 of 100 were faster.
    pub p99: u64,
    /// 999 of 1000 were faster.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            mean: histogram.mean(),
        }
    }
}

/// What was received, compared with what was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Messages the broker said it stored or committed.
    pub committed: u64,
    /// Different messages received.
    pub received: u64,
    /// Committed and not received: lost.
    pub missing: u64,
    /// Received more than once. Allowed, and rare.
    pub duplicates: u64,
    /// Rolled back and received all the same.
    pub rolled_back_received: u64,
    /// Messages whose outcome nobody knows; they may be received or not.
    pub unknown: u64,
}

impl Verification {
    /// Whether everything committed was received, and nothing that was rolled back.
    pub fn is_sound(&self) -> bool {
        self.missing == 0 && self.rolled_back_received == 0
    }
}

/// What the broker's process used while it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BrokerCost {
    /// CPU time for each operation, microseconds.
    pub cpu_us_per_operation: f64,
    /// CPU time over wall-clock time: 100 is one core.
    pub cpu_percent: f64,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// The most it ever had.
    pub rss_bytes_max: u64,
    /// Bytes it caused to be written to disk.
    pub bytes_written: u64,
    /// The same, for each operation.
    pub bytes_written_per_operation: f64,
}

/// How far a run is, for live output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// How far, 0 to 1.
    pub done: f64,
    /// Operations that succeeded so far in this phase.
    pub operations: u64,
    /// Operations a second since the progress before.
    pub per_second: f64,
}

/// What a run does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Fills the backlog.
    Filling,
    /// Runs, unmeasured.
    WarmingUp,
    /// Runs, measured.
    Measuring,
    /// Receives what was sent, to compare.
    Verifying,
}

impl Phase {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::WarmingUp => "warming up",
            Self::Measuring => "measuring",
            Self::Verifying => "verifying",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_json_with_the_names_that_scripts_read() {
        let mut histogram = Histogram::new(3).expect("legal");
        (1..=1000).for_each(|us| histogram.record(us).expect("in range"));
        let report = Report {
            scenario: Scenario::Tx,
            commit: Some("abc".into()),
            settings: Options::new(Scenario::Tx, "http://127.0.0.1:7800"),
            seconds: 10.0,
            operations: 1000,
            per_second: 100.0,
            body_bytes_per_second: 102_400.0,
            latency_us: Latency::of(&histogram),
            errors: 0,
            unknown_outcomes: 0,
            first_error: None,
            verified: Some(Verification::default()),
            broker: None,
            store_syncs: 5,
            device_flushes: 7,
        };
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!((json["scenario"].as_str(), json["commit"].as_str()), (Some("tx"), Some("abc")));
        assert_eq!(
            (json["latency_us"]["p50"].as_u64(), json["latency_us"]["max"].as_u64()),
            (Some(500), Some(1000))
        );
        assert_eq!(json["settings"]["duration"].as_f64(), Some(10.0));
        assert_eq!(json["verified"]["missing"].as_u64(), Some(0));
        assert!(report.is_sound());
    }
}
