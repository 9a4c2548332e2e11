//! Turns what the driver tells into spans, named after OpenTelemetry's conventions for messaging. Owns what must be
//! remembered between the beginning of something and its end; every memory is bounded, and what was forgotten is read
//! from the store. Pure but for that reading.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use bytes::Bytes;
use escrow_protocol::{GroupName, LeaseToken, MessageId, TransactionId};
use escrow_storage::{Key, Read};

use super::context::Context;
use super::deed::{Deed, Done, Sent, TurnTold};
use super::otlp::{
    FLAG_SAMPLED, KIND_CLIENT, KIND_SERVER, KeyValue, Link, STATUS_ERROR, Span, Status, number, text,
};
use crate::dispatch::record;
use crate::records::{Decision, Message, Record as _, Role, Transaction, keys};

/// Most transactions, messages and leases that are remembered of each: beyond that the oldest is forgotten.
const REMEMBERED_MAX: usize = 65_536;
/// The wall clock was set when it is this far from where it should be, microseconds.
const CLOCK_STEP_US: u64 = 10_000;

/// A map that forgets what came first.
struct Memory<K, V> {
    all: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Copy, V> Memory<K, V> {
    fn new() -> Self {
        Self { all: HashMap::new(), order: VecDeque::new() }
    }

    fn put(&mut self, key: K, value: V) {
        if self.all.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        // Keys that were taken out are still in the order: they are passed over when their turn comes.
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.all.remove(&oldest);
            }
        }
    }
}

/// What is known of a transaction.
#[derive(Debug, Clone)]
struct Known {
    context: Context,
    /// The contexts of its other messages.
    others: Vec<Context>,
    /// The topic of its first message.
    topic: String,
    /// When a checker was asked that has not answered yet, microseconds.
    asked_at_us: Option<u64>,
}

/// What is known of a message. A quick consumer is done with one, and it is gone, before its delivery is told.
#[derive(Debug, Clone)]
struct Stored {
    context: Context,
    topic: String,
    key: Option<String>,
}

/// What is known of a delivery.
#[derive(Debug, Clone)]
struct Handed {
    context: Context,
    span: [u8; 8],
    id: MessageId,
    topic: String,
}

/// See the module.
pub(super) struct Story {
    sample_permille: u32,
    generator: fastrand::Rng,
    transactions: Memory<TransactionId, Known>,
    messages: Memory<MessageId, Stored>,
    leases: Memory<LeaseToken, Handed>,
    /// Unix microseconds when the broker's clock began.
    origin_us: Option<u64>,
}

/// A span on its way: what all have in common.
struct Draft<'a> {
    operation: &'a str,
    kind: i32,
    topic: &'a str,
    context: Context,
    parent: Option<[u8; 8]>,
    span: Option<[u8; 8]>,
    from_us: u64,
    to_us: u64,
    error: Option<&'a str>,
    attributes: Vec<KeyValue>,
    links: Vec<Context>,
}

impl Story {
    /// Nothing told yet.
    pub(super) fn new(sample_permille: u32, seed: u64) -> Self {
        Self {
            sample_permille,
            generator: fastrand::Rng::with_seed(seed),
            transactions: Memory::new(),
            messages: Memory::new(),
            leases: Memory::new(),
            origin_us: None,
        }
    }

    /// The spans of a turn.
    pub(super) fn tell(&mut self, view: &dyn Read, turn: TurnTold) -> Vec<Span> {
        self.set_clock(&turn);
        let mut spans = Vec::new();
        for done in turn.done {
            spans.extend(self.done(view, done, turn.durable_at_us));
        }
        for sent in turn.sent {
            spans.extend(self.sent(view, sent, turn.durable_at_us));
        }
        spans
    }

    fn set_clock(&mut self, turn: &TurnTold) {
        let origin_us = (turn.unix_ms * 1000).saturating_sub(turn.durable_at_us);
        if self.origin_us.is_none_or(|known| known.abs_diff(origin_us) > CLOCK_STEP_US) {
            self.origin_us = Some(origin_us);
        }
    }

