//! The person at the console: decides, resumes and checks by hand, redrives and discards, seeks and pauses, cancels,
//! makes and removes topics and groups; often too late, and sometimes about what does not exist.

use escrow_broker::engine::{Command, Decide, Input, JobOrder, Operator, SeekTo, Start};
use escrow_broker::records::{Decision, GroupSettings, JobKind, LetterFilter, Role, TransactionState};
use escrow_protocol::{GroupName, MessageId, Offset, TopicName, TransactionId};

use super::agenda::{Act, Asker};
use super::model::MessageFate;
use super::plan::{name, unknown_topic};
use super::world::World;

/// What the person does next.
#[derive(Debug, Clone)]
pub(super) enum PersonAct {
    /// Whatever comes to mind.
    Work,
    /// Makes a group of the plan.
    MakeGroup(usize),
    Order(Box<Command>),
    /// Decides an undecided transaction by hand.
    Decide(TransactionId, Decision),
}

impl World {
    pub(super) fn person_acts(&mut self, act: PersonAct) {
        match act {
            PersonAct::Work => self.person_works(),
            PersonAct::MakeGroup(number) => self.makes_group(number),
            PersonAct::Order(command) => self.orders(*command),
            PersonAct::Decide(id, decision) => self.person_decides(id, decision, "by hand"),
        }
    }

    pub(super) fn orders(&mut self, command: Command) {
        let operator = Operator { name: "ada".into(), reason: "by hand".into() };
        self.ask(Asker::Nobody, Input::Command(operator, command));
    }

    fn person_works(&mut self) {
        if self.is_draining {
            return;
        }
        let pause = self.chance.around(self.plan.person_pause_ms);
        self.later(pause, Act::Person(PersonAct::Work));
        match self.chance.below(100) {
            0..15 => self.decides_by_hand(),
            15..25 => self.resumes_or_checks(),
            25..38 => self.redrives_or_discards(),
            38..45 => self.has_jobs(),
            45..55 => self.seeks(),
            55..65 => self.pauses(),
            65..71 => self.cancels(),
            71..74 => self.moves(),
            74..78 => self.runs_or_gives_up(),
            78..84 => self.removes_a_group(),
            84..88 => self.changes_subscriptions(),
            88..92 => self.changes_settings(),
            92..95 => self.removes_a_topic(),
            _ => self.changes_a_topic(),
        }
    }

    fn makes_group(&mut self, number: usize) {
        let plan = &self.plan.groups[number];
        let start = match plan.start {
            Start::Time(_) => Start::Time(self.clock.now().unix_ms.saturating_sub(20_000)),
            other => other,
        };
        let command = Command::CreateGroup {
            name: plan.name.clone(),
            subscriptions: plan.wanted.clone(),
            settings: Some(plan.settings.clone()),
            start,
        };
        self.orders(command);
    }

    pub(super) fn person_decides(&mut self, id: TransactionId, decision: Decision, reason: &str) {
        let decide = Decide {
            transaction: id,
            decision,
            role: Role::Person,
            group: None,
            name: "ada".into(),
            reason: reason.into(),
        };
        self.ask(Asker::Nobody, Input::Decide(decide));
    }

    fn any_transaction(&mut self, wanted: impl Fn(TransactionState) -> bool) -> Option<TransactionId> {
        let all = self.model.transactions.iter();
        let ids: Vec<TransactionId> =
            all.filter(|(_, transaction)| wanted(transaction.state)).map(|(id, _)| *id).collect();
        self.chance.try_pick(&ids)
    }

    fn decides_by_hand(&mut self) {
        let only_undecided = self.chance.percent(60);
        let id = self.any_transaction(|state| !only_undecided || !state.is_decided());
        let Some(id) = id else { return };
        let decision = *self.chance.pick(&[Decision::Commit, Decision::Rollback]);
        let reason = if self.chance.percent(90) { "the customer called" } else { "" };
        self.person_decides(id, decision, reason);
    }

    fn resumes_or_checks(&mut self) {
        let resumes = self.chance.percent(50);
        let id = self.any_transaction(|state| match state {
            TransactionState::Parked => resumes,
            TransactionState::Prepared => !resumes,
            _ => false,
        });
        let any = self.any_transaction(|_| true);
        let Some(id) = id.or(any) else { return };
        self.orders(if resumes { Command::Resume(id) } else { Command::CheckNow(id) });
    }

    fn redrives_or_discards(&mut self) {
        let letters: Vec<_> = self.model.dead_letters();
        let Some((group, mut offset)) = self.chance.try_pick(&letters) else { return };
        if self.chance.percent(5) {
            offset = Offset(offset.0 + 1_000);
        }
        let dry_run = self.chance.percent(10);
        if self.chance.percent(30) {
            return self.orders(Command::Discard { group, offset, dry_run });
        }
        let elsewhere = self.chance.percent(25);
        let to = if elsewhere { Some(self.any_topic()) } else { None };
        self.orders(Command::Redrive { group, offset, to, edit: None, dry_run });
    }

    fn has_jobs(&mut self) {
        let known: Vec<u64> = self.model.jobs.keys().copied().collect();
        if self.chance.percent(40)
            && let Some(number) = self.chance.try_pick(&known)
        {
            let order =
                *self.chance.pick(&[JobOrder::Pause, JobOrder::Resume, JobOrder::Resume, JobOrder::Cancel]);
            return self.orders(Command::OrderJob(number, order));
        }
        let kind = match self.chance.below(10) {
            0..6 => JobKind::Redrive,
            6..8 => JobKind::RedriveTo(self.any_topic()),
            _ => JobKind::Discard,
        };
        let (group, rate) = (self.any_group(), *self.chance.pick(&[0, 1, 7, 100]));
        let (filter, dry_run) = (LetterFilter::default(), self.chance.percent(10));
        self.orders(Command::StartJob { group, kind, filter, rate, dry_run });
    }

