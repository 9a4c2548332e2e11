//! What is stored of alarms: each alarm as it stands, and each notice of one that some sink has not taken yet.

use super::{DecodeError, Reader, Record, Writer};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident $word:literal,)*) => {
        /// What is watched.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AlarmRule { $($(#[$doc])* $name,)* }

        impl AlarmRule {
            /// All of them, in the order of their numbers on disk: new ones go to the end.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its word, in the configuration, on the wire and on pages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

rules! {
    /// The oldest undecided transaction is too old.
    UndecidedAge "undecided_age",
    /// Too many transactions are undecided.
    UndecidedCount "undecided_count",
    /// Transactions of a kind are due for a check and nobody can be asked.
    NoChecker "no_checker",
    /// Transactions wait for a person.
    Parked "parked",
    /// A group has dead letters.
    DeadLetters "dead_letters",
    /// A group's messages die too fast.
    DeadLetterRate "dead_letter_rate",
    /// A message of a group has failed too often.
    RetryAttempt "retry_attempt",
    /// A group has too much yet to finish.
    Lag "lag",
    /// The oldest message that a group has yet to finish is too old.
    LagAge "lag_age",
    /// The disk is nearly full.
    DiskFree "disk_free",
    /// The journal could not be written or synced, and the broker stopped.
    FailedSync "failed_sync",
    /// The table does not keep up with the journal.
    SpillBehind "spill_behind",
    /// Records are damaged.
    Damaged "damaged",
}

impl AlarmRule {
    /// The rule with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.as_str() == word)
    }
}

/// Who has taken an alarm upon themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmAck {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Who.
    pub name: String,
    /// Why, or what is being done.
    pub reason: String,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What was watched.
    pub rule: AlarmRule,
    /// Of what: a group, `producer group/kind`; empty: of the broker.
    pub subject: String,
    /// The id that a person needs first: of a transaction or a message; empty where there is none.
    pub id: String,
    /// When it was raised, Unix milliseconds.
    pub raised_at_ms: u64,
    /// The value as it is, of one that is over the last that was wrong, in the unit of its rule; written down whenever people are told.
    pub value: u64,
    /// The limit when it was raised.
    pub limit: u64,
    /// The worst value since.
    pub worst: u64,
    /// When people were told last, Unix milliseconds.
    pub told_at_ms: u64,
    /// How often they were told again.
    pub repeats: u32,
    /// Notices that were made of it: numbers them.
    pub notices: u64,
    /// Who looks after it.
    pub ack: Option<AlarmAck>,
    /// When it was over, Unix milliseconds; `None`: it is open.
    pub resolved_at_ms: Option<u64>,
}

impl Alarm {
    /// Nobody needs to do anything about it any more.
    pub fn is_resolved(&self) -> bool {
        self.resolved_at_ms.is_some()
    }
}

impl Record for Alarm {
    const NAME: &'static str = "alarm";

    fn write(&self, to: &mut Writer) {
        let rule = AlarmRule::ALL.iter().position(|rule| *rule == self.rule);
        to.u8(rule.expect("ALL holds every rule") as u8);
        to.text(&self.subject);
        to.text(&self.id);
        to.int(self.raised_at_ms);
        to.int(self.value);
        to.int(self.limit);
        to.int(self.worst);
        to.int(self.told_at_ms);
        to.int(self.repeats);
        to.int(self.notices);
        to.flag(self.ack.is_some());
        if let Some(ack) = &self.ack {
            to.int(ack.at_ms);
            to.text(&ack.name);
            to.text(&ack.reason);
        }
        to.int(self.resolved_at_ms.unwrap_or(0));
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            rule: {
                let rule = AlarmRule::ALL.get(usize::from(from.u8()?));
                *rule.ok_or_else(|| from.fault("the rule is not known"))?
            },
            subject: from.text()?,
            id: from.text()?,
            raised_at_ms: from.int()?,
            value: from.int()?,
            limit: from.int()?,
            worst: from.int()?,
            told_at_ms: from.int()?,
            repeats: from.int32()?,
            notices: from.int()?,
            ack: match from.flag()? {
                true => Some(AlarmAck { at_ms: from.int()?, name: from.text()?, reason: from.text()? }),
                false => None,
            },
            resolved_at_ms: Some(from.int()?).filter(|at_ms| *at_ms > 0),
        })
    }
}

