//! Failing I/O: the n-th write or sync of the real binary below its data directory fails, those of the table's library
//! included, for every n until a whole scenario passes without coming by it. A sync that fails ends the process, and
//! nothing behind it is acknowledged; a disk without room refuses, and service goes on when it is over; a restart finds all
//! that was answered.
//!
//! `./test.sh --rig io_faults` tries every n, a smaller number every so-manieth. Needs Linux and rustc, which
//! compiles what is preloaded into the broker (`tests/interposer/failing_io.rs`); where they are missing nothing is
//! counted. The binary must have been built: `./test.sh` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use escrow_protocol::v1::settlement::Verb;
use escrow_protocol::v1::{Ack, Decision, Reject};
use escrow_tests::rig::{BrokerProcess, Ports, Trials, Unary, is_refused_for_room};
use tonic::Status;

/// Small bounds, so that files turn over and the table is written several times in a short scenario.
const SETTINGS: [&str; 7] = [
    "store.overlay=16KiB",
    "store.journal_file=16KiB",
    "store.journal_ahead=8KiB",
    "store.free_floor=1MiB",
    "store.ballast=64KiB",
    "transactions.first_check_after=1h",
    "delivery.lease=1h",
];
const BODY_BYTES: usize = 1_500;
/// How soon a process ends whose sync failed: the promise.
const STOP_PROMISED: Duration = Duration::from_secs(1);
/// … which a run that is recorded holds it to, and what fails a test that does not know how slow its machine is.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How long a disk that has room again may refuse.
const REFUSED_MAX: Duration = Duration::from_secs(30);
/// Operations that fail one after another when the disk is full: the ballast is given up for the first.
const FULL_TIMES: u64 = 4;
/// About as many writes as the scenario has; there are fewer syncs.
const USUAL_OPERATIONS: u64 = 300;
/// Every so-manieth operation is slow to fail.
const SLOW_EVERY: u64 = 3;
const SLOW_MS: u64 = 1_500;
/// No scenario has so many operations.
const OPERATIONS_MAX: u64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_io_loses_nothing_that_was_answered() {
    let trials = Trials::of("io_faults", "operations that fail", 24);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let interposer = match compile(scratch.path()) {
        Ok(interposer) => interposer,
        Err(reason) => return trials.not_run(&reason),
    };
    let mut rig = Rig {
        scratch: scratch.path().to_owned(),
        interposer,
        ends: BTreeMap::new(),
        stop_max: Duration::ZERO,
    };
    let (mut done, mut failures) = (0, Vec::new());
    let kinds = Fault::ALL.len() as u64;
    let mut completed = 0;
    for fault in Fault::ALL {
        let of_this_kind = trials.count / kinds;
        // Every n, or evenly spread over what a scenario has; where it begins is chosen by chance.
        let stride =
            if of_this_kind >= OPERATIONS_MAX { 1 } else { (USUAL_OPERATIONS / of_this_kind.max(1)).max(1) };
        let mut nth = if stride == 1 { 1 } else { trials.rng(done).u64(1..=stride) };
        loop {
            let outcome = rig.trial(fault, nth).await;
            match outcome {
                Ok(true) => {}
                // The scenario has no such operation any more.
                Ok(false) => {
                    completed += 1;
                    break;
                }
                Err(text) => {
                    println!("io_faults: {fault:?} {nth}: {text}");
                    failures.push(format!("{fault:?} {nth}: {text}"));
                }
            }
            done += 1;
            nth += stride;
            println!("io_faults: {done}, {fault:?} {nth}, {} failures; {}", failures.len(), rig.seen());
            if nth > OPERATIONS_MAX {
                failures.push(format!("{fault:?}: the scenario never completes"));
                break;
            }
        }
    }
    let seen = format!("every kind until the scenario completed: {completed} of {kinds}; {}", rig.seen());
    trials.finish(done, &seen, &failures);
}

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    WriteNoSpace,
    WriteBroken,
    SyncNoSpace,
    SyncBroken,
}

impl Fault {
    const ALL: [Self; 4] = [Self::WriteNoSpace, Self::WriteBroken, Self::SyncNoSpace, Self::SyncBroken];

    fn order(self, nth: u64) -> String {
        match self {
            Self::WriteNoSpace => format!("write:{nth}:{FULL_TIMES}:28:0"),
            Self::WriteBroken => format!("write:{nth}:1:5:{}", takes_ms(nth)),
            Self::SyncNoSpace => format!("sync:{nth}:1:28:0"),
            Self::SyncBroken => format!("sync:{nth}:1:5:{}", takes_ms(nth)),
        }
    }

