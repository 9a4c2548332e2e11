//! A mixed load over the real client: producers that publish, commit, roll back, contradict themselves or fall silent;
//! consumers that ack, nack, reject or let go; a person who redrives; everything noted in the history.

mod body;
mod console;
mod consumers;
mod person;
mod producers;
mod readers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escrow::{Client, Delivery, TransactionId, v1};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::history::{Answer, Event, History, Operation, Verdicts};
use super::process::Ports;
pub use consumers::PREFETCH;
use producers::TruthfulChecker;

/// The topic everything goes to.
const TOPIC: &str = "orders";
/// The groups that listen, and must each see everything.
const GROUPS: [&str; 2] = ["billing", "stock"];
/// The one group of producers: any of them may decide what another began.
const PRODUCER_GROUP: &str = "shop";
/// Nothing in the rig takes longer than this, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Transactions of the past that producers may come back to.
const PAST_TRANSACTIONS: usize = 64;
/// As many of the newest messages are asked for over HTTP at once.
const NEWEST: u64 = 50;
/// So many of those, and as many of all before, are looked for in the console: the story of each is put together for it.
const LOOKED_FOR: u64 = 6;
/// How long the topic keeps what is finished: longer than any run, so that everything can be replayed.
const KEEP_FINISHED_MS: i64 = 3_600_000;

/// How much load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// For what is chosen by chance.
    pub seed: u64,
    /// Producers, each with one operation under way.
    pub producers: u64,
    /// Consumers for each group.
    pub consumers: u64,
    /// Whether the topic keeps what is finished, so that everything can be replayed in the end. Otherwise it is removed.
    pub keeps_finished: bool,
}

/// How the clients of a load reach the broker.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Where they connect.
    pub url: String,
    /// Where those connect who set up and judge: to the broker itself.
    pub direct_url: String,
    /// How long an operation is tried.
    pub operation_timeout: Duration,
    /// How often a silent connection is probed, and how long the answer may take.
    pub keep_alive: (Duration, Duration),
}

impl Reach {
    /// Straight to the broker, with all the time that a restart takes.
    pub fn direct(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            direct_url: url.to_owned(),
            operation_timeout: Duration::from_secs(30),
            keep_alive: (Duration::from_secs(20), Duration::from_secs(10)),
        }
    }

    async fn connect(&self, name: &str) -> Client {
        self.connect_to(&self.url, name).await
    }

    async fn connect_directly(&self, name: &str) -> Client {
        self.connect_to(&self.direct_url, name).await
    }

    async fn connect_to(&self, url: &str, name: &str) -> Client {
        let (interval, timeout) = self.keep_alive;
        Client::builder(url)
            .client_id(name)
            .reconnect_delays(Duration::from_millis(10), Duration::from_millis(200))
            .operation_timeout(self.operation_timeout)
            .keep_alive(interval, timeout)
            .connect()
            .await
            .expect("the broker is up")
    }
}

/// A load under way.
pub struct Load {
    reach: Reach,
    shared: Arc<Shared>,
    producers: JoinSet<()>,
    consumers: JoinSet<()>,
}

struct Shared {
    history: History,
    keeps_finished: bool,
    stop_producing: AtomicBool,
    stop_consuming: AtomicBool,
    /// Consumers are: producers wait for them.
    is_far_behind: AtomicBool,
    /// Dead letters are: producers wait. It takes long on a slow machine, and longer the more of them there are.
    is_exporting: AtomicBool,
    stopped: Notify,
    /// Operations that were answered: what a rig waits for before it strikes.
    answered: AtomicU64,
    progress: Notify,
    next_message: AtomicU64,
    past: Mutex<VecDeque<(u64, TransactionId)>>,
}

