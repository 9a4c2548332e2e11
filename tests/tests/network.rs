//! A bad network between clients and the real binary, under a mixed load: delays, drops, half-closed connections, resets
//! in the middle of a frame, slow drips, silence, and replies that are lost after the commit. Clients reconnect, repeat
//! only what may be repeated, and invent no outcome: what they report as done is true, and what they report as not done
//! did not happen.
//!
//! `./test.sh --rig network 500` runs the long form. The binary must have been built: `./test.sh` does.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use escrow_tests::rig::{BrokerProcess, Load, Plan, Ports, Proxy, Reach, Toward, Trials, Verdicts, Weather};
use tokio::time::timeout;

const SETTINGS: [&str; 5] = [
    "retry.strategy=fixed",
    "retry.fixed_delay=20ms",
    "delivery.lease=2s",
    "transactions.first_check_after=200ms",
    "transactions.check_delays=200ms",
];
/// Runs on one directory, before everything comes to rest and is judged.
const RUNS_OF_A_DIRECTORY: u64 = 25;
/// How long a client tries: less than some faults last, so that outcomes stay unknown.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(800);
/// How often a silent connection is probed, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(300));
/// The longest that a fault lasts where nobody gets an answer.
const OUTAGE_MS_MAX: u64 = 1_200;
/// The longest that a fault lasts where answers still come.
const SLOWNESS: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_outcome_is_invented_over_a_bad_network() {
    let trials = Trials::of("network", "runs", 6);
    let mut rig = Rig::default();
    let mut failures = Vec::new();
    while rig.runs < trials.count {
        let runs = RUNS_OF_A_DIRECTORY.min(trials.count - rig.runs);
        let first = rig.runs + 1;
        match rig.directory(&mut trials.rng(first), runs).await {
            Ok(verdicts) => rig.seen.add(verdicts),
            Err(faults) => failures.push(format!("runs {first} to {}:\n{faults}", rig.runs)),
        }
        println!("network: {} of {}, {} failures", rig.runs, trials.count, failures.len());
    }
    if failures.is_empty() && (rig.seen.promised == 0 || rig.cut == 0 || rig.seen.open == 0) {
        failures.push(format!("nothing was tried: {} connections cut, {}", rig.cut, rig.seen.seen()));
    }
    if trials.count >= EVERY_FAULT_FROM && rig.faults.len() < FAULTS {
        failures.push(format!("not every fault was tried: {:?}", rig.faults));
    }
    let faults: String = rig.faults.iter().map(|(fault, count)| format!("{count} {fault}, ")).collect();
    let seen = format!(
        "{faults}{} of {} connections cut, {} bytes lost; {}",
        rig.cut,
        rig.connections,
        rig.bytes_lost,
        rig.seen.seen()
    );
    trials.finish(rig.runs, &seen, &failures);
}

/// What happened so far.
#[derive(Default)]
struct Rig {
    runs: u64,
    faults: BTreeMap<&'static str, u64>,
    connections: u64,
    cut: u64,
    bytes_lost: u64,
    seen: Verdicts,
}

impl Rig {
    /// One directory from its first start to its judgement.
    async fn directory(&mut self, rng: &mut fastrand::Rng, runs: u64) -> Result<Verdicts, String> {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let ports = Ports::free();
        let mut broker = BrokerProcess::start(&scratch.path().join("data"), ports, &SETTINGS, None)?;
        let proxy = Proxy::start(ports.grpc).await.expect("loopback has free ports");
        let reach = Reach {
            url: proxy.url(),
            direct_url: ports.url(),
            operation_timeout: OPERATION_TIMEOUT,
            keep_alive: KEEP_ALIVE,
        };
        let load = Load::start_through(
            reach,
            Plan { seed: rng.u64(..), producers: 8, consumers: 2, keeps_finished: true },
        )
        .await;
        for _ in 0..runs {
            for _ in 0..rng.u8(2..5) {
                load.progress(rng.u64(1..60)).await;
                *self.faults.entry(fault(&proxy, &load, rng).await).or_default() += 1;
                proxy.set(Weather::Fair);
            }
            self.runs += 1;
        }
        let verdicts = load.finish().await;
        let (connections, cut) = proxy.connections();
        self.connections += connections;
        self.cut += cut;
        self.bytes_lost += proxy.bytes_lost();
        broker.stop()?;
        verdicts
    }
}

/// The faults there are.
const FAULTS: usize = 7;
/// From so many runs on each must have been tried.
const EVERY_FAULT_FROM: u64 = 50;

/// One fault from its beginning to its end; says which.
async fn fault(proxy: &Proxy, load: &Load, rng: &mut fastrand::Rng) -> &'static str {
    let toward = if rng.bool() { Toward::Broker } else { Toward::Client };
    let outage = Duration::from_millis(rng.u64(1..OUTAGE_MS_MAX));
    let (name, weather, answers) = match rng.usize(0..FAULTS) {
        0 => ("delays", Weather::Delay(Duration::from_millis(rng.u64(1..60))), Some(20)),
        1 => ("drips", Weather::Drip, Some(10)),
        2 => ("silences", Weather::Silence, None),
        3 => ("closes", Weather::Closed, None),
        4 => ("half-closes", Weather::HalfClosed(toward), None),
        5 => ("resets", Weather::ResetAfter(toward, rng.usize(1..4_000)), Some(20)),
        _ => ("replies swallowed", Weather::SwallowReplies, None),
    };
    proxy.set(weather);
    match answers {
        Some(answers) => drop(timeout(SLOWNESS, load.progress(answers)).await),
        // An outage is a length of time: nothing happens in it that one could wait for.
        None => drop(timeout(outage, pending::<()>()).await),
    }
    // Replies that were lost are followed by the loss of the connection.
    if weather == Weather::SwallowReplies {
        proxy.set(Weather::Closed);
        drop(timeout(Duration::from_millis(20), pending::<()>()).await);
    }
    name
}
