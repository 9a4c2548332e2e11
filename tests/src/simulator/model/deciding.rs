//! Transactions: made once, decided once, by those who may, and remembered for a while.

use escrow_broker::engine::{Decide, Now, Outcome, Refusal, Reply, SendHalf};
use escrow_broker::records::{CheckPolicy, Decider, Decision, InDoubt, Role, Transaction, TransactionState};
use escrow_protocol::{GroupName, Kind, MessageId, Reason, ShardId, TransactionId};

use super::{Changes, Expectations, MessageFate, Model, Verdict, require};

/// A transaction.
#[derive(Debug, Clone)]
pub(crate) struct TransactionModel {
    pub(crate) group: GroupName,
    pub(crate) kind: Kind,
    pub(crate) key: Option<String>,
    pub(crate) messages: Vec<MessageId>,
    pub(crate) policy: CheckPolicy,
    pub(crate) state: TransactionState,
    pub(crate) decider: Option<Decider>,
    pub(crate) resumed_at_ms: u64,
    /// The next check, as the record has it.
    pub(crate) next_check_at_ms: u64,
    pub(super) delivered: u32,
    pub(super) unknown: u32,
    pub(super) timed_out: u32,
    pub(super) no_checker: u32,
    pub(super) delivered_since_resume: u32,
    pub(super) conflicts: u32,
    /// Its record is gone: forgotten after its time.
    pub(crate) forgotten: bool,
    /// A person or the passing of time asked for a check.
    pub(super) may_be_asked_from_ms: u64,
}

impl Model {
    pub(super) fn prepared(
        &mut self,
        now: Now,
        half: &SendHalf,
        outcome: &Outcome,
        expected: &Expectations,
    ) -> Verdict {
        match outcome {
            Ok(Reply::Prepared { transaction, messages, state, duplicate: false }) => {
                self.is_a_new_transaction(now, half, *transaction, expected)?;
                let ids: Vec<MessageId> = half.messages.iter().map(|message| message.id).collect();
                require!(
                    *messages == ids && *state == TransactionState::Prepared,
                    "the half message is answered wrong"
                );
                self.prepare(now, half, *transaction)
            }
            Ok(Reply::Prepared { transaction, messages, state, duplicate: true }) => {
                self.is_the_transaction_before(half, *transaction, messages, *state)
            }
            Ok(_) => Err("a half message was answered with something else".into()),
            Err(refusal) => self.half_refused(half, refusal),
        }
    }

    fn is_a_new_transaction(
        &mut self,
        now: Now,
        half: &SendHalf,
        id: TransactionId,
        expected: &Expectations,
    ) -> Verdict {
        require!(!self.transactions.contains_key(&id), "the transaction id {id} was used before");
        for message in &half.messages {
            self.is_new(now, message.id, expected)?;
        }
        let Some(key) = &half.key else { return Ok(()) };
        if let Some(before) = self.transaction_keys.get(&(half.group.clone(), key.clone())) {
            require!(
                self.transactions[before].forgotten,
                "transaction key {key} stands for {before}, which is remembered, and made another one"
            );
        }
        Ok(())
    }

    fn prepare(&mut self, now: Now, half: &SendHalf, id: TransactionId) -> Verdict {
        self.tally.prepared += 1;
        for message in &half.messages {
            let topic = self.named(&message.topic)?;
            self.arrive(now, message, topic, Some(id));
        }
        let policy = half.overrides.over(self.settings.transactions.policy_of(&half.kind));
        if let Some(key) = &half.key {
            self.transaction_keys.insert((half.group.clone(), key.clone()), id);
        }
        let jitter = u64::from(self.settings.transactions.check_jitter_percent);
        let earliest = policy.first_check_after_ms - policy.first_check_after_ms * jitter / 100;
        let model = TransactionModel {
            group: half.group.clone(),
            kind: half.kind.clone(),
            key: half.key.clone(),
            messages: half.messages.iter().map(|message| message.id).collect(),
            policy,
            state: TransactionState::Prepared,
            decider: None,
            resumed_at_ms: now.unix_ms,
            next_check_at_ms: now.unix_ms + earliest,
            delivered: 0,
            unknown: 0,
            timed_out: 0,
            no_checker: 0,
            delivered_since_resume: 0,
            conflicts: 0,
            forgotten: false,
            may_be_asked_from_ms: now.unix_ms + earliest,
        };
        self.transactions.insert(id, model);
        Ok(())
    }

