//! Producers: they publish, put messages in escrow, decide (in time, late, twice, never, wrongly), answer checks after
//! their manners, resend what was not answered, die and come back.

use escrow_broker::engine::{
    CheckAnswered, CheckOverrides, CheckQuestion, Decide, Input, NewMessage, Outcome, ProducerConnected,
    Reply, SendHalf, SessionId,
};
use escrow_broker::records::{Decision, InDoubt, Message, Role};
use escrow_protocol::{Kind, MessageId, Tag, TopicName, TransactionId};

use super::agenda::{Act, Asker};
use super::chance::Chance;
use super::plan::{CheckerManners, Plan, ProducerPlan, TAGS, name, unknown_topic};
use super::world::World;

/// Attempts a producer makes to have a message taken.
const RESENDS_MAX: u32 = 6;
/// Pause before it sends again what was not answered.
const RESEND_MS: u64 = 700;

/// What a producer does next.
#[derive(Debug, Clone)]
pub(super) enum ProducerAct {
    Connect,
    /// Something of its own accord.
    Work,
    Send(Box<Input>, u32),
    Decide(TransactionId, Decision, Role),
    Answer(CheckQuestion, Option<Decision>),
}

/// A producer at work.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) plan: ProducerPlan,
    pub(super) session: Option<SessionId>,
}

/// What it wants to know of the answer.
#[derive(Debug, Clone)]
pub(super) enum ProducerAsked {
    Hello,
    Nothing,
    Sent(Box<Input>, u32),
}

impl World {
    pub(super) fn producer_acts(&mut self, number: usize, act: ProducerAct) {
        match act {
            ProducerAct::Connect => self.producer_connects(number),
            ProducerAct::Work => self.producer_works(number),
            ProducerAct::Send(input, attempt) => {
                let asked = ProducerAsked::Sent(input.clone(), attempt);
                self.ask(Asker::Producer(number, asked), *input);
            }
            ProducerAct::Decide(transaction, decision, role) => {
                self.producer_decides(number, transaction, decision, role);
            }
            ProducerAct::Answer(question, verdict) => {
                let CheckQuestion { session, transaction, check } = question;
                let answer = CheckAnswered { session, transaction, check, verdict };
                self.ask(Asker::Producer(number, ProducerAsked::Nothing), Input::CheckAnswered(answer));
            }
        }
    }

    fn producer_connects(&mut self, number: usize) {
        if self.producers[number].session.is_some() {
            return;
        }
        let session = self.new_session();
        let plan = &self.producers[number].plan;
        let hello = ProducerConnected {
            session,
            client: plan.client.clone(),
            group: plan.group.clone(),
            kinds: plan.kinds.clone(),
            address: "simulated".into(),
        };
        self.producers[number].session = Some(session);
        self.ask(Asker::Producer(number, ProducerAsked::Hello), Input::ProducerConnected(hello));
    }

    fn producer_dies(&mut self, number: usize) {
        let Some(session) = self.producers[number].session.take() else { return };
        self.ask(Asker::Nobody, Input::SessionClosed(session));
        let pause = self.chance.around(8_000);
        self.later(pause, Act::Producer(number, ProducerAct::Connect));
    }

    fn producer_works(&mut self, number: usize) {
        let pause = self.chance.around(self.plan.producer_pause_ms);
        if self.is_draining {
            return;
        }
        self.later(pause, Act::Producer(number, ProducerAct::Work));
        match self.chance.below(100) {
            0..45 => self.publishes(number),
            45..90 => self.sends_half(number),
            90..94 => self.producer_dies(number),
            94..97 => self.decides_what_is_not_its_own(number),
            _ => self.sends_again(number),
        }
    }

    fn publishes(&mut self, number: usize) {
        let message = draw_message(&mut self.chance, &self.plan, self.clock.now().unix_ms);
        self.messages_sent.push(message.clone());
        let input = Input::Publish(message);
        self.producer_acts(number, ProducerAct::Send(Box::new(input), 1));
    }

    /// An id that was used long ago, or just now; sometimes for something else.
    fn sends_again(&mut self, number: usize) {
        let Some(mut message) = self.chance.try_pick(&self.messages_sent) else { return };
        if self.chance.percent(15) {
            message.topic = unknown_topic();
        }
        let input = Input::Publish(message);
        self.producer_acts(number, ProducerAct::Send(Box::new(input), RESENDS_MAX));
    }

