//! Services whose memory is accounted for: of requests while they arrive, of answers until HTTP/2 has taken the last of them.
//! A permit that a handler puts beside its answer goes back with the answer's body; the shares of a session's frames go with
//! their bytes, and back when HTTP/2 lets go of these, for it asks for the next frame before it has sent the last. It is here
//! that those bytes take the place of the empty messages that `tonic` was given: see `frames`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Map;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::server::NamedService;
use tonic::{Response, Status};

use super::arriving::Arriving;
use super::frames::{EncodedFrames, PREFIX_BYTES};
use crate::dispatch::{Allowance, Permit};

/// The answer; `permit` goes back when it was taken, if its service is [`Held`].
pub(super) fn until_taken<T>(mut response: Response<T>, permit: Permit) -> Response<T> {
    response.extensions_mut().insert(Arc::new(permit));
    response
}

/// A service whose answers keep their permits.
#[derive(Debug, Clone)]
pub(super) struct Held<S> {
    pub(super) service: S,
    /// For large messages while they arrive.
    pub(super) arriving: Allowance,
    /// How long a sender may send nothing of one.
    pub(super) peer_stall: Duration,
}

impl<S: NamedService> NamedService for Held<S> {
    const NAME: &'static str = S::NAME;
}

type Answered = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for Held<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Map<S::Future, fn(Answered) -> Answered>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (arriving, stall) = (self.arriving.clone(), self.peer_stall);
        let request = request.map(|body| Body::new(Arriving::new(body, arriving, stall)));
        self.service.call(request).map(hold)
    }
}

fn hold(answered: Answered) -> Answered {
    answered.map(|mut response| {
        let extensions = response.extensions_mut();
        match (extensions.remove::<Arc<Permit>>(), extensions.remove::<EncodedFrames>()) {
            (None, None) => response,
            (None, Some(frames)) => response.map(|body| Body::new(FramesBody { body, frames, due: 0 })),
            // It lives as long as what is done to the frames.
            (Some(permit), _) => response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &permit;
                    frame
                }))
            }),
        }
    })
}

/// A session's body.
struct FramesBody {
    /// With a prefix of an empty message for each frame.
    body: Body,
    frames: EncodedFrames,
    /// So many prefixes were read whose frames have not gone out.
    due: usize,
}

impl FramesBody {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        self.due = self.due.checked_sub(1)?;
        self.frames.take().map(|frame| Frame::data(Bytes::from_owner(frame)))
    }
}

impl HttpBody for FramesBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(frame) = self.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => {
                    let prefixes = frame.into_data().unwrap_or_default();
                    debug_assert!(prefixes.iter().all(|byte| *byte == 0), "empty messages only");
                    self.due = prefixes.len() / PREFIX_BYTES;
                }
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.due == 0 && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn an_answer_holds_its_permit_until_it_is_taken_or_given_up() {
        for is_taken in [true, false] {
            let allowance = Allowance::new(100);
            let permit = allowance.take(40).await;
            let mut answer = http::Response::new(Body::new(Full::new(Bytes::from_static(b"ten bytes."))));
            answer.extensions_mut().insert(Arc::new(permit));
            let body = hold(Ok(answer)).expect("infallible").into_body();
            assert_eq!(allowance.free(), 60, "nothing was taken of it");
            match is_taken {
                true => assert_eq!(body.collect().await.expect("whole").to_bytes(), "ten bytes."),
                false => drop(body),
            }
            assert_eq!(allowance.free(), 100);
        }
    }
}
