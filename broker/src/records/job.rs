//! What is stored of a job over many dead letters: its plan, written once; its progress, written in the batch of each of
//! its steps; what it did, many in a record; and what it could not do, a record for each.

use escrow_protocol::{GroupName, MessageId, Offset, TopicName};

use super::{DeadReason, DecodeError, GroupNumber, Reader, Record, TopicNumber, Writer};

/// What a job does with each dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobKind {
    /// Sends it again, to the group that failed.
    Redrive,
    /// Sends it again as a new arrival in this topic.
    RedriveTo(TopicName),
    /// Gives it up.
    Discard,
}

/// Which dead letters of a group. What is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Exactly these; empty: all that match the rest.
    pub offsets: Vec<Offset>,
    /// With this reason.
    pub reason: Option<DeadReason>,
    /// With this business key.
    pub key: Option<String>,
    /// From this topic.
    pub topic: Option<TopicName>,
    /// Died at or after, Unix milliseconds; 0: no bound.
    pub from_ms: u64,
    /// Died before, Unix milliseconds; 0: no bound.
    pub until_ms: u64,
    /// Whose last error has this in it.
    pub error_contains: Option<String>,
}

/// What a job was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPlan {
    /// What it does.
    pub kind: JobKind,
    /// The group, by number and by name: it may be gone before the job's record is.
    pub group: GroupNumber,
    /// See `group`.
    pub group_name: GroupName,
    /// The group's dead-letter topic.
    pub dead_letters: TopicNumber,
    /// Which dead letters.
    pub filter: LetterFilter,
    /// At most so many a second; 0: as fast as it goes.
    pub rate: u32,
    /// Only says what would happen.
    pub dry_run: bool,
    /// Who ordered it,
    pub name: String,
    /// and why.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// What lies at or behind this offset died later and is not part of it.
    pub until: Offset,
    /// Dead letters there were to look at.
    pub total: u64,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It works.
    Running,
    /// It waits to be told to go on.
    Paused,
    /// It has been through all.
    Done,
    /// A person ended it.
    Cancelled,
    /// It could not go on.
    Failed,
}

impl JobState {
    /// All of them, in the order of their numbers on disk.
    pub const ALL: [Self; 5] = [Self::Running, Self::Paused, Self::Done, Self::Cancelled, Self::Failed];

    /// Whether it does nothing more, whatever happens.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    /// Its word on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }
}

/// How far a job has come. Written in the batch of what it says was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// Where it stands.
    pub state: JobState,
    /// All before was looked at: an offset, or with `filter.offsets` an index into them.
    pub next: u64,
    /// Dead letters looked at.
    pub examined: u64,
    /// Of these: done (or, in a dry run, would be),
    pub done: u64,
    /// and refused.
    pub failed: u64,
    /// When it ended, Unix milliseconds; 0: not yet.
    pub ended_at_ms: u64,
    /// Why it could not go on.
    pub fault: String,
}

/// A dead letter with which a job could not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// Its message, if it is there.
    pub message: Option<MessageId>,
    /// Why, for programs,
    pub reason: String,
    /// and for people.
    pub text: String,
}

/// A dead letter with which a job did what it should (or, in a dry run, would).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDeed {
    /// Its place.
    pub offset: Offset,
    /// Its message.
    pub message: MessageId,
    /// The new message it was sent again as; `None`: as itself, or not at all.
    pub copy: Option<MessageId>,
}

/// What a job did, by offset: [`JobDeeds::IN_ONE`] at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobDeeds(pub Vec<JobDeed>);

impl JobDeeds {
    /// So many in a record: it is written again with each step that adds to it, and forgotten as a whole.
    pub const IN_ONE: u64 = 64;
}

fn write_filter(to: &mut Writer, filter: &LetterFilter) {
    to.list(&filter.offsets, |to, offset| to.int(offset.0));
    let reason = filter.reason.and_then(|wanted| DeadReason::ALL.iter().position(|reason| *reason == wanted));
    to.u8(reason.map_or(0, |index| index as u8 + 1));
    to.text_option(filter.key.as_ref());
    to.text_option(filter.topic.as_ref());
    to.int(filter.from_ms);
    to.int(filter.until_ms);
    to.text_option(filter.error_contains.as_ref());
}

