//! The broker: what is started in which order, and stopped in which.
//!
//! Start: HTTP (alive, not ready) → recover → gRPC → ready. Stop: not ready → no new connections → goodbye to the
//! sessions → what waits is done → the last commit → the store is closed. Within [`STOP_WITHIN`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::{ShardId, limits};
use escrow_storage::Read;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::alarms::{AlarmSettings, Alarms, AlarmsParts};
use crate::clock::{Chance, Clock};
use crate::config::{CONNECTIONS_MAX_DEFAULT, Config};
use crate::dispatch::{Loader, Sessions};
use crate::driver::{self, DriverCloser, DriverError, DriverParts, DriverTask, InboxLimits};
use crate::engine::{Recovered, Settings};
use crate::grpc::{self, GrpcParts, GrpcServer};
use crate::http::{self, HttpParts, HttpServer, Readiness};
use crate::metrics::Metrics;
use crate::service::{Administered, Service, ServiceParts};
use crate::telemetry::{Telemetry, TelemetryConfig, TelemetryTask};

/// A stop is over within this time.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Of that, sessions and calls may take this much to end by themselves.
const STOP_POLITELY: Duration = Duration::from_secs(7);
/// What still waits for the engine may take this much to be done; the rest is given up, unanswered: its clients are gone.
const STOP_DRAIN: Duration = Duration::from_secs(1);
/// Of [`STOP_WITHIN`], this much is left for HTTP, the last to go.
const STOP_HTTP: Duration = Duration::from_millis(500);

/// What `limits.memory` leaves by default beside the queue and what arrives.
const READ_AHEAD_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;

/// As long as a lease: by then what the peer was sent is somebody else's.
const PEER_STALL_DEFAULT: Duration = Duration::from_secs(30);

/// How a broker is started.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where gRPC listens. Default 127.0.0.1:7800; port 0: any free one.
    pub grpc_listen: SocketAddr,
    /// Where HTTP listens. Default 127.0.0.1:7880; port 0: any free one.
    pub http_listen: SocketAddr,
    /// Listens beyond loopback although nobody is authenticated. Default false.
    pub insecure: bool,
    /// Names under which browsers may open the HTTP port, beside those of loopback: those of a proxy before it. Lower
    /// case, without a port. Default none.
    pub http_host_names: Vec<String>,
    /// What of the engine is configured.
    pub settings: Settings,
    /// Largest body, bytes. Default 4 MiB.
    pub body_bytes_max: usize,
    /// How much may wait for the engine.
    pub inbox: InboxLimits,
    /// What may have been read for all clients together and not taken by them yet, bytes. Default 64 MiB.
    pub read_ahead_bytes_max: usize,
    /// What large messages of all clients together may have while they arrive, bytes. Default 32 MiB.
    pub arriving_bytes_max: usize,
    /// gRPC connections at once; one beyond is closed at once. Default 20,000.
    pub connections_max: usize,
    /// HTTP connections at once; one beyond is closed at once. Default 1,024.
    pub http_connections_max: usize,
    /// A session whose peer takes no frame for this long has stalled, and is closed. Default 30 s.
    pub peer_stall: Duration,
    /// Whether `/metrics` is served. Default true.
    pub metrics: bool,
    /// Where the store lies, for showing it. Default none.
    pub data_dir: Option<PathBuf>,
    /// What is watched, and who is told. Default: nothing, nobody.
    pub alarms: AlarmSettings,
    /// What counts, when it counts the store as well: it is then the store's observer. Default: one of the broker's own.
    pub recorder: Option<Arc<Metrics>>,
    /// Where traces go. Default nowhere.
    pub telemetry: Option<TelemetryConfig>,
}