    fn is_sync(self) -> bool {
        matches!(self, Self::SyncNoSpace | Self::SyncBroken)
    }

    /// The system's words for it.
    fn words(self) -> &'static str {
        match self {
            Self::WriteNoSpace | Self::SyncNoSpace => "No space left on device",
            Self::WriteBroken | Self::SyncBroken => "Input/output error",
        }
    }
}

/// How long the operation takes that fails, milliseconds: a disk that breaks tries for a while, and others wait meanwhile for
/// what it was to write.
fn takes_ms(nth: u64) -> u64 {
    if nth.is_multiple_of(SLOW_EVERY) { SLOW_MS } else { 0 }
}

/// What the interposer noted of the first failure.
#[derive(Debug, Clone)]
struct Noted {
    at: Duration,
    file: String,
    /// Whether all that failed are files of the journal.
    is_journal_only: bool,
}

impl Noted {
    /// The part of the data directory, for the record.
    fn place(&self) -> &'static str {
        ["journal", "values", "WATERMARK", "table/db", "table", "FORMAT", "LOCK"]
            .into_iter()
            .find(|part| self.file.contains(part))
            .unwrap_or("the directory")
    }
}

/// What a client was told.
#[derive(Debug, Default)]
struct Told {
    next_key: u64,
    /// Visible for certain, not settled.
    owed: BTreeSet<u64>,
    /// Acked for certain.
    acked: BTreeSet<u64>,
    /// Rejected for certain.
    rejected: BTreeSet<u64>,
    /// Rolled back, or refused, for certain: never to be seen.
    hidden: BTreeSet<u64>,
    /// Whose operation had no answer.
    open: BTreeSet<u64>,
    /// When the last operation was sent that was answered ok.
    last_ok: Duration,
    refused: u64,
}

struct Rig {
    scratch: PathBuf,
    interposer: PathBuf,
    /// What became of brokers, by what failed.
    ends: BTreeMap<String, u64>,
    stop_max: Duration,
}

impl Rig {
    fn seen(&self) -> String {
        let ends = self.ends.iter().map(|(end, count)| format!("{count} {end}, "));
        format!("{}stopped within {} ms", ends.collect::<String>(), self.stop_max.as_millis())
    }

    /// One scenario in a fresh directory; `false` if it passed without coming by the operation.
    async fn trial(&mut self, fault: Fault, nth: u64) -> Result<bool, String> {
        let dir = self.scratch.join("data");
        let log = self.scratch.join("failures");
        for stale in [&log, &dir.with_extension("log")] {
            // They may not be there.
            let _ = std::fs::remove_file(stale);
        }
        let _ = std::fs::remove_dir_all(&dir);
        let text = |path: &Path| path.display().to_string();
        let (interposer, below, order) = (text(&self.interposer), text(&dir), fault.order(nth));
        let environment = [
            ("LD_PRELOAD", interposer.as_str()),
            ("ESCROW_IO_DIR", &below),
            ("ESCROW_IO_FAULT", &order),
            ("ESCROW_IO_LOG", &text(&log)),
        ];
        let ports = Ports::free();
        let mut told = Told { next_key: 1, ..Told::default() };
        let end = match BrokerProcess::start_in(&dir, ports, &SETTINGS, &environment) {
            Err(text) if text.contains("panicked at") => return Err(format!("the start panicked: {text}")),
            Err(text) => End::NotStarted(text),
            Ok(mut broker) => {
                let mut client = Unary::new(&ports.url(), "orders", "billing");
                // Its last word is what the process ends with, and is judged by that.
                let scenario = scenario(&mut client, &mut told).await;
                self.end_of(&mut broker, fault, &log, scenario)?
            }
        };
        let Some(noted) = noted(&log) else {
            return match end {
                End::Stopped => Ok(false),
                other => Err(format!("nothing failed, yet: {other:?}")),
            };
        };
        let what = format!("{fault:?} in {}: {}", noted.place(), end.name());
        *self.ends.entry(what).or_default() += 1;
        self.judge_end(fault, &noted, &end, &told)?;
        judge_restart(&dir, &told).await.map_err(|text| format!("{} {}: {text}", noted.file, end.name()))?;
        Ok(true)
    }

