//! More of everything than the broker can take, in 512 MiB: three times the capacity, undecided transactions, a backlog,
//! consumers that take nothing, connections opened and dropped, frames that are none. What is refused is told when to come
//! back; at least 80 % of the peak is still done, of what is stored and of what is delivered and acked together, and of each no
//! less than half; nothing is killed; memory and descriptors stay where they are; signs of life are answered; and in the end it
//! stops in order.
//!
//! One trial is a second of that; in the long form there are as many of each thing as promised, and less in shorter ones.
//! The generator shares the machine with the broker: what it takes for sending more than before counts against the goodput.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use escrow_protocol::v1;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_tests::rig::wire::{RawConsumer, RawProducer, channel};
use escrow_tests::rig::{BrokerProcess, MemoryBound, Ports, Trials};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Status};

/// What the broker may have.
const MEMORY_BYTES: u64 = 512 << 20;
/// What bounds memory is as it comes.
const SETTINGS: [&str; 3] =
    ["topics.create_on_use=true", "transactions.first_check_after=12h", "delivery.lease=30s"];
/// Of each thing, for each second of the run, and at most: what is promised.
const BACKLOG_BYTES: (u64, u64) = (3 << 20, 10_000_000_000);
const UNDECIDED: (u64, u64) = (1_000, 1_000_000);
const SLOW_CONSUMERS: (u64, u64) = (5, 1_000);
const DROPPED_CONNECTIONS: (u64, u64) = (20, 10_000);

/// Sessions that push; each has up to 16,384 commands without an answer, so that together they ask for more than waits.
const PUSHERS: usize = 6;
/// So many times the peak is offered in the flood.
const OVERLOAD: u64 = 3;
/// And at least this percentage of that was offered, or the generator could not.
const OFFERED_PERCENT_MIN: u64 = 90;
/// Bytes of a body.
const BODY_BYTES: usize = 512;
const BACKLOG_BODY_BYTES: usize = 32 << 10;
/// Commands of a frame.
const FRAME: usize = 256;
/// Commands of one session under way while the peak is measured: together nearly as many as wait without being refused.
const PEAK_UNDER_WAY: usize = 4_096;
/// And in the flood: beyond 16,384 the broker reads no more of a session; what is sent then waits on the way.
const FLOOD_UNDER_WAY: usize = 24_576;
const PEAK: Duration = Duration::from_secs(10);
/// A sign of life takes no longer, however much goes on.
const LIFE_LIMIT: Duration = Duration::from_secs(20);
/// Nothing else takes longer than this.
const PATIENCE: Duration = Duration::from_secs(300);
/// What memory and descriptors may have grown from the second quarter of the run to the last, beyond a tenth.
const GROWTH_BYTES: u64 = 16 << 20;
const GROWTH_DESCRIPTORS: u64 = 32;
/// From so many seconds on goodput and growth count: a timing never decides an everyday test, and what is filled first is
/// full by then.
const JUDGED_FROM: u64 = 60;
/// What must be left of the peak, percent: of all that is done, and of each kind.
const GOODPUT_PERCENT_MIN: u64 = 80;
const EACH_PERCENT_MIN: u64 = 50;

/// What everybody counts.
#[derive(Debug, Default)]
struct Counts {
    stored: AtomicU64,
    refused: AtomicU64,
    /// By the clock; what the broker does not read, or has not answered enough of, is not sent.
    offered: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    stop: AtomicBool,
}

/// One look at the process.
#[derive(Debug, Clone, Copy)]
struct Look {
    resident_bytes: u64,
    descriptors: u64,
}

fn look(pid: u32) -> Option<Look> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Look { resident_bytes: kib * 1024, descriptors })
}

fn scaled((per_second, most): (u64, u64), seconds: u64) -> u64 {
    (per_second * seconds).min(most)
}

fn publish(topic: &str, body: usize) -> Command {
    let message =
        v1::Message { topic: topic.to_owned(), body: vec![b'x'; body].into(), ..v1::Message::default() };
    Command::Publish(v1::PublishRequest { message: Some(message) })
}

/// A session, asked for until there is room for it: told when to come back, its client comes back.
async fn opened<T, F: Future<Output = Result<T, Status>>>(open: impl Fn() -> F) -> Result<T, String> {
    let opening = async {
        loop {
            match open().await {
                Err(status) if status.code() == Code::ResourceExhausted => {}
                opened => return opened.map_err(|status| status.to_string()),
            }
        }
    };
    timeout(PATIENCE, opening).await.map_err(|_| "no session, however often it is asked for")?
}

