//! The broker at a glance.

use escrow_protocol::ShardId;
use escrow_storage::Epoch;

use super::{Service, StoreNumbers, mismatch};
use crate::alarms::Standing;
use crate::engine::{Inspect, Refusal, Seen, StatusView};
use crate::metrics::{Activity, Scrape};

/// Most topics and most groups of one scrape, each a page of the engine's.
const SCRAPE_MAX: usize = escrow_protocol::limits::PAGE_MAX;
/// Most pages of each in one scrape.
const SCRAPE_PAGES_MAX: usize = 5;

/// The broker at a glance.
#[derive(Debug, Clone)]
pub struct Status {
    /// This release.
    pub version: &'static str,
    /// When it was started, Unix milliseconds.
    pub started_at_ms: u64,
    /// What time it is there, Unix milliseconds.
    pub now_ms: u64,
    /// The shard.
    pub shard: ShardId,
    /// Its claim.
    pub epoch: Epoch,
    /// The engine.
    pub engine: StatusView,
    /// The store.
    pub store: StoreNumbers,
    /// Alarms.
    pub alarms: Standing,
    /// What was done since the start.
    pub activity: Activity,
}

impl Service {
    /// The broker at a glance.
    ///
    /// # Errors
    /// If the broker is overloaded or stopping.
    pub async fn status(&self) -> Result<Status, Refusal> {
        let Seen::Status(engine) = self.see(Inspect::Status).await? else { return Err(mismatch()) };
        let store = self.store_beside(engine.damaged).await?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at_ms: self.parts.started_at_ms,
            now_ms: self.parts.clock.now().unix_ms,
            shard: self.parts.shard,
            epoch: self.parts.epoch,
            engine,
            store,
            alarms: self.parts.alarms.standing(),
            activity: self.parts.metrics.activity(),
        })
    }

    /// What a scrape of the metrics looks at.
    ///
    /// # Errors
    /// As [`Service::status`].
    pub async fn scrape(&self) -> Result<Scrape, Refusal> {
        let status = self.status().await?;
        let mut scrape = Scrape {
            status: status.engine,
            store: status.store,
            alarms: status.alarms,
            now_ms: status.now_ms,
            ..Scrape::default()
        };
        for _ in 0..SCRAPE_PAGES_MAX {
            let after = scrape.topics.last().map(|topic| topic.name.clone());
            let question = Inspect::Topics {
                after,
                prefix: String::new(),
                dead_letter_topics: false,
                limit: SCRAPE_MAX,
            };
            let Seen::Topics(page) = self.see(question).await? else { return Err(mismatch()) };
            let last = page.len() < SCRAPE_MAX;
            scrape.topics.extend(page);
            if last {
                break;
            }
        }
        for _ in 0..SCRAPE_PAGES_MAX {
            let after = scrape.groups.last().map(|group| group.name.clone());
            let question = Inspect::Groups { after, prefix: String::new(), limit: SCRAPE_MAX };
            let Seen::Groups(page) = self.see(question).await? else { return Err(mismatch()) };
            let last = page.len() < SCRAPE_MAX;
            scrape.groups.extend(page);
            if last {
                break;
            }
        }
        Ok(scrape)
    }
}
