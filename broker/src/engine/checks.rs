//! Check-back: asking producers what became of a transaction, with honest accounting. Only a check that reached a
//! checker counts; while there is none, the transaction waits and says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use escrow_protocol::{GroupName, Kind, Reason};

use super::sabotage::{Fault, planted};
use super::timers::MonoTimer;
use super::transactions::{in_doubt_at, unknown};
use super::trouble::Step;
use super::{CheckAnswered, CheckQuestion, Effect, Engine, Now, Refusal, Reply, SessionId, Turn};
use crate::records::{
    CheckAnswer, CheckCounts, Decider, Decision, Happening, InDoubt, Role, Subject, Transaction,
    TransactionState, keys,
};

/// A (producer group, kind) within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KindNumber(u32);

impl KindNumber {
    /// A bit that stands for it, and for others.
    pub(super) fn bit(self) -> u64 {
        1 << (self.0 % u64::BITS)
    }

    #[cfg(test)]
    pub(super) fn for_tests(number: u32) -> Self {
        Self(number)
    }
}

/// What can be checked by the same checkers.
#[derive(Debug, Default)]
pub(super) struct KindState {
    /// The checkers connected.
    pub(super) checkers: Vec<SessionId>,
    /// Whose turn it is.
    turn: usize,
    /// Transactions whose check is due and that wait for a checker or for a free place with one.
    pub(super) due: BTreeSet<u64>,
    /// How many undecided transactions it has that are not parked.
    pub(super) undecided: usize,
    /// Those that are.
    pub(super) parked: BTreeSet<u64>,
    pub(super) name: Option<(GroupName, Kind)>,
}

impl KindState {
    /// Whether it is of this producer group and this kind; `None`: of any.
    pub(super) fn is_of(&self, group: Option<&GroupName>, kind: Option<&Kind>) -> bool {
        let Some((of_group, of_kind)) = &self.name else { return false };
        group.is_none_or(|group| group == of_group) && kind.is_none_or(|kind| kind == of_kind)
    }
}

/// All kinds that have an undecided transaction or a checker. The numbers of others are given again.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    numbers: HashMap<(GroupName, Kind), KindNumber>,
    states: Vec<KindState>,
    free: Vec<KindNumber>,
}

