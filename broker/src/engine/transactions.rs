//! Transactions: half messages and decisions. A decision is a compare-and-set on the one record of the transaction, in
//! the batch that makes its messages visible or removes them.

use std::collections::{BTreeMap, BTreeSet};

use escrow_protocol::{MessageId, Reason, TransactionId};

use super::checks::KindNumber;
use super::publish::reused;
use super::sabotage::{Fault, planted};
use super::story::noted;
use super::trouble::Step;
use super::undecided::{Undecided, UndecidedTransactions};
use super::window::{Batch, Window};
use super::{Decide, Engine, NewMessage, Now, Refusal, Reply, SendHalf, Turn};
use crate::records::{
    CheckCounts, DecidedLog, Decider, Decision, Ending, Happening, Role, Subject, TopicNumber, Transaction,
    TransactionKey, TransactionMessage, TransactionState, keys,
};

/// All undecided transactions, and the decided ones of the last while.
#[derive(Debug)]
pub(super) struct Transactions {
    /// But for those that are parked.
    pub(super) undecided: UndecidedTransactions,
    pub(super) parked: BTreeMap<u64, KindNumber>,
    decided: Window<u64>,
    /// Those decided in this turn: one record for all of them.
    fresh: Vec<u64>,
}

impl Transactions {
    pub(super) fn new(keep_ms: u64, decided_max: usize) -> Self {
        Self {
            undecided: UndecidedTransactions::default(),
            parked: BTreeMap::new(),
            decided: Window::new(keep_ms, decided_max),
            fresh: Vec::new(),
        }
    }

    /// Takes in a record found at start; they come in order of time.
    pub(super) fn recover_decided(&mut self, at_ms: u64, record: &DecidedLog) {
        if let Some(first) = record.numbers.first() {
            self.decided.push(at_ms, *first, record.numbers.len());
        }
    }

    /// Writes the decisions of this turn into the log by which they are forgotten.
    pub(super) fn flush(&mut self, now: Now, turn: &mut Turn<'_>) {
        let Some(first) = self.fresh.first().copied() else { return };
        self.decided.push(now.unix_ms, first, self.fresh.len());
        turn.insert(
            keys::decided_log(now.unix_ms, first),
            &DecidedLog { numbers: std::mem::take(&mut self.fresh) },
        );
    }

    /// The oldest batch of decided transactions, if it is to be forgotten now.
    pub(super) fn pop_outdated(&mut self, now: Now) -> Option<Batch<u64>> {
        self.decided.pop_outdated(now.unix_ms)
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.decided.next_at()
    }
}

impl Engine {
    pub(super) fn transaction_id(&self, number: u64) -> TransactionId {
        TransactionId::new(self.shard, number)
    }

    /// The number of a transaction of this shard.
    pub(super) fn transaction_number(&self, id: TransactionId) -> Result<u64, Refusal> {
        match id.shard() == self.shard && id.number() > 0 {
            true => Ok(id.number()),
            false => Err(unknown(id)),
        }
    }

    pub(super) fn send_half(&mut self, now: Now, turn: &mut Turn<'_>, half: SendHalf) -> Step<Reply> {
        if let Some(reply) = self.same_transaction_key(turn, &half)? {
            return Ok(reply);
        }
        let topics = half.messages.iter().map(|message| self.topic_to_publish(&message.topic));
        let topics = topics.collect::<Result<Vec<Option<TopicNumber>>, Refusal>>()?;
        let new_topics: BTreeSet<_> = half
            .messages
            .iter()
            .zip(&topics)
            .filter(|(_, topic)| topic.is_none())
            .map(|(m, _)| &m.topic)
            .collect();
        self.room_for_topics(new_topics.len())?;
        if let Some(reply) = self.sent_before(turn, &half.messages)? {
            return Ok(reply);
        }
        self.refuse_without_room(turn)?;
        self.refuse_too_many_undecided()?;
        Ok(self.prepare(now, turn, half, topics))
    }

