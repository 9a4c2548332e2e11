//! The runs: load for a time and then compare, or fill a backlog and consume it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use escrow::Client;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::clock;
use crate::error::Error;
use crate::load::{Driven, Fates, Loop, drive};
use crate::loads::{Open, Publisher, Transactor};
use crate::meter::{Live, Meter, Window};
use crate::options::{Options, Scenario};
use crate::pacer::paces;
use crate::progress::{Reporter, share_of_count, share_of_time};
use crate::readings::{Readings, Used};
use crate::receive::{Drain, Drained, Received};
use crate::report::{Latency, Phase, Progress, Report, Verification};
use crate::site::Site;

/// Longest time a count of operations may take; only so that a window has an end.
const NO_END: Duration = Duration::from_secs(24 * 3600);
/// Messages under way while a backlog is filled.
const FILLING_OUTSTANDING: usize = 1024;

/// Makes the run that `options` describe, telling `on_progress` four times a second how far it is.
///
/// The topic and group of the run are made before and removed after it, also if it fails; if the program is killed,
/// `bench-…` topics and groups stay behind.
///
/// # Errors
/// [`Error`] if the run could not be made. Operations that fail within it are counted in the report.
pub async fn run(options: Options, mut on_progress: impl FnMut(Progress) + Send) -> Result<Report, Error> {
    options.check()?;
    let client = Client::connect(&options.url).await.map_err(Error::broker("connect"))?;
    let site = Site::prepare(&client, &options).await?;
    let reporter = Reporter::new(&mut on_progress);
    let run = Run { options: &options, client: &client, site: &site, live: Arc::default(), reporter };
    let report = match options.scenario {
        Scenario::Publish => run.produce::<Publisher>().await,
        Scenario::Tx => run.produce::<Transactor>().await,
        Scenario::Consume => run.consume().await,
    };
    let cleared = site.clear(&client).await;
    let report = report?;
    cleared?;
    Ok(report)
}

struct Run<'a> {
    options: &'a Options,
    client: &'a Client,
    site: &'a Site,
    live: Arc<Live>,
    reporter: Reporter<'a>,
}

impl<'a> Run<'a> {
    /// Load for a time, then receive and compare.
    async fn produce<L: Open>(mut self) -> Result<Report, Error> {
        let loads: Vec<L> = open_loads(self.options, self.site).await?;
        let start = clock::now();
        let from = start + self.options.warm_up;
        let window = Window { from, until: from + self.options.duration };
        let mut workers = JoinSet::new();
        for load in loads {
            let pace = self.pace(start, window)?;
            workers.spawn(drive(load, pace, window, Arc::clone(&self.live)));
        }
        let used = self.measure(start, window).await?;
        let (meter, fates) = collect(workers).await?;
        let received = self.verify(&fates).await?;
        let verified = received.map(|received| compare(&fates, &received));
        Ok(self.report(self.options.duration.as_secs_f64(), meter, &used, verified))
    }

    /// A backlog, then consume it all.
    async fn consume(mut self) -> Result<Report, Error> {
        let fates = self.fill().await?;
        let expected = fates.committed.count();
        let before = Readings::take(self.client, self.options.broker_pid).await?;
        let drained = self.drain(Phase::Measuring, expected).await?;
        let after = Readings::take(self.client, self.options.broker_pid).await?;
        let used = before.until(&after);
        let verified = Some(compare(&fates, &drained.received));
        Ok(self.report(used.seconds, drained.meter, &used, verified))
    }

    /// Each producer's part of the loop.
    fn pace(&self, start: Instant, window: Window) -> Result<Loop, Error> {
        let outstanding = self.options.outstanding.div_ceil(self.options.producers);
        match self.options.rate {
            None => Ok(Loop::Closed { outstanding }),
            Some(rate) => Ok(Loop::Open {
                times: paces(rate / self.options.producers as f64, start, window.until)?,
                outstanding_max: outstanding.max(FILLING_OUTSTANDING),
            }),
        }
    }

    /// Reads the broker's numbers at both ends of the window.
    async fn measure(&mut self, start: Instant, window: Window) -> Result<Used, Error> {
        let warm_up = sleep_until(window.from.into());
        let done = share_of_time(start, window.from);
        self.reporter.during(Phase::WarmingUp, &self.live, done, warm_up).await;
        let before = Readings::take(self.client, self.options.broker_pid).await?;
        let measured = sleep_until(window.until.into());
        let done = share_of_time(window.from, window.until);
        self.reporter.during(Phase::Measuring, &self.live, done, measured).await;
        Ok(before.until(&Readings::take(self.client, self.options.broker_pid).await?))
    }

