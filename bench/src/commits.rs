//! When commit was called for each transaction that is under way, and so how long its message took to the consumer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::meter::{Meter, Window};
use crate::receive::Watch;
use crate::stamp::Stamp;

/// Times of calls that no delivery has answered yet, shared by producers and consumers. As large as what is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commits(Arc<Mutex<HashMap<Stamp, Instant>>>);

impl Commits {
    /// Commit is called now for the transaction that begins with this message.
    pub(crate) fn called(&self, stamp: Stamp, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stamp, now);
    }

    fn take(&self, stamp: Stamp) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&stamp)
    }
}

/// Measures from the call of commit to the message in the consumer's hand, and nacks some at their first attempt.
pub(crate) struct Arrivals {
    commits: Commits,
    meter: Mutex<Meter>,
    nack_percent: u64,
    nack_delay: Duration,
}

impl Arrivals {
    pub(crate) fn new(commits: Commits, window: Window, nack_percent: u8, nack_delay: Duration) -> Self {
        Self {
            commits,
            meter: Mutex::new(Meter::new(window)),
            nack_percent: u64::from(nack_percent),
            nack_delay,
        }
    }

    /// What was measured.
    pub(crate) fn take_meter(&self, window: Window) -> Meter {
        std::mem::replace(&mut self.meter.lock().unwrap_or_else(PoisonError::into_inner), Meter::new(window))
    }
}

impl Watch for Arrivals {
    fn received(&self, stamp: Stamp, now: Instant) {
        if let Some(called) = self.commits.take(stamp) {
            self.meter.lock().unwrap_or_else(PoisonError::into_inner).took(called, now);
        }
    }

    fn nack_after(&self, stamp: Stamp, attempt: u32, _now: Instant) -> Option<Duration> {
        let is_chosen = attempt == 1 && stamp.number % 100 < self.nack_percent;
        // Its time is no latency of the broker: it was sent back on purpose.
        is_chosen.then(|| self.commits.take(stamp)).map(|_| self.nack_delay)
    }
}
