//! What waits for the engine: two bounded lanes, filled from any task, emptied by the engine's thread a turn at a time.
//! While one turn is being flushed the next one gathers here: group commit falls out.
//!
//! What consumers say (settlements, credit) has a lane of its own: behind all that producers push, a broker that is asked for
//! more than it can do would stop to drain, and that is what it needs. Each lane keeps its order. Nothing that overtakes could
//! matter to what it overtakes: it speaks of leases that are out already, and whoever sends it has the answer to all it said
//! before in the other lane (its hello), or says nothing after it there but that it ends.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use escrow_storage::ReadError;
use tokio::sync::Notify;

use crate::dispatch::ReplyTo;
use crate::engine::Input;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLimits {
    /// Inputs of each lane. Default 32,768.
    pub inputs_max: usize,
    /// Bytes of message records. Default 32 MiB. A single input is accepted by an empty inbox whatever its size.
    pub bytes_max: usize,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { inputs_max: 32_768, bytes_max: 32 * 1024 * 1024 }
    }
}

/// Whoever was told to come back later is heard again when no more waits than one of so many parts of what may.
const RELIEVED_PART: usize = 2;

/// What consumers say takes at most so many percent of a turn while other inputs wait.
const CONSUMERS_PERCENT: usize = 75;

/// Room kept for what must not be refused (sessions that end, credit, settlements), inputs.
const RESERVE_INPUTS: usize = 1_024;

/// An input under way to the engine.
#[derive(Debug)]
pub(super) struct Envelope {
    /// What happened.
    pub input: Input,
    /// Who wants to know what became of it.
    pub reply_to: ReplyTo,
    /// When it was put in, microseconds of the broker's clock.
    pub queued_at_us: u64,
}

impl Envelope {
    /// Bytes of message records in it.
    fn bytes(&self) -> usize {
        match &self.input {
            Input::Publish(message) => message.record.len(),
            Input::SendHalf(half) => half.messages.iter().map(|message| message.record.len()).sum(),
            _ => 0,
        }
    }

    /// Whether it is what a consumer says of what it has been given, or is ready to be given.
    fn is_of_consumers(&self) -> bool {
        matches!(self.input, Input::Settle(_) | Input::Credit(_))
    }
}

/// Why an input was not taken in.
#[derive(Debug)]
pub enum NotTaken {
    /// As much waits as may.
    Full,
    /// The engine stops or has stopped.
    Closed,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What consumers say.
    of_consumers: VecDeque<Envelope>,
    /// All else.
    others: VecDeque<Envelope>,
    /// Bytes of message records in them.
    bytes: usize,
    closed: bool,
    /// Why it was closed, if not in good order: then what waits is void.
    failed: Option<ReadError>,
}

impl Waiting {
    fn lane(&mut self, envelope: &Envelope) -> &mut VecDeque<Envelope> {
        if envelope.is_of_consumers() { &mut self.of_consumers } else { &mut self.others }
    }

    fn is_empty(&self) -> bool {
        self.of_consumers.is_empty() && self.others.is_empty()
    }

    /// The next turn: at most `inputs_max` and about `bytes_max`, at least one if there is one.
    fn take(&mut self, inputs_max: usize, bytes_max: usize) -> Vec<Envelope> {
        let for_consumers =
            (inputs_max * CONSUMERS_PERCENT / 100).max(inputs_max.saturating_sub(self.others.len()));
        let of_consumers = self.of_consumers.len().min(for_consumers);
        let (mut others, mut bytes) = (0, 0);
        for envelope in self.others.iter().take(inputs_max - of_consumers) {
            if of_consumers + others > 0 && bytes + envelope.bytes() > bytes_max {
                break;
            }
            bytes += envelope.bytes();
            others += 1;
        }
        self.bytes -= bytes;
        let mut taken = Vec::with_capacity(of_consumers + others);
        taken.extend(self.of_consumers.drain(..of_consumers));
        taken.extend(self.others.drain(..others));
        taken
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    limits: InboxLimits,
    waiting: Mutex<Waiting>,
    /// For the engine's thread: something waits, or no more will come.
    filled: Condvar,
    /// For tasks: there is room again.
    emptied: Notify,
}

impl Inbox {
    pub(super) fn new(limits: InboxLimits) -> Self {
        Self { limits, waiting: Mutex::default(), filled: Condvar::new(), emptied: Notify::new() }
    }

    /// Puts in as many of `envelopes` as there is room for, in order; hands back the rest, and why.
    pub(super) fn put(&self, envelopes: Vec<Envelope>) -> Result<(), (Vec<Envelope>, NotTaken)> {
        self.put_within(envelopes, self.limits.inputs_max)
    }