    /// How the process ends: by itself, or by being told to when the scenario is over.
    fn end_of(
        &mut self,
        broker: &mut BrokerProcess,
        fault: Fault,
        log: &Path,
        scenario: Result<(), Status>,
    ) -> Result<End, String> {
        let failed = noted(log);
        let must_stop = failed.as_ref().is_some_and(|noted| must_stop(fault, &noted.file));
        if scenario.is_err() || must_stop {
            let status = broker.wait(STOP_MAX).ok_or_else(|| {
                let file = failed.as_ref().map(|noted| noted.file.clone());
                format!("{file:?} failed, and the process did not end; the scenario: {scenario:?}; its log ends:\n{}", broker.log_tail())
            })?;
            let text = format!("it ended with {status}:\n{}", broker.log_tail());
            let since = failed.map(|noted| unix_time().saturating_sub(noted.at));
            return match status.success() {
                true => Err(format!("the process ended as if all was well:\n{text}")),
                false => Ok(End::Died { text, since }),
            };
        }
        match broker.stop() {
            Ok(()) => Ok(End::Stopped),
            // It met the failure at the very end.
            Err(text) if noted(log).is_some() => Ok(End::Died { text, since: None }),
            Err(text) => Err(text),
        }
    }

    fn judge_end(&mut self, fault: Fault, noted: &Noted, end: &End, told: &Told) -> Result<(), String> {
        match end {
            End::Stopped => {}
            End::NotStarted(text) | End::Died { text, .. } => {
                if !text.contains(fault.words()) {
                    return Err(format!("the log does not name the failure of {}:\n{text}", noted.file));
                }
            }
        }
        // The table's library takes a full disk badly, and is not driven into one (docs/decisions/0003): only here it is.
        if fault == Fault::WriteNoSpace && noted.is_journal_only && matches!(end, End::Died { .. }) {
            return Err(format!("{} had no room for a while, and the process ended: {end:?}", noted.file));
        }
        if let End::Died { since: Some(since), .. } = end
            && fault.is_sync()
        {
            self.stop_max = self.stop_max.max(*since);
            if *since > STOP_PROMISED {
                let late = format!("the process took {since:?} to end, more than {STOP_PROMISED:?}");
                if Trials::is_recorded() {
                    return Err(late);
                }
                println!("io_faults: {late}");
            }
        }
        if must_stop(fault, &noted.file) && noted.file.contains("/journal/") && told.last_ok > noted.at {
            return Err(format!(
                "an operation was acknowledged that was sent after {} could not be synced",
                noted.file
            ));
        }
        Ok(())
    }
}

/// How a broker ended.
#[derive(Debug)]
enum End {
    /// It was told to, and all was well.
    Stopped,
    /// It ended by itself, with an error.
    Died { text: String, since: Option<Duration> },
    /// It never served.
    NotStarted(String),
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "served on",
            Self::Died { .. } => "ended",
            Self::NotStarted(_) => "did not start",
        }
    }
}

/// Whether the process must end: the store itself could not make this file durable. A file that is to become the next of the
/// journal and is not yet, new or spare, is given up when there is no room, and the one before goes on. Not the table's: its library flushes now and then for itself,
/// which nothing rests on; when the store's own sync of it fails the process ends as for the others. Not directories: what
/// rests on a name (that an old file is written over) is left undone until it is durable.
fn must_stop(fault: Fault, file: &str) -> bool {
    let is_ours = ["/journal/", "/values/", "/WATERMARK"].iter().any(|part| file.contains(part));
    let is_not_the_journals_yet = file.contains("/journal/") && file.ends_with(".tmp");
    let is_given_up = fault == Fault::SyncNoSpace && is_not_the_journals_yet;
    fault.is_sync() && is_ours && !is_given_up
}

/// One of everything, several times, until the process is gone. What is refused for lack of room is tried again.
async fn scenario(client: &mut Unary, told: &mut Told) -> Result<(), Status> {
    retried(told, async |_| client.set_up().await.or_else(is_there)).await?;
    for round in 0..10 {
        for _ in 0..3 {
            let key = told.key();
            retried(told, async |_| client.publish(key, BODY_BYTES).await).await?;
            told.settle(key, |told| &mut told.owed);
        }
        for decision in [Decision::Commit, Decision::Rollback] {
            let key = told.key();
            let transaction = retried(told, async |_| client.half(key, BODY_BYTES).await).await?;
            retried(told, async |_| client.decide(transaction, decision).await).await?;
            match decision {
                Decision::Rollback => told.settle(key, |told| &mut told.hidden),
                _ => told.settle(key, |told| &mut told.owed),
            }
        }
        let verb = if round % 3 == 0 {
            Verb::Reject(Reject { reason: "by chance".into() })
        } else {
            Verb::Ack(Ack {})
        };
        let taken = retried(told, async |_| client.receive(2).await).await?;
        for (key, lease) in taken {
            told.owed.remove(&key);
            told.open.insert(key);
            match retried(told, async |_| client.settle(&[lease], verb.clone()).await).await {
                Ok(()) if matches!(verb, Verb::Ack(_)) => told.settle(key, |told| &mut told.acked),
                Ok(()) => told.settle(key, |told| &mut told.rejected),
                // A refused turn makes the broker read its store again, and leases are not in it.
                Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                    told.settle(key, |told| &mut told.owed);
                }
                Err(status) => return Err(status),
            }
        }
    }
    Ok(())
}

