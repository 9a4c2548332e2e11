//! What peers send: messages {kind u8, length u16, bytes}, turned into inputs as the edge does, and handed to the real
//! engine, a turn each, over a store in memory.

use escrow_broker::engine::{Boot, Effect, Engine, Input, Now, Outcome, Reply, Settings, Turn};
use escrow_broker::grpc::fuzzing::Wire;
use escrow_protocol::{LeaseToken, ShardId, TransactionId};
use escrow_storage::{MemStore, Store};

/// Time between two messages, milliseconds: enough for timers to fall due now and then.
const STEP_MS: u64 = 700;
/// Unix milliseconds of the first.
const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;
/// Tokens and transactions up to this number stand for those that the broker gave, in order: nobody can guess them.
const NTH_MAX: u64 = 255;

struct Peer {
    engine: Engine,
    store: MemStore,
    now: Now,
    tokens: Vec<LeaseToken>,
    transactions: Vec<TransactionId>,
}

/// Sends `bytes` and looks whether the engine holds its laws, and can be recovered.
pub(super) fn run(bytes: &[u8]) {
    let mut settings = Settings::default();
    settings.topics.create_on_use = true;
    let mut store = MemStore::new();
    let now = Now { unix_ms: BEGIN_UNIX_MS, mono_ms: 0 };
    let mut peer = Peer {
        engine: start(&mut store, &settings, now),
        store,
        now,
        tokens: Vec::new(),
        transactions: Vec::new(),
    };
    let mut wire = Wire::default();
    let mut rest = bytes;
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (message, next) = behind.split_at(length);
        rest = next;
        if let Ok(inputs) = wire.take(*kind, message) {
            peer.turn(inputs);
        }
    }
    peer.turn(Vec::new());
    start(&mut peer.store, &settings, peer.now).assert_invariants();
}

fn start(store: &mut MemStore, settings: &Settings, now: Now) -> Engine {
    let boot = Boot { shard: ShardId(0), epoch: store.epoch(), seed: 1, settings: settings.clone() };
    let (engine, recovered) = Engine::recover(boot, now, &store.reader()).expect("memory can be read");
    assert!(recovered.damaged.is_empty(), "what a peer sent damaged {:?}", recovered.damaged);
    engine
}

impl Peer {
    fn turn(&mut self, inputs: Vec<Input>) {
        self.now = self.now + STEP_MS;
        let reader = self.store.reader();
        let mut turn = Turn::new(&reader, self.store.room());
        for input in inputs {
            let input = self.meant(input);
            let outcome = self.engine.handle(self.now, &mut turn, input);
            self.remember(&outcome);
        }
        self.engine.fire(self.now, &mut turn);
        let finished = self.engine.finish(self.now, turn).expect("memory can be read");
        if !finished.batch.is_empty() {
            self.store.commit(finished.batch).expect("memory takes all that is written");
        }
        let delivered = self.engine.deliver(self.now, &reader).expect("memory can be read");
        self.tokens.extend(delivered.iter().filter_map(|effect| match effect {
            Effect::Deliver(delivery) => Some(delivery.token),
            Effect::AskCheck(_) | Effect::Close(..) => None,
        }));
        self.engine.assert_invariants();
        assert!(self.engine.take_reports().is_empty(), "what a peer sent is reported as damage");
    }

    fn meant(&self, input: Input) -> Input {
        let nth = |number: u64, of: usize| (number <= NTH_MAX && of > 0).then(|| number as usize % of);
        match input {
            Input::Settle(mut settle) => {
                if let Some(nth) = nth(settle.token.0, self.tokens.len()) {
                    settle.token = self.tokens[nth];
                }
                Input::Settle(settle)
            }
            Input::Decide(mut decide) => {
                if let Some(nth) = nth(decide.transaction.as_u64(), self.transactions.len()) {
                    decide.transaction = self.transactions[nth];
                }
                Input::Decide(decide)
            }
            input => input,
        }
    }

    fn remember(&mut self, outcome: &Outcome) {
        if let Ok(Reply::Prepared { transaction, .. }) = outcome {
            self.transactions.push(*transaction);
        }
    }
}