    fn any_topic(&mut self) -> TopicName {
        match self.chance.percent(5) {
            true => unknown_topic(),
            false => self.chance.pick(&self.plan.topics).0.clone(),
        }
    }

    fn any_group(&mut self) -> GroupName {
        match self.chance.percent(5) {
            true => name("no-such-group"),
            false => self.chance.pick(&self.plan.groups).name.clone(),
        }
    }

    fn seeks(&mut self) {
        let (group, topic) = (self.any_group(), self.any_topic());
        let next = self.model.topic_number(&topic).map_or(0, |number| self.model.topics[&number].next.0);
        let to = match self.chance.below(4) {
            0 => SeekTo::Oldest,
            1 => SeekTo::Newest,
            2 => SeekTo::Offset(Offset(self.chance.below(next + 2))),
            _ => SeekTo::Time(self.clock.now().unix_ms.saturating_sub(self.chance.around(30_000))),
        };
        let dry_run = self.chance.percent(20);
        self.orders(Command::Seek { group, topic, to, dry_run });
    }

    fn pauses(&mut self) {
        let name = self.any_group();
        self.orders(Command::SetPaused { name: name.clone(), paused: true });
        let while_ms = self.chance.around(10_000);
        let resume = Command::SetPaused { name, paused: false };
        self.later(while_ms, Act::Person(PersonAct::Order(Box::new(resume))));
    }

    fn cancels(&mut self) {
        let scheduled_only = self.chance.percent(75);
        let id = self.any_message(|fate| !scheduled_only || matches!(fate, MessageFate::Scheduled { .. }));
        self.orders(Command::CancelScheduled(id));
    }

    fn moves(&mut self) {
        let scheduled_only = self.chance.percent(85);
        let id = self.any_message(|fate| !scheduled_only || matches!(fate, MessageFate::Scheduled { .. }));
        let now_ms = self.clock.now().unix_ms;
        let deliver_at_ms = match self.chance.percent(20) {
            true => now_ms.saturating_sub(self.chance.below(5_000)),
            false => now_ms + self.chance.around(20_000),
        };
        self.orders(Command::MoveScheduled { id, deliver_at_ms });
    }

    /// Mostly what is retrying; sometimes what a consumer has, or what is no retry at all.
    fn runs_or_gives_up(&mut self) {
        let retrying = self.model.retrying_messages();
        let (group, id) = match self.chance.try_pick(&retrying) {
            Some(found) if self.chance.percent(90) => found,
            _ => (self.any_group(), self.any_message(|_| true)),
        };
        let order = match self.chance.percent(60) {
            true => Command::RunRetry { group, id },
            false => Command::GiveUpRetry { group, id },
        };
        self.orders(order);
    }

    fn any_message(&mut self, wanted: impl Fn(MessageFate) -> bool) -> MessageId {
        let all = self.model.messages.iter();
        let ids: Vec<MessageId> =
            all.filter(|(_, message)| wanted(message.fate)).map(|(id, _)| *id).collect();
        let unknown = MessageId::new(1, self.chance.bytes());
        self.chance.try_pick(&ids).unwrap_or(unknown)
    }

    fn removes_a_group(&mut self) {
        let number = self.chance.below(self.plan.groups.len() as u64) as usize;
        let name = self.plan.groups[number].name.clone();
        let force = self.chance.percent(70);
        self.orders(Command::DeleteGroup { name, force });
        let after = self.chance.around(15_000);
        self.later(after, Act::Person(PersonAct::MakeGroup(number)));
    }

    fn changes_subscriptions(&mut self) {
        let number = self.chance.below(self.plan.groups.len() as u64) as usize;
        let plan = self.plan.groups[number].clone();
        let gone = self.chance.pick(&plan.wanted).clone();
        let update = |subscriptions, unsubscribe, start| Command::UpdateGroup {
            name: plan.name.clone(),
            settings: None,
            subscriptions,
            unsubscribe,
            start,
        };
        self.orders(update(Vec::new(), vec![gone.topic.clone()], Start::Oldest));
        let back = update(vec![gone], Vec::new(), *self.chance.pick(&[Start::Oldest, Start::Newest]));
        let after = self.chance.around(10_000);
        self.later(after, Act::Person(PersonAct::Order(Box::new(back))));
    }

    fn changes_settings(&mut self) {
        let (of, as_of) = (self.any_group(), self.chance.pick(&self.plan.groups).settings.clone());
        let settings: Option<GroupSettings> = Some(as_of);
        self.orders(Command::UpdateGroup {
            name: of,
            settings,
            subscriptions: Vec::new(),
            unsubscribe: Vec::new(),
            start: Start::Oldest,
        });
    }

    fn removes_a_topic(&mut self) {
        let topic = self.chance.pick(&self.plan.topics).clone();
        let force = self.chance.percent(30);
        self.orders(Command::DeleteTopic { name: topic.0.clone(), force });
        let again = Command::CreateTopic { name: topic.0, settings: topic.1 };
        let after = self.chance.around(5_000);
        self.later(after, Act::Person(PersonAct::Order(Box::new(again))));
    }

    fn changes_a_topic(&mut self) {
        let name = self.any_topic();
        let settings = self.chance.pick(&self.plan.topics).1;
        self.orders(Command::UpdateTopic { name, settings });
    }
}
