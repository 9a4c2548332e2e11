//! What fuzzers try: every way in which bytes from outside come in, as functions that take any bytes and panic only if
//! something is wrong.
//!
//! `fuzz/` lets libFuzzer call them (`./test.sh --fuzz SECONDS`); `tests/corpus.rs` feeds them, in every run, what is
//! kept in `fuzz/corpus` and `fuzz/found`, on a stable toolchain.

mod config;
pub mod corpus;
mod records;
mod wire;

use escrow_storage::fuzzing;

/// One way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its fuzz target and of its folder.
    pub name: &'static str,
    /// Tries these bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "journal", run: fuzzing::journal },
    Target { name: "records", run: records::run },
    Target { name: "backup", run: fuzzing::backup },
    Target { name: "wire", run: wire::run },
    Target { name: "config", run: config::run },
];

/// Tries `bytes` on the target of this name.
///
/// # Panics
/// If there is no such target, or something is wrong.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name:?}")).run)(bytes);
}
