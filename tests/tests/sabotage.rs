//! The simulator proves itself: each fault that can be planted in the engine must be noticed within a few seeds, and
//! the same seeds must pass without it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use escrow_broker::engine::sabotage::{Fault, plant};
use escrow_tests::fuzz::{TARGETS, corpus};
use escrow_tests::simulator::run;

/// Seeds a fault may live through.
const SEEDS_MAX: u64 = 100;
/// Threads the faults are spread over.
const THREADS: usize = 2;

/// How many seeds it took to notice `fault`, and what was said.
fn noticed(fault: Fault) -> Option<(u64, String)> {
    plant(Some(fault));
    let found = (0..SEEDS_MAX).find_map(|seed| run(seed, false).fault.map(|said| (seed, said)));
    plant(None);
    found
}

#[test]
fn every_planted_fault_is_noticed() {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(fault) = Fault::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = noticed(*fault);
            results.lock().expect("nobody panics with it").push((*fault, found));
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));

    let mut results = results.into_inner().expect("nobody panicked with it");
    results.sort_by_key(|(fault, _)| Fault::ALL.iter().position(|it| it == fault));
    let mut unnoticed = Vec::new();
    for (fault, found) in results {
        match found {
            Some((seed, said)) => {
                let said = said.lines().next().unwrap_or_default();
                println!("{fault:?}: seed {seed}, the {} tried: {said}", seed + 1);
            }
            None => unnoticed.push(fault),
        }
    }
    assert!(unnoticed.is_empty(), "{SEEDS_MAX} seeds passed in spite of {unnoticed:?}");
}

#[test]
fn without_a_fault_the_seeds_pass() {
    for seed in 0..20 {
        let report = run(seed, false);
        assert_eq!(report.fault, None, "seed {seed}");
    }
}

/// Inputs like those kept that a fault may live through.
const INPUTS_MAX: usize = 2_000;

/// Those that the engine's own laws convict, with no model beside it.
const AGAINST_ITS_LAWS: [Fault; 5] = [
    Fault::OffsetSkipped,
    Fault::FloorTooFar,
    Fault::FloorBackwards,
    Fault::AckNotStored,
    Fault::DeliveredBeforeCommit,
];

#[test]
fn the_fuzz_target_of_the_wire_notices_what_breaks_a_law() {
    let wire = TARGETS.into_iter().find(|target| target.name == "wire").expect("there is one");
    let kept = corpus::kept("corpus", &wire);
    let inputs_until_noticed = |fault| {
        plant(Some(fault));
        let mut rng = fastrand::Rng::with_seed(1);
        let found = (1..=INPUTS_MAX).find(|_| {
            let input = corpus::changed(&kept, &mut rng);
            std::panic::catch_unwind(|| (wire.run)(&input)).is_err()
        });
        plant(None);
        found
    };
    for fault in AGAINST_ITS_LAWS {
        let inputs = inputs_until_noticed(fault);
        println!("{fault:?}: after {inputs:?} inputs");
        assert!(inputs.is_some(), "{INPUTS_MAX} inputs passed in spite of {fault:?}");
    }
}
