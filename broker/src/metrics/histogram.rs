//! A histogram whose buckets are fixed: a sample costs two additions. (The exporter's own keeps each sample, with the time
//! it came, until somebody folds them.)

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::names::Named;

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timed {
    /// Upper bounds of the buckets, rising, in the unit of the samples; the last bucket has none.
    pub bounds: Vec<u64>,
    /// Samples of each bucket alone.
    pub counts: Vec<u64>,
    /// All samples together.
    pub sum: u64,
}

impl Timed {
    /// What this share of the samples since `before` were not above; `None`: there was none. Within a bucket they are taken to
    /// lie evenly, as Prometheus does; beyond the last bound that bound is all that is known.
    pub fn quantile_since(&self, before: Option<&Self>, share: f64) -> Option<u64> {
        let then = |nth| before.and_then(|before: &Self| before.counts.get(nth)).copied().unwrap_or(0);
        let counts: Vec<u64> =
            self.counts.iter().enumerate().map(|(nth, count)| count.saturating_sub(then(nth))).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = share * total as f64;
        let (mut below, mut lower) = (0.0, 0);
        for (count, upper) in counts.iter().zip(&self.bounds) {
            let within = *count as f64;
            if below + within >= wanted && within > 0.0 {
                return Some(lower + ((upper - lower) as f64 * (wanted - below) / within) as u64);
            }
            (below, lower) = (below + within, *upper);
        }
        Some(lower)
    }
}

/// See the module. Samples are whole numbers of its unit, e.g. microseconds.
#[derive(Debug)]
pub(super) struct Histogram {
    named: Named,
    /// Upper bounds, as they are shown.
    bounds: &'static [f64],
    /// How many units of a sample are one of what is shown.
    units: f64,
    /// Samples up to each bound and above the one before; the last are those above all.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(named: Named, bounds: &'static [f64], units: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { named, bounds, units, counts, sum: AtomicU64::new(0) }
    }

    /// Adds a sample.
    pub(super) fn record(&self, sample: u64) {
        let shown = sample as f64 / self.units;
        let bucket = self.bounds.partition_point(|bound| *bound < shown);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(sample, Ordering::Relaxed);
    }

    /// As it stands.
    pub(super) fn timed(&self) -> Timed {
        Timed {
            bounds: self.bounds.iter().map(|bound| (bound * self.units).round() as u64).collect(),
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }

    /// Its text for Prometheus.
    pub(super) fn render(&self, text: &mut String) {
        let (name, help) = self.named;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut count = 0;
        for (bound, samples) in self.bounds.iter().zip(&self.counts) {
            count += samples.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        count += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        let sum = self.sum.load(Ordering::Relaxed) as f64 / self.units;
        let _ =
            writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_in_every_bucket_that_holds_it() {
        let histogram = Histogram::new(("waits_seconds", "How long"), &[0.001, 0.5], 1e6);
        for micros in [0, 1_000, 1_001, 500_000, 600_000] {
            histogram.record(micros);
        }
        let timed = histogram.timed();
        assert_eq!((timed.bounds, timed.counts, timed.sum), (vec![1_000, 500_000], vec![2, 2, 1], 1_102_001));
        let mut text = String::new();
        histogram.render(&mut text);
        let expected = "# HELP waits_seconds How long\n# TYPE waits_seconds histogram\n\
                        waits_seconds_bucket{le=\"0.001\"} 2\nwaits_seconds_bucket{le=\"0.5\"} 4\n\
                        waits_seconds_bucket{le=\"+Inf\"} 5\nwaits_seconds_sum 1.102001\nwaits_seconds_count 5\n";
        assert_eq!(text, expected);
    }
}
