//! Access to `AdminService`: topics, groups, transactions, dead letters and the rest, one call at a time.

use std::ops::{Deref, DerefMut};

use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use escrow_protocol::v1::admin_service_client::AdminServiceClient;
use escrow_protocol::{Reason, v1};
use tonic::transport::Channel;

use crate::error::Error;

/// The administration of the broker: the generated `AdminServiceClient` (it dereferences to it), with the limits of the
/// protocol set. Cheap to clone; calls need `&mut` because tonic's do.
///
/// Its calls return `tonic::Status`, which becomes an [`Error`] with `?` in a function that returns one. They are not
/// retried. Dropping a call cancels it; it may have taken effect.
///
/// ```no_run
/// # async fn example() -> Result<(), escrow::Error> {
/// let client = escrow::Client::connect("http://127.0.0.1:7800").await?;
/// let status = client.admin().get_status(escrow::v1::GetStatusRequest {}).await?.into_inner();
/// println!("{} topics", status.topics);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    service: AdminServiceClient<Channel>,
    client_id: String,
}

impl Admin {
    pub(crate) fn new(channel: Channel, client_id: String) -> Self {
        let service = AdminServiceClient::new(channel)
            .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
        Self { service, client_id }
    }

    /// Makes the topic if there is none of that name; one that exists is left as it is. True if it was made. The audit of the
    /// broker has it under the client's id.
    ///
    /// # Errors
    /// Everything `CreateTopic` answers but [`Reason::TopicExists`].
    pub async fn ensure_topic(&mut self, name: &str) -> Result<bool, Error> {
        let operator = v1::Operator { name: self.client_id.clone(), reason: String::new() };
        let request =
            v1::CreateTopicRequest { name: name.to_owned(), operator: Some(operator), ..Default::default() };
        match self.service.create_topic(request).await.map_err(Error::from) {
            Ok(_) => Ok(true),
            Err(error) if error.reason() == Some(Reason::TopicExists) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Deref for Admin {
    type Target = AdminServiceClient<Channel>;

    fn deref(&self) -> &Self::Target {
        &self.service
    }
}

impl DerefMut for Admin {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.service
    }
}
