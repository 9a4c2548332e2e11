//! What `escrow top` reads: two looks at the broker make rates and latencies of the time between them. Pure.

use std::collections::{HashMap, VecDeque};

use escrow_protocol::v1;
use serde::Serialize;

use crate::metrics::Timed;

/// Looks that are kept: for the curves.
const LOOKS_MAX: usize = 61;
/// Latencies are those of so many looks, so that a quiet second does not blank them.
const LATENCY_LOOKS: usize = 10;

/// One look at the broker.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) status: v1::GetStatusResponse,
    pub(super) groups: Vec<v1::Group>,
    /// There are more groups than were asked for.
    pub(super) more_groups: bool,
}

/// How often something happened in a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub(super) struct Rates {
    /// Messages and half messages.
    pub(super) stored: f64,
    pub(super) decided: f64,
    pub(super) delivered: f64,
    pub(super) acked: f64,
    /// Nacks and rejects.
    pub(super) failed: f64,
    pub(super) buried: f64,
}

/// How long something took, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// How long things took lately; `None`: nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub(super) struct Latencies {
    pub(super) publish: Option<Quantiles>,
    pub(super) decision: Option<Quantiles>,
    pub(super) delivery: Option<Quantiles>,
    pub(super) commit: Option<Quantiles>,
}

/// The looks so far.
#[derive(Debug, Default)]
pub(super) struct History {
    looks: VecDeque<Look>,
    /// Latencies are those since the broker was started.
    is_since_start: bool,
}

impl History {
    /// For one frame: latencies are those since the broker was started, for hardly anything happens between two looks.
    pub(super) fn since_start() -> Self {
        Self { is_since_start: true, ..Self::default() }
    }

    /// Adds a look. A broker that was started anew counts from zero: what was before does not compare.
    pub(super) fn add(&mut self, look: Look) {
        if self.looks.back().is_some_and(|last| last.status.started_at_ms != look.status.started_at_ms) {
            self.looks.clear();
        }
        // Only the last two looks need their groups.
        if let Some(before) = self.looks.len().checked_sub(2) {
            self.looks[before].groups = Vec::new();
        }
        if self.looks.len() == LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back(look);
    }

    /// The last look.
    pub(super) fn last(&self) -> Option<&Look> {
        self.looks.back()
    }

    /// Rates between each look and the next, oldest first.
    pub(super) fn rates(&self) -> Vec<Rates> {
        let pairs = self.looks.iter().zip(self.looks.iter().skip(1));
        pairs.map(|(before, after)| rates(&before.status, &after.status)).collect()
    }

    /// Latencies of the last few looks; of all since the start when there is only one.
    pub(super) fn latencies(&self) -> Latencies {
        let Some(last) = self.looks.back() else { return Latencies::default() };
        let before = match self.looks.len() {
            1 => None,
            _ if self.is_since_start => None,
            looks => self.looks.get(looks.saturating_sub(LATENCY_LOOKS + 1)),
        };
        let activity = |look: &Look| look.status.activity.clone().unwrap_or_default();
        let (after, before) = (activity(last), before.map(activity).unwrap_or_default());
        Latencies {
            publish: quantiles(before.publish.as_ref(), after.publish.as_ref()),
            decision: quantiles(before.decision.as_ref(), after.decision.as_ref()),
            delivery: quantiles(before.delivery.as_ref(), after.delivery.as_ref()),
            commit: quantiles(before.commit.as_ref(), after.commit.as_ref()),
        }
    }

    /// Acks and nacks a second of each group, by name.
    pub(super) fn group_rates(&self) -> HashMap<&str, (f64, f64)> {
        let mut looks = self.looks.iter().rev();
        let (Some(after), Some(before)) = (looks.next(), looks.next()) else { return HashMap::new() };
        let seconds = seconds_between(&before.status, &after.status);
        let then: HashMap<_, _> = before.groups.iter().map(|group| (group.name.as_str(), group)).collect();
        let rate = |group: &v1::Group| {
            let then = then.get(group.name.as_str())?;
            Some((
                per_second(then.acked, group.acked, seconds),
                per_second(then.nacked, group.nacked, seconds),
            ))
        };
        after.groups.iter().filter_map(|group| Some((group.name.as_str(), rate(group)?))).collect()
    }
}

