//! The one file of this crate that reads the clock and draws chance.

#![allow(clippy::disallowed_methods)] // This is the one file that may.

use std::time::{Instant, SystemTime};

/// The monotonic time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Eight random letters, for names that no other run has.
pub(crate) fn suffix() -> String {
    std::iter::repeat_with(fastrand::lowercase).take(8).collect()
}

/// A body of random bytes, so that nothing on the way can compress it.
pub fn random_body(bytes: usize) -> Vec<u8> {
    let mut body = vec![0; bytes];
    fastrand::fill(&mut body);
    body
}

/// The same moment on both clocks.
pub(crate) fn both() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}
