//! The check-back: who may be asked what and when, and which checks count.

use escrow_broker::engine::{CheckAnswered, CheckQuestion, Now, Outcome, SessionId};
use escrow_broker::records::{Decider, Role, TransactionState};
use escrow_protocol::{Reason, TransactionId};

use super::deciding::transaction_id;
use super::{Changes, Model, SessionModel, Verdict, require};

/// A question that may still be answered in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    session: SessionId,
    check: u64,
    /// Monotonic.
    deadline_ms: u64,
}

impl Model {
    pub(super) fn asked(&mut self, now: Now, question: &CheckQuestion) -> Verdict {
        self.tally.questions += 1;
        let id = question.transaction;
        let Some(known) = self.transactions.get(&id) else { return Err("asked about nothing".into()) };
        require!(
            known.state == TransactionState::Prepared,
            "asked about a transaction that is {:?}",
            known.state
        );
        require!(!self.questions.contains_key(&id), "asked while a question is under way");
        require!(
            known.delivered_since_resume < known.policy.max_checks,
            "asked after {} delivered checks of {}",
            known.delivered_since_resume,
            known.policy.max_checks
        );
        require!(
            known.may_be_asked_from_ms <= self.latest_unix_ms,
            "asked early: at {}, due at {}",
            now.unix_ms,
            known.may_be_asked_from_ms
        );
        require!(self.may_check(question.session, id), "asked a session that does not answer for this kind");
        let deadline_ms = now.mono_ms + self.settings.transactions.check_timeout_ms;
        let open = Question { session: question.session, check: question.check, deadline_ms };
        self.questions.insert(id, open);
        let busy = self.questions.values().filter(|open| open.session == question.session).count();
        let most = self.settings.transactions.questions_per_checker_max as usize;
        require!(busy <= most, "one checker has {busy} questions under way, at most {most} are allowed");
        Ok(())
    }

    fn may_check(&self, session: SessionId, id: TransactionId) -> bool {
        let known = &self.transactions[&id];
        match self.sessions.get(&session) {
            Some(SessionModel::Producer { group, kinds, .. }) => {
                *group == known.group && kinds.contains(&known.kind)
            }
            _ => false,
        }
    }

    pub(super) fn check_answered(&mut self, now: Now, answer: &CheckAnswered, outcome: &Outcome) -> Verdict {
        let id = answer.transaction;
        let Some(known) = self.transactions.get(&id).filter(|known| !known.forgotten) else {
            require!(outcome.is_err(), "an answer about a transaction that is not known was taken");
            return Ok(());
        };
        if !self.may_check(answer.session, id) {
            require!(outcome.is_err(), "an answer was taken from one who does not answer for this kind");
            return Ok(());
        }
        let state = known.state;
        if state.is_decided() {
            return self.answered_too_late(answer, outcome);
        }
        require!(outcome.is_ok(), "an answer was refused from one who may give it");
        let open = self.questions.get(&id);
        let in_time = open.is_some_and(|open| open.session == answer.session && open.check == answer.check);
        if in_time {
            self.questions.remove(&id);
            self.count_delivered(id);
        }
        match answer.verdict {
            None => {
                if in_time {
                    self.known_mut(id).unknown += 1;
                    self.plan_next_check(now, id);
                    self.policy_decides_if_used_up(now, id)?;
                }
                Ok(())
            }
            Some(decision) => {
                let Some(SessionModel::Producer { client, .. }) = self.sessions.get(&answer.session) else {
                    return Err("a checker is no producer".into());
                };
                let (role, name) = (Role::Check, client.to_string());
                let decider = Decider { role, name, reason: String::new(), at_ms: now.unix_ms };
                self.decide(now, id, decision, decider)
            }
        }
    }

    fn answered_too_late(&mut self, answer: &CheckAnswered, outcome: &Outcome) -> Verdict {
        let known = self.known_mut(answer.transaction);
        let contradicts = answer.verdict.is_some_and(|verdict| verdict.state() != known.state);
        if contradicts {
            known.conflicts += 1;
        }
        let refused = outcome.as_ref().is_err_and(|refusal| refusal.reason == Reason::AlreadyDecided);
        require!(refused == contradicts, "the transaction is {:?} already", known.state);
        Ok(())
    }

