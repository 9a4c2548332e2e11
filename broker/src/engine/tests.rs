//! The engine as its driver sees it: one turn after another over a store in memory. The simulator goes much further;
//! here each promise has one small example that a reader can follow.

use bytes::Bytes;
use escrow_protocol::{ClientId, GroupName, LeaseToken, MessageId, Offset, Reason, ShardId, Tag, TopicName};
use escrow_storage::{MemDisk, MemStore, Room, Store as _};

use super::*;
use crate::records::{
    Decision, GroupSettings, Message, OrderingPolicy, RetryDelays, RetryPolicy, Role, TransactionState,
};

struct Bench {
    disk: MemDisk,
    store: MemStore,
    engine: Engine,
    now: Now,
    ids: u8,
    sessions: u64,
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
        Self { disk, store, engine, now, ids: 0, sessions: 0 }
    }

    fn boot(store: &MemStore, now: Now, settings: Settings) -> Engine {
        let boot = Boot { shard: ShardId(0), epoch: store.epoch(), seed: 7, settings };
        let (engine, recovered) = Engine::recover(boot, now, &store.reader()).expect("recovers");
        assert_eq!(recovered.damaged, Vec::<String>::new());
        engine.assert_invariants();
        engine
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
        self.store.commit(finished.batch).expect("the store works");
        let mut effects = finished.effects;
        effects.extend(self.engine.deliver(self.now, &self.store.reader()).expect("the store works"));
        self.engine.assert_invariants();
        assert_eq!(self.engine.take_reports(), Vec::<String>::new());
        (outcomes, effects)
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
        self.ask(Input::Command(Command::CreateTopic { name: name(topic), settings: Default::default() }));
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
        self.ask(Input::Command(Command::CreateGroup {
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

#[test]
fn a_half_message_is_seen_only_after_its_commit() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (session, _) = bench.consumer("billing", "paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message.clone()]);
    assert_eq!(deliveries(bench.later(0)), vec![]);

    let (outcomes, effects) = bench.turn(vec![decide(transaction, Decision::Commit)]);
    assert!(matches!(
        outcomes[0],
        Ok(Reply::Decided { state: TransactionState::Committed, duplicate: false, .. })
    ));
    let got = deliveries(effects);
    assert_eq!(
        got.iter().map(|d| (d.session, d.id, d.attempt)).collect::<Vec<_>>(),
        vec![(session, message.id, 1)]
    );
    assert_eq!(bench.ask(settle("billing", got[0].token, Verb::Ack)), Reply::Done);
    bench.later(0);
    assert_eq!((bench.count(keys::space::MESSAGE), bench.count(keys::space::QUEUE)), (0, 0));
}

#[test]
fn a_rolled_back_message_is_gone() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (_, _) = bench.consumer("billing", "paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.ask(decide(transaction, Decision::Rollback));
    assert_eq!(deliveries(bench.later(0)), vec![]);
    for space in [keys::space::MESSAGE, keys::space::PLACE, keys::space::QUEUE, keys::space::BUSINESS_KEY] {
        assert_eq!(bench.count(space), 0);
    }
}

#[test]
fn a_decision_is_final_and_repeatable_also_after_a_restart() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.ask(decide(transaction, Decision::Commit));
    for _ in 0..2 {
        assert!(matches!(
            bench.ask(decide(transaction, Decision::Commit)),
            Reply::Decided { state: TransactionState::Committed, duplicate: true, .. }
        ));
        let refusal =
            bench.turn(vec![decide(transaction, Decision::Rollback)]).0.remove(0).expect_err("refused");
        assert_eq!(refusal.reason, Reason::AlreadyDecided);
        assert!(refusal.details.contains(&("by", "producer producer-1".into())), "{refusal:?}");
        bench.restart();
    }
}

#[test]
fn another_group_may_not_decide() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    let Input::Decide(mut stranger) = decide(transaction, Decision::Commit) else { unreachable!() };
    stranger.group = Some(name("strangers"));
    assert_eq!(bench.refused(Input::Decide(stranger)), Reason::WrongGroup);
}

#[test]
fn several_messages_become_visible_together() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.topic("stock");
    let messages = vec![bench.message("paid"), bench.message("stock"), bench.message("paid")];
    let transaction = bench.half(messages);
    bench.ask(decide(transaction, Decision::Commit));
    let (_, paid) = bench.consumer("billing", "paid");
    let (_, stock) = bench.consumer("warehouse", "stock");
    assert_eq!((paid.len(), stock.len()), (2, 1));
}

#[test]
fn the_same_message_is_stored_once() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    assert_eq!(bench.publish(message.clone()), Some(Offset(0)));
    bench.restart();
    let again = bench.ask(Input::Publish(message.clone().into()));
    assert_eq!(again, Reply::Published { offset: Some(Offset(0)), duplicate: true });
    assert_eq!(bench.refused(half(vec![message])), Reason::MessageIdReused);
}

