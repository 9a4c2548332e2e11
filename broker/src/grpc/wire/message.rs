//! Messages: from the wire, checked; to the wire.

use std::collections::HashSet;

use escrow_protocol::limits::{
    DELIVER_AHEAD_MS_MAX, HEADER_BYTES_MAX, HEADERS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_MESSAGES_MAX,
};
use escrow_protocol::{MessageId, v1};

use super::fields::{Checked, key, ms, name, name_option, time};
use crate::clock::{Chance, Clock};
use crate::engine::{MessageEdit, NewMessage, Refusal};
use crate::records::{Message, Standing};
use crate::service::{StoredMessage, Traced};

/// Headers that begin so are the broker's own.
const RESERVED_HEADER_PREFIX: &str = "escrow-";

/// What messages are checked by.
#[derive(Debug, Clone)]
pub(crate) struct MessageChecks {
    /// Largest body, bytes.
    pub body_bytes_max: usize,
    /// For `deliver_at`.
    pub clock: Clock,
    /// For ids of messages that came without.
    pub chance: Chance,
}

impl MessageChecks {
    /// A message, checked and encoded.
    ///
    /// # Errors
    /// `InvalidField` names the field, the fault and the remedy.
    pub(crate) fn message(&self, message: Option<v1::Message>) -> Checked<NewMessage> {
        let message = message
            .ok_or_else(|| Refusal::invalid("message", "it is missing; send a message with a topic"))?;
        self.one(message).map(NewMessage::from)
    }

    /// The messages of a transaction, checked and encoded.
    ///
    /// # Errors
    /// As [`MessageChecks::message`].
    pub(crate) fn messages(&self, messages: Vec<v1::Message>) -> Checked<Vec<NewMessage>> {
        if !(1..=TRANSACTION_MESSAGES_MAX).contains(&messages.len()) {
            let fault =
                format!("there are {}, a transaction has 1 to {TRANSACTION_MESSAGES_MAX}", messages.len());
            return Err(Refusal::invalid("messages", fault).with("limit", TRANSACTION_MESSAGES_MAX));
        }
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        if bytes > TRANSACTION_BYTES_MAX {
            let fault = format!(
                "their bodies have {bytes} bytes together, at most {TRANSACTION_BYTES_MAX} are allowed"
            );
            return Err(Refusal::invalid("messages", fault).with("limit", TRANSACTION_BYTES_MAX));
        }
        let mut ids = HashSet::with_capacity(messages.len());
        let mut checked = Vec::with_capacity(messages.len());
        for message in messages {
            let message = self.one(message)?;
            if !ids.insert(message.id) {
                let fault = format!("{} comes twice; give each message an id of its own", message.id);
                return Err(Refusal::invalid("messages.id", fault));
            }
            checked.push(message.into());
        }
        Ok(checked)
    }

    /// What shall be otherwise in a copy of a message.
    ///
    /// # Errors
    /// As [`MessageChecks::message`].
    pub(crate) fn edit(
        &self,
        body: Option<bytes::Bytes>,
        replaced: Option<Vec<v1::Header>>,
    ) -> Checked<MessageEdit> {
        if let Some(body) = &body {
            self.body("body", body)?;
        }
        Ok(MessageEdit { headers: replaced.map(headers).transpose()?, body })
    }

    fn body(&self, field: &'static str, body: &[u8]) -> Checked<()> {
        if body.len() > self.body_bytes_max {
            let fault = format!(
                "it has {} bytes, at most {} are allowed; keep large objects elsewhere and send where they are",
                body.len(),
                self.body_bytes_max
            );
            return Err(Refusal::invalid(field, fault).with("limit", self.body_bytes_max));
        }
        Ok(())
    }

    fn one(&self, message: v1::Message) -> Checked<Message> {
        self.body("message.body", &message.body)?;
        let id = match message.id.is_empty() {
            true => self.chance.message_id(self.clock.now().unix_ms),
            false => message_id("message.id", &message.id)?,
        };
        Ok(Message {
            id,
            topic: name("message.topic", &message.topic)?,
            key: key("message.key", message.key)?,
            ordering_key: key("message.ordering_key", message.ordering_key)?,
            tag: name_option("message.tag", &message.tag)?,
            headers: headers(message.headers)?,
            deliver_at_ms: match message.deliver_at_ms {
                0 => 0,
                at_ms => deliver_at(at_ms, self.clock.now().unix_ms)?,
            },
            time_to_live_ms: time("message.time_to_live_ms", message.time_to_live_ms)?,
            body: message.body,
        })
    }
}

