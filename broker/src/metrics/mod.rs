//! What the broker counts. A recorder for each broker: several in one process do not mix. Must never decide anything.

mod histogram;
pub mod names;
mod scrape;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use escrow_protocol::Reason;
use metrics::{Counter, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::engine::{Counts, Delivery, Effect, Input, Outcome};
use histogram::Histogram;

pub use scrape::Scrape;

const MICROS_IN_A_SECOND: f64 = 1e6;

const METADATA: Metadata<'static> = Metadata::new("escrow", Level::INFO, None);

/// What of an input is measured once its outcome is known.
#[derive(Debug, Clone, Copy)]
pub struct Happening {
    what: What,
    queued_at_us: u64,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Stored,
    Decided,
    Other,
}

impl Happening {
    /// What `input` is; it was queued at this time, microseconds of the broker's clock.
    pub fn of(input: &Input, queued_at_us: u64) -> Self {
        let what = match input {
            Input::Publish(_) | Input::SendHalf(_) => What::Stored,
            Input::Decide(_) => What::Decided,
            _ => What::Other,
        };
        Self { what, queued_at_us }
    }
}

/// See the module.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// The engine's own, as of its last turn.
    counts: Mutex<Counts>,
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
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let seconds = |named| Histogram::new(named, names::SECONDS_BUCKETS, MICROS_IN_A_SECOND);
        let (name, text) = names::REFUSED;
        recorder.describe_counter(name.into(), None, text.into());
        let (name, text) = names::TURNS;
        recorder.describe_counter(name.into(), None, text.into());
        Self {
            counts: Mutex::default(),
            turns: recorder.register_counter(&Key::from_static_name(name), &METADATA),
            turn_inputs: Histogram::new(names::TURN_INPUTS, names::COUNT_BUCKETS, 1.0),
            commit_seconds: seconds(names::COMMIT_SECONDS),
            publish_seconds: seconds(names::PUBLISH_SECONDS),
            decision_seconds: seconds(names::DECISION_SECONDS),
            delivery_delay_seconds: seconds(names::DELIVERY_DELAY_SECONDS),
            recorder,
            handle,
        }
    }

    /// A batch of so many inputs became durable.
    pub fn committed(&self, inputs: usize, took_us: u64) {
        self.turns.increment(1);
        self.turn_inputs.record(inputs as u64);
        self.commit_seconds.record(took_us);
    }

    /// The engine's counts at the end of a turn.
    pub fn set_counts(&self, counts: Counts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// The engine's counts as of its last turn.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An input was handled, and what became of it is durable since `durable_at_us`.
    pub fn handled(&self, happening: &Happening, outcome: &Outcome, durable_at_us: u64) {
        if let Err(refusal) = outcome {
            return self.refused(refusal.reason, 1);
        }
        let took_us = durable_at_us.saturating_sub(happening.queued_at_us);
        match happening.what {
            What::Stored => self.publish_seconds.record(took_us),
            What::Decided => self.decision_seconds.record(took_us),
            What::Other => {}
        }
    }

    /// These go out.
    pub fn effects(&self, effects: &[Effect], unix_ms: u64) {
        for effect in effects {
            if let Effect::Deliver(Delivery { attempt: 1, at_ms, .. }) = effect {
                self.delivery_delay_seconds.record(unix_ms.saturating_sub(*at_ms).saturating_mul(1_000));
            }
        }
    }

    /// So many inputs were refused, by the engine, the driver or at the edge.
    pub fn refused(&self, reason: Reason, inputs: usize) {
        let labels = vec![Label::from_static_parts("reason", reason.as_str())];
        let key = Key::from_parts(names::REFUSED.0, labels);
        self.recorder.register_counter(&key, &METADATA).increment(inputs as u64);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
