//! A message as a consumer sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use escrow_protocol::{MessageId, TransactionId, v1};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::message::TRACEPARENT;

/// A message that was delivered: its fields, and where it came from. Settling it is the business of the
/// [`Delivery`](crate::Delivery) around it, or of the handler's result.
#[derive(Debug, Clone)]
pub struct Received {
    message: v1::Message,
    topic: String,
    offset: u64,
    attempt: u32,
    committed_at_ms: i64,
    transaction_id: u64,
    dead_letter: Option<v1::DeadLetterOrigin>,
}

impl Received {
    pub(crate) fn new(delivery: v1::Delivery) -> Self {
        let message = delivery.message.unwrap_or_default();
        let topic = if delivery.topic.is_empty() { message.topic.clone() } else { delivery.topic };
        Self {
            message,
            topic,
            offset: delivery.offset,
            attempt: delivery.attempt,
            committed_at_ms: delivery.committed_at_ms,
            transaction_id: delivery.transaction_id,
            dead_letter: delivery.dead_letter,
        }
    }

    /// Its id: the same at every attempt, in every group. What exactly-once processing remembers; see
    /// [`inbox`](crate::inbox). `None` if the broker sent none that is one, which this release never does.
    pub fn id(&self) -> Option<MessageId> {
        MessageId::from_slice(&self.message.id).ok()
    }

    /// The topic it was read from.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its place in that topic.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Which attempt this is; 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When it became visible.
    pub fn committed_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.committed_at_ms).unwrap_or(0))
    }

    /// The transaction it came from; `None` if it was published.
    pub fn transaction_id(&self) -> Option<TransactionId> {
        (self.transaction_id != 0).then(|| TransactionId::from_u64(self.transaction_id))
    }

    /// Its business key; empty: none.
    pub fn key(&self) -> &str {
        &self.message.key
    }

    /// Its ordering key; empty: none.
    pub fn ordering_key(&self) -> &str {
        &self.message.ordering_key
    }

    /// Its tag; empty: none.
    pub fn tag(&self) -> &str {
        &self.message.tag
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|header| header.0 == name).map(|header| header.1)
    }

    /// All headers, in the order they were set.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.message.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()))
    }

    /// The W3C trace context its producer set.
    pub fn traceparent(&self) -> Option<&str> {
        self.header(TRACEPARENT)
    }

    /// Its body. Cloning it does not copy.
    pub fn body(&self) -> &Bytes {
        &self.message.body
    }

    /// Its body as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.message.body)
    }

    /// Its body, read as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Json`](crate::ErrorKind::Json) if it is not the JSON of a `T`. It will not become so: reject it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.message.body)?)
    }

    /// Where it died, for a message read from a dead-letter topic.
    pub fn dead_letter(&self) -> Option<&v1::DeadLetterOrigin> {
        self.dead_letter.as_ref()
    }

    /// The message as it was sent, for passing it on or showing it.
    pub fn as_wire(&self) -> &v1::Message {
        &self.message
    }
}
