//! The one file of the crate that reads clocks and draws chance: everybody else is given values.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use escrow_protocol::MessageId;

use crate::engine::Now;

/// Tells the time. A clone tells the same.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[allow(clippy::disallowed_methods, reason = "this is the file that may")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        Now { unix_ms: unix_ms(), mono_ms: self.origin.elapsed().as_millis() as u64 }
    }

    /// Microseconds since the clock was started: for measuring how long things take.
    pub fn micros(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
fn unix_ms() -> u64 {
    // A clock before 1970 is a machine not yet set: everything is then due, nothing breaks.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Draws what must differ each time: seeds, and ids for messages that came without. A clone draws from the same.
#[derive(Debug, Clone)]
pub struct Chance {
    generator: Arc<Mutex<fastrand::Rng>>,
}

impl Chance {
    /// Chance that differs from process to process.
    #[allow(clippy::disallowed_methods, reason = "this is the file that may")]
    pub fn new() -> Self {
        Self { generator: Arc::new(Mutex::new(fastrand::Rng::new())) }
    }

    /// A seed.
    pub fn seed(&self) -> u64 {
        self.with(|generator| generator.u64(..))
    }

    /// An id for a message made at `unix_ms`.
    pub fn message_id(&self, unix_ms: u64) -> MessageId {
        let random = self.with(|generator| {
            let mut random = [0; 10];
            generator.fill(&mut random);
            random
        });
        MessageId::new(unix_ms, random)
    }

    /// A text that nobody can guess, from the system's own chance: what is drawn otherwise repeats a pattern that ids
    /// give away.
    #[allow(clippy::unused_self, reason = "chance is a value: who has none cannot draw")]
    pub fn secret(&self) -> String {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("a system that runs a broker has chance");
        random.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.generator.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}
