//! `steady`, `e2e`, `soak`: transactions are produced, delivered and acked at once.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::commits::{Arrivals, Commits};
use crate::details::{Details, Steady};
use crate::error::Error;
use crate::loads::Transactor;
use crate::meter::Live;
use crate::receive::Drain;
use crate::report::{Intervals, Latency, Phase};
use crate::run::{Outcome, Run};

/// When what was nacked on purpose comes again.
const NACK_DELAY: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// The report counts what was acked in the measured time, over all groups.
    pub(crate) async fn steady(&mut self) -> Result<Outcome, Error> {
        let options = self.options;
        let loads: Vec<Transactor> = self.open_loads().await?;
        // Opening takes its time: with a thousand consumers more than the warm-up.
        let site = Arc::clone(&self.site);
        let commits = Commits::default();
        let window =
            self.window(clock::now() + OPENING_OF_EACH * (options.consumers * options.groups) as u32);
        let window = window.in_intervals();
        let mut drainings = Vec::new();
        for (index, group) in site.groups.iter().enumerate() {
            // The first group is the one that arrivals are measured in.
            let commits = if index == 0 { commits.clone() } else { Commits::default() };
            let arrivals = Arrivals::new(commits, window, options.nack_percent, NACK_DELAY);
            let drain = Drain::new(options, window, Arc::clone(&self.live), arrivals);
            let draining = drain.start(&self.broker.url, &group.name, options).await?;
            drainings.push((drain, draining));
        }
        let written_before = self.readings().await?;
        let loads = loads.into_iter().map(|load| load.telling(commits.clone())).collect();
        let (transactions, fates, measured) = self.load(loads, window, Arc::new(Live::default())).await?;
        let expected = fates.committed.count();
        let first = Arc::clone(&drainings[0].0);
        let (acks, verified) = self.drained(Phase::Verifying, drainings, window, &fates).await?;
        self.settle().await?;
        let written = written_before.until(&self.readings().await?);

        let mut meter = first.watch().take_meter(window);
        let seconds = options.duration.as_secs_f64();
        let details = Details::Steady(Steady {
            transactions_per_second: transactions.operations as f64 / seconds,
            transaction_latency_us: Latency::of(&transactions.histogram),
            ack_latency_us: Latency::of(&acks.histogram),
            bytes_written_per_body_byte: written
                .broker(expected)
                .map(|cost| cost.bytes_written as f64 / (expected.max(1) * options.body_bytes as u64) as f64),
        });
        let intervals = Intervals::of(&meter, window, measured.rss_bytes);
        meter.operations = acks.operations;
        meter.errors = transactions.errors + acks.errors;
        meter.unknown_outcomes = transactions.unknown_outcomes + acks.unknown_outcomes;
        meter.first_error = transactions.first_error.or(acks.first_error);
        Ok(Outcome {
            seconds,
            meter,
            messages_each: 1,
            used: measured.used,
            verified: Some(verified),
            intervals,
            details,
        })
    }
}

/// A consumer is open within this.
const OPENING_OF_EACH: Duration = Duration::from_millis(5);
