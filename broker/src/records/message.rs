//! A message as its producer made it, and where it stands.

use bytes::Bytes;
use escrow_protocol::{MessageId, Offset, Tag, TopicName, TransactionId};

use super::{DecodeError, Reader, Record, TopicNumber, Writer, keys};

/// What the producer sent. Written once, at the edge; never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The topic it goes to.
    pub topic: TopicName,
    /// Its business key.
    pub key: Option<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its tag.
    pub tag: Option<Tag>,
    /// Its headers, in the order they were sent.
    pub headers: Vec<(String, String)>,
    /// Not before this time, Unix milliseconds; 0: at once.
    pub deliver_at_ms: u64,
    /// Milliseconds it may be delivered for, once visible; 0: no bound.
    pub time_to_live_ms: u64,
    /// Its body.
    pub body: Bytes,
}

impl Record for Message {
    const NAME: &'static str = "message";

    fn size_hint(&self) -> usize {
        const FIXED_FIELDS: usize = 64;
        const OF_A_LENGTH: usize = 3;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let header = |(name, value): &(String, String)| name.len() + value.len() + 2 * OF_A_LENGTH;
        FIXED_FIELDS
            + self.topic.as_str().len()
            + text(&self.key)
            + text(&self.ordering_key)
            + self.tag.as_ref().map_or(0, |tag| tag.as_str().len())
            + self.headers.iter().map(header).sum::<usize>()
            + self.body.len()
    }

    fn write(&self, to: &mut Writer) {
        to.message_id(self.id);
        to.text(self.topic.as_str());
        to.text_option(self.key.as_ref());
        to.text_option(self.ordering_key.as_ref());
        to.text_option(self.tag.as_ref());
        to.list(&self.headers, |to, (name, value)| {
            to.text(name);
            to.text(value);
        });
        to.int(self.deliver_at_ms);
        to.int(self.time_to_live_ms);
        to.bytes(&self.body);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.message_id()?,
            topic: from.name()?,
            key: from.text_option()?,
            ordering_key: from.text_option()?,
            tag: from.name_option()?,
            headers: from.list(|from| Ok((from.text()?, from.text()?)))?,
            deliver_at_ms: from.int()?,
            time_to_live_ms: from.int()?,
            body: from.bytes()?,
        })
    }
}

/// What the engine needs to know of a message without reading it: enough to queue it, filter it, order it, count it and
/// remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// Its id.
    pub id: MessageId,
    /// The topic it goes to.
    pub topic: TopicNumber,
    /// The hash of its business key ([`keys::hash_of`]), if it has one.
    pub key_hash: Option<u64>,
    /// Its tag.
    pub tag: Option<Tag>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Not before this time, Unix milliseconds; 0: at once.
    pub deliver_at_ms: u64,
    /// Milliseconds it may be delivered for, once visible; 0: no bound.
    pub time_to_live_ms: u64,
}

impl Record for Stub {
    const NAME: &'static str = "scheduled message";

    fn write(&self, to: &mut Writer) {
        to.message_id(self.id);
        to.int(self.topic.0);
        write_hash(to, self.key_hash);
        to.text_option(self.tag.as_ref());
        to.text_option(self.ordering_key.as_ref());
        to.int(self.body_bytes);
        to.int(self.deliver_at_ms);
        to.int(self.time_to_live_ms);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.message_id()?,
            topic: TopicNumber(from.int32()?),
            key_hash: read_hash(from)?,
            tag: from.name_option()?,
            ordering_key: from.text_option()?,
            body_bytes: from.int32()?,
            deliver_at_ms: from.int()?,
            time_to_live_ms: from.int()?,
        })
    }
}

pub(super) fn write_hash(to: &mut Writer, hash: Option<u64>) {
    to.flag(hash.is_some());
    if let Some(hash) = hash {
        to.fixed(hash);
    }
}

pub(super) fn read_hash(from: &mut Reader) -> Result<Option<u64>, DecodeError> {
    Ok(match from.flag()? {
        true => Some(from.fixed()?),
        false => None,
    })
}

impl Stub {
    /// The stub of `message` in the topic with this number.
    pub fn of(message: &Message, topic: TopicNumber) -> Self {
        Self {
            id: message.id,
            topic,
            key_hash: message.key.as_deref().map(keys::hash_of),
            tag: message.tag.clone(),
            ordering_key: message.ordering_key.clone(),
            body_bytes: message.body.len() as u32,
            deliver_at_ms: message.deliver_at_ms,
            time_to_live_ms: message.time_to_live_ms,
        }
    }
}

/// Where a message is: the one record of it that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// When it was stored, Unix milliseconds.
    pub stored_at_ms: u64,
    /// The transaction it came in.
    pub transaction: Option<TransactionId>,
    /// Where it stands.
    pub standing: Standing,
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its transaction is undecided: it is in no queue.
    Undecided,
    /// It waits for its time (Unix milliseconds).
    Scheduled {
        /// The time.
        due_ms: u64,
    },
    /// It is visible.
    Queued {
        /// In this topic,
        topic: TopicNumber,
        /// at this place,
        offset: Offset,
        /// since then, Unix milliseconds.
        at_ms: u64,
    },
}

impl Record for Place {
    const NAME: &'static str = "place";

    fn write(&self, to: &mut Writer) {
        to.int(self.stored_at_ms);
        to.transaction_option(self.transaction);
        match self.standing {
            Standing::Undecided => to.u8(0),
            Standing::Scheduled { due_ms } => {
                to.u8(1);
                to.int(due_ms);
            }
            Standing::Queued { topic, offset, at_ms } => {
                to.u8(2);
                to.int(topic.0);
                to.int(offset.0);
                to.int(at_ms);
            }
        }
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            stored_at_ms: from.int()?,
            transaction: from.transaction_option()?,
            standing: match from.u8()? {
                0 => Standing::Undecided,
                1 => Standing::Scheduled { due_ms: from.int()? },
                2 => Standing::Queued {
                    topic: TopicNumber(from.int32()?),
                    offset: from.offset()?,
                    at_ms: from.int()?,
                },
                _ => return Err(from.fault("the standing is not known")),
            },
        })
    }
}

/// What is remembered of a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The transaction it came in.
    pub transaction: Option<TransactionId>,
    /// It was scheduled, and cancelled before its time.
    pub cancelled: bool,
}

/// The message ids of one turn: those that arrived, and those that were cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// In order of arrival.
    pub ids: Vec<(MessageId, Fate)>,
}

impl Record for Remembered {
    const NAME: &'static str = "remembered ids";

    fn size_hint(&self) -> usize {
        const OF_AN_ID: usize = 16 + 9 + 1;
        8 + self.ids.len() * OF_AN_ID
    }

    fn write(&self, to: &mut Writer) {
        to.list(&self.ids, |to, (id, fate)| {
            to.message_id(*id);
            to.transaction_option(fate.transaction);
            to.flag(fate.cancelled);
        });
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let ids = from.list(|from| {
            let id = from.message_id()?;
            Ok((id, Fate { transaction: from.transaction_option()?, cancelled: from.flag()? }))
        })?;
        Ok(Self { ids })
    }
}
