//! What the driver tells of a turn: small, and made of what it has at hand. Nothing is read or worded on its thread.

use bytes::Bytes;
use escrow_protocol::{GroupName, LeaseToken, MessageId, TopicName, TransactionId};

use crate::engine::{Delivery, Effect, Input, Outcome, Reply, Verb};
use crate::records::{Decision, Role};

/// What an input asked for, as far as a trace wants to know.
#[derive(Debug)]
pub enum Deed {
    /// A message; the record.
    Publish(Bytes),
    /// A half message.
    SendHalf {
        /// The records of its messages.
        records: Vec<Bytes>,
        /// The producer group.
        group: GroupName,
        /// The instance.
        client: String,
    },
    /// A decision.
    Decide {
        /// The transaction.
        transaction: TransactionId,
        /// Which way.
        decision: Decision,
        /// A producer or a person.
        role: Role,
    },
    /// A checker's answer.
    Answer {
        /// The transaction.
        transaction: TransactionId,
        /// `None`: unknown.
        verdict: Option<Decision>,
    },
    /// What became of a delivery.
    Settle {
        /// The lease.
        token: LeaseToken,
        /// The group.
        group: GroupName,
        /// `ack`, `nack` or `reject`.
        verb: &'static str,
    },
}

impl Deed {
    /// What `input` asks for; `None`: nothing that a trace tells.
    pub fn of(input: &Input) -> Option<Self> {
        Some(match input {
            Input::Publish(message) => Self::Publish(message.record.clone()),
            Input::SendHalf(half) => Self::SendHalf {
                records: half.messages.iter().map(|message| message.record.clone()).collect(),
                group: half.group.clone(),
                client: half.client.to_string(),
            },
            Input::Decide(decide) => {
                Self::Decide { transaction: decide.transaction, decision: decide.decision, role: decide.role }
            }
            Input::CheckAnswered(answer) => {
                Self::Answer { transaction: answer.transaction, verdict: answer.verdict }
            }
            Input::Settle(settle) => {
                let verb = match settle.verb {
                    Verb::Ack => "ack",
                    Verb::Nack { .. } => "nack",
                    Verb::Reject { .. } => "reject",
                    // A lease that begins again or was never used is no settlement.
                    _ => return None,
                };
                Self::Settle { token: settle.token, group: settle.group.clone(), verb }
            }
            _ => return None,
        })
    }
}

/// A deed and what became of it.
#[derive(Debug)]
pub struct Done {
    /// What was asked for.
    pub deed: Deed,
    /// When it was queued, microseconds of the broker's clock.
    pub queued_at_us: u64,
    /// Why it was refused.
    pub refused: Option<&'static str>,
    /// The transaction that it made.
    pub transaction: Option<TransactionId>,
}

impl Done {
    /// What became of `deed`.
    pub fn new(deed: Deed, queued_at_us: u64, outcome: &Outcome) -> Self {
        let refused = outcome.as_ref().err().map(|refusal| refusal.reason.as_str());
        let transaction = match outcome {
            Ok(Reply::Prepared { transaction, .. }) => Some(*transaction),
            _ => None,
        };
        Self { deed, queued_at_us, refused, transaction }
    }
}

/// What went out.
#[derive(Debug)]
pub enum Sent {
    /// A question to a checker.
    Check(TransactionId),
    /// A message to a consumer.
    Delivery {
        /// The message.
        id: MessageId,
        /// The group.
        group: GroupName,
        /// The topic, if it is still there.
        topic: Option<TopicName>,
        /// 1 for the first.
        attempt: u32,
        /// The lease.
        token: LeaseToken,
        /// Bytes of the body.
        body_bytes: u32,
    },
}

impl Sent {
    /// What `effect` sends out; `None`: nothing that a trace tells.
    pub fn of(effect: &Effect) -> Option<Self> {
        match effect {
            Effect::AskCheck(question) => Some(Self::Check(question.transaction)),
            Effect::Deliver(Delivery { id, group, topic_name, attempt, token, body_bytes, .. }) => {
                Some(Self::Delivery {
                    id: *id,
                    group: group.clone(),
                    topic: topic_name.clone(),
                    attempt: *attempt,
                    token: *token,
                    body_bytes: *body_bytes,
                })
            }
            Effect::Close(..) => None,
        }
    }
}

/// A turn of the driver, once it is durable.
#[derive(Debug, Default)]
pub struct TurnTold {
    /// When it was, microseconds of the broker's clock.
    pub durable_at_us: u64,
    /// And by the calendar, Unix milliseconds.
    pub unix_ms: u64,
    /// What was done.
    pub done: Vec<Done>,
    /// What went out.
    pub sent: Vec<Sent>,
}