    fn done(&mut self, view: &dyn Read, done: Done, to_us: u64) -> Option<Span> {
        let Done { deed, queued_at_us: from_us, refused: error, transaction } = done;
        match deed {
            Deed::Publish(record) => {
                let message = decoded(record)?;
                let context = self.stored(&message).context;
                let draft = Draft { error, ..stored("publish", "send", &message, context, from_us, to_us) };
                self.span(draft)
            }
            Deed::SendHalf { records, group, client } => {
                let messages: Vec<Message> = records.into_iter().filter_map(decoded).collect();
                let known = self.known_of(&messages)?;
                for message in &messages {
                    self.stored(message);
                }
                let mut draft = Draft {
                    error,
                    ..stored("send_half", "send", messages.first()?, known.context, from_us, to_us)
                };
                draft.attributes.push(text("escrow.producer.group.name", group.to_string()));
                draft.attributes.push(text("messaging.client.id", client));
                draft.attributes.push(number("messaging.batch.message_count", messages.len() as u64));
                draft.attributes.extend(transaction.map(|id| text("escrow.transaction.id", id.to_string())));
                draft.links.clone_from(&known.others);
                if let Some(id) = transaction {
                    self.transactions.put(id, known);
                }
                self.span(draft)
            }
            Deed::Decide { transaction, decision, role } => {
                let known = self.known(view, transaction)?;
                let mut draft = about("decide", "settle", &known, transaction, from_us, to_us);
                draft.error = error;
                draft.attributes.push(text("escrow.decision", word(decision)));
                draft.attributes.push(text("escrow.decided_by", role_word(role)));
                self.span(draft)
            }
            Deed::Answer { transaction, verdict } => {
                let mut known = self.known(view, transaction)?;
                let asked_at_us = known.asked_at_us.take();
                let mut draft =
                    about("check", "receive", &known, transaction, asked_at_us.unwrap_or(from_us), to_us);
                draft.kind = KIND_CLIENT;
                draft.error = error;
                draft.attributes.push(text("escrow.check.verdict", verdict.map_or("unknown", word)));
                let span = self.span(draft);
                self.transactions.put(transaction, known);
                span
            }
            Deed::Settle { token, group, verb } => self.settled(token, &group, verb, error, from_us, to_us),
        }
    }

    /// What is known of a message, remembered from now on.
    fn stored(&mut self, message: &Message) -> Stored {
        let stored = Stored {
            context: Context::of(message, self.sample_permille),
            topic: message.topic.to_string(),
            key: message.key.as_ref().map(ToString::to_string),
        };
        self.messages.put(message.id, stored.clone());
        stored
    }

    fn settled(
        &mut self,
        token: LeaseToken,
        group: &GroupName,
        verb: &str,
        error: Option<&str>,
        from_us: u64,
        to_us: u64,
    ) -> Option<Span> {
        let handed = self.leases.all.remove(&token)?;
        self.span(Draft {
            operation: verb,
            kind: KIND_SERVER,
            topic: &handed.topic,
            context: handed.context,
            parent: Some(handed.span),
            span: None,
            from_us,
            to_us,
            error,
            attributes: vec![
                text("messaging.operation.type", "settle"),
                text("messaging.message.id", handed.id.to_string()),
                text("messaging.consumer.group.name", group.to_string()),
            ],
            links: Vec::new(),
        })
    }

