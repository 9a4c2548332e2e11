//! `restart`: `kill -9`, and the time until the broker accepts a message again: empty, with a backlog, and when the
//! backlog has been consumed.

use escrow::{Client, Message};

use crate::clock;
use crate::details::{Details, Restart};
use crate::error::Error;
use crate::meter::{Meter, Window};
use crate::report::Phase;
use crate::run::{Outcome, Run};

/// A gigabyte, as disks are sold.
const GIGABYTE: f64 = 1e9;

impl Run<'_> {
    /// The report's latencies are those of the three restarts, and its speed is that of the one with a backlog:
    /// messages recovered in a second.
    pub(crate) async fn restart(&mut self) -> Result<Outcome, Error> {
        let mut meter = Meter::new(Window::endless());
        // Into a topic that nobody listens to: so the probes are in nobody's way.
        let topic = format!("{}-probe", self.site.topics[0]);
        self.client.admin().ensure_topic(&topic).await.map_err(Error::broker("make its topic"))?;
        let empty_seconds = self.killed(&topic, &mut meter).await?;

        let fates = self.fill().await?;
        let messages = fates.committed.count();
        let live_seconds = self.killed(&topic, &mut meter).await?;

        let before = self.readings().await?;
        let (_, verified) = self.drain(Phase::Verifying, &fates).await?;
        let used = before.until(&self.readings().await?);
        let consumed_seconds = self.killed(&topic, &mut meter).await?;

        let live_bytes = messages * self.options.body_bytes as u64;
        let details = Restart {
            empty_seconds,
            live_bytes,
            live_seconds,
            seconds_per_gigabyte: (live_seconds - empty_seconds).max(0.0) / (live_bytes as f64 / GIGABYTE),
            consumed_seconds,
        };
        meter.operations = messages;
        Ok(Outcome {
            seconds: live_seconds,
            meter,
            messages_each: 1,
            used,
            verified: Some(verified),
            intervals: None,
            details: Details::Restart(details),
        })
    }

    /// Kills it, starts it, and waits until it has stored a message.
    async fn killed(&mut self, topic: &str, meter: &mut Meter) -> Result<f64, Error> {
        self.broker.kill()?;
        let start = clock::now();
        self.broker.start_again().await?;
        self.client = Client::connect(&self.broker.url).await.map_err(Error::broker("connect again"))?;
        let building = self.client.producer(&self.site.producer_group).build();
        let producer = building.await.map_err(Error::broker("open a producer again"))?;
        let message = Message::new(topic).bytes(clock::random_body(self.options.body_bytes));
        producer.publish(message).await.map_err(Error::broker("publish again"))?;
        let end = clock::now();
        meter.took(start, end);
        producer.close().await;
        Ok(end.saturating_duration_since(start).as_secs_f64())
    }
}