    fn sends_half(&mut self, number: usize) {
        let now_ms = self.clock.now().unix_ms;
        let count = self.chance.between(1, 5);
        let messages: Vec<NewMessage> =
            (0..count).map(|_| draw_message(&mut self.chance, &self.plan, now_ms)).collect();
        let plan = &self.producers[number].plan;
        let (group, client) = (plan.group.clone(), plan.client.clone());
        let kind = draw_kind(&mut self.chance, plan);
        let key = self.chance.percent(30).then(|| format!("order-{}", self.chance.below(12)));
        let overrides = draw_overrides(&mut self.chance);
        let half = SendHalf { group, client, kind, key, overrides, messages };
        self.producer_acts(number, ProducerAct::Send(Box::new(Input::SendHalf(half)), 1));
    }

    /// What the local transaction of a half message came to: the truth that checkers tell.
    fn truth_of(transaction: TransactionId) -> Decision {
        if transaction.number().is_multiple_of(4) { Decision::Rollback } else { Decision::Commit }
    }

    fn producer_decides(&mut self, number: usize, id: TransactionId, decision: Decision, role: Role) {
        let plan = &self.producers[number].plan;
        let decide = Decide {
            transaction: id,
            decision,
            role,
            group: Some(plan.group.clone()),
            name: plan.client.to_string(),
            reason: String::new(),
        };
        let input = Input::Decide(decide);
        let asked = ProducerAsked::Sent(Box::new(input.clone()), 1);
        self.ask(Asker::Producer(number, asked), input);
    }

    fn decides_what_is_not_its_own(&mut self, number: usize) {
        let known: Vec<TransactionId> = self.model.transactions.keys().copied().collect();
        let Some(id) = self.chance.try_pick(&known) else { return };
        let decision = *self.chance.pick(&[Decision::Commit, Decision::Rollback]);
        self.producer_decides(number, id, decision, Role::Producer);
    }

    /// An answer came, or its loss did.
    pub(super) fn producer_hears(&mut self, number: usize, asked: ProducerAsked, outcome: Option<&Outcome>) {
        match (asked, outcome) {
            (ProducerAsked::Nothing, _) | (ProducerAsked::Hello, Some(Ok(_))) => {}
            (ProducerAsked::Hello, _) => self.producers[number].session = None,
            (ProducerAsked::Sent(_, attempt), Some(Ok(Reply::Prepared { transaction, .. }))) => {
                if attempt < RESENDS_MAX {
                    self.producer_goes_on(number, *transaction);
                }
            }
            (ProducerAsked::Sent(..), Some(Ok(_))) => {}
            (ProducerAsked::Sent(input, attempt), Some(Err(refusal))) => {
                if let Some(wait) = refusal.retry_after_ms {
                    self.sends_later(number, input, attempt, wait);
                }
            }
            (ProducerAsked::Sent(input, attempt), None) => {
                self.sends_later(number, input, attempt, RESEND_MS);
            }
        }
    }

    fn sends_later(&mut self, number: usize, input: Box<Input>, attempt: u32, wait_ms: u64) {
        if attempt < RESENDS_MAX {
            let wait_ms = wait_ms + self.chance.below(RESEND_MS);
            self.later(wait_ms, Act::Producer(number, ProducerAct::Send(input, attempt + 1)));
        }
    }

    /// The half message is stored: its local transaction runs.
    fn producer_goes_on(&mut self, number: usize, id: TransactionId) {
        let plan = &self.producers[number].plan;
        if !self.chance.percent(plan.decides_percent) {
            return;
        }
        let truth = Self::truth_of(id);
        let mut after = self.chance.around(1_500);
        if self.chance.percent(8) {
            after += 40_000;
        }
        let decide = |decision| Act::Producer(number, ProducerAct::Decide(id, decision, Role::Producer));
        self.later(after, decide(truth));
        if self.chance.percent(10) {
            let again = self.chance.around(5_000);
            self.later(after + again, decide(truth));
        }
        if self.chance.percent(8) {
            let opposite = opposite(truth);
            let again = self.chance.around(5_000);
            self.later(after + again, decide(opposite));
        }
    }

