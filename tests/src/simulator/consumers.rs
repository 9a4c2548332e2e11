//! Consumers: they take deliveries and do with them what their manners say: ack, nack, reject, extend, release, forget,
//! answer late or twice, die in the middle.

use escrow_broker::engine::{
    ConsumerConnected, Credit, Delivery, Input, Outcome, Reply, SessionId, Settle, Start, Verb,
};
use escrow_protocol::{GroupName, LeaseToken};

use super::agenda::{Act, Asker};
use super::plan::{ConsumerManners, ConsumerPlan};
use super::world::World;

/// What a consumer does next.
#[derive(Debug, Clone)]
pub(super) enum ConsumerAct {
    Connect,
    Settle(LeaseToken, Verb),
    /// The dispatcher could not read the body of this one.
    Undeliverable(LeaseToken),
    /// Room for one more: the last one is dealt with, or given up.
    Grant(u64),
    Die,
    /// Ends its stream in order.
    Leave,
}

/// A consumer at work.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) plan: ConsumerPlan,
    pub(super) session: Option<SessionId>,
    /// The group it belongs to, once it joined.
    pub(super) group: GroupName,
}

/// What it wants to know of the answer.
#[derive(Debug, Clone)]
pub(super) enum ConsumerAsked {
    Hello,
    Nothing,
    /// Sent again if the answer is lost: the lease may live on.
    Settled(LeaseToken, Verb, u32),
}

/// How a consumer ends one delivery.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Ack,
    AckLate,
    AckTwice,
    Nack,
    NackAfter,
    Reject,
    Extend,
    Release,
    Never,
    Die,
    Leave,
    Undeliverable,
}

impl World {
    pub(super) fn consumer_acts(&mut self, number: usize, act: ConsumerAct) {
        match act {
            ConsumerAct::Connect => self.consumer_connects(number),
            ConsumerAct::Settle(token, verb) => self.consumer_settles(number, token, verb, 1),
            ConsumerAct::Undeliverable(token) => {
                self.ask(Asker::Nobody, Input::Undeliverable(token, "a flipped bit".into()));
            }
            ConsumerAct::Grant(bytes) => self.consumer_grants(number, 1, bytes),
            ConsumerAct::Die => self.consumer_goes(number, Input::SessionClosed),
            ConsumerAct::Leave => self.consumer_goes(number, Input::SessionFinished),
        }
    }

    fn consumer_connects(&mut self, number: usize) {
        if self.consumers[number].session.is_some() {
            return;
        }
        let session = self.new_session();
        let plan = &self.consumers[number].plan;
        let hello = ConsumerConnected {
            session,
            client: plan.client.clone(),
            group: plan.group.clone(),
            subscriptions: plan.wanted.clone(),
            broadcast: plan.broadcast,
            start: Start::Oldest,
            detached: plan.detached,
            address: "simulated".into(),
        };
        self.consumers[number].session = Some(session);
        self.ask(Asker::Consumer(number, ConsumerAsked::Hello), Input::ConsumerConnected(hello));
    }

    fn consumer_goes(&mut self, number: usize, how: impl Fn(SessionId) -> Input) {
        let Some(session) = self.consumers[number].session.take() else { return };
        self.ask(Asker::Nobody, how(session));
        let pause = self.chance.around(6_000);
        self.later(pause, Act::Consumer(number, ConsumerAct::Connect));
    }

    fn consumer_grants(&mut self, number: usize, messages: u32, bytes: u64) {
        let Some(session) = self.consumers[number].session else { return };
        let credit = Credit { session, messages, bytes };
        self.ask(Asker::Consumer(number, ConsumerAsked::Nothing), Input::Credit(credit));
    }

    fn consumer_settles(&mut self, number: usize, token: LeaseToken, verb: Verb, attempt: u32) {
        let group = self.consumers[number].group.clone();
        let asked = ConsumerAsked::Settled(token, verb.clone(), attempt);
        self.ask(Asker::Consumer(number, asked), Input::Settle(Settle { group, token, verb }));
    }

