//! What the program that compares Escrow with others (`compare/`) measures with: the same clock, the same histogram, the
//! same counters as the runs.

use std::time::{Duration, Instant};

pub use crate::clock::random_body;
pub use crate::process::{device_flushes, process_group_cpu};

use crate::clock;
use crate::meter::Window;
use crate::report::Latency;

/// Latencies of what ends in the measured time.
#[derive(Debug)]
pub struct Meter {
    window: Window,
    meter: crate::meter::Meter,
}

impl Meter {
    /// Measures for `duration`, after `warm_up` from now.
    pub fn for_duration(warm_up: Duration, duration: Duration) -> Self {
        let from = clock::now() + warm_up;
        let window = Window::new(from, from + duration);
        Self { window, meter: crate::meter::Meter::new(window) }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        clock::now()
    }

    /// Whether the warm-up is over.
    pub fn has_begun(&self, now: Instant) -> bool {
        now >= self.window.from
    }

    /// Whether the measured time is over.
    pub fn has_ended(&self, now: Instant) -> bool {
        now >= self.window.until
    }

    /// Something took from `begun` until `ended`.
    pub fn took(&mut self, begun: Instant, ended: Instant) {
        self.meter.took(begun, ended);
    }

    /// How many ended in the measured time, and how long they took.
    pub fn into_latency(self) -> (u64, Latency) {
        (self.meter.operations, Latency::of(&self.meter.histogram))
    }
}
