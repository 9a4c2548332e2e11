//! What is remembered of messages when their own records are gone: notes of what happened, those of one turn in one
//! record, and for each stretch of such records a sieve that says which subjects may be in it.

use std::collections::HashMap;

use bytes::Bytes;
use escrow_protocol::{MessageId, Offset, TransactionId};

use super::delivery::{read_attempt_kind, read_dead_reason, write_attempt_kind, write_dead_reason};
use super::transaction::{read_role, write_role};
use super::{AttemptKind, DeadReason, DecodeError, GroupNumber, Reader, Record, Role, TopicNumber, Writer};

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A message, wherever it is.
    Message(MessageId),
    /// A message at its place in a topic.
    Place(TopicNumber, Offset),
    /// A transaction of this shard, by number.
    Transaction(u64),
    /// All messages whose business key has this hash ([`super::keys::hash_of`]).
    Key(u64),
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nobody needs it any more.
    Finished,
    /// Its transaction was rolled back.
    RolledBack,
    /// It was cancelled before its time.
    Cancelled,
    /// Its topic was deleted, or nobody listened until its time was over.
    Dropped,
}

/// What a checker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckAnswer {
    /// It does not know.
    Unknown,
    /// Nothing in time.
    TimedOut,
    /// There was none to ask.
    NoChecker,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A message: its record was removed.
    Removed {
        /// How it ended.
        ending: Ending,
        /// The hash of its business key.
        key_hash: Option<u64>,
        /// The transaction it came in.
        transaction: Option<TransactionId>,
        /// Where it was visible, since when (Unix milliseconds).
        place: Option<(TopicNumber, Offset, u64)>,
        /// By whom, if by hand.
        by: String,
    },
    /// A message: its time came.
    Released {
        /// The time it was scheduled for, Unix milliseconds.
        due_ms: u64,
    },
    /// A message: it was given another time by hand.
    Moved {
        /// The time before,
        from_ms: u64,
        /// and since, Unix milliseconds.
        to_ms: u64,
        /// By whom.
        by: String,
    },
    /// A transaction: a check decided nothing.
    Checked {
        /// What was said.
        answer: CheckAnswer,
        /// The checker.
        client: String,
    },
    /// A transaction: its checks are used up, a person must look.
    Parked,
    /// A transaction: given back to its checkers by hand.
    Resumed {
        /// By whom.
        by: String,
    },
    /// A transaction: a check was ordered by hand.
    CheckOrdered {
        /// By whom.
        by: String,
    },
    /// A transaction: decided.
    Decided {
        /// Committed (else rolled back).
        committed: bool,
        /// Who decided,
        role: Role,
        /// by name,
        name: String,
        /// and why.
        reason: String,
        /// When its half message was stored, Unix milliseconds.
        created_at_ms: u64,
        /// The producer group that made it,
        group: String,
        /// and the instance.
        client: String,
    },
    /// A place: a group acked it.
    Acked(GroupNumber, Tried),
    /// A place: an attempt failed.
    Failed {
        /// In which group.
        group: GroupNumber,
        /// The attempt.
        tried: Tried,
        /// How it failed.
        kind: AttemptKind,
        /// The consumer's word, cut.
        error: String,
        /// When it is tried again, Unix milliseconds; 0: not.
        due_ms: u64,
    },
    /// A place: it went to the dead letters.
    Died {
        /// Of which group,
        group: GroupNumber,
        /// where there,
        offset: Offset,
        /// why,
        reason: DeadReason,
        /// and the error, cut.
        error: String,
    },
    /// A place: what waited for its next attempt was sent at once by hand.
    RunNow(GroupNumber, String),
    /// A place: its dead letter was sent again, to the group that failed.
    Redriven(GroupNumber, String),
    /// A place: its dead letter was sent again as this new message.
    Copied(GroupNumber, MessageId, String),
    /// A place: its dead letter was given up.
    Discarded(GroupNumber, String),
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// 1 for the first.
    pub number: u32,
    /// When it was delivered, Unix milliseconds.
    pub delivered_at_ms: u64,
    /// To whom.
    pub client: String,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// To what.
    pub subject: Subject,
    /// What.
    pub happening: Happening,
}