    pub(super) fn consumer_hears(&mut self, number: usize, asked: ConsumerAsked, outcome: Option<&Outcome>) {
        match (asked, outcome) {
            (ConsumerAsked::Nothing, _) | (ConsumerAsked::Settled(..), Some(_)) => {}
            (ConsumerAsked::Hello, Some(Ok(Reply::Joined { group, .. }))) => {
                self.consumers[number].group = group.clone();
                let plan = &self.consumers[number].plan;
                let (messages, bytes) = (plan.credit_messages, plan.credit_bytes);
                self.consumer_grants(number, messages, bytes);
            }
            (ConsumerAsked::Hello, _) => {
                self.consumers[number].session = None;
                let pause = self.chance.between(1_000, 8_000);
                self.later(pause, Act::Consumer(number, ConsumerAct::Connect));
            }
            (ConsumerAsked::Settled(token, verb, 1), None) => self.consumer_settles(number, token, verb, 2),
            (ConsumerAsked::Settled(..), None) => {}
        }
    }

    /// A message reached a consumer.
    pub(super) fn consumer_takes(&mut self, delivery: &Delivery) {
        let taker = self.consumers.iter().position(|it| it.session == Some(delivery.session));
        let Some(number) = taker else { return };
        let manners = match self.is_draining {
            true => ConsumerManners::HEALTHY,
            false => self.consumers[number].plan.manners,
        };
        let work_ms = self.chance.around(manners.work_ms.max(1));
        let manner = draw_manner(&mut self.chance, &manners);
        let grant_after = self.consumer_ends(number, delivery, manner, work_ms);
        let grant = ConsumerAct::Grant(u64::from(delivery.body_bytes));
        self.later(grant_after, Act::Consumer(number, grant));
    }

    /// Plans the end of one delivery; answers when there is room for the next.
    fn consumer_ends(&mut self, number: usize, delivery: &Delivery, manner: Manner, work_ms: u64) -> u64 {
        let token = delivery.token;
        let settle = |verb| Act::Consumer(number, ConsumerAct::Settle(token, verb));
        let reason = || "simulated".to_owned();
        match manner {
            Manner::Ack => self.later(work_ms, settle(Verb::Ack)),
            Manner::AckTwice => {
                self.later(work_ms, settle(Verb::Ack));
                self.later(work_ms + 30, settle(Verb::Ack));
            }
            Manner::AckLate => {
                let late = delivery.lease_ms + self.chance.between(0, 5_000);
                self.later(late, settle(Verb::Ack));
                return late;
            }
            Manner::Nack => self.later(work_ms, settle(Verb::Nack { delay_ms: None, reason: reason() })),
            Manner::NackAfter => {
                let delay_ms = Some(self.chance.around(4_000));
                self.later(work_ms, settle(Verb::Nack { delay_ms, reason: reason() }));
            }
            Manner::Reject => self.later(work_ms, settle(Verb::Reject { reason: reason() })),
            Manner::Extend => {
                let lease_ms = self.chance.percent(50).then(|| self.chance.between(1_000, 20_000));
                let first = delivery.lease_ms / 2;
                self.later(first, settle(Verb::Extend { lease_ms }));
                self.later(first + lease_ms.unwrap_or(delivery.lease_ms) / 2, settle(Verb::Ack));
            }
            Manner::Release => self.later(work_ms, settle(Verb::Release)),
            Manner::Never => return delivery.lease_ms,
            Manner::Die => self.later(work_ms, Act::Consumer(number, ConsumerAct::Die)),
            Manner::Leave => self.later(work_ms, Act::Consumer(number, ConsumerAct::Leave)),
            Manner::Undeliverable => self.later(0, Act::Consumer(number, ConsumerAct::Undeliverable(token))),
        }
        work_ms
    }
}

fn draw_manner(chance: &mut super::chance::Chance, manners: &ConsumerManners) -> Manner {
    chance.weighted(&[
        (manners.ack, Manner::Ack),
        (manners.ack_late, Manner::AckLate),
        (manners.ack_twice, Manner::AckTwice),
        (manners.nack, Manner::Nack),
        (manners.nack_after, Manner::NackAfter),
        (manners.reject, Manner::Reject),
        (manners.extend, Manner::Extend),
        (manners.release, Manner::Release),
        (manners.never, Manner::Never),
        (manners.die, Manner::Die),
        (manners.leave, Manner::Leave),
        (manners.undeliverable, Manner::Undeliverable),
    ])
}
