//! Micro-benchmarks of the broker's inner parts: keys, records, and turns of the engine over a store in memory.
//!
//! `cargo bench -p escrow-tests --bench broker`

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use escrow_broker::engine::{
    Boot, CheckOverrides, Command, ConsumerConnected, Credit, Decide, Effect, Engine, Input, NewMessage, Now,
    Operator, Reply, SendHalf, SessionId, Settings, Settle, Start, Turn, Verb, Wanted,
};
use escrow_broker::records::{Decision, Message, Record as _, Role, TopicNumber, keys};
use escrow_protocol::{LeaseToken, MessageId, Offset, ShardId, TransactionId};
use escrow_storage::{MemDisk, MemStore, Room, Store as _};

/// Inputs of a turn under load.
const IN_A_TURN: usize = 64;
const BODY_BYTES: usize = 1024;

fn main() {
    divan::main();
}

#[divan::bench]
fn key_of_a_queue_place(bencher: Bencher<'_, '_>) {
    bencher.bench(|| keys::queue(black_box(TopicNumber(7)), black_box(Offset(123_456))));
}

#[divan::bench]
fn key_of_a_queue_place_read(bencher: Bencher<'_, '_>) {
    let key = keys::queue(TopicNumber(7), Offset(123_456));
    bencher.bench(|| keys::queue_of(black_box(&key)));
}

#[divan::bench]
fn record_of_a_message_encoded(bencher: Bencher<'_, '_>) {
    let message = message(1);
    bencher.bench(|| black_box(&message).encode());
}

#[divan::bench]
fn record_of_a_message_decoded(bencher: Bencher<'_, '_>) {
    let record = message(1).encode();
    bencher.bench(|| Message::decode(black_box(record.clone())));
}

/// 64 messages published: handled, and their batch applied in memory.
#[divan::bench]
fn turn_of_publishes(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(IN_A_TURN))
        .with_inputs(|| World::new().with_publishes())
        .bench_values(World::turned);
}

/// 64 half messages.
#[divan::bench]
fn turn_of_half_messages(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(IN_A_TURN))
        .with_inputs(|| World::new().with_halves())
        .bench_values(World::turned);
}

/// 64 commits.
#[divan::bench]
fn turn_of_commits(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(IN_A_TURN))
        .with_inputs(|| World::new().with_commits())
        .bench_values(World::turned);
}

/// 64 deliveries acked, and the next 64 leased.
#[divan::bench]
fn turn_of_acks(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(IN_A_TURN))
        .with_inputs(|| World::new().with_acks())
        .bench_values(World::turned);
}

fn message(number: u64) -> Message {
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&number.to_be_bytes());
    Message {
        id: MessageId::new(NOW.unix_ms, chance),
        topic: name("orders"),
        key: None,
        ordering_key: None,
        tag: None,
        headers: Vec::new(),
        deliver_at_ms: 0,
        time_to_live_ms: 0,
        body: Bytes::from(vec![7; BODY_BYTES]),
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a legal name")
}

const NOW: Now = Now { unix_ms: 1_000_000, mono_ms: 5_000 };

/// An engine and its store, and the inputs of its next turn.
struct World {
    store: MemStore,
    engine: Engine,
    next: Vec<Input>,
    messages: u64,
}

impl World {
    /// With a topic.
    fn new() -> Self {
        let store = MemStore::claim(&MemDisk::new());
        let boot = Boot { shard: ShardId(0), epoch: store.epoch(), seed: 7, settings: Settings::default() };
        let (engine, _) = Engine::recover(boot, NOW, &store.reader()).expect("an empty store recovers");
        let mut world = Self { store, engine, next: Vec::new(), messages: 0 };
        let operator = Operator { name: "bench".into(), reason: "a benchmark".into() };
        let topic = Command::CreateTopic { name: name("orders"), settings: Default::default() };
        world.turn(vec![Input::Command(operator, topic)]);
        world
    }

    fn message(&mut self) -> NewMessage {
        self.messages += 1;
        message(self.messages).into()
    }

    fn with_publishes(mut self) -> Self {
        self.next = (0..IN_A_TURN).map(|_| Input::Publish(self.message())).collect();
        self
    }

    fn with_halves(mut self) -> Self {
        self.next = (0..IN_A_TURN).map(|_| self.half()).collect();
        self
    }

    fn half(&mut self) -> Input {
        Input::SendHalf(SendHalf {
            group: name("orders"),
            client: name("producer-1"),
            kind: name("orders"),
            key: None,
            overrides: CheckOverrides::default(),
            messages: vec![self.message()],
        })
    }

    fn with_commits(self) -> Self {
        let mut world = self.with_halves();
        let halves = std::mem::take(&mut world.next);
        let (replies, _) = world.turn(halves);
        world.next = replies.into_iter().map(|reply| commit(prepared(reply))).collect();
        world
    }

    fn with_acks(mut self) -> Self {
        let publishes = (0..2 * IN_A_TURN).map(|_| Input::Publish(self.message())).collect();
        self.turn(publishes);
        let session = SessionId(1);
        let hello = ConsumerConnected {
            session,
            client: name("consumer"),
            group: name("billing"),
            subscriptions: vec![Wanted { topic: name("orders"), tags: Vec::new() }],
            broadcast: false,
            start: Start::Oldest,
            detached: false,
            address: String::new(),
        };
        let credit = |messages| Input::Credit(Credit { session, messages, bytes: 1 << 30 });
        let (_, effects) = self.turn(vec![Input::ConsumerConnected(hello), credit(IN_A_TURN as u32)]);
        let tokens: Vec<_> = effects.into_iter().filter_map(token).collect();
        assert_eq!(tokens.len(), IN_A_TURN, "the credit is used");
        self.next = tokens.into_iter().map(ack).chain([credit(IN_A_TURN as u32)]).collect();
        self
    }

    fn turn(&mut self, inputs: Vec<Input>) -> (Vec<Reply>, Vec<Effect>) {
        let view = self.store.reader();
        let mut turn = Turn::new(&view, Room::Enough);
        let handle = |input| self.engine.handle(NOW, &mut turn, input).expect("not refused");
        let replies = inputs.into_iter().map(handle).collect();
        self.engine.fire(NOW, &mut turn);
        let finished = self.engine.finish(NOW, turn).expect("the store works");
        self.store.commit(finished.batch).expect("the store works");
        let mut effects = finished.effects;
        effects.extend(self.engine.deliver(NOW, &self.store.reader()).expect("the store works"));
        (replies, effects)
    }

    /// After the turn: dropping it is not measured.
    fn turned(mut self) -> (Self, Vec<Effect>) {
        let next = std::mem::take(&mut self.next);
        let (_, effects) = self.turn(next);
        (self, effects)
    }
}

fn prepared(reply: Reply) -> TransactionId {
    match reply {
        Reply::Prepared { transaction, .. } => transaction,
        other => panic!("a half message was answered {other:?}"),
    }
}

fn commit(transaction: TransactionId) -> Input {
    Input::Decide(Decide {
        transaction,
        decision: Decision::Commit,
        role: Role::Producer,
        group: Some(name("orders")),
        name: "producer-1".into(),
        reason: String::new(),
    })
}

fn ack(token: LeaseToken) -> Input {
    Input::Settle(Settle { group: name("billing"), token, verb: Verb::Ack })
}

fn token(effect: Effect) -> Option<LeaseToken> {
    match effect {
        Effect::Deliver(delivery) => Some(delivery.token),
        _ => None,
    }
}