    fn sent(&mut self, view: &dyn Read, sent: Sent, at_us: u64) -> Option<Span> {
        match sent {
            Sent::Check(transaction) => {
                let mut known = self.known(view, transaction)?;
                let unanswered = known.asked_at_us.replace(at_us);
                let span = unanswered.and_then(|from_us| {
                    let mut draft = about("check", "receive", &known, transaction, from_us, at_us);
                    draft.kind = KIND_CLIENT;
                    draft.error = Some("TIMED_OUT");
                    self.span(draft)
                });
                self.transactions.put(transaction, known);
                span
            }
            Sent::Delivery { id, group, topic, attempt, token, body_bytes } => {
                let Stored { context, topic: of_message, key } = match self.messages.all.get(&id) {
                    Some(stored) => stored.clone(),
                    // One that cannot be read is a matter for whoever delivers it.
                    None => self.stored(&record::<Message>(view, &keys::message(id)).ok().flatten()?),
                };
                let topic = topic.map_or(of_message, |topic| topic.to_string());
                let span = self.draw();
                let handed = Handed { context, span, id, topic: topic.clone() };
                self.leases.put(token, handed);
                let mut attributes = vec![
                    text("messaging.operation.type", "receive"),
                    text("messaging.message.id", id.to_string()),
                    text("messaging.consumer.group.name", group.to_string()),
                    number("messaging.message.body.size", body_bytes.into()),
                    number("escrow.delivery.attempt", attempt.into()),
                ];
                attributes.extend(key.map(|key| text("escrow.message.key", key)));
                self.span(Draft {
                    operation: "deliver",
                    kind: KIND_CLIENT,
                    topic: &topic,
                    context,
                    parent: Some(context.span),
                    span: Some(span),
                    from_us: at_us,
                    to_us: at_us,
                    error: None,
                    attributes,
                    links: Vec::new(),
                })
            }
        }
    }

    /// What is known of a transaction: remembered, or read.
    fn known(&self, view: &dyn Read, id: TransactionId) -> Option<Known> {
        if let Some(known) = self.transactions.all.get(&id) {
            return Some(known.clone());
        }
        let read = |key: Key| record::<Transaction>(view, &key).ok().flatten();
        let transaction = read(keys::undecided(id.number())).or_else(|| read(keys::decided(id.number())))?;
        let messages = transaction.messages.iter();
        let messages: Vec<Message> = messages
            .filter_map(|message| record::<Message>(view, &keys::message(message.stub.id)).ok().flatten())
            .collect();
        self.known_of(&messages)
    }

    fn known_of(&self, messages: &[Message]) -> Option<Known> {
        let first = messages.first()?;
        let context = |message: &Message| Context::of(message, self.sample_permille);
        Some(Known {
            context: context(first),
            others: messages[1..].iter().map(context).collect(),
            topic: first.topic.to_string(),
            asked_at_us: None,
        })
    }

    fn span(&mut self, draft: Draft<'_>) -> Option<Span> {
        if !draft.context.sampled {
            return None;
        }
        let drawn = self.draw();
        let origin_us = self.origin_us.unwrap_or(0);
        let nanos = |us: u64| (origin_us + us) * 1000;
        let mut attributes = vec![
            text("messaging.system", "escrow"),
            text("messaging.operation.name", draft.operation),
            text("messaging.destination.name", draft.topic),
        ];
        attributes.extend(draft.attributes);
        attributes.extend(draft.error.map(|reason| text("error.type", reason)));
        Some(Span {
            trace_id: draft.context.trace.to_vec(),
            span_id: draft.span.unwrap_or(drawn).to_vec(),
            parent_span_id: draft.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            name: format!("{} {}", draft.operation, draft.topic),
            kind: draft.kind,
            start_time_unix_nano: nanos(draft.from_us.min(draft.to_us)),
            end_time_unix_nano: nanos(draft.to_us),
            attributes,
            links: draft
                .links
                .iter()
                .map(|other| Link { trace_id: other.trace.to_vec(), span_id: other.span.to_vec() })
                .collect(),
            status: draft.error.map(|reason| Status { message: reason.to_owned(), code: STATUS_ERROR }),
            flags: FLAG_SAMPLED,
        })
    }

    fn draw(&mut self) -> [u8; 8] {
        // Zero is no span.
        self.generator.u64(1..).to_be_bytes()
    }
}