    fn is_the_transaction_before(
        &self,
        half: &SendHalf,
        id: TransactionId,
        messages: &[MessageId],
        state: TransactionState,
    ) -> Verdict {
        let Some(known) = self.transactions.get(&id) else {
            return Err("a transaction that was never made is called a duplicate".into());
        };
        require!(known.messages == messages, "the transaction before had messages {:?}", known.messages);
        require!(known.state == state, "the transaction before is {:?}", known.state);
        let by_key = half.key.is_some() && half.key == known.key && half.group == known.group;
        let by_id = half.messages.iter().all(|message| known.messages.contains(&message.id));
        require!(by_key || by_id, "the transaction before has neither this key nor these messages");
        Ok(())
    }

    fn half_refused(&self, half: &SendHalf, refusal: &Refusal) -> Verdict {
        let any_known = half.messages.iter().any(|message| self.messages.contains_key(&message.id));
        match refusal.reason {
            Reason::MessageIdReused => require!(any_known, "new ids are called reused"),
            Reason::TransactionKeyReused => {
                let key = half.key.clone().map(|key| (half.group.clone(), key));
                let used = key.is_some_and(|key| self.transaction_keys.contains_key(&key));
                require!(used, "a new key is called reused");
            }
            // The messages are remembered, their transaction is not.
            Reason::UnknownTransaction => {
                require!(any_known, "new messages belong to a forgotten transaction")
            }
            _ => {
                let topics = half.messages.iter().map(|message| &message.topic);
                let explained = topics.map(|topic| self.refused_message(topic, refusal));
                return explained.min_by_key(Result::is_err).unwrap_or(Ok(()));
            }
        }
        Ok(())
    }

    pub(super) fn decided(&mut self, now: Now, decide: &Decide, outcome: &Outcome) -> Verdict {
        let known = self.transactions.get(&decide.transaction);
        let Some(known) = known.filter(|known| !known.forgotten) else {
            let refused = outcome.as_ref().is_err_and(|refusal| refusal.reason == Reason::UnknownTransaction);
            require!(refused, "a transaction that is not known was decided");
            return Ok(());
        };
        let state = decide.decision.state();
        match outcome {
            Ok(Reply::Decided { state: answered, decider, duplicate }) => {
                require!(
                    decide.role == Role::Person || decide.group.as_ref() == Some(&known.group),
                    "a group that did not make the transaction decided it"
                );
                require!(*answered == state, "the decision was answered with {answered:?}");
                require!(
                    *duplicate == known.state.is_decided(),
                    "the transaction was {:?} before, and the answer says duplicate: {duplicate}",
                    known.state
                );
                if !*duplicate {
                    let (role, name) = (decide.role, &decide.name);
                    require!((decider.role, &decider.name) == (role, name), "the decider is answered wrong");
                    require!(decider.at_ms == now.unix_ms, "the time of the decision is answered wrong");
                    return self.decide(now, decide.transaction, decide.decision, decider.clone());
                }
                require!(known.state == state, "a decision was changed: it was {:?}", known.state);
                require!(
                    same_decider(known.decider.as_ref(), Some(decider)),
                    "it was decided by {:?}",
                    known.decider
                );
                Ok(())
            }
            Ok(_) => Err("a decision was answered with something else".into()),
            Err(refusal) => self.decision_refused(decide, refusal),
        }
    }

    fn decision_refused(&mut self, decide: &Decide, refusal: &Refusal) -> Verdict {
        let known = self.transactions.get_mut(&decide.transaction).expect("it was just found");
        match refusal.reason {
            Reason::AlreadyDecided => {
                require!(
                    known.state.is_decided() && known.state != decide.decision.state(),
                    "it is called decided otherwise and is {:?}",
                    known.state
                );
                let detail = |name: &str| {
                    refusal
                        .details
                        .iter()
                        .find(|(detail, _)| *detail == name)
                        .map(|(_, value)| value.as_str())
                };
                let decider = known.decider.as_ref().expect("a decided transaction has a decider");
                let names = detail("by").is_some_and(|by| by.contains(decider.name.as_str()));
                require!(names && detail("state").is_some(), "the conflict does not name who decided");
                require!(
                    detail("at_ms") == Some(decider.at_ms.to_string().as_str()),
                    "the conflict does not say when it was decided"
                );
                known.conflicts += 1;
            }
            Reason::WrongGroup => require!(
                decide.role != Role::Person && decide.group.as_ref() != Some(&known.group),
                "the group that made the transaction may not decide it"
            ),
            Reason::InvalidField => {
                let nameless = decide.role == Role::Person && decide.reason.is_empty();
                require!(nameless, "a decision with a reason was called invalid");
            }
            _ => return Err("a decision was refused for no good reason".into()),
        }
        Ok(())
    }

