//! `escrow man`: the manual, made from what the command line itself says, so that neither can drift from the other.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::cli::error::{CliError, not_made};

/// What `escrow man` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ManArgs {
    /// The verb whose page is printed. Default: the page of escrow itself.
    #[arg(value_name = "VERB", conflicts_with = "dir")]
    verb: Vec<String>,
    /// Write the pages of all verbs into this directory, which is made if need be.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// Does it.
pub(crate) fn run(args: ManArgs) -> Result<(), CliError> {
    let mut escrow = Cli::command();
    escrow.build();
    match args.dir {
        Some(dir) => write_all(&escrow, &dir),
        None => Ok(io::stdout().write_all(&page(found(&escrow, &args.verb)?)?)?),
    }
}

fn found<'a>(escrow: &'a Command, verb: &[String]) -> Result<&'a Command, CliError> {
    verb.iter().try_fold(escrow, |command, word| {
        command.find_subcommand(word).ok_or_else(|| {
            CliError::usage(format!("escrow has no verb {:?}; `escrow help` lists them", verb.join(" ")))
        })
    })
}

fn write_all(escrow: &Command, dir: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::failed(not_made(dir, &error));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut written = 0;
    for command in all(escrow) {
        let file = dir.join(format!("{}.1", command.get_display_name().unwrap_or(command.get_name())));
        std::fs::write(&file, page(command)?).map_err(|error| CliError::failed(not_made(&file, &error)))?;
        written += 1;
    }
    Ok(writeln!(io::stdout(), "{written} pages in {}", dir.display())?)
}

/// Every command with a page of its own; `help` says the same again.
fn all(command: &Command) -> Vec<&Command> {
    let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    std::iter::once(command).chain(inner.flat_map(all)).collect()
}

/// One page. Its examples are set as they stand: filled into paragraphs they could not be copied.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone().version(env!("CARGO_PKG_VERSION")));
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (before, examples) = help.split_once("Examples:\n").unwrap_or((&help, ""));
    if let Some(status) = before.trim().strip_prefix("Exit status: ") {
        writeln!(page, ".SH \"EXIT STATUS\"\n{}", escaped(status))?;
    } else if !before.trim().is_empty() {
        writeln!(page, ".SH NOTES\n{}", escaped(before.trim()))?;
    }
    if !examples.is_empty() {
        writeln!(page, ".SH EXAMPLES\n.nf\n{}\n.fi", escaped(examples.trim_end()))?;
    }
    Ok(page)
}

/// As roff takes it for text: a backslash, a dash and a quote at the start of a line mean something else there.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        if line.starts_with('.') { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escrow() -> Command {
        let mut escrow = Cli::command();
        escrow.build();
        escrow
    }

    #[test]
    fn every_verb_has_a_page_with_its_examples_as_they_stand() {
        let escrow = escrow();
        let commands = all(&escrow);
        assert!(commands.len() > 40, "only {} pages", commands.len());
        for command in commands {
            let text = String::from_utf8(page(command).expect("it is made")).expect("text");
            let name = command.get_display_name().unwrap_or(command.get_name());
            for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES\n.nf\n  escrow "] {
                assert!(text.contains(part), "the page of {name} has no {part:?}:\n{text}");
            }
        }
    }

    #[test]
    fn a_verb_is_found_by_its_words() {
        let escrow = escrow();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(found(&escrow, &words(&["tx", "commit"])).unwrap().get_name(), "commit");
        assert!(found(&escrow, &words(&["tx", "comit"])).unwrap_err().to_string().contains("tx comit"));
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped(".x\n'y' \\ --z"), "\\&.x\n\\(aqy\\(aq \\e \\-\\-z");
    }
}
