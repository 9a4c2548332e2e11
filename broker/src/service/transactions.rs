//! Transactions: listed, shown, checked, decided by hand.

use std::collections::HashMap;

use escrow_protocol::{Reason, TopicName, TransactionId};
use escrow_storage::{KeyRange, Read, ReadError};

use super::{Operator, Page, Paged, Service, mismatch, unless_damaged};
use crate::dispatch::{decode, record};
use crate::engine::{Command, Decide, Input, Inspect, Refusal, Seen, TransactionFilter, TransactionLive};
use crate::records::keys::space;
use crate::records::{Decision, Message, Role, Topic, TopicNumber, Transaction, keys};

/// Business keys that are looked up for one page of transactions, at most: each is a read of a message.
const KEYS_PER_PAGE_MAX: usize = 1_000;
/// Bodies beyond this are not read to show a business key, bytes.
const KEY_BODY_BYTES_MAX: u32 = 64 * 1024;

/// Which transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Undecided ones, by number.
    Live(TransactionFilter),
    /// Decided ones, newest first.
    Decided,
}

/// What people call a message of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageLabel {
    /// Its topic; `None` if that is gone.
    pub topic: Option<TopicName>,
    /// Its business key, where it has one and it could be read.
    pub key: Option<String>,
}

/// A transaction with all that is known of it.
#[derive(Debug, Clone)]
pub struct TransactionView {
    /// Its id.
    pub id: TransactionId,
    /// Its record.
    pub record: Transaction,
    /// What is only in memory.
    pub live: TransactionLive,
    /// For each of its messages.
    pub labels: Vec<MessageLabel>,
}

impl Service {
    /// A page of transactions.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn transactions(&self, which: Which, page: Page) -> Result<Paged<TransactionView>, Refusal> {
        let shard = self.parts.shard;
        let after = page.after(|cursor| cursor.parse::<u64>().ok())?;
        let limit = page.limit;
        let Which::Live(filter) = which else {
            return self.read(move |view| decided(view, shard, after, limit)).await;
        };
        let after = after.map(|number| TransactionId::new(shard, number));
        let Seen::Transactions(found) = self.see(Inspect::Transactions { filter, after, limit }).await?
        else {
            return Err(mismatch());
        };
        let full = Paged::of(found, limit, |(id, _)| id.number().to_string());
        self.read(move |view| {
            let mut labels = Labels::new(view);
            let mut items = Vec::with_capacity(full.items.len());
            for (id, live) in full.items {
                // Decided since the engine was asked: it belongs to another list now.
                let Some(record) = record::<Transaction>(view, &keys::undecided(id.number()))? else {
                    continue;
                };
                items.push(TransactionView { id, live, labels: labels.of(&record)?, record });
            }
            Ok(Paged { items, next: full.next })
        })
        .await
    }

    /// A transaction.
    ///
    /// # Errors
    /// `UnknownTransaction`; `Damaged`.
    pub async fn transaction(&self, id: TransactionId) -> Result<TransactionView, Refusal> {
        if id.shard() != self.parts.shard {
            return Err(unknown(id));
        }
        let live = match self.see(Inspect::Transaction(id)).await {
            Ok(Seen::Transaction(live)) => live,
            Ok(_) => return Err(mismatch()),
            // Not in memory: decided, or never there.
            Err(refusal) if refusal.reason == Reason::UnknownTransaction => TransactionLive::default(),
            Err(refusal) => return Err(refusal),
        };
        let found = self.read(move |view| {
            let undecided = record::<Transaction>(view, &keys::undecided(id.number()))?;
            let found = match undecided {
                Some(found) => Some(found),
                None => record::<Transaction>(view, &keys::decided(id.number()))?,
            };
            found
                .map(|record| {
                    Ok(TransactionView { id, live, labels: Labels::new(view).of(&record)?, record })
                })
                .transpose()
        });
        found.await?.ok_or_else(|| unknown(id))
    }

    /// Asks a checker now.
    ///
    /// # Errors
    /// `UnknownTransaction`, `NotUndecided`.
    pub async fn check_now(&self, id: TransactionId, operator: Operator) -> Result<TransactionView, Refusal> {
        tracing::info!(transaction_id = %id, operator = operator.logged_name(), reason = operator.logged_reason(), "check ordered by hand");
        self.command(operator, Command::CheckNow(id)).await?;
        self.transaction(id).await
    }

    /// Decides by hand.
    ///
    /// # Errors
    /// `UnknownTransaction`, `AlreadyDecided`.
    pub async fn decide_by_hand(
        &self,
        transaction: TransactionId,
        decision: Decision,
        operator: Operator,
    ) -> Result<TransactionView, Refusal> {
        let Operator { name, reason } = operator;
        tracing::info!(transaction_id = %transaction, ?decision, operator = name, reason, "decision by hand");
        let decide = Decide { transaction, decision, role: Role::Person, group: None, name, reason };
        self.parts.engine.insist(Input::Decide(decide)).await?;
        self.transaction(transaction).await
    }

    /// Has a parked transaction checked again.
    ///
    /// # Errors
    /// `UnknownTransaction`, `NotParked`.
    pub async fn resume_transaction(
        &self,
        id: TransactionId,
        operator: Operator,
    ) -> Result<TransactionView, Refusal> {
        tracing::info!(transaction_id = %id, operator = operator.logged_name(), reason = operator.logged_reason(), "transaction resumed by hand");
        self.command(operator, Command::Resume(id)).await?;
        self.transaction(id).await
    }
}

