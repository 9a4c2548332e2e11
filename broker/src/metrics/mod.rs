//! What the broker counts. A recorder for each broker: several in one process do not mix. Must never decide anything.

mod histogram;
pub mod names;
mod scrape;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use escrow_protocol::Reason;
use escrow_storage::Observer;
use metrics::{Counter, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::engine::{Counts, Delivery, Effect, Input, Outcome};
use histogram::Histogram;
use names::Named;

pub use histogram::Timed;
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
    spans_sent: Counter,
    spans_dropped: Counter,
    append_seconds: Histogram,
    sync_seconds: Histogram,
    spill_seconds: Histogram,
    last_spill_us: AtomicU64,
    turn_inputs: Histogram,
    commit_seconds: Histogram,
    publish_seconds: Histogram,
    decision_seconds: Histogram,
    delivery_delay_seconds: Histogram,
}

/// What the broker has done since it was started. Times are microseconds.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    /// The engine's own counts.
    pub counts: Counts,
    /// From receiving a message or half message to durable.
    pub publish: Timed,
    /// From receiving a decision to durable.
    pub decision: Timed,
    /// From visible to the first delivery to a group.
    pub delivery: Timed,
    /// Append and fdatasync of a batch.
    pub commit: Timed,
    /// fdatasync of the journal alone.
    pub sync: Timed,
    /// How long the last spill took; 0: there was none yet.
    pub last_spill_us: u64,
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
        let counter = |(name, text): Named| {
            recorder.describe_counter(name.into(), None, text.into());
            recorder.register_counter(&Key::from_static_name(name), &METADATA)
        };
        Self {
            counts: Mutex::default(),
            turns: counter(names::TURNS),
            spans_sent: counter(names::SPANS_SENT),
            spans_dropped: counter(names::SPANS_DROPPED),
            append_seconds: seconds(names::APPEND_SECONDS),
            sync_seconds: seconds(names::SYNC_SECONDS),
            spill_seconds: seconds(names::SPILL_SECONDS),
            last_spill_us: AtomicU64::new(0),
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

    /// So many spans of traces were taken by the collector, and so many given up.
    pub fn spans(&self, sent: u64, dropped: u64) {
        self.spans_sent.increment(sent);
        self.spans_dropped.increment(dropped);
    }

    /// What the broker has done since it was started.
    pub fn activity(&self) -> Activity {
        Activity {
            counts: self.counts(),
            publish: self.publish_seconds.timed(),
            decision: self.decision_seconds.timed(),
            delivery: self.delivery_delay_seconds.timed(),
            commit: self.commit_seconds.timed(),
            sync: self.sync_seconds.timed(),
            last_spill_us: self.last_spill_us.load(Ordering::Relaxed),
        }
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

impl Observer for Metrics {
    fn committed(&self, _bytes: u64, append: Duration, sync: Duration, _delay: Duration) {
        self.append_seconds.record(micros(append));
        self.sync_seconds.record(micros(sync));
    }

    fn spilled(&self, _edits: u64, took: Duration) {
        self.spill_seconds.record(micros(took));
        self.last_spill_us.store(micros(took), Ordering::Relaxed);
    }

    fn met_corrupt(&self) {
        // The store's own count says so.
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
