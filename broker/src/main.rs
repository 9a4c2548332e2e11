//! The binary `escrow`: reads the command line, and reports how it ended.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use escrow_broker::cli::{Cli, CliError, run, senseless_status};

/// Threads that may block at once, for reads, backups and verifications: each has memory of its own in the system's
/// allocator, and more of them than a disk answers at a time only wait.
const BLOCKING_THREADS_MAX: usize = 64;

/// How many heaps the system's allocator may keep, and the variable by which glibc is told (mallopt(3)). Left to itself it
/// keeps eight for each core: what one thread frees of another's stays with that one's heap, so that memory stayed at its peak.
/// Fewer cost a busy broker a tenth of its speed (docs/decisions/0015).
#[cfg(target_env = "gnu")]
const ALLOCATOR_HEAPS: (&str, &str) = ("MALLOC_ARENA_MAX", "4");

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    #[cfg(target_env = "gnu")]
    if cli.is_broker() {
        begin_again_with_few_heaps();
    }
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

/// Begins anew as the same process, for the allocator reads its variables at its first breath, unless somebody has set that one.
/// A system that does not let it goes on with the heaps there are.
#[cfg(target_env = "gnu")]
fn begin_again_with_few_heaps() {
    use std::os::unix::process::CommandExt as _;
    let (variable, heaps) = ALLOCATOR_HEAPS;
    let mut arguments = std::env::args_os();
    if let (None, Ok(program), Some(name)) =
        (std::env::var_os(variable), std::env::current_exe(), arguments.next())
    {
        // Returns only if it failed.
        let _ = std::process::Command::new(program).arg0(name).args(arguments).env(variable, heaps).exec();
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
