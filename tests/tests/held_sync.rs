//! Nothing is delivered or answered before it is durable: the simulator lets the process die in every single turn of a
//! run, before its commit, after it, and amid its answers. The model then knows of everything that was answered or
//! delivered, and convicts what the next process does not know, or knows otherwise.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use escrow_tests::rig::Trials;
use escrow_tests::simulator::{Moment, Report, Strike, drill};

/// Threads the seeds are spread over.
const THREADS: u64 = 2;
/// No turn has this number: a run in which nothing happens.
const NEVER: u64 = u64::MAX;
/// Turns a strike may shift the end of a run by: the drain of a longer one is struck up to its first few hundred turns.
const TURNS_MAX: u64 = 400;

/// What a seed came to.
#[derive(Default)]
struct Struck {
    runs: u64,
    failures: Vec<String>,
}

fn strike_every_turn(seed: u64) -> Struck {
    let mut struck = Struck::default();
    let turns = drill(seed, false, Strike { turn: NEVER, moment: Moment::BeforeCommit }).turns;
    for turn in 0..turns.min(TURNS_MAX) {
        for moment in Moment::ALL {
            let strike = Strike { turn, moment };
            let report = drill(seed, false, strike);
            struck.runs += 1;
            if report.fault.is_some() {
                struck.failures.push(story(drill(seed, true, strike), strike));
                return struck;
            }
        }
    }
    struck
}

fn story(report: Report, strike: Strike) -> String {
    let fault = report.fault.unwrap_or_else(|| "nothing was broken this time".to_owned());
    format!("seed {}, {strike:?}: {fault}\n\nlast events:\n{}", report.seed, report.trace)
}

#[test]
fn a_crash_in_any_turn_breaks_no_promise() {
    let trials = Trials::of("held_sync", "seeds", 4);
    let next = AtomicU64::new(0);
    let total = Mutex::new(Struck::default());
    let work = || {
        loop {
            let trial = next.fetch_add(1, Ordering::Relaxed);
            if trial >= trials.count {
                return;
            }
            let struck = strike_every_turn(trials.seed.wrapping_mul(1_000_000).wrapping_add(trial));
            let mut total = total.lock().expect("nobody panics with it");
            total.runs += struck.runs;
            total.failures.extend(struck.failures);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let Struck { runs, mut failures } = total.into_inner().expect("nobody panicked with it");
    if runs < trials.count * 3 * 20 {
        failures.push(format!("only {runs} runs: that is not every turn"));
    }
    let seen = format!("{runs} runs, each with one crash: before, after or amid the answers of one turn");
    let count = trials.count;
    trials.finish(count, &seen, &failures);
}
