//! The consumer's side of the null server: one queue, taken from as credit allows, never delivered again.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use escrow_protocol::PROTOCOL_VERSION;
use escrow_protocol::v1::consumer_request::Kind as Request;
use escrow_protocol::v1::consumer_response::Kind as Response;
use escrow_protocol::v1::consumer_service_server::ConsumerService;
use escrow_protocol::v1::{self, ConsumerBatch, ConsumerRequest, ConsumerResponse, Delivery, SettleResult};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::log::{Entry, Log};
use super::producer::sessions_only;
use crate::stamp::STAMP_BYTES;

/// Frames waiting for the transport.
const FRAMES_QUEUED_MAX: usize = 4;
/// Deliveries of one frame.
const DELIVERIES_MAX: usize = 256;
/// Longer than any run.
const LEASE_MS: i64 = 12 * 3600 * 1000;

pub(crate) struct NullConsumer {
    pub(crate) log: Arc<Log>,
}

#[tonic::async_trait]
impl ConsumerService for NullConsumer {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<ConsumerResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<ConsumerRequest>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        let (sender, frames) = mpsc::channel(FRAMES_QUEUED_MAX);
        let session = Session { log: Arc::clone(&self.log), frames: sender, credit: 0, next_token: 1 };
        tokio::spawn(session.run(request.into_inner()));
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    async fn receive(
        &self,
        _request: tonic::Request<v1::ReceiveRequest>,
    ) -> Result<tonic::Response<v1::ReceiveResponse>, Status> {
        Err(sessions_only())
    }

    async fn settle(
        &self,
        _request: tonic::Request<v1::SettleRequest>,
    ) -> Result<tonic::Response<v1::SettleResponse>, Status> {
        Err(sessions_only())
    }
}

struct Session {
    log: Arc<Log>,
    frames: mpsc::Sender<Result<ConsumerResponse, Status>>,
    credit: usize,
    next_token: u64,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<ConsumerRequest>) {
        loop {
            let log = Arc::clone(&self.log);
            let answer = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.answer(request),
                    Ok(None) | Err(_) => return,
                },
                // Cancel safe: it takes in the moment in which it returns.
                entries = log.take(self.credit.min(DELIVERIES_MAX)), if self.credit > 0 => Some(self.deliver(entries)),
            };
            let Some(kind) = answer else { continue };
            if self.frames.send(Ok(ConsumerResponse { kind: Some(kind) })).await.is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, request: ConsumerRequest) -> Option<Response> {
        match request.kind? {
            Request::Hello(hello) => Some(Response::Welcome(v1::ConsumerWelcome {
                protocol_version: PROTOCOL_VERSION,
                broker_version: "null".into(),
                group: hello.group,
                lease_ms: LEASE_MS,
            })),
            Request::Frame(frame) => {
                self.credit += frame.credit.map_or(0, |credit| credit.messages as usize);
                let settled = |settlement: v1::Settlement| SettleResult {
                    correlation: settlement.correlation,
                    lease_token: settlement.lease_token,
                    fault: None,
                };
                let results: Vec<_> = frame.settlements.into_iter().map(settled).collect();
                let batch = ConsumerBatch { deliveries: Vec::new(), results };
                (!batch.results.is_empty()).then_some(Response::Frame(batch))
            }
        }
    }

    fn deliver(&mut self, entries: Vec<Entry>) -> Response {
        self.credit -= entries.len();
        let deliveries = entries.into_iter().map(|entry| self.delivery(entry)).collect();
        Response::Frame(ConsumerBatch { deliveries, results: Vec::new() })
    }

    fn delivery(&mut self, entry: Entry) -> Delivery {
        let lease_token = self.next_token;
        self.next_token += 1;
        let mut body = Vec::with_capacity(entry.body_bytes);
        body.extend_from_slice(&entry.stamp);
        body.resize(entry.body_bytes.max(STAMP_BYTES), 0);
        let message = v1::Message {
            body: Bytes::from(body),
            ordering_key: entry.ordering_key,
            ..v1::Message::default()
        };
        Delivery {
            message: Some(message),
            attempt: 1,
            lease_token,
            lease_ms: LEASE_MS,
            ..Delivery::default()
        }
    }
}
