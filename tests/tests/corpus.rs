//! What fuzzers have learnt and found, tried again in every run, on a stable toolchain; and, from it, a few thousand
//! inputs more. `./test.sh --fuzz SECONDS` lets libFuzzer go on from there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use escrow_tests::fuzz::corpus::{changed, kept};
use escrow_tests::fuzz::{TARGETS, Target};
use escrow_tests::rig::Trials;

/// The corpora are for reading in a moment: together at most this many bytes.
const CORPUS_BYTES_MAX: u64 = 200_000;
fn tried(target: &Target, bytes: &[u8]) -> Result<(), String> {
    let tried = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    tried.map_err(|panic| match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => panic.downcast_ref::<&str>().map_or("without a word", |text| text).to_owned(),
    })
}

#[test]
fn everything_kept_is_good() {
    let mut bytes_kept = 0;
    for target in TARGETS {
        let corpus = kept("corpus", &target);
        assert!(!corpus.is_empty(), "{}: its corpus is empty", target.name);
        for (path, bytes) in corpus.into_iter().chain(kept("found", &target)) {
            bytes_kept += bytes.len() as u64;
            tried(&target, &bytes).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        }
    }
    assert!(
        bytes_kept <= CORPUS_BYTES_MAX,
        "{bytes_kept} bytes are kept: `cargo fuzz cmin` makes them fewer"
    );
}

#[test]
fn inputs_like_those_kept_are_good() {
    let trials = Trials::of("corpus", "inputs", 10_000);
    let corpora = TARGETS.map(|target| (target, kept("corpus", &target)));
    let mut failures = Vec::new();
    for trial in 0..trials.count {
        let mut rng = trials.rng(trial);
        let (target, corpus) = &corpora[trial as usize % corpora.len()];
        let changed = changed(corpus, &mut rng);
        if let Err(fault) = tried(target, &changed) {
            failures.push(format!("{}, trial {trial}: {fault}: {}", target.name, hex(&changed)));
        }
    }
    let count = trials.count;
    trials.finish(count, "changed copies of the corpora", &failures);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