    fn prepare(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        half: SendHalf,
        topics: Vec<Option<TopicNumber>>,
    ) -> Reply {
        self.counters_mut().transaction += 1;
        let number = self.counters.transaction;
        let transaction = self.transaction_id(number);
        let ids: Vec<MessageId> = half.messages.iter().map(|message| message.id).collect();

        let mut messages = Vec::with_capacity(half.messages.len());
        for (message, topic) in half.messages.into_iter().zip(topics) {
            let stub = self.store(now, turn, message, topic, Some(transaction));
            self.topics.tail_mut(stub.topic).awaited += 1;
            if planted(Fault::HalfMessageVisible) {
                self.append(now, turn, &stub, Some(transaction), now.unix_ms);
            }
            messages.push(TransactionMessage { stub, offset: None });
        }
        let policy = half.overrides.over(self.settings.transactions.policy_of(&half.kind));
        let record = Transaction {
            state: TransactionState::Prepared,
            group: half.group,
            kind: half.kind,
            client: half.client,
            key: half.key,
            created_at_ms: now.unix_ms,
            resumed_at_ms: now.unix_ms,
            policy,
            checks: CheckCounts::default(),
            next_check_at_ms: now.unix_ms.saturating_add(self.jittered(policy.first_check_after_ms)),
            messages,
            decider: None,
            conflicts: 0,
        };
        if let Some(key) = &record.key {
            turn.put(keys::transaction_key(record.group.as_str(), key), &TransactionKey { number });
        }
        turn.insert(keys::undecided(number), &record);
        self.track_undecided(number, &record);
        self.counts.transactions_prepared += 1;
        Reply::Prepared { transaction, messages: ids, state: record.state, duplicate: false }
    }

    fn refuse_too_many_undecided(&self) -> Result<(), Refusal> {
        let max = self.settings.limits.undecided_max;
        if self.transactions.undecided.len() + self.transactions.parked.len() >= max {
            return Err(Refusal::new(
                Reason::LimitReached,
                format!(
                    "{max} transactions are undecided, as many as `limits.undecided_max` allows; decide some"
                ),
            )
            .with("limit", "limits.undecided_max")
            .retry_after(5_000));
        }
        Ok(())
    }

    /// The transaction that was sent under the same key before.
    fn same_transaction_key(&self, turn: &Turn<'_>, half: &SendHalf) -> Step<Option<Reply>> {
        let Some(key) = &half.key else { return Ok(None) };
        let found: Option<TransactionKey> = turn.get(&keys::transaction_key(half.group.as_str(), key))?;
        let Some(TransactionKey { number }) = found else { return Ok(None) };
        let Some(record) = self.load_transaction(turn, number)? else { return Ok(None) };

        let topics_then = record.messages.iter().map(|message| message.stub.topic);
        let topics_now = half.messages.iter().map(|message| self.topics.by_name.get(&message.topic).copied());
        if !topics_then.map(Some).eq(topics_now) {
            return Err(Refusal::new(
                Reason::TransactionKeyReused,
                format!("transaction key {key:?} was used for a transaction of other topics; use a key once"),
            )
            .with("transaction_id", self.transaction_id(number))
            .into());
        }
        Ok(Some(self.prepared_before(number, &record)))
    }

    fn prepared_before(&self, number: u64, record: &Transaction) -> Reply {
        Reply::Prepared {
            transaction: self.transaction_id(number),
            messages: record.messages.iter().map(|message| message.stub.id).collect(),
            state: record.state,
            duplicate: true,
        }
    }

