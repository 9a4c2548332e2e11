//! A full disk: a data directory on a file system of 64 MiB that fills and is freed, again and again, in turn by a foreign
//! file and by the broker's own messages. New messages are refused with the typed error, everything that settles or reads
//! goes on, the broker starts, and new messages are accepted again when there is room. Nothing is lost.
//!
//! `./test.sh --rig full_disk 200` runs the long form. Needs root, loop devices and mkfs.ext4; where they are missing
//! nothing is counted. The binary must have been built: `./test.sh` does.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use escrow_protocol::v1::settlement::Verb;
use escrow_protocol::v1::{Ack, Decision};
use escrow_tests::rig::{BrokerProcess, Kind, Mounted, Ports, Scratch, Trials, Unary, is_refused_for_room};

const DISK_BYTES: u64 = 64 << 20;
const SETTINGS: [&str; 9] = [
    "store.overlay=512KiB",
    "store.journal_file=1MiB",
    "store.journal=4MiB",
    "store.journal_ahead=64KiB",
    "store.cache=8MiB",
    "store.free_floor=12MiB",
    "store.ballast=4MiB",
    "transactions.first_check_after=1h",
    "delivery.lease=1h",
];
/// The floor of the settings: with less free space new messages are refused.
const FLOOR_BYTES: u64 = 12 << 20;
/// What is published to fill the disk.
const BODY_BYTES: usize = 100_000;
/// The most that own messages fill when a foreign file has filled the disk nearly.
const BOTH_BYTES_MAX: usize = 4_000_000;
/// As near to the floor the foreign file brings it then.
const NEAR_BYTES: u64 = 3 << 20;
/// What everyday messages have.
const SMALL_BODY_BYTES: usize = 2_000;
/// How soon after space has returned service resumes: the promise.
const RESUME_PROMISED: Duration = Duration::from_secs(5);
/// … which a run that is recorded holds it to, and what fails a test that does not know how slow its machine is.
const RESUME_MAX: Duration = Duration::from_secs(30);
/// Between two looks whether service has resumed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The disk is full or free long before so many looks.
const LOOKS_MAX: u32 = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_is_new_and_serves_on() {
    let trials = Trials::of("full_disk", "cycles", 6);
    let disk = match Disk::make() {
        Ok(disk) => disk,
        Err(reason) => return trials.not_run(&reason),
    };
    let mut rig = match Rig::start(disk).await {
        Ok(rig) => rig,
        Err(fault) => return trials.finish(0, "", &[fault]),
    };
    let (mut done, mut failures) = (0, Vec::new());
    while done < trials.count && failures.is_empty() {
        if let Err(fault) = rig.cycle(done, &mut trials.rng(done)).await {
            failures.push(format!(
                "cycle {}: {fault}; the broker's log ends:\n{}",
                done + 1,
                rig.broker.log_tail()
            ));
        }
        done += 1;
        println!("full_disk: {done} of {}; {}", trials.count, rig.seen());
    }
    if rig.resume_max > RESUME_PROMISED {
        let late = format!("service took {:?} to resume, more than {RESUME_PROMISED:?}", rig.resume_max);
        println!("full_disk: {late}");
        if Trials::is_recorded() {
            failures.push(late);
        }
    }
    trials.finish(done, &rig.seen(), &failures);
}

/// What fills the disk in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filling {
    /// A foreign file, which then goes.
    Foreign,
    /// A foreign file, and own messages for the rest, which are consumed before it goes.
    Both,
    /// Own messages alone: there is room again when they are consumed.
    Own,
}

impl Filling {
    const ALL: [Self; 3] = [Self::Foreign, Self::Both, Self::Own];
}

/// The file system, and beside the data a foreign file.
struct Disk {
    // Dropped in this order.
    mounted: Mounted,
    scratch: Scratch,
}

impl Disk {
    fn make() -> Result<Self, String> {
        let scratch = Scratch::make(2 * DISK_BYTES)?;
        let mounted =
            Mounted::make(Kind::Ext4, &scratch.path("full.image"), DISK_BYTES, &scratch.path("full"))?;
        std::fs::create_dir(mounted.dir().join("data")).map_err(|error| error.to_string())?;
        // By another name, so that the broker's log does not lie on the full disk.
        std::os::unix::fs::symlink(mounted.dir().join("data"), scratch.path("data"))
            .map_err(|error| error.to_string())?;
        Ok(Self { mounted, scratch })
    }

    fn data(&self) -> PathBuf {
        self.scratch.path("data")
    }

    fn foreign(&self) -> PathBuf {
        self.mounted.dir().join("foreign")
    }

    fn free_bytes(&self) -> u64 {
        let answer = rustix::fs::statvfs(self.mounted.dir()).expect("it is mounted");
        answer.f_bavail * answer.f_frsize
    }