/// What happened in one turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Story {
    /// In order.
    pub notes: Vec<Note>,
}

impl Note {
    /// All that it is found by: its subject, and the key of a message that is gone.
    pub fn marks(&self) -> impl Iterator<Item = Subject> {
        let key = match &self.happening {
            Happening::Removed { key_hash, .. } => key_hash.map(Subject::Key),
            _ => None,
        };
        std::iter::once(self.subject).chain(key)
    }
}

/// Texts of a record, each written once.
#[derive(Default)]
struct Names<'a> {
    numbers: HashMap<&'a str, u64>,
    order: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(notes: &'a [Note]) -> Self {
        let mut names = Self::default();
        notes.iter().flat_map(|note| note.happening.names()).for_each(|name| names.add(name));
        names
    }

    fn add(&mut self, name: &'a str) {
        let next = self.order.len() as u64;
        if *self.numbers.entry(name).or_insert(next) == next {
            self.order.push(name);
        }
    }
}

impl Happening {
    /// Names that are likely to come again in the same turn, in the order they are written.
    fn names(&self) -> impl Iterator<Item = &str> {
        let three: [Option<&str>; 3] = match self {
            Self::Removed { by, .. }
            | Self::Moved { by, .. }
            | Self::Resumed { by }
            | Self::CheckOrdered { by } => [Some(by), None, None],
            Self::Checked { client, .. } => [Some(client), None, None],
            Self::Decided { name, group, client, .. } => [Some(name), Some(group), Some(client)],
            Self::Acked(_, tried) | Self::Failed { tried, .. } => [Some(&tried.client), None, None],
            Self::RunNow(_, by) | Self::Redriven(_, by) | Self::Copied(_, _, by) | Self::Discarded(_, by) => {
                [Some(by), None, None]
            }
            Self::Released { .. } | Self::Parked | Self::Died { .. } => [None; 3],
        };
        three.into_iter().flatten()
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Removed { .. } => 0,
            Self::Released { .. } => 1,
            Self::Moved { .. } => 2,
            Self::Checked { .. } => 3,
            Self::Parked => 4,
            Self::Resumed { .. } => 5,
            Self::CheckOrdered { .. } => 6,
            Self::Decided { .. } => 7,
            Self::Acked(..) => 8,
            Self::Failed { .. } => 9,
            Self::Died { .. } => 10,
            Self::RunNow(..) => 11,
            Self::Redriven(..) => 12,
            Self::Copied(..) => 13,
            Self::Discarded(..) => 14,
        }
    }
}

/// Writes and reads what refers to the record as a whole: its texts, and its time.
struct Frame<T> {
    names: T,
    base_ms: u64,
}

impl Record for Story {
    const NAME: &'static str = "story";

    fn size_hint(&self) -> usize {
        const OF_A_NOTE: usize = 48;
        OF_A_NOTE * (1 + self.notes.len())
    }

    fn write(&self, to: &mut Writer) {
        let names = Names::of(&self.notes);
        to.list(&names.order, |to, name| to.text(name));
        // Times are counted from the first note of the turn: two bytes instead of six.
        let base_ms = self.notes.first().map_or(0, |note| note.at_ms);
        to.int(base_ms);
        let frame = Frame { names: &names.numbers, base_ms };
        to.list(&self.notes, |to, note| frame.write(to, note));
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let names = from.list(Reader::text)?;
        let base_ms = from.int()?;
        let frame = Frame { names: &names, base_ms };
        Ok(Self { notes: from.list(|from| frame.read(from))? })
    }
}

impl Frame<&HashMap<&str, u64>> {
    fn name(&self, to: &mut Writer, name: &str) {
        to.int(self.names[name]);
    }

    /// A time at or before the note's own, or (due times) behind it.
    fn before(&self, to: &mut Writer, at_ms: u64, note: &Note) {
        to.int(note.at_ms.saturating_sub(at_ms));
    }

