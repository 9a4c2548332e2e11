//! The producer's side of the null server.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use escrow_protocol::PROTOCOL_VERSION;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_request::Kind as Request;
use escrow_protocol::v1::producer_response::Kind as Response;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_protocol::v1::producer_service_server::ProducerService;
use escrow_protocol::v1::{self, ProducerRequest, ProducerResponse, ProducerResult, ProducerResults};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::append::{Append, Appender};
use super::log::Log;

/// Answers waiting for the transport.
const ANSWERS_QUEUED_MAX: usize = 64;

pub(crate) struct NullProducer {
    pub(crate) log: Arc<Log>,
    pub(crate) appender: Option<Appender>,
}

type Answers = mpsc::Sender<Result<ProducerResponse, Status>>;

#[tonic::async_trait]
impl ProducerService for NullProducer {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<ProducerResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<ProducerRequest>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        let (sender, answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let session =
            Session { log: Arc::clone(&self.log), appender: self.appender.clone(), answers: sender };
        tokio::spawn(session.run(request.into_inner()));
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn publish(
        &self,
        _request: tonic::Request<v1::PublishRequest>,
    ) -> Result<tonic::Response<v1::PublishResponse>, Status> {
        Err(sessions_only())
    }

    async fn send_half(
        &self,
        _request: tonic::Request<v1::SendHalfRequest>,
    ) -> Result<tonic::Response<v1::SendHalfResponse>, Status> {
        Err(sessions_only())
    }

    async fn decide(
        &self,
        _request: tonic::Request<v1::DecideRequest>,
    ) -> Result<tonic::Response<v1::DecideResponse>, Status> {
        Err(sessions_only())
    }
}

/// The null server measures sessions.
pub(crate) fn sessions_only() -> Status {
    Status::unimplemented("the null server has sessions only")
}

struct Session {
    log: Arc<Log>,
    appender: Option<Appender>,
    answers: Answers,
}

impl Session {
    async fn run(self, mut requests: Streaming<ProducerRequest>) {
        while let Ok(Some(request)) = requests.message().await {
            match request.kind {
                Some(Request::Hello(_)) => {
                    let welcome = v1::ProducerWelcome {
                        protocol_version: PROTOCOL_VERSION,
                        broker_version: "null".into(),
                        body_bytes_max: 0,
                    };
                    let answer = ProducerResponse { kind: Some(Response::Welcome(welcome)) };
                    if self.answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                Some(Request::Frame(frame)) => self.frame(frame).await,
                None => {}
            }
        }
    }

    async fn frame(&self, frame: v1::ProducerFrame) {
        let mut bodies = Vec::new();
        let mut results = Vec::with_capacity(frame.commands.len());
        for command in frame.commands {
            let result = command.command.and_then(|command| self.perform(command, &mut bodies));
            if let Some(result) = result {
                results.push(ProducerResult { correlation: command.correlation, result: Some(result) });
            }
        }
        let frame = ProducerResults { results, questions: Vec::new() };
        let answer = ProducerResponse { kind: Some(Response::Frame(frame)) };
        match &self.appender {
            Some(appender) => appender.append(Append { bodies, answer, to: self.answers.clone() }).await,
            None => drop(self.answers.send(Ok(answer)).await),
        }
    }

    fn perform(&self, command: Command, bodies: &mut Vec<Bytes>) -> Option<Outcome> {
        match command {
            Command::Publish(request) => {
                let message = request.message?;
                self.log.publish(&message);
                bodies.push(message.body);
                let message_id = message.id;
                Some(Outcome::Published(v1::PublishResponse {
                    message_id,
                    offset: Some(0),
                    duplicate: false,
                }))
            }
            Command::SendHalf(request) => {
                let transaction_id = self.log.hold(&request.messages);
                let message_ids = request.messages.iter().map(|message| message.id.clone()).collect();
                bodies.extend(request.messages.into_iter().map(|message| message.body));
                let state = v1::TransactionState::Prepared.into();
                Some(Outcome::Prepared(v1::SendHalfResponse {
                    transaction_id,
                    message_ids,
                    state,
                    duplicate: false,
                }))
            }
            Command::Decide(request) => {
                let commit = request.decision() == v1::Decision::Commit;
                self.log.decide(request.transaction_id, commit);
                // A decision is a record on the disk as well.
                bodies.push(Bytes::from_static(&[0; 32]));
                let state = match commit {
                    true => v1::TransactionState::Committed,
                    false => v1::TransactionState::RolledBack,
                };
                Some(Outcome::Decided(v1::DecideResponse {
                    transaction_id: request.transaction_id,
                    state: state.into(),
                    decider: None,
                    duplicate: false,
                }))
            }
            Command::CheckAnswer(_) => None,
        }
    }
}
