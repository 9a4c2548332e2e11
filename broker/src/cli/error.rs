//! What a command fails with: the line people read, and the exit status programs read.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use escrow::{ErrorKind, Reason};
use escrow_storage::OpenError;

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The broker refused, or something failed. Status 1.
    #[error("{0}")]
    Failed(String),
    /// The broker refused: status 1. It could not be reached: 3. The client saw at once that it makes no sense: 2.
    #[error("{0}{hint}", hint = hint(.0))]
    Broker(#[from] escrow::Error),
    /// The command does not make sense as it was given. Status 2.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers there. Status 3.
    #[error("{0}")]
    Unreachable(String),
    /// A check has said how it stands; this is its exit status, and there is nothing more to say.
    #[error("the check ended with status {0}")]
    Verdict(u8),
    /// Whoever read the output has seen enough. Not an error: status 0, and nothing is said.
    #[error("the output was closed")]
    PipeClosed,
}

impl CliError {
    /// A failure, in words.
    pub(crate) fn failed(words: impl Into<String>) -> Self {
        Self::Failed(words.into())
    }

    /// A command that makes no sense, in words.
    pub(crate) fn usage(words: impl Into<String>) -> Self {
        Self::Usage(words.into())
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Verdict(status) => *status,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Broker(error) if is_unreachable(error) => 3,
            Self::Broker(error) if is_malformed(error) => 2,
            Self::Failed(_) | Self::Broker(_) => 1,
        }
    }

    /// Says it on stderr, in one line, and gives the exit status.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::PipeClosed | Self::Verdict(_)) {
            eprintln!("error: {self}");
        }
        ExitCode::from(self.status())
    }
}

/// A broker that answers with a reason has been reached.
fn is_unreachable(error: &escrow::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) && error.reason().is_none()
}

/// The client itself refused: the broker was not even asked.
fn is_malformed(error: &escrow::Error) -> bool {
    error.kind() == ErrorKind::InvalidRequest && error.reason().is_none()
}

/// What to do about it on the command line, where there is more to say than the broker does.
fn hint(error: &escrow::Error) -> &'static str {
    match error.reason() {
        Some(Reason::UnknownTransaction) => "; `escrow tx ls` lists the undecided ones",
        Some(Reason::UnknownRetry) => "; `escrow retry ls` lists the retries",
        Some(Reason::UnknownDeadLetter) => "; `escrow dlq ls` lists the dead letters",
        Some(Reason::InUse) => "; to force it, say --force",
        None if error.kind() == ErrorKind::Unavailable => " (another broker: --url, ESCROW_URL or --context)",
        _ => "",
    }
}

/// Why nothing can be made at `path`, and what to do.
pub(crate) fn not_made(path: &Path, error: &io::Error) -> String {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (place, directory) = (path.display(), above.display());
    match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{place} exists; name a file that does not"),
        io::ErrorKind::NotFound if !above.is_dir() => {
            format!(
                "{place} cannot be made: there is no directory {directory}; make it, or choose another place"
            )
        }
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{place} cannot be made: the directory {directory} cannot be written to ({error}); allow it, or choose \
                 another place"
            )
        }
        _ => format!("{place} cannot be made: {error}"),
    }
}

/// Why a data directory was not opened, and what to do.
pub(crate) fn not_opened(error: &OpenError) -> String {
    match error {
        OpenError::Io { path, source } if !path.exists() => {
            format!("{} (--data-dir, or `data_dir` of the configuration)", not_made(path, source))
        }
        OpenError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}; run escrow as the user who owns the data directory")
        }
        _ => with_causes(error),
    }
}

/// An error with what caused it, in one line, each thing said once.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Failed(format!("input or output failed: {error}")),
        }
    }
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> Self {
        Self::Broker(status.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_names_the_directory_that_is_at_fault() {
        let missing = not_made(Path::new("/nonexist/x/y"), &io::ErrorKind::NotFound.into());
        assert!(missing.contains("there is no directory /nonexist/x;"), "{missing}");
        // /proc answers "not found" to whoever makes something in it.
        let sealed = not_made(Path::new("/proc/x"), &io::ErrorKind::NotFound.into());
        assert!(sealed.contains("the directory /proc cannot be written to"), "{sealed}");
        let taken = not_made(Path::new("/etc/hosts"), &io::ErrorKind::AlreadyExists.into());
        assert_eq!(taken, "/etc/hosts exists; name a file that does not");
        let here = not_made(Path::new("x"), &io::ErrorKind::PermissionDenied.into());
        assert!(here.contains("the directory . cannot"), "{here}");
    }

    #[test]
    fn each_kind_of_failure_has_its_status() {
        assert_eq!(CliError::failed("no").status(), 1);
        assert_eq!(CliError::usage("what?").status(), 2);
        assert_eq!(CliError::Unreachable("nobody".to_owned()).status(), 3);
        assert_eq!(CliError::from(tonic::Status::unavailable("gone")).status(), 3);
        assert_eq!(CliError::from(tonic::Status::not_found("no such topic")).status(), 1);
        assert_eq!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).status(), 0);
        assert_eq!(CliError::from(io::Error::from(io::ErrorKind::NotFound)).status(), 1);
    }
}
