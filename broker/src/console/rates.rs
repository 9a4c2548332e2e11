//! The last ten minutes, sampled once a second: what pages draw. Bounded, in memory only, gone with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Activity, Timed};

/// Ten minutes, a sample a second, and one to begin from.
const SAMPLES_MAX: usize = 601;
/// Samples in one bar of a chart: 120 bars are what a narrow screen shows.
pub(super) const SECONDS_PER_BAR: usize = 5;
/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Latencies are what this share were not above.
const SHARE: f64 = 0.99;

/// What had been counted at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Messages and half messages stored.
    pub stored: u64,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Transactions decided.
    pub decided: u64,
    /// How long the last sync took, microseconds: a level, not a count.
    pub sync_us: u64,
    /// What 99 of 100 took in this second, microseconds; 0: there was none. From receiving a message to durable,
    pub publish_us: u64,
    /// from receiving a decision to durable,
    pub decision_us: u64,
    /// and from visible to the first delivery.
    pub delivery_us: u64,
}

impl Sample {
    /// From what was done by then, what was done by a second before, and the store's last sync.
    pub(crate) fn new(now: &Activity, before: Option<&Activity>, sync_us: u64) -> Self {
        let counts = &now.counts;
        // Without a second before, all since the start would be one.
        let slowest = |of: fn(&Activity) -> &Timed| {
            before.and_then(|before| of(now).quantile_since(Some(of(before)), SHARE)).unwrap_or(0)
        };
        Self {
            publish_us: slowest(|activity| &activity.publish),
            decision_us: slowest(|activity| &activity.decision),
            delivery_us: slowest(|activity| &activity.delivery),
            stored: counts.messages_published + counts.transactions_prepared,
            acked: counts.acks,
            decided: counts.transactions_committed + counts.transactions_rolled_back,
            sync_us,
        }
    }
}

/// The samples. A clone has the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    samples: Arc<Mutex<VecDeque<Sample>>>,
}

/// One curve, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// A bar for each [`SECONDS_PER_BAR`] seconds.
    pub(super) bars: Vec<f64>,
    /// The last second.
    pub(super) now: f64,
    /// The highest bar.
    pub(super) peak: f64,
}

impl Rates {
    /// Adds a sample.
    pub(crate) fn add(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        // The engine was rebuilt and counts from zero: what was before does not compare.
        if samples.back().is_some_and(|last| sample.stored < last.stored || sample.acked < last.acked) {
            samples.clear();
        }
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Samples each second until told to stop; what cannot be had then is left out.
    pub(crate) async fn keep<F: Future<Output = Option<Sample>>>(
        self,
        stop: CancellationToken,
        mut look: impl FnMut() -> F,
    ) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Cancel-safe: a tick that is dropped comes again, and nothing else waits in here.
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Some(Some(sample)) = stop.run_until_cancelled(look()).await {
                self.add(sample);
            }
        }
    }

    /// How fast a count grew, per second.
    pub(super) fn growth(&self, of: impl Fn(&Sample) -> u64) -> Option<Curve> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<u64> = samples.iter().map(of).collect();
        let seconds: Vec<f64> = values.windows(2).map(|two| two[1].saturating_sub(two[0]) as f64).collect();
        curve(&seconds, |bar| bar.iter().sum::<f64>() / bar.len() as f64)
    }

    /// How high a level stood.
    pub(super) fn level(&self, of: impl Fn(&Sample) -> u64) -> Option<Curve> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds: Vec<f64> = samples.iter().map(|sample| of(sample) as f64).collect();
        curve(&seconds, |bar| bar.iter().copied().fold(0.0, f64::max))
    }
}

fn curve(seconds: &[f64], bar: impl Fn(&[f64]) -> f64) -> Option<Curve> {
    let now = *seconds.last()?;
    // Cut from the end, so that a bar keeps its seconds until it leaves on the left only if it is whole.
    let bars: Vec<f64> = seconds.rchunks(SECONDS_PER_BAR).map(bar).rev().collect();
    let peak = bars.iter().copied().fold(now, f64::max);
    Some(Curve { bars, now, peak })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(stored: u64) -> Sample {
        Sample { stored, ..Sample::default() }
    }

    #[test]
    fn ten_minutes_are_kept_and_no_more() {
        let rates = Rates::default();
        for second in 0..2_000 {
            rates.add(stored(second * 7));
        }
        let curve = rates.growth(|sample| sample.stored).unwrap();
        assert_eq!(curve.bars.len() * SECONDS_PER_BAR, SAMPLES_MAX - 1);
        assert_eq!((curve.now, curve.peak), (7.0, 7.0));
    }

    #[test]
    fn nothing_is_said_before_there_are_two_samples() {
        let rates = Rates::default();
        assert_eq!(rates.growth(|sample| sample.stored), None);
        rates.add(stored(5));
        assert_eq!(rates.growth(|sample| sample.stored), None);
        rates.add(stored(8));
        assert_eq!(rates.growth(|sample| sample.stored).unwrap().now, 3.0);
    }

    #[test]
    fn counts_that_begin_again_are_no_fall() {
        let rates = Rates::default();
        for count in [100, 200, 3, 5] {
            rates.add(stored(count));
        }
        let curve = rates.growth(|sample| sample.stored).unwrap();
        assert_eq!((curve.now, curve.peak), (2.0, 2.0));
    }
}
