//! `escrow dev`: a throw-away broker with a sample flow to look at, and `--check`: every story of the product told to its
//! end against the real binary.

mod check;
mod ports;
mod process;
mod sample;
mod site;
mod stories;

use std::path::PathBuf;

use crate::cli::CliError;

/// What `escrow dev` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Tell every story to its end against brokers of its own, say what was expected and what was seen, and end. Status
    /// 0 only if all hold.
    #[arg(long, conflicts_with = "data_dir")]
    check: bool,
    /// Keep everything here. Default: a temporary directory, removed in the end.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the broker cannot be started, or a story does not hold.
pub async fn run(args: DevArgs) -> Result<(), CliError> {
    if args.check { check::run().await } else { sample::run(args.data_dir).await }
}
