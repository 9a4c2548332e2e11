//! A mixed load over the real client: producers that publish, commit, roll back or fall silent; consumers that ack,
//! nack, reject or let go; everything noted in the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use escrow::{CheckPolicy, CheckRequest, Checker, Client, Delivery, Message, Producer, Verdict, WithChecker};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::history::{Choice, Event, History};

/// The topic everything goes to.
const TOPIC: &str = "orders";
/// The groups that listen, and must each see everything.
const GROUPS: [&str; 2] = ["billing", "stock"];
/// Nothing in the rig takes longer than this, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// For what is chosen by chance.
    pub seed: u64,
    /// Producers, each with one operation under way.
    pub producers: u64,
    /// Consumers for each group.
    pub consumers: u64,
}

/// A load under way.
pub struct Load {
    url: String,
    shared: Arc<Shared>,
    producers: JoinSet<()>,
    consumers: JoinSet<()>,
}

struct Shared {
    history: History,
    stop_producing: AtomicBool,
    stop_consuming: AtomicBool,
    stopped: Notify,
    /// Operations that were answered: what a rig waits for before it strikes.
    answered: AtomicU64,
    progress: Notify,
    next_message: AtomicU64,
}

impl Shared {
    fn answered(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
        self.progress.notify_waiters();
    }
}

/// Answers as the producer chose: the choice is part of the message.
struct TruthfulChecker;

impl Checker for TruthfulChecker {
    async fn check(&self, half: CheckRequest) -> Verdict {
        match half
            .messages()
            .next()
            .and_then(|message| message.header("choice").map(str::to_owned))
            .as_deref()
        {
            Some("Commit" | "CheckCommit") => Verdict::Commit,
            Some("Rollback" | "CheckRollback") => Verdict::Rollback,
            _ => Verdict::Unknown,
        }
    }
}

impl Load {
    /// Creates topic and groups, then starts producing and consuming. The broker must be up.
    ///
    /// # Panics
    /// If the broker refuses what it should not.
    pub async fn start(url: &str, plan: Plan) -> Self {
        let client = connect(url, "setup").await;
        client.admin().ensure_topic(TOPIC).await.expect("the topic is made");
        let shared = Arc::new(Shared {
            history: History::default(),
            stop_producing: AtomicBool::new(false),
            stop_consuming: AtomicBool::new(false),
            stopped: Notify::new(),
            answered: AtomicU64::new(0),
            progress: Notify::new(),
            next_message: AtomicU64::new(1),
        });
        // Groups exist before the first message: each must see all.
        for group in GROUPS {
            client.subscribe(group).topic(TOPIC).open().await.expect("the group is made").close().await;
        }
        let mut load =
            Self { url: url.to_owned(), shared, producers: JoinSet::new(), consumers: JoinSet::new() };
        for number in 0..plan.consumers {
            for group in GROUPS {
                let client = connect(url, &format!("{group}-{number}")).await;
                let rng = fastrand::Rng::with_seed(plan.seed ^ (number << 8) ^ group.len() as u64);
                load.consumers.spawn(consume(client, group, Arc::clone(&load.shared), rng));
            }
        }
        for number in 0..plan.producers {
            let client = connect(url, &format!("producer-{number}")).await;
            let rng = fastrand::Rng::with_seed(plan.seed ^ (number << 16));
            load.producers.spawn(produce(client, Arc::clone(&load.shared), rng));
        }
        load
    }

