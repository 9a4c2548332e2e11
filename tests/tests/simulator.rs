//! Runs the simulator over many seeds. A seed that fails prints the command that replays it; those that found faults
//! once are kept in `seeds/` and run always.

use std::sync::atomic::{AtomicU64, Ordering};

use escrow_tests::rig::{Trials, number_from};
use escrow_tests::simulator::{replay_command, run, story_of};

/// Seeds run when nobody says how many.
const SEEDS_DEFAULT: u64 = 300;
/// Threads they are spread over.
const THREADS: u64 = 2;
/// Seeds that are run twice, to see that a seed is a run.
const TWICE: u64 = 10;

/// Runs `count` seeds from `first` on, to the last also when some fail; those that do, the first first.
fn failures(first: u64, count: u64) -> Vec<u64> {
    let next = AtomicU64::new(0);
    let search = || {
        let mut failed = Vec::new();
        loop {
            let seed = first + next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return failed;
            }
            failed.extend(run(seed, false).fault.map(|_| seed));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(search)).collect();
        let mut failed: Vec<_> =
            threads.into_iter().flat_map(|thread| thread.join().expect("a run does not panic")).collect();
        failed.sort_unstable();
        failed
    })
}

/// Seeds with a line why, one a line: `1234  why`.
fn kept_seeds() -> Vec<(u64, String)> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds")).expect("seeds/ is there");
    let mut seeds = Vec::new();
    for file in files {
        let path = file.expect("a directory lists its files").path();
        let text = std::fs::read_to_string(&path).expect("a list of seeds is text");
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (seed, why) = line.split_once(char::is_whitespace).expect("a seed has a line why");
            seeds.push((seed.parse().expect("a seed is a number"), why.trim().to_owned()));
        }
    }
    seeds
}

#[test]
fn every_promise_holds_over_many_seeds() {
    let trials = Trials::of("simulator", "seeds", SEEDS_DEFAULT);
    let first = number_from("ESCROW_SIM_FIRST").unwrap_or(0);
    let count = trials.count;
    let failed: Vec<_> = failures(first, count).into_iter().map(story_of).collect();
    trials.finish(count, &format!("seeds from {first} on"), &failed);
}

#[test]
fn seeds_that_found_faults_stay_good() {
    for (seed, why) in kept_seeds() {
        if run(seed, false).fault.is_some() {
            panic!("{}kept because: {why}\n", story_of(seed));
        }
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..TWICE {
        let (once, again) = (run(seed, false), run(seed, true));
        assert_eq!(once.digest, again.digest, "two runs of one seed differ: {}", replay_command(seed));
    }
}

/// With `ESCROW_SIM_SEED`: that seed, and its last events if it fails.
#[test]
fn replay() {
    let Some(seed) = number_from("ESCROW_SIM_SEED") else { return };
    let report = run(seed, true);
    println!("{:#?}", report.tally);
    if let Some(fault) = report.fault {
        panic!("seed {seed}: {fault}\n\nlast events:\n{}", report.trace);
    }
}
