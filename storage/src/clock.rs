//! The only place of this crate that reads a clock, for three things that are not decisions about stored data: how long
//! an append took, how long ago free space was looked at, and how long a commit may be delayed.
//!
//! Must never give a time that is stored.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Now, on the clock that only runs forward.
#[allow(clippy::disallowed_methods)] // This file is the crate's clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits on `changed` until `done` says so, at most for `limit`. A condition is awaited, never time alone.
pub(crate) fn wait_until<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Duration,
    mut done: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    let waited = changed.wait_timeout_while(guard, limit, |state| !done(state));
    waited.unwrap_or_else(PoisonError::into_inner).0
}
