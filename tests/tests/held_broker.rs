//! Nothing is delivered, asked or answered before it is durable, in the real broker: each trial holds the journal's sync
//! while one thing happens, and nothing of it may reach any client, by any way, until the sync was let go. Then the
//! process goes on, or dies, or the power fails; and the next one knows what it must, and nothing it must not.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use escrow_broker::broker::{Broker, BrokerConfig};
use escrow_protocol::v1;
use escrow_protocol::v1::admin_service_client::AdminServiceClient;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_protocol::v1::producer_service_client::ProducerServiceClient;
use escrow_protocol::v1::settlement::Verb;
use escrow_storage::{DiskStore, Fault, Faults, OpenError, Operation, Options};
use escrow_tests::rig::Trials;
use escrow_tests::rig::wire::{RawConsumer, RawProducer, channel};
use futures::FutureExt as _;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const TOPIC: &str = "orders";
/// A topic to which nobody listens.
const ASIDE: &str = "aside";
const GROUP: &str = "billing";
const PRODUCERS: &str = "shop";
/// Answers that overtake on one connection: one that had left before these were asked for would be there.
const BARRIER_CALLS: usize = 20;
/// Longer than anything takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long until the scheduled message of a trial is due: its sync is held before.
const SCHEDULED_AHEAD_MS: u64 = 2_000;
/// A lease that outlives its trial, and one that runs out in it.
const LEASE_MS: u64 = 120_000;
const LEASE_SHORT_MS: u64 = 1_500;

/// What happens while the sync is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    Publish,
    SendHalf,
    Commit,
    Rollback,
    CheckAnswer,
    Ack,
    Nack,
    Reject,
    Redrive,
    CreateTopic,
    DueSchedule,
    LeaseRunsOut,
}

const HAPPENINGS: [Happening; 12] = [
    Happening::Publish,
    Happening::SendHalf,
    Happening::Commit,
    Happening::Rollback,
    Happening::CheckAnswer,
    Happening::Ack,
    Happening::Nack,
    Happening::Reject,
    Happening::Redrive,
    Happening::CreateTopic,
    Happening::DueSchedule,
    Happening::LeaseRunsOut,
];

/// What becomes of the held sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Released,
    Killed,
    PowerCut,
}

/// A broker on a directory, its journal under `faults`, and clients.
struct Scene {
    broker: Broker,
    faults: Faults,
    channel: Channel,
    producer: RawProducer,
    consumer: RawConsumer,
    admin: AdminServiceClient<Channel>,
}

/// What a trial is about.
#[derive(Debug, Default, Clone)]
struct Subject {
    id: Vec<u8>,
    transaction: u64,
    lease_token: u64,
    offset: u64,
    check: u64,
}

fn options(faults: &Faults) -> Options {
    // Without a room of its own: the disk of this machine is not what is tried.
    Options { faults: faults.clone(), ballast_bytes: 0, ..Options::default() }
}

