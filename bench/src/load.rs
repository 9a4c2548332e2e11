//! Drives operations: as many at once as are to be outstanding (closed loop), or at the times a pacer says (open loop).

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::clock;
use crate::meter::{Live, Meter, Window};
use crate::stamp::{Stamp, Stamps};

/// What became of the messages of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The broker said that they are visible.
    Committed,
    /// The broker said that they never will be.
    RolledBack,
    /// Nobody knows.
    Unknown,
    /// They were refused.
    Refused,
}

/// An operation that has ended.
pub(crate) struct Performed {
    pub(crate) fate: Fate,
    pub(crate) result: Result<(), escrow::Error>,
}

/// Something that can be done again and again.
pub(crate) trait Load: Send + Sync + 'static {
    /// Which producer it is, for the stamps.
    fn producer(&self) -> u64;

    /// How many messages each operation has.
    fn messages(&self) -> u64;

    /// Does it once, with the messages numbered from `first_message`, in that place of the outstanding ones.
    fn perform(&self, first_message: u64, place: usize) -> impl Future<Output = Performed> + Send;
}

/// When operations begin.
pub(crate) enum Loop {
    /// As soon as an earlier one has ended, until the window ends.
    Closed { outstanding: usize },
    /// At these times; no more at once than `outstanding_max`, then they begin late and it shows in their latency.
    Open { times: mpsc::Receiver<Instant>, outstanding_max: usize },
    /// As [`Closed`](Self::Closed), this many in all.
    Count { outstanding: usize, operations: u64 },
}

/// What one worker did.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) meter: Meter,
    pub(crate) fates: Fates,
}

/// The messages sent, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    pub(crate) committed: Stamps,
    pub(crate) rolled_back: Stamps,
    pub(crate) unknown: Stamps,
}

impl Fates {
    fn add(&mut self, fate: Fate, stamp: Stamp) {
        match fate {
            Fate::Committed => self.committed.add(stamp),
            Fate::RolledBack => self.rolled_back.add(stamp),
            Fate::Unknown => self.unknown.add(stamp),
            Fate::Refused => false,
        };
    }

    /// Those of the messages whose numbers are `wanted`.
    pub(crate) fn only(&self, wanted: impl Fn(u64) -> bool) -> Self {
        Self {
            committed: self.committed.only(&wanted),
            rolled_back: self.rolled_back.only(&wanted),
            unknown: self.unknown.only(&wanted),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.committed.merge(other.committed);
        self.rolled_back.merge(other.rolled_back);
        self.unknown.merge(other.unknown);
    }
}

/// Drives `load` until its loop ends and everything begun has ended; its messages are numbered from `first_message`.
pub(crate) async fn drive<L: Load>(
    load: Arc<L>,
    first_message: u64,
    pace: Loop,
    window: Window,
    live: Arc<Live>,
) -> Driven {
    let mut worker = Worker {
        load: &*load,
        next_message: first_message,
        free: Vec::new(),
        places: 0,
        until: window.until,
        live,
        meter: Meter::new(window),
        fates: Fates::default(),
    };
    match pace {
        Loop::Closed { outstanding } => worker.closed(outstanding, u64::MAX).await,
        Loop::Count { outstanding, operations } => worker.closed(outstanding, operations).await,
        Loop::Open { times, outstanding_max } => worker.open(times, outstanding_max).await,
    }
    Driven { meter: worker.meter, fates: worker.fates }
}

struct Worker<'a, L> {
    load: &'a L,
    next_message: u64,
    /// Places of the outstanding operations that nobody has. A place is an ordering key: so no key is sent twice at once.
    free: Vec<usize>,
    places: usize,
    until: Instant,
    live: Arc<Live>,
    meter: Meter,
    fates: Fates,
}

/// An operation and when it was meant to begin.
struct Ended {
    first_message: u64,
    place: usize,
    intended: Instant,
    performed: Performed,
}

impl<'a, L: Load> Worker<'a, L> {
    async fn closed(&mut self, outstanding: usize, operations: u64) {
        let mut running = FuturesUnordered::new();
        let mut begun = 0;
        while begun < operations && running.len() < outstanding {
            running.push(self.begin(clock::now()));
            begun += 1;
        }
        while let Some(ended) = running.next().await {
            let now = clock::now();
            self.end(ended, now);
            if begun < operations && now < self.until {
                running.push(self.begin(now));
                begun += 1;
            }
        }
    }

    async fn open(&mut self, mut times: mpsc::Receiver<Instant>, outstanding_max: usize) {
        let mut running = FuturesUnordered::new();
        let mut more = true;
        while more || !running.is_empty() {
            tokio::select! {
                intended = times.recv(), if more && running.len() < outstanding_max => match intended {
                    Some(intended) => running.push(self.begin(intended)),
                    None => more = false,
                },
                Some(ended) = running.next() => self.end(ended, clock::now()),
            }
        }
    }

    fn begin(&mut self, intended: Instant) -> impl Future<Output = Ended> + use<'a, L> {
        let (load, first_message, place) = (self.load, self.next_message, self.place());
        self.next_message += load.messages();
        async move {
            Ended { first_message, place, intended, performed: load.perform(first_message, place).await }
        }
    }

    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        })
    }

    fn end(&mut self, ended: Ended, now: Instant) {
        let Ended { first_message, place, intended, performed } = ended;
        self.free.push(place);
        if performed.result.is_ok() {
            self.live.one_more();
        }
        self.meter.record(intended, now, performed.result.as_ref().copied());
        for number in first_message..first_message + self.load.messages() {
            self.fates.add(performed.fate, Stamp { producer: self.load.producer(), number });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::pacer::paces;

    /// A broker that costs nothing: what the generator measures of itself.
    #[derive(Default)]
    struct Nothing {
        running: AtomicUsize,
        most: Arc<AtomicUsize>,
        place_max: Arc<AtomicUsize>,
    }

    impl Load for Nothing {
        fn producer(&self) -> u64 {
            0
        }

        fn messages(&self) -> u64 {
            2
        }

        async fn perform(&self, _first_message: u64, place: usize) -> Performed {
            self.place_max.fetch_max(place, Ordering::SeqCst);
            self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            Performed { fate: Fate::Committed, result: Ok(()) }
        }
    }

    fn window(time: Duration) -> Window {
        let from = clock::now();
        Window::new(from, from + time)
    }

    #[tokio::test]
    async fn a_closed_loop_keeps_exactly_that_many_outstanding() {
        let load = Nothing::default();
        let (most, place_max) = (Arc::clone(&load.most), Arc::clone(&load.place_max));
        let window = window(Duration::from_secs(60));
        let pace = Loop::Count { outstanding: 7, operations: 100 };
        let driven = drive(Arc::new(load), 0, pace, window, Arc::default()).await;
        assert_eq!((most.load(Ordering::SeqCst), place_max.load(Ordering::SeqCst)), (7, 6));
        assert_eq!((driven.meter.operations, driven.fates.committed.count()), (100, 200));
    }

    #[tokio::test]
    async fn an_open_loop_does_what_the_pacer_says_and_counts_from_the_intended_time() {
        let window = window(Duration::from_millis(200));
        let times = paces(5_000.0, window.from, window.until).expect("a thread");
        let far = Window::new(window.from, window.from + Duration::from_secs(60));
        let pace = Loop::Open { times, outstanding_max: 100 };
        let driven = drive(Arc::new(Nothing::default()), 0, pace, far, Arc::default()).await;
        assert_eq!(driven.meter.operations, 1000);
        assert_eq!(driven.meter.histogram.len(), 1000);
    }
}
