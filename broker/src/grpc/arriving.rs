//! Requests as they arrive: a large message is kept in memory from its first byte on, so it takes a share of what there is
//! for such messages before its second piece is read. Until there is one, HTTP/2's own flow control holds its sender.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use crate::dispatch::{Allowance, Permit};

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// A message up to this size takes no share: it is no more than HTTP/2 hands over at a time.
const SMALL_BYTES: usize = 64 * 1024;
/// A large message must arrive at this pace, bytes a second, or its share goes to others.
const PACE_BYTES: usize = 64 * 1024;

/// A body of gRPC messages that takes shares.
pub(super) struct Arriving {
    body: Body,
    allowance: Allowance,
    /// How long its sender may send nothing.
    stall: Duration,
    at: Place,
    share: Option<Permit>,
    waiting: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
    /// When what arrives must be there.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Where in the stream of messages one is.
#[derive(Debug, Default)]
struct Place {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that came.
    prefix_bytes: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Place {
    /// Goes on by a piece; the length of the message it ends in, if that is not there as a whole.
    fn pass(&mut self, mut piece: &[u8]) -> Option<usize> {
        let mut length = None;
        while !piece.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(piece.len());
                (self.left, piece) = (self.left - taken, &piece[taken..]);
                continue;
            }
            let taken = (PREFIX_BYTES - self.prefix_bytes).min(piece.len());
            self.prefix[self.prefix_bytes..self.prefix_bytes + taken].copy_from_slice(&piece[..taken]);
            (self.prefix_bytes, piece) = (self.prefix_bytes + taken, &piece[taken..]);
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length_be @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length_be) as usize;
                (self.prefix_bytes, length) = (0, Some(self.left));
            }
        }
        length.filter(|_| self.left > 0)
    }
}

impl Arriving {
    pub(super) fn new(body: Body, allowance: Allowance, stall: Duration) -> Self {
        Self { body, allowance, stall, at: Place::default(), share: None, waiting: None, deadline: None }
    }

    fn passed(&mut self, piece: &[u8]) {
        let Some(length) = self.at.pass(piece).filter(|length| *length > SMALL_BYTES) else { return };
        let allowance = self.allowance.clone();
        self.share = None;
        self.waiting = Some(Box::pin(async move { allowance.take(length).await }));
    }

    /// Waits for a share, and lets that of a message go that was asked beyond: it was taken.
    fn poll_share(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.waiting {
            self.share = Some(ready!(waiting.as_mut().poll(cx)));
            self.waiting = None;
            let at_pace = Duration::from_secs((self.at.left / PACE_BYTES) as u64);
            self.deadline = Some(Box::pin(tokio::time::sleep(self.stall + at_pace)));
        }
        if self.at.left == 0 {
            (self.share, self.deadline) = (None, None);
        }
        Poll::Ready(())
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        ready!(self.poll_share(cx));
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame
                && let Some(piece) = frame.data_ref()
            {
                self.passed(piece);
            }
            return Poll::Ready(frame);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let text = "the message arrives too slowly for its size; send smaller ones";
            return Poll::Ready(Some(Err(Status::resource_exhausted(text))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::FutureExt as _;

    use super::*;

    /// Pieces, and then silence.
    struct Pieces(VecDeque<Bytes>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None => Poll::Pending,
            }
        }
    }

    /// A message of `bytes`, in pieces of a quarter of it.
    fn message(bytes: usize) -> VecDeque<Bytes> {
        let whole = [&[0][..], &(bytes as u32).to_be_bytes(), &vec![7; bytes]].concat();
        whole.chunks(bytes.div_ceil(4)).map(Bytes::copy_from_slice).collect()
    }

    fn arriving(allowance: &Allowance, messages: &[usize], stall: Duration) -> Arriving {
        let pieces = messages.iter().flat_map(|bytes| message(*bytes)).collect();
        Arriving::new(Body::new(Pieces(pieces)), allowance.clone(), stall)
    }

    /// Bytes that can be read now, in at most so many pieces.
    fn read(arriving: &mut Arriving, pieces: usize) -> usize {
        let mut bytes = 0;
        for _ in 0..pieces {
            let next = std::future::poll_fn(|cx| Pin::new(&mut *arriving).poll_frame(cx)).now_or_never();
            let Some(Some(frame)) = next else { break };
            bytes += frame.unwrap().into_data().map_or(0, |piece| piece.len());
        }
        bytes
    }

    const LARGE: usize = 4 * SMALL_BYTES;
    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn large_messages_arrive_within_the_allowance_and_one_after_the_other() {
        let allowance = Allowance::new(LARGE + LARGE / 2);
        let mut first = arriving(&allowance, &[LARGE], MINUTE);
        let mut second = arriving(&allowance, &[LARGE], MINUTE);
        let mut small = arriving(&allowance, &[SMALL_BYTES], MINUTE);
        assert_eq!(read(&mut first, 2), LARGE / 2);
        assert_eq!(read(&mut second, usize::MAX), LARGE / 4, "its first piece");
        assert_eq!(read(&mut small, usize::MAX), SMALL_BYTES + PREFIX_BYTES);
        // It is read to its end, and more is asked for: nobody holds its bytes any more.
        assert_eq!(read(&mut first, usize::MAX), LARGE / 2 + PREFIX_BYTES);
        assert_eq!(read(&mut second, usize::MAX), LARGE - LARGE / 4 + PREFIX_BYTES);
        assert_eq!(allowance.free(), LARGE + LARGE / 2);
    }

    #[tokio::test]
    async fn messages_follow_each_other_in_any_pieces() {
        let allowance = Allowance::new(LARGE);
        let sizes = [1, LARGE, 0, SMALL_BYTES, 2 * LARGE, 3];
        let whole: Vec<u8> = sizes.iter().flat_map(|bytes| message(*bytes.max(&1))).flatten().collect();
        for size in [1_000, 64 * 1024, 100_001] {
            let pieces = whole.chunks(size).map(Bytes::copy_from_slice).collect();
            let mut body = Arriving::new(Body::new(Pieces(pieces)), allowance.clone(), MINUTE);
            assert_eq!(read(&mut body, usize::MAX), whole.len());
            assert_eq!((body.at.left, body.at.prefix_bytes, allowance.free()), (0, 0, LARGE));
        }
    }

    #[tokio::test]
    async fn a_large_message_that_stops_halfway_is_given_up() {
        let allowance = Allowance::new(LARGE);
        let mut pieces = message(LARGE);
        pieces.truncate(2);
        let mut body = Arriving::new(Body::new(Pieces(pieces)), allowance.clone(), Duration::from_millis(10));
        let ended = async {
            loop {
                match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(_)) => {}
                    other => return other,
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("given up");
        assert!(matches!(ended, Some(Err(status)) if status.code() == tonic::Code::ResourceExhausted));
        drop(body);
        assert_eq!(allowance.free(), LARGE);
    }
}
