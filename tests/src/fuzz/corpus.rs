//! The kept inputs of each target, and others like them.

use std::path::{Path, PathBuf};

use super::Target;

/// Most changes made to one input at once.
const CHANGES_MAX: usize = 4;

/// The files that are kept `of` a target, `corpus` or `found`, in order; none if there is no such folder.
///
/// # Panics
/// If one cannot be read.
pub fn kept(of: &str, target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(of).join(target.name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("a directory lists its files").path());
    let mut files: Vec<_> =
        paths.map(|path| (path.clone(), std::fs::read(path).expect("a file reads"))).collect();
    files.sort();
    files
}

/// A file of the corpus, with bits flipped, bytes put in or cut out, or the end of another.
pub fn changed(corpus: &[(PathBuf, Vec<u8>)], rng: &mut fastrand::Rng) -> Vec<u8> {
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