impl Shared {
    fn new(history: History, keeps_finished: bool) -> Self {
        Self {
            history,
            keeps_finished,
            stop_producing: AtomicBool::new(false),
            stop_consuming: AtomicBool::new(false),
            is_far_behind: AtomicBool::new(false),
            is_exporting: AtomicBool::new(false),
            stopped: Notify::new(),
            answered: AtomicU64::new(0),
            progress: Notify::new(),
            next_message: AtomicU64::new(1),
            past: Mutex::default(),
        }
    }

    /// Notes what became of an operation.
    fn answer(&self, operation: u64, answer: Answer) {
        self.history.answer(operation, answer);
        if !matches!(answer, Answer::Unknown | Answer::Failed) {
            self.answered.fetch_add(1, Ordering::SeqCst);
            self.progress.notify_waiters();
        }
    }

    /// Notes an operation from its beginning to its end.
    async fn perform<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, escrow::Error>>,
        told: impl FnOnce(&T) -> Answer,
    ) -> Option<T> {
        let number = self.history.invoke(operation);
        let result = call.await;
        let answer = match &result {
            Ok(ok) => told(ok),
            Err(error) => producers::answer_of(error),
        };
        self.answer(number, answer);
        result.ok()
    }

    fn is_producing(&self) -> bool {
        !self.stop_producing.load(Ordering::SeqCst)
    }

    /// Whether producers wait.
    fn is_pausing(&self) -> bool {
        self.is_far_behind.load(Ordering::SeqCst) || self.is_exporting.load(Ordering::SeqCst)
    }

    /// Waits until anything changes that producers may have waited for.
    async fn pause(&self) {
        let changed = self.progress.notified();
        let stopped = self.stopped.notified();
        if self.is_pausing() && self.is_producing() {
            tokio::select! {
                () = changed => {}
                () = stopped => {}
            }
        }
    }

    /// Waits until `more` operations were answered, or producing stops.
    async fn progress(&self, more: u64) {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        loop {
            let changed = self.progress.notified();
            let stopped = self.stopped.notified();
            if self.answered.load(Ordering::SeqCst) >= goal || !self.is_producing() {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = stopped => {}
            }
        }
    }
}

impl Load {
    /// Creates topic and groups, then starts producing and consuming. The broker must be up.
    ///
    /// # Panics
    /// If the broker refuses what it should not.
    pub async fn start(url: &str, plan: Plan) -> Self {
        Self::start_through(Reach::direct(url), plan).await
    }

    /// As [`start`](Self::start), with clients that reach the broker in their own way.
    ///
    /// # Panics
    /// If the broker refuses what it should not.
    pub async fn start_through(reach: Reach, plan: Plan) -> Self {
        let client = reach.connect_directly("setup").await;
        let keep_finished_ms = if plan.keeps_finished { KEEP_FINISHED_MS } else { 0 };
        let settings = v1::TopicSettings { keep_finished_ms, keep_finished_bytes: 0 };
        let operator = Some(v1::Operator { name: "judge".into(), reason: String::new() });
        let topic = v1::CreateTopicRequest { name: TOPIC.into(), settings: Some(settings), operator };
        client.admin().create_topic(topic).await.expect("the topic is made");
        // Groups exist before the first message: each must see all.
        for group in GROUPS {
            client.subscribe(group).topic(TOPIC).open().await.expect("the group is made").close().await;
        }
        let mut load = Self::consuming(reach, plan, History::default()).await;
        for number in 0..plan.producers {
            let client = load.reach.connect(&format!("producer-{number}")).await;
            let rng = fastrand::Rng::with_seed(plan.seed ^ (number << 16));
            load.producers.spawn(producers::produce(client, Arc::clone(&load.shared), rng));
        }
        let client = load.reach.connect("person").await;
        let rng = fastrand::Rng::with_seed(!plan.seed);
        load.producers.spawn(person::redrive_now_and_then(client, Arc::clone(&load.shared), rng));
        load
    }

    /// Goes on consuming, on a broker that holds what `history` tells of. The broker must be up.
    ///
    /// # Panics
    /// If the broker refuses what it should not.
    pub async fn resume(url: &str, plan: Plan, history: History) -> Self {
        Self::consuming(Reach::direct(url), plan, history).await
    }

