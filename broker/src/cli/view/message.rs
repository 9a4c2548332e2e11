//! A message: as it was published, where it is kept, as it is delivered, and what happened to it.

use std::collections::BTreeMap;

use escrow_protocol::v1;

use super::transaction::TransactionView;
use super::{body_texts, message_id, transaction_id};
use crate::cli::output::{Bytes, Cell, Ms, Shown, Time, view};

view! {
    /// A message as its producer made it.
    MessageView {
        /// Its id.
        message_id: String = "MESSAGE",
        /// The topic it goes to.
        topic: String = "TOPIC",
        /// Its business key.
        key: String = "KEY",
        /// What it is ordered by.
        ordering_key: String = _,
        /// What subscriptions filter by.
        tag: String = "TAG",
        /// Its headers.
        headers: BTreeMap<String, String> = _,
        /// Not delivered before.
        deliver_at: Time = _,
        /// Not delivered later than this after it became visible.
        time_to_live_ms: Option<Ms> = _,
        /// Of the body.
        body_bytes: Bytes = "BODY",
        /// The body, if it is a text.
        body: Option<String> = _,
        /// The body in hexadecimal, if it is no text.
        body_hex: Option<String> = _,
    }
}

/// Inside another view, a message is a table of its fields.
impl Cell for MessageView {
    fn shown(&self) -> Shown {
        use crate::cli::output::{View, label};
        let rows = Self::COLUMNS
            .iter()
            .zip(self.values())
            .map(|(column, value)| vec![label(column.field), value.into_line()])
            .collect();
        Shown::Table(vec!["FIELD".to_owned(), "VALUE".to_owned()], rows)
    }
}

view! {
    /// A message that was accepted.
    PublishedView {
        /// Its id.
        message_id: String = "MESSAGE",
        /// Its topic.
        topic: String = "TOPIC",
        /// Its place there; none while it is scheduled or undecided.
        offset: Option<u64> = "OFFSET",
        /// The same id had been stored before.
        duplicate: bool = "DUPLICATE",
        /// The transaction it belongs to.
        transaction_id: Option<String> = "TRANSACTION",
        /// Where the transaction stands.
        state: Option<String> = "STATE",
    }
}

view! {
    /// A message and where it is.
    StoredMessageView {
        /// Its id.
        message_id: String = "MESSAGE",
        /// Undecided, scheduled, queued or removed.
        state: String = "STATE",
        /// The topic it lies in.
        topic: String = "TOPIC",
        /// Its place there.
        offset: Option<u64> = "OFFSET",
        /// Its business key.
        key: String = "KEY",
        /// When it was stored.
        stored_at: Time = "STORED AT",
        /// When it became visible.
        committed_at: Time = _,
        /// When it was removed.
        removed_at: Time = _,
        /// How it ended: finished, rolled back or cancelled.
        ending: Option<String> = _,
        /// The transaction it belongs to.
        transaction_id: Option<String> = _,
        /// The message. In lists without its body.
        message: Option<MessageView> = _,
    }
}

view! {
    /// One thing that happened to a message.
    TraceEventView {
        /// When.
        at: Time = "AT",
        /// What.
        event: String = "EVENT",
        /// To which group.
        group: String = "GROUP",
        /// Which attempt.
        attempt: Option<u32> = _,
        /// By whom.
        who: String = _,
        /// The error, reason or answer as it was given.
        detail: String = _,
        /// In words.
        text: String = "WHAT",
    }
}

view! {
    /// The life of a message.
    TraceView {
        /// Its id.
        message_id: String = "MESSAGE",
        /// Where it is.
        state: String = "STATE",
        /// The topic.
        topic: String = "TOPIC",
        /// Its business key.
        key: String = "KEY",
        /// The transaction it belongs to.
        transaction_id: Option<String> = _,
        /// Where that stands.
        transaction_state: Option<String> = _,
        /// What happened, in order.
        events: Vec<TraceEventView> = "EVENTS",
    }
}

view! {
    /// A message that waits for its time.
    ScheduledView {
        /// Its id.
        message_id: String = "MESSAGE",
        /// Its topic.
        topic: String = "TOPIC",
        /// Its business key.
        key: String = "KEY",
        /// Its time.
        deliver_at: Time = "DELIVER AT",
    }
}

view! {
    /// A delivery, as `escrow sub` prints it.
    DeliveryView {
        /// The message.
        message_id: String = "MESSAGE",
        /// The topic it lies in.
        topic: String = "TOPIC",
        /// Its place there.
        offset: u64 = "OFFSET",
        /// Which attempt.
        attempt: u32 = "ATTEMPT",
        /// Its business key.
        key: String = "KEY",
        /// Its tag.
        tag: String = _,
        /// What it is ordered by.
        ordering_key: String = _,
        /// Its headers.
        headers: BTreeMap<String, String> = _,
        /// When it became visible.
        committed_at: Time = _,
        /// The transaction it came from.
        transaction_id: Option<String> = _,
        /// The body, if it is a text.
        body: Option<String> = "BODY",
        /// The body in hexadecimal, if it is no text.
        body_hex: Option<String> = _,
    }
}

