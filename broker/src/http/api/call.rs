//! The way from HTTP to the gRPC services of the same process, without a socket: the bytes of a request in, the bytes of
//! its answer out. What is checked, refused and counted there is so here too, for it is the same code.

use std::net::SocketAddr;

use bytes::{Buf as _, BufMut as _, Bytes};
use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::service::Routes;
use tonic::{Code, Request, Status, Streaming};

use crate::grpc::socket::Peer;

/// See the module. A clone leads to the same services.
#[derive(Debug, Clone)]
pub struct Calls {
    routes: Routes,
}

impl Calls {
    /// The way to these services.
    pub fn new(routes: Routes) -> Self {
        Self { routes }
    }

    /// The one answer to a request. Dropped early, the call ends as if its client had gone away.
    ///
    /// # Errors
    /// The status of the service.
    pub async fn unary(&self, call: &'static str, request: Bytes, from: SocketAddr) -> Result<Bytes, Status> {
        let mut client = self.client().await?;
        let path = PathAndQuery::from_static(call);
        Ok(client.unary(asked(request, from), path, Verbatim).await?.into_inner())
    }

    /// The answers to a request. Dropping them ends the call.
    ///
    /// # Errors
    /// The status of the service.
    pub async fn stream(
        &self,
        call: &'static str,
        request: Bytes,
        from: SocketAddr,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut client = self.client().await?;
        let path = PathAndQuery::from_static(call);
        Ok(client.server_streaming(asked(request, from), path, Verbatim).await?.into_inner())
    }

    async fn client(&self) -> Result<tonic::client::Grpc<Routes>, Status> {
        let client = tonic::client::Grpc::new(self.routes.clone());
        let mut client = client
            .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
        ready(&mut client).await?;
        Ok(client)
    }
}

async fn ready(client: &mut tonic::client::Grpc<Routes>) -> Result<(), Status>
where
    Routes: tonic::client::GrpcService<Body>,
{
    client.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))
}

fn asked(request: Bytes, from: SocketAddr) -> Request<Bytes> {
    let mut request = Request::new(request);
    request.extensions_mut().insert(Peer::within(from));
    request
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
