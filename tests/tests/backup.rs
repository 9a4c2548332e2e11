//! Backups taken while a broker works: restored, each holds every message that was answered before it began, none that was
//! rolled back, and gives the same digest again; one that is torn or altered is refused by its name, and leaves nothing.
//!
//! `./test.sh --rig backup 100` runs the long form. The binary must have been built: `./test.sh` does.

mod backup_case;

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use backup_case::{Altered, Ledger};
use escrow_storage::{DiskStore, Options, restore};
use escrow_tests::rig::{BrokerProcess, Load, Plan, Ports, Trials, escrow, fresh};

/// Small bounds, so that the table is written while the backup is taken.
const SETTINGS: [&str; 9] = [
    "store.overlay=64KiB",
    // What a backup holds back stays in memory: on a slow machine that is more than four overlays.
    "store.overlay_hard=64MiB",
    "store.journal_file=64KiB",
    "store.ballast=64KiB",
    "retry.strategy=fixed",
    "retry.fixed_delay=20ms",
    "delivery.lease=2s",
    "transactions.first_check_after=200ms",
    "transactions.check_delays=200ms",
];
const LIMIT: Duration = Duration::from_secs(60);
/// Alterations of each backup.
const ALTERATIONS: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_holds_what_was_answered_and_only_a_whole_one_is_restored() {
    let trials = Trials::of("backup", "backups", 4);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let ports = Ports::free();
    let mut broker = start(&scratch.path().join("data"), ports);
    let load = Load::start(
        &ports.url(),
        Plan { seed: trials.seed, producers: 4, consumers: 2, keeps_finished: false },
    )
    .await;
    let (mut failures, mut answered, mut refused) = (Vec::new(), 0, 0);
    for trial in 0..trials.count {
        match one(trial, ports, scratch.path(), &mut trials.rng(trial)).await {
            Ok(seen) => {
                answered += seen.answered;
                refused += seen.refused;
            }
            Err(fault) => failures.push(format!("backup {trial}: {fault}")),
        }
    }
    load.progress(100).await;
    failures.extend(load.ask_http(ports.http).await.err());
    failures.extend(load.finish().await.err());
    broker.stop().expect("it stops as it should");
    let seen = format!("{answered} messages answered before, {refused} altered ones refused");
    let count = trials.count;
    trials.finish(count, &seen, &failures);
}

struct SeenInOne {
    answered: usize,
    refused: u32,
}

fn start(dir: &Path, ports: Ports) -> BrokerProcess {
    BrokerProcess::start(dir, ports, &SETTINGS, None).unwrap_or_else(|log| panic!("{log}"))
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

async fn command(words: &[&str]) -> Result<String, String> {
    let owned: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        escrow(&owned.iter().map(String::as_str).collect::<Vec<_>>(), LIMIT)
    });
    let ran = running.await.expect("it does not panic")?;
    if ran.is_ok() { Ok(ran.words()) } else { Err(format!("{words:?}: {}", ran.words())) }
}

/// One backup, after which nothing of it is left in the broker, whatever came of it: the load must come to rest.
async fn one(trial: u64, ports: Ports, scratch: &Path, rng: &mut fastrand::Rng) -> Result<SeenInOne, String> {
    let ledger = Ledger::open(&ports.url(), trial).await;
    let seen = tried(trial, &ledger, ports, scratch, rng).await;
    ledger.close().await;
    seen
}

/// Taken, restored, compared, altered.
async fn tried(
    trial: u64,
    ledger: &Ledger,
    ports: Ports,
    scratch: &Path,
    rng: &mut fastrand::Rng,
) -> Result<SeenInOne, String> {
    let file = scratch.join("backup");
    let _ = std::fs::remove_file(&file);
    let writing = ledger.write(rng.u64(..));
    ledger.progress(rng.u64(50..200)).await;
    let before = ledger.answered();
    let taken = command(&["store", "backup", "--to", words(&file), "--url", &ports.url()]).await;
    writing.stop().await;
    taken?;
    let after = ledger.invoked();
    let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;

    let restored = fresh(scratch, "restored");
    command(&["store", "restore", words(&file), "--data-dir", words(&restored)]).await?;
    command(&["store", "verify", "--data-dir", words(&restored)]).await?;
    let digest = digest_of(&restored)?;
    // The last 16 bytes of the trailer.
    let written = u128::from_be_bytes(bytes[bytes.len() - 16..].try_into().expect("16 bytes"));
    if digest != written {
        return Err(format!("the restored store has digest {digest:032x} instead of {written:032x}"));
    }
    let restored_ports = Ports::free();
    let mut broker = start(&restored, restored_ports);
    let judged = ledger.judge(&restored_ports.url(), &before, &after).await;
    broker.kill();
    judged?;

    for nth in 0..ALTERATIONS {
        let (altered, how) = Altered::of(&bytes, nth, rng);
        let target = fresh(scratch, "altered");
        // Every kind once through the command line, which says it to people.
        if nth < Altered::KINDS && trial.is_multiple_of(10) {
            let name = scratch.join("altered.backup");
            std::fs::write(&name, &altered).map_err(|error| error.to_string())?;
            let said = command(&["store", "restore", words(&name), "--data-dir", words(&target)]).await;
            let Err(said) = said else { return Err(format!("{how}: it was restored")) };
            if !said.contains(&format!("{}: ", words(&name))) {
                return Err(format!("{how}: the file is not named: {said}"));
            }
        } else if let Ok(report) = restore(&mut Cursor::new(altered), &target, &Options::default()) {
            return Err(format!("{how}: it was restored: {report:?}"));
        }
        if target.exists() {
            return Err(format!("{how}: something was left"));
        }
    }
    Ok(SeenInOne { answered: before.len(), refused: ALTERATIONS })
}

/// The digest of what a store holds, read again.
fn digest_of(dir: &Path) -> Result<u128, String> {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let (store, _) = DiskStore::open(dir, options).map_err(|error| error.to_string())?;
    let report =
        escrow_storage::backup(&store.snapshot(), &mut std::io::sink()).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    Ok(report.digest.0)
}