    /// The transaction that was sent with the same message ids before. All of them, or none: else ids were reused.
    fn sent_before(&mut self, turn: &Turn<'_>, messages: &[NewMessage]) -> Step<Option<Reply>> {
        let mut seen = BTreeSet::new();
        let mut before: Option<TransactionId> = None;
        for message in messages {
            if !seen.insert(message.id) {
                return Err(reused(message.id).into());
            }
            let Some(known) = self.known(turn, message.id)? else { continue };
            match (known.transaction, before) {
                (Some(transaction), None) => before = Some(transaction),
                (Some(transaction), Some(other)) if transaction == other => {}
                _ => return Err(reused(message.id).into()),
            }
        }
        let Some(transaction) = before else { return Ok(None) };
        let record =
            self.load_transaction(turn, transaction.number())?.ok_or_else(|| unknown(transaction))?;
        let stored: BTreeSet<_> = record.messages.iter().map(|message| message.stub.id).collect();
        if let Some(other) = seen.symmetric_difference(&stored).next() {
            return Err(reused(*other).into());
        }
        self.counts.messages_deduplicated += messages.len() as u64;
        Ok(Some(self.prepared_before(transaction.number(), &record)))
    }

    /// The record of a transaction, undecided or decided.
    pub(super) fn load_transaction(&self, turn: &Turn<'_>, number: u64) -> Step<Option<Transaction>> {
        match turn.get(&keys::undecided(number))? {
            Some(record) => Ok(Some(record)),
            None => Ok(turn.get(&keys::decided(number))?),
        }
    }

    /// A decision by a producer or a person.
    pub(super) fn decide(&mut self, now: Now, turn: &mut Turn<'_>, input: Decide) -> Step<Reply> {
        let number = self.transaction_number(input.transaction)?;
        let record = self.load_transaction(turn, number)?.ok_or_else(|| unknown(input.transaction))?;
        if input.role == Role::Person && input.reason.trim().is_empty() {
            return Err(Refusal::invalid("reason", "a decision by hand needs one; say why").into());
        }
        let is_own = input.group.as_ref() == Some(&record.group) || planted(Fault::WrongGroupDecides);
        if input.role != Role::Person && !is_own {
            return Err(Refusal::new(
                Reason::WrongGroup,
                format!(
                    "transaction {} belongs to producer group {:?}; only it may decide",
                    input.transaction, record.group
                ),
            )
            .with("group", &record.group)
            .into());
        }
        let before = record.state;
        let decider =
            Decider { role: input.role, name: input.name, reason: input.reason, at_ms: now.unix_ms };
        let reply = self.decide_record(now, turn, number, record, input.decision, decider)?;
        if let Reply::Decided { state, decider, duplicate: false } = &reply
            && decider.role == Role::Person
        {
            self.audit_decision(now, turn, input.transaction, (before, *state), decider);
        }
        Ok(reply)
    }

    /// The compare-and-set: whoever decides comes through here.
    pub(super) fn decide_record(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: u64,
        mut record: Transaction,
        decision: Decision,
        decider: Decider,
    ) -> Step<Reply> {
        if record.state.is_decided() {
            return self.decided_before(turn, number, record, decision);
        }
        self.untrack_undecided(number);
        match decision {
            Decision::Commit => self.commit_messages(now, turn, number, &mut record),
            Decision::Rollback if planted(Fault::RolledBackVisible) => {
                self.commit_messages(now, turn, number, &mut record);
            }
            Decision::Rollback => self.remove_messages(turn, number, &record),
        }
        record.state = decision.state();
        record.decider = Some(decider.clone());
        if self.story.is_on() {
            self.note(Subject::Transaction(number), decided(&record, &decider));
        }
        turn.delete(keys::undecided(number));
        turn.insert(keys::decided(number), &record);
        self.transactions.fresh.push(number);
        match decision {
            Decision::Commit => self.counts.transactions_committed += 1,
            Decision::Rollback => self.counts.transactions_rolled_back += 1,
        }
        Ok(Reply::Decided { state: record.state, decider, duplicate: false })
    }