impl MessageView {
    /// Of a message that may have come without its body, which is so large.
    pub(crate) fn listed(message: v1::Message, body_bytes: u64) -> Self {
        let came = message.body.len() as u64;
        let view = Self::from(message);
        Self { body: view.body.filter(|_| came == body_bytes), body_bytes: Bytes(body_bytes), ..view }
    }
}

impl From<v1::Message> for MessageView {
    fn from(message: v1::Message) -> Self {
        let (body, body_hex) = body_texts(&message.body);
        Self {
            message_id: message_id(&message.id),
            topic: message.topic,
            key: message.key,
            ordering_key: message.ordering_key,
            tag: message.tag,
            headers: message.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            deliver_at: Time(message.deliver_at_ms),
            time_to_live_ms: Some(Ms::from_wire(message.time_to_live_ms)).filter(|time| time.0 > 0),
            body_bytes: Bytes(message.body.len() as u64),
            body,
            body_hex,
        }
    }
}

impl From<v1::StoredMessage> for StoredMessageView {
    fn from(stored: v1::StoredMessage) -> Self {
        let message = stored.message;
        Self {
            message_id: message.as_ref().map(|message| message_id(&message.id)).unwrap_or_default(),
            state: stored.state,
            topic: stored.topic,
            offset: stored.offset,
            key: message.as_ref().map(|message| message.key.clone()).unwrap_or_default(),
            stored_at: Time(stored.stored_at_ms),
            committed_at: Time(stored.committed_at_ms),
            removed_at: Time(stored.removed_at_ms),
            ending: Some(stored.ending).filter(|ending| !ending.is_empty()),
            transaction_id: transaction_id(stored.transaction_id),
            message: message.map(|message| MessageView::listed(message, stored.body_bytes)),
        }
    }
}

impl From<v1::TraceEvent> for TraceEventView {
    fn from(event: v1::TraceEvent) -> Self {
        Self {
            at: Time(event.at_ms),
            event: event.event,
            group: event.group,
            attempt: Some(event.attempt).filter(|attempt| *attempt > 0),
            who: event.who,
            detail: event.detail,
            text: event.text,
        }
    }
}

impl From<v1::TraceMessageResponse> for TraceView {
    fn from(trace: v1::TraceMessageResponse) -> Self {
        let stored = trace.message.map(StoredMessageView::from);
        let transaction = trace.transaction.map(TransactionView::from);
        let of_stored = |field: fn(&StoredMessageView) -> &String| {
            stored.as_ref().map(field).cloned().unwrap_or_default()
        };
        Self {
            message_id: of_stored(|stored| &stored.message_id),
            state: of_stored(|stored| &stored.state),
            topic: of_stored(|stored| &stored.topic),
            key: of_stored(|stored| &stored.key),
            transaction_id: transaction
                .as_ref()
                .map(|transaction| transaction.transaction_id.clone())
                .or_else(|| stored.as_ref().and_then(|stored| stored.transaction_id.clone())),
            transaction_state: transaction.map(|transaction| transaction.state),
            events: trace.events.into_iter().map(TraceEventView::from).collect(),
        }
    }
}

impl From<v1::Scheduled> for ScheduledView {
    fn from(scheduled: v1::Scheduled) -> Self {
        Self {
            message_id: message_id(&scheduled.message_id),
            topic: scheduled.topic,
            key: scheduled.key,
            deliver_at: Time(scheduled.deliver_at_ms),
        }
    }
}

impl From<&escrow::Received> for DeliveryView {
    fn from(received: &escrow::Received) -> Self {
        let (body, body_hex) = body_texts(received.body());
        let committed = received.committed_at().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            message_id: received.id().map(|id| id.to_string()).unwrap_or_default(),
            topic: received.topic().to_owned(),
            offset: received.offset(),
            attempt: received.attempt(),
            key: received.key().to_owned(),
            tag: received.tag().to_owned(),
            ordering_key: received.ordering_key().to_owned(),
            headers: received.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            committed_at: Time(i64::try_from(committed.as_millis()).unwrap_or(i64::MAX)),
            transaction_id: received.transaction_id().map(|id| id.to_string()),
            body,
            body_hex,
        }
    }
}

impl From<v1::Delivery> for DeliveryView {
    fn from(delivery: v1::Delivery) -> Self {
        let message = MessageView::from(delivery.message.unwrap_or_default());
        Self {
            message_id: message.message_id,
            topic: delivery.topic,
            offset: delivery.offset,
            attempt: delivery.attempt,
            key: message.key,
            tag: message.tag,
            ordering_key: message.ordering_key,
            headers: message.headers,
            committed_at: Time(delivery.committed_at_ms),
            transaction_id: transaction_id(delivery.transaction_id),
            body: message.body,
            body_hex: message.body_hex,
        }
    }
}