/// Opens the store of a process that has just ended; what of it still runs lets go of the lock.
async fn open(dir: &Path, faults: &Faults) -> Result<DiskStore, String> {
    let opening = async {
        loop {
            let (dir, options) = (dir.to_owned(), options(faults));
            let opened = tokio::task::spawn_blocking(move || DiskStore::open(dir, options)).await;
            match opened.map_err(|error| error.to_string())? {
                Ok((store, _)) => return Ok(store),
                Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    timeout(PATIENCE, opening).await.map_err(|_| "the store stays locked".to_owned())?
}

async fn start(dir: &Path, faults: &Faults, lease_ms: u64) -> Result<Broker, String> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = BrokerConfig { grpc_listen: any, http_listen: any, ..BrokerConfig::default() };
    config.settings.topics.create_on_use = true;
    config.settings.transactions.first_check_after_ms = 3_600_000;
    config.settings.groups.settings.lease_ms = lease_ms;
    Broker::start(config, open(dir, faults).await?).await.map_err(|error| error.to_string())
}

fn message(topic: &str, id: &[u8], deliver_at_ms: i64) -> v1::Message {
    v1::Message {
        id: id.to_vec().into(),
        topic: topic.to_owned(),
        body: vec![b'x'; 100].into(),
        deliver_at_ms,
        ..v1::Message::default()
    }
}

/// An id nobody else has.
fn new_id(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut random = [0; 10];
    rng.fill(&mut random);
    escrow_protocol::MessageId::new(1_700_000_000_000, random).as_bytes().to_vec()
}

impl Scene {
    async fn start(dir: &Path, lease_ms: u64) -> Result<Self, String> {
        let faults = Faults::planned();
        let broker = start(dir, &faults, lease_ms).await?;
        let words = |status: tonic::Status| status.to_string();
        let channel = connect(&broker).await?;
        let consumer = RawConsumer::open(channel.clone(), GROUP, "billing-1", TOPIC).await.map_err(words)?;
        let producer = RawProducer::open(channel.clone(), PRODUCERS, &[PRODUCERS]).await.map_err(words)?;
        let admin = AdminServiceClient::new(channel.clone());
        Ok(Self { broker, faults, channel, producer, consumer, admin })
    }

    /// What must be there before `happening`, all of it answered.
    async fn prepare(&mut self, happening: Happening, rng: &mut fastrand::Rng) -> Result<Subject, String> {
        let mut subject = Subject { id: new_id(rng), ..Subject::default() };
        match happening {
            Happening::Publish | Happening::SendHalf | Happening::CreateTopic => {}
            Happening::Commit | Happening::Rollback | Happening::CheckAnswer => {
                subject.transaction = match self.run(half(&subject)).await? {
                    Outcome::Prepared(prepared) => prepared.transaction_id,
                    other => return Err(format!("no half message but {other:?}")),
                };
                if happening == Happening::CheckAnswer {
                    subject.check = self.question(subject.transaction).await?;
                }
            }
            Happening::DueSchedule => {
                let at_ms = unix_ms() + SCHEDULED_AHEAD_MS;
                self.run(publish(message(TOPIC, &subject.id, at_ms as i64))).await?;
                self.credit(1).await;
            }
            Happening::Ack | Happening::Nack | Happening::Reject | Happening::LeaseRunsOut => {
                self.lease(&mut subject).await?;
            }
            Happening::Redrive => {
                self.lease(&mut subject).await?;
                self.settle(&subject, Verb::Reject(v1::Reject { reason: "never".to_owned() })).await;
                let result = self.consumer.batch().await.map_err(|status| status.to_string())?;
                match result.results.first() {
                    Some(v1::SettleResult { fault: None, .. }) => {}
                    other => return Err(format!("it was not rejected: {other:?}")),
                }
            }
        }
        Ok(subject)
    }

    /// The one outcome of a command.
    async fn run(&mut self, command: Command) -> Result<Outcome, String> {
        self.producer.command(1, command).await;
        let answered = timeout(PATIENCE, self.producer.results()).await.map_err(|_| "no answer")?;
        let mut results = answered.map_err(|status| status.to_string())?;
        let result = results.results.pop().and_then(|result| result.result);
        result.ok_or_else(|| "an answer without an outcome".to_owned())
    }

    async fn question(&mut self, transaction_id: u64) -> Result<u64, String> {
        let request = v1::CheckTransactionRequest { transaction_id, operator: operator() };
        self.admin.check_transaction(request).await.map_err(|status| status.to_string())?;
        let asked = timeout(PATIENCE, self.producer.results()).await.map_err(|_| "no question")?;
        let asked = asked.map_err(|status| status.to_string())?;
        asked.questions.first().map(|question| question.check).ok_or_else(|| "no question".to_owned())
    }

    async fn credit(&self, messages: u32) {
        self.consumer.frame(Some(v1::Credit { messages, bytes: 1 << 20 }), Vec::new()).await;
    }

    /// Publishes a message and lets the consumer have it.
    async fn lease(&mut self, subject: &mut Subject) -> Result<(), String> {
        self.run(publish(message(TOPIC, &subject.id, 0))).await?;
        self.credit(1).await;
        let batch = timeout(PATIENCE, self.consumer.batch()).await.map_err(|_| "no delivery")?;
        let batch = batch.map_err(|status| status.to_string())?;
        let delivery = batch.deliveries.first().ok_or("a batch without a delivery")?;
        (subject.lease_token, subject.offset) = (delivery.lease_token, delivery.offset);
        // Room for what must not come.
        self.credit(10).await;
        Ok(())
    }

    async fn settle(&self, subject: &Subject, verb: Verb) {
        let lease_token = subject.lease_token;
        self.consumer
            .frame(None, vec![v1::Settlement { correlation: 1, lease_token, verb: Some(verb) }])
            .await;
    }

    /// Lets it happen. What is asked by a call goes on in a task of its own.
    async fn cause(&self, happening: Happening, subject: &Subject) -> Option<tokio::task::JoinHandle<bool>> {
        let decide = |decision: v1::Decision| {
            Command::Decide(v1::DecideRequest {
                transaction_id: subject.transaction,
                decision: decision.into(),
                ..v1::DecideRequest::default()
            })
        };
        match happening {
            Happening::Publish => {
                self.producer.command(1, publish(message(TOPIC, &subject.id, 0))).await;
                self.credit(10).await;
            }
            Happening::SendHalf => self.producer.command(1, half(subject)).await,
            Happening::Commit => self.producer.command(1, decide(v1::Decision::Commit)).await,
            Happening::Rollback => self.producer.command(1, decide(v1::Decision::Rollback)).await,
            Happening::CheckAnswer => {
                let answer = v1::CheckAnswer {
                    transaction_id: subject.transaction,
                    check: subject.check,
                    verdict: v1::CheckVerdict::VerdictCommit.into(),
                };
                self.producer.command(1, Command::CheckAnswer(answer)).await;
                self.credit(10).await;
            }
            Happening::Ack => self.settle(subject, Verb::Ack(v1::Ack {})).await,
            Happening::Nack => {
                let nack = v1::Nack { delay_ms: Some(0), reason: "again".to_owned() };
                self.settle(subject, Verb::Nack(nack)).await;
            }
            Happening::Reject => {
                self.settle(subject, Verb::Reject(v1::Reject { reason: "never".to_owned() })).await;
            }
            Happening::Redrive => {
                let filter = v1::DeadLetterFilter { group: GROUP.to_owned(), ..Default::default() };
                let request = v1::RedriveDeadLettersRequest {
                    filter: Some(filter),
                    operator: operator(),
                    ..Default::default()
                };
                let mut admin = self.admin.clone();
                return Some(tokio::spawn(async move { admin.redrive_dead_letters(request).await.is_ok() }));
            }
            Happening::CreateTopic => {
                let request = v1::CreateTopicRequest {
                    name: "another".to_owned(),
                    operator: operator(),
                    ..Default::default()
                };
                let mut admin = self.admin.clone();
                return Some(tokio::spawn(async move { admin.create_topic(request).await.is_ok() }));
            }
            Happening::DueSchedule | Happening::LeaseRunsOut => {}
        }
        None
    }

    /// Everything that was under way on the connection has arrived.
    async fn barrier(&self) -> Result<(), String> {
        let mut health = HealthClient::new(self.channel.clone());
        for _ in 0..BARRIER_CALLS {
            let check = timeout(PATIENCE, health.check(HealthCheckRequest::default())).await;
            check.map_err(|_| "no sign of life")?.map_err(|status| status.to_string())?;
        }
        Ok(())
    }

    /// Fails if a frame has come.
    fn heard_nothing(&mut self) -> Result<(), String> {
        match (self.producer.arrived(), self.consumer.arrived()) {
            (Ok(None), Ok(None)) => Ok(()),
            heard => Err(format!("heard before it was durable: {heard:?}")),
        }
    }
}

async fn connect(broker: &Broker) -> Result<Channel, String> {
    channel(&format!("http://{}", broker.grpc_addr())).await.map_err(|error| error.to_string())
}

fn operator() -> Option<v1::Operator> {
    Some(v1::Operator { name: "ada".to_owned(), reason: "a rig".to_owned() })
}

fn publish(message: v1::Message) -> Command {
    Command::Publish(v1::PublishRequest { message: Some(message) })
}

fn half(subject: &Subject) -> Command {
    let messages = vec![message(TOPIC, &subject.id, 0)];
    Command::SendHalf(v1::SendHalfRequest { messages, ..v1::SendHalfRequest::default() })
}

/// Publishes aside by a call; whether that was answered.
fn publish_aside(channel: &Channel, id: &[u8]) -> tokio::task::JoinHandle<bool> {
    let request = v1::PublishRequest { message: Some(message(ASIDE, id, 0)) };
    let mut client = ProducerServiceClient::new(channel.clone());
    tokio::spawn(async move { client.publish(request).await.is_ok() })
}

/// Whether the store shows that it happened.
async fn shown(admin: &mut AdminServiceClient<Channel>, happening: Happening, subject: &Subject) -> bool {
    let event = match happening {
        Happening::CreateTopic => {
            let request = v1::GetTopicRequest { name: "another".to_owned() };
            return admin.get_topic(request).await.is_ok();
        }
        Happening::Rollback | Happening::Commit | Happening::CheckAnswer => {
            let request = v1::GetTransactionRequest { transaction_id: subject.transaction };
            let transaction = admin.get_transaction(request).await.map(tonic::Response::into_inner);
            return transaction.is_ok_and(|it| it.state() != v1::TransactionState::Prepared);
        }
        Happening::Redrive => {
            let request = v1::GetGroupRequest { name: GROUP.to_owned() };
            let group = admin.get_group(request).await.map(tonic::Response::into_inner);
            return group.is_ok_and(|group| group.dead_letters == 0);
        }
        Happening::Publish | Happening::DueSchedule => "QUEUED",
        Happening::SendHalf => "STORED",
        // Finished by its only group, it may be removed at once.
        Happening::Ack => {
            let events = events(admin, &subject.id).await;
            return !events.iter().any(|it| it == "WAITING" || it == "LEASED");
        }
        Happening::Nack | Happening::LeaseRunsOut => "FAILED",
        Happening::Reject => "DEAD",
    };
    events(admin, &subject.id).await.iter().any(|it| it == event)
}

/// What is known of a message; nothing, if it is not.
async fn events(admin: &mut AdminServiceClient<Channel>, id: &[u8]) -> Vec<String> {
    let request = v1::TraceMessageRequest { message_id: id.to_vec().into() };
    let Ok(trace) = admin.trace_message(request).await else { return Vec::new() };
    trace.into_inner().events.into_iter().map(|event| event.event).collect()
}

#[allow(
    clippy::disallowed_methods,
    reason = "a message is scheduled for a moment of the real broker's clock"
)]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