#[test]
fn the_same_transaction_key_returns_the_same_transaction() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let with_key = |message: Message| {
        let Input::SendHalf(mut half) = half(vec![message]) else { unreachable!() };
        half.key = Some("order-42".into());
        Input::SendHalf(half)
    };
    let first = bench.message("paid");
    let Reply::Prepared { transaction, .. } = bench.ask(with_key(first.clone())) else { panic!() };
    bench.restart();
    let second = bench.message("paid");
    let again = bench.ask(with_key(second));
    let state = TransactionState::Prepared;
    assert_eq!(again, Reply::Prepared { transaction, messages: vec![first.id], state, duplicate: true });
}

#[test]
fn a_silent_producer_is_asked_and_its_answer_decides() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    let (session, effects) = bench.checker();
    assert_eq!(questions(effects), vec![]);
    let asked = questions(bench.later(8_000));
    assert_eq!(
        asked.iter().map(|q| (q.session, q.transaction)).collect::<Vec<_>>(),
        vec![(session, transaction)]
    );
    let check = asked[0].check;
    bench.ask(Input::CheckAnswered(CheckAnswered {
        session,
        transaction,
        check,
        verdict: Some(Decision::Commit),
    }));
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 1);
}

#[test]
fn without_a_checker_no_check_is_used_up_and_one_that_comes_is_asked() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.later(3_600_000);
    let status = bench.status();
    assert_eq!((status.undecided, status.waiting_for_checker, status.parked), (1, 1, 0));
    let (_, effects) = bench.checker();
    assert_eq!(questions(effects).len(), 1);
    let view = bench.store.reader();
    let turn = Turn::new(&view, Room::Enough);
    let record = bench.engine.load_transaction(&turn, transaction.number()).expect("reads").expect("exists");
    assert_eq!((record.checks.delivered, record.checks.no_checker), (0, 1));
}

#[test]
fn used_up_checks_park_and_a_person_resumes_or_decides() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    let (session, mut effects) = bench.checker();
    let mut asked = 0;
    while bench.status().parked == 0 {
        for CheckQuestion { check, .. } in questions(std::mem::take(&mut effects)) {
            asked += 1;
            bench.ask(Input::CheckAnswered(CheckAnswered { session, transaction, check, verdict: None }));
        }
        effects = bench.later(600_000);
        assert!(asked <= 15, "asked more often than allowed");
    }
    assert_eq!(asked, 15);
    bench.restart();
    assert_eq!(bench.status().parked, 1);
    bench.ask(Input::Command(Command::Resume(transaction)));
    assert_eq!((bench.status().parked, bench.status().undecided), (0, 1));

    let Input::Decide(mut by_hand) = decide(transaction, Decision::Commit) else { unreachable!() };
    (by_hand.role, by_hand.group) = (Role::Person, None);
    assert_eq!(bench.refused(Input::Decide(by_hand.clone())), Reason::InvalidField);
    by_hand.reason = "checked the ledger".into();
    assert!(matches!(bench.ask(Input::Decide(by_hand)), Reply::Decided { duplicate: false, .. }));
}

