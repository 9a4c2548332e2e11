//! `kill -9` of the real binary in the middle of a mixed load, again and again on the same directory: nothing that was
//! answered is lost, nothing rolled back is delivered, nothing committed is missing, order is kept, decisions stand.
//!
//! Every other death is at a fail point of the store, each in its turn. After some dozens of kills everything comes to
//! rest, all readers read, the history is judged, and a fresh directory begins.
//!
//! `./test.sh --rig kill 1000` runs the long form. The binary must have been built: `./test.sh` does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use escrow_storage::FailPoint;
use escrow_tests::rig::{
    BrokerProcess, FORGETFUL, Load, Plan, Ports, Trials, Verdicts, forgotten_stories, restore,
};

/// Small bounds, so that files turn over and the table is written many times in a short run.
const SETTINGS: [&str; 7] = [
    "store.overlay=64KiB",
    "store.journal_file=64KiB",
    "retry.strategy=fixed",
    "retry.fixed_delay=20ms",
    "delivery.lease=2s",
    "transactions.first_check_after=200ms",
    "transactions.check_delays=200ms",
];
/// Kills of one directory: what is judged at once must fit into memory and patience.
const KILLS_OF_A_DIRECTORY: u64 = 50;
/// A broker that does not come by its fail point in this time is killed instead.
const FAIL_POINT_LIMIT: Duration = Duration::from_secs(10);

/// From so many kills on it must have died at every fail point.
const EVERY_POINT_FROM: u64 = 100;

/// What the store logs last when it dies as ordered.
const DYING: &str = "dying at a fail point";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_over_kills() {
    let trials = Trials::of("kill", "kills", 20);
    let mut rig = Rig::default();
    let mut failures = Vec::new();
    while rig.kills < trials.count {
        let kills = KILLS_OF_A_DIRECTORY.min(trials.count - rig.kills);
        let first = rig.kills + 1;
        match rig.directory(&mut trials.rng(first), kills).await {
            Ok(verdicts) => rig.seen.add(verdicts),
            Err(faults) => failures.push(format!("kills {first} to {}:\n{faults}", rig.kills)),
        }
        println!("kill: {} of {}, {} failures", rig.kills, trials.count, failures.len());
    }
    if failures.is_empty() && (rig.seen.promised == 0 || rig.seen.deliveries == 0) {
        failures.push(format!("nothing was tried: {}", rig.seen.seen()));
    }
    let missed: Vec<_> = FailPoint::ALL.iter().filter(|point| !rig.at.contains_key(point.name())).collect();
    if trials.count >= EVERY_POINT_FROM && !missed.is_empty() {
        failures.push(format!("in {} kills it never died at {missed:?}", rig.kills));
    }
    let seen = format!("died {}; {} stories forgotten; {}", rig.deaths(), rig.forgotten, rig.seen.seen());
    trials.finish(rig.kills, &seen, &failures);
}

/// What happened so far.
#[derive(Default)]
struct Rig {
    kills: u64,
    directories: u64,
    /// Stories of messages that were forgotten under the load.
    forgotten: u64,
    /// Deaths that were at a fail point indeed.
    at: BTreeMap<&'static str, u64>,
    seen: Verdicts,
}

