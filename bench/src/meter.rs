//! Counts operations and their latencies within the measured time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::clock;

/// Longest time a count of operations may take; only so that a window has an end.
const NO_END: Duration = Duration::from_secs(24 * 3600);
/// The longest latency that is told apart, microseconds: two minutes, well above an operation's time.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Intervals a long run is told in, at most; each is a second at least.
const INTERVALS_MAX: u32 = 300;
/// Significant digits of a latency within an interval: there are many of them.
const INTERVAL_DIGITS: u8 = 2;

/// The time in which operations count: those that end in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    /// It is told in intervals too, each so long.
    interval: Option<Duration>,
}

impl Window {
    pub(crate) fn new(from: Instant, until: Instant) -> Self {
        Self { from, until, interval: None }
    }

    /// From now on, without an end.
    pub(crate) fn endless() -> Self {
        let now = clock::now();
        Self::new(now, now + NO_END)
    }

    /// The same, told in intervals too.
    pub(crate) fn in_intervals(self) -> Self {
        let whole = self.until.saturating_duration_since(self.from);
        Self { interval: Some((whole / INTERVALS_MAX).max(Duration::from_secs(1))), ..self }
    }

    /// How long an interval is, if it has any.
    pub(crate) fn interval(self) -> Option<Duration> {
        self.interval
    }

    fn contains(self, time: Instant) -> bool {
        self.from <= time && time < self.until
    }

    fn interval_of(self, time: Instant) -> Option<usize> {
        let nanos = time.saturating_duration_since(self.from).as_nanos() / self.interval?.as_nanos();
        usize::try_from(nanos).ok()
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
    window: Window,
    /// Of each interval of the window, if it has intervals.
    pub(crate) intervals: Vec<Histogram<u64>>,
    pub(crate) histogram: Histogram<u64>,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) unknown_outcomes: u64,
    pub(crate) first_error: Option<String>,
}

impl Meter {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            intervals: Vec::new(),
            histogram: histogram(),
            operations: 0,
            errors: 0,
            unknown_outcomes: 0,
            first_error: None,
        }
    }

    /// An operation meant to begin at `intended` ended at `ended`.
    pub(crate) fn record(&mut self, intended: Instant, ended: Instant, result: Result<(), &escrow::Error>) {
        if let Err(error) = result {
            // Counted outside the window too: a run with errors is not sound, whenever they came.
            self.errors += 1;
            self.unknown_outcomes += u64::from(error.outcome_unknown());
            self.first_error.get_or_insert_with(|| error.to_string());
            return;
        }
        self.took(intended, ended);
    }

    /// Something that began at `begun` and ended at `ended`, well.
    pub(crate) fn took(&mut self, begun: Instant, ended: Instant) {
        if !self.window.contains(ended) {
            return;
        }
        let latency_us = micros(ended.saturating_duration_since(begun));
        self.operations += 1;
        self.histogram.saturating_record(latency_us);
        if let Some(interval) = self.window.interval_of(ended) {
            self.grow(interval + 1);
            self.intervals[interval].saturating_record(latency_us);
        }
    }

    fn grow(&mut self, intervals: usize) {
        while self.intervals.len() < intervals {
            let empty = Histogram::new_with_max(LATENCY_US_MAX, INTERVAL_DIGITS);
            self.intervals.push(empty.expect("the bounds are legal constants"));
        }
    }

    /// Adds the results of another worker.
    pub(crate) fn merge(&mut self, other: Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.grow(other.intervals.len());
        for (interval, other) in self.intervals.iter_mut().zip(&other.intervals) {
            interval.add(other).expect("all intervals have the same bounds");
        }
        self.operations += other.operations;
        self.errors += other.errors;
        self.unknown_outcomes += other.unknown_outcomes;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// An empty one for latencies in microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, DIGITS).expect("the bounds are legal constants")
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_within_the_window_counts() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(Window::new(at(100), at(200)));
        for ended in [99, 100, 150, 199, 200] {
            meter.record(at(50), at(ended), Ok(()));
        }
        assert_eq!(meter.operations, 3);
        // The shortest took 50 ms; the histogram keeps three digits of it.
        assert!(meter.histogram.equivalent(meter.histogram.min(), 50_000));
        assert!(meter.intervals.is_empty());
    }

    #[test]
    fn workers_are_added_up_also_interval_by_interval() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let window = Window::new(start, at(10_000)).in_intervals();
        let (mut one, mut other) = (Meter::new(window), Meter::new(window));
        one.took(start, start + Duration::from_micros(10));
        other.took(start, start + Duration::from_micros(30));
        other.took(at(2_000), at(2_500));
        one.merge(other);
        assert_eq!((one.operations, one.histogram.min()), (3, 10));
        let counts: Vec<_> = one.intervals.iter().map(Histogram::len).collect();
        assert_eq!(counts, [2, 0, 1]);
    }
}