impl From<&Config> for BrokerConfig {
    fn from(config: &Config) -> Self {
        let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            grpc_listen: config.grpc.listen,
            http_listen: config.http.listen,
            insecure: config.insecure,
            http_host_names: Vec::new(),
            settings: config.settings(),
            body_bytes_max: bounded(config.limits.body_bytes_max),
            inbox: InboxLimits {
                inputs_max: bounded(config.limits.queue_inputs_max),
                bytes_max: bounded(config.limits.queue_bytes_max),
            },
            read_ahead_bytes_max: bounded(
                config
                    .limits
                    .memory_bytes_max
                    .saturating_sub(config.limits.queue_bytes_max.saturating_mul(2)),
            ),
            arriving_bytes_max: bounded(config.limits.queue_bytes_max),
            connections_max: bounded(config.limits.connections_max),
            http_connections_max: http::CONNECTIONS_MAX_DEFAULT,
            peer_stall: PEER_STALL_DEFAULT,
            metrics: config.metrics.enabled,
            data_dir: Some(config.data_dir.clone()),
            alarms: config.alarms.clone(),
            recorder: None,
            telemetry: config.telemetry.traced(),
        }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            grpc_listen: SocketAddr::from(([127, 0, 0, 1], 7800)),
            http_listen: SocketAddr::from(([127, 0, 0, 1], 7880)),
            insecure: false,
            http_host_names: Vec::new(),
            settings: Settings::default(),
            body_bytes_max: limits::BODY_BYTES_MAX_DEFAULT,
            inbox: InboxLimits::default(),
            read_ahead_bytes_max: READ_AHEAD_BYTES_MAX_DEFAULT,
            arriving_bytes_max: InboxLimits::default().bytes_max,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            http_connections_max: http::CONNECTIONS_MAX_DEFAULT,
            peer_stall: PEER_STALL_DEFAULT,
            metrics: true,
            data_dir: None,
            alarms: AlarmSettings::off(),
            recorder: None,
            telemetry: None,
        }
    }
}

/// Why a broker did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It would have been open to everybody who can reach the machine.
    #[error(
        "{0} is not a loopback address and nobody would be authenticated; listen on 127.0.0.1, or say --insecure"
    )]
    Exposed(SocketAddr),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// Traces cannot be sent.
    #[error("cannot send traces: {0}; mend telemetry.otlp_endpoint, or leave it out")]
    Telemetry(String),
    /// The store could not be read.
    #[error("cannot recover: {0}")]
    Recover(#[from] DriverError),
}

/// A broker at work. Dropped, it stops without goodbyes: whatever was answered is durable.
pub struct Broker {
    grpc: GrpcServer,
    http: HttpServer,
    closer: DriverCloser,
    end: watch::Receiver<Option<DriverEnd>>,
    recovered: Recovered,
    service: Service,
    readiness: watch::Sender<Readiness>,
    signals: Signals,
    tracing_task: Option<TelemetryTask>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("grpc", &self.grpc.address())
            .field("http", &self.http.address())
            .finish()
    }
}

/// The steps of a stop, each a token that is cancelled once.
#[derive(Debug, Default)]
struct Signals {
    /// Take nothing more in; say goodbye.
    stopping: CancellationToken,
    /// Cut what is still connected.
    cut: CancellationToken,
    /// End the HTTP server, the last to go.
    http: CancellationToken,
}

impl Signals {
    fn tokens(&self) -> (CancellationToken, CancellationToken) {
        (self.stopping.clone(), self.cut.clone())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.cut.cancel();
        self.http.cancel();
    }
}