fn unknown(id: TransactionId) -> Refusal {
    Refusal::new(
        Reason::UnknownTransaction,
        format!("{id} is not known: it was never made, or decided longer ago than is remembered"),
    )
}

fn decided(
    view: &dyn Read,
    shard: escrow_protocol::ShardId,
    before: Option<u64>,
    limit: usize,
) -> Result<Paged<TransactionView>, ReadError> {
    let mut range = keys::all(space::DECIDED);
    if let Some(before) = before {
        range = KeyRange::new(range.start, keys::decided(before));
    }
    let entries = view.scan_back(&range, limit)?;
    let mut labels = Labels::new(view);
    let mut items = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let record: Transaction = decode(&key, value)?;
        let number = keys::transaction_of(&key).unwrap_or_default();
        let labels = labels.of(&record)?;
        items.push(TransactionView {
            id: TransactionId::new(shard, number),
            live: TransactionLive::default(),
            labels,
            record,
        });
    }
    Ok(Paged::of(items, limit, |item| item.id.number().to_string()))
}

/// Names of topics and business keys, for showing transactions.
pub(super) struct Labels<'a> {
    view: &'a dyn Read,
    topics: HashMap<TopicNumber, Option<TopicName>>,
    keys_left: usize,
}

impl<'a> Labels<'a> {
    pub(super) fn new(view: &'a dyn Read) -> Self {
        Self { view, topics: HashMap::new(), keys_left: KEYS_PER_PAGE_MAX }
    }

    /// The name of a topic that is still there.
    pub(super) fn topic(&mut self, number: TopicNumber) -> Result<Option<TopicName>, ReadError> {
        if let Some(known) = self.topics.get(&number) {
            return Ok(known.clone());
        }
        let name = record::<Topic>(self.view, &keys::topic(number))?.map(|topic| topic.name);
        self.topics.insert(number, name.clone());
        Ok(name)
    }

    fn of(&mut self, transaction: &Transaction) -> Result<Vec<MessageLabel>, ReadError> {
        let mut labels = Vec::with_capacity(transaction.messages.len());
        for message in &transaction.messages {
            let stub = &message.stub;
            let mut label = MessageLabel { topic: self.topic(stub.topic)?, key: None };
            if stub.key_hash.is_some() && stub.body_bytes <= KEY_BODY_BYTES_MAX && self.keys_left > 0 {
                self.keys_left -= 1;
                // A damaged message does not hide its transaction.
                let message = unless_damaged(record::<Message>(self.view, &keys::message(stub.id)))?;
                label.key = message.and_then(|message| message.key);
            }
            labels.push(label);
        }
        Ok(labels)
    }
}