    async fn consuming(reach: Reach, plan: Plan, history: History) -> Self {
        let shared = Arc::new(Shared::new(history, plan.keeps_finished));
        let mut load = Self { reach, shared, producers: JoinSet::new(), consumers: JoinSet::new() };
        for number in 0..plan.consumers {
            for group in GROUPS {
                let client = load.reach.connect(&format!("{group}-{number}")).await;
                let rng = fastrand::Rng::with_seed(plan.seed ^ (number << 8) ^ group.len() as u64);
                load.consumers.spawn(consumers::consume(client, group, Arc::clone(&load.shared), rng));
            }
        }
        load
    }

    /// Waits until `more` further operations were answered.
    ///
    /// # Panics
    /// If they are not, in a time that is generous for any machine.
    pub async fn progress(&self, more: u64) {
        tokio::time::timeout(PATIENCE, self.shared.progress(more)).await.expect("the load makes progress");
    }

    /// Nothing more is sent; consumers go on.
    pub fn stop_producing(&self) {
        self.shared.stop_producing.store(true, Ordering::SeqCst);
        self.shared.stopped.notify_waiters();
    }

    /// How many operations were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// What was noted so far.
    pub fn history(&self) -> &History {
        &self.shared.history
    }

    /// The broker's wall clock, Unix milliseconds.
    ///
    /// # Panics
    /// If the broker is not up.
    pub async fn broker_now_ms(&self) -> i64 {
        let client = self.reach.connect_directly("clock").await;
        let status = client.admin().get_status(v1::GetStatusRequest {}).await;
        status.expect("the broker is up").into_inner().now_ms
    }

    /// Stops producing, waits until everything has come to rest, stops consuming, asks every reader, and judges. The
    /// broker must be up.
    ///
    /// # Errors
    /// Every broken promise, a line each.
    ///
    /// # Panics
    /// If things do not come to rest in time.
    pub async fn finish(mut self) -> Result<Verdicts, String> {
        self.stop_producing();
        tokio::time::timeout(PATIENCE, drain(&mut self.producers)).await.expect("producers stop");
        let client = self.reach.connect_directly("judge").await;
        // The judge's own checker settles what producers left behind when they stopped.
        let checker = TruthfulChecker::new(&self.shared);
        let producer =
            client.producer(PRODUCER_GROUP).checker(checker).build().await.expect("a checker connects");
        if tokio::time::timeout(PATIENCE, self.rest(&client)).await.is_err() {
            let status = client.admin().get_status(v1::GetStatusRequest {}).await;
            panic!("it does not come to rest: {status:?}");
        }
        self.shared.stop_consuming.store(true, Ordering::SeqCst);
        self.shared.stopped.notify_waiters();
        tokio::time::timeout(PATIENCE, drain(&mut self.consumers)).await.expect("consumers stop");
        tokio::time::timeout(
            PATIENCE,
            readers::read_everything(&client, &self.shared.history, self.shared.keeps_finished),
        )
        .await
        .expect("readers come to an end");
        producer.close().await;
        let verdicts = self.shared.history.judge(&GROUPS);
        match verdicts.faults.is_empty() {
            true => Ok(verdicts),
            false => Err(verdicts.faults.join("\n")),
        }
    }