    /// Lets the foreign file grow until `left` bytes are free.
    fn fill(&self, left: u64) -> Result<(), String> {
        let file = File::options().create(true).append(true).open(self.foreign());
        let file = file.map_err(|error| error.to_string())?;
        // A file needs a little more than its bytes: come near in steps, each half of the way.
        for _ in 0..40 {
            let more = self.free_bytes().saturating_sub(left);
            let length = file.metadata().map_err(|error| error.to_string())?.len();
            let step = if more > 64 << 10 { more / 2 } else { more };
            if step < 4096
                || rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, step).is_err()
            {
                break;
            }
        }
        Ok(())
    }

    fn empty(&self) {
        // It may not be there.
        let _ = std::fs::remove_file(self.foreign());
    }
}

struct Rig {
    disk: Disk,
    ports: Ports,
    broker: BrokerProcess,
    client: Unary,
    next_key: u64,
    /// Answered as visible, and not yet acked.
    owed: BTreeSet<u64>,
    /// Acked, rolled back, or refused: never to be seen again.
    over: BTreeSet<u64>,
    refused: u64,
    served: u64,
    starts_when_full: u64,
    /// Cycles in which the broker's own messages went down to the floor.
    filled_alone: u64,
    resume_max: Duration,
    table_bytes_max: u64,
}

impl Rig {
    async fn start(disk: Disk) -> Result<Self, String> {
        let ports = Ports::free();
        let broker = BrokerProcess::start(&disk.data(), ports, &SETTINGS, None)?;
        let mut client = Unary::new(&ports.url(), "orders", "billing");
        client.set_up().await.map_err(|status| format!("set up: {status}"))?;
        Ok(Self {
            disk,
            ports,
            broker,
            client,
            next_key: 1,
            owed: BTreeSet::new(),
            over: BTreeSet::new(),
            refused: 0,
            served: 0,
            starts_when_full: 0,
            filled_alone: 0,
            resume_max: Duration::ZERO,
            table_bytes_max: 0,
        })
    }

    fn seen(&self) -> String {
        format!(
            "{} times refused ({} of them own messages filled it), {} decisions, acks and reads served when full, {} starts when full, service resumed \
             within {} ms, table up to {} MiB",
            self.refused,
            self.filled_alone,
            self.served,
            self.starts_when_full,
            self.resume_max.as_millis(),
            self.table_bytes_max >> 20
        )
    }

    async fn cycle(&mut self, number: u64, rng: &mut fastrand::Rng) -> Result<(), String> {
        // Something to settle when the disk is full.
        for _ in 0..6 {
            self.publish(SMALL_BODY_BYTES).await.map_err(|status| format!("with room: {status}"))?;
        }
        let mut halves = Vec::new();
        for _ in 0..4 {
            let key = self.key();
            let half = self.client.half(key, SMALL_BODY_BYTES).await;
            halves.push((key, half.map_err(|status| format!("with room: {status}"))?));
        }
        let filling = Filling::ALL[number as usize % Filling::ALL.len()];
        // What the foreign file leaves: less than the floor, or not a byte.
        let left = if rng.bool() { 0 } else { rng.u64(FLOOR_BYTES / 4..FLOOR_BYTES * 3 / 4) };
        let left = match filling {
            Filling::Foreign => Some(left),
            Filling::Both => {
                self.disk.fill(FLOOR_BYTES + NEAR_BYTES)?;
                if self.publish_until_refused(BOTH_BYTES_MAX).await? {
                    self.filled_alone += 1;
                }
                Some(FLOOR_BYTES / 2)
            }
            Filling::Own => {
                if !self.publish_until_refused(DISK_BYTES as usize).await? {
                    return Err(format!("never refused, with {} bytes free", self.disk.free_bytes()));
                }
                self.filled_alone += 1;
                None
            }
        };
        self.await_refusal(left).await?;
        self.serve(&halves[..2]).await?;
        if number % 4 >= 2 {
            self.broker.kill();
            self.broker = BrokerProcess::start(&self.disk.data(), self.ports, &SETTINGS, None)
                .map_err(|log| format!("start on a full disk: {log}"))?;
            self.starts_when_full += 1;
            self.await_refusal(left).await?;
        }
        self.serve(&halves[2..]).await?;
        if filling != Filling::Foreign {
            self.consume_all().await?;
        }
        self.disk.empty();
        self.await_service().await?;
        self.consume_all().await
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key - 1
    }

    async fn publish(&mut self, body_bytes: usize) -> Result<(), tonic::Status> {
        let key = self.key();
        let published = self.client.publish(key, body_bytes).await;
        match &published {
            Ok(()) => self.owed.insert(key),
            Err(_) => self.over.insert(key),
        };
        published
    }

