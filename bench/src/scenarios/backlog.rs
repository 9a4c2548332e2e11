//! `backlog`: messages are published for a long time while nobody consumes, then consumed. As a curve: what a message
//! costs at ten thousand, a hundred thousand … waiting messages.

use std::sync::Arc;

use crate::clock;
use crate::details::{Backlog, Curve, CurvePoint, Details, Stage};
use crate::error::Error;
use crate::load::Fates;
use crate::loads::{Open as _, Publisher};
use crate::meter::{Meter, Window};
use crate::progress::share_of_count;
use crate::readings::Used;
use crate::receive::{Blind, Drain};
use crate::report::{Intervals, Phase};
use crate::run::{Outcome, Run, compare};

/// The smallest backlog of a curve.
const SMALLEST: u64 = 10_000;
/// Messages that are published, and then consumed, at each size.
const MEASURED: u64 = 50_000;
/// … a part at a time, so that the backlog keeps its size.
const PART: u64 = 5_000;
/// Messages under way while the cost is measured.
const OUTSTANDING: usize = 64;

impl Run<'_> {
    /// Publishes for the duration, then consumes all of it. The report is that of the publishing.
    pub(crate) async fn backlog(&mut self) -> Result<Outcome, Error> {
        let loads: Vec<Publisher> = self.open_loads().await?;
        let window = self.window(clock::now()).in_intervals();
        let (meter, fates, measured) = self.load(loads, window, Arc::clone(&self.live)).await?;
        let rss_bytes = self.readings().await?.rss_bytes();
        let before = self.readings().await?;
        let (acks, verified) = self.drain(Phase::Verifying, &fates).await?;
        let consume = Stage::of(&acks, &before.until(&self.readings().await?));
        let backlog = Backlog { messages: fates.committed.count(), rss_bytes, consume };
        Ok(Outcome {
            seconds: self.options.duration.as_secs_f64(),
            intervals: Intervals::of(&meter, window, measured.rss_bytes),
            meter,
            messages_each: 1,
            used: measured.used,
            verified: Some(verified),
            details: Details::Backlog(backlog),
        })
    }

    /// The report is that of the publishing at the largest size.
    pub(crate) async fn backlog_curve(&mut self) -> Result<Outcome, Error> {
        let publisher = Arc::new(Publisher::open(0, &self.client, &self.site, self.options).await?);
        let drain = Drain::new(self.options, Window::endless(), Arc::clone(&self.live), Blind);
        let mut sweep = Sweep { fates: Fates::default(), sent: 0, taken: 0, last: None };
        let mut points = Vec::new();
        let mut size = SMALLEST;
        let begun = self.readings().await?;
        while size <= self.options.backlog {
            let more = size.saturating_sub(sweep.sent - sweep.taken);
            let driven = self.fill_with(Arc::clone(&publisher), sweep.sent, more).await?;
            sweep.sent += more;
            sweep.fates.merge(driven.fates);
            self.settle().await?;
            points.push(self.curve_point(size, &publisher, &drain, &mut sweep).await?);
            size *= 10;
        }
        let used = begun.until(&self.readings().await?);
        if self.options.verify {
            drain.expect(sweep.sent);
            let draining = drain.start(&self.broker.url, &self.site.groups[0].name, self.options).await?;
            let done = share_of_count(sweep.sent - sweep.taken);
            self.reporter.during(Phase::Verifying, &self.live, done, draining.end()).await?;
        }
        let verified = self.options.verify.then(|| compare(&sweep.fates, &drain.take_received()));
        let last = points.last().map_or(0.0, |point: &CurvePoint| point.publish.seconds);
        let details = Details::Curve(Curve {
            publish_cost_ratio: spread(points.iter().map(|point| point.publish.cpu_us_per_operation)),
            consume_cost_ratio: spread(points.iter().map(|point| point.consume.cpu_us_per_operation)),
            points,
        });
        let meter = sweep.last.unwrap_or_else(|| Meter::new(Window::endless()));
        Ok(Outcome { seconds: last, meter, messages_each: 1, used, verified, intervals: None, details })
    }

    async fn curve_point(
        &mut self,
        backlog: u64,
        publisher: &Arc<Publisher>,
        drain: &Arc<Drain<Blind>>,
        sweep: &mut Sweep,
    ) -> Result<CurvePoint, Error> {
        let (mut publish, mut consume) = (Part::default(), Part::default());
        for _ in 0..MEASURED / PART {
            let before = self.readings().await?;
            let publisher = Arc::clone(publisher);
            let driven = self.count(publisher, sweep.sent, PART, OUTSTANDING, Phase::Measuring).await?;
            publish.add(driven.meter, before.until(&self.readings().await?));
            sweep.sent += PART;
            sweep.fates.merge(driven.fates);

            let draining = drain.start(&self.broker.url, &self.site.groups[0].name, self.options).await?;
            let before = self.readings().await?;
            drain.expect(sweep.taken + PART);
            consume.add(draining.end().await?, before.until(&self.readings().await?));
            sweep.taken = drain.count();
        }
        let rss_bytes = self.readings().await?.rss_bytes();
        let point = CurvePoint { backlog, publish: publish.stage(), consume: consume.stage(), rss_bytes };
        sweep.last = Some(publish.meter);
        Ok(point)
    }
}

/// What was sent and taken so far, over all sizes.
struct Sweep {
    fates: Fates,
    sent: u64,
    taken: u64,
    /// Publishing at the last size.
    last: Option<Meter>,
}

/// Measured in parts.
struct Part {
    meter: Meter,
    used: Used,
}

impl Default for Part {
    fn default() -> Self {
        Self { meter: Meter::new(Window::endless()), used: Used::default() }
    }
}

impl Part {
    fn add(&mut self, meter: Meter, used: Used) {
        self.meter.merge(meter);
        self.used = self.used.plus(used);
    }

    fn stage(&self) -> Stage {
        Stage::of(&self.meter, &self.used)
    }
}

/// The largest over the smallest, if all are known and there are two at least.
fn spread(costs: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let costs: Vec<f64> = costs.collect::<Option<_>>()?;
    let smallest = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = costs.iter().copied().fold(0.0, f64::max);
    (costs.len() > 1 && smallest > 0.0).then(|| largest / smallest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_dearest_over_the_cheapest() {
        assert_eq!(spread([Some(2.0), Some(3.0), Some(2.5)].into_iter()), Some(1.5));
        assert_eq!(spread([Some(2.0), None].into_iter()), None);
        assert_eq!(spread([Some(2.0)].into_iter()), None);
    }
}
