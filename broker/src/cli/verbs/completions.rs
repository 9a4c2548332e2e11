//! `escrow completions`: what a shell needs to complete our words.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::error::CliError;

/// Prints the script for `shell`.
pub(crate) fn run(shell: Shell) -> Result<(), CliError> {
    // Into memory first: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "escrow", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
