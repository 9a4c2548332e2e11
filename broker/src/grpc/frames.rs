//! The way of frames to one peer: a short queue in front of HTTP/2's own. A peer that takes no frame for too long has
//! stalled; nothing is kept for it without end.

use std::time::Duration;

use escrow_protocol::limits::{FRAME_ENTRIES_MAX, GRPC_MESSAGE_BYTES_MAX};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::session::ReadEnd;
use crate::engine::Refusal;

/// Frames that wait for HTTP/2 to take them. Each is at most about 1 MiB, or one message.
const FRAMES_WAITING_MAX: usize = 2;
/// How long a session that ends may take to hand out what it still owes.
pub(super) const FLUSH: Duration = Duration::from_secs(5);
/// How long a client may take to say hello.
pub(super) const HELLO_WAIT: Duration = Duration::from_secs(10);

/// What a session's stream is made of.
pub(super) type Frames<T> = ReceiverStream<Result<T, Status>>;

/// Where a session puts its frames.
#[derive(Debug)]
pub(super) struct FrameSender<T> {
    frames: mpsc::Sender<Result<T, Status>>,
    /// How long the peer may take no frame.
    stall: Duration,
}

/// The peer is gone, or takes nothing any more.
#[derive(Debug)]
pub(super) struct Gone;

/// A new way of frames, to a peer that may take none for as long as `stall`.
pub(super) fn channel<T>(stall: Duration) -> (FrameSender<T>, Frames<T>) {
    let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    (FrameSender { frames, stall }, ReceiverStream::new(receiver))
}

impl<T> FrameSender<T> {
    /// Sends a frame, waiting for room as long as a peer may stall. Not cancel-safe: dropped early, the frame may be lost.
    ///
    /// # Errors
    /// If the peer is gone or has stalled.
    pub(super) async fn send(&self, frame: T) -> Result<(), Gone> {
        match tokio::time::timeout(self.stall, self.frames.send(Ok(frame))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                tracing::warn!(
                    stalled_ms = self.stall.as_millis() as u64,
                    "session closed: its peer takes nothing"
                );
                Err(Gone)
            }
        }
    }

    /// Ends the stream with a refusal, if the peer still takes it.
    pub(super) async fn fail(&self, refusal: Refusal) {
        let status = super::status::status_of(refusal);
        // The session ends either way.
        let _ = tokio::time::timeout(FLUSH, self.frames.send(Err(status))).await;
    }

    /// Waits until the peer is gone. Cancel-safe.
    pub(super) async fn gone(&self) {
        self.frames.closed().await;
    }
}

/// Why a stream broke off: a frame larger than gRPC takes is the client's doing, and told; all else is the connection's.
pub(super) fn broken(status: &Status) -> ReadEnd {
    if status.code() != Code::OutOfRange {
        return ReadEnd::Gone;
    }
    let fault = format!("it is larger than {GRPC_MESSAGE_BYTES_MAX} bytes; send more and smaller frames");
    ReadEnd::Refused(Refusal::invalid("frame", fault).with("limit", GRPC_MESSAGE_BYTES_MAX))
}

/// Refuses a frame with more entries than fit: a client cuts its frames.
pub(super) fn check_entries(field: &'static str, entries: usize) -> Result<(), Refusal> {
    if entries <= FRAME_ENTRIES_MAX {
        return Ok(());
    }
    let fault = format!("a frame has {entries}, at most {FRAME_ENTRIES_MAX} are allowed; send more frames");
    Err(Refusal::invalid(field, fault).with("limit", FRAME_ENTRIES_MAX))
}
