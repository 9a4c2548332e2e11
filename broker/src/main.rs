//! The binary `escrow`: reads the command line, and reports how it ended.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use escrow_broker::cli::{Cli, CliError, run, senseless_status};

/// Threads that may block at once, for reads, backups and verifications: each has memory of its own, and more of them than a
/// disk answers at a time only wait.
const BLOCKING_THREADS_MAX: usize = 64;

/// Memory goes from thread to thread here: a message's bytes are taken by one that reads the wire and given back by one that has
/// written them. The system's allocator takes a lock for that; this one does not (docs/decisions/0017).
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let mut building = tokio::runtime::Builder::new_multi_thread();
    let runtime = match building.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::from(error).report(),
    };
    let outcome = runtime.block_on(run(cli));
    // What still waits, e.g. for stdin, is not worth waiting for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Help and version go to stdout and are no error; the rest is a command that makes no sense.
fn explain(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(senseless_status(std::env::args_os())),
    }
}
