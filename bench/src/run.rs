//! What all scenarios have in common: a broker, a site, loads for a time or a number, consumers, and a comparison of
//! what was sent with what came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use escrow::Client;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::clock;
use crate::details::Details;
use crate::error::Error;
use crate::load::{Driven, Fates, Load, Loop, drive};
use crate::loads::{Open, Publisher, Transactor};
use crate::meter::{Live, Meter, Window};
use crate::options::{Options, Scenario};
use crate::pacer::paces;
use crate::process::ProcessReading;
use crate::progress::{Reporter, share_of_count, share_of_time};
use crate::readings::{Readings, Used};
use crate::receive::{Blind, Drain, Draining, Received, Watch};
use crate::report::{CpuSeconds, Intervals, Latency, Phase, Progress, Report, RssBytes, Verification};
use crate::roofline::Roofline;
use crate::site::Site;
use crate::spawn::Broker;

/// Messages under way while a backlog is filled.
pub(crate) const FILLING_OUTSTANDING: usize = 1024;
/// A broker that uses less of a core than this over [`SETTLED_FOR`] has nothing left to do.
const SETTLED_CPU_SHARE: f64 = 0.03;
const SETTLED_FOR: Duration = Duration::from_millis(500);
/// How long a broker is waited for to have nothing left to do.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Makes the run that `options` describe, telling `on_progress` four times a second how far it is.
///
/// The topics and groups of the run are made before and removed after it, also if it fails; if the program is killed,
/// `bench-…` topics and groups stay behind. A broker of the run's own is gone afterwards, with its directory.
///
/// # Errors
/// [`Error`] if the run could not be made. Operations that fail within it are counted in the report.
pub async fn run(options: Options, on_progress: impl FnMut(Progress) + Send) -> Result<Report, Error> {
    options.check()?;
    let roofline = match options.roofline {
        true => Some(Roofline::of(&options).await?),
        false => None,
    };
    let broker = Broker::of(&options).await?;
    let mut report = run_on(broker, options, on_progress).await?;
    report.roofline = roofline.map(|roofline| roofline.compared_with(&report));
    Ok(report)
}

/// The same on that broker.
pub(crate) async fn run_on(
    broker: Broker,
    options: Options,
    mut on_progress: impl FnMut(Progress) + Send,
) -> Result<Report, Error> {
    let client = Client::connect(&broker.url).await.map_err(Error::broker("connect"))?;
    let site = Arc::new(Site::prepare(&client, &options, &broker).await?);
    let reporter = Reporter::new(&mut on_progress);
    let mut run = Run {
        options: &options,
        broker,
        client: client.clone(),
        site: Arc::clone(&site),
        live: Arc::default(),
        reporter,
    };
    let outcome = match options.scenario {
        Scenario::Publish => run.produce::<Publisher>().await,
        Scenario::Tx => run.produce::<Transactor>().await,
        Scenario::Consume => run.consume().await,
        Scenario::Steady | Scenario::E2e | Scenario::Soak => run.steady().await,
        Scenario::Backlog if options.curve => run.backlog_curve().await,
        Scenario::Backlog => run.backlog().await,
        Scenario::Undecided => run.undecided().await,
        Scenario::Restart => run.restart().await,
        Scenario::Idle => run.idle().await,
        Scenario::Scheduled => run.scheduled().await,
        Scenario::Retries => run.retries().await,
    };
    let cleared = site.clear(&run.client).await;
    let report = report(&options, outcome?);
    cleared?;
    Ok(report)
}

/// What a scenario found out.
pub(crate) struct Outcome {
    /// How long was measured.
    pub(crate) seconds: f64,
    pub(crate) meter: Meter,
    /// Messages of each operation.
    pub(crate) messages_each: usize,
    pub(crate) used: Used,
    pub(crate) verified: Option<Verification>,
    pub(crate) intervals: Option<Intervals>,
    pub(crate) details: Details,
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) broker: Broker,
    /// For the administration.
    pub(crate) client: Client,
    pub(crate) site: Arc<Site>,
    pub(crate) live: Arc<Live>,
    pub(crate) reporter: Reporter<'a>,
}

