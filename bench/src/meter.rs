//! Counts operations and their latencies within the measured time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is told apart, microseconds: two minutes, well above an operation's time.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// The time in which operations count: those that end in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Window {
    fn contains(self, time: Instant) -> bool {
        self.from <= time && time < self.until
    }
}

/// What is shown while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Live {
    operations: AtomicU64,
}

impl Live {
    pub(crate) fn one_more(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }
}

/// The results of one worker.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) histogram: Histogram<u64>,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) unknown_outcomes: u64,
    pub(crate) first_error: Option<String>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let histogram =
            Histogram::new_with_max(LATENCY_US_MAX, DIGITS).expect("the bounds are legal constants");
        Self { histogram, operations: 0, errors: 0, unknown_outcomes: 0, first_error: None }
    }

    /// An operation meant to begin at `intended` ended at `ended`.
    pub(crate) fn record(
        &mut self,
        window: Window,
        intended: Instant,
        ended: Instant,
        result: Result<(), &escrow::Error>,
    ) {
        if let Err(error) = result {
            // Counted outside the window too: a run with errors is not sound, whenever they came.
            self.errors += 1;
            self.unknown_outcomes += u64::from(error.outcome_unknown());
            self.first_error.get_or_insert_with(|| error.to_string());
            return;
        }
        if window.contains(ended) {
            self.operations += 1;
            self.histogram.saturating_record(micros(ended.saturating_duration_since(intended)));
        }
    }

    /// Adds the results of another worker.
    pub(crate) fn merge(&mut self, other: Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.operations += other.operations;
        self.errors += other.errors;
        self.unknown_outcomes += other.unknown_outcomes;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn only_what_ends_within_the_window_counts() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let window = Window { from: at(100), until: at(200) };
        let mut meter = Meter::new();
        for ended in [99, 100, 150, 199, 200] {
            meter.record(window, at(50), at(ended), Ok(()));
        }
        assert_eq!(meter.operations, 3);
        // The shortest took 50 ms; the histogram keeps three digits of it.
        assert!(meter.histogram.equivalent(meter.histogram.min(), 50_000));
    }

    #[test]
    fn workers_are_added_up() {
        let start = clock::now();
        let window = Window { from: start, until: start + Duration::from_secs(1) };
        let (mut one, mut other) = (Meter::new(), Meter::new());
        one.record(window, start, start + Duration::from_micros(10), Ok(()));
        other.record(window, start, start + Duration::from_micros(30), Ok(()));
        one.merge(other);
        assert_eq!((one.operations, one.histogram.max()), (2, 30));
    }
}
