//! Before something that cannot be undone: a question on a terminal, `--yes` elsewhere, nothing at all in a dry run.

use std::io::{self, BufRead, IsTerminal, Write};

use super::error::CliError;

/// The flags of a verb that changes what cannot be changed back.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Caution {
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Only say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// Do it.
    Act,
    /// Say what would happen.
    Rehearse,
}

impl Caution {
    /// Asks about `what` ("delete topic x with 3 messages") if it has to.
    ///
    /// # Errors
    /// [`CliError::Failed`] if the answer was no, [`CliError::Usage`] if there is nobody to ask.
    pub(crate) fn resolve(self, what: &str) -> Result<Resolve, CliError> {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        self.resolve_with(what, terminal, &mut io::stdin().lock(), &mut io::stderr())
    }

    fn resolve_with(
        self,
        what: &str,
        terminal: bool,
        answers: &mut dyn BufRead,
        questions: &mut dyn Write,
    ) -> Result<Resolve, CliError> {
        if self.dry_run {
            return Ok(Resolve::Rehearse);
        }
        if self.yes {
            return Ok(Resolve::Act);
        }
        if !terminal {
            let text =
                format!("this would {what}; there is no terminal to ask on, so say --yes (or --dry-run)");
            return Err(CliError::usage(text));
        }
        write!(questions, "This will {what}. Go on? [y/N] ")?;
        questions.flush()?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(Resolve::Act),
            _ => Err(CliError::failed("nothing was done: it was not confirmed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(caution: Caution, terminal: bool, answer: &str) -> (Result<Resolve, u8>, String) {
        let mut question = Vec::new();
        let outcome = caution.resolve_with(
            "delete topic x",
            terminal,
            &mut io::Cursor::new(answer.as_bytes()),
            &mut question,
        );
        (outcome.map_err(|error| error.status()), String::from_utf8(question).expect("text"))
    }

    const NEITHER: Caution = Caution { yes: false, dry_run: false };

    #[test]
    fn a_terminal_is_asked_and_only_yes_means_yes() {
        for (answer, expected) in [
            ("y\n", Ok(Resolve::Act)),
            ("YES\n", Ok(Resolve::Act)),
            ("\n", Err(1)),
            ("n\n", Err(1)),
            ("yep\n", Err(1)),
            ("", Err(1)),
        ] {
            let (outcome, question) = resolve(NEITHER, true, answer);
            assert_eq!(outcome, expected, "{answer:?}");
            assert_eq!(question, "This will delete topic x. Go on? [y/N] ");
        }
    }

    #[test]
    fn without_a_terminal_it_must_be_said() {
        assert_eq!(resolve(NEITHER, false, "y\n"), (Err(2), String::new()));
        assert_eq!(resolve(Caution { yes: true, ..NEITHER }, false, ""), (Ok(Resolve::Act), String::new()));
    }

    #[test]
    fn a_dry_run_never_asks_and_never_acts() {
        for yes in [false, true] {
            let caution = Caution { yes, dry_run: true };
            assert_eq!(resolve(caution, true, "y\n"), (Ok(Resolve::Rehearse), String::new()));
            assert_eq!(resolve(caution, false, ""), (Ok(Resolve::Rehearse), String::new()));
        }
    }
}