    /// Waits until `more` further operations were answered.
    ///
    /// # Panics
    /// If they are not, in a time that is generous for any machine.
    pub async fn progress(&self, more: u64) {
        let goal = self.shared.answered.load(Ordering::SeqCst) + more;
        let reached = async {
            loop {
                let changed = self.shared.progress.notified();
                if self.shared.answered.load(Ordering::SeqCst) >= goal {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the load makes progress");
    }

    /// How many operations were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Stops producing, waits until everything has come to rest, stops consuming, and judges. The broker must be up.
    ///
    /// # Errors
    /// Every broken promise, a line each.
    ///
    /// # Panics
    /// If things do not come to rest in time.
    pub async fn finish(mut self) -> Result<super::Verdicts, String> {
        self.shared.stop_producing.store(true, Ordering::SeqCst);
        tokio::time::timeout(PATIENCE, drain(&mut self.producers)).await.expect("producers stop");
        let client = connect(&self.url, "judge").await;
        // The judge's own checker settles what producers left behind when they stopped.
        let producer =
            client.producer("shop").checker(TruthfulChecker).build().await.expect("a checker connects");
        tokio::time::timeout(PATIENCE, self.rest(&client)).await.expect("everything comes to rest");
        self.shared.stop_consuming.store(true, Ordering::SeqCst);
        self.shared.stopped.notify_waiters();
        tokio::time::timeout(PATIENCE, drain(&mut self.consumers)).await.expect("consumers stop");
        self.collect_dead_letters(&client).await;
        producer.close().await;
        let verdicts = self.shared.history.judge(&GROUPS);
        match verdicts.faults.is_empty() {
            true => Ok(verdicts),
            false => Err(verdicts.faults.join("\n")),
        }
    }

    /// Waits until nothing is undecided, owed, retrying or leased. Each look waits for one more settlement or check, or
    /// for the moment the client takes to look again.
    async fn rest(&self, client: &Client) {
        loop {
            let status = client.admin().get_status(escrow::v1::GetStatusRequest {}).await;
            let status = status.expect("the broker is up").into_inner();
            if status.undecided + status.parked + status.lag + status.retrying + status.leased == 0 {
                return;
            }
            let changed = self.shared.progress.notified();
            // Checks and retries pass without the load noticing: look again after a while all the same.
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }

    async fn collect_dead_letters(&self, client: &Client) {
        for group in GROUPS {
            let mut cursor = String::new();
            loop {
                let page = escrow::v1::Page { limit: 1000, cursor };
                let filter = escrow::v1::DeadLetterFilter { group: group.into(), ..Default::default() };
                let request = escrow::v1::ListDeadLettersRequest { page: Some(page), filter: Some(filter) };
                let answer =
                    client.admin().list_dead_letters(request).await.expect("the broker is up").into_inner();
                for letter in answer.dead_letters {
                    let key = letter.message.map(|message| message.key).unwrap_or_default();
                    self.shared.history.note(Event::Dead { group, message: number_of(&key) });
                }
                cursor = answer.next_cursor;
                if cursor.is_empty() {
                    break;
                }
            }
        }
    }
}

async fn drain(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a client does not panic");
    }
}

async fn connect(url: &str, name: &str) -> Client {
    Client::builder(url)
        .client_id(name)
        .reconnect_delays(Duration::from_millis(10), Duration::from_millis(200))
        .operation_timeout(Duration::from_secs(30))
        .connect()
        .await
        .expect("the broker is up")
}

fn number_of(key: &str) -> u64 {
    key.parse().expect("keys of the rig are numbers")
}

async fn produce(client: Client, shared: Arc<Shared>, mut rng: fastrand::Rng) {
    let producer =
        client.producer("shop").checker(TruthfulChecker).build().await.expect("a producer connects");
    while !shared.stop_producing.load(Ordering::SeqCst) {
        let number = shared.next_message.fetch_add(1, Ordering::SeqCst);
        let choice = match rng.u8(0..10) {
            0..3 => Choice::Publish,
            3..7 => Choice::Commit,
            7 => Choice::Rollback,
            8 => Choice::CheckCommit,
            _ => Choice::CheckRollback,
        };
        let body = vec![b'x'; rng.usize(0..2_000)];
        let message =
            Message::new(TOPIC).key(number.to_string()).header("choice", format!("{choice:?}")).bytes(body);
        shared.history.note(Event::Sending(number, choice));
        send(&producer, &shared, number, choice, message).await;
    }
    producer.close().await;
}

/// Any error leaves the outcome open, which is what the history then says.
async fn send(
    producer: &Producer<WithChecker>,
    shared: &Shared,
    number: u64,
    choice: Choice,
    message: Message,
) {
    if choice == Choice::Publish {
        shared.history.note(Event::Deciding(number));
        if producer.publish(message).await.is_ok() {
            shared.history.note(Event::Decided(number));
            shared.answered();
        }
        return;
    }
    let soon = CheckPolicy::new().first_check_after(Duration::from_millis(200));
    let Ok(half) = producer.half().message(message).check_policy(soon).send().await else { return };
    shared.history.note(Event::Sent(number));
    shared.answered();
    // A check may decide at any time from here on.
    shared.history.note(Event::Deciding(number));
    let decided = match choice {
        Choice::Commit => half.commit().await,
        Choice::Rollback => half.rollback().await,
        _ => return,
    };
    if decided.is_ok() {
        shared.history.note(Event::Decided(number));
        shared.answered();
    }
}

async fn consume(client: Client, group: &'static str, shared: Arc<Shared>, mut rng: fastrand::Rng) {
    let mut deliveries =
        client.subscribe(group).topic(TOPIC).prefetch(32).open().await.expect("a consumer joins");
    loop {
        let stopped = shared.stopped.notified();
        if shared.stop_consuming.load(Ordering::SeqCst) {
            break;
        }
        let delivery = tokio::select! {
            // Cancel safe: a delivery that is not taken stays in the stream.
            delivery = deliveries.next() => delivery,
            () = stopped => break,
        };
        match delivery {
            Some(Ok(delivery)) => settle(group, delivery, &shared, &mut rng).await,
            Some(Err(error)) if error.is_retryable() => {}
            Some(Err(error)) => panic!("{group}: {error}"),
            None => break,
        }
    }
    deliveries.close().await;
}

async fn settle(group: &'static str, delivery: Delivery, shared: &Shared, rng: &mut fastrand::Rng) {
    let (message, offset) = (number_of(delivery.key()), delivery.offset());
    shared.history.note(Event::Delivered { group, message, offset });
    match rng.u8(0..20) {
        0 => drop(delivery.nack().after(Duration::from_millis(50)).reason("by chance").await),
        1 => drop(delivery.release().await),
        2 if rng.bool() => {
            shared.history.note(Event::Settling { group, message });
            drop(delivery.reject("by chance").await);
        }
        _ => {
            shared.history.note(Event::Settling { group, message });
            if delivery.ack().await.is_ok() {
                shared.history.note(Event::Acked { group, message, offset });
                shared.answered();
            }
        }
    }
}