/// A retried set-up may find what the refused one has made.
fn is_there(status: Status) -> Result<(), Status> {
    if status.code() == tonic::Code::AlreadyExists { Ok(()) } else { Err(status) }
}

impl Told {
    fn key(&mut self) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.open.insert(key);
        key
    }

    fn settle(&mut self, key: u64, set: impl FnOnce(&mut Self) -> &mut BTreeSet<u64>) {
        self.open.remove(&key);
        set(self).insert(key);
    }
}

/// Tries until it is no longer refused for lack of room.
async fn retried<T>(
    told: &mut Told,
    mut call: impl AsyncFnMut(u32) -> Result<T, Status>,
) -> Result<T, Status> {
    let since = unix_time();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut tries = 0;
    loop {
        ticks.tick().await;
        let sent = unix_time();
        tries += 1;
        match call(tries).await {
            Err(status) if is_refused_for_room(&status) && unix_time() - since < REFUSED_MAX => {
                told.refused += 1
            }
            Err(status) => return Err(status),
            Ok(answer) => {
                told.last_ok = sent;
                return Ok(answer);
            }
        }
    }
}

/// A restart on a sound disk finds all that was answered, and nothing that was taken back.
async fn judge_restart(dir: &Path, told: &Told) -> Result<(), String> {
    let ports = Ports::free();
    let mut broker =
        BrokerProcess::start(dir, ports, &SETTINGS, None).map_err(|log| format!("no restart: {log}"))?;
    let mut client = Unary::new(&ports.url(), "orders", "billing");
    let fault = |status: Status| format!("after the restart: {status}");
    if told.last_ok == Duration::ZERO {
        client.set_up().await.or_else(is_there).map_err(fault)?;
    }
    let mut owed = told.owed.clone();
    loop {
        let taken = client.receive(1_000).await.map_err(fault)?;
        if taken.is_empty() {
            break;
        }
        for (key, _) in &taken {
            owed.remove(key);
            for (set, what) in [
                (&told.acked, "was acked"),
                (&told.rejected, "was rejected"),
                (&told.hidden, "was rolled back or refused"),
            ] {
                if set.contains(key) {
                    return Err(format!("message {key} was delivered after a restart, which {what}"));
                }
            }
        }
        let leases: Vec<u64> = taken.iter().map(|(_, lease)| *lease).collect();
        client.settle(&leases, Verb::Ack(Ack {})).await.map_err(fault)?;
    }
    let dead = client.dead_letters().await;
    let dead: BTreeSet<u64> = match dead {
        Ok(dead) => dead.into_iter().collect(),
        Err(status) if status.code() == tonic::Code::NotFound => BTreeSet::new(),
        Err(status) => return Err(fault(status)),
    };
    if let Some(lost) = told.rejected.difference(&dead).next() {
        return Err(format!("the rejected message {lost} is not in the dead letters"));
    }
    if let Some(lost) = owed.first() {
        return Err(format!("message {lost} was answered and is lost"));
    }
    client.publish(told.next_key, BODY_BYTES).await.map_err(fault)?;
    broker.stop()
}

/// The first failure that was noted.
fn noted(log: &Path) -> Option<Noted> {
    let text = std::fs::read_to_string(log).ok()?;
    let is_journal_only = text.lines().all(|line| line.contains("/journal/"));
    let mut words = text.lines().next()?.splitn(3, ' ');
    let at = Duration::from_micros(words.next()?.parse().ok()?);
    Some(Noted { at, file: words.nth(1)?.to_owned(), is_journal_only })
}

fn compile(into: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interposer/failing_io.rs");
    let library = into.join("failing_io.so");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let mut command = Command::new(&rustc);
    command.args(["--edition", "2024", "-O", "--crate-type", "cdylib", "-o"]).arg(&library).arg(&source);
    let output = command.output().map_err(|error| format!("{rustc}: {error}"))?;
    match output.status.success() && cfg!(target_os = "linux") {
        true => Ok(library),
        false => Err(format!("the interposer: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// As the interposer counts.
#[allow(clippy::disallowed_methods, reason = "what another process noted is compared by the wall clock")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