    /// Asks `/api/v1` at this port for the newest messages while the load runs, exports the dead letters, and goes through
    /// the pages of the console; notes in the history what is shown.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn ask_http(&self, port: u16) -> Result<(), String> {
        let behind = self.history().newest() + 1;
        let messages = behind.saturating_sub(NEWEST).max(1)..behind;
        readers::ask_http(port, messages, &self.shared.history)
            .await
            .map_err(|error| format!("the HTTP API: {error}"))?;
        self.shared.is_exporting.store(true, Ordering::SeqCst);
        let exported = readers::export_http(port, &self.shared.history).await;
        self.shared.is_exporting.store(false, Ordering::SeqCst);
        self.shared.progress.notify_waiters();
        exported.map_err(|error| format!("the exports: {error}"))?;
        self.look_at_console(port, None).await
    }

    /// Goes through the pages of the console at this port. `of_backup`: the broker was restored from a backup of that time.
    async fn look_at_console(&self, port: u16, of_backup: Option<usize>) -> Result<(), String> {
        let behind = self.history().newest() + 1;
        let newest = behind.saturating_sub(LOOKED_FOR).max(1);
        let apart = (newest / LOOKED_FOR).max(1);
        let messages = (1..newest).step_by(apart as usize).chain(newest..behind);
        let looked = console::Onlooker::new(port, self.history(), of_backup).look(messages).await;
        looked.map_err(|error| format!("the console: {error}"))
    }

    /// Takes a backup through the broker while the load runs; says what its bytes are, and of what time they are: the
    /// number of the last event before it ended.
    ///
    /// # Errors
    /// If the broker did not send a whole one.
    pub async fn backup(&self) -> Result<(Vec<u8>, usize), escrow::Error> {
        let client = self.reach.connect_directly("backup").await;
        let bytes = readers::backup(&client).await?;
        Ok((bytes, self.shared.history.len()))
    }

    /// Reads all that a broker has that was restored from a backup of the time `as_of`, and its console; notes it in the
    /// history.
    ///
    /// # Errors
    /// If its console does not answer.
    ///
    /// # Panics
    /// If that broker does not serve.
    pub async fn read_restored(&self, ports: Ports, as_of: usize) -> Result<(), String> {
        // First: readers are groups of their own, with places of their own.
        self.look_at_console(ports.http, Some(as_of)).await?;
        let client = self.reach.connect_to(&ports.url(), "restored").await;
        readers::read_restored(&client, &self.shared.history, as_of).await;
        Ok(())
    }

    /// Waits until nothing is undecided, scheduled, owed, retrying or leased. Each look waits for one more settlement or
    /// check, or for the moment the client takes to look again.
    async fn rest(&self, client: &Client) {
        loop {
            let status = client.admin().get_status(v1::GetStatusRequest {}).await;
            let status = status.expect("the broker is up").into_inner();
            if status.parked > 0 {
                resume_parked(client).await;
            }
            let undone = status.undecided + status.parked + status.scheduled;
            if undone + status.lag + status.retrying + status.leased == 0 {
                return;
            }
            let changed = self.shared.progress.notified();
            // Checks and retries pass without the load noticing: look again after a while all the same.
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }
}

/// What was in doubt for too long is asked for again, as a person would have it.
async fn resume_parked(client: &Client) {
    let page = Some(v1::Page { limit: 1000, cursor: String::new() });
    let filter = v1::TransactionFilter::OnlyParked.into();
    let request = v1::ListTransactionsRequest { page, filter, ..Default::default() };
    let found = client.admin().list_transactions(request).await.expect("the broker is up").into_inner();
    for parked in found.transactions {
        let operator = Some(v1::Operator { name: "judge".into(), reason: "the checker is back".into() });
        let request = v1::ResumeTransactionRequest { transaction_id: parked.transaction_id, operator };
        // A late answer may have decided it meanwhile.
        drop(client.admin().resume_transaction(request).await);
    }
}

async fn drain(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a client does not panic");
    }
}

fn number_of(key: &str) -> u64 {
    key.parse().expect("keys of the rig are numbers")
}

/// Notes if a message came with another body than it was sent with.
fn note_body(history: &History, message: u64, delivery: &Delivery) {
    if *delivery.body() != body::of(message) {
        history.note(Event::Altered { message });
    }
}

/// Notes what was found in the dead letters of all groups.
fn note_dead(history: &History, group: &'static str, key: &str) {
    history.note(Event::Dead { group, message: number_of(key) });
}
