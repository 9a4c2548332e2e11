//! `escrow bench`: load, measured and verified.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use escrow_bench::{Arguments, NullArguments, Report, Scenario};

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Bytes, Count, Format, view};
use crate::cli::progress::Progress;

/// What can be measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum BenchVerb {
    /// Publish messages, each answered when it is on disk; they are consumed and verified afterwards.
    #[command(after_help = "Examples:
  escrow bench publish --spawn
  escrow bench publish --outstanding 1 --body-bytes 100 --seconds 5 -o json")]
    Publish(Box<Arguments>),
    /// Transactions: a half message and its decision; they are consumed and verified afterwards.
    #[command(after_help = "Examples:
  escrow bench tx --spawn
  escrow bench tx --rate 5000 --rollback-percent 10 --seconds 30")]
    Tx(Box<Arguments>),
    /// Consume a backlog, each message acked.
    #[command(after_help = "Examples:
  escrow bench consume --spawn
  escrow bench consume --backlog 1000000 --consumers 2")]
    Consume(Box<Arguments>),
    /// Transactions produced, delivered and acked, all at once.
    #[command(after_help = "Examples:
  escrow bench steady --spawn --outstanding 1024
  escrow bench steady --ordered --nack-percent 1 --seconds 60")]
    Steady(Box<Arguments>),
    /// Transactions at a rate: latency from the call of commit to the message in the consumer's hand.
    #[command(after_help = "Examples:
  escrow bench e2e --spawn
  escrow bench e2e --rate 1000 --seconds 60")]
    E2e(Box<Arguments>),
    /// Publish for long while nobody consumes, then consume it all.
    #[command(after_help = "Examples:
  escrow bench backlog --spawn --seconds 60
  escrow bench backlog --spawn --curve --backlog 10000000")]
    Backlog(Box<Arguments>),
    /// Many undecided transactions: memory, cost of a check, speed of decisions, pauses.
    #[command(after_help = "Examples:
  escrow bench undecided --spawn
  escrow bench undecided --spawn --backlog 100000 -o json")]
    Undecided(Box<Arguments>),
    /// Kill the broker of this run (kill -9), and measure the time to the next message accepted.
    #[command(after_help = "Examples:
  escrow bench restart --spawn
  escrow bench restart --spawn --backlog 100000")]
    Restart(Box<Arguments>),
    /// Messages that were nacked and fall due at a rate: how late they come.
    #[command(after_help = "Examples:
  escrow bench retries --spawn
  escrow bench retries --rate 5000 --backlog 50000")]
    Retries(Box<Arguments>),
    /// Messages that were published for later and fall due at a rate: how late they come.
    #[command(after_help = "Examples:
  escrow bench scheduled --spawn
  escrow bench scheduled --rate 5000 --backlog 50000")]
    Scheduled(Box<Arguments>),
    /// Nothing: memory and CPU of a broker that waits.
    #[command(after_help = "Examples:
  escrow bench idle --spawn
  escrow bench idle --broker-pid 4711 --seconds 60 -o json")]
    Idle(Box<Arguments>),
    /// Transactions at a rate, in order per key, with rollbacks and nacks, for hours.
    #[command(after_help = "Examples:
  escrow bench soak --spawn
  escrow bench soak --rate 500 --seconds 86400 -o json")]
    Soak(Box<Arguments>),
    /// Answer everything and store nothing: what --null measures against.
    #[command(
        hide = true,
        after_help = "Examples:
  escrow bench null-server
  escrow bench null-server --keep --append-to /tmp"
    )]
    NullServer(NullArguments),
}

view! {
    /// The result of a run, for people. Programs get the whole report.
    BenchView {
        /// Operations that succeeded.
        operations: Count = "OPERATIONS",
        /// A second.
        per_second: Count = "PER SECOND",
        /// Of bodies, a second.
        body_bytes_per_second: Bytes = "BODIES/S",
        /// Half were faster.
        p50_us: Count = "P50 µs",
        /// 99 of 100 were faster.
        p99_us: Count = "P99 µs",
        /// 999 of 1000 were faster.
        p999_us: Count = "P99.9 µs",
        /// The slowest.
        max_us: Count = "MAX µs",
        /// Operations that failed.
        errors: Count = "ERRORS",
        /// The first error.
        first_error: Option<String> = _,
        /// What was received, compared with what was sent.
        verified: String = "VERIFIED",
        /// Syncs of the store.
        store_syncs: Count = _,
        /// Flushes of all disks of this machine.
        device_flushes: Count = _,
        /// CPU time of the broker for each operation.
        broker_cpu_us_per_operation: Option<String> = _,
        /// Memory of the broker.
        broker_memory: Option<Bytes> = _,
    }
}

impl From<&Report> for BenchView {
    fn from(report: &Report) -> Self {
        let verified = match &report.verified {
            None => "not verified".to_owned(),
            Some(found) if found.is_sound() => format!("{} received, none missing", found.received),
            Some(found) => format!(
                "UNSOUND: {} missing, {} never sent, {} out of order, {} rolled back and received all the same",
                found.missing, found.invented, found.out_of_order, found.rolled_back_received
            ),
        };
        Self {
            operations: Count(report.operations),
            per_second: Count(report.per_second.round() as u64),
            body_bytes_per_second: Bytes(report.body_bytes_per_second.round() as u64),
            p50_us: Count(report.latency_us.p50),
            p99_us: Count(report.latency_us.p99),
            p999_us: Count(report.latency_us.p999),
            max_us: Count(report.latency_us.max),
            errors: Count(report.errors),
            first_error: report.first_error.clone(),
            verified,
            store_syncs: Count(report.store_syncs),
            device_flushes: Count(report.device_flushes),
            broker_cpu_us_per_operation: report
                .broker
                .as_ref()
                .map(|cost| format!("{:.1}", cost.cpu_us_per_operation)),
            broker_memory: report.broker.as_ref().map(|cost| Bytes(cost.rss_bytes)),
        }
    }
}