    fn tried(&self, to: &mut Writer, tried: &Tried, note: &Note) {
        to.int(tried.number);
        self.before(to, tried.delivered_at_ms, note);
        self.name(to, &tried.client);
    }

    fn write(&self, to: &mut Writer, note: &Note) {
        to.u8(note.happening.tag());
        to.int(note.at_ms.saturating_sub(self.base_ms));
        match note.subject {
            Subject::Message(id) => to.message_id(id),
            Subject::Place(topic, offset) => {
                to.int(topic.0);
                to.int(offset.0);
            }
            Subject::Transaction(number) | Subject::Key(number) => to.int(number),
        }
        match &note.happening {
            Happening::Removed { ending, key_hash, transaction, place, by } => {
                to.u8(match ending {
                    Ending::Finished => 0,
                    Ending::RolledBack => 1,
                    Ending::Cancelled => 2,
                    Ending::Dropped => 3,
                });
                super::message::write_hash(to, *key_hash);
                to.transaction_option(*transaction);
                to.flag(place.is_some());
                if let Some((topic, offset, since_ms)) = place {
                    to.int(topic.0);
                    to.int(offset.0);
                    self.before(to, *since_ms, note);
                }
                self.name(to, by);
            }
            Happening::Released { due_ms } => to.int(*due_ms),
            Happening::Moved { from_ms, to_ms, by } => {
                to.int(*from_ms);
                to.int(*to_ms);
                self.name(to, by);
            }
            Happening::Checked { answer, client } => {
                to.u8(match answer {
                    CheckAnswer::Unknown => 0,
                    CheckAnswer::TimedOut => 1,
                    CheckAnswer::NoChecker => 2,
                });
                self.name(to, client);
            }
            Happening::Parked => {}
            Happening::Resumed { by } | Happening::CheckOrdered { by } => self.name(to, by),
            Happening::Decided { committed, role, name, reason, created_at_ms, group, client } => {
                to.flag(*committed);
                write_role(to, *role);
                self.name(to, name);
                to.text(reason);
                self.before(to, *created_at_ms, note);
                self.name(to, group);
                self.name(to, client);
            }
            Happening::Acked(group, tried) => {
                to.int(group.0);
                self.tried(to, tried, note);
            }
            Happening::Failed { group, tried, kind, error, due_ms } => {
                to.int(group.0);
                self.tried(to, tried, note);
                write_attempt_kind(to, *kind);
                to.text(error);
                to.int(*due_ms);
            }
            Happening::Died { group, offset, reason, error } => {
                to.int(group.0);
                to.int(offset.0);
                write_dead_reason(to, *reason);
                to.text(error);
            }
            Happening::RunNow(group, by)
            | Happening::Redriven(group, by)
            | Happening::Discarded(group, by) => {
                to.int(group.0);
                self.name(to, by);
            }
            Happening::Copied(group, copy, by) => {
                to.int(group.0);
                to.message_id(*copy);
                self.name(to, by);
            }
        }
    }
}

impl Frame<&Vec<String>> {
    fn name(&self, from: &mut Reader) -> Result<String, DecodeError> {
        let name = usize::try_from(from.int()?).ok().and_then(|number| self.names.get(number));
        name.cloned().ok_or_else(|| from.fault("a text is not among those of the record"))
    }

    fn tried(&self, from: &mut Reader, at_ms: u64) -> Result<Tried, DecodeError> {
        Ok(Tried { number: from.int32()?, delivered_at_ms: before(from, at_ms)?, client: self.name(from)? })
    }

