//! Receives what a run sent, acks it, and remembers what came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use escrow::{Client, Delivery};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::error::Error;
use crate::meter::{Live, Meter, Window};
use crate::options::Options;
use crate::site::Site;
use crate::stamp::{Stamp, Stamps};

/// When nothing came for so long, nothing more will: longer than a session needs to reconnect.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) stamps: Stamps,
    pub(crate) duplicates: u64,
}

/// What came, and how the acks went.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) received: Received,
    pub(crate) meter: Meter,
}

/// Consumers that share the work.
pub(crate) struct Drain {
    expected: u64,
    outstanding: usize,
    window: Window,
    live: Arc<Live>,
    received: Mutex<Received>,
    enough: watch::Sender<bool>,
}

impl Drain {
    /// Receives until `expected` different messages came and were acked, or nothing comes any more.
    pub(crate) async fn run(
        site: &Site,
        options: &Options,
        expected: u64,
        window: Window,
        live: Arc<Live>,
    ) -> Result<Drained, Error> {
        let drain = Arc::new(Self {
            expected,
            outstanding: options.outstanding.div_ceil(options.consumers),
            window,
            live,
            received: Mutex::default(),
            enough: watch::Sender::new(expected == 0),
        });
        let mut consumers = JoinSet::new();
        for _ in 0..options.consumers {
            let client = Client::connect(&options.url).await.map_err(Error::broker("connect a consumer"))?;
            let subscription = client.subscribe(&site.group).prefetch(options.prefetch);
            let deliveries = subscription.open().await.map_err(Error::broker("open a consumer"))?;
            consumers.spawn(Arc::clone(&drain).consume(deliveries));
        }
        let mut meter = Meter::new();
        while let Some(consumer) = consumers.join_next().await {
            meter.merge(consumer??);
        }
        let received = std::mem::take(&mut *drain.received.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Drained { received, meter })
    }

    async fn consume(self: Arc<Self>, mut deliveries: escrow::Deliveries) -> Result<Meter, Error> {
        let (mut meter, mut acks) = (Meter::new(), FuturesUnordered::new());
        let mut enough = self.enough.subscribe();
        loop {
            tokio::select! {
                next = timeout(QUIET_AFTER, deliveries.next()), if acks.len() < self.outstanding => match next {
                    Ok(Some(Ok(delivery))) => acks.push(self.take(delivery)),
                    Ok(Some(Err(error))) => return Err(Error::broker("go on consuming")(error)),
                    Ok(None) | Err(_) => break,
                },
                Some((begun, result)) = acks.next() => {
                    let result: Result<(), escrow::Error> = result;
                    meter.record(self.window, begun, clock::now(), result.as_ref().copied());
                }
                _ = enough.wait_for(|enough| *enough) => break,
            }
        }
        while let Some((begun, result)) = acks.next().await {
            meter.record(self.window, begun, clock::now(), result.as_ref().copied());
        }
        deliveries.close().await;
        Ok(meter)
    }

    /// Remembers it and acks it.
    fn take(
        &self,
        delivery: Delivery,
    ) -> impl Future<Output = (std::time::Instant, Result<(), escrow::Error>)> + use<> {
        if let Some(stamp) = Stamp::read(delivery.body()) {
            let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            match received.stamps.add(stamp) {
                true => self.live.one_more(),
                false => received.duplicates += 1,
            }
            if received.stamps.count() >= self.expected {
                self.enough.send_replace(true);
            }
        }
        let begun = clock::now();
        async move { (begun, delivery.ack().await) }
    }
}
