//! `kill -9` of the real binary in the middle of a mixed load, again and again on the same directory: nothing that was
//! answered is lost, nothing rolled back is delivered, nothing committed is missing.
//!
//! `./test.sh --rig kill 1000` runs the long form. The binary must have been built: `./test.sh` does.

use escrow_storage::FailPoint;
use escrow_tests::rig::{BrokerProcess, Load, Plan, Ports, Trials};

/// Small bounds, so that files turn over and the table is written many times in a short run.
const SETTINGS: [&str; 6] = [
    "store.overlay=64KiB",
    "store.journal_file=64KiB",
    "retry.strategy=fixed",
    "delivery.lease=2s",
    "transactions.first_check_after=200ms",
    "transactions.check_delays=200ms",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_over_kills() {
    let trials = Trials::of("kill", "kills", 20);
    let (rounds, seed) = (trials.count, trials.seed);
    let mut rng = trials.rng(0);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("data");
    let ports = Ports::free();

    let mut broker = start(&dir, ports, None);
    let load = Load::start(&ports.url(), Plan { seed, producers: 8, consumers: 2 }).await;
    for round in 1..=rounds {
        // At any moment of the load, not at any moment of the clock: a slow machine is killed as cleverly as a fast one.
        load.progress(rng.u64(1..300)).await;
        broker.kill();
        // Every other round, the next broker dies by itself at one of its fail points.
        if round % 2 == 0 {
            let point = FailPoint::ALL[rng.usize(0..FailPoint::ALL.len())];
            let failpoint = format!("{}:{}", point.name(), rng.u32(1..8));
            die_at(&dir, ports, &failpoint).await;
        }
        broker = start(&dir, ports, None);
    }
    load.progress(100).await;
    let answered = load.answered();
    let verdicts = load.finish().await;
    broker.stop().expect("it stops as it should");
    let failures = match &verdicts {
        Ok(verdicts) if verdicts.promised > 0 && verdicts.deliveries > 0 => vec![],
        Ok(verdicts) => vec![format!("nothing was tried: {verdicts:?}")],
        Err(faults) => vec![faults.clone()],
    };
    let seen = verdicts.map_or_else(
        |_| String::new(),
        |it| format!("{} promised, {} delivered", it.promised, it.deliveries),
    );
    trials.finish(rounds, &format!("{answered} operations answered, {seen}"), &failures);
}

fn start(dir: &std::path::Path, ports: Ports, failpoint: Option<&str>) -> BrokerProcess {
    BrokerProcess::start(dir, ports, &SETTINGS, failpoint).unwrap_or_else(|log| panic!("{log}"))
}

/// A broker that dies at a fail point: in its start, or under the load, which goes on meanwhile. One that never comes by
/// the point is killed.
async fn die_at(dir: &std::path::Path, ports: Ports, failpoint: &str) {
    let (dir, failpoint) = (dir.to_owned(), failpoint.to_owned());
    let died = tokio::task::spawn_blocking(move || {
        match BrokerProcess::start(&dir, ports, &SETTINGS, Some(&failpoint)) {
            Ok(mut broker) => {
                broker.wait(std::time::Duration::from_secs(2));
                broker.kill();
            }
            Err(log) => assert!(!log.contains("panicked"), "{failpoint}: {log}"),
        }
    });
    died.await.expect("the broker died as it should");
}