    fn known_mut(&mut self, id: TransactionId) -> &mut super::TransactionModel {
        self.transactions.get_mut(&id).expect("the caller found it")
    }

    fn count_delivered(&mut self, id: TransactionId) {
        let known = self.known_mut(id);
        known.delivered += 1;
        known.delivered_since_resume += 1;
    }

    fn plan_next_check(&mut self, now: Now, id: TransactionId) {
        let settings = &self.settings.transactions;
        let delay = settings.delay_after(self.transactions[&id].delivered_since_resume);
        let earliest = delay - delay * u64::from(settings.check_jitter_percent) / 100;
        self.known_mut(id).may_be_asked_from_ms = now.unix_ms + earliest;
    }

    /// Questions whose time is over count as delivered and unanswered, for their checker was there all the while.
    pub(super) fn questions_timed_out(&mut self, now: Now, changes: &Changes) -> Verdict {
        let overdue: Vec<TransactionId> = self
            .questions
            .iter()
            .filter(|(_, question)| question.deadline_ms <= now.mono_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            let mut records = changes.undecided.iter().chain(&changes.decided);
            let written = records.any(|(number, record)| transaction_id(*number) == id && record.is_some());
            if self.timers_may_lag() && !written {
                continue;
            }
            self.questions.remove(&id);
            self.count_delivered(id);
            self.known_mut(id).timed_out += 1;
            self.plan_next_check(now, id);
        }
        Ok(())
    }

    /// A checker is gone: what it was asked does not count, and others are asked at once.
    pub(super) fn questions_lost(&mut self, session: SessionId) {
        self.questions.retain(|_, question| question.session != session);
    }

    /// A person wants it checked now.
    pub(super) fn check_now(&mut self, now: Now, id: TransactionId, outcome: &Outcome) -> Verdict {
        let Some(known) = self.transactions.get_mut(&id).filter(|known| !known.forgotten) else {
            require!(outcome.is_err(), "a transaction that is not known is to be checked");
            return Ok(());
        };
        let prepared = known.state == TransactionState::Prepared;
        require!(outcome.is_ok() == prepared, "the transaction is {:?}", known.state);
        if prepared {
            known.may_be_asked_from_ms = known.may_be_asked_from_ms.min(now.unix_ms);
        }
        Ok(())
    }

    fn has_checker(&self, id: TransactionId) -> bool {
        self.sessions.keys().any(|session| self.may_check(*session, id))
    }

    /// How many transactions are due for a check and have nobody to ask: those whose time has come, at most all that
    /// have nobody (a person may want them checked before their time).
    pub(crate) fn waiting_for_checker(&self) -> std::ops::RangeInclusive<u64> {
        let prepared =
            self.transactions.iter().filter(|(_, known)| known.state == TransactionState::Prepared);
        let lonely: Vec<_> = prepared.filter(|(id, _)| !self.has_checker(**id)).collect();
        let due =
            lonely.iter().filter(|(_, known)| known.next_check_at_ms <= self.fired_unix_ms).count() as u64;
        let least = if self.timers_may_lag() { 0 } else { due };
        least..=lonely.len() as u64
    }

    /// What is due is asked as long as a checker of its kind has a place free.
    pub(super) fn nobody_waits_for_a_free_checker(&self, now: Now) -> Verdict {
        if self.timers_may_lag() {
            return Ok(());
        }
        let most = self.settings.transactions.questions_per_checker_max as usize;
        for (id, known) in &self.transactions {
            let due = known.state == TransactionState::Prepared
                && known.next_check_at_ms <= now.unix_ms
                && known.delivered_since_resume < known.policy.max_checks
                && !self.questions.contains_key(id);
            if !due {
                continue;
            }
            let free = self.sessions.keys().find(|session| {
                let busy = self.questions.values().filter(|open| open.session == **session).count();
                self.may_check(**session, *id) && busy < most
            });
            if let Some(session) = free {
                return Err(format!(
                    "{id} was due for a check at {}, and {session:?} has a place free and was not asked",
                    known.next_check_at_ms
                ));
            }
        }
        Ok(())
    }
}
