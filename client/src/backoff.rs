//! How long to wait before the next attempt to reach the broker: jittered, exponential, without an end.

use std::time::Duration;

/// Delays that double from `shortest` to `longest`, each drawn from the upper half of its step, so that many clients
/// that lost the same broker do not return in the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    step: Duration,
    chance: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration, chance: fastrand::Rng) -> Self {
        Self { shortest, longest: longest.max(shortest), step: shortest, chance }
    }

    /// The wait before the next attempt; the one after it is twice as long.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.jittered(self.step);
        self.step = (self.step * 2).min(self.longest);
        delay
    }

    /// Between a half of `delay` and all of it.
    pub(crate) fn jittered(&mut self, delay: Duration) -> Duration {
        delay.mul_f64(0.5 + self.chance.f64() / 2.0)
    }

    /// At least `delay`, at most a half more: for a wait that the broker asked for.
    pub(crate) fn no_earlier_than(&mut self, delay: Duration) -> Duration {
        delay.mul_f64(1.0 + self.chance.f64() / 2.0)
    }

    /// The broker was reached and stayed: begin again with the shortest delay.
    pub(crate) fn reset(&mut self) {
        self.step = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30), fastrand::Rng::with_seed(1))
    }

    #[test]
    fn delays_double_up_to_the_longest_and_never_exceed_it() {
        let mut backoff = backoff();
        let mut step = Duration::from_millis(100);
        for _ in 0..40 {
            let delay = backoff.next_delay();
            assert!(delay >= step / 2 && delay <= step, "{delay:?} for a step of {step:?}");
            step = (step * 2).min(Duration::from_secs(30));
        }
        assert_eq!(step, Duration::from_secs(30));
    }

    #[test]
    fn a_reset_begins_with_the_shortest_delay() {
        let mut backoff = backoff();
        for _ in 0..10 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn a_wait_the_broker_asked_for_is_never_cut_short() {
        let mut backoff = backoff();
        for _ in 0..100 {
            assert!(backoff.no_earlier_than(Duration::from_secs(1)) >= Duration::from_secs(1));
        }
    }
}
