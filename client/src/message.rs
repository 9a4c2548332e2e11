//! A message as a producer makes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use escrow_protocol::{MessageId, v1};
use serde::Serialize;

use crate::clock;
use crate::error::Error;
use crate::trace;

/// The header that carries a W3C trace context from producer to consumer.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A message to be published or put in escrow.
///
/// Its id is made when the message is made and stays with it: sending the same `Message` (or a clone of it) again is
/// sending the same message again, and the broker stores it once, as long as it remembers the id.
///
/// Limits (the broker checks them): names of topic and tag match `^[A-Za-z0-9][A-Za-z0-9_.-]{0,126}$`, keys have at
/// most 256 bytes, at most 64 headers with 16 KiB together, a body of at most 4 MiB unless the broker is set otherwise.
#[derive(Debug, Clone)]
pub struct Message {
    id: MessageId,
    wire: v1::Message,
}

impl Message {
    /// An empty message for `topic`, with a fresh id.
    pub fn new(topic: impl Into<String>) -> Self {
        Self::with_id(topic, clock::message_id())
    }

    /// An empty message with an id from elsewhere, e.g. one kept in an outbox table.
    pub fn with_id(topic: impl Into<String>, id: MessageId) -> Self {
        let wire = v1::Message {
            id: Bytes::copy_from_slice(id.as_bytes()),
            topic: topic.into(),
            ..v1::Message::default()
        };
        let message = Self { id, wire };
        match trace::current() {
            Some(context) => message.traceparent(context),
            None => message,
        }
    }

    /// Its id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The topic it goes to.
    pub fn topic(&self) -> &str {
        &self.wire.topic
    }

    /// Sets the business key, e.g. `order-42`, by which people find the message. At most 256 bytes. Default: none.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.wire.key = key.into();
        self
    }

    /// Sets the ordering key: messages with the same one reach a group one after another, in commit order. At most
    /// 256 bytes. Default: none, no order.
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.wire.ordering_key = key.into();
        self
    }

    /// Sets the tag that subscriptions filter by. Default: none.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.wire.tag = tag.into();
        self
    }

    /// Adds a header. Names that begin with `escrow-` are reserved for the broker.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.wire.headers.push(v1::Header { name: name.into(), value: value.into() });
        self
    }

    /// Sets the W3C trace context (`00-<trace id>-<span id>-<flags>`), as the header `traceparent`. It travels with
    /// the message through transactions, checks, retries and dead letters;
    /// [`Received::traceparent`](crate::Received::traceparent) reads it at the other end. Default: that of the message
    /// whose handler or checker makes this one, or of [`in_trace`](crate::in_trace).
    pub fn traceparent(mut self, context: impl Into<String>) -> Self {
        self.wire.headers.retain(|header| header.name != TRACEPARENT);
        self.header(TRACEPARENT, context)
    }

    /// Sets the body to `value` as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Json`](crate::ErrorKind::Json) if `value` cannot be written as JSON, e.g. a map whose keys are no
    /// text.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self, Error> {
        self.wire.body = serde_json::to_vec(value)?.into();
        Ok(self)
    }

    /// Sets the body to text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.wire.body = text.into().into();
        self
    }

    /// Sets the body.
    pub fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.wire.body = body.into();
        self
    }

    /// Not to be delivered before `time`, at most a year ahead; milliseconds count, what is finer is rounded up (never
    /// early). Default: at once. Inside a transaction the time counts from the clock, not from the commit.
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = since_epoch.as_nanos().div_ceil(1_000_000);
        self.wire.deliver_at_ms = i64::try_from(ms).unwrap_or(i64::MAX);
        self
    }

    /// Not to be delivered earlier than `delay` from now, by this machine's clock.
    pub fn deliver_after(self, delay: Duration) -> Self {
        self.deliver_at(clock::in_the_future(delay))
    }

    /// Not to be delivered later than this after it became visible: what a group has not finished by then goes to its
    /// dead letters with reason `EXPIRED`. Default: no limit.
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.wire.time_to_live_ms = i64::try_from(clock::milliseconds(time)).unwrap_or(i64::MAX);
        self
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.wire.body.len()
    }

    pub(crate) fn into_wire(self) -> v1::Message {
        self.wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_the_same_message_and_a_new_one_is_not() {
        let message = Message::new("orders");
        assert_eq!(message.clone().into_wire().id, message.clone().into_wire().id);
        assert_ne!(message.id(), Message::new("orders").id());
    }

    #[test]
    fn delivery_time_is_rounded_up_to_the_millisecond() {
        let time = UNIX_EPOCH + Duration::from_micros(1_001);
        assert_eq!(Message::new("t").deliver_at(time).into_wire().deliver_at_ms, 2);
    }

    #[test]
    fn trace_context_is_set_once() {
        let wire = Message::new("t").traceparent("a").traceparent("b").into_wire();
        assert_eq!(wire.headers, vec![v1::Header { name: "traceparent".into(), value: "b".into() }]);
    }
}
