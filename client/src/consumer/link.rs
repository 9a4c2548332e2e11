//! Opens the consumer's stream: hello out, welcome in.

use std::sync::Arc;

use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use escrow_protocol::v1::consumer_service_client::ConsumerServiceClient;
use escrow_protocol::v1::{
    ConsumerHello, ConsumerRequest, ConsumerResponse, ConsumerWelcome, consumer_request, consumer_response,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::client::check_version;
use crate::error::{Error, ErrorKind};
use crate::settings::{FRAMES_QUEUED_MAX, Settings};

/// How to reach the broker, and what to say first.
#[derive(Debug)]
pub(crate) struct ConsumerLink {
    pub(crate) channel: Channel,
    pub(crate) settings: Arc<Settings>,
    pub(crate) hello: ConsumerHello,
}

/// A stream on which both sides have introduced themselves.
#[derive(Debug)]
pub(crate) struct ConsumerStream {
    /// Dropping it ends this side of the stream.
    pub(crate) outbound: mpsc::Sender<ConsumerRequest>,
    pub(crate) inbound: Streaming<ConsumerResponse>,
    pub(crate) welcome: ConsumerWelcome,
}

impl ConsumerLink {
    /// Opens a stream within the connect timeout. Cancel safe.
    pub(crate) async fn open(&self) -> Result<ConsumerStream, Error> {
        match timeout(self.settings.connect_timeout, self.introduce()).await {
            Ok(opened) => opened,
            Err(elapsed) => {
                let text = "the broker did not welcome the consumer within the connect timeout";
                Err(Error::new(ErrorKind::Unavailable, text).because(elapsed))
            }
        }
    }

    async fn introduce(&self) -> Result<ConsumerStream, Error> {
        let (outbound, frames) = mpsc::channel(FRAMES_QUEUED_MAX);
        let hello = consumer_request::Kind::Hello(self.hello.clone());
        // There is room for it: nothing else was sent.
        let _ = outbound.try_send(ConsumerRequest { kind: Some(hello) });
        let mut service = ConsumerServiceClient::new(self.channel.clone())
            .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
        let mut inbound = service.session(ReceiverStream::new(frames)).await.map_err(refused)?.into_inner();
        match inbound.message().await.map_err(refused)?.and_then(|response| response.kind) {
            Some(consumer_response::Kind::Welcome(welcome)) => {
                check_version(welcome.protocol_version, &welcome.broker_version)?;
                Ok(ConsumerStream { outbound, inbound, welcome })
            }
            Some(consumer_response::Kind::Goodbye(goodbye)) => Err(Error::from(goodbye)),
            Some(consumer_response::Kind::Frame(_)) => {
                Err(Error::new(ErrorKind::Internal, "the broker sent a frame before its welcome"))
            }
            None => Err(Error::new(ErrorKind::Unavailable, "the broker ended the stream before its welcome")),
        }
    }
}

/// Nothing was asked for yet, so there is no outcome to be unsure of.
fn refused(status: tonic::Status) -> Error {
    Error::from(status).with_unknown_outcome(false)
}