    async fn fill(&mut self) -> Result<Fates, Error> {
        let publisher = Publisher::open(0, self.client, self.site, self.options).await?;
        let now = clock::now();
        let window = Window { from: now, until: now + NO_END };
        let pace = Loop::Count { outstanding: FILLING_OUTSTANDING, operations: self.options.backlog };
        let filling = drive(publisher, pace, window, Arc::clone(&self.live));
        let done = share_of_count(self.options.backlog);
        let Driven { meter, fates } = self.reporter.during(Phase::Filling, &self.live, done, filling).await;
        match meter.first_error {
            Some(error) => Err(Error::Generator(format!("the backlog could not be filled: {error}"))),
            None => Ok(fates),
        }
    }

    async fn verify(&mut self, fates: &Fates) -> Result<Option<Received>, Error> {
        if !self.options.verify {
            return Ok(None);
        }
        let drained = self.drain(Phase::Verifying, fates.committed.count()).await?;
        Ok(Some(drained.received))
    }

    async fn drain(&mut self, phase: Phase, expected: u64) -> Result<Drained, Error> {
        let now = clock::now();
        let window = Window { from: now, until: now + NO_END };
        let draining = Drain::run(self.site, self.options, expected, window, Arc::clone(&self.live));
        self.reporter.during(phase, &self.live, share_of_count(expected), draining).await
    }

    fn report(&self, seconds: f64, meter: Meter, used: &Used, verified: Option<Verification>) -> Report {
        let per_second = meter.operations as f64 / seconds.max(f64::EPSILON);
        let messages = match self.options.scenario {
            Scenario::Tx => self.options.messages_per_transaction,
            Scenario::Publish | Scenario::Consume => 1,
        };
        Report {
            scenario: self.options.scenario,
            commit: self.options.commit.clone(),
            settings: self.options.clone(),
            seconds,
            operations: meter.operations,
            per_second,
            body_bytes_per_second: per_second * (messages * self.options.body_bytes) as f64,
            latency_us: Latency::of(&meter.histogram),
            errors: meter.errors,
            unknown_outcomes: meter.unknown_outcomes,
            first_error: meter.first_error,
            verified,
            broker: used.broker(meter.operations),
            store_syncs: used.store_syncs,
            device_flushes: used.device_flushes,
        }
    }
}

/// Each with a connection of its own.
async fn open_loads<L: Open>(options: &Options, site: &Site) -> Result<Vec<L>, Error> {
    let mut loads = Vec::new();
    for index in 0..options.producers {
        let client = Client::connect(&options.url).await.map_err(Error::broker("connect a producer"))?;
        loads.push(L::open(index as u64, &client, site, options).await?);
    }
    Ok(loads)
}

async fn collect(mut workers: JoinSet<Driven>) -> Result<(Meter, Fates), Error> {
    let (mut meter, mut fates) = (Meter::new(), Fates::default());
    while let Some(worker) = workers.join_next().await {
        let driven = worker?;
        meter.merge(driven.meter);
        fates.merge(driven.fates);
    }
    Ok((meter, fates))
}

fn compare(fates: &Fates, received: &Received) -> Verification {
    Verification {
        committed: fates.committed.count(),
        received: received.stamps.count(),
        missing: fates.committed.missing_in(&received.stamps),
        duplicates: received.duplicates,
        rolled_back_received: fates.rolled_back.shared_with(&received.stamps),
        unknown: fates.unknown.count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Stamp, Stamps};

    fn stamps(numbers: impl IntoIterator<Item = u64>) -> Stamps {
        let mut stamps = Stamps::default();
        numbers.into_iter().for_each(|number| {
            stamps.add(Stamp { producer: 0, number });
        });
        stamps
    }

    #[test]
    fn what_was_lost_or_wrongly_delivered_makes_a_run_unsound() {
        let fates = Fates { committed: stamps(0..10), rolled_back: stamps(10..12), unknown: stamps(12..13) };
        let sound = compare(&fates, &Received { stamps: stamps((0..10).chain(12..13)), duplicates: 3 });
        assert!(sound.is_sound() && sound.received == 11 && sound.unknown == 1, "{sound:?}");
        let lost = compare(&fates, &Received { stamps: stamps(1..10), duplicates: 0 });
        assert!(!lost.is_sound() && lost.missing == 1, "{lost:?}");
        let leaked = compare(&fates, &Received { stamps: stamps(0..11), duplicates: 0 });
        assert!(!leaked.is_sound() && leaked.rolled_back_received == 1, "{leaked:?}");
    }

    #[tokio::test]
    async fn a_run_can_be_spawned_and_fails_clearly_without_a_broker() {
        let options = Options::new(Scenario::Publish, "http://127.0.0.1:1");
        let run = tokio::spawn(run(options, |_progress| {}));
        let error = run.await.expect("no panic").expect_err("nobody listens there");
        assert!(error.to_string().contains("could not connect"), "{error}");
    }
}