    /// A question reached a checker.
    pub(super) fn producer_is_asked(&mut self, question: CheckQuestion) {
        let asked = self.producers.iter().position(|it| it.session == Some(question.session));
        let Some(number) = asked else { return };
        let truth = Self::truth_of(question.transaction);
        let manners = match self.is_draining {
            true => CheckerManners::HEALTHY,
            false => self.producers[number].plan.manners,
        };
        let timeout_ms = self.plan.settings.transactions.check_timeout_ms;
        let soon = self.chance.below(timeout_ms / 2);
        let answer = |question: &CheckQuestion, verdict| {
            Act::Producer(number, ProducerAct::Answer(question.clone(), verdict))
        };
        if self.chance.percent(manners.never) {
            return;
        }
        if self.chance.percent(manners.late) {
            let late = timeout_ms + self.chance.around(4_000);
            return self.later(late, answer(&question, Some(truth)));
        }
        if self.chance.percent(manners.as_another) {
            let lie = self.lie(&question);
            return self.later(soon, answer(&lie, Some(truth)));
        }
        if self.chance.percent(manners.unknown) {
            return self.later(soon, answer(&question, None));
        }
        self.later(soon, answer(&question, Some(truth)));
        if self.chance.percent(manners.twice) {
            self.later(soon + 10, answer(&question, Some(truth)));
        }
        if self.chance.percent(manners.contradicts) {
            self.later(soon + 20, answer(&question, Some(opposite(truth))));
        }
    }

    /// The same answer with another name, another transaction, or another number.
    fn lie(&mut self, question: &CheckQuestion) -> CheckQuestion {
        let mut lie = question.clone();
        match self.chance.below(3) {
            0 => lie.check = lie.check.wrapping_add(1),
            1 => {
                let sessions: Vec<_> = self.producers.iter().filter_map(|it| it.session).collect();
                lie.session = self.chance.try_pick(&sessions).unwrap_or(lie.session);
            }
            _ => {
                let known: Vec<TransactionId> = self.model.transactions.keys().copied().collect();
                lie.transaction = self.chance.try_pick(&known).unwrap_or(lie.transaction);
            }
        }
        lie
    }
}

pub(super) fn opposite(decision: Decision) -> Decision {
    match decision {
        Decision::Commit => Decision::Rollback,
        Decision::Rollback => Decision::Commit,
    }
}

fn draw_kind(chance: &mut Chance, plan: &ProducerPlan) -> Kind {
    match chance.try_pick(&plan.kinds) {
        Some(kind) if chance.percent(80) => kind,
        _ => name(&format!("kind{}", chance.below(2))),
    }
}

fn draw_overrides(chance: &mut Chance) -> CheckOverrides {
    if chance.percent(75) {
        return CheckOverrides::default();
    }
    CheckOverrides {
        first_check_after_ms: chance.percent(50).then(|| chance.between(0, 4_000)),
        max_checks: chance.percent(50).then(|| chance.between(1, 3) as u32),
        max_undecided_age_ms: chance.percent(50).then(|| chance.between(5_000, 60_000)),
        in_doubt: chance
            .percent(50)
            .then(|| *chance.pick(&[InDoubt::Park, InDoubt::Rollback, InDoubt::Commit])),
    }
}

fn draw_message(chance: &mut Chance, plan: &Plan, now_ms: u64) -> NewMessage {
    let topic: TopicName = match chance.percent(2) {
        true => unknown_topic(),
        false => chance.pick(&plan.topics).0.clone(),
    };
    let tag: Option<Tag> = chance.percent(50).then(|| name(chance.pick::<&str>(&TAGS)));
    let body = vec![b'x'; if chance.percent(8) { 1_500 } else { chance.below(120) as usize }];
    let message = Message {
        id: MessageId::new(now_ms, chance.bytes()),
        topic,
        key: chance.percent(40).then(|| format!("key-{}", chance.below(5))),
        ordering_key: chance.percent(45).then(|| format!("k{}", chance.below(plan.ordering_keys))),
        tag,
        headers: Vec::new(),
        deliver_at_ms: if chance.percent(15) { now_ms + chance.around(15_000) } else { 0 },
        time_to_live_ms: if chance.percent(12) { chance.between(1, 20_000) } else { 0 },
        body: body.into(),
    };
    message.into()
}