#[test]
fn a_nack_is_retried_in_time_and_ends_in_the_dead_letters_also_over_restarts() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| {
        settings.retry =
            RetryPolicy { delays: RetryDelays::Fixed(1_000), max_attempts: 3, ..RetryPolicy::default() };
    });
    let message = bench.message("paid");
    bench.publish(message.clone());
    let (_, mut got) = bench.consumer("billing", "paid");
    for attempt in 1..=3 {
        assert_eq!(got.iter().map(|d| d.attempt).collect::<Vec<_>>(), vec![attempt]);
        bench.ask(settle("billing", got[0].token, nack()));
        assert_eq!(deliveries(bench.later(999)), vec![], "a retry came early");
        bench.restart();
        (_, got) = bench.consumer("billing", "paid");
        got.extend(deliveries(bench.later(1)));
    }
    assert_eq!(got, vec![]);
    let view = bench.group_view("billing");
    assert_eq!((view.retrying, view.dead_letters, view.positions[0].lag), (0, 1, 0));

    // Sent again, to this group only, with all its attempts.
    let redrive = Command::Redrive { group: name("billing"), offset: Offset(0), to: None, dry_run: false };
    let (outcomes, mut effects) = bench.turn(vec![Input::Command(redrive.clone())]);
    assert_eq!(outcomes, vec![Ok(Reply::Resolved(message.id))]);
    effects.extend(bench.later(0));
    let got = deliveries(effects);
    assert_eq!(got.iter().map(|d| (d.id, d.attempt)).collect::<Vec<_>>(), vec![(message.id, 1)]);
    assert_eq!(bench.refused(Input::Command(redrive)), Reason::UnknownDeadLetter);
    bench.ask(settle("billing", got[0].token, Verb::Ack));
    bench.later(0);
    for space in [keys::space::MESSAGE, keys::space::RETRY, keys::space::DEAD_LETTER, keys::space::DEAD_PLACE]
    {
        assert_eq!(bench.count(space), 0);
    }
    assert_eq!(bench.count(keys::space::QUEUE), 0);
}

#[test]
fn a_late_ack_is_refused_and_the_attempt_counted() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    bench.later(30_000);
    assert_eq!(bench.refused(settle("billing", got[0].token, Verb::Ack)), Reason::StaleLease);
    let again = deliveries(bench.later(10_000));
    assert_eq!(again[0].attempt, 2);
    assert_ne!(again[0].token, got[0].token);
}

#[test]
fn after_a_restart_it_is_delivered_again_and_old_tokens_are_stale() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    bench.restart();
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!((again[0].offset, again[0].attempt), (got[0].offset, 1));
    assert_eq!(bench.refused(settle("billing", got[0].token, Verb::Ack)), Reason::StaleLease);
}

#[test]
fn an_acked_message_is_not_delivered_again() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..5 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 5);
    for at in [1, 3] {
        bench.ask(settle("billing", got[at].token, Verb::Ack));
    }
    bench.restart();
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!(again.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![0, 2, 4]);
}

#[test]
fn an_ordering_key_is_delivered_one_at_a_time_and_blocks_while_retrying() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..3 {
        let message = Message { ordering_key: Some("o-42".into()), ..bench.message("paid") };
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![0]);
    bench.ask(settle("billing", got[0].token, nack()));
    assert_eq!(deliveries(bench.later(9_999)), vec![]);
    assert_eq!(bench.group_view("billing").blocked_keys, 1);
    let again = deliveries(bench.later(1));
    assert_eq!((again.len(), again[0].offset.0, again[0].attempt), (1, 0, 2));
    let (_, effects) = bench.turn(vec![settle("billing", again[0].token, Verb::Ack)]);
    assert_eq!(deliveries(effects)[0].offset, Offset(1));
}

