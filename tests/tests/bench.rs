//! `escrow bench` against the real binary: every scenario runs, small, on a broker of its own, is sound, and reports what
//! scripts read. It measures nothing.

use std::time::Duration;

use escrow_tests::rig::escrow;
use serde_json::Value;

/// Longer than any of these takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs it and reads its report.
fn bench(words: &str) -> Value {
    let whole = format!("-o json bench {words} --warm-up-seconds 0.1");
    let words: Vec<_> = whole.split_ascii_whitespace().collect();
    let ran = escrow(&words, LIMIT).expect("it ends");
    assert!(ran.is_ok(), "{whole}: {}", ran.words());
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    for pointer in
        ["/per_second", "/latency_us/p50", "/latency_us/p90", "/latency_us/p99", "/latency_us/p999"]
    {
        assert!(report.pointer(pointer).is_some_and(Value::is_number), "{whole}: no {pointer}");
    }
    for pointer in ["/latency_us/max", "/cpu_seconds/broker", "/cpu_seconds/client", "/rss_bytes/broker"] {
        assert!(report.pointer(pointer).is_some_and(Value::is_number), "{whole}: no {pointer}");
    }
    assert_eq!(report["errors"], 0, "{whole}");
    assert!(report["bytes_written"].is_u64() && report["settings"].is_object(), "{whole}");
    assert!(report.get("commit").is_some() && report["scenario"].is_string(), "{whole}");
    report
}

/// As many came as were sent, and that many are enough.
fn assert_verified(report: &Value, least: u64) {
    let verified = &report["verified"];
    assert!(verified["received"].as_u64().is_some_and(|received| received >= least), "{report}");
    assert_eq!(verified["missing"], 0, "{report}");
    assert_eq!(verified["received"], verified["committed"], "{report}");
}

#[test]
fn loads_of_a_time_run_and_are_verified() {
    for words in [
        "publish --spawn --seconds 0.3 --ordered --topics 3 --groups 2",
        "tx --spawn --seconds 0.3 --ordered --rollback-percent 30 --messages-per-transaction 2",
        "steady --spawn --seconds 0.3 --groups 2 --consumers 2",
        "e2e --spawn --seconds 0.3 --rate 200",
        "soak --spawn --seconds 1.2 --rate 200",
        "backlog --spawn --seconds 0.3 --outstanding 64",
    ] {
        assert_verified(&bench(words), 20);
    }
}

#[test]
fn loads_of_a_number_run_and_are_verified() {
    for words in [
        "consume --spawn --backlog 2000",
        "scheduled --spawn --backlog 500 --rate 1000",
        "retries --spawn --backlog 500 --rate 1000",
    ] {
        assert_verified(&bench(words), 500);
    }
    let restart = bench("restart --spawn --backlog 2000");
    assert_verified(&restart, 2000);
    assert!(restart["details"]["live_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{restart}");
}

#[test]
fn what_the_machine_gives_is_measured_beside() {
    let report = bench("publish --spawn --seconds 0.3 --roofline --no-verify");
    for name in ["wire_per_second", "wire_and_disk_per_second", "fdatasync_bytes_per_second", "ratio"] {
        assert!(report["roofline"][name].as_f64().is_some_and(|value| value > 0.0), "{name}: {report}");
    }
    assert!(bench("idle --spawn --seconds 0.3")["rss_bytes"]["broker"].as_u64() > Some(1_000_000));
}

#[test]
fn the_null_server_shows_what_the_generator_can_do() {
    assert_verified(&bench("steady --null --seconds 0.3 --ordered --rollback-percent 10"), 100);
}

#[test]
fn a_restart_needs_a_broker_of_the_runs_own() {
    let ran = escrow(&["bench", "restart"], LIMIT).expect("it ends");
    assert_eq!(ran.status, Some(2), "{}", ran.words());
    assert!(ran.stderr.contains("--spawn"), "{}", ran.stderr);
}
