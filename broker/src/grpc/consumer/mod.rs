//! What consumers call: the session, and its unary twins.

mod receive;
mod session;

use escrow_protocol::limits::FRAME_ENTRIES_MAX;
use escrow_protocol::v1;
use escrow_protocol::v1::consumer_service_server::ConsumerService;
use tonic::{Request, Response, Status, Streaming};

use super::socket::Peer;
use super::wire::{consumer, results};
use super::{Edge, answer, frames, held};
use crate::engine::{Input, Refusal, Settle};
pub(super) use session::connected;

/// See the module.
pub(super) struct Consumer {
    pub(super) edge: Edge,
}

#[tonic::async_trait]
impl ConsumerService for Consumer {
    type SessionStream = frames::Frames<v1::ConsumerResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ConsumerRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = Peer::of(&request);
        let (address, (sender, receiver)) = (peer.to_string(), self.edge.frames(peer));
        // The task ends with its stream, at the latest when the broker stops.
        tokio::spawn(session::run(self.edge.clone(), address, request.into_inner(), sender));
        Ok(receiver.answer())
    }

    async fn receive(
        &self,
        request: Request<v1::ReceiveRequest>,
    ) -> Result<Response<v1::ReceiveResponse>, Status> {
        let address = Peer::of(&request).to_string();
        match receive::receive(self.edge.clone(), address, request.into_inner()).await {
            Ok((response, permit)) => Ok(held::until_taken(Response::new(response), permit)),
            Err(refusal) => answer(Err(refusal)),
        }
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        answer(settle(&self.edge, request.into_inner()).await)
    }
}

/// One result for each settlement, in order; those that do not pass never reach the engine.
async fn settle(edge: &Edge, request: v1::SettleRequest) -> Result<v1::SettleResponse, Refusal> {
    let group = edge.counted(consumer::group_name("group", &request.group))?;
    if request.settlements.len() > FRAME_ENTRIES_MAX {
        let fault =
            format!("there are {}, at most {FRAME_ENTRIES_MAX} are allowed", request.settlements.len());
        return edge.counted(Err(Refusal::invalid("settlements", fault).with("limit", FRAME_ENTRIES_MAX)));
    }
    let mut inputs = Vec::with_capacity(request.settlements.len());
    let mut waiting = Vec::with_capacity(request.settlements.len());
    for settlement in request.settlements {
        let (correlation, token) = (settlement.correlation, settlement.lease_token);
        let checked = edge.counted(consumer::settlement(settlement));
        let refused = match checked {
            Ok((token, verb)) => {
                inputs.push(Input::Settle(Settle { group: group.clone(), token, verb }));
                None
            }
            Err(refusal) => Some(refusal),
        };
        waiting.push((correlation, token, refused));
    }
    let mut outcomes = edge.engine.ask_all(inputs).await.into_iter();
    let results = waiting.into_iter().map(|(correlation, token, refused)| {
        let outcome = match refused {
            Some(refusal) => Err(refusal),
            None => outcomes.next().unwrap_or_else(|| Err(results::mismatch())),
        };
        results::settle_result(correlation, token, outcome)
    });
    Ok(v1::SettleResponse { results: results.collect() })
}
