//! Accepted connections: without Nagle's delay, and with an end. `serve_with_incoming` ignores the builder's
//! TCP_NODELAY, and its graceful stop waits for peers without end: both are settled here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Request;
use tonic::transport::server::Connected;

use crate::clock::Clock;

/// How long accepting rests after the system refused a connection (too many files), milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Connections that are turned away are reported no more often than this, milliseconds.
const TURNED_AWAY_REPORT_MS: u64 = 10_000;

/// A connection that can be cut.
pub(crate) struct Socket {
    stream: TcpStream,
    /// Cuts this one.
    cutter: CancellationToken,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Its place among the connections there may be.
    _place: OwnedSemaphorePermit,
}

/// How many connections there may be, and what to do when there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) connections_max: usize,
    /// For whoever reads the log.
    pub(crate) remedy: &'static str,
}

/// Accepts connections until dropped, at most as many at once as `bound` says: one beyond is closed at once. `cut` ends
/// all of them.
pub(crate) fn accept(
    listener: TcpListener,
    cut: CancellationToken,
    bound: Bound,
    clock: Clock,
) -> impl Stream<Item = io::Result<Socket>> {
    let places = Arc::new(Semaphore::new(bound.connections_max.min(Semaphore::MAX_PERMITS)));
    let turned_away = TurnedAway { clock, count: 0, next_report_ms: 0 };
    futures::stream::unfold((listener, turned_away), move |(listener, mut turned_away)| {
        let (places, cut) = (places.clone(), cut.clone());
        async move {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                        continue;
                    }
                };
                let Ok(place) = places.clone().try_acquire_owned() else {
                    turned_away.one(bound);
                    continue;
                };
                // A socket that is gone already fails at its first read.
                let _ = stream.set_nodelay(true);
                let cutter = cut.child_token();
                let cut = Box::pin(cutter.clone().cancelled_owned());
                return Some((Ok(Socket { stream, cutter, cut, _place: place }), (listener, turned_away)));
            }
        }
    })
}

/// Counts connections that found no place, and says so once in a while.
struct TurnedAway {
    clock: Clock,
    /// Since the last report.
    count: u64,
    next_report_ms: u64,
}

impl TurnedAway {
    fn one(&mut self, bound: Bound) {
        self.count += 1;
        let now_ms = self.clock.micros() / 1_000;
        if now_ms >= self.next_report_ms {
            let count = std::mem::take(&mut self.count);
            tracing::warn!(
                count,
                connections_max = bound.connections_max,
                remedy = bound.remedy,
                "connections turned away: there are as many as there may be"
            );
            self.next_report_ms = now_ms + TURNED_AWAY_REPORT_MS;
        }
    }
}

impl Socket {
    /// Who is at the other end; `None` if it is gone already.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}

impl Connected for Socket {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { address: self.peer(), cutter: Some(self.cutter.clone()) }
    }
}

/// Who is at the other end of a call.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: Option<SocketAddr>,
    /// Cuts its connection; a call from within the process has none.
    cutter: Option<CancellationToken>,
}

impl Peer {
    /// One that calls from within the process, for somebody at `address`.
    pub(crate) fn within(address: SocketAddr) -> Self {
        Self { address: Some(address), cutter: None }
    }

    /// The peer of a call.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or(Self { address: None, cutter: None })
    }

    /// Ends its connection, with all that is on the way to it.
    pub(crate) fn cut(&self) {
        if let Some(cutter) = &self.cutter {
            cutter.cancel();
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Asked first: what still arrives must not keep a cut connection alive.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
