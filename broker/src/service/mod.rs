//! What people and their tools ask for, whatever they ask through: gRPC, HTTP, the console. Combines what the engine has
//! in memory with records read from the store. Every list is a page by cursor and costs a page; nothing here decides,
//! and nothing writes: orders go to the engine.

mod alarms;
mod audit;
mod clients;
mod dead_letters;
mod dead_letters_by_key;
mod exports;
mod groups;
mod jobs;
mod messages;
mod pages;
mod patience;
mod retries;
mod same_key;
mod scheduled;
mod status;
mod store;
mod stories;
mod topics;
mod trace;
mod transactions;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::{Reason, ShardId};
use escrow_storage::{Epoch, Read, ReadError};

use crate::alarms::Alarms;
use crate::clock::Clock;
use crate::driver::EngineHandle;
use crate::engine::{Command, Input, Inspect, Refusal, Reply, Seen};
use crate::metrics::Metrics;

pub use crate::engine::Operator;
pub use alarms::{AlarmView, SinkView};
pub use audit::{AuditFilter, AuditView};
pub use dead_letters::{DeadLetterFilter, DeadLetterView};
pub use groups::Sought;
pub use jobs::JobResult;
pub use messages::StoredMessage;
pub use pages::{Page, Paged};
pub use retries::{RetryMatching, RetryResults, RetryView};
pub use scheduled::{ScheduledMatching, ScheduledView};
pub use status::Status;
pub use store::{Administered, NoBackup, StoreAdmin, StoreNumbers, Verification};
pub use stories::GoneMessage;
pub use trace::{Trace, TraceEvent, Traced};
pub use transactions::{MessageLabel, TransactionView, Which, Whose};

impl Operator {
    /// The name, for logs: nothing where there is none.
    fn logged_name(&self) -> Option<&str> {
        Some(self.name.as_str()).filter(|name| !name.is_empty())
    }

    /// The reason, for logs: nothing where there is none.
    fn logged_reason(&self) -> Option<&str> {
        Some(self.reason.as_str()).filter(|reason| !reason.is_empty())
    }
}

/// What a service is made of.
pub struct ServiceParts {
    /// The way to the engine.
    pub engine: EngineHandle,
    /// The records.
    pub reader: Arc<dyn Read>,
    /// The store's own answers.
    pub store: Arc<dyn StoreAdmin>,
    /// Alarms at work.
    pub alarms: Alarms,
    /// What the broker counts.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// The shard.
    pub shard: ShardId,
    /// Its claim.
    pub epoch: Epoch,
    /// When the broker was started, Unix milliseconds.
    pub started_at_ms: u64,
    /// Where the store lies, if on disk.
    pub data_dir: Option<PathBuf>,
    /// Who takes nothing of a backup for this long has stalled.
    pub peer_stall: Duration,
}

/// See the module. A clone is the same service.
#[derive(Clone)]
pub struct Service {
    parts: Arc<ServiceParts>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("shard", &self.parts.shard).finish_non_exhaustive()
    }
}

impl Service {
    /// A service of these parts.
    pub fn new(parts: ServiceParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Asks the engine what it has in memory. Waits for its turn: people look most when much is going on.
    async fn see(&self, question: Inspect) -> Result<Seen, Refusal> {
        match self.parts.engine.insist(Input::Inspect(question)).await? {
            Reply::Seen(seen) => Ok(seen),
            _ => Err(mismatch()),
        }
    }

    /// Has the engine carry out an order, and write down whose it was.
    async fn command(&self, operator: Operator, command: Command) -> Result<Reply, Refusal> {
        self.parts.engine.insist(Input::Command(operator, command)).await
    }

    /// Reads records, on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Read) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let reader = self.parts.reader.clone();
        let reading = tokio::task::spawn_blocking(move || read(&*reader));
        match reading.await {
            Ok(outcome) => outcome.map_err(|error| self.unreadable(error)),
            Err(error) => Err(Refusal::new(Reason::Internal, format!("reading ended early: {error}"))),
        }
    }

    /// What a caller is told when the store cannot be read. A disk that fails stops the broker, whoever meets it first:
    /// what it holds is not known until the next start has read it.
    fn unreadable(&self, error: ReadError) -> Refusal {
        match error {
            ReadError::Corrupt { .. } => Refusal::new(
                Reason::Damaged,
                format!("{error}; `escrow store verify` lists all damage, a backup has the record"),
            ),
            ReadError::Failed(_) => {
                let text = format!("{error}; the broker stops, mend the disk and start it again");
                self.parts.engine.fail(error);
                Refusal::new(Reason::Internal, text)
            }
        }
    }
}

/// A record that others are shown without, if it is damaged. A disk that fails is another matter: it says nothing of any
/// record.
fn unless_damaged<T>(found: Result<Option<T>, ReadError>) -> Result<Option<T>, ReadError> {
    match found {
        Err(ReadError::Corrupt { .. }) => Ok(None),
        other => other,
    }
}

/// The engine answered an input with what belongs to another: a fault of the broker.
fn mismatch() -> Refusal {
    Refusal::new(Reason::Internal, "the engine's answer does not belong to the question; please report this")
}