fn rates(before: &v1::GetStatusResponse, after: &v1::GetStatusResponse) -> Rates {
    let seconds = seconds_between(before, after);
    let activity = |status: &v1::GetStatusResponse| status.activity.clone().unwrap_or_default();
    let (before, after) = (activity(before), activity(after));
    let of = |count: fn(&v1::Activity) -> u64| per_second(count(&before), count(&after), seconds);
    Rates {
        stored: of(|activity| activity.messages_published + activity.transactions_prepared),
        decided: of(|activity| activity.transactions_committed + activity.transactions_rolled_back),
        delivered: of(|activity| activity.deliveries),
        acked: of(|activity| activity.acks),
        failed: of(|activity| activity.nacks + activity.rejects),
        buried: of(|activity| activity.dead_letters),
    }
}

/// By the broker's own clock, so that a slow answer does not look like a busy broker.
fn seconds_between(before: &v1::GetStatusResponse, after: &v1::GetStatusResponse) -> f64 {
    (after.now_ms - before.now_ms).max(1) as f64 / 1e3
}

fn per_second(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds
}

fn quantiles(before: Option<&v1::Timing>, after: Option<&v1::Timing>) -> Option<Quantiles> {
    let timed = |timing: &v1::Timing| Timed {
        bounds: timing.bounds_us.clone(),
        counts: timing.counts.clone(),
        sum: timing.sum_us,
    };
    let (before, after) = (before.map(timed), timed(after?));
    let quantile = |share| after.quantile_since(before.as_ref(), share);
    Some(Quantiles { p50_us: quantile(0.50)?, p99_us: quantile(0.99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(now_ms: i64, acks: u64, counts: &[u64]) -> Look {
        let timing = v1::Timing { bounds_us: vec![100, 1_000], counts: counts.to_vec(), sum_us: 0 };
        let activity = v1::Activity { acks, publish: Some(timing), ..Default::default() };
        let group = v1::Group { name: "billing".to_owned(), acked: acks, ..Default::default() };
        let status = v1::GetStatusResponse { now_ms, activity: Some(activity), ..Default::default() };
        Look { status, groups: vec![group], more_groups: false }
    }

    #[test]
    fn two_looks_make_rates() {
        let mut history = History::default();
        history.add(look(1_000, 10, &[0, 0, 0]));
        assert!(history.rates().is_empty() && history.group_rates().is_empty());
        history.add(look(3_000, 30, &[0, 0, 0]));
        assert_eq!(history.rates()[0].acked, 10.0);
        assert_eq!(history.group_rates()["billing"], (10.0, 0.0));
    }

    #[test]
    fn a_broker_that_was_started_anew_begins_anew() {
        let mut history = History::default();
        history.add(look(1_000, 1_000, &[0, 0, 0]));
        let mut anew = look(2_000, 5, &[0, 0, 0]);
        anew.status.started_at_ms = 1_900;
        history.add(anew);
        assert!(history.rates().is_empty());
    }

    #[test]
    fn looks_are_bounded_and_only_two_keep_their_groups() {
        let mut history = History::default();
        for nth in 0..200 {
            history.add(look(nth * 1_000, nth as u64, &[0, 0, 0]));
        }
        assert_eq!(history.rates().len(), LOOKS_MAX - 1);
        let with_groups = history.looks.iter().filter(|look| !look.groups.is_empty()).count();
        assert_eq!(with_groups, 2);
    }

    #[test]
    fn latencies_are_those_of_the_last_looks() {
        let mut history = History::default();
        history.add(look(1_000, 0, &[100, 0, 0]));
        assert_eq!(history.latencies().publish, Some(Quantiles { p50_us: 50, p99_us: 99 }));
        history.add(look(2_000, 0, &[100, 10, 0]));
        assert_eq!(history.latencies().publish, Some(Quantiles { p50_us: 550, p99_us: 991 }));
        history.add(look(3_000, 0, &[100, 10, 90]));
        let beyond = history.latencies().publish.unwrap();
        assert_eq!(beyond.p99_us, 1_000, "beyond the last bound nothing is known");
        assert_eq!(history.latencies().decision, None);
        let whole = History { is_since_start: true, ..history };
        assert_eq!(whole.latencies().publish.unwrap().p50_us, 100, "100 of 200 were as fast as that");
    }
}