/// A session that sends one kind of command.
struct Pusher {
    session: RawProducer,
    command: fn(u64) -> Command,
    /// Commands of a frame.
    frame: usize,
    sent: u64,
    answered: u64,
    counts: Arc<Counts>,
}

impl Pusher {
    async fn open(
        url: &str,
        command: fn(u64) -> Command,
        frame: usize,
        counts: Arc<Counts>,
    ) -> Result<Self, String> {
        let connection = channel(url).await.map_err(|error| error.to_string())?;
        let session = opened(|| RawProducer::open(connection.clone(), "flood", &[])).await?;
        Ok(Self { session, command, frame, sent: 0, answered: 0, counts })
    }

    fn is_told_to_stop(&self) -> bool {
        self.counts.stop.load(Ordering::Relaxed)
    }

    /// Whether one more frame stays within `under_way`.
    fn may_send(&self, under_way: usize) -> bool {
        (self.sent - self.answered) as usize + self.frame <= under_way
    }

    async fn send(&mut self) {
        let sent = self.sent;
        let commands = (0..self.frame as u64).map(|nth| v1::ProducerCommand {
            correlation: sent + nth + 1,
            command: Some((self.command)(sent + nth)),
        });
        let commands = v1::ProducerFrame { commands: commands.collect() };
        let kind = Some(v1::producer_request::Kind::Frame(commands));
        self.session.send(v1::ProducerRequest { kind }).await;
        self.sent += self.frame as u64;
    }

    /// The next answers. Cancel-safe.
    async fn results(&mut self) -> Result<Vec<v1::ProducerResult>, String> {
        let results = timeout(PATIENCE, self.session.results()).await.map_err(|_| "no answers any more")?;
        Ok(results.map_err(|status| status.to_string())?.results)
    }

    /// What is refused must be so as an overload, with a time to come back.
    fn take(&mut self, results: Vec<v1::ProducerResult>) -> Result<(), String> {
        self.answered += results.len() as u64;
        for result in results {
            match result.result {
                Some(Outcome::Fault(fault)) => {
                    if fault.code != Code::ResourceExhausted as i32 || fault.retry_after_ms <= 0 {
                        return Err(format!("refused otherwise than by overload: {fault:?}"));
                    }
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                }
                Some(_) => {
                    self.counts.stored.fetch_add(1, Ordering::Relaxed);
                }
                None => return Err("an answer without an outcome".to_owned()),
            }
        }
        Ok(())
    }
}

/// Sends `count` commands in frames of `frame`, as fast as it is answered: not more than `under_way` without an answer,
/// until told to stop.
async fn push(
    url: String,
    command: fn(u64) -> Command,
    (count, frame, under_way): (u64, usize, usize),
    counts: Arc<Counts>,
) -> Result<(), String> {
    let mut pusher = Pusher::open(&url, command, frame, counts).await?;
    while pusher.answered < count && !pusher.is_told_to_stop() {
        while pusher.sent < count && pusher.may_send(under_way) {
            pusher.send().await;
        }
        let results = pusher.results().await?;
        pusher.take(results)?;
    }
    Ok(())
}

/// Offers `per_second` commands whatever becomes of those before, as one of many clients that do not wait for each other
/// does, and does not come back later when it is told to.
async fn flood(url: String, per_second: u64, counts: Arc<Counts>) -> Result<(), String> {
    let mut pusher = Pusher::open(&url, plain, FRAME, counts).await?;
    // Beats that were missed are made up for.
    let mut beat = tokio::time::interval(Duration::from_secs(FRAME as u64).div_f64(per_second.max(1) as f64));
    while !pusher.is_told_to_stop() {
        // Cancel-safe: a beat that is lost comes again, and so do answers.
        tokio::select! {
            _ = beat.tick() => {
                pusher.counts.offered.fetch_add(FRAME as u64, Ordering::Relaxed);
                if pusher.may_send(FLOOD_UNDER_WAY) && pusher.session.has_room() {
                    pusher.send().await;
                }
            }
            results = pusher.results() => {
                let results = results?;
                pusher.take(results)?;
            }
        }
    }
    Ok(())
}

fn plain(_: u64) -> Command {
    publish("flood", BODY_BYTES)
}

fn backlog(_: u64) -> Command {
    publish("backlog", BACKLOG_BODY_BYTES)
}

