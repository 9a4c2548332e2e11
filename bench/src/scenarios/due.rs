//! `scheduled`, `retries`: messages fall due one after another at a rate, and the consumer sees how late each comes.
//! Scheduled ones are published with their time; retries are nacked with the delay that is left until it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use escrow::Client;

use crate::clock;
use crate::details::{Details, Due};
use crate::error::Error;
use crate::load::{Fate, Load, Performed};
use crate::loads::{Mint, Open, Publisher, fate_of};
use crate::meter::{Meter, Window};
use crate::options::Options;
use crate::progress::share_of_count;
use crate::receive::{Drain, Watch};
use crate::report::Phase;
use crate::run::{FILLING_OUTSTANDING, Outcome, Run, compare};
use crate::site::Site;

/// What filling, or nacking, manages in a second on a slow machine: so long ahead of the first due time it begins.
const PREPARED_PER_SECOND: u64 = 10_000;
/// … and this at least.
const LEAD_MIN: Duration = Duration::from_secs(2);

/// The broker goes by the clock on the wall, the run by one that never jumps: within a run they drift apart by no more.
const CLOCKS_APART_MAX: Duration = Duration::from_millis(2);

/// When each message is due. The times are whole milliseconds, as the broker keeps them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    first: Instant,
    /// The same moment, as the broker's clock says it.
    first_at: SystemTime,
    per_second: f64,
}

impl Plan {
    fn new(backlog: u64, per_second: f64) -> Self {
        let lead = LEAD_MIN + Duration::from_secs(backlog.div_ceil(PREPARED_PER_SECOND));
        let (now, now_at) = clock::both();
        // The broker rounds to milliseconds: begin with a whole one, and nothing is lost.
        let past =
            now_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos() % 1_000_000;
        let lead = lead + Duration::from_nanos(u64::from(1_000_000 - past));
        Self { first: now + lead, first_at: now_at + lead, per_second }
    }

    fn after(&self, number: u64) -> Duration {
        Duration::from_millis((number as f64 * 1000.0 / self.per_second) as u64)
    }

    fn due(&self, number: u64) -> Instant {
        self.first + self.after(number)
    }
}

/// Publishes messages for later.
struct Scheduler {
    mint: Mint,
    producer: escrow::Producer,
    plan: Plan,
}

impl Scheduler {
    async fn open(client: &Client, site: &Arc<Site>, options: &Options, plan: Plan) -> Result<Self, Error> {
        let building = client.producer(&site.producer_group).build();
        let producer = building.await.map_err(Error::broker("open a producer"))?;
        Ok(Self { mint: Mint::new(0, site, options), producer, plan })
    }
}

impl Load for Scheduler {
    fn producer(&self) -> u64 {
        0
    }

    fn messages(&self) -> u64 {
        1
    }

    async fn perform(&self, first_message: u64, place: usize) -> Performed {
        let time = self.plan.first_at + self.plan.after(first_message);
        let message = self.mint.message(first_message, place).deliver_at(time);
        let result = self.producer.publish(message).await.map(drop);
        Performed { fate: fate_of(&result, Fate::Committed), result }
    }
}

/// Measures how late each comes. For retries it also sends each back once, until its time.
struct Lateness {
    plan: Plan,
    sends_back: bool,
    seen: Mutex<Seen>,
}

struct Seen {
    meter: Meter,
    early: u64,
    last: Option<Instant>,
}

impl Lateness {
    fn new(plan: Plan, sends_back: bool) -> Self {
        let seen = Seen { meter: Meter::new(Window::endless()), early: 0, last: None };
        Self { plan, sends_back, seen: Mutex::new(seen) }
    }

    fn take(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = Seen { meter: Meter::new(Window::endless()), early: 0, last: None };
        std::mem::replace(&mut *seen, empty)
    }
}

impl Watch for Lateness {
    fn received(&self, stamp: crate::stamp::Stamp, now: Instant) {
        let due = self.plan.due(stamp.number);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.early += u64::from(now + CLOCKS_APART_MAX < due);
        seen.meter.took(due, now);
        seen.last = Some(now);
    }

    fn nack_after(&self, stamp: crate::stamp::Stamp, attempt: u32, now: Instant) -> Option<Duration> {
        let left = self.plan.due(stamp.number).saturating_duration_since(now);
        (self.sends_back && attempt == 1).then_some(left)
    }
}

impl Run<'_> {
    pub(crate) async fn scheduled(&mut self) -> Result<Outcome, Error> {
        let plan = self.plan();
        let scheduler = Scheduler::open(&self.client, &self.site, self.options, plan).await?;
        let fates = self.fill_with(Arc::new(scheduler), 0, self.options.backlog).await?.fates;
        self.fall_due(plan, false, fates).await
    }

    pub(crate) async fn retries(&mut self) -> Result<Outcome, Error> {
        let plan = self.plan();
        let publisher = Publisher::open(0, &self.client, &self.site, self.options).await?;
        let fates = self.fill_with(Arc::new(publisher), 0, self.options.backlog).await?.fates;
        self.fall_due(plan, true, fates).await
    }

    fn plan(&self) -> Plan {
        Plan::new(self.options.backlog, self.options.rate.unwrap_or(1.0))
    }

    /// Measures from the first due time to the last message.
    async fn fall_due(
        &mut self,
        plan: Plan,
        sends_back: bool,
        fates: crate::load::Fates,
    ) -> Result<Outcome, Error> {
        if clock::now() >= plan.first {
            let text = "the first messages fell due before all were prepared: the broker is slower than this run expects";
            return Err(Error::Generator(text.to_owned()));
        }
        let options = Options {
            outstanding: self.options.outstanding.max(FILLING_OUTSTANDING),
            ..self.options.clone()
        };
        let lateness = Lateness::new(plan, sends_back);
        let drain = Drain::new(&options, Window::endless(), Arc::clone(&self.live), lateness);
        let draining = drain.start(&self.broker.url, &self.site.groups[0].name, &options).await?;
        let first = tokio::time::sleep_until(plan.first.into());
        self.reporter.during(Phase::Filling, &self.live, |_| 0.0, first).await;
        let before = self.readings().await?;
        let expected = fates.committed.count();
        drain.expect(expected);
        let done = share_of_count(expected);
        let acks = self.reporter.during(Phase::Measuring, &self.live, done, draining.end()).await?;
        let used = before.until(&self.readings().await?);
        let Seen { mut meter, early, last } = drain.watch().take();
        let span = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(plan.first));
        meter.errors = acks.errors;
        meter.unknown_outcomes = acks.unknown_outcomes;
        meter.first_error = acks.first_error;
        Ok(Outcome {
            seconds: span.as_secs_f64(),
            meter,
            messages_each: 1,
            used,
            verified: self.options.verify.then(|| compare(&fates, &drain.take_received())),
            intervals: None,
            details: Details::Due(Due { early, span_seconds: span.as_secs_f64() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_milliseconds_at_the_rate() {
        let plan = Plan::new(100, 2_000.0);
        let since_epoch = plan.first_at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        assert_eq!(since_epoch.subsec_nanos() % 1_000_000, 0);
        assert_eq!(plan.after(1), Duration::ZERO);
        assert_eq!(plan.after(4001), Duration::from_secs(2));
        assert!(plan.first > clock::now() + LEAD_MIN);
    }
}
