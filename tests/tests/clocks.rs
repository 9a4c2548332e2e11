//! Clocks that lie: the real binary stands still for longer than its leases (SIGSTOP, SIGCONT), and its wall clock jumps
//! by an hour, forward and back, and by ten years, under a mixed load. Nothing is lost, no storm breaks loose, and leases
//! that are over stay over.
//!
//! No storm: a delivery is repeated only if its consumer gave it back, or because its lease ran out while the broker stood
//! still: at most all that consumers may hold, for each time. A transaction is asked about at most twice.
//!
//! The wall clock is set with libfaketime (Debian: `faketime`). Without it the rig says so and counts nothing.
//!
//! `./test.sh --rig clocks 50` runs the long form. The binary must have been built: `./test.sh` does.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escrow_tests::rig::{BrokerProcess, Event, Load, PREFETCH, Plan, Ports, Trials, Verdicts};
use tokio::time::timeout;

const SETTINGS: [&str; 5] = [
    "retry.strategy=fixed",
    "retry.fixed_delay=20ms",
    "delivery.lease=1s",
    "transactions.first_check_after=200ms",
    "transactions.check_delays=5s",
];
const HOUR_S: i64 = 3_600;
const TEN_YEARS_S: i64 = 3_650 * 24 * HOUR_S;
/// How long the broker stands still, milliseconds: longer than a lease.
const STANDSTILL_MS: std::ops::Range<u64> = 1_200..2_500;
/// Consumers of a group, of which there are two.
const CONSUMERS: u64 = 2;
const GROUPS: u64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_no_storm_breaks_loose_when_clocks_lie() {
    let trials = Trials::of("clocks", "runs", 2);
    let Some(library) = faketime() else {
        return trials.not_run("there is no libfaketime here (Debian: apt install faketime)");
    };
    let (mut seen, mut happened) = (Verdicts::default(), Happened::default());
    let mut failures = Vec::new();
    for trial in 1..=trials.count {
        let mut run = Happened::default();
        match run_once(&library, &mut trials.rng(trial), &mut run).await {
            Ok(verdicts) => {
                failures.extend(storm(&verdicts, &run).map(|storm| format!("run {trial}: {storm}")));
                seen.add(verdicts);
            }
            Err(faults) => failures.push(format!("run {trial}:\n{faults}")),
        }
        happened.standstills += run.standstills;
        happened.jumps += run.jumps;
        println!("clocks: {trial} of {}, {} failures", trials.count, failures.len());
    }
    if failures.is_empty() && (seen.promised == 0 || happened.standstills == 0 || happened.jumps == 0) {
        failures.push(format!("nothing was tried: {happened:?}, {}", seen.seen()));
    }
    let Happened { standstills, jumps } = happened;
    let seen = format!("{standstills} standstills, {jumps} jumps; {}", seen.seen());
    let done = trials.count;
    trials.finish(done, &seen, &failures);
}

/// What was done to the clocks.
#[derive(Debug, Default)]
struct Happened {
    standstills: u64,
    jumps: u64,
}

async fn run_once(
    library: &Path,
    rng: &mut fastrand::Rng,
    happened: &mut Happened,
) -> Result<Verdicts, String> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut clock = WallClock::new(scratch.path());
    let environment = clock.environment(library);
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (dir, ports) = (scratch.path().join("data"), Ports::free());
    let mut broker = BrokerProcess::start_in(&dir, ports, &SETTINGS, &environment)?;
    let plan = Plan { seed: rng.u64(..), producers: 8, consumers: CONSUMERS, keeps_finished: true };
    let load = Load::start(&ports.url(), plan).await;
    for _ in 0..rng.u8(4..7) {
        load.progress(rng.u64(50..300)).await;
        match rng.u8(0..6) {
            0 => clock.set(&load, clock.offset_s + HOUR_S).await?,
            1 | 2 => clock.set(&load, clock.offset_s - HOUR_S).await?,
            3 => clock.set(&load, clock.offset_s + TEN_YEARS_S).await?,
            _ => {
                broker.pause();
                let time = Duration::from_millis(rng.u64(STANDSTILL_MS));
                // A standstill is a length of time: nothing happens in it that one could wait for.
                drop(timeout(time, pending::<()>()).await);
                broker.resume();
                happened.standstills += 1;
                continue;
            }
        }
        happened.jumps += 1;
    }
    load.progress(100).await;
    // What was planned by the furthest clock is due only behind it.
    clock.set(&load, clock.furthest_s + 2 * HOUR_S).await?;
    happened.jumps += 1;
    let verdicts = load.finish().await?;
    broker.stop()?;
    Ok(verdicts)
}

/// Says what there was too much of.
fn storm(seen: &Verdicts, happened: &Happened) -> Option<String> {
    let held_max = happened.standstills * GROUPS * CONSUMERS * u64::from(PREFETCH);
    let repeated_max = seen.handed_back as u64 + held_max;
    if seen.repeated as u64 > repeated_max {
        return Some(format!("a storm: {} deliveries repeated, {repeated_max} at most", seen.repeated));
    }
    let checks_max = 2 * seen.halves;
    (seen.checks > checks_max).then(|| format!("a storm: {} checks, {checks_max} at most", seen.checks))
}

/// The wall clock of the broker: a file that libfaketime reads at every look.
struct WallClock {
    file: PathBuf,
    offset_s: i64,
    furthest_s: i64,
}

impl WallClock {
    fn new(dir: &Path) -> Self {
        let clock = Self { file: dir.join("clock"), offset_s: 0, furthest_s: 0 };
        clock.write();
        clock
    }

    fn environment(&self, library: &Path) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// The file is replaced, so that nobody reads half of it.
    fn write(&self) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{:+}", self.offset_s)).expect("the clock can be written");
        std::fs::rename(&new, &self.file).expect("the clock can be written");
    }

    /// Sets it, and waits until the broker goes by it.
    async fn set(&mut self, load: &Load, offset_s: i64) -> Result<(), String> {
        let by_s = offset_s - self.offset_s;
        self.offset_s = offset_s;
        self.furthest_s = self.furthest_s.max(offset_s);
        let before_ms = load.broker_now_ms().await;
        load.history().note(Event::ClockSetting);
        self.write();
        let moved_s = (load.broker_now_ms().await - before_ms) / 1_000;
        load.history().note(Event::ClockSet);
        match (moved_s - by_s).abs() < HOUR_S / 2 {
            true => Ok(()),
            false => {
                Err(format!("the broker's clock moved by {moved_s} s, not by {by_s} s: the rig is broken"))
            }
        }
    }
}

/// The library that lies about the wall clock, where Debian and its children have it.
fn faketime() -> Option<PathBuf> {
    let architectures = std::fs::read_dir("/usr/lib").ok()?;
    let found = architectures.filter_map(|dir| Some(dir.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    found.into_iter().find(|library| library.exists())
}
