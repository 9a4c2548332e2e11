//! Transactions: listed, shown, checked, decided by hand.

use std::collections::{BTreeSet, HashMap};

use escrow_protocol::{GroupName, Kind, Reason, TopicName, TransactionId};
use escrow_storage::{KeyRange, Read, ReadError};

use super::{Operator, Page, Paged, Service, mismatch, unless_damaged};
use crate::dispatch::{decode, record};
use crate::engine::{Command, Decide, Input, Inspect, Refusal, Seen, TransactionFilter, TransactionLive};
use crate::records::keys::space;
use crate::records::{
    Decision, Happening, Message, Place, Role, Subject, Topic, TopicNumber, Transaction, TransactionKey,
    TransactionState, keys,
};

/// Business keys that are looked up for one page of transactions, at most: each is a read of a message.
const KEYS_PER_PAGE_MAX: usize = 1_000;
/// Transactions of one key that are looked at, at most.
const OF_KEY_MAX: usize = 1_000;
/// Decided transactions that a page of a filtered list looks at, at most.
const EXAMINED_MAX: usize = 5_000;
/// Bodies beyond this are not read to show a business key, bytes.
pub(super) const KEY_BODY_BYTES_MAX: u32 = 64 * 1024;

/// Which transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Undecided ones, by number.
    Live(TransactionFilter),
    /// Decided ones, newest first.
    Decided,
}

impl Which {
    /// Whether a record may be one of these, as far as it says so itself.
    fn may_list(self, record: &Transaction) -> bool {
        match self {
            Self::Decided => record.state.is_decided(),
            Self::Live(TransactionFilter::Parked) => record.state == TransactionState::Parked,
            Self::Live(TransactionFilter::Undecided | TransactionFilter::WaitingForChecker) => {
                record.state == TransactionState::Prepared
            }
        }
    }
}

/// Whose transactions. `None`: anybody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whose {
    /// Of this producer group.
    pub group: Option<GroupName>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Under this transaction key of the group, or with a message that has this business key.
    pub key: Option<String>,
}

