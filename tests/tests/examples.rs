//! The examples of the client, run as a reader of the README would run them: against a real broker, until they end.

use std::path::PathBuf;
use std::process::Command;

use escrow_tests::rig::{BrokerProcess, Ports};

const EXAMPLES: [&str; 4] = ["quickstart", "order_payment", "idempotent_consumer", "manual_half"];

/// Examples lie in `<profile>/examples`; a test lies in `<profile>/deps`.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("tests lie in <profile>/deps");
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

#[test]
fn every_example_runs_to_its_end() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let ports = Ports::free();
    let mut broker = BrokerProcess::start(&scratch.path().join("data"), ports, &[], None)
        .unwrap_or_else(|log| panic!("{log}"));
    for name in EXAMPLES {
        let output = Command::new(example(name)).env("ESCROW_URL", ports.url()).output();
        let output =
            output.unwrap_or_else(|error| panic!("{name} was not built ({error}): ./test.sh builds it"));
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{name} failed:\n{text}\nthe broker's log ends:\n{}",
            broker.log_tail()
        );
        assert!(!text.is_empty(), "{name} says nothing");
    }
    broker.stop().expect("it stops as it should");
}
