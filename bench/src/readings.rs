//! What is read before and after the measured time: the broker's process, its store, the disks, the clock.

use std::time::{Duration, Instant};

use escrow::{Client, v1};

use crate::clock;
use crate::error::Error;
use crate::process::{ProcessReading, device_flushes};
use crate::report::BrokerCost;
use crate::spawn::Broker;

/// One look at everything.
#[derive(Debug)]
pub(crate) struct Readings {
    at: Instant,
    process: Option<ProcessReading>,
    /// This process: the generator.
    own: ProcessReading,
    store_syncs: u64,
    store_appended_bytes: u64,
    device_flushes: u64,
}

/// What changed between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) store_syncs: u64,
    /// Bytes of the commits, as the journal has them.
    pub(crate) store_appended_bytes: u64,
    pub(crate) device_flushes: u64,
    /// CPU time of this process: the generator.
    pub(crate) client_cpu: Duration,
    /// The broker's process, if it is known.
    broker: Option<ProcessUsed>,
}

#[derive(Debug, Clone, Copy)]
struct ProcessUsed {
    cpu: Duration,
    written_bytes: u64,
    rss_bytes: u64,
    rss_bytes_max: u64,
}

impl Readings {
    pub(crate) async fn take(client: &Client, broker: &Broker) -> Result<Self, Error> {
        let store = match broker.is_null {
            true => v1::StoreStats::default(),
            false => store_stats(client).await?,
        };
        let process = broker.pid.map(ProcessReading::take).transpose()?;
        let own = ProcessReading::take(std::process::id())?;
        Ok(Self {
            at: clock::now(),
            process,
            own,
            store_syncs: store.syncs,
            store_appended_bytes: store.appended_bytes,
            device_flushes: device_flushes(),
        })
    }

    /// From this look to the `later` one.
    pub(crate) fn until(&self, later: &Self) -> Used {
        let broker = self.process.zip(later.process).map(|(before, after)| ProcessUsed {
            cpu: after.cpu.saturating_sub(before.cpu),
            written_bytes: after.written_bytes.saturating_sub(before.written_bytes),
            rss_bytes: after.rss_bytes,
            rss_bytes_max: after.rss_bytes_max,
        });
        Used {
            seconds: later.at.saturating_duration_since(self.at).as_secs_f64(),
            // A broker that was restarted meanwhile counts from zero again.
            store_syncs: later.store_syncs.checked_sub(self.store_syncs).unwrap_or(later.store_syncs),
            store_appended_bytes: later.store_appended_bytes.saturating_sub(self.store_appended_bytes),
            device_flushes: later.device_flushes.saturating_sub(self.device_flushes),
            client_cpu: later.own.cpu.saturating_sub(self.own.cpu),
            broker,
        }
    }
}

impl Readings {
    /// Resident memory of the broker, if its process is known.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        Some(self.process?.rss_bytes)
    }
}

impl Used {
    /// This and what was used later.
    pub(crate) fn plus(self, later: Self) -> Self {
        let broker = match (self.broker, later.broker) {
            (Some(before), Some(after)) => Some(ProcessUsed {
                cpu: before.cpu + after.cpu,
                written_bytes: before.written_bytes + after.written_bytes,
                ..after
            }),
            (before, after) => after.or(before),
        };
        Self {
            seconds: self.seconds + later.seconds,
            store_syncs: self.store_syncs + later.store_syncs,
            store_appended_bytes: self.store_appended_bytes + later.store_appended_bytes,
            device_flushes: self.device_flushes + later.device_flushes,
            client_cpu: self.client_cpu + later.client_cpu,
            broker,
        }
    }

    /// What the broker's process used for `operations`.
    pub(crate) fn broker(&self, operations: u64) -> Option<BrokerCost> {
        let ProcessUsed { cpu, written_bytes, rss_bytes, rss_bytes_max } = self.broker?;
        let cpu_seconds = cpu.as_secs_f64();
        let each = operations.max(1) as f64;
        Some(BrokerCost {
            cpu_seconds,
            cpu_us_per_operation: cpu_seconds * 1e6 / each,
            cpu_percent: 100.0 * cpu_seconds / self.seconds.max(f64::EPSILON),
            rss_bytes,
            rss_bytes_max,
            bytes_written: written_bytes,
            bytes_written_per_operation: written_bytes as f64 / each,
        })
    }
}

/// The store's numbers.
pub(crate) async fn store_stats(client: &Client) -> Result<v1::StoreStats, Error> {
    let stats = client.admin().get_store_stats(v1::GetStoreStatsRequest {}).await;
    Ok(stats.map_err(Error::call("read the store's numbers"))?.into_inner())
}
