//! Delays are never early, and late by little, with a million of them planned at once and a restart amid them: the real
//! engine on a simulated clock, its turns paced as the driver paces them. A third of the timers are scheduled messages,
//! a third retries, a third first checks.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use escrow_broker::engine::{
    Boot, CheckAnswered, CheckOverrides, ConsumerConnected, Credit, Effect, Engine, Input, NewMessage, Now,
    ProducerConnected, Reply, SendHalf, SessionId, Settings, Settle, Start, Turn, Verb, Wanted,
};
use escrow_broker::records::{Decision, Message};
use escrow_protocol::{LeaseToken, MessageId, ShardId, TransactionId};
use escrow_storage::{MemDisk, MemStore, Store};
use escrow_tests::rig::Trials;

/// Unix milliseconds at the beginning.
const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;
/// Timers that fall due in a second, once all are planned.
const DUE_PER_SECOND: u64 = 2_000;
/// What a turn costs on the simulated clock, microseconds: a slow disk's sync, and its work by edit and input.
const TURN_US: u64 = 4_000;
const EDIT_US: u64 = 10;
const INPUT_US: u64 = 5;
/// As the driver does it.
const TURN_INPUTS_MAX: usize = 1_024;
/// How long the broker is away, milliseconds.
const DOWN_MS: u64 = 2_000;
/// What may be late of a thousand is not looked at; the rest is late by at most this, and a hundredth of its delay.
const LATE_MS_MAX: u64 = 100;
/// With all timers due, this much longer is waited for those that are missing, milliseconds.
const GRACE_MS: u64 = 60_000;

const PRODUCER: SessionId = SessionId(1);
const CONSUMER: SessionId = SessionId(2);

/// A timer, from when it was planned.
#[derive(Debug, Clone, Copy)]
struct Timer {
    planned_at_ms: u64,
    due_ms: u64,
    fired_at_ms: Option<u64>,
}

struct World {
    disk: MemDisk,
    settings: Settings,
    engine: Engine,
    store: MemStore,
    /// Microseconds since the beginning, and when this process began.
    elapsed_us: u64,
    began_us: u64,
    inbox: VecDeque<Input>,
    /// By the number of its message.
    timers: Vec<Timer>,
    /// Numbers of those whose message is delivered twice: the first delivery is failed, with the delay planned.
    retries: HashMap<u64, u64>,
    by_transaction: HashMap<TransactionId, u64>,
    early: Vec<String>,
}

impl World {
    fn new(count: u64) -> Self {
        let mut settings = Settings::default();
        settings.topics.create_on_use = true;
        settings.transactions.check_jitter_percent = 0;
        settings.transactions.questions_per_checker_max = 4_096;
        settings.limits.retrying_per_group_max = count as usize;
        let disk = MemDisk::new();
        let mut store = MemStore::claim(&disk);
        let engine = recover(&mut store, &settings, Now { unix_ms: BEGIN_UNIX_MS, mono_ms: 0 });
        Self {
            disk,
            settings,
            engine,
            store,
            elapsed_us: 0,
            began_us: 0,
            inbox: VecDeque::new(),
            timers: Vec::new(),
            retries: HashMap::new(),
            by_transaction: HashMap::new(),
            early: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            unix_ms: BEGIN_UNIX_MS + self.elapsed_us / 1_000,
            mono_ms: (self.elapsed_us - self.began_us) / 1_000,
        }
    }

    fn connect(&mut self) {
        let name = |text: &str| text.parse().expect("a legal name");
        self.inbox.push_back(Input::ProducerConnected(ProducerConnected {
            session: PRODUCER,
            client: "p".parse().expect("a legal name"),
            group: "shop".parse().expect("a legal name"),
            kinds: vec!["shop".parse().expect("a legal name")],
            address: "here".to_owned(),
        }));
        self.inbox.push_back(Input::ConsumerConnected(ConsumerConnected {
            session: CONSUMER,
            client: "c".parse().expect("a legal name"),
            group: "billing".parse().expect("a legal name"),
            subscriptions: vec![Wanted { topic: name("t"), tags: Vec::new() }],
            broadcast: false,
            start: Start::Oldest,
            detached: false,
            address: "here".to_owned(),
        }));
        self.credit(50_000);
    }

    fn credit(&mut self, messages: u32) {
        let bytes = u64::from(messages) * 64;
        self.inbox.push_back(Input::Credit(Credit { session: CONSUMER, messages, bytes }));
    }