    /// Publishes so many bytes at most; says whether that was refused at some point.
    async fn publish_until_refused(&mut self, bytes_max: usize) -> Result<bool, String> {
        for _ in 0..bytes_max / BODY_BYTES {
            match self.publish(BODY_BYTES).await {
                Ok(()) => {}
                Err(status) if is_refused_for_room(&status) => return Ok(true),
                Err(status) => return Err(format!("a new message, before the disk was full: {status:?}")),
            }
        }
        Ok(false)
    }

    /// Publishes until it is refused, which must be as promised. The foreign file leaves `left` all the while: the broker may
    /// clear away what was consumed, and make room.
    async fn await_refusal(&mut self, left: Option<u64>) -> Result<(), String> {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        for _ in 0..LOOKS_MAX {
            if let Some(left) = left {
                self.disk.fill(left)?;
            }
            match self.publish(SMALL_BODY_BYTES).await {
                Ok(()) => drop(ticks.tick().await),
                Err(status) if is_refused_for_room(&status) => {
                    self.refused += 1;
                    let key = self.key();
                    let half = self.client.half(key, SMALL_BODY_BYTES).await;
                    return match half {
                        Err(status) if is_refused_for_room(&status) => Ok(()),
                        other => Err(format!("a half message, when full: {other:?}")),
                    };
                }
                Err(status) => return Err(format!("a new message, when full: {status:?}")),
            }
        }
        Err(format!("never refused, with {} bytes free", self.disk.free_bytes()))
    }

    /// Decisions, acks and reads go on.
    async fn serve(&mut self, halves: &[(u64, u64)]) -> Result<(), String> {
        for (nth, (key, transaction)) in halves.iter().enumerate() {
            let decision = if nth.is_multiple_of(2) { Decision::Commit } else { Decision::Rollback };
            let decided = self.client.decide(*transaction, decision).await;
            decided.map_err(|status| format!("{decision:?}, when full: {status}"))?;
            if decision == Decision::Commit {
                self.owed.insert(*key)
            } else {
                self.over.insert(*key)
            };
            self.served += 1;
        }
        self.consume(3).await.map_err(|fault| format!("when full: {fault}"))?;
        let status = self.client.status().await.map_err(|status| format!("status, when full: {status}"))?;
        let table_bytes = status.store.as_ref().map_or(0, |store| store.table_bytes);
        self.table_bytes_max = self.table_bytes_max.max(table_bytes);
        if status.accepting {
            // It may have cleared away what was consumed, and made room: then it is filled again.
            let free_bytes = self.disk.free_bytes();
            if free_bytes < FLOOR_BYTES {
                return Err(format!(
                    "the status says that new messages are accepted, with {free_bytes} bytes free"
                ));
            }
            self.await_refusal(Some(FLOOR_BYTES / 2)).await?;
        }
        if let Some(key) = self.owed.first() {
            let found = self.client.find(*key).await;
            if !found.map_err(|status| format!("find, when full: {status}"))? {
                return Err(format!("message {key} is not found, when full"));
            }
        }
        self.served += 4;
        Ok(())
    }

    /// Takes and acks up to `count`; says how many there were.
    async fn consume(&mut self, count: u32) -> Result<usize, String> {
        let taken = self.client.receive(count).await.map_err(|status| format!("receive: {status}"))?;
        for (key, _) in &taken {
            if !self.owed.remove(key) {
                let known = if self.over.contains(key) { "is over" } else { "was never answered" };
                return Err(format!("message {key} was delivered, which {known}"));
            }
            self.over.insert(*key);
        }
        let leases: Vec<u64> = taken.iter().map(|(_, lease)| *lease).collect();
        if !leases.is_empty() {
            let acked = self.client.settle(&leases, Verb::Ack(Ack {})).await;
            acked.map_err(|status| format!("ack: {status}"))?;
        }
        Ok(leases.len())
    }

    /// Consumes everything that is owed.
    async fn consume_all(&mut self) -> Result<(), String> {
        while self.consume(64).await? > 0 {}
        match self.owed.len() {
            0 => Ok(()),
            lost => Err(format!("{lost} messages are lost, the first is {:?}", self.owed.first())),
        }
    }

    /// Space is back: how long until a new message is accepted.
    #[allow(clippy::disallowed_methods, reason = "the rig measures how long it takes")]
    async fn await_service(&mut self) -> Result<(), String> {
        let since = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while since.elapsed() < RESUME_MAX {
            match self.publish(SMALL_BODY_BYTES).await {
                Ok(()) => {
                    self.resume_max = self.resume_max.max(since.elapsed());
                    return Ok(());
                }
                Err(status) if is_refused_for_room(&status) => drop(ticks.tick().await),
                Err(status) => return Err(format!("a new message, with room: {status}")),
            }
        }
        let stats = self.client.status().await.map(|status| status.store.unwrap_or_default());
        Err(format!("service did not resume; {} bytes are free; {stats:?}", self.disk.free_bytes()))
    }
}