impl Broker {
    /// Starts a broker on this store; it takes work when this returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start<S: Administered + 'static>(
        config: BrokerConfig,
        store: S,
    ) -> Result<Self, StartError> {
        refuse_exposure(&config)?;
        let metrics = config.recorder.clone().unwrap_or_default();
        let (clock, chance) = (Clock::start(), Chance::new());
        let (readiness, readable) = watch::channel(Readiness::NotReady("recovering"));
        let signals = Signals::default();

        let http_listener = listen(config.http_listen).await?;
        let parts = HttpParts {
            readiness: readable,
            metrics: metrics.clone(),
            metrics_shown: config.metrics,
            insecure: config.insecure,
            host_names: config.http_host_names.clone(),
            connections_max: config.http_connections_max,
            body_bytes_max: config.body_bytes_max,
            clock: clock.clone(),
            chance: chance.clone(),
            stop: signals.http.clone(),
        };
        let http = http::serve(http_listener, parts)
            .map_err(|source| StartError::Listen { address: config.http_listen, source })?;

        let (shard, sessions) = (ShardId::default(), Sessions::default());
        let (reader, admin, epoch) = (Arc::new(store.reader()), store.admin(), store.epoch());
        let (telemetry, tracing_task) = match &config.telemetry {
            Some(traced) => {
                let started = Telemetry::start(traced, reader.clone(), metrics.clone(), chance.seed());
                let (telemetry, task) = started.map_err(StartError::Telemetry)?;
                (Some(telemetry), Some(task))
            }
            None => (None, None),
        };
        let started_at_ms = clock.now().unix_ms;
        let parts = DriverParts {
            shard,
            store,
            settings: config.settings,
            inbox: config.inbox,
            clock: clock.clone(),
            chance: chance.clone(),
            sessions: sessions.clone(),
            metrics: metrics.clone(),
            telemetry,
        };
        let (engine, mut driver, recovered) = driver::start(parts).await?;
        report(&recovered);
        let alarms = AlarmsParts {
            console_url: console_url(&config.alarms, http.address()),
            settings: config.alarms,
            engine: engine.clone(),
            clock: clock.clone(),
        };
        let alarms = match open_alarms(alarms, reader.clone()).await {
            Ok(alarms) => alarms,
            Err(error) => {
                driver.close();
                driver.ended().await?;
                return Err(error.into());
            }
        };
        let service = Service::new(ServiceParts {
            engine: engine.clone(),
            reader: reader.clone(),
            store: admin,
            alarms: alarms.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            shard,
            epoch,
            started_at_ms,
            data_dir: config.data_dir,
            peer_stall: config.peer_stall,
        });

        let grpc_listener = match listen(config.grpc_listen).await {
            Ok(listener) => listener,
            Err(error) => {
                // Nothing is left running: the store is closed when this returns.
                driver.close();
                driver.ended().await?;
                return Err(error);
            }
        };
        let parts = GrpcParts {
            engine,
            sessions,
            loader: Loader::new(reader),
            read_ahead_bytes_max: config.read_ahead_bytes_max,
            arriving_bytes_max: config.arriving_bytes_max,
            service: service.clone(),
            metrics,
            clock,
            chance,
            connections_max: config.connections_max,
            body_bytes_max: config.body_bytes_max,
            peer_stall: config.peer_stall,
            stopping: signals.stopping.clone(),
            cut: signals.cut.clone(),
        };
        let grpc = grpc::serve(grpc_listener, parts)
            .map_err(|source| StartError::Listen { address: config.grpc_listen, source })?;
        grpc.set_serving(true).await;
        readiness.send_replace(Readiness::Ready(service.clone(), grpc.calls()));
        alarms.start(service.clone(), &signals.stopping);
        tracing::info!(grpc = %grpc.address(), http = %http.address(), "broker ready");
        let closer = driver.closer();
        let (tell_end, end) = watch::channel(None);
        // Ends with the driver, which ends at the latest when the broker is dropped.
        tokio::spawn(watch_driver(driver, tell_end, readiness.clone(), alarms, signals.tokens()));
        Ok(Self { grpc, http, closer, end, recovered, service, readiness, signals, tracing_task })
    }

    /// Where gRPC listens.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc.address()
    }

    /// Where HTTP listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.address()
    }

    /// What the start found in the store.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What people and their tools ask.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Waits until the broker stops on its own, which it does only when it must. From then on nothing is answered and
    /// every connection is cut; the process should end with a failure. Cancel-safe.
    pub async fn wait(&mut self) -> DriverError {
        match driver_end(&mut self.end).await {
            Err(error) => error,
            Ok(()) => DriverError::Panicked("it ended without being told to".to_owned()),
        }
    }

    /// Stops in good order, within [`STOP_WITHIN`].
    ///
    /// # Errors
    /// If the last commits failed: what was not answered may be lost, a restart reads the truth.
    pub async fn shutdown(mut self) -> Result<(), DriverError> {
        tracing::info!("broker stopping");
        let in_time = tokio::time::sleep(STOP_WITHIN - STOP_HTTP);
        tokio::pin!(in_time);
        self.readiness.send_replace(Readiness::NotReady("stopping"));
        self.grpc.set_serving(false).await;
        self.signals.stopping.cancel();
        if tokio::time::timeout(STOP_POLITELY, self.grpc.ended()).await.is_err() {
            tracing::warn!("connections did not end in time: they are cut");
        }
        self.signals.cut.cancel();
        self.closer.close();
        let drained = tokio::time::timeout(STOP_DRAIN, driver_end(&mut self.end)).await;
        let ended = match drained {
            Ok(ended) => Ok(ended),
            Err(_) => {
                let inputs = self.closer.abandon();
                tracing::warn!(
                    inputs,
                    "what waited was given up, unanswered: too much of it to be done in time"
                );
                // Cancel-safe: waiting for an end takes nothing away.
                tokio::select! {
                    ended = driver_end(&mut self.end) => Ok(ended),
                    () = &mut in_time => Err(()),
                }
            }
        };
        if let Some(tracing_task) = self.tracing_task.take() {
            tracing_task.ended().await;
        }
        self.signals.http.cancel();
        self.http.cut();
        self.http.ended().await;
        match ended {
            Ok(ended) => {
                ended?;
                tracing::info!("broker stopped");
                Ok(())
            }
            Err(()) => Err(DriverError::Panicked("its last turn did not end in time".to_owned())),
        }
    }
}

