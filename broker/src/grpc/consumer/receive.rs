//! Deliveries by a unary call: a consumer that joins, takes what is ready, and leaves; its leases outlive it.

use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::limits::{CREDIT_BYTES_MAX, RECEIVE_MESSAGES_MAX, RECEIVE_WAIT_MS_MAX};
use escrow_protocol::{Reason, v1};

use crate::dispatch::{Loaded, LoadedDelivery, Outbox, Parcel, Permit};
use crate::engine::{ConsumerConnected, Credit, Input, Refusal, Settle, Verb};
use crate::grpc::Edge;
use crate::grpc::wire::{consumer, fields};

/// Bytes when the caller does not say.
const BYTES_DEFAULT: u64 = 1 << 20;
/// Most bytes of one answer: it is one gRPC message.
const BYTES_MAX: u64 = 16 << 20;

/// Takes what is ready, waiting for the first message as long as asked; with what it takes of the memory for sessions.
///
/// # Errors
/// `InvalidField`, `UnknownTopic`, `SubscriptionMismatch`, `Overloaded`, `ShuttingDown`.
pub(super) async fn receive(
    edge: Edge,
    address: String,
    request: v1::ReceiveRequest,
) -> Result<(v1::ReceiveResponse, Permit), Refusal> {
    let wanted = edge.counted(wanted(&request))?;
    let outbox = edge.sessions.open();
    let connected = match edge.counted(consumer::receiver(outbox.id(), address, request)) {
        Ok(connected) => connected,
        Err(refusal) => {
            edge.sessions.forget(outbox.id());
            return Err(refusal);
        }
    };
    // A task of its own: if the caller goes away meanwhile, what it was given still goes back.
    let (hand_over, taken) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let received = take(&edge, &outbox, connected, wanted).await;
        edge.sessions.forget(outbox.id());
        if let Err(Ok((unwanted, _))) = hand_over.send(received) {
            release(&edge, unwanted).await;
        }
    });
    match taken.await {
        Ok(received) => {
            let (deliveries, permit) = received?;
            let deliveries = deliveries.into_iter().map(consumer::delivery_to_wire).collect();
            Ok((v1::ReceiveResponse { deliveries }, permit))
        }
        Err(_) => Err(crate::driver::stopping()),
    }
}

/// What the caller may be given, and how long it waits.
#[derive(Debug, Clone, Copy)]
struct WantedDeliveries {
    messages: u32,
    bytes: u64,
    wait: Duration,
}

fn wanted(request: &v1::ReceiveRequest) -> fields::Checked<WantedDeliveries> {
    if request.max_messages > RECEIVE_MESSAGES_MAX {
        let fault = format!("it is {}, at most {RECEIVE_MESSAGES_MAX} are allowed", request.max_messages);
        return Err(Refusal::invalid("max_messages", fault).with("limit", RECEIVE_MESSAGES_MAX));
    }
    if request.max_bytes > CREDIT_BYTES_MAX {
        let fault = format!("it is {}, at most {CREDIT_BYTES_MAX} are allowed", request.max_bytes);
        return Err(Refusal::invalid("max_bytes", fault).with("limit", CREDIT_BYTES_MAX));
    }
    let wait_ms = fields::within("wait_ms", request.wait_ms, 0, RECEIVE_WAIT_MS_MAX)?;
    Ok(WantedDeliveries {
        messages: request.max_messages.max(1),
        bytes: if request.max_bytes == 0 { BYTES_DEFAULT } else { request.max_bytes.min(BYTES_MAX) },
        wait: Duration::from_millis(wait_ms),
    })
}

async fn take(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    connected: ConsumerConnected,
    wanted: WantedDeliveries,
) -> Result<(Vec<LoadedDelivery>, Permit), Refusal> {
    let session = outbox.id();
    edge.engine.ask(Input::ConsumerConnected(connected)).await?;
    let credit = Credit { session, messages: wanted.messages, bytes: wanted.bytes };
    // The answer comes with the deliveries of its turn: what is ready is there when it comes.
    let mut outcome = edge.engine.insist(Input::Credit(credit)).await.map(drop);
    let mut parcels = Vec::new();
    if outcome.is_ok() && !wanted.wait.is_zero() {
        // Cancel-safe: nothing is taken from the outbox unless its arm wins.
        tokio::select! {
            () = edge.stopping.cancelled() => {}
            () = tokio::time::sleep(wanted.wait) => {}
            // A session that is told to go has nothing to take, and is closed below.
            _ = outbox.weigh(usize::MAX, usize::MAX) => parcels = outbox.take_all(),
        }
    }
    // Behind this answer nothing more is delivered to the session: what came before it is in the outbox.
    let left = edge.engine.insist(Input::SessionClosed(session)).await.map(drop);
    if outcome.is_ok() {
        outcome = left;
    }
    parcels.extend(outbox.take_all());
    let permit = edge.allowance.take(parcels.iter().map(Parcel::weight).sum()).await;
    let Some(Loaded { deliveries, .. }) = edge.load(parcels, usize::MAX).await else {
        return Err(Refusal::new(
            Reason::Internal,
            "the messages could not be read; the broker's log says why",
        ));
    };
    match outcome {
        Ok(()) => Ok((deliveries, permit)),
        // What was given is given: the stop of the broker does not take it back.
        Err(_) if !deliveries.is_empty() => Ok((deliveries, permit)),
        Err(refusal) => Err(refusal),
    }
}

async fn release(edge: &Edge, unwanted: Vec<LoadedDelivery>) {
    for LoadedDelivery { delivery, .. } in unwanted {
        let settle = Settle { group: delivery.group, token: delivery.token, verb: Verb::Release };
        edge.engine.tell(Input::Settle(settle)).await;
    }
}
