//! What is stored of deliveries: the order of a topic, a group's progress in it, retries and dead letters.

use escrow_protocol::{ClientId, GroupName, MessageId, Offset, Tag, TopicName, TransactionId};

use super::message::{read_hash, write_hash};
use super::{DecodeError, Reader, Record, TopicNumber, Writer};

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It was sent again.
    Redriven,
    /// A person gave it up.
    Discarded,
}

/// One place in a topic's order: what the engine needs to deliver the message there, or to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// The message.
    pub id: MessageId,
    /// When it became visible here, Unix milliseconds.
    pub at_ms: u64,
    /// The transaction it came in.
    pub transaction: Option<TransactionId>,
    /// The hash of its business key.
    pub key_hash: Option<u64>,
    /// Its tag.
    pub tag: Option<Tag>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Not delivered from this time on, Unix milliseconds; 0: no bound.
    pub expires_at_ms: u64,
    /// In a dead-letter topic: set once it was redriven or discarded; the entry stays, for offsets are dense, but is
    /// delivered to nobody.
    pub resolution: Option<Resolution>,
}

impl Record for QueueEntry {
    const NAME: &'static str = "queue entry";

    fn write(&self, to: &mut Writer) {
        to.message_id(self.id);
        to.int(self.at_ms);
        to.transaction_option(self.transaction);
        write_hash(to, self.key_hash);
        to.text_option(self.tag.as_ref());
        to.text_option(self.ordering_key.as_ref());
        to.int(self.body_bytes);
        to.int(self.expires_at_ms);
        to.u8(match self.resolution {
            None => 0,
            Some(Resolution::Redriven) => 1,
            Some(Resolution::Discarded) => 2,
        });
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.message_id()?,
            at_ms: from.int()?,
            transaction: from.transaction_option()?,
            key_hash: read_hash(from)?,
            tag: from.name_option()?,
            ordering_key: from.text_option()?,
            body_bytes: from.int32()?,
            expires_at_ms: from.int()?,
            resolution: match from.u8()? {
                0 => None,
                1 => Some(Resolution::Redriven),
                2 => Some(Resolution::Discarded),
                _ => return Err(from.fault("the resolution is not known")),
            },
        })
    }
}

/// How far a group has come in a topic. "Finished" here: acked, retrying or dead, i.e. no longer owed from the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Everything below is finished.
    pub floor: Offset,
    /// Finished above the floor: ranges `start..end`, ascending, not touching.
    pub finished: Vec<(Offset, Offset)>,
}

impl Record for Progress {
    const NAME: &'static str = "progress";

    fn write(&self, to: &mut Writer) {
        to.int(self.floor.0);
        // Distances instead of offsets: most take one byte.
        let mut before = self.floor.0;
        to.list(&self.finished, |to, (start, end)| {
            to.int(start.0 - before);
            to.int(end.0 - start.0);
            before = end.0;
        });
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let floor = from.offset()?;
        let mut before = floor.0;
        let finished = from.list(|from| {
            let (gap, length) = (from.int()?, from.int()?);
            let start = before.checked_add(gap).ok_or_else(|| from.fault("a range is too far"))?;
            let end = start.checked_add(length).ok_or_else(|| from.fault("a range is too far"))?;
            before = end;
            Ok((Offset(start), Offset(end)))
        })?;
        Ok(Self { floor, finished })
    }
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// The consumer said so.
    Nack,
    /// Its lease ran out.
    LeaseExpired,
    /// Its consumer was gone.
    ConsumerLost,
    /// The consumer said it can never succeed.
    Rejected,
}

impl AttemptKind {
    /// Its word on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nack => "NACK",
            Self::LeaseExpired => "LEASE_EXPIRED",
            Self::ConsumerLost => "CONSUMER_LOST",
            Self::Rejected => "REJECTED",
        }
    }
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When it failed, Unix milliseconds.
    pub at_ms: u64,
    /// How.
    pub kind: AttemptKind,
    /// The consumer's word.
    pub error: String,
    /// The consumer.
    pub client: Option<ClientId>,
}

fn write_attempt(to: &mut Writer, attempt: &Attempt) {
    to.int(attempt.number);
    to.int(attempt.at_ms);
    write_attempt_kind(to, attempt.kind);
    to.text(&attempt.error);
    to.text_option(attempt.client.as_ref());
}

pub(super) fn write_attempt_kind(to: &mut Writer, kind: AttemptKind) {
    to.u8(match kind {
        AttemptKind::Nack => 0,
        AttemptKind::LeaseExpired => 1,
        AttemptKind::ConsumerLost => 2,
        AttemptKind::Rejected => 3,
    });
}

pub(super) fn read_attempt_kind(from: &mut Reader) -> Result<AttemptKind, DecodeError> {
    Ok(match from.u8()? {
        0 => AttemptKind::Nack,
        1 => AttemptKind::LeaseExpired,
        2 => AttemptKind::ConsumerLost,
        3 => AttemptKind::Rejected,
        _ => return Err(from.fault("the kind of an attempt is not known")),
    })
}