type DriverEnd = Result<(), DriverError>;

/// How the driver ended, once it has. Cancel-safe.
async fn driver_end(end: &mut watch::Receiver<Option<DriverEnd>>) -> DriverEnd {
    match end.wait_for(Option::is_some).await {
        Ok(end) => end.clone().expect("it was waited for"),
        Err(_) => Err(DriverError::Panicked("nobody watches it any more".to_owned())),
    }
}

/// Waits for the driver's end. One that was not ordered cuts every connection at once: what was asked and not answered
/// stays so.
async fn watch_driver(
    mut driver: DriverTask,
    tell_end: watch::Sender<Option<DriverEnd>>,
    readiness: watch::Sender<Readiness>,
    alarms: Alarms,
    (stopping, cut): (CancellationToken, CancellationToken),
) {
    let end = driver.ended().await;
    if let Err(error) = &end {
        readiness.send_replace(Readiness::NotReady("the store failed; restart the broker"));
        cut.cancel();
        stopping.cancel();
        alarms.last_words(&error.to_string()).await;
    }
    tell_end.send_replace(Some(end));
}

/// What people's browsers call the console.
fn console_url(alarms: &AlarmSettings, http: SocketAddr) -> String {
    match alarms.console_url.trim_end_matches('/') {
        "" => format!("http://{http}"),
        configured => configured.to_owned(),
    }
}

/// Reading waits for the disk.
async fn open_alarms(parts: AlarmsParts, reader: Arc<dyn Read>) -> Result<Alarms, DriverError> {
    let opening = tokio::task::spawn_blocking(move || Alarms::open(parts, &*reader));
    match opening.await {
        Ok(opened) => Ok(opened?),
        Err(error) => Err(DriverError::Panicked(format!("reading the alarms ended early: {error}"))),
    }
}

fn refuse_exposure(config: &BrokerConfig) -> Result<(), StartError> {
    for address in [config.grpc_listen, config.http_listen] {
        if !address.ip().is_loopback() {
            if !config.insecure {
                return Err(StartError::Exposed(address));
            }
            tracing::warn!(%address, "listening beyond loopback without authentication, as --insecure says");
        }
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn report(recovered: &Recovered) {
    tracing::info!(
        topics = recovered.topics,
        groups = recovered.groups,
        undecided = recovered.undecided,
        retrying = recovered.retrying,
        "recovered"
    );
    for damaged in &recovered.damaged {
        tracing::error!(damaged, "damaged record left where it is; `escrow store verify` lists all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_of_the_configuration_reaches_the_broker() {
        let mut config = Config::default();
        config.limits.queue_inputs_max = 7;
        config.limits.queue_bytes_max = 1 << 20;
        config.limits.memory_bytes_max = 5 << 20;
        config.limits.connections_max = 9;
        config.limits.body_bytes_max = 1 << 10;
        let broker = BrokerConfig::from(&config);
        assert_eq!(broker.inbox, InboxLimits { inputs_max: 7, bytes_max: 1 << 20 });
        assert_eq!((broker.read_ahead_bytes_max, broker.arriving_bytes_max), (3 << 20, 1 << 20));
        assert_eq!((broker.connections_max, broker.body_bytes_max), (9, 1 << 10));
    }
}
