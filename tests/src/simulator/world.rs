//! The run itself: the agenda moves time, clients and the person act, the broker takes turns, the model judges, and
//! things go wrong as the plan says.

use std::collections::VecDeque;

use escrow_broker::engine::{Command, ConsumerConnected, Effect, Input, NewMessage, Outcome, SessionId};

use super::agenda::{Act, Agenda, Asker};
use super::broker::{Accident, Broker, End, FailModeHash, Round};
use super::chance::Chance;
use super::clock::Clock;
use super::consumers::{Consumer, ConsumerAct};
use super::model::{Model, Verdict, require};
use super::persons::PersonAct;
use super::plan::Plan;
use super::producers::{Producer, ProducerAct};
use super::trace::Trace;

/// Turns in a row that may be wanted at once without time going on: more is a broker that spins.
const TURNS_AT_ONCE_MAX: u32 = 5_000;

/// Large jumps of the wall clock, milliseconds.
const HOUR_MS: i64 = 3_600_000;
const TEN_YEARS_MS: i64 = 3_650 * 24 * HOUR_MS;

/// How long everybody is busy in a drill, milliseconds: it is run again for each of its turns.
const DRILL_BUSY_MS: u64 = 12_000;

/// When and how the process dies in a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// In which turn; 0 is the first of the run.
    pub turn: u64,
    /// At which moment of it.
    pub moment: Moment,
}

/// A moment of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The sync is held, and never comes: nothing of the turn is durable.
    BeforeCommit,
    /// All of it is durable, and nobody was told.
    AfterCommit,
    /// All of it is durable, and some were told.
    AmidAnswers,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BeforeCommit, Self::AfterCommit, Self::AmidAnswers];

    fn accident(self) -> Accident {
        match self {
            Self::BeforeCommit => Accident::CrashBefore,
            Self::AfterCommit => Accident::CrashAfter,
            Self::AmidAnswers => Accident::CrashAmid,
        }
    }
}

/// Everything there is.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) chance: Chance,
    pub(super) clock: Clock,
    pub(super) agenda: Agenda,
    pub(super) broker: Broker,
    pub(super) model: Model,
    pub(super) trace: Trace,
    pub(super) producers: Vec<Producer>,
    pub(super) consumers: Vec<Consumer>,
    /// What was published, for sending it again.
    pub(super) messages_sent: Vec<NewMessage>,
    /// Everybody is healthy and nothing fails any more.
    pub(super) is_draining: bool,
    /// Turns taken so far.
    pub(super) turns: u64,
    /// Turns taken when the last one became durable.
    durable_at: u64,
    /// Something was answered or sent out before its turn was durable.
    has_leaked: bool,
    /// The one accident of a drill, instead of those that the plan draws.
    drill: Option<Strike>,
    inbox: VecDeque<(Asker, Input)>,
    sessions: u64,
    turns_at_once: u32,
}