impl Kinds {
    pub(super) fn number_of(&mut self, group: &GroupName, kind: &Kind) -> KindNumber {
        let name = (group.clone(), kind.clone());
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.states.push(KindState::default());
            KindNumber(self.states.len() as u32 - 1)
        });
        *self.get_mut(number) = KindState { name: Some(name.clone()), ..KindState::default() };
        self.numbers.insert(name, number);
        number
    }

    /// Forgets a kind that nothing belongs to any more.
    pub(super) fn retire_if_idle(&mut self, number: KindNumber) {
        let state = self.get_mut(number);
        if !(state.undecided == 0 && state.parked.is_empty() && state.checkers.is_empty()) {
            return;
        }
        if let Some(name) = state.name.take() {
            self.numbers.remove(&name);
            self.free.push(number);
        }
    }

    pub(super) fn get(&self, kind: KindNumber) -> &KindState {
        &self.states[kind.0 as usize]
    }

    pub(super) fn get_mut(&mut self, kind: KindNumber) -> &mut KindState {
        &mut self.states[kind.0 as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KindState> {
        self.states.iter()
    }

    /// Those of this producer group and of this kind; `None`: of any.
    pub(super) fn of(&self, group: Option<&GroupName>, kind: Option<&Kind>) -> BTreeSet<KindNumber> {
        let states = self.states.iter().enumerate().filter(|(_, state)| state.is_of(group, kind));
        states.map(|(at, _)| KindNumber(at as u32)).collect()
    }
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Question {
    number: u64,
    kind: KindNumber,
    session: SessionId,
    /// Monotonic.
    deadline_ms: u64,
}

/// All questions under way.
#[derive(Debug)]
pub(super) struct Questions {
    asked: BTreeMap<u64, Question>,
    /// The question about each transaction that is being asked about.
    about: BTreeMap<u64, u64>,
    next: u64,
    /// Kinds that may have something to ask.
    pub(super) to_pump: BTreeSet<KindNumber>,
}

impl Questions {
    /// Questions are numbered from `first`: an answer to one from before a restart fits none.
    pub(super) fn new(first: u64) -> Self {
        Self { asked: BTreeMap::new(), about: BTreeMap::new(), next: first, to_pump: BTreeSet::new() }
    }

    pub(super) fn ask_behind(&mut self, before: &Self) {
        self.next = self.next.max(before.next);
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// The question under way about a transaction.
    pub(super) fn about(&self, transaction: u64) -> Option<u64> {
        self.about.get(&transaction).copied()
    }
}

impl Engine {
    /// `delay_ms` with the configured jitter, up or down.
    pub(super) fn jittered(&mut self, delay_ms: u64) -> u64 {
        let percent = u64::from(self.settings.transactions.check_jitter_percent.min(100));
        let span = delay_ms.saturating_mul(percent) / 100;
        delay_ms - span + self.rng.u64(0..=span.saturating_mul(2))
    }

    /// The timer of an undecided transaction has come.
    pub(super) fn transaction_due(&mut self, now: Now, turn: &mut Turn<'_>, number: u64) -> Step<()> {
        let Some(record) = self.read_or_report::<Transaction>(turn, &keys::undecided(number))? else {
            self.report_damaged(
                &keys::undecided(number),
                "an undecided transaction cannot be read: it stays as it is",
            );
            self.untrack_undecided(number);
            return Ok(());
        };
        if in_doubt_at(&record) <= now.unix_ms {
            return self.apply_in_doubt(now, turn, number, record);
        }
        self.check_due(turn, number, record);
        Ok(())
    }

    /// A check is due: it waits for its turn with a checker; if there is none, that is counted and shown.
    fn check_due(&mut self, turn: &mut Turn<'_>, number: u64, mut record: Transaction) {
        let undecided = self.transactions.undecided.get(number).expect("what is checked is undecided");
        let kind = undecided.kind;
        self.transactions.undecided.plan(number, in_doubt_at(&record));
        let state = self.kinds.get_mut(kind);
        state.due.insert(number);
        if state.checkers.is_empty() {
            record.checks.no_checker = record.checks.no_checker.saturating_add(1);
            if planted(Fault::CheckCountedWithoutChecker) {
                count_delivered(&mut record.checks);
            }
            turn.put(keys::undecided(number), &record);
            self.counts.checks_without_checker += 1;
            self.note_check(number, CheckAnswer::NoChecker, "");
        }
        self.questions.to_pump.insert(kind);
    }

    /// Asks for what is due, as far as checkers have places free: no storm when one comes back. `limit` at most.
    pub(super) fn pump_checks(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) -> Step<()> {
        let mut left = limit;
        for kind in std::mem::take(&mut self.questions.to_pump) {
            while let Some(number) = self.kinds.get(kind).due.first().copied() {
                if left == 0 {
                    self.questions.to_pump.insert(kind);
                    break;
                }
                let Some(record) = self.read_or_report::<Transaction>(turn, &keys::undecided(number))? else {
                    self.kinds.get_mut(kind).due.remove(&number);
                    continue;
                };
                let Some(session) = self.choose_checker(kind, &record) else { break };
                self.ask(now, turn, number, kind, session);
                left -= 1;
            }
        }
        Ok(())
    }

    /// First the instance that sent it, then all in turn; only one with a place free.
    fn choose_checker(&mut self, kind: super::checks::KindNumber, record: &Transaction) -> Option<SessionId> {
        let max = self.settings.transactions.questions_per_checker_max as usize;
        let state = self.kinds.get(kind);
        let producers = &self.sessions.producers;
        let is_free = |session: &SessionId| producers[session].questions.len() < max;
        if record.checks.delivered == 0 {
            let sender = state.checkers.iter().find(|s| producers[s].client == record.client && is_free(s));
            if let Some(sender) = sender {
                return Some(*sender);
            }
        }
        let count = state.checkers.len();
        let chosen =
            (0..count).map(|step| (state.turn + step) % count).find(|at| is_free(&state.checkers[*at]))?;
        let session = state.checkers[chosen];
        self.kinds.get_mut(kind).turn = chosen + 1;
        Some(session)
    }

    fn ask(&mut self, now: Now, turn: &mut Turn<'_>, number: u64, kind: KindNumber, session: SessionId) {
        let check = self.questions.next;
        self.questions.next += 1;
        let deadline_ms = now.mono_ms.saturating_add(self.settings.transactions.check_timeout_ms);
        self.questions.asked.insert(check, Question { number, kind, session, deadline_ms });
        self.timers.plan_mono(deadline_ms, MonoTimer::Question(check));
        self.kinds.get_mut(kind).due.remove(&number);
        self.questions.about.insert(number, check);
        self.sessions.producers.get_mut(&session).expect("a checker is connected").questions.insert(check);
        self.counts.checks_asked += 1;
        let transaction = self.transaction_id(number);
        turn.effects.push(Effect::AskCheck(CheckQuestion { session, transaction, check }));
    }

    /// Takes back a question: it was answered, timed out, or is no longer of interest.
    pub(super) fn withdraw_question(&mut self, check: u64) -> Option<Question> {
        let question = self.questions.asked.remove(&check)?;
        self.questions.about.remove(&question.number);
        self.timers.cancel_mono(question.deadline_ms, MonoTimer::Question(check));
        if let Some(producer) = self.sessions.producers.get_mut(&question.session) {
            producer.questions.remove(&check);
            // The place is free for any kind it answers for, not only for the one it was taken by.
            self.questions.to_pump.extend(producer.kinds.iter().map(|(_, kind)| *kind));
        }
        self.questions.to_pump.insert(question.kind);
        Some(question)
    }

    /// A checker's answer: a decision counts whenever it comes, "unknown" only in time.
    pub(super) fn check_answered(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        answer: CheckAnswered,
    ) -> Step<Reply> {
        let number = self.transaction_number(answer.transaction)?;
        let Some(producer) = self.sessions.producers.get(&answer.session) else {
            return Err(Refusal::new(Reason::HelloExpected, "say hello before answering checks").into());
        };
        let client = producer.client.clone();
        let mut record = self.load_transaction(turn, number)?.ok_or_else(|| unknown(answer.transaction))?;
        let may_answer =
            producer.group == record.group && producer.kinds.iter().any(|(kind, _)| *kind == record.kind);
        if !may_answer && !planted(Fault::StrangerAnswersCheck) {
            return Err(Refusal::new(
                Reason::WrongGroup,
                format!(
                    "transaction {} is answered for by checkers of kind {:?} of producer group {:?}",
                    answer.transaction, record.kind, record.group
                ),
            )
            .into());
        }
        let asked = self.questions.asked.get(&answer.check);
        let in_time = asked.is_some_and(|asked| asked.session == answer.session && asked.number == number);
        if in_time {
            self.withdraw_question(answer.check);
            count_delivered(&mut record.checks);
            self.counts.checks_delivered += 1;
        }
        match (answer.verdict, in_time) {
            (Some(decision), _) => {
                let decider = Decider {
                    role: Role::Check,
                    name: client.to_string(),
                    reason: String::new(),
                    at_ms: now.unix_ms,
                };
                self.decide_record(now, turn, number, record, decision, decider)?;
            }
            (None, true) => {
                record.checks.unknown += 1;
                self.counts.checks_unknown += 1;
                self.note_check(number, CheckAnswer::Unknown, client.as_str());
                self.check_again(now, turn, number, record)?;
            }
            (None, false) => {}
        }
        Ok(Reply::Done)
    }

    /// A checker that stayed connected did not answer in time.
    pub(super) fn question_timed_out(&mut self, now: Now, turn: &mut Turn<'_>, check: u64) -> Step<()> {
        let Some(question) = self.withdraw_question(check) else { return Ok(()) };
        let Some(mut record) = turn.get::<Transaction>(&keys::undecided(question.number))? else {
            return Ok(());
        };
        count_delivered(&mut record.checks);
        record.checks.timed_out += 1;
        self.counts.checks_delivered += 1;
        self.counts.checks_timed_out += 1;
        let asked = self.sessions.producers.get(&question.session);
        let client = asked.map_or(String::new(), |producer| producer.client.to_string());
        self.note_check(question.number, CheckAnswer::TimedOut, &client);
        self.check_again(now, turn, question.number, record)
    }

    /// A delivered check decided nothing: plan the next, or let the in-doubt policy decide.
    fn check_again(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: u64,
        mut record: Transaction,
    ) -> Step<()> {
        let delivered = record.checks.delivered_since_resume;
        let used_up = delivered >= record.policy.max_checks && !planted(Fault::ChecksUnbounded);
        if used_up || in_doubt_at(&record) <= now.unix_ms {
            return self.apply_in_doubt(now, turn, number, record);
        }
        let delay = self.settings.transactions.delay_after(delivered);
        record.next_check_at_ms = now.unix_ms.saturating_add(self.jittered(delay));
        turn.put(keys::undecided(number), &record);
        self.transactions.undecided.plan(number, record.next_check_at_ms.min(in_doubt_at(&record)));
        Ok(())
    }

    /// Nobody can answer: the policy does. Never silent: counted, and the record says it was the policy.
    fn apply_in_doubt(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: u64,
        mut record: Transaction,
    ) -> Step<()> {
        let decision = match record.policy.in_doubt {
            InDoubt::Park => {
                self.untrack_undecided(number);
                record.state = TransactionState::Parked;
                turn.put(keys::undecided(number), &record);
                self.track_undecided(number, &record);
                self.counts.transactions_parked += 1;
                self.note(Subject::Transaction(number), Happening::Parked);
                return Ok(());
            }
            InDoubt::Rollback => Decision::Rollback,
            InDoubt::Commit => Decision::Commit,
        };
        let name = match decision {
            Decision::Commit => "in-doubt commit",
            Decision::Rollback => "in-doubt rollback",
        };
        let reason = match record.checks.delivered_since_resume >= record.policy.max_checks {
            true => {
                format!("{} checks were delivered without a decision", record.checks.delivered_since_resume)
            }
            false => format!("undecided for {} ms", record.policy.max_undecided_age_ms),
        };
        let decider = Decider { role: Role::Policy, name: name.into(), reason, at_ms: now.unix_ms };
        self.counts.decisions_by_policy += 1;
        self.decide_record(now, turn, number, record, decision, decider).map(|_| ())
    }

    /// Notes a check that decided nothing.
    fn note_check(&mut self, number: u64, answer: CheckAnswer, client: &str) {
        let client = client.to_owned();
        self.note(Subject::Transaction(number), Happening::Checked { answer, client });
    }

    /// A person wants it asked now.
    pub(super) fn check_now(
        &mut self,
        turn: &mut Turn<'_>,
        id: escrow_protocol::TransactionId,
    ) -> Step<Reply> {
        let number = self.transaction_number(id)?;
        let record = self.load_transaction(turn, number)?.ok_or_else(|| unknown(id))?;
        match record.state {
            TransactionState::Prepared => {}
            TransactionState::Parked => {
                return Err(Refusal::new(
                    Reason::NotUndecided,
                    format!("transaction {id} is parked: resume it, and it is checked again"),
                )
                .into());
            }
            _ => {
                return Err(Refusal::new(
                    Reason::NotUndecided,
                    format!("transaction {id} is decided already"),
                )
                .into());
            }
        }
        let undecided = self.transactions.undecided.get(number).expect("what is prepared is undecided");
        let is_asked = self.questions.about(number).is_some();
        let waits = is_asked || self.kinds.get(undecided.kind).due.contains(&number);
        let by = self.story.by();
        self.note(Subject::Transaction(number), Happening::CheckOrdered { by });
        if !waits {
            self.check_due(turn, number, record);
        }
        Ok(Reply::Done)
    }

    /// A person gives a parked transaction back to its checkers, with all its checks and all its time.
    pub(super) fn resume(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        id: escrow_protocol::TransactionId,
    ) -> Step<Reply> {
        let number = self.transaction_number(id)?;
        let mut record = self.load_transaction(turn, number)?.ok_or_else(|| unknown(id))?;
        if record.state != TransactionState::Parked {
            let message = format!("transaction {id} is not parked: only a parked one is resumed");
            return Err(Refusal::new(Reason::NotParked, message).into());
        }
        self.untrack_undecided(number);
        record.state = TransactionState::Prepared;
        record.checks.delivered_since_resume = 0;
        record.resumed_at_ms = now.unix_ms;
        record.next_check_at_ms =
            now.unix_ms.saturating_add(self.jittered(record.policy.first_check_after_ms));
        turn.put(keys::undecided(number), &record);
        self.track_undecided(number, &record);
        self.counts.transactions_resumed += 1;
        let by = self.story.by();
        self.note(Subject::Transaction(number), Happening::Resumed { by });
        Ok(Reply::Done)
    }

    /// A checker has gone. What it was asked is not counted, for nobody knows whether it heard; others are asked.
    pub(super) fn checker_gone(
        &mut self,
        session: SessionId,
        kinds: &[(Kind, KindNumber)],
        questions: &BTreeSet<u64>,
    ) {
        for check in questions {
            let Some(question) = self.withdraw_question(*check) else { continue };
            self.kinds.get_mut(question.kind).due.insert(question.number);
        }
        for (_, kind) in kinds {
            self.kinds.get_mut(*kind).checkers.retain(|checker| *checker != session);
            self.questions.to_pump.insert(*kind);
            self.kinds.retire_if_idle(*kind);
        }
    }
}

fn count_delivered(checks: &mut CheckCounts) {
    checks.delivered = checks.delivered.saturating_add(1);
    checks.delivered_since_resume = checks.delivered_since_resume.saturating_add(1);
}
