//! What producers call: the session, and its unary twins.

mod session;

use escrow_protocol::v1;
use escrow_protocol::v1::producer_service_server::ProducerService;
use tonic::{Request, Response, Status, Streaming};

use super::socket::Peer;
use super::wire::{results, transaction};
use super::{Edge, answer, frames};
use crate::engine::Input;
pub(super) use session::{check_bytes, connected, input_of};

/// See the module.
pub(super) struct Producer {
    pub(super) edge: Edge,
}

#[tonic::async_trait]
impl ProducerService for Producer {
    type SessionStream = frames::Frames<v1::ProducerResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ProducerRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = Peer::of(&request);
        let (address, (sender, receiver)) = (peer.to_string(), self.edge.frames(peer));
        // The task ends with its stream, at the latest when the broker stops.
        tokio::spawn(session::run(self.edge.clone(), address, request.into_inner(), sender));
        Ok(receiver.answer())
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let edge = &self.edge;
        let message = edge.checked(edge.checks.message(request.into_inner().message))?;
        let id = message.id;
        answer(results::published(id, edge.engine.ask(Input::Publish(message)).await))
    }

    async fn send_half(
        &self,
        request: Request<v1::SendHalfRequest>,
    ) -> Result<Response<v1::SendHalfResponse>, Status> {
        let (edge, request) = (&self.edge, request.into_inner());
        let producer = edge.checked(transaction::producer_name(&request.group, &request.client_id))?;
        let half = edge.checked(transaction::send_half(&edge.checks, producer, request))?;
        answer(results::prepared(edge.engine.ask(Input::SendHalf(half)).await))
    }

    async fn decide(
        &self,
        request: Request<v1::DecideRequest>,
    ) -> Result<Response<v1::DecideResponse>, Status> {
        let (edge, request) = (&self.edge, request.into_inner());
        let producer = edge.checked(transaction::producer_name(&request.group, &request.client_id))?;
        let decide = edge.checked(transaction::decide(producer, &request))?;
        let id = decide.transaction;
        answer(results::decided(id, edge.engine.ask(Input::Decide(decide)).await))
    }
}
