//! Running the broker in this process: logs, store, server, and a graceful end.

use std::sync::Arc;

use escrow_storage::{DiskStore, FailPoints, Observer, Opened, Options};
use tracing_subscriber::EnvFilter;

use super::error::{CliError, not_opened, with_causes};
use super::signals::interrupted;
use crate::broker::{Broker, BrokerConfig};
use crate::config::{Config, LogFormat, LogSection};
use crate::metrics::Metrics;

/// Names the place where a crash rig lets the process die; see `escrow_storage::FailPoints`.
const FAIL_POINT: &str = "ESCROW_FAILPOINT";

/// Serves until it is told to stop, or has to.
pub(crate) async fn serve(config: Config) -> Result<(), CliError> {
    start_logs(&config.log)?;
    // Asked first, so that a signal is heard from here on: one that comes during the start ends it as well.
    let mut stop = std::pin::pin!(interrupted());
    let mut broker = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        started = start(&config) => started?,
    };
    for hint in config.hints() {
        tracing::warn!("{hint}");
    }
    if !config.grpc.advertised.is_empty() {
        tracing::info!(advertised = config.grpc.advertised, "clients connect to");
    }
    tokio::select! {
        error = broker.wait() => return Err(CliError::failed(with_causes(&error))),
        () = stop => {}
    }
    broker.shutdown().await.map_err(|error| CliError::failed(with_causes(&error)))
}

/// Opens the store and starts a broker on it.
pub(crate) async fn start(config: &Config) -> Result<Broker, CliError> {
    let metrics = Arc::new(Metrics::new());
    let observer: Arc<dyn Observer> = metrics.clone();
    let options = Options { failpoints: fail_points()?, observer: Some(observer), ..config.store.options() };
    let data_dir = config.data_dir.clone();
    // Opening reads the journal and waits for the disk.
    let opening = tokio::task::spawn_blocking(move || DiskStore::open(data_dir, options));
    let (store, opened) = opening
        .await
        .map_err(|error| CliError::failed(format!("opening the store ended early: {error}")))?
        .map_err(|error| CliError::failed(not_opened(&error)))?;
    report(config, &opened);
    Broker::start(BrokerConfig { recorder: Some(metrics), ..BrokerConfig::from(config) }, store)
        .await
        .map_err(|error| CliError::failed(with_causes(&error)))
}

fn fail_points() -> Result<FailPoints, CliError> {
    match std::env::var(FAIL_POINT) {
        Ok(text) => {
            FailPoints::parse(&text).map_err(|error| CliError::usage(format!("{FAIL_POINT}: {error}")))
        }
        Err(_not_set) => Ok(FailPoints::off()),
    }
}

fn report(config: &Config, opened: &Opened) {
    tracing::info!(
        data_dir = %config.data_dir.display(),
        was_created = opened.was_created,
        epoch = opened.epoch.0,
        last_sequence = opened.last_sequence.0,
        frames_replayed = opened.frames_replayed,
        torn_bytes_cut = opened.torn_bytes_cut,
        "store opened"
    );
}

/// Logs go to stderr: stdout belongs to whoever asks for output.
fn start_logs(log: &LogSection) -> Result<(), CliError> {
    let filter =
        EnvFilter::try_new(&log.level).map_err(|error| CliError::failed(format!("log.level: {error}")))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| CliError::failed(format!("logs cannot be started: {error}")))
}
