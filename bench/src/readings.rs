//! What is read before and after the measured time: the broker's process, its store, the disks, the clock.

use std::time::Instant;

use escrow::{Client, v1};

use crate::clock;
use crate::error::Error;
use crate::process::{ProcessReading, device_flushes};
use crate::report::BrokerCost;

/// One look at everything.
#[derive(Debug)]
pub(crate) struct Readings {
    at: Instant,
    process: Option<ProcessReading>,
    store_syncs: u64,
    device_flushes: u64,
}

/// What changed between two looks.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) store_syncs: u64,
    pub(crate) device_flushes: u64,
    process: Option<(ProcessReading, ProcessReading)>,
}

impl Readings {
    pub(crate) async fn take(client: &Client, broker_pid: Option<u32>) -> Result<Self, Error> {
        let stats = client.admin().get_store_stats(v1::GetStoreStatsRequest {}).await;
        let store_syncs = stats.map_err(Error::call("read the store's numbers"))?.into_inner().syncs;
        let process = broker_pid.map(ProcessReading::take).transpose()?;
        Ok(Self { at: clock::now(), process, store_syncs, device_flushes: device_flushes() })
    }

    /// From this look to the `later` one.
    pub(crate) fn until(&self, later: &Self) -> Used {
        Used {
            seconds: later.at.saturating_duration_since(self.at).as_secs_f64(),
            // A broker that was restarted meanwhile counts from zero again.
            store_syncs: later.store_syncs.checked_sub(self.store_syncs).unwrap_or(later.store_syncs),
            device_flushes: later.device_flushes.saturating_sub(self.device_flushes),
            process: self.process.zip(later.process),
        }
    }
}

impl Used {
    /// What the broker's process used for `operations`.
    pub(crate) fn broker(&self, operations: u64) -> Option<BrokerCost> {
        let (before, after) = self.process?;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let bytes_written = after.written_bytes.saturating_sub(before.written_bytes);
        let each = operations.max(1) as f64;
        Some(BrokerCost {
            cpu_us_per_operation: cpu * 1e6 / each,
            cpu_percent: 100.0 * cpu / self.seconds.max(f64::EPSILON),
            rss_bytes: after.rss_bytes,
            rss_bytes_max: after.rss_bytes_max,
            bytes_written,
            bytes_written_per_operation: bytes_written as f64 / each,
        })
    }
}
