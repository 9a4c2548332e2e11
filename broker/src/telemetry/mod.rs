//! OpenTelemetry traces, by option: what the driver tells of its turns becomes spans on a thread of its own, which are
//! sent to a collector. Off unless configured, and then it costs nothing. Must never hold the engine up: what does not
//! fit into the queue is dropped and counted.

mod context;
mod deed;
mod export;
mod otlp;
mod story;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use escrow_storage::Read;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::metrics::Metrics;
pub use deed::{Deed, Done, Sent, TurnTold};
use export::Exporter;
use story::Story;

/// Turns that may wait to be told.
const TURNS_MAX: usize = 1_024;
/// Heaps of spans that may wait to be sent, one for each turn.
const HEAPS_MAX: usize = 1_024;
/// How long a stop waits for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The collector, `http://host:4317`.
    pub otlp_endpoint: String,
    /// What this broker is called there.
    pub service_name: String,
    /// Of the messages that came without a trace context, so many of a thousand are traced.
    pub sample_permille: u32,
}

/// The driver's end. Dropped, the rest is told and sent, and then it is over.
#[derive(Debug)]
pub struct Telemetry {
    turns: SyncSender<TurnTold>,
    metrics: Arc<Metrics>,
}

/// The broker's end: for the stop.
#[derive(Debug)]
pub struct TelemetryTask {
    sending: JoinHandle<()>,
}

impl Telemetry {
    /// Starts both halves; `view` is where messages are read that are not remembered.
    ///
    /// # Errors
    /// The fault, if the endpoint is no address or there is no thread to be had.
    pub fn start(
        config: &TelemetryConfig,
        view: Arc<dyn Read>,
        metrics: Arc<Metrics>,
        seed: u64,
    ) -> Result<(Self, TelemetryTask), String> {
        let exporter = Exporter::new(config, metrics.clone()).map_err(|error| error.to_string())?;
        let (turns, told) = sync_channel(TURNS_MAX);
        let (heaps, spans) = mpsc::channel(HEAPS_MAX);
        let story = Story::new(config.sample_permille, seed);
        let counted = metrics.clone();
        thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || tell(story, &*view, &told, &heaps, &counted))
            .map_err(|error| format!("no thread for traces: {error}"))?;
        // Ends when the thread does, which ends with the driver.
        let sending = tokio::spawn(exporter.run(spans));
        tracing::info!(endpoint = config.otlp_endpoint, "traces are sent");
        Ok((Self { turns, metrics }, TelemetryTask { sending }))
    }

    /// Tells of a turn that is durable. Never waits.
    pub fn turn(&self, turn: TurnTold) {
        if turn.done.is_empty() && turn.sent.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(turn) | TrySendError::Disconnected(turn)) = self.turns.try_send(turn) {
            self.metrics.spans(0, (turn.done.len() + turn.sent.len()) as u64);
        }
    }
}

impl TelemetryTask {
    /// Waits for the last spans, but not long.
    pub async fn ended(self) {
        // What is not sent by then is lost, as it would be with the process.
        let _ = tokio::time::timeout(LAST_SPANS, self.sending).await;
    }
}

fn tell(
    mut story: Story,
    view: &dyn Read,
    turns: &Receiver<TurnTold>,
    heaps: &mpsc::Sender<Vec<otlp::Span>>,
    metrics: &Metrics,
) {
    while let Ok(turn) = turns.recv() {
        let spans = story.tell(view, turn);
        if spans.is_empty() {
            continue;
        }
        if let Err(mpsc::error::TrySendError::Full(spans) | mpsc::error::TrySendError::Closed(spans)) =
            heaps.try_send(spans)
        {
            metrics.spans(0, spans.len() as u64);
        }
    }
}
