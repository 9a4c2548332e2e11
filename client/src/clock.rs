//! The one file of this crate that reads the clock and draws chance. Everything else is given both as values.

#![allow(clippy::disallowed_methods)] // This is the one file that may.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use escrow_protocol::MessageId;
use tokio::time::Instant;

/// The monotonic time, for deadlines and leases.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, Unix milliseconds, for ids and delivery times.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

/// A wall-clock time `delay` from now.
pub(crate) fn in_the_future(delay: Duration) -> SystemTime {
    SystemTime::now() + delay
}

/// A duration as whole milliseconds; one too long for 64 bits is the longest there is.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A generator of its own for one owner, seeded from the system's chance.
pub(crate) fn chance() -> fastrand::Rng {
    fastrand::Rng::new()
}

/// A fresh message id, version 7: the time now and 74 random bits.
pub(crate) fn message_id() -> MessageId {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    MessageId::new(unix_ms(), random)
}

/// A client id for a program that names none: `rust-` and 12 random letters.
pub(crate) fn client_id() -> String {
    let mut id = String::from("rust-");
    id.extend(std::iter::repeat_with(fastrand::lowercase).take(12));
    id
}
