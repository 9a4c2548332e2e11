//! The way of frames to one peer: a short queue in front of HTTP/2's own. A peer that takes no frame for too long has
//! stalled; nothing is kept for it without end: its connection is cut, for what HTTP/2 holds goes only with that.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use escrow_protocol::limits::{FRAME_ENTRIES_MAX, GRPC_MESSAGE_BYTES_MAX};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Code, Response, Status};

use super::session::ReadEnd;
use super::socket::Peer;
use crate::dispatch::{Ahead, Share};
use crate::engine::Refusal;

/// Frames that wait for HTTP/2 to take them. Each is at most about 1 MiB, or one message.
const FRAMES_WAITING_MAX: usize = 2;
/// How long a session that ends may take to hand out what it still owes.
pub(super) const FLUSH: Duration = Duration::from_secs(5);
/// How long a client may take to say hello.
pub(super) const HELLO_WAIT: Duration = Duration::from_secs(10);

/// gRPC's prefix of a message: whether it is compressed (1 byte, 0), and how long it is (4).
pub(super) const PREFIX_BYTES: usize = 5;

/// A frame as it goes out, its prefix in front, and what was read for it; or the end.
type Sent = Result<Encoded, Status>;

/// An encoded frame, in memory of its own and just as large: `tonic`'s encoder would keep one buffer for a stream, as large
/// as the largest frame there ever was, for as long as the stream lasts. With a thousand streams that is what a broker
/// has its memory for.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: Bytes,
    /// Goes back when HTTP/2 lets go of the bytes.
    _share: Option<Share>,
}

impl Encoded {
    fn new(frame: &impl Message, share: Option<Share>) -> Self {
        let length = frame.encoded_len();
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(length).expect("a frame is at most about as large as a message"));
        frame.encode(&mut bytes).expect("there is room for just as much");
        Self { bytes: bytes.freeze(), _share: share }
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A session's stream, as `tonic` sees it: a message without content for each frame, which encodes to its prefix and
/// nothing else. What really goes out lies beside it: `held` puts it in its place.
#[derive(Debug)]
pub(super) struct Frames<T> {
    frames: mpsc::Receiver<Sent>,
    encoded: EncodedFrames,
    /// What the frames were before they were encoded.
    frame: PhantomData<fn() -> T>,
}

/// The frames in whose place `tonic` has been given empty ones, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct EncodedFrames(Arc<Mutex<VecDeque<Encoded>>>);

impl EncodedFrames {
    fn put(&self, frame: Encoded) {
        self.lock().push_back(frame);
    }

    /// The next one.
    pub(super) fn take(&self) -> Option<Encoded> {
        self.lock().pop_front()
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Encoded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Frames<T> {
    /// The answer that streams this. Only a service that is `Held` may give it.
    pub(super) fn answer(self) -> Response<Self> {
        let encoded = self.encoded.clone();
        let mut response = Response::new(self);
        response.extensions_mut().insert(encoded);
        response
    }
}

impl<T: Default> Stream for Frames<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // `tonic` asks on for as long as there is more, and takes no notice of how much waits already. It hands on what it has
        // when there is nothing more, and is asked again when that has gone out: nobody needs to be woken for it.
        if self.encoded.len() >= FRAMES_WAITING_MAX {
            return Poll::Pending;
        }
        let Some(frame) = ready!(self.frames.poll_recv(cx)) else { return Poll::Ready(None) };
        Poll::Ready(Some(frame.map(|frame| {
            self.encoded.put(frame);
            T::default()
        })))
    }
}

/// Where a session puts its frames.
#[derive(Debug)]
pub(super) struct FrameSender<T> {
    frames: mpsc::Sender<Sent>,
    /// What was read for the peer.
    ahead: Ahead,
    /// Who it is.
    peer: Peer,
    /// How long the peer may take no frame.
    stall: Duration,
    frame: PhantomData<fn(T)>,
}

/// The peer is gone, or takes nothing any more.
#[derive(Debug)]
pub(super) struct Gone;

/// A new way of frames, to a peer that may take none for as long as `stall`.
pub(super) fn channel<T>(peer: Peer, ahead: Ahead, stall: Duration) -> (FrameSender<T>, Frames<T>) {
    let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    let sender = FrameSender { frames, ahead, peer, stall, frame: PhantomData };
    (sender, Frames { frames: receiver, encoded: EncodedFrames::default(), frame: PhantomData })
}

impl<T: Message> FrameSender<T> {
    /// What may be read for the peer.
    pub(super) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// Sends a frame and what was read for it, waiting for room as long as a peer may stall. Not cancel-safe: dropped
    /// early, the frame may be lost.
    ///
    /// # Errors
    /// If the peer is gone or has stalled.
    pub(super) async fn send(&self, frame: T, share: Option<Share>) -> Result<(), Gone> {
        let frame = Encoded::new(&frame, share);
        match tokio::time::timeout(self.stall, self.frames.send(Ok(frame))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                self.cut();
                Err(Gone)
            }
        }
    }

    /// Waits until the peer has taken nothing of what was read for it, for as long as it may stall; cuts it off then.
    /// Cancel-safe.
    pub(super) async fn stalled(&self) {
        self.ahead.stalled(self.stall).await;
        self.cut();
    }

    fn cut(&self) {
        let stalled_ms = self.stall.as_millis() as u64;
        tracing::warn!(peer = %self.peer, stalled_ms, "connection cut: a session's peer takes nothing");
        self.peer.cut();
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
