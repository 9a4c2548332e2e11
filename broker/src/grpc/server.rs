//! The gRPC server: its services, its HTTP/2 settings, its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use escrow_protocol::v1;
use escrow_protocol::v1::admin_service_server::AdminServiceServer;
use escrow_protocol::v1::consumer_service_server::ConsumerServiceServer;
use escrow_protocol::v1::producer_service_server::ProducerServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::admin::Admin;
use super::consumer::Consumer;
use super::held::Held;
use super::producer::Producer;
use super::wire::message::MessageChecks;
use super::{Edge, socket};
use crate::clock::{Chance, Clock};
use crate::dispatch::{Allowance, Loader, Sessions};
use crate::driver::EngineHandle;
use crate::http::api::Calls;
use crate::metrics::Metrics;
use crate::service::Service;

/// A silent connection is asked for a sign of life this often; without one for as long again it is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// HTTP/2 window of a stream: room for coalesced frames of many small entries.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// HTTP/2 window of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// HTTP/2 frames: 64 KiB nearly doubles what 16 KiB allows for batches, more does not help.
const HTTP2_FRAME_BYTES: u32 = 64 * 1024;

/// Calls and sessions at once on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// Unary calls of one connection that are under way: those beyond are not read, and wait. A session counts only until
/// its stream stands.
const CALLS_PER_CONNECTION_MAX: usize = 256;

/// What the server works with.
pub struct GrpcParts {
    /// The way to the engine.
    pub engine: EngineHandle,
    /// The live sessions.
    pub sessions: Sessions,
    /// Reads bodies.
    pub loader: Loader,
    /// What may be read for sessions and not taken yet, bytes.
    pub read_ahead_bytes_max: usize,
    /// What large messages may have while they arrive, bytes.
    pub arriving_bytes_max: usize,
    /// What admins ask.
    pub service: Service,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// For ids.
    pub chance: Chance,
    /// Most connections at once.
    pub connections_max: usize,
    /// Largest body, bytes.
    pub body_bytes_max: usize,
    /// How long a session's peer may take no frame.
    pub peer_stall: Duration,
    /// Cancelled when the broker begins to stop.
    pub stopping: CancellationToken,
    /// Cancelled when connections that are still there are cut.
    pub cut: CancellationToken,
}

/// A server at work.
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    health: HealthReporter,
    calls: Calls,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl GrpcServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to its services within this process.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Tells those who watch its health.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in [
            "",
            ProducerServiceServer::<Producer>::NAME,
            ConsumerServiceServer::<Consumer>::NAME,
            AdminServiceServer::<Admin>::NAME,
        ] {
            self.health.set_service_status(name, status).await;
        }
    }

    /// Waits until the last connection is gone. Cancel-safe.
    pub async fn ended(&mut self) {
        match (&mut self.serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "gRPC server failed"),
            Err(error) => tracing::error!(%error, "gRPC server ended early"),
        }
    }
}

/// Serves on `listener` until `stopping`; its health says NOT_SERVING until [`GrpcServer::set_serving`].
///
/// # Errors
/// If the listener has no address.
pub fn serve(listener: TcpListener, parts: GrpcParts) -> io::Result<GrpcServer> {
    let address = listener.local_addr()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let edge = Edge {
        engine: parts.engine,
        sessions: parts.sessions,
        loader: parts.loader,
        allowance: Allowance::new(parts.read_ahead_bytes_max),
        checks: MessageChecks {
            body_bytes_max: parts.body_bytes_max,
            clock: parts.clock.clone(),
            chance: parts.chance,
        },
        metrics: parts.metrics,
        clock: parts.clock,
        peer_stall: parts.peer_stall,
        stopping: parts.stopping.clone(),
    };
    let clock = edge.clock.clone();
    let admin = Admin { edge: edge.clone(), service: parts.service };
    let arriving = Allowance::new(parts.arriving_bytes_max);
    let peer_stall = parts.peer_stall;
    let producer = ProducerServiceServer::new(Producer { edge: edge.clone() })
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let consumer =
        ConsumerServiceServer::new(Consumer { edge }).max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let calls = Routes::new(AdminServiceServer::new(admin))
        .add_service(Held { service: producer, arriving: arriving.clone(), peer_stall })
        .add_service(Held { service: consumer, arriving, peer_stall });
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_routes(calls.clone())
        .add_service(health_service)
        .add_service(reflection());
    let bound =
        socket::Bound { connections_max: parts.connections_max, remedy: "raise `limits.connections`" };
    let incoming = socket::accept(listener, parts.cut, bound, clock);
    let serving =
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, parts.stopping.cancelled_owned()));
    Ok(GrpcServer { address, health, serving, calls: Calls::new(calls) })
}

/// The services by name, for tools like grpcurl.
fn reflection()
-> tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are compiled in, and a test reads them")
}