/// A message id.
///
/// # Errors
/// If it is not the 16 bytes of a UUID.
pub(crate) fn message_id(field: &'static str, bytes: &[u8]) -> Checked<MessageId> {
    MessageId::from_slice(bytes).map_err(|error| Refusal::invalid(field, error.to_string()))
}

fn headers(headers: Vec<v1::Header>) -> Checked<Vec<(String, String)>> {
    const FIELD: &str = "message.headers";
    if headers.len() > HEADERS_MAX {
        let fault = format!("there are {}, at most {HEADERS_MAX} are allowed", headers.len());
        return Err(Refusal::invalid(FIELD, fault).with("limit", HEADERS_MAX));
    }
    let bytes: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        let fault = format!("they have {bytes} bytes together, at most {HEADER_BYTES_MAX} are allowed");
        return Err(Refusal::invalid(FIELD, fault).with("limit", HEADER_BYTES_MAX));
    }
    headers
        .into_iter()
        .map(|header| {
            if header.name.is_empty() {
                return Err(Refusal::invalid(FIELD, "a header has no name; name it or leave it out"));
            }
            let reserved = header.name.get(..RESERVED_HEADER_PREFIX.len());
            if reserved.is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESERVED_HEADER_PREFIX)) {
                let fault = "names that begin with \"escrow-\" are the broker's own; use another name";
                return Err(Refusal::invalid(FIELD, fault));
            }
            Ok((header.name, header.value))
        })
        .collect()
}

fn deliver_at(value: i64, now_ms: u64) -> Checked<u64> {
    const FIELD: &str = "message.deliver_at_ms";
    let at_ms = time(FIELD, value)?;
    if at_ms > now_ms + DELIVER_AHEAD_MS_MAX {
        let fault = "it is more than 366 days ahead; choose an earlier time";
        return Err(Refusal::invalid(FIELD, fault).with("limit", now_ms + DELIVER_AHEAD_MS_MAX));
    }
    Ok(at_ms)
}

/// A message as the wire has it.
pub(crate) fn message_to_wire(message: Message) -> v1::Message {
    v1::Message {
        id: id_to_wire(message.id),
        topic: message.topic.to_string(),
        key: message.key.unwrap_or_default(),
        ordering_key: message.ordering_key.unwrap_or_default(),
        tag: message.tag.map_or(String::new(), |tag| tag.to_string()),
        headers: message.headers.into_iter().map(|(name, value)| v1::Header { name, value }).collect(),
        body: message.body,
        deliver_at_ms: ms(message.deliver_at_ms),
        time_to_live_ms: ms(message.time_to_live_ms),
    }
}

/// A message id as the wire has it.
pub(crate) fn id_to_wire(id: MessageId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(id.as_bytes())
}

/// A message that is stored, or gone and still told of, as the wire has it.
pub(crate) fn traced_to_wire(traced: Traced) -> v1::StoredMessage {
    let gone = match traced {
        Traced::Stored(stored) => return stored_to_wire(*stored),
        Traced::Gone(gone) => gone,
    };
    let topic = gone.topic.map_or(String::new(), |topic| topic.to_string());
    let message = v1::Message {
        id: id_to_wire(gone.id),
        topic: topic.clone(),
        key: gone.key.unwrap_or_default(),
        ..Default::default()
    };
    v1::StoredMessage {
        message: Some(message),
        stored_at_ms: 0,
        state: "REMOVED".to_owned(),
        transaction_id: gone.transaction.map_or(0, |id| id.as_u64()),
        topic,
        offset: gone.place.map(|(_, offset, _)| offset.0),
        committed_at_ms: ms(gone.place.map_or(0, |(.., at_ms)| at_ms)),
        removed_at_ms: ms(gone.at_ms),
        ending: gone.ending.as_str().to_owned(),
        body_bytes: 0,
    }
}

/// A stored message as the wire has it.
pub(crate) fn stored_to_wire(stored: StoredMessage) -> v1::StoredMessage {
    let place = stored.place;
    let (state, offset, committed_at_ms) = match place.standing {
        Standing::Undecided => ("UNDECIDED", None, 0),
        Standing::Scheduled { .. } => ("SCHEDULED", None, 0),
        Standing::Queued { offset, at_ms, .. } => ("QUEUED", Some(offset.0), ms(at_ms)),
    };
    let topic = stored.topic.as_ref().unwrap_or(&stored.message.topic).to_string();
    v1::StoredMessage {
        topic,
        message: Some(message_to_wire(stored.message)),
        body_bytes: stored.body_bytes,
        stored_at_ms: ms(place.stored_at_ms),
        state: state.to_owned(),
        transaction_id: place.transaction.map_or(0, |id| id.as_u64()),
        offset,
        committed_at_ms,
        ..Default::default()
    }
}
