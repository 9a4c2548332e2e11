//! One bit flipped, or a file cut short, at a random place in any file of a data directory, of a broker that was killed or
//! stopped: it is detected and named, no wrong message is ever delivered, nothing is missing without a report, nothing
//! hangs, and the commands that the message names, typed as they stand, bring the broker back with all that was not hit.
//!
//! `./test.sh --rig damage 2000` runs the long form. The binary must have been built: `./test.sh` does.

mod damage_case;

use damage_case::{Case, Judge, Kind};
use escrow_tests::rig::Trials;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_its_remedy_works() {
    let trials = Trials::of("damage", "flips and cuts", 40);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let [killed, stopped] = Case::make(scratch.path(), trials.rng(u64::MAX)).await;
    let mut judge = Judge::new(scratch.path());
    let only = escrow_tests::rig::number_from("ESCROW_TRIAL");
    for trial in 0..trials.count {
        if only.is_some_and(|only| only != trial) {
            continue;
        }
        let mut rng = trials.rng(trial);
        let case = if rng.bool() { &killed } else { &stopped };
        judge.try_one(trial, case, &mut rng).await;
    }
    let seen = judge.seen();
    let done = judge.counts.values().sum();
    // A rig that only ever hit slack would prove nothing.
    assert!(only.is_some() || judge.counts.get(&Kind::Named).is_some_and(|count| *count > 0), "{seen}");
    trials.finish(done, &seen, &judge.failures);
}
