//! `escrow bench`: load, measured and verified.

use escrow_bench::{Arguments, Options, Report, Scenario};

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Bytes, Count, Format, view};
use crate::cli::progress::Progress;

/// What can be measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum BenchVerb {
    /// Publish messages, each answered when it is on disk.
    #[command(after_help = "Examples:
  escrow bench publish
  escrow bench publish --outstanding 1 --body-bytes 100 --seconds 5 -o json")]
    Publish(Arguments),
    /// Transactions: a half message and its decision.
    #[command(after_help = "Examples:
  escrow bench tx
  escrow bench tx --rate 5000 --rollback-percent 10 --seconds 30")]
    Tx(Arguments),
    /// Consume a backlog, each message acked.
    #[command(after_help = "Examples:
  escrow bench consume
  escrow bench consume --backlog 1000000 --consumers 2")]
    Consume(Arguments),
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
                "UNSOUND: {} missing, {} rolled back and received all the same",
                found.missing, found.rolled_back_received
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
    };
    let options = arguments.into_options(scenario, &global.url).map_err(in_words)?;
    let report = measure(options).await?;
    let mut printer = global.printer();
    match printer.format() {
        Format::Table => printer.one(&BenchView::from(&report))?,
        Format::Json | Format::Jsonl => printer.document(&report)?,
    }
    match report.is_sound() {
        true => Ok(()),
        false => Err(CliError::failed("the run is not sound: operations failed, or messages are missing")),
    }
}

async fn measure(options: Options) -> Result<Report, CliError> {
    let progress = Progress::percent();
    let tell = |step: escrow_bench::Progress| {
        let percent = (step.done * 100.0) as u64;
        progress.at(percent, format!("{}, {:.0} per second", step.phase.as_str(), step.per_second));
    };
    let report = escrow_bench::run(options, tell).await.map_err(in_words)?;
    progress.finish();
    Ok(report)
}

fn in_words(error: escrow_bench::Error) -> CliError {
    match error {
        escrow_bench::Error::Options(fault) => CliError::usage(fault),
        escrow_bench::Error::Broker { source, .. } => CliError::Broker(*source),
        other => CliError::failed(other.to_string()),
    }
}
