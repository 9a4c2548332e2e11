//! Services whose memory is accounted for: of requests while they arrive, of answers until HTTP/2 has taken the last of them.
//! A permit that a handler puts beside its answer goes back with the answer's body.

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
    answered.map(|mut response| match response.extensions_mut().remove::<Arc<Permit>>() {
        Some(permit) => response.map(|body| Body::new(HeldBody { body, _permit: permit })),
        None => response,
    })
}

/// A body and its permit.
struct HeldBody {
    body: Body,
    _permit: Arc<Permit>,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