fn half(_: u64) -> Command {
    let message = v1::Message { topic: "aside".to_owned(), body: "x".into(), ..v1::Message::default() };
    Command::SendHalf(v1::SendHalfRequest { messages: vec![message], ..v1::SendHalfRequest::default() })
}

/// All of `count` must be stored: what is refused is sent again.
async fn store_all(url: &str, command: fn(u64) -> Command, count: u64, frame: usize) -> Result<(), String> {
    let counts = Arc::new(Counts::default());
    while counts.stored.load(Ordering::Relaxed) < count {
        let left = (count - counts.stored.load(Ordering::Relaxed)).next_multiple_of(frame as u64);
        let filling = push(url.to_owned(), command, (left, frame, 4 * frame), counts.clone());
        timeout(PATIENCE * 10, filling).await.map_err(|_| "it takes too long to fill")??;
    }
    Ok(())
}

/// Takes and acks what is pushed, so that the flood drains.
async fn consume(url: String, counts: Arc<Counts>) -> Result<(), String> {
    let words = |status: Status| status.to_string();
    let connection = channel(&url).await.map_err(|error| error.to_string())?;
    let join = || RawConsumer::open(connection.clone(), "quick", "quick-1", "flood");
    let mut session = opened(join).await?;
    session.frame(Some(v1::Credit { messages: 2_000, bytes: 8 << 20 }), Vec::new()).await;
    while !counts.stop.load(Ordering::Relaxed) {
        // When nothing is pushed any more nothing comes: then it is looked whether to stop.
        let Ok(batch) = timeout(Duration::from_secs(1), session.batch()).await else { continue };
        let batch = batch.map_err(words)?;
        let taken = batch.deliveries.len() as u64;
        let bytes =
            batch.deliveries.iter().map(|it| it.message.as_ref().map_or(0, |it| it.body.len()) as u64);
        let credit = v1::Credit { messages: taken as u32, bytes: bytes.sum() };
        let ack = |delivery: &v1::Delivery| v1::Settlement {
            correlation: 0,
            lease_token: delivery.lease_token,
            verb: Some(v1::settlement::Verb::Ack(v1::Ack {})),
        };
        session.frame(Some(credit), batch.deliveries.iter().map(ack).collect()).await;
        counts.delivered.fetch_add(taken, Ordering::Relaxed);
    }
    Ok(())
}

/// Opens `count` sessions that ask for much and read nothing. Each on a connection of its own: on one, what the first
/// does not read would be in the way of the others.
async fn slow_consumers(url: &str, count: u64) -> Result<Vec<RawConsumer>, String> {
    let mut sessions = Vec::new();
    for number in 0..count {
        let connection = channel(url).await.map_err(|error| error.to_string())?;
        let name = format!("slow-{number}");
        let join = || RawConsumer::open(connection.clone(), "slow", &name, "backlog");
        let session = opened(join).await.map_err(|fault| format!("{name}: {fault}"))?;
        session.frame(Some(v1::Credit { messages: 100, bytes: 1 << 20 }), Vec::new()).await;
        sessions.push(session);
    }
    Ok(sessions)
}

/// What others send who are no clients.
const NONSENSE: [&[u8]; 6] = [
    b"",
    b"\0\0\0\0\0\0\0\0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\xff\xff\x01\x05\x00\x00\x00\x01",
    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
];

/// Opens and drops connections, `count` in all, some of them in the middle of a word.
async fn churn(ports: Ports, count: u64, pace: Duration, counts: Arc<Counts>) -> Result<(), String> {
    let mut beat = tokio::time::interval(pace);
    for number in 0..count {
        if counts.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        beat.tick().await;
        let port = if number % 2 == 0 { ports.grpc } else { ports.http };
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
            return Err(format!("connection {number} was not accepted"));
        };
        // A connection that is turned away fails here.
        let _ = stream.write_all(NONSENSE[number as usize % NONSENSE.len()]).await;
        counts.dropped.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Frames that are larger than any may be, and messages that are none: refused, each by its own session only.
async fn giants(url: String, counts: Arc<Counts>) -> Result<(), String> {
    let mut beat = tokio::time::interval(Duration::from_secs(2));
    while !counts.stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let connection = channel(&url).await.map_err(|error| error.to_string())?;
        let mut client = v1::producer_service_client::ProducerServiceClient::new(connection);
        let message = v1::Message {
            topic: "flood".to_owned(),
            body: vec![b'x'; escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX].into(),
            ..v1::Message::default()
        };
        let giant = client.publish(v1::PublishRequest { message: Some(message) }).await;
        match giant.map_err(|status| status.code()) {
            Err(Code::OutOfRange | Code::ResourceExhausted) => {}
            other => return Err(format!("a giant was answered with {other:?}")),
        }
    }
    Ok(())
}

