//! Receives what a run sent, settles it, and remembers what came.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use escrow::{Client, Delivery};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::clock;
use crate::error::Error;
use crate::meter::{Live, Meter, Window};
use crate::options::Options;
use crate::order::Order;
use crate::stamp::{Stamp, Stamps};

/// When it is known how much is to come and nothing came for so long, nothing more will: longer than a session needs
/// to reconnect.
const QUIET_AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How often a consumer looks whether that is so.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) stamps: Stamps,
    pub(crate) duplicates: u64,
    /// Nacked at the first attempt, so that it had to come again.
    pub(crate) nacked: u64,
    pub(crate) order: Order,
}

/// Looks at each delivery that is new, at the moment it is handed out.
pub(crate) trait Watch: Send + Sync + 'static {
    /// It was received for the first time, at `now`, and is acked.
    fn received(&self, stamp: Stamp, now: Instant);

    /// What to do with a delivery of that attempt, when it comes: `Some` of a delay nacks it.
    fn nack_after(&self, stamp: Stamp, attempt: u32, now: Instant) -> Option<Duration> {
        let _ = (stamp, attempt, now);
        None
    }
}

/// Looks at nothing.
pub(crate) struct Blind;

impl Watch for Blind {
    fn received(&self, _stamp: Stamp, _now: Instant) {}
}

/// Consumers of one group that share the work.
pub(crate) struct Drain<W> {
    /// How many different messages will come; not known before [`expect`](Self::expect).
    expected: AtomicU64,
    outstanding: usize,
    window: Window,
    live: Arc<Live>,
    state: Mutex<State>,
    enough: watch::Sender<bool>,
    watch: W,
}

struct State {
    received: Received,
    last_at: Instant,
}

/// Not known yet.
const UNKNOWN: u64 = u64::MAX;

impl<W: Watch> Drain<W> {
    pub(crate) fn new(options: &Options, window: Window, live: Arc<Live>, watch: W) -> Arc<Self> {
        Arc::new(Self {
            expected: AtomicU64::new(UNKNOWN),
            outstanding: options.outstanding.div_ceil(options.consumers),
            window,
            live,
            state: Mutex::new(State { received: Received::default(), last_at: clock::now() }),
            enough: watch::Sender::new(false),
            watch,
        })
    }

    /// Says how many different messages will have come in the end: then it ends when they are all acked, or when
    /// nothing comes any more.
    pub(crate) fn expect(&self, messages: u64) {
        let mut state = self.state();
        // What came last came when nobody waited for the end.
        state.last_at = clock::now();
        self.expected.store(messages, Ordering::SeqCst);
        self.enough.send_replace(state.received.stamps.count() >= messages);
    }

    /// All that came so far.
    pub(crate) fn take_received(&self) -> Received {
        std::mem::take(&mut self.state().received)
    }

    pub(crate) fn watch(&self) -> &W {
        &self.watch
    }

    /// How many different messages have come.
    pub(crate) fn count(&self) -> u64 {
        self.state().received.stamps.count()
    }

    /// Opens the consumers of `group`, and then receives and settles in the background until everything expected came.
    pub(crate) async fn start(
        self: &Arc<Self>,
        url: &str,
        group: &str,
        options: &Options,
    ) -> Result<Draining<W>, Error> {
        let mut consumers = JoinSet::new();
        for _ in 0..options.consumers {
            let client = Client::connect(url).await.map_err(Error::broker("connect a consumer"))?;
            let subscription = client.subscribe(group).prefetch(options.prefetch);
            let deliveries = subscription.open().await.map_err(Error::broker("open a consumer"))?;
            consumers.spawn(Arc::clone(self).consume(deliveries));
        }
        Ok(Draining { drain: Arc::clone(self), consumers })
    }

    async fn consume(self: Arc<Self>, mut deliveries: escrow::Deliveries) -> Result<Meter, Error> {
        let (mut meter, mut acks) = (Meter::new(self.window), FuturesUnordered::new());
        let mut enough = self.enough.subscribe();
        let mut looks = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                next = deliveries.next(), if acks.len() < self.outstanding => match next {
                    Some(Ok(delivery)) => acks.push(self.take(delivery)),
                    Some(Err(error)) => return Err(Error::broker("go on consuming")(error)),
                    None => break,
                },
                Some(ended) = acks.next() => meter.settled(ended),
                _ = enough.wait_for(|enough| *enough) => break,
                _ = looks.tick() => if self.is_over() { break },
            }
        }
        while let Some(ended) = acks.next().await {
            meter.settled(ended);
        }
        deliveries.close().await;
        Ok(meter)
    }

    fn is_over(&self) -> bool {
        let quiet = clock::now().saturating_duration_since(self.state().last_at);
        self.expected.load(Ordering::SeqCst) != UNKNOWN && quiet >= QUIET_AFTER
    }

    /// Remembers it and settles it.
    fn take(&self, delivery: Delivery) -> impl Future<Output = Settled> + use<W> {
        let begun = clock::now();
        let nack_after = self.remember(&delivery, begun);
        async move {
            match nack_after {
                None => Settled { begun, acked: true, result: delivery.ack().await },
                Some(delay) => Settled {
                    begun,
                    acked: false,
                    result: delivery.nack().after(delay).reason("the run wants it again").await,
                },
            }
        }
    }

    /// `Some`: it is to be nacked.
    fn remember(&self, delivery: &Delivery, now: Instant) -> Option<Duration> {
        // What has no stamp is nothing of this run.
        let stamp = Stamp::read(delivery.body())?;
        let mut state = self.state();
        state.last_at = now;
        if let Some(delay) = self.watch.nack_after(stamp, delivery.attempt(), now) {
            state.received.nacked += 1;
            return Some(delay);
        }
        match state.received.stamps.add(stamp) {
            true => {
                state.received.order.received(delivery.topic(), delivery.ordering_key(), stamp);
                self.live.one_more();
                self.watch.received(stamp, now);
            }
            false => state.received.duplicates += 1,
        }
        if state.received.stamps.count() >= self.expected.load(Ordering::SeqCst) {
            self.enough.send_replace(true);
        }
        None
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A settlement that was answered.
pub(crate) struct Settled {
    begun: Instant,
    acked: bool,
    result: Result<(), escrow::Error>,
}

impl Meter {
    fn settled(&mut self, ended: Settled) {
        if ended.acked || ended.result.is_err() {
            self.record(ended.begun, clock::now(), ended.result.as_ref().copied());
        }
    }
}

/// Consumers at work.
pub(crate) struct Draining<W> {
    drain: Arc<Drain<W>>,
    consumers: JoinSet<Result<Meter, Error>>,
}

impl<W: Watch> Draining<W> {
    /// Waits until everything expected was acked, or nothing comes any more. What you get: the acks.
    pub(crate) async fn end(mut self) -> Result<Meter, Error> {
        let mut meter = Meter::new(self.drain.window);
        while let Some(consumer) = self.consumers.join_next().await {
            meter.merge(consumer??);
        }
        Ok(meter)
    }
}
