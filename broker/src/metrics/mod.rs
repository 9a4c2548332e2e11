//! What the broker counts. A recorder for each broker: several in one process do not mix. Must never decide anything.

pub mod names;
mod scrape;

use std::fmt;

use escrow_protocol::Reason;
use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::engine::{Command, Effect, Input, Outcome, Reply, Verb};
use crate::records::{Decision, Role};
use names::Named;

pub use scrape::Scrape;

const METADATA: Metadata<'static> = Metadata::new("escrow", Level::INFO, None);

/// What an input was, for counting it once its outcome is known.
#[derive(Debug, Clone, Copy)]
pub struct Happening {
    what: What,
    queued_at_us: u64,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Published,
    Prepared,
    Decided(Decision, Role),
    Answered(Option<Decision>),
    Settled(&'static str),
    Redriven { dry_run: bool },
    Discarded { dry_run: bool },
    Other,
}

impl Happening {
    /// What `input` is; it was queued at this time, microseconds of the broker's clock.
    pub fn of(input: &Input, queued_at_us: u64) -> Self {
        let what = match input {
            Input::Publish(_) => What::Published,
            Input::SendHalf(_) => What::Prepared,
            Input::Decide(decide) => What::Decided(decide.decision, decide.role),
            Input::CheckAnswered(answered) => What::Answered(answered.verdict),
            Input::Settle(settle) => What::Settled(match settle.verb {
                Verb::Ack => "ack",
                Verb::Nack { .. } => "nack",
                Verb::Reject { .. } => "reject",
                Verb::Extend { .. } => "extend",
                Verb::Release => "release",
            }),
            Input::Command(Command::Redrive { dry_run, .. }) => What::Redriven { dry_run: *dry_run },
            Input::Command(Command::Discard { dry_run, .. }) => What::Discarded { dry_run: *dry_run },
            _ => What::Other,
        };
        Self { what, queued_at_us }
    }
}

/// See the module.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    published: Counter,
    prepared: Counter,
    checks_asked: Counter,
    delivered: Counter,
    redelivered: Counter,
    conflicts: Counter,
    redriven: Counter,
    discarded: Counter,
    acked: Counter,
    turns: Counter,
    turn_inputs: Histogram,
    commit_seconds: Histogram,
    publish_seconds: Histogram,
    decision_seconds: Histogram,
    delivery_delay_seconds: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(names::SECONDS_BUCKETS)
            .and_then(|builder| {
                let inputs = Matcher::Full(names::TURN_INPUTS.0.to_owned());
                builder.set_buckets_for_metric(inputs, names::COUNT_BUCKETS)
            })
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        let counter = |named| counter(&recorder, named, Vec::new());
        let histogram = |(name, text): Named| {
            recorder.describe_histogram(name.into(), None, text.into());
            recorder.register_histogram(&Key::from_static_name(name), &METADATA)
        };
        Self {
            published: counter(names::PUBLISHED),
            prepared: counter(names::PREPARED),
            checks_asked: counter(names::CHECKS_ASKED),
            delivered: counter(names::DELIVERED),
            redelivered: counter(names::REDELIVERED),
            conflicts: counter(names::CONFLICTS),
            redriven: counter(names::REDRIVEN),
            discarded: counter(names::DISCARDED),
            acked: self::counter(&recorder, names::SETTLED, vec![Label::from_static_parts("verb", "ack")]),
            turns: counter(names::TURNS),
            turn_inputs: histogram(names::TURN_INPUTS),
            commit_seconds: histogram(names::COMMIT_SECONDS),
            publish_seconds: histogram(names::PUBLISH_SECONDS),
            decision_seconds: histogram(names::DECISION_SECONDS),
            delivery_delay_seconds: histogram(names::DELIVERY_DELAY_SECONDS),
            recorder,
            handle,
        }
    }

    /// A batch of so many inputs became durable.
    pub fn committed(&self, inputs: usize, took_us: u64) {
        self.turns.increment(1);
        self.turn_inputs.record(inputs as f64);
        self.commit_seconds.record(seconds(took_us));
    }

    /// An input was handled, and what became of it is durable since `durable_at_us`.
    pub fn handled(&self, happening: &Happening, outcome: &Outcome, durable_at_us: u64) {
        let reply = match outcome {
            Ok(reply) => reply,
            Err(refusal) => return self.refused(refusal.reason),
        };
        let took = seconds(durable_at_us.saturating_sub(happening.queued_at_us));
        match happening.what {
            What::Published => {
                self.published.increment(1);
                self.publish_seconds.record(took);
            }
            What::Prepared => {
                self.prepared.increment(1);
                self.publish_seconds.record(took);
            }
            What::Decided(decision, role) => {
                if !matches!(reply, Reply::Decided { duplicate: true, .. }) {
                    self.decided(decision, role);
                }
                self.decision_seconds.record(took);
            }
            What::Answered(verdict) => {
                let word = match verdict {
                    Some(Decision::Commit) => "commit",
                    Some(Decision::Rollback) => "rollback",
                    None => "unknown",
                };
                self.labelled(names::CHECKS_ANSWERED, "verdict", word);
            }
            What::Settled("ack") => self.acked.increment(1),
            What::Settled(verb) => self.labelled(names::SETTLED, "verb", verb),
            What::Redriven { dry_run: false } => self.redriven.increment(1),
            What::Discarded { dry_run: false } => self.discarded.increment(1),
            What::Redriven { .. } | What::Discarded { .. } | What::Other => {}
        }
    }

    /// These go out.
    pub fn effects(&self, effects: &[Effect], unix_ms: u64) {
        for effect in effects {
            match effect {
                Effect::AskCheck(_) => self.checks_asked.increment(1),
                Effect::Deliver(delivery) => {
                    self.delivered.increment(1);
                    if delivery.attempt > 1 {
                        self.redelivered.increment(1);
                    } else {
                        let delay_ms = unix_ms.saturating_sub(delivery.at_ms);
                        self.delivery_delay_seconds.record(delay_ms as f64 / 1e3);
                    }
                }
                Effect::Close(..) => {}
            }
        }
    }

    /// A whole turn found no room on disk.
    pub fn turn_refused(&self, inputs: usize) {
        let labels = vec![Label::new("reason", Reason::DiskFull.as_str())];
        counter(&self.recorder, names::REFUSED, labels).increment(inputs as u64);
    }

    /// An input was refused, by the engine or at the edge.
    pub fn refused(&self, reason: Reason) {
        if reason == Reason::AlreadyDecided {
            self.conflicts.increment(1);
        }
        self.labelled(names::REFUSED, "reason", reason.as_str());
    }

    fn decided(&self, decision: Decision, role: Role) {
        let named = match decision {
            Decision::Commit => names::COMMITTED,
            Decision::Rollback => names::ROLLED_BACK,
        };
        self.labelled(named, "role", role.as_str());
    }

    fn labelled(&self, named: Named, label: &'static str, value: &'static str) {
        counter(&self.recorder, named, vec![Label::from_static_parts(label, value)]).increment(1);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn counter(recorder: &PrometheusRecorder, (name, text): Named, labels: Vec<Label>) -> Counter {
    if labels.is_empty() {
        recorder.describe_counter(name.into(), None, text.into());
    }
    recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
