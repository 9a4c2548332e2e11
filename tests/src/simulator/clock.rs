//! The fake clock: time moves when the agenda says so. The wall clock may jump; the other never goes back, and begins
//! anew with each process.

use escrow_broker::engine::Now;

/// Unix milliseconds at the start of every run.
const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;

/// Both clocks of the machine.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// Milliseconds since the run began: what the agenda is ordered by.
    elapsed_ms: u64,
    /// How far the wall clock was set forward or back in all.
    skew_ms: i64,
    /// The most that was.
    furthest_skew_ms: i64,
    /// When the current process began, on `elapsed_ms`.
    process_began_ms: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { elapsed_ms: 0, skew_ms: 0, furthest_skew_ms: 0, process_began_ms: 0 }
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }

    pub(super) fn now(&self) -> Now {
        Now {
            unix_ms: (BEGIN_UNIX_MS + self.elapsed_ms).saturating_add_signed(self.skew_ms),
            mono_ms: self.elapsed_ms - self.process_began_ms,
        }
    }

    /// Goes on to `elapsed_ms`; never back.
    pub(super) fn advance_to(&mut self, elapsed_ms: u64) {
        self.elapsed_ms = self.elapsed_ms.max(elapsed_ms);
    }

    /// Somebody sets the wall clock.
    pub(super) fn jump(&mut self, by_ms: i64) {
        self.skew_ms += by_ms;
        self.furthest_skew_ms = self.furthest_skew_ms.max(self.skew_ms);
    }

    /// How long it takes at most until the wall clock shows again what it showed before it was set back, milliseconds.
    pub(super) fn set_back_ms(&self) -> u64 {
        self.furthest_skew_ms.abs_diff(self.skew_ms)
    }

    /// How far the wall clock is from what it would be, milliseconds.
    pub(super) fn skew_ms(&self) -> i64 {
        self.skew_ms
    }

    /// A new process: its monotonic clock begins anew.
    pub(super) fn restart(&mut self) {
        self.process_began_ms = self.elapsed_ms;
    }
}
