//! The HTTP port: metrics for Prometheus, signs of life for whoever starts and stops brokers, and a plain page for
//! people.

mod page;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::Refusal;
use crate::metrics::Metrics;
use crate::service::Service;

/// The content type of the text that Prometheus reads.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the broker takes work.
#[derive(Debug, Clone)]
pub enum Readiness {
    /// It does.
    Ready(Service),
    /// It does not, for this reason.
    NotReady(&'static str),
}

/// A server at work.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    serving: JoinHandle<io::Result<()>>,
}

impl HttpServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the last connection is gone. Cancel-safe.
    pub async fn ended(&mut self) {
        match (&mut self.serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "HTTP server failed"),
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

#[derive(Clone)]
struct Shared {
    readiness: watch::Receiver<Readiness>,
    /// `None`: not served.
    metrics: Option<Arc<Metrics>>,
}

impl Shared {
    fn service(&self) -> Result<Service, NotReady> {
        match &*self.readiness.borrow() {
            Readiness::Ready(service) => Ok(service.clone()),
            Readiness::NotReady(reason) => Err(NotReady((*reason).to_owned())),
        }
    }
}

/// The answer of a broker that is not ready.
struct NotReady(String);

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

/// Serves on `listener` until `stop` is cancelled; without `metrics` there are none to see.
///
/// # Errors
/// If the listener has no address.
pub fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    metrics: Option<Arc<Metrics>>,
    stop: CancellationToken,
) -> io::Result<HttpServer> {
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/", get(front))
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(Shared { readiness, metrics });
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    Ok(HttpServer { address, serving: tokio::spawn(async { serving.await }) })
}

async fn ready(State(shared): State<Shared>) -> Result<&'static str, NotReady> {
    shared.service().map(|_| "ready\n")
}

async fn scrape(State(shared): State<Shared>) -> Result<Response, NotReady> {
    let Some(metrics) = &shared.metrics else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let text = metrics.render(&shared.service()?.scrape().await?);
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response())
}

async fn front(State(shared): State<Shared>) -> Result<Html<String>, NotReady> {
    Ok(Html(page::front(&shared.service()?.status().await?)))
}