impl Run<'_> {
    /// Load for a time, then receive and compare.
    async fn produce<L: Open>(&mut self) -> Result<Outcome, Error> {
        let window = self.window(clock::now());
        let loads: Vec<L> = self.open_loads().await?;
        let (meter, fates, measured) = self.load(loads, window, Arc::clone(&self.live)).await?;
        let verified = self.verify(&fates).await?;
        let messages_each = match self.options.scenario {
            Scenario::Tx => self.options.messages_per_transaction,
            _ => 1,
        };
        Ok(Outcome {
            seconds: self.options.duration.as_secs_f64(),
            meter,
            messages_each,
            used: measured.used,
            verified,
            intervals: None,
            details: Details::None,
        })
    }

    /// Nothing, for a time.
    async fn idle(&mut self) -> Result<Outcome, Error> {
        self.settle().await?;
        let window = self.window(clock::now());
        let (meter, _, measured) = self.load(Vec::<Publisher>::new(), window, Arc::default()).await?;
        Ok(Outcome {
            seconds: self.options.duration.as_secs_f64(),
            meter,
            messages_each: 1,
            used: measured.used,
            verified: None,
            intervals: None,
            details: Details::None,
        })
    }

    /// A backlog, then consume it all.
    async fn consume(&mut self) -> Result<Outcome, Error> {
        let fates = self.fill().await?;
        self.settle().await?;
        let before = self.readings().await?;
        let (meter, verified) = self.drain(Phase::Measuring, &fates).await?;
        let used = before.until(&self.readings().await?);
        Ok(Outcome {
            seconds: used.seconds,
            meter,
            messages_each: 1,
            used,
            verified: Some(verified),
            intervals: None,
            details: Details::None,
        })
    }

    /// From the end of the warm-up on, for the duration.
    pub(crate) fn window(&self, start: Instant) -> Window {
        let from = start + self.options.warm_up;
        Window::new(from, from + self.options.duration)
    }

    /// Drives loads until the window ends.
    pub(crate) async fn load<L: Load>(
        &mut self,
        loads: Vec<L>,
        window: Window,
        live: Arc<Live>,
    ) -> Result<(Meter, Fates, Measured), Error> {
        let start = clock::now();
        let mut workers = JoinSet::new();
        for load in loads {
            let pace = self.pace(start, window)?;
            workers.spawn(drive(Arc::new(load), 0, pace, window, Arc::clone(&live)));
        }
        let measured = self.measure(start, window).await?;
        let (meter, fates) = collect(workers, window).await?;
        Ok((meter, fates, measured))
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

    /// Reads the broker's numbers at both ends of the window, and its memory at the end of each interval.
    async fn measure(&mut self, start: Instant, window: Window) -> Result<Measured, Error> {
        let warm_up = sleep_until(window.from.into());
        let done = share_of_time(start, window.from);
        self.reporter.during(Phase::WarmingUp, &self.live, done, warm_up).await;
        let before = self.readings().await?;
        let measured = memory_until(self.broker.pid, window);
        let done = share_of_time(window.from, window.until);
        let rss_bytes = self.reporter.during(Phase::Measuring, &self.live, done, measured).await?;
        Ok(Measured { used: before.until(&self.readings().await?), rss_bytes })
    }

    /// Publishes the backlog.
    pub(crate) async fn fill(&mut self) -> Result<Fates, Error> {
        let publisher = Publisher::open(0, &self.client, &self.site, self.options).await?;
        let fates = self.fill_with(Arc::new(publisher), 0, self.options.backlog).await?;
        Ok(fates.fates)
    }

    /// Does `operations` of `load`, each of one message, numbered from `first_message`, as fast as it goes.
    pub(crate) async fn fill_with<L: Load>(
        &mut self,
        load: Arc<L>,
        first_message: u64,
        operations: u64,
    ) -> Result<Driven, Error> {
        self.count(load, first_message, operations, FILLING_OUTSTANDING, Phase::Filling).await
    }

    /// Does `operations` of `load`, so many at once. None may fail.
    pub(crate) async fn count<L: Load>(
        &mut self,
        load: Arc<L>,
        first_message: u64,
        operations: u64,
        outstanding: usize,
        phase: Phase,
    ) -> Result<Driven, Error> {
        let pace = Loop::Count { outstanding, operations };
        let driving = drive(load, first_message, pace, Window::endless(), Arc::clone(&self.live));
        let driven = self.reporter.during(phase, &self.live, share_of_count(operations), driving).await;
        match &driven.meter.first_error {
            Some(error) => {
                Err(Error::Generator(format!("an operation failed while {}: {error}", phase.as_str())))
            }
            None => Ok(driven),
        }
    }

    /// Waits until the broker has nothing left to do, if its process is known: what is in the background of the one
    /// measurement must not cost the next.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        let Some(pid) = self.broker.pid else { return Ok(()) };
        let waiting = settled(pid);
        self.reporter.during(Phase::Settling, &self.live, |_| 0.0, waiting).await
    }

    pub(crate) async fn readings(&mut self) -> Result<Readings, Error> {
        Readings::take(&self.client, &self.broker).await
    }

    /// Receives in every group and compares, if that is wanted.
    pub(crate) async fn verify(&mut self, fates: &Fates) -> Result<Option<Verification>, Error> {
        if !self.options.verify {
            return Ok(None);
        }
        Ok(Some(self.drain(Phase::Verifying, fates).await?.1))
    }

    /// Receives in each group what was sent to it, and compares.
    pub(crate) async fn drain(
        &mut self,
        phase: Phase,
        fates: &Fates,
    ) -> Result<(Meter, Verification), Error> {
        let window = Window::endless();
        let (site, live) = (Arc::clone(&self.site), Arc::clone(&self.live));
        let mut drainings = Vec::new();
        for group in &site.groups {
            let drain = Drain::new(self.options, window, Arc::clone(&live), Blind);
            let draining = drain.start(&self.broker.url, &group.name, self.options).await?;
            drainings.push((drain, draining));
        }
        self.drained(phase, drainings, window, fates).await
    }

    /// Tells consumers of every group what to expect, waits for them, and compares.
    pub(crate) async fn drained<W: Watch>(
        &mut self,
        phase: Phase,
        drainings: Vec<(Arc<Drain<W>>, Draining<W>)>,
        window: Window,
        fates: &Fates,
    ) -> Result<(Meter, Verification), Error> {
        let site = Arc::clone(&self.site);
        let shares: Vec<_> = site.groups.iter().map(|group| site.share_of(group, fates)).collect();
        let mut whole = 0;
        for ((drain, _), share) in drainings.iter().zip(&shares) {
            drain.expect(share.committed.count());
            whole += share.committed.count();
        }
        let ending = async {
            let (mut meter, mut verified) = (Meter::new(window), Verification::default());
            for ((drain, draining), share) in drainings.into_iter().zip(&shares) {
                meter.merge(draining.end().await?);
                verified = verified.add(compare(share, &drain.take_received()));
            }
            Ok((meter, verified))
        };
        let live = Arc::clone(&self.live);
        self.reporter.during(phase, &live, share_of_count(whole), ending).await
    }

    /// Each with a connection of its own.
    pub(crate) async fn open_loads<L: Open>(&mut self) -> Result<Vec<L>, Error> {
        let mut loads = Vec::new();
        for index in 0..self.options.producers {
            let connecting = Client::connect(&self.broker.url);
            let client = connecting.await.map_err(Error::broker("connect a producer"))?;
            loads.push(L::open(index as u64, &client, &self.site, self.options).await?);
        }
        Ok(loads)
    }
}