/// What people are told of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmEvent {
    /// It is there.
    Raised,
    /// It is still there.
    Repeated,
    /// Somebody looks after it.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl AlarmEvent {
    /// All of them, in the order of their numbers on disk.
    pub const ALL: &'static [Self] = &[Self::Raised, Self::Repeated, Self::Acknowledged, Self::Resolved];

    /// Its word in notices.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Repeated => "repeated",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// A notice of an alarm for one sink, from the moment it was made until the sink has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmNotice {
    /// The sink.
    pub sink: String,
    /// What it says.
    pub event: AlarmEvent,
    /// When it was made, Unix milliseconds.
    pub at_ms: u64,
    /// How often the sink was tried in vain.
    pub attempts: u32,
    /// When it is tried next, Unix milliseconds.
    pub due_at_ms: u64,
    /// What went wrong last.
    pub error: String,
    /// The alarm as it was by then.
    pub alarm: Alarm,
}

/// The sinks that know of the alarms that are open: those that were configured when the broker ran last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmSinks(pub Vec<String>);

impl Record for AlarmSinks {
    const NAME: &'static str = "alarm sinks";

    fn write(&self, to: &mut Writer) {
        to.list(&self.0, |to, name| to.text(name));
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        from.list(Reader::text).map(Self)
    }
}

impl Record for AlarmNotice {
    const NAME: &'static str = "alarm notice";

    fn write(&self, to: &mut Writer) {
        to.text(&self.sink);
        let event = AlarmEvent::ALL.iter().position(|event| *event == self.event);
        to.u8(event.expect("ALL holds every event") as u8);
        to.int(self.at_ms);
        to.int(self.attempts);
        to.int(self.due_at_ms);
        to.text(&self.error);
        to.bytes(&self.alarm.encode());
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            sink: from.text()?,
            event: {
                let event = AlarmEvent::ALL.get(usize::from(from.u8()?));
                *event.ok_or_else(|| from.fault("the event is not known"))?
            },
            at_ms: from.int()?,
            attempts: from.int32()?,
            due_at_ms: from.int()?,
            error: from.text()?,
            alarm: Alarm::decode(from.bytes()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm() -> Alarm {
        Alarm {
            rule: AlarmRule::DeadLetters,
            subject: "billing".to_owned(),
            id: "01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d".to_owned(),
            raised_at_ms: 1_000,
            value: 3,
            limit: 1,
            worst: 7,
            told_at_ms: 2_000,
            repeats: 1,
            notices: 4,
            ack: Some(AlarmAck { at_ms: 3_000, name: "ada".to_owned(), reason: "on it".to_owned() }),
            resolved_at_ms: None,
        }
    }

    #[test]
    fn what_is_written_of_alarms_reads_back() {
        let resolved = Alarm { ack: None, resolved_at_ms: Some(9_000), ..alarm() };
        for alarm in [alarm(), resolved] {
            assert_eq!(Alarm::decode(alarm.encode()), Ok(alarm.clone()));
            for event in AlarmEvent::ALL {
                let notice = AlarmNotice {
                    sink: "oncall".to_owned(),
                    event: *event,
                    at_ms: 5,
                    attempts: 2,
                    due_at_ms: 77,
                    error: "503".to_owned(),
                    alarm: alarm.clone(),
                };
                assert_eq!(AlarmNotice::decode(notice.encode()), Ok(notice));
            }
        }
    }

    #[test]
    fn every_rule_reads_what_it_writes() {
        for rule in AlarmRule::ALL {
            assert_eq!(AlarmRule::of_word(rule.as_str()), Some(*rule));
        }
    }
}
