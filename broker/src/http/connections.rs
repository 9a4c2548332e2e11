//! The connections of the HTTP port: so many and no more, each with a time to say what it wants. Nobody is authenticated
//! here, so nobody may hold memory and descriptors by merely connecting.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::grpc::socket::{self, Socket};

/// Connections at once unless told otherwise; one beyond is closed at once. A page opens six, a scraper one.
pub const CONNECTIONS_MAX_DEFAULT: usize = 1_024;
/// How long a peer may take to say what it wants, the first time and each time after an answer.
const HEADER_WAIT: Duration = Duration::from_secs(30);

/// Serves until `stop`, then cuts what is still connected.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
    clock: Clock,
) {
    let bound = socket::Bound { connections_max, remedy: "close some, or wait" };
    let incoming = socket::accept(listener, stop.clone(), bound, clock);
    tokio::pin!(incoming);
    // Dropped at the end, with all that is in it. Bounded by the places there are.
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: a connection that was not taken waits with the listener.
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            Some(Ok(socket)) = incoming.next() => {
                connections.spawn(converse(socket, router.clone()));
            }
        }
    }
}

async fn converse(socket: Socket, router: Router) {
    let Some(from) = socket.peer() else { return };
    let router = router.layer(Extension(ConnectInfo::<SocketAddr>(from)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
