//! Services whose memory is accounted for: of requests while they arrive, of answers until HTTP/2 has taken the last of them.
//! A permit that a handler puts beside its answer goes back with the answer's body; the shares of a session's frames go with
//! their bytes, and back when HTTP/2 lets go of these, for it asks for the next frame before it has sent the last.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Map;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::server::NamedService;
use tonic::{Response, Status};

use super::arriving::Arriving;
use super::frames::Encoding;
use crate::dispatch::{Allowance, Permit, Share};

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
        match (extensions.remove::<Arc<Permit>>(), extensions.remove::<Encoding>()) {
            (None, None) => response,
            (permit, encoding) => {
                response.map(|body| Body::new(HeldBody { body, _permit: permit, encoding }))
            }
        }
    })
}

/// A body, its permit, and the shares of what is encoded.
struct HeldBody {
    body: Body,
    _permit: Option<Arc<Permit>>,
    encoding: Option<Encoding>,
}

impl HeldBody {
    fn with_shares(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let shares = self.encoding.as_ref().map_or_else(Vec::new, Encoding::take);
        match shares.is_empty() {
            true => frame,
            false => frame.map_data(|bytes| Bytes::from_owner(Encoded { bytes, _shares: shares })),
        }
    }
}

/// Bytes on their way, and what they take of the allowance.
struct Encoded {
    bytes: Bytes,
    _shares: Vec<Share>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map(|frame| self.with_shares(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
