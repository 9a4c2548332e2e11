//! What a run found out.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::details::Details;
use crate::meter::{Meter, Window};
use crate::options::{Options, Scenario};
use crate::roofline::Roofline;

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
    /// Operations that succeeded in that time: messages, transactions, decisions, or acked deliveries.
    pub operations: u64,
    /// The same, a second.
    pub per_second: f64,
    /// Bytes of bodies a second.
    pub body_bytes_per_second: f64,
    /// From the call (open loop: from the intended time of the call) to the answer. `steady`, `e2e`, `soak`: from the
    /// call of commit to the message in the consumer's hand. `retries`, `scheduled`: how late. `restart`: from the start
    /// of the process to the answer of the first message.
    pub latency_us: Latency,
    /// Operations that failed, whenever in the run.
    pub errors: u64,
    /// … of which it is not known whether they took effect.
    pub unknown_outcomes: u64,
    /// The first error, for people.
    pub first_error: Option<String>,
    /// What was received, compared with what was sent. `None`: not verified.
    pub verified: Option<Verification>,
    /// CPU time used in the measured time.
    pub cpu_seconds: CpuSeconds,
    /// The same of the broker, for each operation, microseconds.
    pub cpu_us_per_operation: Option<f64>,
    /// Resident memory.
    pub rss_bytes: RssBytes,
    /// Bytes the broker caused to be written to disk in the measured time.
    pub bytes_written: Option<u64>,
    /// The broker's process, if its pid is known.
    pub broker: Option<BrokerCost>,
    /// Syncs of the store, as the broker counts them.
    pub store_syncs: u64,
    /// Flushes all disks of this machine were asked for meanwhile. A durable result without any is void.
    pub device_flushes: u64,
    /// The measured time piece by piece, where it is long.
    pub intervals: Option<Intervals>,
    /// What only this scenario has.
    pub details: Details,
    /// What the machine gave just before, if that was asked for.
    pub roofline: Option<Roofline>,
}

impl Report {
    /// Whether nothing failed and nothing was lost, invented, out of order or wrongly delivered.
    pub fn is_sound(&self) -> bool {
        self.errors == 0
            && self.verified.as_ref().is_none_or(Verification::is_sound)
            && self.details.fault().is_none()
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
    /// Messages the broker said it stored or committed, for each group.
    pub committed: u64,
    /// Different messages received, over all groups.
    pub received: u64,
    /// Committed and not received: lost.
    pub missing: u64,
    /// Received and never sent: invented.
    pub invented: u64,
    /// Received more than once. Allowed, and rare.
    pub duplicates: u64,
    /// Deliveries nacked on purpose: each had to come again.
    pub nacked: u64,
    /// Rolled back and received all the same.
    pub rolled_back_received: u64,
    /// Messages with an ordering key, received.
    pub order_checked: u64,
    /// … of which came before one that was sent before them.
    pub out_of_order: u64,
    /// Messages whose outcome nobody knows; they may be received or not.
    pub unknown: u64,
}

impl Verification {
    /// Whether everything committed was received in its order, and nothing that was rolled back or never sent.
    pub fn is_sound(&self) -> bool {
        self.missing + self.invented + self.rolled_back_received + self.out_of_order == 0
    }

    /// Of all groups together.
    pub(crate) fn add(self, other: Self) -> Self {
        Self {
            committed: self.committed + other.committed,
            received: self.received + other.received,
            missing: self.missing + other.missing,
            invented: self.invented + other.invented,
            duplicates: self.duplicates + other.duplicates,
            nacked: self.nacked + other.nacked,
            rolled_back_received: self.rolled_back_received + other.rolled_back_received,
            order_checked: self.order_checked + other.order_checked,
            out_of_order: self.out_of_order + other.out_of_order,
            unknown: self.unknown + other.unknown,
        }
    }
}

/// CPU time, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CpuSeconds {
    /// Of the broker, if its pid is known.
    pub broker: Option<f64>,
    /// Of the generator.
    pub client: f64,
}

/// Resident memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RssBytes {
    /// Of the broker at the end, if its pid is known.
    pub broker: Option<u64>,
}

/// What the broker's process used while it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BrokerCost {
    /// CPU time, seconds.
    pub cpu_seconds: f64,
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

/// The measured time piece by piece; each list has a number for each piece.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Intervals {
    /// How long each is.
    pub seconds_each: f64,
    /// Operations a second.
    pub per_second: Vec<f64>,
    /// 99 of 100 were faster, microseconds.
    pub p99_us: Vec<u64>,
    /// The slowest, microseconds.
    pub max_us: Vec<u64>,
    /// Resident memory of the broker at the end, if its pid is known.
    pub rss_bytes: Vec<u64>,
}

impl Intervals {
    pub(crate) fn of(meter: &Meter, window: Window, rss_bytes: Vec<u64>) -> Option<Self> {
        let seconds_each = window.interval()?.as_secs_f64();
        let of_each = |value: fn(&Histogram<u64>) -> u64| meter.intervals.iter().map(value).collect();
        Some(Self {
            seconds_each,
            per_second: meter.intervals.iter().map(|each| each.len() as f64 / seconds_each).collect(),
            p99_us: of_each(|each| each.value_at_quantile(0.99)),
            max_us: of_each(Histogram::max),
            rss_bytes,
        })
    }
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
    /// Waits until the broker has nothing left to do.
    Settling,
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
            Self::Settling => "settling",
            Self::WarmingUp => "warming up",
            Self::Measuring => "measuring",
            Self::Verifying => "verifying",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut histogram = Histogram::new(3).expect("legal");
        (1..=1000).for_each(|us| histogram.record(us).expect("in range"));
        Report {
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
            cpu_seconds: CpuSeconds { broker: Some(1.5), client: 0.5 },
            cpu_us_per_operation: Some(1500.0),
            rss_bytes: RssBytes { broker: Some(1 << 20) },
            bytes_written: Some(4096),
            broker: None,
            store_syncs: 5,
            device_flushes: 7,
            intervals: None,
            details: Details::None,
            roofline: None,
        }
    }

    #[test]
    fn the_report_is_json_with_the_names_that_scripts_read() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!((json["scenario"].as_str(), json["commit"].as_str()), (Some("tx"), Some("abc")));
        assert_eq!(json["settings"]["body_bytes"], 1024);
        assert_eq!(json["latency_us"]["p50"], 500);
        assert_eq!(json["latency_us"]["p999"], 999);
        assert_eq!(
            (&json["cpu_seconds"]["broker"], &json["cpu_seconds"]["client"]),
            (&1.5.into(), &0.5.into())
        );
        assert_eq!((&json["rss_bytes"]["broker"], &json["bytes_written"]), (&(1 << 20).into(), &4096.into()));
        for name in ["per_second", "errors"] {
            assert!(json[name].is_number(), "{name}");
        }
    }

    #[test]
    fn speed_without_correctness_is_not_sound() {
        let verified = |found| Report { verified: Some(found), ..report() };
        assert!(report().is_sound());
        assert!(verified(Verification { duplicates: 1, unknown: 1, ..Verification::default() }).is_sound());
        for found in [
            Verification { missing: 1, ..Verification::default() },
            Verification { invented: 1, ..Verification::default() },
            Verification { rolled_back_received: 1, ..Verification::default() },
            Verification { out_of_order: 1, ..Verification::default() },
        ] {
            assert!(!verified(found).is_sound(), "{found:?}");
        }
        assert!(!Report { errors: 1, ..report() }.is_sound());
    }
}