    fn read(&self, from: &mut Reader) -> Result<Note, DecodeError> {
        let tag = from.u8()?;
        let at_ms = self.base_ms.saturating_add(from.int()?);
        let subject = match tag {
            0..=2 => Subject::Message(from.message_id()?),
            3..=7 => Subject::Transaction(from.int()?),
            8..=14 => Subject::Place(TopicNumber(from.int32()?), from.offset()?),
            _ => return Err(from.fault("a note is of no known sort")),
        };
        let happening = match tag {
            0 => Happening::Removed {
                ending: match from.u8()? {
                    0 => Ending::Finished,
                    1 => Ending::RolledBack,
                    2 => Ending::Cancelled,
                    3 => Ending::Dropped,
                    _ => return Err(from.fault("the end of a message is not known")),
                },
                key_hash: super::message::read_hash(from)?,
                transaction: from.transaction_option()?,
                place: match from.flag()? {
                    true => Some((TopicNumber(from.int32()?), from.offset()?, before(from, at_ms)?)),
                    false => None,
                },
                by: self.name(from)?,
            },
            1 => Happening::Released { due_ms: from.int()? },
            2 => Happening::Moved { from_ms: from.int()?, to_ms: from.int()?, by: self.name(from)? },
            3 => Happening::Checked {
                answer: match from.u8()? {
                    0 => CheckAnswer::Unknown,
                    1 => CheckAnswer::TimedOut,
                    2 => CheckAnswer::NoChecker,
                    _ => return Err(from.fault("the answer to a check is not known")),
                },
                client: self.name(from)?,
            },
            4 => Happening::Parked,
            5 => Happening::Resumed { by: self.name(from)? },
            6 => Happening::CheckOrdered { by: self.name(from)? },
            7 => Happening::Decided {
                committed: from.flag()?,
                role: read_role(from)?,
                name: self.name(from)?,
                reason: from.text()?,
                created_at_ms: before(from, at_ms)?,
                group: self.name(from)?,
                client: self.name(from)?,
            },
            8 => Happening::Acked(GroupNumber(from.int32()?), self.tried(from, at_ms)?),
            9 => Happening::Failed {
                group: GroupNumber(from.int32()?),
                tried: self.tried(from, at_ms)?,
                kind: read_attempt_kind(from)?,
                error: from.text()?,
                due_ms: from.int()?,
            },
            10 => Happening::Died {
                group: GroupNumber(from.int32()?),
                offset: from.offset()?,
                reason: read_dead_reason(from)?,
                error: from.text()?,
            },
            11 => Happening::RunNow(GroupNumber(from.int32()?), self.name(from)?),
            12 => Happening::Redriven(GroupNumber(from.int32()?), self.name(from)?),
            13 => Happening::Copied(GroupNumber(from.int32()?), from.message_id()?, self.name(from)?),
            _ => Happening::Discarded(GroupNumber(from.int32()?), self.name(from)?),
        };
        Ok(Note { at_ms, subject, happening })
    }
}

/// What `Frame::before` wrote.
fn before(from: &mut Reader, at_ms: u64) -> Result<u64, DecodeError> {
    Ok(at_ms.saturating_sub(from.int()?))
}

/// A stretch of stories that is complete: what it holds, and the sieve by which it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// Behind its last story.
    pub end: u64,
    /// Notes in it.
    pub notes: u64,
    /// When its newest note was written, Unix milliseconds.
    pub newest_at_ms: u64,
    /// Which subjects may be in it.
    pub sieve: Bytes,
}

impl Record for Chapter {
    const NAME: &'static str = "chapter of stories";

