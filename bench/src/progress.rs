//! Tells somebody how far a run is, while it goes on.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::clock;
use crate::meter::Live;
use crate::report::{Phase, Progress};

/// How often progress is told.
const EVERY: Duration = Duration::from_millis(250);

/// Where progress goes.
pub(crate) struct Reporter<'a> {
    tell: &'a mut (dyn FnMut(Progress) + Send),
    last: (Instant, u64),
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(tell: &'a mut (dyn FnMut(Progress) + Send)) -> Self {
        Self { tell, last: (clock::now(), 0) }
    }

    /// Waits for `work` and tells how far it is, `done` computing the share from the operations so far.
    pub(crate) async fn during<T>(
        &mut self,
        phase: Phase,
        live: &Live,
        done: impl Fn(u64) -> f64,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval(EVERY);
        let before = live.operations();
        self.last = (clock::now(), before);
        loop {
            tokio::select! {
                output = &mut work => return output,
                _ = ticks.tick() => self.report(phase, live.operations(), before, &done),
            }
        }
    }

    fn report(&mut self, phase: Phase, operations: u64, before: u64, done: &impl Fn(u64) -> f64) {
        let now = clock::now();
        let seconds = now.saturating_duration_since(self.last.0).as_secs_f64();
        let per_second = if seconds > 0.0 { (operations - self.last.1) as f64 / seconds } else { 0.0 };
        self.last = (now, operations);
        let operations = operations - before;
        (self.tell)(Progress { phase, done: done(operations).clamp(0.0, 1.0), operations, per_second });
    }
}

/// The share of the time from now until `end` that has passed.
pub(crate) fn share_of_time(start: Instant, end: Instant) -> impl Fn(u64) -> f64 {
    let whole = end.saturating_duration_since(start).as_secs_f64().max(f64::EPSILON);
    move |_operations| clock::now().saturating_duration_since(start).as_secs_f64() / whole
}

/// The share of `whole` operations that are done.
pub(crate) fn share_of_count(whole: u64) -> impl Fn(u64) -> f64 {
    move |operations| operations as f64 / whole.max(1) as f64
}
