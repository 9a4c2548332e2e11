//! A transaction: the one authoritative record of its messages, checks and decision. It lies under `undecided` until
//! the decision moves it, in the same batch, under `decided`.

use escrow_protocol::{ClientId, GroupName, Kind, Offset};

use super::{DecodeError, Reader, Record, Stub, Writer};

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Undecided; checked back.
    Prepared,
    /// Undecided; waits for a person or a late producer.
    Parked,
    /// Final: visible.
    Committed,
    /// Final: gone.
    RolledBack,
}

impl TransactionState {
    /// Whether a decision was taken.
    pub fn is_decided(self) -> bool {
        matches!(self, Self::Committed | Self::RolledBack)
    }

    /// Its word on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "PREPARED",
            Self::Parked => "PARKED",
            Self::Committed => "COMMITTED",
            Self::RolledBack => "ROLLED_BACK",
        }
    }
}

/// What may be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Make it visible.
    Commit,
    /// Remove it.
    Rollback,
}

impl Decision {
    /// The state it leads to.
    pub fn state(self) -> TransactionState {
        match self {
            Self::Commit => TransactionState::Committed,
            Self::Rollback => TransactionState::RolledBack,
        }
    }
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The producer, of its own accord.
    Producer,
    /// A checker, asked.
    Check,
    /// A person.
    Person,
    /// The in-doubt policy.
    Policy,
}

impl Role {
    /// Its word on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Check => "check",
            Self::Person => "person",
            Self::Policy => "policy",
        }
    }
}

/// Who decided, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decider {
    /// In which role.
    pub role: Role,
    /// The client id, the person's name or the policy's.
    pub name: String,
    /// Why, where a reason was given.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// What becomes of a transaction nobody can answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InDoubt {
    /// Kept and alarmed.
    #[default]
    Park,
    /// Rolled back.
    Rollback,
    /// Committed.
    Commit,
}

/// How one transaction is checked: the broker's settings with the producer's overrides, fixed when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckPolicy {
    /// Milliseconds to the first check.
    pub first_check_after_ms: u64,
    /// Delivered checks before the in-doubt policy.
    pub max_checks: u32,
    /// Milliseconds undecided before the in-doubt policy.
    pub max_undecided_age_ms: u64,
    /// The in-doubt policy.
    pub in_doubt: InDoubt,
}

/// What came of the checks. Only a check that reached a checker counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckCounts {
    /// Answered, or not answered in time by a checker that stayed connected.
    pub delivered: u32,
    /// Of these: answered "unknown".
    pub unknown: u32,
    /// Of these: not answered in time.
    pub timed_out: u32,
    /// Due while no checker of the kind was connected.
    pub no_checker: u32,
    /// Delivered since the transaction was made or last resumed: what `max_checks` bounds.
    pub delivered_since_resume: u32,
}

/// A message of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionMessage {
    /// The message.
    pub stub: Stub,
    /// Its place, once committed and not scheduled.
    pub offset: Option<Offset>,
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Where it stands.
    pub state: TransactionState,
    /// The producer group: only it may decide.
    pub group: GroupName,
    /// Who can answer for it.
    pub kind: Kind,
    /// The instance that sent it.
    pub client: ClientId,
    /// The producer's own key for it.
    pub key: Option<String>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// When its age began: made or last resumed, Unix milliseconds.
    pub resumed_at_ms: u64,
    /// How it is checked.
    pub policy: CheckPolicy,
    /// What came of that.
    pub checks: CheckCounts,
    /// The next check, Unix milliseconds.
    pub next_check_at_ms: u64,
    /// Its messages.
    pub messages: Vec<TransactionMessage>,
    /// Once decided: by whom.
    pub decider: Option<Decider>,
    /// Contradicting decisions that were refused.
    pub conflicts: u32,
}

impl Record for Transaction {
    const NAME: &'static str = "transaction";