/// What was read at both ends of a window and in it.
pub(crate) struct Measured {
    pub(crate) used: Used,
    /// Resident memory at the end of each interval.
    pub(crate) rss_bytes: Vec<u64>,
}

async fn memory_until(pid: Option<u32>, window: Window) -> Result<Vec<u64>, Error> {
    let mut rss_bytes = Vec::new();
    if let (Some(pid), Some(interval)) = (pid, window.interval()) {
        let mut end = window.from + interval;
        while end < window.until {
            sleep_until(end.into()).await;
            rss_bytes.push(ProcessReading::take(pid)?.rss_bytes);
            end += interval;
        }
    }
    sleep_until(window.until.into()).await;
    Ok(rss_bytes)
}

async fn settled(pid: u32) -> Result<(), Error> {
    let end = clock::now() + SETTLE_MAX;
    let mut before = ProcessReading::take(pid)?.cpu;
    while clock::now() < end {
        sleep(SETTLED_FOR).await;
        let cpu = ProcessReading::take(pid)?.cpu;
        if cpu.saturating_sub(before).as_secs_f64() < SETTLED_CPU_SHARE * SETTLED_FOR.as_secs_f64() {
            return Ok(());
        }
        before = cpu;
    }
    Ok(())
}

async fn collect(mut workers: JoinSet<Driven>, window: Window) -> Result<(Meter, Fates), Error> {
    let (mut meter, mut fates) = (Meter::new(window), Fates::default());
    while let Some(worker) = workers.join_next().await {
        let driven = worker?;
        meter.merge(driven.meter);
        fates.merge(driven.fates);
    }
    Ok((meter, fates))
}

