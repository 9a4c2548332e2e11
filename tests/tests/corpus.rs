//! What fuzzers have learnt and found, tried again in every run, on a stable toolchain; and, from it, a few thousand
//! inputs more. `./test.sh --fuzz SECONDS` lets libFuzzer go on from there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use escrow_tests::fuzz::{TARGETS, Target};
use escrow_tests::rig::Trials;

/// The corpora are for reading in a moment: together at most this many bytes.
const CORPUS_BYTES_MAX: u64 = 200_000;
/// Most changes made to one input at once.
const CHANGES_MAX: usize = 4;

fn folder(of: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(of).join(target.name)
}

/// The files of a folder, in order; none if it is not there.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("a directory lists its files").path());
    let mut files: Vec<_> =
        paths.map(|path| (path.clone(), std::fs::read(path).expect("a file reads"))).collect();
    files.sort();
    files
}

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
        let corpus = files(&folder("corpus", &target));
        assert!(!corpus.is_empty(), "{}: its corpus is empty", target.name);
        for (path, bytes) in corpus.into_iter().chain(files(&folder("found", &target))) {
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
    let corpora = TARGETS.map(|target| (target, files(&folder("corpus", &target))));
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

/// A file of the corpus, with bits flipped, bytes put in or cut out, or the end of another.
fn changed(corpus: &[(PathBuf, Vec<u8>)], rng: &mut fastrand::Rng) -> Vec<u8> {
    let one = |rng: &mut fastrand::Rng| corpus[rng.usize(0..corpus.len())].1.clone();
    let mut bytes = one(rng);
    for _ in 0..rng.usize(1..=CHANGES_MAX) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            1 if at < bytes.len() => bytes[at] = *rng.choice([0, 1, 0x7f, 0x80, 0xff].iter()).unwrap_or(&0),
            2 => bytes.insert(at, rng.u8(..)),
            3 => drop(bytes.drain(at..rng.usize(at..=bytes.len()))),
            _ => {
                let other = one(rng);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[rng.usize(0..=other.len())..]);
            }
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