impl Rig {
    /// One directory from its first start to its judgement.
    async fn directory(&mut self, rng: &mut fastrand::Rng, kills: u64) -> Result<Verdicts, String> {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let dir = scratch.path().join("data");
        let ports = Ports::free();
        // The first keeps what is finished and is replayed in the end; in the next one files of values become sparse.
        let keeps_finished = self.directories.is_multiple_of(2);
        // In the first and the fourth of four, so that both kinds have both.
        let is_forgetful = matches!(self.directories % 4, 0 | 3);
        self.directories += 1;
        let settings = settings(is_forgetful);
        let mut broker = BrokerProcess::start(&dir, ports, &settings, None)?;
        let plan = Plan { seed: rng.u64(..), producers: 8, consumers: 2, keeps_finished };
        let load = Load::start(&ports.url(), plan).await;
        let points: Vec<FailPoint> =
            FailPoint::ALL.into_iter().filter(|p| can_pass(*p, keeps_finished)).collect();
        for _ in 0..kills.div_ceil(2) {
            // At any moment of the load, not at any moment of the clock: a slow machine is killed as cleverly as a fast
            // one.
            load.progress(rng.u64(1..200)).await;
            broker.kill();
            self.kills += 1;
            // The next one, just come back, dies at a fail point.
            let point = points[(self.kills / 2) as usize % points.len()];
            if die_at(&dir, ports, &settings, point, rng).await {
                *self.at.entry(point.name()).or_default() += 1;
            }
            self.kills += 1;
            broker = BrokerProcess::start(&dir, ports, &settings, None)?;
            load.ask_http(ports.http).await?;
        }
        load.progress(100).await;
        let (backup, as_of) =
            load.backup().await.map_err(|error| format!("no backup under load: {error}"))?;
        // What is read now is of the time of the backup: a load that went on would only grow what has to come to rest.
        load.stop_producing();
        let restored = restore(&backup, scratch.path())?;
        let other_ports = Ports::free();
        let mut restored = BrokerProcess::start(&restored, other_ports, &settings, None)?;
        load.read_restored(other_ports, as_of).await?;
        restored.stop()?;
        let verdicts = load.finish().await?;
        broker.stop()?;
        let forgotten = forgotten_stories(&dir)?;
        if is_forgetful && forgotten == 0 {
            return Err("no story was forgotten under the load, as it should have been".into());
        }
        self.forgotten += forgotten;
        Ok(verdicts)
    }

    /// Where it died, how often.
    fn deaths(&self) -> String {
        let at_points: u64 = self.at.values().sum();
        let points = self.at.iter().map(|(point, count)| format!("{count} {point}, "));
        format!("{}{} elsewhere", points.collect::<String>(), self.kills - at_points)
    }
}

/// With those under which stories are forgotten all the time, or without.
fn settings(is_forgetful: bool) -> Vec<&'static str> {
    let more = if is_forgetful { &FORGETFUL[..] } else { &[] };
    [&SETTINGS, more].concat()
}

/// Whether a broker comes by a fail point soon: where everything is kept, no file of values is ever emptied.
fn can_pass(point: FailPoint, keeps_finished: bool) -> bool {
    point != FailPoint::InEmptying || !keeps_finished
}

/// A broker that dies at a fail point: in its start, or under the load, which goes on meanwhile. One that does not come by
/// the point in time is killed. Says whether it died there.
async fn die_at(
    dir: &Path,
    ports: Ports,
    settings: &[&'static str],
    point: FailPoint,
    rng: &mut fastrand::Rng,
) -> bool {
    // How many times the point may be passed before: what comes with every batch is passed often, a spill seldom, a
    // recovery once.
    let passes = match point {
        FailPoint::BeforeAppend | FailPoint::AfterAppend | FailPoint::AfterSync => rng.u32(1..200),
        FailPoint::DuringRecovery => 1,
        _ => rng.u32(1..4),
    };
    let (dir, settings, failpoint) =
        (dir.to_owned(), settings.to_owned(), format!("{}:{passes}", point.name()));
    let died = tokio::task::spawn_blocking(move || {
        match BrokerProcess::start(&dir, ports, &settings, Some(&failpoint)) {
            Ok(mut broker) => {
                let ended = broker.wait(FAIL_POINT_LIMIT).is_some();
                broker.kill();
                let log = broker.log_tail();
                assert!(!ended || log.contains(DYING), "{failpoint}: {log}");
                ended
            }
            Err(log) => {
                assert!(!log.contains("panicked"), "{failpoint}: {log}");
                log.contains(DYING)
            }
        }
    });
    died.await.expect("the broker died as it should")
}
