//! The engine as its driver sees it: one turn after another over a store in memory. The simulator goes much further;
//! here each promise has one small example that a reader can follow.

use bytes::Bytes;
use escrow_protocol::{ClientId, GroupName, LeaseToken, MessageId, Offset, Reason, ShardId, Tag, TopicName};
use escrow_storage::{MemDisk, MemStore, Room, Store as _};

use super::*;
use crate::records::{
    Decision, GroupSettings, Message, OrderingPolicy, RetryDelays, RetryPolicy, Role, TransactionState,
};

mod alarms;
mod audit;
mod damage;
mod decisions;
mod deliveries;
mod jobs;
mod messages;
mod retries;
mod story;
mod transactions;

struct Bench {
    disk: MemDisk,
    store: MemStore,
    engine: Engine,
    now: Now,
    ids: u8,
    sessions: u64,
    /// Bytes of all batches, as the journal has them.
    written: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let disk = MemDisk::new();
        let store = MemStore::claim(&disk);
        let now = Now { unix_ms: 1_000_000, mono_ms: 5_000 };
        let engine = Self::boot(&store, now, settings);
        Self { disk, store, engine, now, ids: 0, sessions: 0, written: 0 }
    }

    fn boot(store: &MemStore, now: Now, settings: Settings) -> Engine {
        let boot = Boot { shard: ShardId(0), epoch: store.epoch(), seed: 7, settings };
        let (engine, recovered) = Engine::recover(boot, now, &store.reader()).expect("recovers");
        assert_eq!(recovered.damaged, Vec::<String>::new());
        engine.assert_invariants();
        engine
    }

    /// Damages the record at `key`, then kills and starts again, if it starts.
    fn restart_with_damage(&mut self, key: &[u8]) -> Result<Recovered, escrow_storage::ReadError> {
        assert!(self.disk.flip_bit_at(key), "there is no such record");
        self.try_restart()
    }

    /// Kill and start again, if it starts.
    fn try_restart(&mut self) -> Result<Recovered, escrow_storage::ReadError> {
        let settings = self.engine.settings.clone();
        self.store = MemStore::claim(&self.disk);
        let boot = Boot { shard: ShardId(0), epoch: self.store.epoch(), seed: 7, settings };
        let (engine, recovered) = Engine::recover(boot, self.now, &self.store.reader())?;
        self.engine = engine;
        Ok(recovered)
    }

    /// Kill and start again.
    fn restart(&mut self) {
        let settings = self.engine.settings.clone();
        self.store = MemStore::claim(&self.disk);
        self.engine = Self::boot(&self.store, self.now, settings);
    }

    /// One turn: the answers, and what went out.
    fn turn(&mut self, inputs: Vec<Input>) -> (Vec<Outcome>, Vec<Effect>) {
        let view = self.store.reader();
        let mut turn = Turn::new(&view, Room::Enough);
        let outcomes =
            inputs.into_iter().map(|input| self.engine.handle(self.now, &mut turn, input)).collect();
        self.engine.fire(self.now, &mut turn);
        let finished = self.engine.finish(self.now, turn).expect("the store works");
        self.written += finished.batch.iter().map(|(key, edit)| journaled(key, edit)).sum::<usize>();
        self.store.commit(finished.batch).expect("the store works");
        let mut effects = finished.effects;
        effects.extend(self.engine.deliver(self.now, &self.store.reader()).expect("the store works"));
        self.engine.assert_invariants();
        assert_eq!(self.engine.take_reports(), Vec::<String>::new());
        (outcomes, effects)
    }

    /// An input that the engine has handled when it dies: nothing of it was committed or answered.
    fn handle_and_die(&mut self, input: Input) {
        let view = self.store.reader();
        let mut turn = Turn::new(&view, Room::Enough);
        let _ = self.engine.handle(self.now, &mut turn, input);
        let _ = self.engine.finish(self.now, turn);
    }

    fn ask(&mut self, input: Input) -> Reply {
        self.turn(vec![input]).0.remove(0).expect("not refused")
    }

    fn refused(&mut self, input: Input) -> Reason {
        self.turn(vec![input]).0.remove(0).expect_err("refused").reason
    }

    /// Turns until nothing is left to do now, `ms` later.
    fn later(&mut self, ms: u64) -> Vec<Effect> {
        self.now = self.now + ms;
        let mut effects = Vec::new();
        for _ in 0..1000 {
            effects.extend(self.turn(vec![]).1);
            if self.engine.next_wake(self.now) != Some(0) {
                return effects;
            }
        }
        panic!("the engine never comes to rest");
    }

    fn message(&mut self, topic: &str) -> Message {
        self.ids += 1;
        Message {
            id: MessageId::new(self.now.unix_ms, [self.ids; 10]),
            topic: name(topic),
            key: Some(format!("key-{}", self.ids)),
            ordering_key: None,
            tag: None,
            headers: vec![],
            deliver_at_ms: 0,
            time_to_live_ms: 0,
            body: Bytes::from_static(b"body"),
        }
    }

    fn topic(&mut self, topic: &str) {
        self.ask(by_hand(Command::CreateTopic { name: name(topic), settings: Default::default() }));
    }

    fn publish(&mut self, message: Message) -> Option<Offset> {
        match self.ask(Input::Publish(message.into())) {
            Reply::Published { offset, duplicate: false } => offset,
            other => panic!("{other:?}"),
        }
    }

    fn half(&mut self, messages: Vec<Message>) -> escrow_protocol::TransactionId {
        match self.ask(half(messages)) {
            Reply::Prepared { transaction, state: TransactionState::Prepared, duplicate: false, .. } => {
                transaction
            }
            other => panic!("{other:?}"),
        }
    }

    fn session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    fn group(&mut self, group: &str, topic: &str, change: impl FnOnce(&mut GroupSettings)) {
        let mut settings = GroupDefaults::default().settings;
        change(&mut settings);
        self.ask(by_hand(Command::CreateGroup {
            name: name(group),
            subscriptions: vec![Wanted { topic: name(topic), tags: vec![] }],
            settings: Some(settings),
            start: Start::Oldest,
        }));
    }

    /// A consumer with plenty of credit, and what it is sent at once.
    fn consumer(&mut self, group: &str, topic: &str) -> (SessionId, Vec<Delivery>) {
        let session = self.session();
        let hello = ConsumerConnected {
            session,
            client: name("consumer"),
            group: name(group),
            subscriptions: vec![Wanted { topic: name(topic), tags: vec![] }],
            broadcast: false,
            start: Start::Oldest,
            detached: false,
            address: String::new(),
        };
        let credit = Credit { session, messages: 100, bytes: 1 << 20 };
        let (outcomes, effects) = self.turn(vec![Input::ConsumerConnected(hello), Input::Credit(credit)]);
        outcomes.into_iter().for_each(|outcome| drop(outcome.expect("joined")));
        (session, deliveries(effects))
    }

    fn checker(&mut self) -> (SessionId, Vec<Effect>) {
        let session = self.session();
        let (outcomes, effects) = self.turn(vec![Input::ProducerConnected(ProducerConnected {
            session,
            client: name("producer-1"),
            group: name("orders"),
            kinds: vec![name("orders")],
            address: String::new(),
        })]);
        assert_eq!(outcomes, vec![Ok(Reply::Welcome)]);
        (session, effects)
    }

    fn group_view(&mut self, group: &str) -> GroupView {
        match self.ask(Input::Inspect(Inspect::Group(name(group)))) {
            Reply::Seen(Seen::Group(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    fn status(&mut self) -> StatusView {
        match self.ask(Input::Inspect(Inspect::Status)) {
            Reply::Seen(Seen::Status(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    /// How many records of a keyspace there are.
    fn count(&self, space: u8) -> usize {
        use escrow_storage::Read as _;
        self.store.reader().scan(&keys::all(space), 10_000).expect("reads").len()
    }
}

/// Bytes of an edit in the journal (docs/format.md).
fn journaled(key: &[u8], edit: &escrow_storage::Edit) -> usize {
    match edit {
        escrow_storage::Edit::Put(value) | escrow_storage::Edit::Insert(value) => 7 + key.len() + value.len(),
        escrow_storage::Edit::Delete => 3 + key.len(),
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a legal name")
}

fn half(messages: Vec<Message>) -> Input {
    Input::SendHalf(SendHalf {
        group: name("orders"),
        client: name("producer-1"),
        kind: name("orders"),
        key: None,
        overrides: CheckOverrides::default(),
        messages: messages.into_iter().map(NewMessage::from).collect(),
    })
}

fn decide(transaction: escrow_protocol::TransactionId, decision: Decision) -> Input {
    let group = Some(name::<GroupName>("orders"));
    let (name, reason) = ("producer-1".into(), String::new());
    Input::Decide(Decide { transaction, decision, role: Role::Producer, group, name, reason })
}

fn settle(group: &str, token: LeaseToken, verb: Verb) -> Input {
    Input::Settle(Settle { group: name(group), token, verb })
}

fn nack() -> Verb {
    Verb::Nack { delay_ms: None, reason: "no stock".into() }
}

fn deliveries(effects: Vec<Effect>) -> Vec<Delivery> {
    let deliveries = effects.into_iter().filter_map(|effect| match effect {
        Effect::Deliver(delivery) => Some(delivery),
        _ => None,
    });
    deliveries.collect()
}

fn questions(effects: Vec<Effect>) -> Vec<CheckQuestion> {
    let questions = effects.into_iter().filter_map(|effect| match effect {
        Effect::AskCheck(question) => Some(question),
        _ => None,
    });
    questions.collect()
}

/// An order by a person.
fn by_hand(command: Command) -> Input {
    Input::Command(Operator { name: "ada".into(), reason: "a test".into() }, command)
}