    fn write(&self, to: &mut Writer) {
        to.int(self.end);
        to.int(self.notes);
        to.int(self.newest_at_ms);
        to.bytes(&self.sieve);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { end: from.int()?, notes: from.int()?, newest_at_ms: from.int()?, sieve: from.bytes()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One note of each sort.
    pub(crate) fn all() -> Vec<Note> {
        let place = Subject::Place(TopicNumber(3), Offset(70_000));
        let message = Subject::Message(MessageId::new(5, [7; 10]));
        let group = GroupNumber(9);
        let tried = |number| Tried { number, delivered_at_ms: 990, client: "till-1".into() };
        let by = || "ada".to_owned();
        let happenings = vec![
            (
                message,
                Happening::Removed {
                    ending: Ending::Finished,
                    key_hash: Some(u64::MAX),
                    transaction: Some(TransactionId::from_u64(42)),
                    place: Some((TopicNumber(3), Offset(70_000), 900)),
                    by: String::new(),
                },
            ),
            (
                message,
                Happening::Removed {
                    ending: Ending::Cancelled,
                    key_hash: None,
                    transaction: None,
                    place: None,
                    by: by(),
                },
            ),
            (message, Happening::Released { due_ms: 1_000 }),
            (message, Happening::Moved { from_ms: 2_000, to_ms: 3_000, by: by() }),
            (
                Subject::Transaction(42),
                Happening::Checked { answer: CheckAnswer::TimedOut, client: "till-1".into() },
            ),
            (Subject::Transaction(42), Happening::Parked),
            (Subject::Transaction(42), Happening::Resumed { by: by() }),
            (Subject::Transaction(42), Happening::CheckOrdered { by: by() }),
            (
                Subject::Transaction(42),
                Happening::Decided {
                    committed: false,
                    role: Role::Person,
                    name: by(),
                    reason: "ledger".into(),
                    created_at_ms: 10,
                    group: "orders".into(),
                    client: "till-1".into(),
                },
            ),
            (place, Happening::Acked(group, tried(1))),
            (
                place,
                Happening::Failed {
                    group,
                    tried: tried(2),
                    kind: AttemptKind::LeaseExpired,
                    error: "slow".into(),
                    due_ms: 1_100,
                },
            ),
            (
                place,
                Happening::Died {
                    group,
                    offset: Offset(4),
                    reason: DeadReason::Rejected,
                    error: "no".into(),
                },
            ),
            (place, Happening::RunNow(group, by())),
            (place, Happening::Redriven(group, by())),
            (place, Happening::Copied(group, MessageId::new(6, [8; 10]), by())),
            (place, Happening::Discarded(group, by())),
        ];
        let notes = happenings.into_iter().enumerate();
        notes
            .map(|(nth, (subject, happening))| Note { at_ms: 1_000 + nth as u64, subject, happening })
            .collect()
    }

    #[test]
    fn a_story_reads_what_it_writes() {
        let story = Story { notes: all() };
        assert_eq!(Story::decode(story.encode()), Ok(story.clone()));
        // A text that is not among those of the record is damage, and so is every cut.
        let whole = story.encode();
        for length in 0..whole.len() {
            assert!(Story::decode(whole.slice(..length)).is_err(), "cut at {length} was accepted");
        }
    }

    #[test]
    fn what_is_written_for_a_message_that_just_went_well_is_small() {
        let happy = |nth: u64| {
            let place = (TopicNumber(3), Offset(1_000_000 + nth), 990);
            let transaction = Some(TransactionId::from_u64(1_000_000 + nth));
            [
                Note {
                    at_ms: 1_000,
                    subject: Subject::Transaction(1_000_000 + nth),
                    happening: Happening::Decided {
                        committed: true,
                        role: Role::Producer,
                        name: "order-service-7f9".into(),
                        reason: String::new(),
                        created_at_ms: 980,
                        group: "orders".into(),
                        client: "order-service-7f9".into(),
                    },
                },
                Note {
                    at_ms: 1_000,
                    subject: Subject::Place(place.0, place.1),
                    happening: Happening::Acked(
                        GroupNumber(2),
                        Tried { number: 1, delivered_at_ms: 995, client: "billing-1".into() },
                    ),
                },
                Note {
                    at_ms: 1_000,
                    subject: Subject::Message(MessageId::new(nth, [7; 10])),
                    happening: Happening::Removed {
                        ending: Ending::Finished,
                        key_hash: Some(nth),
                        transaction,
                        place: Some(place),
                        by: String::new(),
                    },
                },
            ]
        };
        let story = Story { notes: (0..100).flat_map(happy).collect() };
        let bytes_each = story.encode().len() / 100;
        assert!(bytes_each <= 70, "{bytes_each} bytes for each transaction");
    }
}
