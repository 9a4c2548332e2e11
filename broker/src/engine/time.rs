//! Time as a value. The engine reads no clock: whoever calls it says what time it is.

use std::ops::Add;

/// The two times of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Unix milliseconds: for what is stored (checks, retries, schedules, ages). May jump.
    pub unix_ms: u64,
    /// Milliseconds since some moment of this process: for leases and time-outs. Never goes back.
    pub mono_ms: u64,
}

impl Add<u64> for Now {
    type Output = Self;

    /// The moment `ms` milliseconds later.
    fn add(self, ms: u64) -> Self {
        Self { unix_ms: self.unix_ms + ms, mono_ms: self.mono_ms + ms }
    }
}