    fn decided_before(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        mut record: Transaction,
        decision: Decision,
    ) -> Step<Reply> {
        let decider = record.decider.clone().expect("a decided transaction names who decided");
        if record.state == decision.state() || planted(Fault::DecisionNotFinal) {
            self.counts.decisions_repeated += 1;
            return Ok(Reply::Decided { state: record.state, decider, duplicate: true });
        }
        // The one write of a refusal: contradictions are counted where people look for them.
        record.conflicts = record.conflicts.saturating_add(1);
        turn.put(keys::decided(number), &record);
        self.counts.decision_conflicts += 1;
        let state = record.state.as_str();
        let (role, name) = (decider.role.as_str(), &decider.name);
        Err(Refusal::new(
            Reason::AlreadyDecided,
            format!(
                "transaction {} is {state} already, by {role} {name:?}: a decision is final",
                self.transaction_id(number)
            ),
        )
        .with("state", state)
        .with("by", format!("{role} {name}"))
        .with("at_ms", decider.at_ms)
        .into())
    }

    fn commit_messages(&mut self, now: Now, turn: &mut Turn<'_>, number: u64, record: &mut Transaction) {
        let transaction = Some(self.transaction_id(number));
        for message in &mut record.messages {
            self.topics.tail_mut(message.stub.topic).awaited -= 1;
            message.offset = self.make_visible(now, turn, &message.stub, transaction, record.created_at_ms);
        }
    }

    fn remove_messages(&mut self, turn: &mut Turn<'_>, number: u64, record: &Transaction) {
        let transaction = Some(self.transaction_id(number));
        for message in &record.messages {
            self.topics.tail_mut(message.stub.topic).awaited -= 1;
            self.note_end(message.stub.id, Ending::RolledBack, (message.stub.key_hash, transaction), None);
            self.remove_message(turn, message.stub.id, message.stub.key_hash);
        }
    }

    /// Keeps in memory what the timers need of an undecided transaction.
    pub(super) fn track_undecided(&mut self, number: u64, record: &Transaction) {
        let kind = self.kinds.number_of(&record.group, &record.kind);
        if record.state == TransactionState::Parked {
            self.kinds.get_mut(kind).parked.insert(number);
            self.transactions.parked.insert(number, kind);
            return;
        }
        self.kinds.get_mut(kind).undecided += 1;
        let timer_at_ms = record.next_check_at_ms.min(in_doubt_at(record));
        let created_at_ms = record.created_at_ms;
        self.transactions.undecided.insert(number, Undecided { kind, timer_at_ms, created_at_ms });
    }

    /// Forgets all plans for a transaction.
    pub(super) fn untrack_undecided(&mut self, number: u64) {
        if let Some(kind) = self.transactions.parked.remove(&number) {
            self.kinds.get_mut(kind).parked.remove(&number);
            self.kinds.retire_if_idle(kind);
            return;
        }
        let Some(undecided) = self.transactions.undecided.remove(number) else { return };
        let kind = self.kinds.get_mut(undecided.kind);
        kind.undecided -= 1;
        kind.due.remove(&number);
        if let Some(question) = self.questions.about(number) {
            self.withdraw_question(question);
        }
        self.kinds.retire_if_idle(undecided.kind);
    }
}

/// What is noted of a decision.
fn decided(record: &Transaction, decider: &Decider) -> Happening {
    Happening::Decided {
        committed: record.state == TransactionState::Committed,
        role: decider.role,
        name: decider.name.clone(),
        reason: noted(&decider.reason),
        created_at_ms: record.created_at_ms,
        group: record.group.to_string(),
        client: record.client.to_string(),
    }
}

/// When the in-doubt policy takes over, Unix milliseconds.
pub(super) fn in_doubt_at(record: &Transaction) -> u64 {
    record.resumed_at_ms.saturating_add(record.policy.max_undecided_age_ms)
}

pub(super) fn unknown(id: TransactionId) -> Refusal {
    Refusal::new(
        Reason::UnknownTransaction,
        format!("transaction {id} is not known: never made, or decided longer ago than is remembered"),
    )
    .with("transaction_id", id)
}