    fn put_within(
        &self,
        envelopes: Vec<Envelope>,
        inputs_max: usize,
    ) -> Result<(), (Vec<Envelope>, NotTaken)> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err((envelopes, NotTaken::Closed));
        }
        let mut envelopes = envelopes.into_iter();
        while let Some(envelope) = envelopes.next() {
            let bytes = envelope.bytes();
            let fits = waiting.bytes == 0 || waiting.bytes + bytes <= self.limits.bytes_max;
            if waiting.lane(&envelope).len() >= inputs_max || (bytes > 0 && !fits) {
                let rest = std::iter::once(envelope).chain(envelopes).collect();
                drop(waiting);
                self.filled.notify_one();
                return Err((rest, NotTaken::Full));
            }
            waiting.bytes += bytes;
            waiting.lane(&envelope).push_back(envelope);
        }
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Puts all of `envelopes` in, in order, as there is room, the reserve included; `false` if the engine stops. Not
    /// cancel-safe: dropped early, some of them are lost.
    pub(super) async fn put_when_room(&self, mut envelopes: Vec<Envelope>) -> bool {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Listens before it looks: room made in between is not missed.
            emptied.as_mut().enable();
            match self.put_within(envelopes, self.limits.inputs_max + RESERVE_INPUTS) {
                Ok(()) => return true,
                Err((_, NotTaken::Closed)) => return false,
                Err((rest, NotTaken::Full)) => envelopes = rest,
            }
            emptied.await;
        }
    }

    /// Waits until there is room again, and not only for one: until half of what may wait is gone, or no more is taken in.
    /// Cancel-safe.
    pub(super) async fn relieved(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Listens before it looks: room made in between is not missed.
            emptied.as_mut().enable();
            if self.is_relieved() {
                return;
            }
            emptied.await;
        }
    }

    fn is_relieved(&self) -> bool {
        let waiting = self.lock();
        let has_room = waiting.others.len() <= self.limits.inputs_max / RELIEVED_PART
            && waiting.bytes <= self.limits.bytes_max / RELIEVED_PART;
        has_room || waiting.closed
    }

    /// When what waits longest of all that is not from consumers was put in, microseconds of the broker's clock.
    pub(super) fn oldest_at_us(&self) -> Option<u64> {
        self.lock().others.front().map(|envelope| envelope.queued_at_us)
    }

    /// What waits, at most `inputs_max` and about `bytes_max`. Waits for the first until `wait_ms` have passed (`None`:
    /// as long as it takes). `None`: nothing waits and nothing more will come.
    ///
    /// # Errors
    /// The store failed: stop.
    pub(super) fn take(
        &self,
        inputs_max: usize,
        bytes_max: usize,
        wait_ms: Option<u64>,
    ) -> Result<Option<Vec<Envelope>>, ReadError> {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| waiting.is_empty() && !waiting.closed;
        let mut waiting = match wait_ms.map(Duration::from_millis) {
            None => self.filled.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => {
                let waited = self.filled.wait_timeout_while(waiting, wait, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if let Some(error) = &waiting.failed {
            return Err(error.clone());
        }
        if waiting.is_empty() && waiting.closed {
            return Ok(None);
        }
        let taken = waiting.take(inputs_max, bytes_max);
        drop(waiting);
        self.emptied.notify_waiters();
        Ok(Some(taken))
    }

    /// Lets `pause_ms` pass, or less if the inbox is closed.
    pub(super) fn pause(&self, pause_ms: u64) {
        let pause = Duration::from_millis(pause_ms);
        let waited = self.filled.wait_timeout_while(self.lock(), pause, |waiting| !waiting.closed);
        drop(waited);
    }

    /// Takes no more in, and gives no more out: the store failed.
    pub(super) fn fail(&self, error: ReadError) {
        self.lock().failed.get_or_insert(error);
        self.close();
    }

    /// Takes no more in. What waits may still be taken out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_waiters();
    }

    /// Takes no more in, and forgets what waits, unanswered; how many inputs that were.
    pub(super) fn abandon(&self) -> usize {
        let mut waiting = self.lock();
        let abandoned = waiting.of_consumers.len() + waiting.others.len();
        waiting.of_consumers.clear();
        waiting.others.clear();
        waiting.bytes = 0;
        drop(waiting);
        self.close();
        abandoned
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Credit, Inspect, SessionId};

    fn envelope(session: u64) -> Envelope {
        let input = Input::SessionClosed(SessionId(session));
        Envelope { input, reply_to: ReplyTo::Nobody, queued_at_us: 0 }
    }

    fn inbox(inputs_max: usize) -> Inbox {
        Inbox::new(InboxLimits { inputs_max, ..InboxLimits::default() })
    }

    #[test]
    fn what_does_not_fit_is_handed_back_in_order() {
        let inbox = inbox(2);
        let (rest, why) = inbox.put((1..=4).map(envelope).collect()).unwrap_err();
        assert!(matches!(why, NotTaken::Full));
        assert!(matches!(rest[0].input, Input::SessionClosed(SessionId(3))));
        assert_eq!((rest.len(), inbox.take(10, usize::MAX, None).unwrap().unwrap().len()), (2, 2));
    }

    #[tokio::test]
    async fn relief_is_half_of_the_room_or_the_end() {
        use futures::FutureExt as _;
        let inbox = inbox(4);
        inbox.put((1..=4).map(envelope).collect()).unwrap();
        let mut relieved = std::pin::pin!(inbox.relieved());
        assert!(relieved.as_mut().now_or_never().is_none());
        assert_eq!(inbox.take(1, usize::MAX, None).unwrap().unwrap().len(), 1);
        assert!(relieved.as_mut().now_or_never().is_none(), "one is gone, and three of four wait");
        assert_eq!(inbox.take(1, usize::MAX, None).unwrap().unwrap().len(), 1);
        assert!(relieved.as_mut().now_or_never().is_some());
        inbox.put((5..=6).map(envelope).collect()).unwrap();
        let mut closed = std::pin::pin!(inbox.relieved());
        assert!(closed.as_mut().now_or_never().is_none());
        inbox.close();
        assert!(closed.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_closed_inbox_is_emptied_and_then_ends() {
        let inbox = inbox(2);
        inbox.put(vec![envelope(1)]).unwrap();
        inbox.close();
        assert!(matches!(inbox.put(vec![envelope(2)]), Err((_, NotTaken::Closed))));
        assert_eq!(inbox.take(10, usize::MAX, None).unwrap().unwrap().len(), 1);
        assert!(inbox.take(10, usize::MAX, None).unwrap().is_none());
    }

    #[test]
    fn an_abandoned_inbox_forgets_what_waits_and_ends() {
        let inbox = inbox(2);
        inbox.put(vec![envelope(1), envelope(2)]).unwrap();
        assert_eq!(inbox.abandon(), 2);
        assert!(inbox.take(10, usize::MAX, None).unwrap().is_none());
        assert!(matches!(inbox.put(vec![envelope(3)]), Err((_, NotTaken::Closed))));
    }

    #[test]
    fn a_failed_inbox_gives_nothing_out() {
        let inbox = inbox(2);
        inbox.put(vec![envelope(1)]).unwrap();
        inbox.fail(ReadError::Failed("input/output error".to_owned()));
        assert!(inbox.take(10, usize::MAX, None).is_err());
        assert!(matches!(inbox.put(vec![envelope(2)]), Err((_, NotTaken::Closed))));
    }

    fn credit() -> Envelope {
        let input = Input::Credit(Credit { session: SessionId(9), messages: 1, bytes: 1 });
        Envelope { input, reply_to: ReplyTo::Nobody, queued_at_us: 0 }
    }

    /// What of a turn is from consumers, and what not.
    fn turn(inbox: &Inbox, inputs_max: usize) -> (usize, usize) {
        let taken = inbox.take(inputs_max, usize::MAX, Some(0)).unwrap().unwrap();
        let of_consumers = taken.iter().filter(|envelope| envelope.is_of_consumers()).count();
        assert!(taken[..of_consumers].iter().all(Envelope::is_of_consumers), "they come first");
        (of_consumers, taken.len() - of_consumers)
    }

    #[test]
    fn what_consumers_say_does_not_wait_behind_a_flood_and_a_flood_of_it_leaves_room_to_others() {
        let inbox = inbox(100);
        inbox.put((0..100).map(envelope).collect()).unwrap();
        inbox.put((0..10).map(|_| credit()).collect()).unwrap();
        assert_eq!(turn(&inbox, 60), (10, 50), "although the other lane is full");
        for _ in 0..2 {
            inbox.put((0..75).map(|_| credit()).collect()).unwrap();
            assert_eq!(turn(&inbox, 100), (75, 25));
        }
        inbox.put((0..100).map(|_| credit()).collect()).unwrap();
        assert_eq!(turn(&inbox, 100), (100, 0), "all of a turn is theirs when nothing else waits");
    }

    #[test]
    fn waiting_ends_with_the_time_given() {
        assert!(inbox(2).take(10, usize::MAX, Some(0)).unwrap().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_must_not_be_refused_waits_for_room() {
        let inbox = std::sync::Arc::new(inbox(0));
        for session in 0..RESERVE_INPUTS as u64 {
            assert!(inbox.put_when_room(vec![envelope(session)]).await);
        }
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.put_when_room(vec![envelope(0)]).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        inbox.take(1, usize::MAX, None).unwrap().unwrap();
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn inspections_weigh_nothing() {
        let input = Input::Inspect(Inspect::Status);
        assert_eq!(Envelope { input, reply_to: ReplyTo::Nobody, queued_at_us: 0 }.bytes(), 0);
    }
}