async fn trial(happening: Happening, end: End, rng: &mut fastrand::Rng) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let dir = scratch.path().join("data");
    let lease_ms = if happening == Happening::LeaseRunsOut { LEASE_SHORT_MS } else { LEASE_MS };
    let mut scene = Scene::start(&dir, lease_ms).await?;
    let mut answered = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let id = new_id(rng);
        if !publish_aside(&scene.channel, &id).await.unwrap_or(false) {
            return Err("a publish was refused".to_owned());
        }
        answered.push(id);
    }
    let subject = scene.prepare(happening, rng).await?;

    scene.faults.hold_syncs(true);
    let mut called = scene.cause(happening, &subject).await;
    let held = scene.faults.clone();
    let waiting = tokio::task::spawn_blocking(move || held.wait_for_held_sync());
    timeout(PATIENCE, waiting).await.map_err(|_| "no sync was asked for")?.map_err(|it| it.to_string())?;
    let behind = new_id(rng);
    let mut published_behind = publish_aside(&scene.channel, &behind);
    let shown_early = {
        let (mut admin, subject) = (scene.admin.clone(), subject.clone());
        tokio::spawn(async move { shown(&mut admin, happening, &subject).await })
    };
    scene.barrier().await?;
    let early = early(&mut scene, called.as_mut(), &mut published_behind, shown_early);
    if early.is_err() {
        scene.faults.hold_syncs(false);
        return early;
    }

    if end != End::Released {
        scene.faults.fail(Operation::Sync, 1, u64::MAX, Fault::Killed);
    }
    scene.faults.hold_syncs(false);
    if end == End::Released {
        released(scene, happening, &subject, called, published_behind).await
    } else {
        died(scene, &dir, (happening, end), &subject, called, published_behind, &answered, &behind).await
    }
}

