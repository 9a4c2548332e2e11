//! gRPC: sessions, their unary twins, the admin service. Checks what comes in, words what goes out; decides nothing and
//! never touches the store.

mod admin;
mod arriving;
mod consumer;
mod frames;
pub mod fuzzing;
mod held;
mod producer;
mod server;
mod session;
pub(crate) mod socket;
mod status;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Reason};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::clock::Clock;
use crate::dispatch::{Ahead, Allowance, Loaded, Loader, Parcel, Sessions};
use crate::driver::EngineHandle;
use crate::engine::{Input, Refusal};
use crate::metrics::Metrics;
use socket::Peer;
use wire::message::MessageChecks;

use consumer::connected as consumer_connected;
use producer::connected as producer_connected;
pub use server::{GrpcParts, GrpcServer, serve};

/// What every gRPC service works with. A clone is the same edge.
#[derive(Clone)]
struct Edge {
    engine: EngineHandle,
    sessions: Sessions,
    loader: Loader,
    /// What may be read for sessions and not taken yet.
    allowance: Allowance,
    checks: MessageChecks,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// How long a session's peer may take no frame.
    peer_stall: Duration,
    /// Cancelled when the broker begins to stop: sessions take nothing more in, and say goodbye.
    stopping: CancellationToken,
}

impl Edge {
    /// What was checked; a refusal at the edge is counted, for the engine will not see it.
    fn counted<T>(&self, checked: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &checked {
            self.metrics.refused(refusal.reason, 1);
        }
        checked
    }

    /// As [`Edge::counted`], for a unary call.
    fn checked<T>(&self, checked: Result<T, Refusal>) -> Result<T, Status> {
        self.counted(checked).map_err(status::status_of)
    }
}

impl Edge {
    /// The way of frames to the peer of a new session.
    fn frames<T>(&self, peer: Peer) -> (frames::FrameSender<T>, frames::Frames<T>) {
        frames::channel(peer, Ahead::new(self.allowance.clone(), self.clock.clone()), self.peer_stall)
    }

    /// What these parcels refer to, as [`Loader::load`] has it; the engine hears of those that cannot be delivered. `None`: the session cannot go
    /// on; if the store failed, the broker stops. Not cancel-safe.
    async fn load(&self, parcels: Vec<Parcel>, bytes_max: usize) -> Option<Loaded> {
        let mut loaded = self.loader.load(parcels, bytes_max).await?;
        if let Some(error) = loaded.failed {
            self.engine.fail(error);
            return None;
        }
        for (delivery, fault) in std::mem::take(&mut loaded.undeliverable) {
            tracing::error!(message_id = %delivery.id, group = %delivery.group, fault, "message cannot be delivered");
            self.engine.tell(Input::Undeliverable(delivery.token, fault)).await;
        }
        Some(loaded)
    }
}

/// An answer, or its refusal, as a unary call has it.
fn answer<T>(outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(status::status_of)
}

/// The refusal of a session whose first frame is no hello, or whose later one is.
fn hello_expected(fault: &str) -> Refusal {
    Refusal::new(
        Reason::HelloExpected,
        format!("{fault}; the first frame of a session, and no other, is a hello"),
    )
}

/// The version both sides speak: the lower of the newest of each. A client says the newest version it speaks and the
/// oldest (0: the first).
fn protocol_version(newest: u32, oldest: u32) -> Result<u32, Refusal> {
    let oldest = oldest.max(1);
    if newest == 0 {
        let fault = "it is missing; send the newest version the client speaks";
        return Err(Refusal::invalid("protocol_version", fault));
    }
    if oldest > newest {
        let fault =
            format!("it is {oldest}, newer than protocol_version, {newest}; send the oldest version spoken");
        return Err(Refusal::invalid("protocol_version_min", fault));
    }
    let version = newest.min(PROTOCOL_VERSION);
    if version < oldest || version < PROTOCOL_VERSION_MIN {
        return Err(no_common_version(newest, oldest));
    }
    Ok(version)
}

fn no_common_version(newest: u32, oldest: u32) -> Refusal {
    let remedy = match oldest > PROTOCOL_VERSION {
        true => "upgrade the broker, or use an older client",
        false => "upgrade the client, or use an older broker",
    };
    let text = format!(
        "the client speaks the protocol versions {oldest} to {newest}, this broker {PROTOCOL_VERSION_MIN} to \
         {PROTOCOL_VERSION}; {remedy}"
    );
    Refusal::new(Reason::ProtocolVersion, text)
        .with("client_min", oldest)
        .with("client_max", newest)
        .with("broker_min", PROTOCOL_VERSION_MIN)
        .with("broker_max", PROTOCOL_VERSION)
}