/// Whether `/readyz` says so.
async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        answer.starts_with(b"HTTP/1.1 200").then_some(())
    };
    timeout(LIFE_LIMIT, asked).await.ok().flatten().is_some()
}

/// What is done in a second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    stored: u64,
    /// And acked.
    delivered: u64,
}

impl Rate {
    fn of(counts: &Counts, seconds: u64) -> Self {
        let each_second = |count: &AtomicU64| count.load(Ordering::Relaxed) / seconds.max(1);
        Self { stored: each_second(&counts.stored), delivered: each_second(&counts.delivered) }
    }

    fn all(self) -> u64 {
        self.stored + self.delivered
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s stored and {}/s delivered", self.stored, self.delivered)
    }
}

/// What is done when the broker is kept busy and not flooded.
async fn peak(url: &str) -> Result<Rate, String> {
    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for _ in 0..PUSHERS {
        tasks.spawn(push(url.to_owned(), plain, (u64::MAX, FRAME, PEAK_UNDER_WAY), counts.clone()));
    }
    tasks.spawn(consume(url.to_owned(), counts.clone()));
    // The time itself is what is waited for.
    let _ = timeout(PEAK, std::future::pending::<()>()).await;
    let peak = Rate::of(&counts, PEAK.as_secs());
    counts.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = timeout(PATIENCE, tasks.join_next()).await.map_err(|_| "a client hangs")? {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(peak)
}

/// What is wrong with what was done in the flood.
fn judged(peak: Rate, flood: Rate, offered: u64, refused: u64) -> Result<(), String> {
    if flood.all() * 100 < peak.all() * GOODPUT_PERCENT_MIN {
        return Err(format!(
            "goodput collapsed: {flood}, the peak was {peak}; {offered} were offered, {refused} refused"
        ));
    }
    for (what, left, of) in
        [("stored", flood.stored, peak.stored), ("delivered", flood.delivered, peak.delivered)]
    {
        if left * 100 < of * EACH_PERCENT_MIN {
            return Err(format!("too little is {what}: {flood}, the peak was {peak}"));
        }
    }
    if offered * 100 < OVERLOAD * peak.stored * OFFERED_PERCENT_MIN {
        return Err(format!(
            "{offered} a second were offered: that is not {OVERLOAD} times the peak of {peak}"
        ));
    }
    Ok(())
}

/// The run: fills, measures the peak, floods for `seconds`, with a look at the process in each; what it saw.
async fn run(ports: Ports, pid: u32, seconds: u64, looks: &mut Vec<Look>) -> Result<String, String> {
    let url = ports.url();
    let words = |status: Status| status.to_string();
    let connection = channel(&url).await.map_err(|error| error.to_string())?;
    // The groups exist before what they are to fall behind with.
    for (group, topic) in [("slow", "backlog"), ("quick", "flood")] {
        drop(RawConsumer::open(connection.clone(), group, "first", topic).await.map_err(words)?);
    }
    let undecided = scaled(UNDECIDED, seconds);
    store_all(&url, half, undecided, FRAME).await?;
    let backlog_bytes = scaled(BACKLOG_BYTES, seconds);
    store_all(&url, backlog, backlog_bytes / BACKLOG_BODY_BYTES as u64, 32).await?;
    let peak = peak(&url).await?;

    let slow = timeout(PATIENCE, slow_consumers(&url, scaled(SLOW_CONSUMERS, seconds))).await;
    let slow = slow.map_err(|_| "slow consumers cannot connect")??;
    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for _ in 0..PUSHERS {
        tasks.spawn(flood(url.clone(), OVERLOAD * peak.stored / PUSHERS as u64, counts.clone()));
    }
    tasks.spawn(consume(url.clone(), counts.clone()));
    let dropped = scaled(DROPPED_CONNECTIONS, seconds);
    let pace = Duration::from_millis((seconds * 1_000 / dropped).max(1));
    tasks.spawn(churn(ports, dropped, pace, counts.clone()));
    tasks.spawn(giants(url.clone(), counts.clone()));

    let mut beat = tokio::time::interval(Duration::from_secs(1));
    for second in 0..seconds {
        beat.tick().await;
        if !is_ready(ports.http).await {
            return Err(format!("no sign of life in second {second}"));
        }
        looks.push(look(pid).ok_or_else(|| format!("the broker is gone in second {second}"))?);
        if let Some(Ok(Err(fault))) = tasks.try_join_next() {
            return Err(fault);
        }
    }
    counts.stop.store(true, Ordering::Relaxed);
    let flood_rate = Rate::of(&counts, seconds);
    let offered = counts.offered.load(Ordering::Relaxed) / seconds.max(1);
    drop(slow);
    while let Some(ended) = timeout(PATIENCE, tasks.join_next()).await.map_err(|_| "a client hangs")? {
        ended.map_err(|error| error.to_string())??;
    }
    // What was queued is worked off before this is answered: a stop has its time for itself.
    timeout(PATIENCE, store_all(&url, plain, 1, 1)).await.map_err(|_| "it does not come to rest")??;
    let refused = counts.refused.load(Ordering::Relaxed);
    if refused == 0 {
        return Err("nothing was refused: that was no overload".to_owned());
    }
    // In less time, beside other tests, it is only seen that it survives.
    if seconds >= JUDGED_FROM {
        judged(peak, flood_rate, offered, refused / seconds)?;
    }
    let seen = format!(
        "{undecided} undecided, {} MiB of backlog, {} slow consumers, {} connections dropped; peak {peak}, {offered}/s \
         offered, in the flood {flood_rate} ({} % of both), {refused} refused with a time to come back",
        backlog_bytes >> 20,
        scaled(SLOW_CONSUMERS, seconds),
        counts.dropped.load(Ordering::Relaxed),
        flood_rate.all() * 100 / peak.all().max(1),
    );
    Ok(seen)
}

/// What the last quarter of a run has beyond the second one, by their middles: it must stay where it is.
fn growth(looks: &[Look]) -> Vec<String> {
    let median = |looks: &[Look], of: fn(&Look) -> u64| {
        let mut values: Vec<u64> = looks.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let quarter = looks.len() / 4;
    let (second, last) = (&looks[quarter..2 * quarter], &looks[3 * quarter..]);
    let mut grown = Vec::new();
    let mut compare = |what: &str, of: fn(&Look) -> u64, margin: u64| {
        let (before, after) = (median(second, of), median(last, of));
        if after > before + before / 10 + margin {
            grown.push(format!("{what} grew from {before} to {after}"));
        }
    };
    compare("memory", |look| look.resident_bytes, GROWTH_BYTES);
    compare("descriptors", |look| look.descriptors, GROWTH_DESCRIPTORS);
    grown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_refused_and_survived() {
    let trials = Trials::of("overload", "seconds", 8);
    let bound = match MemoryBound::new("escrow-overload", MEMORY_BYTES) {
        Ok(bound) => bound,
        Err(fault) => {
            return trials.not_run(&format!("there is no control group with a bound on memory: {fault}"));
        }
    };
    let seconds = trials.count;
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (dir, ports) = (scratch.path().join("data"), Ports::free());
    let mut broker = start(&bound, &dir, ports);
    let mut failures = Vec::new();
    let mut seen = String::new();
    let mut looks = Vec::new();
    match run(ports, broker.id(), seconds, &mut looks).await {
        Ok(told) => {
            if seconds >= JUDGED_FROM {
                failures.extend(growth(&looks));
            }
            let of = |of: fn(&Look) -> u64| looks.iter().map(of).max().unwrap_or(0);
            seen = format!(
                "{told}; {} MiB resident in the end, {} at most, {} descriptors at most",
                looks.last().map_or(0, |look| look.resident_bytes) >> 20,
                of(|look| look.resident_bytes) >> 20,
                of(|look| look.descriptors)
            );
        }
        Err(fault) => failures.push(format!("{fault}; the log ends:\n{}", broker.log_tail())),
    }
    failures.extend(broker.stop().err());
    if bound.kills() > 0 {
        failures.push(format!("{} killed for want of memory", bound.kills()));
    }
    // Those that it lived through: a run that breaks off counts for no more.
    trials.finish(looks.len() as u64, &seen, &failures);
}

fn start(bound: &MemoryBound, dir: &Path, ports: Ports) -> BrokerProcess {
    BrokerProcess::start_within(bound, dir, ports, &SETTINGS).unwrap_or_else(|log| panic!("{log}"))
}