/// Whether anything has left, by any way, while nothing was durable.
fn early(
    scene: &mut Scene,
    called: Option<&mut tokio::task::JoinHandle<bool>>,
    published: &mut tokio::task::JoinHandle<bool>,
    shown: tokio::task::JoinHandle<bool>,
) -> Result<(), String> {
    scene.heard_nothing()?;
    if called.is_some_and(|called| called.is_finished()) || published.is_finished() {
        return Err("a call was answered before it was durable".to_owned());
    }
    match shown.now_or_never() {
        Some(Ok(true)) => Err("it was shown before it was durable".to_owned()),
        _ => Ok(()),
    }
}

/// The sync took place after all: what waited is answered, and is so.
async fn released(
    mut scene: Scene,
    happening: Happening,
    subject: &Subject,
    called: Option<tokio::task::JoinHandle<bool>>,
    published_behind: tokio::task::JoinHandle<bool>,
) -> Result<(), String> {
    let answers = async {
        match (happening, called) {
            (_, Some(called)) => called.await.unwrap_or(false),
            (Happening::CheckAnswer | Happening::DueSchedule | Happening::LeaseRunsOut, None) => {
                scene.consumer.batch().await.is_ok()
            }
            (Happening::Ack | Happening::Nack | Happening::Reject, None) => {
                scene.consumer.batch().await.is_ok()
            }
            (_, None) => scene.producer.results().await.is_ok(),
        }
    };
    let heard = timeout(PATIENCE, answers).await.unwrap_or(false);
    let behind = timeout(PATIENCE, published_behind).await;
    if !heard || !matches!(behind, Ok(Ok(true))) {
        return Err(format!("never answered although it was durable ({heard}, {behind:?})"));
    }
    if !shown(&mut scene.admin, happening, subject).await {
        return Err("it was answered and is not so".to_owned());
    }
    scene.broker.shutdown().await.map_err(|error| error.to_string())
}

