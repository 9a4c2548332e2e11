//! Sends spans to a collector, in batches, by gRPC. What cannot be sent in time is dropped and counted: a collector that
//! is away must cost the broker nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::TelemetryConfig;
use super::otlp::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, Resource, ResourceSpans, Scope, ScopeSpans, Span,
    text,
};
use crate::metrics::Metrics;

/// Most spans of one call.
const BATCH_SPANS_MAX: usize = 1_024;
/// The longest a span waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(500);
/// How long the collector may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A call that failed is made again after these delays; then its spans are dropped.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Where spans go.
pub(super) struct Exporter {
    channel: Channel,
    service_name: String,
    metrics: Arc<Metrics>,
    /// The collector was there when last called: what is said once is not said each second.
    is_well: bool,
}

impl Exporter {
    /// An exporter to the collector of `config`; it connects when there is something to send.
    ///
    /// # Errors
    /// If the endpoint is no address.
    pub(super) fn new(
        config: &TelemetryConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(config.otlp_endpoint.clone())?;
        let channel = endpoint.connect_timeout(CALL_TIMEOUT).timeout(CALL_TIMEOUT).connect_lazy();
        Ok(Self { channel, service_name: config.service_name.clone(), metrics, is_well: true })
    }

    /// Sends what comes, until nothing more will.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Vec<Span>>) {
        while let Some(first) = spans.recv().await {
            let mut batch = first;
            let full = tokio::time::sleep(BATCH_WAIT);
            tokio::pin!(full);
            while batch.len() < BATCH_SPANS_MAX {
                // Cancel-safe: what is received is kept, what is not stays in the channel.
                tokio::select! {
                    () = &mut full => break,
                    more = spans.recv() => match more {
                        Some(more) => batch.extend(more),
                        None => break,
                    },
                }
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let request = self.request(spans);
        let mut delays = RETRY_DELAYS.into_iter();
        loop {
            let fault = match self.call(request.clone()).await {
                Ok(answer) => {
                    let rejected =
                        answer.partial_success.map_or(0, |partial| partial.rejected_spans).max(0) as u64;
                    self.metrics.spans(count.saturating_sub(rejected), rejected.min(count));
                    if !self.is_well {
                        tracing::info!("the trace collector takes spans again");
                    }
                    self.is_well = true;
                    return;
                }
                Err(fault) => fault,
            };
            match delays.next().filter(|_| is_passing(&fault)) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => {
                    self.metrics.spans(0, count);
                    if self.is_well {
                        tracing::warn!(error = %fault.message(), "the trace collector takes no spans: they are dropped and counted");
                    }
                    self.is_well = false;
                    return;
                }
            }
        }
    }

    async fn call(
        &self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, tonic::Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let unavailable = |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
        grpc.ready().await.map_err(unavailable)?;
        let codec = tonic_prost::ProstCodec::default();
        let answer =
            grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(EXPORT), codec).await?;
        Ok(answer.into_inner())
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            text("service.name", &self.service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let scope = Scope { name: "escrow".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans }],
        }
    }
}

/// What the protocol says may be tried again.
fn is_passing(fault: &tonic::Status) -> bool {
    use tonic::Code;
    matches!(
        fault.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DataLoss
    )
}