fn read_filter(from: &mut Reader) -> Result<LetterFilter, DecodeError> {
    Ok(LetterFilter {
        offsets: from.list(Reader::offset)?,
        reason: match from.u8()? {
            0 => None,
            number => {
                let known = DeadReason::ALL.get(usize::from(number) - 1).copied();
                Some(known.ok_or_else(|| from.fault("the reason is not known"))?)
            }
        },
        key: from.text_option()?,
        topic: from.name_option()?,
        from_ms: from.int()?,
        until_ms: from.int()?,
        error_contains: from.text_option()?,
    })
}

impl Record for JobPlan {
    const NAME: &'static str = "job";

    fn write(&self, to: &mut Writer) {
        match &self.kind {
            JobKind::Redrive => to.u8(0),
            JobKind::RedriveTo(topic) => {
                to.u8(1);
                to.text(topic.as_str());
            }
            JobKind::Discard => to.u8(2),
        }
        to.int(self.group.0);
        to.text(self.group_name.as_str());
        to.int(self.dead_letters.0);
        write_filter(to, &self.filter);
        to.int(self.rate);
        to.flag(self.dry_run);
        to.text(&self.name);
        to.text(&self.reason);
        to.int(self.at_ms);
        to.int(self.until.0);
        to.int(self.total);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: match from.u8()? {
                0 => JobKind::Redrive,
                1 => JobKind::RedriveTo(from.name()?),
                2 => JobKind::Discard,
                _ => return Err(from.fault("the kind of the job is not known")),
            },
            group: GroupNumber(from.int32()?),
            group_name: from.name()?,
            dead_letters: TopicNumber(from.int32()?),
            filter: read_filter(from)?,
            rate: from.int32()?,
            dry_run: from.flag()?,
            name: from.text()?,
            reason: from.text()?,
            at_ms: from.int()?,
            until: from.offset()?,
            total: from.int()?,
        })
    }
}

impl Record for JobProgress {
    const NAME: &'static str = "job progress";

    fn write(&self, to: &mut Writer) {
        let state = JobState::ALL.iter().position(|state| *state == self.state);
        to.u8(state.expect("ALL holds every state") as u8);
        to.int(self.next);
        to.int(self.examined);
        to.int(self.done);
        to.int(self.failed);
        to.int(self.ended_at_ms);
        to.text(&self.fault);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            state: {
                let known = JobState::ALL.get(usize::from(from.u8()?)).copied();
                known.ok_or_else(|| from.fault("the state is not known"))?
            },
            next: from.int()?,
            examined: from.int()?,
            done: from.int()?,
            failed: from.int()?,
            ended_at_ms: from.int()?,
            fault: from.text()?,
        })
    }
}

impl Record for JobDeeds {
    const NAME: &'static str = "job deeds";

    fn write(&self, to: &mut Writer) {
        to.list(&self.0, |to, deed| {
            to.int(deed.offset.0);
            to.message_id(deed.message);
            to.flag(deed.copy.is_some());
            if let Some(copy) = deed.copy {
                to.message_id(copy);
            }
        });
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let deeds = from.list(|from| {
            Ok(JobDeed {
                offset: from.offset()?,
                message: from.message_id()?,
                copy: if from.flag()? { Some(from.message_id()?) } else { None },
            })
        });
        deeds.map(Self)
    }
}

impl Record for JobFailure {
    const NAME: &'static str = "job failure";

    fn write(&self, to: &mut Writer) {
        to.flag(self.message.is_some());
        if let Some(message) = self.message {
            to.message_id(message);
        }
        to.text(&self.reason);
        to.text(&self.text);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            message: if from.flag()? { Some(from.message_id()?) } else { None },
            reason: from.text()?,
            text: from.text()?,
        })
    }
}