/// The process died with the sync: nobody heard of it, and the next process knows what was answered.
#[allow(clippy::too_many_arguments, reason = "the state of one trial, used once")]
async fn died(
    mut scene: Scene,
    dir: &Path,
    (happening, end): (Happening, End),
    subject: &Subject,
    called: Option<tokio::task::JoinHandle<bool>>,
    published_behind: tokio::task::JoinHandle<bool>,
    answered: &[Vec<u8>],
    behind: &[u8],
) -> Result<(), String> {
    timeout(PATIENCE, scene.broker.wait()).await.map_err(|_| "the broker went on without its sync")?;
    let calls = [called, Some(published_behind)];
    for call in calls.into_iter().flatten() {
        if timeout(PATIENCE, call).await.map_err(|_| "a call hangs on a dead broker")?.unwrap_or(false) {
            return Err("a call was answered although its turn was lost".to_owned());
        }
    }
    if let Ok(Some(frame)) = timeout(PATIENCE, scene.producer.next()).await.unwrap_or(Ok(None)) {
        return Err(format!("a producer heard of a lost turn: {frame:?}"));
    }
    if let Ok(Some(frame)) = timeout(PATIENCE, scene.consumer.next()).await.unwrap_or(Ok(None)) {
        return Err(format!("a consumer heard of a lost turn: {frame:?}"));
    }
    let Scene { broker, faults, .. } = scene;
    drop(broker);
    if end == End::PowerCut {
        wait_until_closed(dir).await?;
        faults.cut_power().map_err(|error| error.to_string())?;
    }

    let broker = start(dir, &Faults::default(), LEASE_MS).await?;
    let mut admin = AdminServiceClient::new(connect(&broker).await?);
    for id in answered {
        if events(&mut admin, id).await.is_empty() {
            return Err("a message whose publish was answered is lost".to_owned());
        }
    }
    let is_there = shown(&mut admin, happening, subject).await;
    let behind_is_there = !events(&mut admin, behind).await.is_empty();
    // What is due falls due in the next process too: it must be known, and may have happened there.
    let came_back = happening != Happening::DueSchedule && is_there;
    if happening == Happening::DueSchedule && events(&mut admin, &subject.id).await.is_empty() {
        return Err("a scheduled message is lost".to_owned());
    }
    if end == End::PowerCut && (came_back || behind_is_there) {
        return Err(format!("there after a power cut without a sync: {is_there}, {behind_is_there}"));
    }
    broker.shutdown().await.map_err(|error| error.to_string())
}

/// Waits until the lock of a dead process's store is free.
async fn wait_until_closed(dir: &Path) -> Result<(), String> {
    let lock = dir.join("LOCK");
    let waiting = async {
        loop {
            let file = std::fs::File::open(&lock).map_err(|error| error.to_string())?;
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| "the store stays locked".to_owned())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_the_broker_before_its_sync() {
    let trials = Trials::of("held_broker", "holds", 24);
    let (mut failures, mut ends) = (Vec::new(), [0_u64; 3]);
    for number in 0..trials.count {
        let mut rng = trials.rng(number);
        let happening = HAPPENINGS[number as usize % HAPPENINGS.len()];
        let end = [End::Released, End::Killed, End::PowerCut][rng.usize(0..3)];
        ends[end as usize] += 1;
        if let Err(fault) = trial(happening, end, &mut rng).await {
            failures.push(format!("trial {number}, {happening:?}, {end:?}: {fault}"));
        }
    }
    let [released, killed, cut] = ends;
    let seen = format!("{released} released, {killed} killed, {cut} with the power cut; 12 kinds of turns");
    let count = trials.count;
    trials.finish(count, &seen, &failures);
}