    /// Final from here on.
    pub(super) fn decide(
        &mut self,
        now: Now,
        id: TransactionId,
        decision: Decision,
        decider: Decider,
    ) -> Verdict {
        let known = self.transactions.get_mut(&id).expect("it was just found");
        require!(!known.state.is_decided(), "transaction {id} was decided twice");
        known.state = decision.state();
        known.decider = Some(decider);
        self.questions.remove(&id);
        let messages = known.messages.clone();
        match decision {
            Decision::Commit => {
                self.tally.committed += 1;
                messages.iter().for_each(|id| self.release(now, *id));
            }
            Decision::Rollback => {
                self.tally.rolled_back += 1;
                for id in &messages {
                    self.messages.get_mut(id).expect("it arrived").fate = MessageFate::RolledBack;
                }
            }
        }
        Ok(())
    }

    pub(super) fn resumed(&mut self, now: Now, id: TransactionId, outcome: &Outcome) -> Verdict {
        let jitter = u64::from(self.settings.transactions.check_jitter_percent);
        let Some(known) = self.transactions.get_mut(&id).filter(|known| !known.forgotten) else {
            require!(outcome.is_err(), "a transaction that is not known was resumed");
            return Ok(());
        };
        match outcome {
            Ok(_) => {
                require!(
                    known.state == TransactionState::Parked,
                    "a transaction was resumed that is {:?}",
                    known.state
                );
                known.state = TransactionState::Prepared;
                known.resumed_at_ms = now.unix_ms;
                known.delivered_since_resume = 0;
                let first = known.policy.first_check_after_ms;
                known.may_be_asked_from_ms = now.unix_ms + first - first * jitter / 100;
            }
            Err(_) => {
                require!(known.state != TransactionState::Parked, "a parked transaction was not resumed")
            }
        }
        Ok(())
    }

    /// What the policy did in this turn comes first: it may make messages visible.
    pub(super) fn policy_decided(&mut self, now: Now, changes: &Changes) -> Verdict {
        for (number, record) in &changes.decided {
            let (id, Some(record)) = (transaction_id(*number), record) else { continue };
            let decider = record.decider.clone().filter(|decider| decider.role == Role::Policy);
            let (Some(decider), Some(known)) = (decider, self.transactions.get(&id)) else { continue };
            if known.state.is_decided() {
                continue;
            }
            let decision = match record.state {
                TransactionState::Committed => Decision::Commit,
                _ => Decision::Rollback,
            };
            let allowed = match known.policy.in_doubt {
                InDoubt::Park => None,
                InDoubt::Commit => Some(Decision::Commit),
                InDoubt::Rollback => Some(Decision::Rollback),
            };
            require!(
                allowed == Some(decision),
                "{id} was decided by a policy that is {:?}",
                known.policy.in_doubt
            );
            self.is_in_doubt(now, id)?;
            self.decide(now, id, decision, decider)?;
        }
        Ok(())
    }

    /// The last check was used up by an answer that knew nothing: the policy decides there and then.
    pub(super) fn policy_decides_if_used_up(&mut self, now: Now, id: TransactionId) -> Verdict {
        if self.is_in_doubt(now, id).is_err() {
            return Ok(());
        }
        let decision = match self.transactions[&id].policy.in_doubt {
            InDoubt::Park => return self.is_parked(now, id),
            InDoubt::Commit => Decision::Commit,
            InDoubt::Rollback => Decision::Rollback,
        };
        // How the policy calls itself is learnt from the record.
        let (name, reason) = (String::new(), String::new());
        self.decide(now, id, decision, Decider { role: Role::Policy, name, reason, at_ms: now.unix_ms })
    }

    fn is_in_doubt(&self, now: Now, id: TransactionId) -> Verdict {
        let known = &self.transactions[&id];
        let checked = known.delivered_since_resume >= known.policy.max_checks;
        let aged = known.resumed_at_ms + known.policy.max_undecided_age_ms <= now.unix_ms;
        require!(
            checked || aged,
            "{id} was given up after {} of {} checks and {} ms",
            known.delivered_since_resume,
            known.policy.max_checks,
            now.unix_ms.saturating_sub(known.resumed_at_ms)
        );
        Ok(())
    }

