//! The binary `escrow`: reads the command line, and reports how it ended.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use escrow_broker::cli::{Cli, CliError, run, senseless_status};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
