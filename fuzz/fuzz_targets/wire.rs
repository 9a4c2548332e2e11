//! libFuzzer on the target `wire`: see `tests/src/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| escrow_tests::fuzz::run("wire", bytes));
