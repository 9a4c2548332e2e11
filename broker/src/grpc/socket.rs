//! Accepted connections: without Nagle's delay, and with an end. `serve_with_incoming` ignores the builder's
//! TCP_NODELAY, and its graceful stop waits for peers without end: both are settled here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// How long accepting rests after the system refused a connection (too many files), milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// A connection that can be cut.
pub(super) struct Socket {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Accepts connections until dropped; `cut` ends all of them at once.
pub(super) fn accept(
    listener: TcpListener,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Socket>> {
    futures::stream::unfold((listener, cut), |(listener, cut)| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A socket that is gone already fails at its first read.
                    let _ = stream.set_nodelay(true);
                    let socket = Socket { stream, cut: Box::pin(cut.clone().cancelled_owned()) };
                    return Some((Ok(socket), (listener, cut)));
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    })
}

impl Connected for Socket {
    type ConnectInfo = tonic::transport::server::TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
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