    /// Plans timer `number`, to fall due at `due_ms`.
    fn plan(&mut self, number: u64, due_ms: u64) {
        let now_ms = self.now().unix_ms;
        self.timers.push(Timer { planned_at_ms: now_ms, due_ms, fired_at_ms: None });
        let input = match number % 3 {
            0 => Input::Publish(message(number, due_ms)),
            1 => {
                self.retries.insert(number, due_ms);
                Input::Publish(message(number, 0))
            }
            _ => Input::SendHalf(SendHalf {
                group: "shop".parse().expect("a legal name"),
                client: "p".parse().expect("a legal name"),
                kind: "shop".parse().expect("a legal name"),
                key: None,
                // Counted from the turn that takes it: seen there.
                overrides: CheckOverrides {
                    first_check_after_ms: Some(due_ms - now_ms),
                    ..CheckOverrides::default()
                },
                messages: vec![message(number, 0)],
            }),
        };
        self.inbox.push_back(input);
    }

    /// A turn as the driver takes it, and what it costs.
    fn turn(&mut self) {
        let now = self.now();
        let inputs: Vec<Input> = self.inbox.drain(..self.inbox.len().min(TURN_INPUTS_MAX)).collect();
        let taken = inputs.len() as u64;
        let reader = self.store.reader();
        let mut turn = Turn::new(&reader, self.store.room());
        for input in inputs {
            let number = match &input {
                Input::SendHalf(half) => Some(number_of(half.messages[0].id)),
                _ => None,
            };
            let is_settlement = matches!(input, Input::Settle(_));
            let outcome = self.engine.handle(now, &mut turn, input);
            match (number, outcome) {
                (Some(number), Ok(Reply::Prepared { transaction, .. })) => {
                    self.by_transaction.insert(transaction, number);
                    let timer = &mut self.timers[number as usize];
                    timer.due_ms += now.unix_ms - timer.planned_at_ms;
                    timer.planned_at_ms = now.unix_ms;
                }
                (_, Err(refusal)) if !is_settlement => panic!("refused: {refusal}"),
                _ => {}
            }
        }
        self.engine.fire(now, &mut turn);
        let finished = self.engine.finish(now, turn).expect("memory can be read");
        let cost_us = TURN_US + finished.batch.len() as u64 * EDIT_US + taken * INPUT_US;
        if !finished.batch.is_empty() {
            self.store.commit(finished.batch).expect("memory takes all that is written");
            self.elapsed_us += cost_us;
        }
        let now = self.now();
        let mut effects = finished.effects;
        effects.extend(self.engine.deliver(now, &reader).expect("memory can be read"));
        self.elapsed_us += effects.len() as u64 * INPUT_US;
        let delivered = effects.iter().filter(|effect| matches!(effect, Effect::Deliver(_))).count();
        for effect in effects {
            self.take(effect);
        }
        if delivered > 0 {
            self.credit(delivered as u32);
        }
    }

    fn take(&mut self, effect: Effect) {
        let now_ms = self.now().unix_ms;
        match effect {
            Effect::AskCheck(question) => {
                let number = self.by_transaction[&question.transaction];
                self.fired(number);
                self.inbox.push_back(Input::CheckAnswered(CheckAnswered {
                    session: PRODUCER,
                    transaction: question.transaction,
                    check: question.check,
                    verdict: Some(Decision::Commit),
                }));
            }
            Effect::Deliver(delivery) => {
                let number = number_of(delivery.id);
                if let Some(due_ms) = self.retries.remove(&number) {
                    // Counted from the turn that takes the nack: at the earliest now.
                    let delay_ms = due_ms.saturating_sub(now_ms);
                    let timer = &mut self.timers[number as usize];
                    (timer.planned_at_ms, timer.due_ms) = (now_ms, now_ms + delay_ms);
                    self.settle(
                        delivery.token,
                        Verb::Nack { delay_ms: Some(delay_ms), reason: String::new() },
                    );
                    return;
                }
                if number % 3 != 2 {
                    self.fired(number);
                }
                self.settle(delivery.token, Verb::Ack);
            }
            Effect::Close(..) => panic!("a session was closed: {effect:?}"),
        }
    }

    fn settle(&mut self, token: LeaseToken, verb: Verb) {
        let group = "billing".parse().expect("a legal name");
        self.inbox.push_back(Input::Settle(Settle { group, token, verb }));
    }

    /// Invariant: no timer fires before it is due. Again, after a restart, is not early.
    fn fired(&mut self, number: u64) {
        let now_ms = self.now().unix_ms;
        let timer = &mut self.timers[number as usize];
        if now_ms < timer.due_ms {
            self.early.push(format!("timer {number} fired {} ms early: {timer:?}", timer.due_ms - now_ms));
        }
        timer.fired_at_ms.get_or_insert(now_ms);
    }

    /// Turns, as they are wanted, until `until_ms`.
    fn run_until(&mut self, until_ms: u64) {
        loop {
            let now_ms = self.now().unix_ms;
            let wake_ms = match self.inbox.is_empty() {
                false => 0,
                true => self.engine.next_wake(self.now()).unwrap_or(u64::MAX),
            };
            if now_ms.saturating_add(wake_ms) > until_ms {
                self.elapsed_us = self.elapsed_us.max((until_ms - BEGIN_UNIX_MS) * 1_000);
                return;
            }
            // A wait ends within the millisecond that it was meant to end in, or just behind it.
            self.elapsed_us += wake_ms * 1_000;
            self.turn();
        }
    }

