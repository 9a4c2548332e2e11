//! The clockwork of an open loop: says when each operation is meant to begin.
//!
//! tokio's timers have a grain of a millisecond, so a thread of its own parks until the next time, which the system
//! keeps to some tens of microseconds.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::clock;
use crate::error::Error;

/// Intended times that wait for the load loop. When they are more, the pacer waits; the times stay what they were, so
/// the delay shows in the latency.
const TIMES_WAITING_MAX: usize = 65_536;

/// The intended times of `rate` operations a second, from `start` until `end`.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn paces(rate: f64, start: Instant, end: Instant) -> Result<mpsc::Receiver<Instant>, Error> {
    let (sender, times) = mpsc::channel(TIMES_WAITING_MAX);
    thread::Builder::new()
        .name("bench-pacer".into())
        .spawn(move || pace(rate, start, end, &sender))
        .map_err(|error| Error::Generator(format!("no thread for the pacer: {error}")))?;
    Ok(times)
}

fn pace(rate: f64, start: Instant, end: Instant, sender: &mpsc::Sender<Instant>) {
    for number in 0_u64.. {
        let intended = intended_time(rate, start, number);
        if intended >= end {
            return;
        }
        wait_until(intended);
        if sender.blocking_send(intended).is_err() {
            return;
        }
    }
}

fn intended_time(rate: f64, start: Instant, number: u64) -> Instant {
    start + Duration::from_secs_f64(number as f64 / rate)
}

/// Parking may end early, so it is repeated.
fn wait_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(clock::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_operation_has_its_time_and_none_comes_early() {
        let start = clock::now();
        let mut times = paces(10_000.0, start, start + Duration::from_millis(100)).expect("a thread");
        let mut count = 0;
        while let Some(intended) = times.recv().await {
            assert!(clock::now() >= intended);
            assert_eq!(intended, intended_time(10_000.0, start, count));
            count += 1;
        }
        assert_eq!(count, 1000);
    }
}
