//! Scheduled messages on the real broker and the real clock: thousands fall due every second for minutes, the broker is
//! killed and started amid them. Early is a fault. How late is written down; only very late is a fault, for the machine
//! may be busy with something else.

use std::sync::Arc;
use std::time::Duration;

use escrow::{Client, Message};
use escrow_tests::rig::{BrokerProcess, Ports, Trials};
use tokio::sync::{Mutex, Semaphore};

const TOPIC: &str = "alarms";
const GROUP: &str = "watch";
/// Messages that fall due in a second.
const DUE_PER_SECOND: u64 = 1_000;
/// Messages that are sent in a second at the least: none is due before all are sent.
const SENT_PER_SECOND: u64 = 1_000;
/// Sends under way at once.
const SENDS_MAX: usize = 256;
/// A message that is this late was forgotten, and found by chance.
const LATE_MS_MAX: u64 = 60_000;
/// Nothing takes longer than this beyond what was planned.
const PATIENCE: Duration = Duration::from_secs(180);

#[allow(clippy::disallowed_methods, reason = "lateness is measured against the machine's own clock")]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

async fn connect(url: &str, name: &str) -> Client {
    let client = Client::builder(url)
        .client_id(name)
        .reconnect_delays(Duration::from_millis(10), Duration::from_millis(200))
        .operation_timeout(Duration::from_secs(60))
        .connect();
    client.await.expect("the broker is up")
}

/// Sends all messages; the n-th is due at `due_ms[n]`.
async fn send_all(url: &str, due_ms: &[u64]) {
    let client = connect(url, "sender").await;
    client.admin().ensure_topic(TOPIC).await.expect("the topic is made");
    let producer = Arc::new(client.producer("shop").build().await.expect("a producer connects"));
    let under_way = Arc::new(Semaphore::new(SENDS_MAX));
    for (number, due_ms) in due_ms.iter().enumerate() {
        let place = under_way.clone().acquire_owned().await.expect("it is never closed");
        let at = std::time::UNIX_EPOCH + Duration::from_millis(*due_ms);
        let message = Message::new(TOPIC).key(number.to_string()).deliver_at(at).text("ring");
        let producer = producer.clone();
        tokio::spawn(async move {
            producer.publish(message).await.expect("a scheduled message is taken");
            drop(place);
        });
    }
    let _all = under_way.acquire_many(SENDS_MAX as u32).await.expect("it is never closed");
}

/// Takes deliveries until each message was seen; when each was seen first.
async fn receive_all(url: String, count: usize, seen: Arc<Mutex<Vec<Option<u64>>>>) {
    let client = connect(&url, "receiver").await;
    let mut deliveries = client.subscribe(GROUP).topic(TOPIC).prefetch(1_000).open().await.expect("it joins");
    let mut left = count;
    while left > 0 {
        match deliveries.next().await {
            Some(Ok(delivery)) => {
                let now_ms = unix_ms();
                let number: usize = delivery.key().parse().expect("keys of the rig are numbers");
                let mut seen = seen.lock().await;
                if seen[number].is_none() {
                    seen[number] = Some(now_ms);
                    left -= 1;
                }
                // An ack that is lost with the broker brings the message again.
                tokio::spawn(async move { drop(delivery.ack().await) });
            }
            Some(Err(error)) if error.is_retryable() => {}
            Some(Err(error)) => panic!("{error}"),
            None => panic!("the stream ended"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_messages_are_never_early() {
    let trials = Trials::of("timers_soak", "messages", 3_000);
    let mut rng = trials.rng(0);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (dir, ports) = (scratch.path().join("data"), Ports::free());
    let mut broker = start(&dir, ports);
    let span_ms = (trials.count * 1_000 / DUE_PER_SECOND).max(3_000);
    let first_ms = unix_ms() + trials.count * 1_000 / SENT_PER_SECOND + 2_000;
    let due_ms: Vec<u64> = (0..trials.count).map(|_| first_ms + rng.u64(0..span_ms)).collect();

    send_all(&ports.url(), &due_ms).await;
    let sent_ms = unix_ms();
    let seen = Arc::new(Mutex::new(vec![None; due_ms.len()]));
    let receiving = tokio::spawn(receive_all(ports.url(), due_ms.len(), seen.clone()));
    let middle = Duration::from_millis((first_ms + span_ms / 2).saturating_sub(unix_ms()));
    // Half of them must be due: the time itself is what is waited for.
    let _ = tokio::time::timeout(middle, std::future::pending::<()>()).await;
    let died_ms = unix_ms();
    broker.kill();
    let mut broker = start(&dir, ports);
    let ready_ms = unix_ms();
    let limit = PATIENCE + Duration::from_millis(span_ms);
    let received = tokio::time::timeout(limit, receiving).await;
    let mut failures = Vec::new();
    if let Err(fault) = broker.stop() {
        failures.push(fault);
    }

    let seen = seen.lock().await;
    let missing = seen.iter().filter(|seen| seen.is_none()).count();
    if missing > 0 || !matches!(received, Ok(Ok(()))) {
        failures.push(format!("{missing} messages never came: {received:?}"));
    }
    let (mut late, mut across) = (Vec::new(), Vec::new());
    for (due_ms, seen_ms) in due_ms.iter().zip(seen.iter()) {
        let Some(seen_ms) = seen_ms else { continue };
        if seen_ms < due_ms {
            failures.push(format!("{} ms early", due_ms - seen_ms));
        }
        let since_ms = *due_ms.max(&sent_ms);
        match (died_ms..=ready_ms).contains(&since_ms) {
            true => across.push(seen_ms.saturating_sub(ready_ms)),
            false => late.push(seen_ms.saturating_sub(since_ms)),
        }
    }
    failures.truncate(20);
    let (p50, p999, max) = percentiles(&mut late);
    let (across_p50, _, across_max) = percentiles(&mut across);
    if max.max(across_max) > LATE_MS_MAX {
        failures.push(format!("late by {max} ms, after the restart by {across_max} ms"));
    }
    let told = format!(
        "late by {p50} ms (p50), {p999} ms (p99.9), {max} ms (at most); {} due in a restart of {} ms, behind it by \
         {across_p50} ms (p50), {across_max} ms (at most)",
        across.len(),
        ready_ms - died_ms
    );
    let count = trials.count;
    trials.finish(count, &told, &failures);
}

/// The middle, 99.9 of a hundred, the most.
fn percentiles(values: &mut [u64]) -> (u64, u64, u64) {
    values.sort_unstable();
    let at = |permille: usize| values.get(values.len() * permille / 1_000).or(values.last()).copied();
    (at(500).unwrap_or(0), at(999).unwrap_or(0), values.last().copied().unwrap_or(0))
}

fn start(dir: &std::path::Path, ports: Ports) -> BrokerProcess {
    BrokerProcess::start(dir, ports, &["delivery.lease=5s"], None).unwrap_or_else(|log| panic!("{log}"))
}