impl World {
    pub(super) fn new(seed: u64, readable: bool) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::of(&mut chance.fork());
        let producers = plan.producers.iter().map(|plan| Producer { plan: plan.clone(), session: None });
        let consumers = plan.consumers.iter().map(|plan| {
            let group = plan.group.clone();
            Consumer { plan: plan.clone(), session: None, group }
        });
        Self {
            producers: producers.collect(),
            consumers: consumers.collect(),
            broker: Broker::new(&plan.settings, chance.number()),
            model: Model::new(&plan.settings),
            clock: Clock::new(),
            agenda: Agenda::default(),
            trace: Trace::new(readable),
            messages_sent: Vec::new(),
            is_draining: false,
            turns: 0,
            durable_at: 0,
            has_leaked: false,
            drill: None,
            inbox: VecDeque::new(),
            sessions: 0,
            turns_at_once: 0,
            plan,
            chance,
        }
    }

    /// A short run in which the one accident is `strike`.
    pub(super) fn drill(seed: u64, readable: bool, strike: Strike) -> Self {
        let mut world = Self::new(seed, readable);
        world.plan.busy_ms = world.plan.busy_ms.min(DRILL_BUSY_MS);
        world.drill = Some(strike);
        world
    }

    /// What everybody begins with.
    pub(super) fn begin(&mut self) {
        self.later(0, Act::Start);
        for (name, settings) in self.plan.topics.clone() {
            let order = Command::CreateTopic { name, settings };
            self.later(1, Act::Person(PersonAct::Order(Box::new(order))));
        }
        for number in 0..self.plan.groups.len() {
            let at = 2 + self.plan.groups[number].made_at_ms;
            self.later(at, Act::Person(PersonAct::MakeGroup(number)));
        }
        for number in 0..self.producers.len() {
            self.later(10, Act::Producer(number, ProducerAct::Connect));
            let first = 20 + self.chance.around(2_000);
            self.later(first, Act::Producer(number, ProducerAct::Work));
        }
        for number in 0..self.consumers.len() {
            let first = 10 + self.chance.around(2_000);
            self.later(first, Act::Consumer(number, ConsumerAct::Connect));
        }
        let first = self.chance.around(self.plan.person_pause_ms);
        self.later(first, Act::Person(PersonAct::Work));
        if self.plan.faults.clock_jumps {
            self.later(30_000, Act::ClockJump);
        }
        if self.plan.faults.low_room {
            self.later(40_000, Act::Room { is_low: true });
        }
    }

    pub(super) fn later(&mut self, after_ms: u64, act: Act) {
        self.agenda.plan(self.clock.elapsed_ms() + after_ms, act);
    }

    pub(super) fn ask(&mut self, asker: Asker, input: Input) {
        self.inbox.push_back((asker, input));
    }

    pub(super) fn new_session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    /// Lets time pass until `until_ms` since the beginning.
    pub(super) fn run_until(&mut self, until_ms: u64) -> Verdict {
        while let Some(at_ms) = self.next_event().filter(|at_ms| *at_ms <= until_ms) {
            self.step(at_ms)?;
        }
        self.clock.advance_to(until_ms);
        Ok(())
    }

    /// When something happens next, milliseconds since the beginning.
    pub(super) fn next_event(&self) -> Option<u64> {
        let elapsed_ms = self.clock.elapsed_ms();
        if !self.inbox.is_empty() && self.broker.is_running() {
            return Some(elapsed_ms);
        }
        let wake =
            self.broker.next_wake(self.clock.now()).map(|after_ms| elapsed_ms.saturating_add(after_ms));
        wake.into_iter().chain(self.agenda.next_at()).min()
    }

    fn step(&mut self, at_ms: u64) -> Verdict {
        if at_ms > self.clock.elapsed_ms() {
            self.turns_at_once = 0;
        }
        self.turns_at_once += 1;
        require!(
            self.turns_at_once < TURNS_AT_ONCE_MAX,
            "the broker spins: it wants turn after turn and nothing comes of it"
        );
        self.clock.advance_to(at_ms + self.chance.below(self.plan.flush_ms + 1));
        while let Some(act) = self.agenda.take(self.clock.elapsed_ms()) {
            self.act(act)?;
        }
        if !self.broker.is_running() {
            self.nobody_answers();
            return Ok(());
        }
        self.turn()
    }

    fn act(&mut self, act: Act) -> Verdict {
        self.trace.line(|| format!("{:>9} {act:?}", self.clock.elapsed_ms()));
        match act {
            Act::Producer(number, act) => self.producer_acts(number, act),
            Act::Consumer(number, act) => self.consumer_acts(number, act),
            Act::Person(act) => self.person_acts(act),
            Act::Start => return self.start(),
            Act::ClockJump => self.clock_jumps(),
            Act::Room { is_low } => self.room_changes(is_low),
        }
        Ok(())
    }

    fn clock_jumps(&mut self) {
        let drawn = self.chance.between(0, 120_000);
        // Most are those of a clock that people keep; every fifth is that of a machine whose clock was lost, or came back.
        let by_ms = match drawn % 15 {
            0 => HOUR_MS,
            // What is planned waits longer then: once is enough for a run that ends.
            1 if self.clock.skew_ms() >= 0 => -HOUR_MS,
            2 => TEN_YEARS_MS,
            _ => drawn as i64 - 50_000,
        };
        self.clock.jump(by_ms);
        if !self.is_draining {
            let next = self.chance.around(60_000);
            self.later(next, Act::ClockJump);
        }
    }

    fn room_changes(&mut self, is_low: bool) {
        let is_low = is_low && !self.is_draining;
        self.broker.set_room(is_low);
        if !self.is_draining {
            let next = self.chance.around(if is_low { 10_000 } else { 60_000 });
            self.later(next, Act::Room { is_low: !is_low });
        }
    }

    fn start(&mut self) -> Verdict {
        self.clock.restart();
        let recovered = self.broker.start(self.clock.now())?;
        self.trace.line(|| format!("{:>9} started: {recovered:?}", self.clock.elapsed_ms()));
        self.model.is_recovered(&recovered)
    }

    /// One turn of the broker with what is in the inbox.
    fn turn(&mut self) -> Verdict {
        let (askers, inputs) = self.take_inbox();
        let accident = self.draw_accident();
        self.turns += 1;
        let now = self.clock.now();
        let round = self.broker.turn(now, inputs, accident)?;
        self.trace_round(&round, accident);
        if matches!(round.end, End::Answered | End::AnsweredInPart | End::Unanswered) {
            self.durable_at = self.turns;
            self.model.durable(now, &round.answers, &round.batch, &round.effects)?;
        }
        if round.end != End::Answered {
            let mut askers = askers;
            if round.end == End::AnsweredInPart {
                let told = askers.len().div_ceil(2);
                for (asker, (_, outcome)) in askers.drain(..told).zip(&round.answers) {
                    self.hears(asker, Some(outcome));
                }
            }
            self.everybody_is_cut_off(askers);
            self.nothing_leaked()?;
            if round.end != End::Refused {
                let pause = self.chance.around(500);
                self.later(pause, Act::Start);
            }
            return Ok(());
        }
        for (asker, (_, outcome)) in askers.into_iter().zip(&round.answers) {
            self.hears(asker, Some(outcome));
        }
        self.dispatch(&round.effects);
        self.deliver()
    }

    fn deliver(&mut self) -> Verdict {
        // The driver reads the clock again after the flush.
        let flushed_at = self.clock.elapsed_ms() + self.chance.below(3);
        self.clock.advance_to(flushed_at);
        let now = self.clock.now();
        let effects = self.broker.deliver(now)?;
        for effect in &effects {
            self.trace.line(|| format!("          {effect:?}"));
        }
        self.model.delivered(now, &effects)?;
        self.dispatch(&effects);
        self.nothing_leaked()?;
        let twin = self.chance.percent(3);
        if twin { self.compare_with_twin() } else { Ok(()) }
    }

    /// What joins this turn. Orders about topics and groups go alone: what else
    /// happens is told apart.
    fn take_inbox(&mut self) -> (Vec<Asker>, Vec<Input>) {
        let alone = self.inbox.iter().position(|(_, input)| goes_alone(input));
        let count = match alone {
            Some(0) => 1,
            Some(at) => at,
            None => self.inbox.len(),
        };
        self.inbox.drain(..count).unzip()
    }

    fn draw_accident(&mut self) -> Accident {
        let faults = self.plan.faults;
        if let Some(strike) = self.drill {
            return if strike.turn == self.turns { strike.moment.accident() } else { Accident::None };
        }
        if self.is_draining {
            return Accident::None;
        }
        let kept = if self.chance.percent(50) { FailModeHash::Kept } else { FailModeHash::Lost };
        if self.chance.permille(faults.crash_before_permille) {
            Accident::CrashBefore
        } else if self.chance.permille(faults.crash_after_permille) {
            Accident::CrashAfter
        } else if self.chance.permille(faults.io_permille) {
            Accident::SyncFails(kept)
        } else if self.chance.permille(faults.refuse_permille) {
            Accident::Refused
        } else {
            Accident::None
        }
    }

    /// What the process had in memory is gone: nobody in this turn was answered, and every stream is broken.
    fn everybody_is_cut_off(&mut self, askers: Vec<Asker>) {
        self.model.crashed();
        askers.into_iter().for_each(|asker| self.hears(asker, None));
        self.nobody_answers();
        for number in 0..self.producers.len() {
            self.producers[number].session = None;
            let pause = 100 + self.chance.around(2_000);
            self.later(pause, Act::Producer(number, ProducerAct::Connect));
        }
        for number in 0..self.consumers.len() {
            self.consumers[number].session = None;
            let pause = 100 + self.chance.around(2_000);
            self.later(pause, Act::Consumer(number, ConsumerAct::Connect));
        }
    }

    /// What waits while there is no process finds nobody.
    fn nobody_answers(&mut self) {
        // What is asked in reply to this waits for the next process.
        for (asker, _) in std::mem::take(&mut self.inbox) {
            self.hears(asker, None);
        }
        self.inbox.clear();
    }

    /// Invariant: what leaves belongs to a turn that is durable.
    fn nothing_leaked(&self) -> Verdict {
        require!(!self.has_leaked, "something was answered or sent out before its turn was durable");
        Ok(())
    }

    fn hears(&mut self, asker: Asker, outcome: Option<&Outcome>) {
        self.has_leaked |= outcome.is_some() && self.durable_at != self.turns;
        match asker {
            Asker::Producer(number, asked) => self.producer_hears(number, asked, outcome),
            Asker::Consumer(number, asked) => self.consumer_hears(number, asked, outcome),
            Asker::Nobody => {}
        }
    }

    fn dispatch(&mut self, effects: &[Effect]) {
        self.has_leaked |= !effects.is_empty() && self.durable_at != self.turns;
        for effect in effects {
            match effect {
                Effect::AskCheck(question) => self.producer_is_asked(question.clone()),
                Effect::Deliver(delivery) => {
                    self.trace.mix(&(delivery.token.0, delivery.offset.0, delivery.attempt));
                    self.consumer_takes(delivery);
                }
                Effect::Close(session, _) => self.stream_ended(*session),
            }
        }
    }

    /// The broker ended a stream; its client comes back.
    fn stream_ended(&mut self, session: SessionId) {
        if let Some(number) = self.consumers.iter().position(|it| it.session == Some(session)) {
            self.consumers[number].session = None;
            // The edge tells of every stream that ended, whoever ended it.
            self.ask(Asker::Nobody, Input::SessionClosed(session));
            let pause = self.chance.around(4_000);
            self.later(pause, Act::Consumer(number, ConsumerAct::Connect));
        }
    }

    fn trace_round(&mut self, round: &Round, accident: Accident) {
        let at = self.clock.now();
        self.trace.mix(&(at.unix_ms, at.mono_ms, accident, round.end));
        for (key, edit) in round.batch.iter() {
            match edit.value() {
                Some(value) => self.trace.mix(&(key, value)),
                None => self.trace.mix(&key),
            }
        }
        for (input, outcome) in &round.answers {
            self.trace.mix(&outcome.is_ok());
            self.trace.line(|| format!("          {} → {outcome:?}", super::trace::brief(input)));
        }
        let (end, edits) = (round.end, round.batch.len());
        self.trace.line(|| format!("          turn at {at:?}: {edits} edits, {accident:?}, {end:?}"));
        for effect in &round.effects {
            self.trace.line(|| format!("          {effect:?}"));
        }
    }
}

/// An input after which topics, groups or places are there, gone or elsewhere.
fn goes_alone(input: &Input) -> bool {
    matches!(
        input,
        Input::ConsumerConnected(ConsumerConnected { subscriptions, .. }) if !subscriptions.is_empty()
    ) || matches!(
        input,
        Input::Command(
            _,
            Command::DeleteGroup { .. }
                | Command::DeleteTopic { .. }
                | Command::UpdateGroup { .. }
                | Command::CreateGroup { .. }
                | Command::CreateTopic { .. }
                | Command::Seek { .. }
        )
    )
}