/// Does it.
pub(crate) async fn run(verb: BenchVerb, global: &Global) -> Result<(), CliError> {
    let (arguments, scenario) = match verb {
        BenchVerb::Publish(arguments) => (arguments, Scenario::Publish),
        BenchVerb::Tx(arguments) => (arguments, Scenario::Tx),
        BenchVerb::Consume(arguments) => (arguments, Scenario::Consume),
        BenchVerb::Steady(arguments) => (arguments, Scenario::Steady),
        BenchVerb::E2e(arguments) => (arguments, Scenario::E2e),
        BenchVerb::Backlog(arguments) => (arguments, Scenario::Backlog),
        BenchVerb::Undecided(arguments) => (arguments, Scenario::Undecided),
        BenchVerb::Restart(arguments) => (arguments, Scenario::Restart),
        BenchVerb::Retries(arguments) => (arguments, Scenario::Retries),
        BenchVerb::Scheduled(arguments) => (arguments, Scenario::Scheduled),
        BenchVerb::Idle(arguments) => (arguments, Scenario::Idle),
        BenchVerb::Soak(arguments) => (arguments, Scenario::Soak),
        BenchVerb::NullServer(arguments) => {
            return escrow_bench::null_server(arguments).await.map_err(in_words);
        }
    };
    let report = measure(*arguments, scenario, &global.target()?.url).await?;
    let mut printer = global.printer();
    match printer.format() {
        Format::Table => {
            printer.one(&BenchView::from(&report))?;
            print_details(&report)?;
        }
        Format::Json | Format::Jsonl => printer.document(&report)?,
    }
    verdict(&report)
}

/// Speed without correctness is an error.
fn verdict(report: &Report) -> Result<(), CliError> {
    if report.is_sound() {
        return Ok(());
    }
    let words = match report.details.fault() {
        Some(fault) => format!("the run is not sound: {fault}"),
        None => {
            "the run is not sound: operations failed, or what was received is not what was sent".to_owned()
        }
    };
    Err(CliError::failed(words))
}

async fn measure(mut arguments: Arguments, scenario: Scenario, url: &str) -> Result<Report, CliError> {
    let program = std::env::current_exe()?;
    arguments.commit = arguments.commit.or_else(|| commit_of(&program));
    let options = arguments.into_options(scenario, url, program).map_err(in_words)?;
    let progress = Progress::percent();
    let tell = |step: escrow_bench::Progress| {
        let percent = (step.done * 100.0) as u64;
        progress.at(percent, format!("{}, {:.0} per second", step.phase.as_str(), step.per_second));
    };
    let report = escrow_bench::run(options, tell).await.map_err(in_words)?;
    progress.finish();
    Ok(report)
}

/// The commit checked out where the program lies: so it is for one that was built there and not moved.
fn commit_of(program: &Path) -> Option<String> {
    let describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").arg("-C").arg(program.parent()?).args(describe).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !commit.trim().is_empty()).then(|| commit.trim().to_owned())
}

/// What only the scenario has, for people: a line for each, as in the JSON.
fn print_details(report: &Report) -> Result<(), CliError> {
    if let Ok(serde_json::Value::Object(details)) = serde_json::to_value(&report.details) {
        let mut out = std::io::stdout().lock();
        for (name, value) in details {
            writeln!(out, "{name}: {value}")?;
        }
    }
    Ok(())
}

fn in_words(error: escrow_bench::Error) -> CliError {
    match error {
        escrow_bench::Error::Options(fault) => CliError::usage(fault),
        escrow_bench::Error::Broker { source, .. } => CliError::Broker(*source),
        other => CliError::failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use escrow_bench::{CpuSeconds, Details, Latency, Options, RssBytes, Verification};

    use super::*;

    fn report(verified: Verification) -> Report {
        Report {
            scenario: Scenario::Tx,
            commit: None,
            settings: Options::new(Scenario::Tx, "http://127.0.0.1:7800"),
            seconds: 10.0,
            operations: 1_000_000,
            per_second: 100_000.0,
            body_bytes_per_second: 102_400_000.0,
            latency_us: Latency::default(),
            errors: 0,
            unknown_outcomes: 0,
            first_error: None,
            verified: Some(verified),
            cpu_seconds: CpuSeconds::default(),
            cpu_us_per_operation: None,
            rss_bytes: RssBytes::default(),
            bytes_written: None,
            broker: None,
            store_syncs: 5,
            device_flushes: 7,
            intervals: None,
            details: Details::None,
            roofline: None,
        }
    }

    #[test]
    fn speed_without_correctness_is_an_error() {
        let sound = Verification { committed: 9, received: 9, duplicates: 1, ..Verification::default() };
        assert!(verdict(&report(sound)).is_ok());
        for forged in [
            Verification { missing: 1, ..sound },
            Verification { invented: 1, ..sound },
            Verification { out_of_order: 1, ..sound },
            Verification { rolled_back_received: 1, ..sound },
        ] {
            let error = verdict(&report(forged)).expect_err("not sound");
            assert_eq!(error.status(), 1);
            assert!(error.to_string().contains("not sound"), "{error}");
        }
    }
}
