//! One timer for one task, set again only when it has to ring earlier.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at or before the time it was last set to: an alarm set later than it rings already stays, and rings once too
/// often. That is cheaper than to move the timer with every answered operation.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    set_to: Option<Instant>,
}

impl Alarm {
    /// Rings no later than `time`; `None`: needs not ring.
    pub(crate) fn set(&mut self, time: Option<Instant>) {
        let Some(time) = time else { return };
        if self.set_to.is_some_and(|set| set <= time) {
            return;
        }
        self.set_to = Some(time);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(time),
            None => self.sleep = Some(Box::pin(sleep_until(time))),
        }
    }

    /// Waits until it rings; for ever while it is not set. Cancel safe.
    pub(crate) async fn rings(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(sleep), Some(_)) = (&mut self.sleep, self.set_to) else { return Poll::Pending };
        let rung = sleep.as_mut().poll(cx);
        if rung.is_ready() {
            self.set_to = None;
        }
        rung
    }
}