/// A message that came in. In a trace of its own its span is the one that all others hang from.
fn stored<'a>(
    operation: &'a str,
    operation_type: &str,
    message: &'a Message,
    context: Context,
    from_us: u64,
    to_us: u64,
) -> Draft<'a> {
    let mut attributes = vec![
        text("messaging.operation.type", operation_type),
        text("messaging.message.id", message.id.to_string()),
        number("messaging.message.body.size", message.body.len() as u64),
    ];
    attributes.extend(message.key.as_ref().map(|key| text("escrow.message.key", key)));
    Draft {
        operation,
        kind: KIND_SERVER,
        topic: message.topic.as_str(),
        context,
        parent: (!context.own).then_some(context.span),
        span: context.own.then_some(context.span),
        from_us,
        to_us,
        error: None,
        attributes,
        links: Vec::new(),
    }
}

/// Something about a transaction.
fn about<'a>(
    operation: &'a str,
    operation_type: &str,
    known: &'a Known,
    transaction: TransactionId,
    from_us: u64,
    to_us: u64,
) -> Draft<'a> {
    Draft {
        operation,
        kind: KIND_SERVER,
        topic: &known.topic,
        context: known.context,
        parent: Some(known.context.span),
        span: None,
        from_us,
        to_us,
        error: None,
        attributes: vec![
            text("messaging.operation.type", operation_type),
            text("escrow.transaction.id", transaction.to_string()),
        ],
        links: known.others.clone(),
    }
}

/// What the edge encoded reads back.
fn decoded(record: Bytes) -> Option<Message> {
    Message::decode(record).ok()
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Commit => "commit",
        Decision::Rollback => "rollback",
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Producer => "producer",
        Role::Check => "check",
        Role::Person => "person",
        Role::Policy => "policy",
    }
}

#[cfg(test)]
mod tests {
    use escrow_storage::{MemStore, Store as _};

    use super::*;

    /// The driver does not wait for what is told of it: by then a quick consumer may have acked, and the message be gone.
    #[test]
    fn a_delivery_is_told_although_its_message_is_gone() {
        let id = MessageId::new(1_700_000_000_000, [7; 10]);
        let message = Message {
            id,
            topic: "paid".parse().unwrap(),
            key: None,
            ordering_key: None,
            tag: None,
            headers: Vec::new(),
            deliver_at_ms: 0,
            time_to_live_ms: 0,
            body: Bytes::new(),
        };
        let group: GroupName = "billing".parse().unwrap();
        let done = |deed| Done { deed, queued_at_us: 1, refused: None, transaction: None };
        let token = LeaseToken(5);
        let delivery =
            Sent::Delivery { id, group: group.clone(), topic: None, attempt: 1, token, body_bytes: 0 };
        let turns = [
            TurnTold { done: vec![done(Deed::Publish(message.encode()))], ..TurnTold::default() },
            TurnTold { sent: vec![delivery], ..TurnTold::default() },
            TurnTold { done: vec![done(Deed::Settle { token, group, verb: "ack" })], ..TurnTold::default() },
        ];
        let mut story = Story::new(1000, 1);
        let nothing_left = MemStore::new().reader();
        let spans = turns.into_iter().flat_map(|turn| story.tell(&nothing_left, turn));
        let names: Vec<String> = spans.map(|span| span.name).collect();
        assert_eq!(names, ["publish paid", "deliver paid", "ack paid"]);
    }

    #[test]
    fn memory_is_bounded_and_forgets_what_came_first() {
        let mut memory = Memory::new();
        for key in 0..REMEMBERED_MAX as u64 + 10 {
            memory.put(key, ());
        }
        assert_eq!((memory.all.len(), memory.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(!memory.all.contains_key(&9) && memory.all.contains_key(&10));
        memory.all.remove(&10);
        memory.put(u64::MAX, ());
        assert!(memory.all.contains_key(&u64::MAX) && memory.order.len() <= REMEMBERED_MAX);
    }
}