    /// The records of transactions say what the model says.
    pub(super) fn take_transactions(&mut self, now: Now, changes: &Changes) -> Verdict {
        for (number, record) in &changes.undecided {
            let id = transaction_id(*number);
            match record {
                Some(record) => self.take_undecided(now, id, record)?,
                None => {
                    let decided = changes.decided.iter().any(|(it, record)| it == number && record.is_some());
                    // Made and decided within one turn: it never lay there.
                    require!(decided, "transaction {id} is gone from the undecided and was not decided");
                }
            }
        }
        for (number, record) in &changes.decided {
            let id = transaction_id(*number);
            match record {
                Some(record) => self.is_as_recorded(id, record)?,
                None => self.forget_transaction(now, id)?,
            }
        }
        Ok(())
    }

    fn take_undecided(&mut self, now: Now, id: TransactionId, record: &Transaction) -> Verdict {
        if record.state == TransactionState::Parked {
            self.is_parked(now, id)?;
        }
        self.is_as_recorded(id, record)?;
        let known = self.transactions.get_mut(&id).expect("it is as recorded");
        known.next_check_at_ms = record.next_check_at_ms;
        known.may_be_asked_from_ms = known.may_be_asked_from_ms.max(record.next_check_at_ms.min(now.unix_ms));
        Ok(())
    }

    fn is_parked(&mut self, now: Now, id: TransactionId) -> Verdict {
        let Some(known) = self.transactions.get(&id) else { return Ok(()) };
        if known.state != TransactionState::Prepared {
            return Ok(());
        }
        require!(
            known.policy.in_doubt == InDoubt::Park,
            "{id} was parked, its policy is {:?}",
            known.policy.in_doubt
        );
        self.is_in_doubt(now, id)?;
        self.transactions.get_mut(&id).expect("it was just found").state = TransactionState::Parked;
        self.questions.remove(&id);
        self.tally.parked += 1;
        Ok(())
    }

    fn is_as_recorded(&mut self, id: TransactionId, record: &Transaction) -> Verdict {
        let Some(known) = self.transactions.get_mut(&id) else {
            return Err(format!("transaction {id} was written, and nobody made it"));
        };
        let ids: Vec<MessageId> = record.messages.iter().map(|message| message.stub.id).collect();
        require!(
            record.state == known.state,
            "{id} is {:?}, its record says {:?}",
            known.state,
            record.state
        );
        require!(
            record.group == known.group && record.kind == known.kind,
            "{id} is filed under another group"
        );
        require!(record.policy == known.policy, "{id} is checked along {:?}", known.policy);
        let decider = record.decider.as_ref();
        require!(same_decider(known.decider.as_ref(), decider), "{id} was decided by {:?}", known.decider);
        require!(ids == known.messages, "{id} has messages {:?}", known.messages);
        require!(record.conflicts == known.conflicts, "{id} was contradicted {} times", known.conflicts);
        let checks = record.checks;
        let counted = (checks.delivered, checks.unknown, checks.timed_out, checks.delivered_since_resume);
        let asked = (known.delivered, known.unknown, known.timed_out, known.delivered_since_resume);
        require!(
            counted == asked,
            "{id}: checks (delivered, unknown, timed out, since resumed) are {asked:?}, its record says {counted:?}"
        );
        require!(checks.no_checker >= known.no_checker, "{id}: checks without a checker were uncounted");
        known.no_checker = checks.no_checker;
        Ok(())
    }

    fn forget_transaction(&mut self, now: Now, id: TransactionId) -> Verdict {
        let Some(known) = self.transactions.get_mut(&id) else {
            return Err(format!("transaction {id} was forgotten and never made"));
        };
        let decided_at_ms = known.decider.as_ref().map_or(u64::MAX, |decider| decider.at_ms);
        let until = decided_at_ms.saturating_add(self.settings.retention.decided_ms);
        let latest = self.latest_unix_ms.max(now.unix_ms);
        require!(until <= latest, "{id} was forgotten at {latest} and is remembered until {until}");
        known.forgotten = true;
        Ok(())
    }
}

/// Whether both say the same of who decided. The policy's own words for itself are its own.
fn same_decider(known: Option<&Decider>, said: Option<&Decider>) -> bool {
    match (known, said) {
        (Some(known), Some(said)) if known.role == Role::Policy => {
            (known.role, known.at_ms) == (said.role, said.at_ms)
        }
        _ => known == said,
    }
}

pub(super) fn transaction_id(number: u64) -> TransactionId {
    TransactionId::new(ShardId(0), number)
}