impl Whose {
    fn admits(&self, record: &Transaction) -> bool {
        self.group.as_ref().is_none_or(|group| *group == record.group)
            && self.kind.as_ref().is_none_or(|kind| *kind == record.kind)
    }
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
    pub async fn transactions(
        &self,
        which: Which,
        whose: Whose,
        page: Page,
    ) -> Result<Paged<TransactionView>, Refusal> {
        let shard = self.parts.shard;
        let after = page.after(|cursor| cursor.parse::<u64>().ok())?;
        let limit = page.limit;
        if let Some(key) = whose.key.clone() {
            return self.transactions_of_key(which, whose, key, after, limit).await;
        }
        let Which::Live(filter) = which else {
            return self.read(move |view| decided(view, shard, &whose, after, limit)).await;
        };
        let after = after.map(|number| TransactionId::new(shard, number));
        let Whose { group, kind, .. } = whose;
        let question = Inspect::Transactions { filter, group, kind, after, limit };
        let Seen::Transactions(found) = self.see(question).await? else { return Err(mismatch()) };
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

    /// Those with a key, the newest first: found through the indexes of transaction keys and of business keys, and
    /// through what is told of messages that are gone.
    async fn transactions_of_key(
        &self,
        which: Which,
        whose: Whose,
        key: String,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Paged<TransactionView>, Refusal> {
        let (gone, _) = self.notes_before(vec![Subject::Key(keys::hash_of(&key))], None, OF_KEY_MAX).await?;
        let shard = self.parts.shard;
        let gone: Vec<_> = gone
            .iter()
            .filter_map(|note| match &note.happening {
                Happening::Removed { transaction, .. } => transaction.map(TransactionId::number),
                _ => None,
            })
            .collect();
        // Whether one waits for a checker only the engine knows: of those that may, a page asks about as many as it holds.
        let is_waiting = which == Which::Live(TransactionFilter::WaitingForChecker);
        let found = self
            .read(move |view| {
                let mut numbers = numbers_of_key(view, whose.group.as_ref(), &key)?;
                numbers.extend(gone);
                let older =
                    numbers.into_iter().rev().filter(|number| before.is_none_or(|before| *number < before));
                records_of(view, shard, older, |record| which.may_list(record) && whose.admits(record), limit)
            })
            .await?;
        let number_of = |view: &TransactionView| view.id.number().to_string();
        let last = found.last().filter(|_| found.len() == limit).map(number_of);
        let mut items = Vec::new();
        for mut found in found {
            if !found.record.state.is_decided() {
                match self.see(Inspect::Transaction(found.id)).await {
                    Ok(Seen::Transaction(live)) => found.live = live,
                    Ok(_) => return Err(mismatch()),
                    // Decided since it was read: it belongs to another list now.
                    Err(refusal) if refusal.reason == Reason::UnknownTransaction => continue,
                    Err(refusal) => return Err(refusal),
                }
            }
            if is_waiting && !found.live.waiting_for_checker {
                continue;
            }
            items.push(found);
        }
        // Also a page that is short, for some do not wait or were decided meanwhile, has a next.
        Ok(Paged { items, next: last })
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

/// Transactions under a key of the group, or with a message that has this business key.
fn numbers_of_key(view: &dyn Read, group: Option<&GroupName>, key: &str) -> Result<BTreeSet<u64>, ReadError> {
    let mut numbers = BTreeSet::new();
    if let Some(group) = group {
        let found = record::<TransactionKey>(view, &keys::transaction_key(group.as_str(), key))?;
        numbers.extend(found.map(|found| found.number));
    }
    for (index_key, _) in view.scan_back(&keys::business_key_range(keys::hash_of(key)), OF_KEY_MAX)? {
        let Some((_, id)) = keys::business_key_of(&index_key) else { continue };
        let place = unless_damaged(record::<Place>(view, &keys::place(id)))?;
        let transaction = place.and_then(|place| place.transaction);
        numbers.extend(transaction.map(TransactionId::number));
    }
    Ok(numbers)
}

/// The first `most` of these transactions that are meant; those are left out that were decided longer ago than is remembered.
fn records_of(
    view: &dyn Read,
    shard: escrow_protocol::ShardId,
    numbers: impl Iterator<Item = u64>,
    is_meant: impl Fn(&Transaction) -> bool,
    most: usize,
) -> Result<Vec<TransactionView>, ReadError> {
    let mut labels = Labels::new(view);
    let mut found = Vec::new();
    for number in numbers {
        let undecided = record::<Transaction>(view, &keys::undecided(number))?;
        let read = match undecided {
            Some(read) => Some(read),
            None => record::<Transaction>(view, &keys::decided(number))?,
        };
        let Some(record) = read.filter(|record| is_meant(record)) else { continue };
        let (id, live) = (TransactionId::new(shard, number), TransactionLive::default());
        found.push(TransactionView { id, live, labels: labels.of(&record)?, record });
        if found.len() == most {
            break;
        }
    }
    Ok(found)
}

/// Decided ones, the newest first. A filtered page may be short and still have a next.
fn decided(
    view: &dyn Read,
    shard: escrow_protocol::ShardId,
    whose: &Whose,
    before: Option<u64>,
    limit: usize,
) -> Result<Paged<TransactionView>, ReadError> {
    let mut range = keys::all(space::DECIDED);
    if let Some(before) = before {
        range = KeyRange::new(range.start, keys::decided(before));
    }
    let is_filtered = *whose != Whose::default();
    let examined_max = if is_filtered { EXAMINED_MAX } else { limit };
    let entries = view.scan_back(&range, examined_max)?;
    let is_full = entries.len() == examined_max;
    let mut last = None;
    let mut labels = Labels::new(view);
    let mut items = Vec::with_capacity(limit.min(entries.len()));
    for (key, value) in entries {
        if items.len() == limit {
            return Ok(Paged::of(items, limit, |item: &TransactionView| item.id.number().to_string()));
        }
        let record: Transaction = decode(&key, value)?;
        let number = keys::transaction_of(&key).unwrap_or_default();
        last = Some(number);
        if !whose.admits(&record) {
            continue;
        }
        let labels = labels.of(&record)?;
        items.push(TransactionView {
            id: TransactionId::new(shard, number),
            live: TransactionLive::default(),
            labels,
            record,
        });
    }
    Ok(Paged { items, next: last.filter(|_| is_full).map(|number| number.to_string()) })
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