#[test]
fn a_key_whose_policy_is_to_dead_letter_takes_its_followers_along() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.ordering = OrderingPolicy::DeadLetter);
    for _ in 0..3 {
        let message = Message { ordering_key: Some("o-42".into()), ..bench.message("paid") };
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, nack()));
    bench.later(0);
    let view = bench.group_view("billing");
    assert_eq!((view.retrying, view.dead_letters), (1, 2));
}

#[test]
fn a_scheduled_message_is_never_early_and_its_cancel_is_exact() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (_, _) = bench.consumer("billing", "paid");
    let at = bench.now.unix_ms + 5_000;
    let kept = Message { deliver_at_ms: at, ..bench.message("paid") };
    let dropped = Message { deliver_at_ms: at, ..bench.message("paid") };
    assert_eq!(bench.publish(kept.clone()), None);
    assert_eq!(bench.publish(dropped.clone()), None);
    assert_eq!(bench.status().scheduled, 2);
    let cancel = |id| Input::Command(Command::CancelScheduled(id));
    assert_eq!(bench.ask(cancel(dropped.id)), Reply::Cancelled(Cancelled::Cancelled));
    assert_eq!(bench.ask(cancel(dropped.id)), Reply::Cancelled(Cancelled::Cancelled));
    assert_eq!(deliveries(bench.later(4_999)), vec![]);
    bench.restart();
    bench.later(1);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.iter().map(|d| d.id).collect::<Vec<_>>(), vec![kept.id]);
    assert_eq!(bench.ask(cancel(kept.id)), Reply::Cancelled(Cancelled::TooLate));
    assert_eq!(bench.ask(cancel(MessageId::new(1, [99; 10]))), Reply::Cancelled(Cancelled::NotKnown));
}

#[test]
fn a_filter_passes_over_what_it_does_not_want() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let tag: Tag = name("eu");
    for tag in [None, Some(tag.clone()), None] {
        let message = Message { tag, ..bench.message("paid") };
        bench.publish(message);
    }
    let session = bench.session();
    let hello = ConsumerConnected {
        session,
        client: name::<ClientId>("c"),
        group: name("eu-only"),
        subscriptions: vec![Wanted { topic: name::<TopicName>("paid"), tags: vec![tag] }],
        broadcast: false,
        start: Start::Oldest,
        detached: false,
        address: String::new(),
    };
    let credit = Credit { session, messages: 10, bytes: 1000 };
    let (_, effects) = bench.turn(vec![Input::ConsumerConnected(hello), Input::Credit(credit)]);
    let got = deliveries(effects);
    assert_eq!(got.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![1]);
    bench.ask(settle("eu-only", got[0].token, Verb::Ack));
    bench.later(0);
    assert_eq!(bench.count(keys::space::QUEUE), 0);
}

#[test]
fn credit_bounds_what_is_sent() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    for _ in 0..5 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let session = bench.session();
    let hello = ConsumerConnected {
        session,
        client: name("c"),
        group: name("billing"),
        subscriptions: vec![],
        broadcast: false,
        start: Start::Oldest,
        detached: false,
        address: String::new(),
    };
    bench.ask(Input::ConsumerConnected(hello));
    let (_, effects) = bench.turn(vec![Input::Credit(Credit { session, messages: 2, bytes: 1000 })]);
    assert_eq!(deliveries(effects).len(), 2);
    // Each body has 4 bytes: 6 bytes are room for one.
    let (_, effects) = bench.turn(vec![Input::Credit(Credit { session, messages: 2, bytes: 0 })]);
    assert_eq!(deliveries(effects).len(), 2);
    assert_eq!(deliveries(bench.later(0)).len(), 0);
}