fn report(options: &Options, outcome: Outcome) -> Report {
    let Outcome { seconds, meter, messages_each, used, verified, intervals, details } = outcome;
    let per_second = meter.operations as f64 / seconds.max(f64::EPSILON);
    let broker = used.broker(meter.operations);
    Report {
        scenario: options.scenario,
        commit: options.commit.clone(),
        settings: options.clone(),
        seconds,
        operations: meter.operations,
        per_second,
        body_bytes_per_second: per_second * (messages_each * options.body_bytes) as f64,
        latency_us: Latency::of(&meter.histogram),
        errors: meter.errors,
        unknown_outcomes: meter.unknown_outcomes,
        first_error: meter.first_error,
        verified,
        cpu_seconds: CpuSeconds {
            broker: broker.map(|broker| broker.cpu_seconds),
            client: used.client_cpu.as_secs_f64(),
        },
        cpu_us_per_operation: broker.map(|broker| broker.cpu_us_per_operation),
        rss_bytes: RssBytes { broker: broker.map(|broker| broker.rss_bytes) },
        bytes_written: broker.map(|broker| broker.bytes_written),
        broker,
        store_syncs: used.store_syncs,
        device_flushes: used.device_flushes,
        intervals,
        details,
        roofline: None,
    }
}

/// What one group had to get, and what it got.
pub(crate) fn compare(fates: &Fates, received: &Received) -> Verification {
    let committed = fates.committed.count();
    let shared = fates.committed.shared_with(&received.stamps);
    let rolled_back = fates.rolled_back.shared_with(&received.stamps);
    let unknown = fates.unknown.shared_with(&received.stamps);
    Verification {
        committed,
        received: received.stamps.count(),
        missing: committed - shared,
        invented: received.stamps.count() - shared - rolled_back - unknown,
        duplicates: received.duplicates,
        nacked: received.nacked,
        rolled_back_received: rolled_back,
        order_checked: received.order.checked,
        out_of_order: received.order.violations,
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

    fn received(numbers: impl IntoIterator<Item = u64>) -> Received {
        Received { stamps: stamps(numbers), duplicates: 3, ..Received::default() }
    }

    #[test]
    fn what_was_lost_or_wrongly_delivered_makes_a_run_unsound() {
        let fates = Fates { committed: stamps(0..10), rolled_back: stamps(10..12), unknown: stamps(12..13) };
        let sound = compare(&fates, &received((0..10).chain(12..13)));
        assert!(sound.is_sound() && sound.received == 11 && sound.unknown == 1, "{sound:?}");
        let lost = compare(&fates, &received(1..10));
        assert!(!lost.is_sound() && lost.missing == 1, "{lost:?}");
        let leaked = compare(&fates, &received(0..11));
        assert!(!leaked.is_sound() && leaked.rolled_back_received == 1, "{leaked:?}");
        let forged = compare(&fates, &received((0..10).chain(99..101)));
        assert!(!forged.is_sound() && forged.invented == 2, "{forged:?}");
    }

    #[test]
    fn each_group_must_get_everything() {
        let fates = Fates { committed: stamps(0..10), ..Fates::default() };
        let found = compare(&fates, &received(0..10)).add(compare(&fates, &received(0..9)));
        assert_eq!((found.committed, found.received, found.missing), (20, 19, 1));
    }

    #[tokio::test]
    async fn a_run_can_be_spawned_and_fails_clearly_without_a_broker() {
        let options = Options::new(Scenario::Publish, "http://127.0.0.1:1");
        let run = tokio::spawn(run(options, |_progress| {}));
        let error = run.await.expect("no panic").expect_err("nobody listens there");
        assert!(error.to_string().contains("could not connect"), "{error}");
    }
}
