//! A consumer's session: credit and settlements up, deliveries and results down.

use std::sync::Arc;

use escrow_protocol::v1::consumer_request::Kind as Up;
use escrow_protocol::v1::consumer_response::Kind as Down;
use escrow_protocol::{GroupName, LeaseToken, v1};
use tonic::Streaming;

use crate::dispatch::{Loaded, Outbox, Parcel, Ticket};
use crate::engine::{ConsumerConnected, Input, Refusal, Reply, SessionId, Settle};
use crate::grpc::frames::{FrameSender, HELLO_WAIT, broken, check_entries};
use crate::grpc::session::{Ending, ReadEnd, Wording, conduct, leave};
use crate::grpc::wire::{consumer, fields, results};
use crate::grpc::{Edge, hello_expected, protocol_version};

/// Runs a session from its hello to its end.
pub(super) async fn run(
    edge: Edge,
    address: String,
    mut requests: Streaming<v1::ConsumerRequest>,
    frames: FrameSender<v1::ConsumerResponse>,
) {
    let hello = tokio::select! {
        // Nothing was promised yet: what the losing arm had read is not missed.
        () = edge.stopping.cancelled() => return frames.fail(crate::driver::stopping()).await,
        hello = first_frame(&mut requests) => hello,
    };
    let outbox = edge.sessions.open();
    match edge.counted(hello.and_then(|hello| connected(outbox.id(), address, hello))) {
        Ok((version, connected)) => welcome(&edge, &outbox, version, connected, requests, &frames).await,
        Err(refusal) => {
            edge.sessions.forget(outbox.id());
            frames.fail(refusal).await;
        }
    }
}

async fn first_frame(requests: &mut Streaming<v1::ConsumerRequest>) -> Result<v1::ConsumerHello, Refusal> {
    match tokio::time::timeout(HELLO_WAIT, requests.message()).await {
        Ok(Ok(Some(v1::ConsumerRequest { kind: Some(Up::Hello(hello)) }))) => Ok(hello),
        Ok(Ok(Some(_))) => Err(hello_expected("the first frame was something else")),
        Ok(Ok(None) | Err(_)) => Err(hello_expected("the stream ended without one")),
        Err(_) => Err(hello_expected("none came in time")),
    }
}

/// The version both sides speak, and who a consumer says it is.
pub(in crate::grpc) fn connected(
    session: SessionId,
    address: String,
    hello: v1::ConsumerHello,
) -> fields::Checked<(u32, ConsumerConnected)> {
    let version = protocol_version(hello.protocol_version, hello.protocol_version_min)?;
    Ok((version, consumer::consumer_hello(session, address, hello)?))
}

async fn welcome(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    version: u32,
    connected: ConsumerConnected,
    requests: Streaming<v1::ConsumerRequest>,
    frames: &FrameSender<v1::ConsumerResponse>,
) {
    tracing::debug!(client_id = %connected.client, group = %connected.group, "consumer connected");
    let mut ending = Ending::Lost;
    match edge.engine.ask(Input::ConsumerConnected(connected)).await {
        Ok(Reply::Joined { group, lease_ms }) => {
            let welcome = v1::ConsumerWelcome {
                protocol_version: version,
                broker_version: env!("CARGO_PKG_VERSION").to_owned(),
                group: group.to_string(),
                lease_ms: fields::ms(lease_ms),
            };
            if frames.send(down(Down::Welcome(welcome)), None).await.is_ok() {
                let wording = Wording { frame: batch_frame, goodbye: |goodbye| down(Down::Goodbye(goodbye)) };
                ending = conduct(edge, outbox, frames, wording, read(edge, outbox, &group, requests)).await;
            }
        }
        Ok(_) => frames.fail(results::mismatch()).await,
        Err(refusal) => frames.fail(refusal).await,
    }
    leave(edge, outbox, ending).await;
}

fn down(kind: Down) -> v1::ConsumerResponse {
    v1::ConsumerResponse { kind: Some(kind) }
}

fn batch_frame(loaded: Loaded) -> Option<v1::ConsumerResponse> {
    let results: Vec<_> = loaded
        .answers
        .into_iter()
        .filter_map(|(ticket, outcome)| match ticket {
            // Without a correlation only a failure is of interest.
            Ticket::Settle(0, _) if outcome.is_ok() => None,
            Ticket::Settle(correlation, token) => Some(results::settle_result(correlation, token.0, outcome)),
            Ticket::Publish(..) | Ticket::SendHalf(_) | Ticket::Decide(..) => None,
        })
        .collect();
    let deliveries: Vec<_> = loaded.deliveries.into_iter().map(consumer::delivery_to_wire).collect();
    let empty = results.is_empty() && deliveries.is_empty();
    (!empty).then(|| down(Down::Frame(v1::ConsumerBatch { deliveries, results })))
}

async fn read(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    group: &GroupName,
    mut requests: Streaming<v1::ConsumerRequest>,
) -> ReadEnd {
    loop {
        // Cancel-safe: a frame is read whole or stays in the stream.
        let request = tokio::select! {
            () = edge.stopping.cancelled() => return ReadEnd::Stopping,
            request = requests.message() => request,
        };
        let taken = match request {
            Ok(Some(v1::ConsumerRequest { kind: Some(Up::Frame(frame)) })) => {
                take_frame(edge, outbox, group, frame).await
            }
            Ok(Some(v1::ConsumerRequest { kind: Some(Up::Hello(_)) })) => {
                Err(hello_expected("a second one came"))
            }
            Ok(Some(v1::ConsumerRequest { kind: None })) => Err(Refusal::invalid(
                "kind",
                "the frame is neither a hello nor work, or newer than this broker",
            )),
            Ok(None) => return ReadEnd::Finished,
            Err(status) => return broken(&status),
        };
        if let Err(refusal) = edge.counted(taken) {
            return ReadEnd::Refused(refusal);
        }
        // Cancel-safe: nothing is under way while waiting for room.
        tokio::select! {
            () = edge.stopping.cancelled() => return ReadEnd::Stopping,
            () = outbox.room() => {}
        }
    }
}

/// Hands a frame's settlements and credit to the engine, in order; a settlement that does not pass is answered. None of
/// them is refused for lack of room: they are what makes room.
async fn take_frame(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    group: &GroupName,
    frame: v1::ConsumerFrame,
) -> Result<(), Refusal> {
    check_entries("settlements", frame.settlements.len())?;
    let mut inputs = Vec::with_capacity(frame.settlements.len() + 1);
    let mut refused = Vec::new();
    for settlement in frame.settlements {
        let ticket = Ticket::Settle(settlement.correlation, LeaseToken(settlement.lease_token));
        match edge.counted(consumer::settlement(settlement)) {
            Ok((token, verb)) => {
                inputs.push((Input::Settle(Settle { group: group.clone(), token, verb }), Some(ticket)));
            }
            Err(refusal) => refused.push(Parcel::Answer(ticket, Err(refusal))),
        }
    }
    outbox.owe(inputs.len() + refused.len());
    if !refused.is_empty() {
        outbox.post(refused);
    }
    if let Some(credit) = frame.credit {
        inputs.push((Input::Credit(consumer::credit(outbox.id(), credit)), None));
    }
    if !inputs.is_empty() {
        edge.engine.submit_when_room(outbox, inputs).await;
    }
    Ok(())
}