#[test]
fn a_lost_consumer_counts_as_a_failed_attempt_a_release_does_not() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    bench.publish(message);
    let (session, got) = bench.consumer("billing", "paid");
    let (_, effects) = bench.turn(vec![settle("billing", got[0].token, Verb::Release)]);
    assert_eq!(deliveries(effects)[0].attempt, 1);
    bench.ask(Input::SessionClosed(session));
    assert_eq!(bench.group_view("billing").retrying, 1);
    bench.later(10_000);
    let (_, again) = bench.consumer("billing", "paid");
    assert_eq!(again[0].attempt, 2);
}

#[test]
fn what_outlives_its_time_goes_to_the_dead_letters() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    let message = Message { time_to_live_ms: 1_000, ..bench.message("paid") };
    bench.publish(message);
    bench.later(1_000);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got, vec![]);
    bench.later(0);
    assert_eq!(bench.group_view("billing").dead_letters, 1);
}

#[test]
fn finished_messages_are_kept_for_replay_when_the_topic_says_so() {
    let mut bench = Bench::new();
    let settings = crate::records::TopicSettings { keep_finished_ms: 60_000, keep_finished_bytes: 0 };
    bench.ask(Input::Command(Command::CreateTopic { name: name("paid"), settings }));
    for _ in 0..3 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    for delivery in &got {
        bench.ask(settle("billing", delivery.token, Verb::Ack));
    }
    assert_eq!(deliveries(bench.later(30_000)), vec![]);
    let seek = Command::Seek {
        group: name("billing"),
        topic: name("paid"),
        to: SeekTo::Offset(Offset(1)),
        dry_run: false,
    };
    let (outcomes, effects) = bench.turn(vec![Input::Command(seek)]);
    let expected = Reply::Sought { from: Offset(3), to: Offset(1), replayed: 2, skipped: 0 };
    assert_eq!(outcomes, vec![Ok(expected)]);
    let again = deliveries(effects);
    assert_eq!(again.iter().map(|d| d.offset.0).collect::<Vec<_>>(), vec![1, 2]);
    for delivery in &again {
        bench.ask(settle("billing", delivery.token, Verb::Ack));
    }
    bench.later(30_000);
    assert_eq!(bench.count(keys::space::QUEUE), 0);
}

#[test]
fn ids_and_offsets_are_not_reused_after_a_rollback_and_a_restart() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    let mut transactions = vec![];
    let mut offsets = vec![];
    for decision in [Decision::Rollback, Decision::Commit, Decision::Rollback, Decision::Commit] {
        let message = bench.message("paid");
        let transaction = bench.half(vec![message]);
        bench.ask(decide(transaction, decision));
        transactions.push(transaction.number());
        let (session, got) = bench.consumer("billing", "paid");
        for delivery in got {
            offsets.push(delivery.offset.0);
            bench.ask(settle("billing", delivery.token, Verb::Ack));
        }
        bench.ask(Input::SessionClosed(session));
        bench.later(0);
        bench.restart();
    }
    assert_eq!((transactions, offsets), (vec![1, 2, 3, 4], vec![0, 1]));
}

#[test]
fn a_deleted_topic_and_group_leave_nothing_behind() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..3 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, nack()));
    bench.ask(settle("billing", got[1].token, Verb::Reject { reason: "broken".into() }));
    let delete = |force| Input::Command(Command::DeleteGroup { name: name("billing"), force });
    assert_eq!(bench.refused(delete(false)), Reason::InUse);
    assert_eq!(bench.ask(delete(true)), Reply::GroupDeleted { retries: 1, dead_letters: 1 });
    bench.ask(Input::Command(Command::DeleteTopic { name: name("paid"), force: false }));
    bench.later(0);
    use keys::space;
    for space in [
        space::TOPIC,
        space::TAIL,
        space::GROUP,
        space::PROGRESS,
        space::QUEUE,
        space::MESSAGE,
        space::PLACE,
        space::BUSINESS_KEY,
        space::RETRY,
        space::DEAD_PLACE,
        space::DEAD_LETTER,
    ] {
        assert_eq!(bench.count(space), 0, "keyspace {space:#04x}");
    }
}
