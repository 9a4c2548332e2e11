//! The HTTP port: the console for people, `/api/v1` for their scripts, metrics for Prometheus, signs of life for whoever
//! starts and stops brokers.

pub mod api;
mod connections;
pub(crate) mod guard;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use escrow_protocol::Reason;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{Chance, Clock};
use crate::console::{self, Console, Rates, Sample};
use crate::engine::Refusal;
use crate::metrics::Metrics;
use crate::service::Service;
use api::{Calls, Fault};
pub use connections::CONNECTIONS_MAX_DEFAULT;
use guard::Hosts;

/// The content type of the text that Prometheus reads.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// When a client that met a starting or stopping broker should try again, milliseconds.
const RETRY_WHEN_NOT_READY_MS: u64 = 1_000;

/// Whether the broker takes work.
#[derive(Debug, Clone)]
pub enum Readiness {
    /// It does: what is asked of it, and the way to its gRPC services.
    Ready(Service, Calls),
    /// It does not, for this reason.
    NotReady(&'static str),
}

/// A server at work.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the last connection is gone. Cancel-safe.
    pub async fn ended(&mut self) {
        match (&mut self.serving).await {
            Ok(()) => {}
            // It was cut.
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "HTTP server ended early"),
        }
    }

    /// Ends it with all its connections.
    pub fn cut(&self) {
        self.serving.abort();
    }
}

/// What the server works with.
pub struct HttpParts {
    /// Whether there is a broker to ask.
    pub readiness: watch::Receiver<Readiness>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Whether `/metrics` is there to see.
    pub metrics_shown: bool,
    /// Answers under any name, as `--insecure` says; else only under names of this machine, and under `host_names`.
    pub insecure: bool,
    /// Names of this port, beyond those of loopback.
    pub host_names: Vec<String>,
    /// Most connections at once.
    pub connections_max: usize,
    /// Largest body of a message, bytes: forms of the console may hold one.
    pub body_bytes_max: usize,
    /// The time.
    pub clock: Clock,
    /// For what nobody may guess.
    pub chance: Chance,
    /// Cancelled when the server is to end.
    pub stop: CancellationToken,
}

/// What handlers work with. A clone is the same.
#[derive(Clone)]
pub(crate) struct Shared {
    readiness: watch::Receiver<Readiness>,
    metrics: Arc<Metrics>,
    metrics_shown: bool,
    hosts: Arc<Hosts>,
}

impl Shared {
    fn service(&self) -> Result<Service, NotReady> {
        self.ready().map(|(service, _)| service)
    }

    /// The way to the services.
    ///
    /// # Errors
    /// While the broker is not ready.
    fn calls(&self) -> Result<Calls, Fault> {
        self.ready().map(|(_, calls)| calls).map_err(|NotReady(why)| {
            let refusal = tonic::Status::unavailable(format!("the broker is not ready: {why}"));
            Fault {
                reason: Reason::ShuttingDown.as_str().to_owned(),
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after_ms: Some(RETRY_WHEN_NOT_READY_MS),
                ..Fault::from(refusal)
            }
        })
    }

    pub(crate) fn ready(&self) -> Result<(Service, Calls), NotReady> {
        match &*self.readiness.borrow() {
            Readiness::Ready(service, calls) => Ok((service.clone(), calls.clone())),
            Readiness::NotReady(reason) => Err(NotReady((*reason).to_owned())),
        }
    }
}

/// The answer of a broker that is not ready.
pub(crate) struct NotReady(pub(crate) String);

impl From<Refusal> for NotReady {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.to_string())
    }
}

impl IntoResponse for NotReady {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

/// Serves on `listener` until told to stop.
///
/// # Errors
/// If the listener has no address.
pub fn serve(listener: TcpListener, parts: HttpParts) -> io::Result<HttpServer> {
    let address = listener.local_addr()?;
    let hosts = match parts.insecure {
        true => Hosts::Any,
        false => Hosts::LoopbackAnd(parts.host_names),
    };
    let shared = Shared {
        readiness: parts.readiness,
        metrics: parts.metrics,
        metrics_shown: parts.metrics_shown,
        hosts: Arc::new(hosts),
    };
    // Prometheus and probes come under any name; what they see is no secret and changes nothing.
    let signs = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready));
    let api = api::routes().layer(middleware::from_fn(guard::only_deliberate_calls));
    let rates = Rates::default();
    tokio::spawn(rates.clone().keep(parts.stop.clone(), sampler(&shared)));
    let console = Console::new(shared.clone(), rates, parts.clock.clone(), &parts.chance.secret());
    let pages = console::routes(console, parts.body_bytes_max);
    let guarded =
        api.merge(pages).layer(middleware::from_fn_with_state(shared.clone(), guard::only_known_hosts));
    let router = signs.merge(guarded).with_state(shared);
    let serving = connections::serve(listener, router, parts.connections_max, parts.stop, parts.clock);
    Ok(HttpServer { address, serving: tokio::spawn(serving) })
}

/// Looks once at what the console draws.
fn sampler(shared: &Shared) -> impl FnMut() -> futures::future::BoxFuture<'static, Option<Sample>> + use<> {
    let shared = shared.clone();
    let mut before = None;
    move || {
        let shared = shared.clone();
        let now = shared.metrics.activity();
        let before = before.replace(now.clone());
        Box::pin(async move {
            let numbers = shared.service().ok()?.store_numbers().await.ok()?;
            Some(Sample::new(&now, before.as_ref(), numbers.last_sync_us))
        })
    }
}

async fn ready(State(shared): State<Shared>) -> Result<&'static str, NotReady> {
    shared.service().map(|_| "ready\n")
}

async fn scrape(State(shared): State<Shared>) -> Result<Response, NotReady> {
    if !shared.metrics_shown {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let text = shared.metrics.render(&shared.service()?.scrape().await?);
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response())
}