fn read_attempt(from: &mut Reader) -> Result<Attempt, DecodeError> {
    Ok(Attempt {
        number: from.int32()?,
        at_ms: from.int()?,
        kind: read_attempt_kind(from)?,
        error: from.text()?,
        client: from.name_option()?,
    })
}

/// A message that waits for its next attempt in one group. While it exists, the message exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// What its queue entry said; the entry itself may be gone.
    pub entry: QueueEntry,
    /// When it may be delivered again, Unix milliseconds.
    pub due_at_ms: u64,
    /// Attempts that failed since it was first delivered or last redriven.
    pub attempts_made: u32,
    /// The last of them (16 at most), and of those before a redrive.
    pub attempts: Vec<Attempt>,
    /// How often it was redriven.
    pub redrives: u32,
}

impl Record for Retry {
    const NAME: &'static str = "retry";

    fn write(&self, to: &mut Writer) {
        self.entry.write(to);
        to.int(self.due_at_ms);
        to.int(self.attempts_made);
        to.list(&self.attempts, write_attempt);
        to.int(self.redrives);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            entry: QueueEntry::read(from)?,
            due_at_ms: from.int()?,
            attempts_made: from.int32()?,
            attempts: from.list(read_attempt)?,
            redrives: from.int32()?,
        })
    }
}

/// Why a message went to the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadReason {
    /// Its attempts were used up.
    AttemptsExhausted,
    /// A consumer rejected it.
    Rejected,
    /// It outlived its time to live.
    Expired,
    /// An earlier message of its ordering key failed, and the group's policy is to dead-letter the key.
    OrderingKeyFailed,
    /// Its record on disk is damaged.
    Damaged,
    /// A person gave up its retries.
    GivenUp,
}

impl DeadReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AttemptsExhausted,
        Self::Rejected,
        Self::Expired,
        Self::OrderingKeyFailed,
        Self::Damaged,
        Self::GivenUp,
    ];

    /// Its word on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "ATTEMPTS_EXHAUSTED",
            Self::Rejected => "REJECTED",
            Self::Expired => "EXPIRED",
            Self::OrderingKeyFailed => "ORDERING_KEY_FAILED",
            Self::Damaged => "DAMAGED",
            Self::GivenUp => "GIVEN_UP",
        }
    }

    /// The reason with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

pub(super) fn write_dead_reason(to: &mut Writer, reason: DeadReason) {
    let reason = DeadReason::ALL.iter().position(|known| *known == reason);
    to.u8(reason.expect("ALL holds every reason") as u8);
}

pub(super) fn read_dead_reason(from: &mut Reader) -> Result<DeadReason, DecodeError> {
    let reason = from.u8()?;
    let known = DeadReason::ALL.get(usize::from(reason));
    known.copied().ok_or_else(|| from.fault("the reason is not known"))
}

/// A dead letter: all that is known of the failure. The message itself stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The group that could not process it.
    pub group: GroupName,
    /// The topic it came from, by number,
    pub topic: TopicNumber,
    /// by name (a topic may be gone before its dead letters),
    pub topic_name: TopicName,
    /// and its place there.
    pub offset: Offset,
    /// What its queue entry there said.
    pub entry: QueueEntry,
    /// Why.
    pub reason: DeadReason,
    /// The last error.
    pub error: String,
    /// When it died, Unix milliseconds.
    pub at_ms: u64,
    /// Attempts that were made in all since it was first delivered or last redriven.
    pub attempts_made: u32,
    /// The last of them, 16 at most.
    pub attempts: Vec<Attempt>,
    /// How often it had been redriven.
    pub redrives: u32,
}

impl Record for DeadLetter {
    const NAME: &'static str = "dead letter";

    fn write(&self, to: &mut Writer) {
        to.text(self.group.as_str());
        to.int(self.topic.0);
        to.text(self.topic_name.as_str());
        to.int(self.offset.0);
        self.entry.write(to);
        write_dead_reason(to, self.reason);
        to.text(&self.error);
        to.int(self.at_ms);
        to.int(self.attempts_made);
        to.list(&self.attempts, write_attempt);
        to.int(self.redrives);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            group: from.name()?,
            topic: TopicNumber(from.int32()?),
            topic_name: from.name()?,
            offset: from.offset()?,
            entry: QueueEntry::read(from)?,
            reason: read_dead_reason(from)?,
            error: from.text()?,
            at_ms: from.int()?,
            attempts_made: from.int32()?,
            attempts: from.list(read_attempt)?,
            redrives: from.int32()?,
        })
    }
}

/// From a message's place (topic, offset, group) to its dead letter's offset in the group's dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadPlace {
    /// Its offset there.
    pub offset: Offset,
}

impl Record for DeadPlace {
    const NAME: &'static str = "dead place";

    fn write(&self, to: &mut Writer) {
        to.int(self.offset.0);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { offset: from.offset()? })
    }
}