    /// Dies and comes back: what fell due meanwhile is due at once. Returns when it was ready.
    fn restart(&mut self) -> u64 {
        self.inbox.clear();
        self.elapsed_us += DOWN_MS * 1_000;
        self.began_us = self.elapsed_us;
        self.store = MemStore::claim(&self.disk);
        let now = self.now();
        self.engine = recover(&mut self.store, &self.settings, now);
        self.connect();
        self.now().unix_ms
    }
}

fn recover(store: &mut MemStore, settings: &Settings, now: Now) -> Engine {
    let boot = Boot { shard: ShardId(0), epoch: store.epoch(), seed: 1, settings: settings.clone() };
    let (engine, recovered) = Engine::recover(boot, now, &store.reader()).expect("memory can be read");
    assert!(recovered.damaged.is_empty(), "{:?}", recovered.damaged);
    engine
}

fn message(number: u64, deliver_at_ms: u64) -> NewMessage {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    NewMessage::from(Message {
        id: MessageId::new(BEGIN_UNIX_MS, random),
        topic: "t".parse().expect("a legal name"),
        key: None,
        ordering_key: None,
        tag: None,
        headers: Vec::new(),
        deliver_at_ms,
        time_to_live_ms: 0,
        body: Bytes::new(),
    })
}

fn number_of(id: MessageId) -> u64 {
    u64::from_be_bytes(id.as_bytes()[8..].try_into().expect("eight bytes are left")) & 0xffff_ffff_ffff
}

#[test]
fn delays_are_never_early_and_late_by_little() {
    let trials = Trials::of("timers", "timers", 20_000);
    let mut rng = trials.rng(0);
    let mut world = World::new(trials.count);
    world.connect();

    // All are planned before the first falls due.
    let span_ms = (trials.count * 1_000 / DUE_PER_SECOND).max(5_000);
    let planning_ms = trials.count / 4 + 5_000;
    let first_due_ms = BEGIN_UNIX_MS + planning_ms;
    for number in 0..trials.count {
        world.plan(number, first_due_ms + rng.u64(0..span_ms));
        if world.inbox.len() >= TURN_INPUTS_MAX {
            world.turn();
        }
    }
    world.run_until(first_due_ms.max(world.now().unix_ms));
    let planned_ms = world.now().unix_ms - BEGIN_UNIX_MS;
    let waiting = world.timers.iter().filter(|timer| timer.fired_at_ms.is_none()).count();
    world.run_until(first_due_ms + span_ms / 2);
    let died_ms = world.now().unix_ms;
    let ready_ms = world.restart();
    world.run_until(first_due_ms + span_ms + GRACE_MS);
    world.engine.assert_invariants();

    let mut failures = std::mem::take(&mut world.early);
    failures.truncate(20);
    if planned_ms > planning_ms + 1_000 {
        failures
            .push(format!("planning took {planned_ms} ms: the first was due before the last was planned"));
    }
    let missing = world.timers.iter().filter(|timer| timer.fired_at_ms.is_none()).count();
    if missing > 0 {
        failures.push(format!("{missing} never fired"));
    }
    let mut late: Vec<u64> = Vec::with_capacity(world.timers.len());
    let mut beyond: Vec<u64> = Vec::with_capacity(world.timers.len());
    for timer in &world.timers {
        let Some(fired_at_ms) = timer.fired_at_ms else { continue };
        // What fell due while nobody was there is due when somebody is.
        let away = (died_ms..ready_ms).contains(&timer.due_ms);
        let due_ms = if away { ready_ms } else { timer.due_ms };
        let by_ms = fired_at_ms.saturating_sub(due_ms);
        late.push(by_ms);
        beyond.push(by_ms.saturating_sub(LATE_MS_MAX + (due_ms - timer.planned_at_ms.min(due_ms)) / 100));
    }
    let at = |sorted: &mut Vec<u64>, permille: usize| {
        sorted.sort_unstable();
        sorted
            .get((sorted.len() * permille / 1_000).min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    let (p50, p999, max) = (at(&mut late, 500), at(&mut late, 999), at(&mut late, 1_000));
    if at(&mut beyond, 999) > 0 {
        failures.push(format!("p99.9 is late by {} ms more than it may be", at(&mut beyond, 999)));
    }
    let seen = format!(
        "{waiting} planned at once, {DUE_PER_SECOND} due a second, a restart of {} ms amid them; late by {p50} ms \
         (p50), {p999} ms (p99.9), {max} ms (at most)",
        ready_ms - died_ms
    );
    let count = trials.count;
    trials.finish(count, &seen, &failures);
}