    fn write(&self, to: &mut Writer) {
        to.u8(match self.state {
            TransactionState::Prepared => 0,
            TransactionState::Parked => 1,
            TransactionState::Committed => 2,
            TransactionState::RolledBack => 3,
        });
        to.text(self.group.as_str());
        // The group's own kind is the rule: the empty text stands for it.
        to.text(if self.kind.as_str() == self.group.as_str() { "" } else { self.kind.as_str() });
        to.text(self.client.as_str());
        to.text_option(self.key.as_ref());
        to.int(self.created_at_ms);
        to.int(self.resumed_at_ms);
        write_policy(&self.policy, to);
        let checks = &self.checks;
        for count in [
            checks.delivered,
            checks.unknown,
            checks.timed_out,
            checks.no_checker,
            checks.delivered_since_resume,
        ] {
            to.int(count);
        }
        to.int(self.next_check_at_ms);
        to.list(&self.messages, |to, message| {
            message.stub.write(to);
            // An offset is written one higher: 0 stands for none.
            to.int(message.offset.map_or(0, |offset| offset.0 + 1));
        });
        to.flag(self.decider.is_some());
        if let Some(decider) = &self.decider {
            write_decider(decider, to);
        }
        to.int(self.conflicts);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let state = match from.u8()? {
            0 => TransactionState::Prepared,
            1 => TransactionState::Parked,
            2 => TransactionState::Committed,
            3 => TransactionState::RolledBack,
            _ => return Err(from.fault("the state is not known")),
        };
        let group: GroupName = from.name()?;
        let kind = match from.name_option()? {
            Some(kind) => kind,
            None => group.as_str().parse().map_err(|_| from.fault("a name is not legal"))?,
        };
        Ok(Self {
            state,
            group,
            kind,
            client: from.name()?,
            key: from.text_option()?,
            created_at_ms: from.int()?,
            resumed_at_ms: from.int()?,
            policy: read_policy(from)?,
            checks: CheckCounts {
                delivered: from.int32()?,
                unknown: from.int32()?,
                timed_out: from.int32()?,
                no_checker: from.int32()?,
                delivered_since_resume: from.int32()?,
            },
            next_check_at_ms: from.int()?,
            messages: from.list(|from| {
                Ok(TransactionMessage {
                    stub: Stub::read(from)?,
                    offset: from.int()?.checked_sub(1).map(Offset),
                })
            })?,
            decider: match from.flag()? {
                true => Some(read_decider(from)?),
                false => None,
            },
            conflicts: from.int32()?,
        })
    }
}

fn write_policy(policy: &CheckPolicy, to: &mut Writer) {
    to.int(policy.first_check_after_ms);
    to.int(policy.max_checks);
    to.int(policy.max_undecided_age_ms);
    to.u8(match policy.in_doubt {
        InDoubt::Park => 0,
        InDoubt::Rollback => 1,
        InDoubt::Commit => 2,
    });
}

fn read_policy(from: &mut Reader) -> Result<CheckPolicy, DecodeError> {
    Ok(CheckPolicy {
        first_check_after_ms: from.int()?,
        max_checks: from.int32()?,
        max_undecided_age_ms: from.int()?,
        in_doubt: match from.u8()? {
            0 => InDoubt::Park,
            1 => InDoubt::Rollback,
            2 => InDoubt::Commit,
            _ => return Err(from.fault("the in-doubt policy is not known")),
        },
    })
}

fn write_decider(decider: &Decider, to: &mut Writer) {
    write_role(to, decider.role);
    to.text(&decider.name);
    to.text(&decider.reason);
    to.int(decider.at_ms);
}

pub(super) fn write_role(to: &mut Writer, role: Role) {
    to.u8(match role {
        Role::Producer => 0,
        Role::Check => 1,
        Role::Person => 2,
        Role::Policy => 3,
    });
}

pub(super) fn read_role(from: &mut Reader) -> Result<Role, DecodeError> {
    Ok(match from.u8()? {
        0 => Role::Producer,
        1 => Role::Check,
        2 => Role::Person,
        3 => Role::Policy,
        _ => return Err(from.fault("the role is not known")),
    })
}

fn read_decider(from: &mut Reader) -> Result<Decider, DecodeError> {
    Ok(Decider { role: read_role(from)?, name: from.text()?, reason: from.text()?, at_ms: from.int()? })
}

/// From a producer's own key to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionKey {
    /// The transaction's number in this shard.
    pub number: u64,
}

impl Record for TransactionKey {
    const NAME: &'static str = "transaction key";

    fn write(&self, to: &mut Writer) {
        to.int(self.number);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { number: from.int()? })
    }
}

/// The transactions that were decided in one turn, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecidedLog {
    /// In order of decision.
    pub numbers: Vec<u64>,
}

impl Record for DecidedLog {
    const NAME: &'static str = "decided log";

    fn write(&self, to: &mut Writer) {
        to.list(&self.numbers, |to, number| to.int(*number));
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { numbers: from.list(Reader::int)? })
    }
}
