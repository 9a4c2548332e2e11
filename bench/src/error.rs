//! Why a run could not be made.

/// A run that could not be made or finished. Operations that fail within a run are counted in its report instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options contradict each other: fix them.
    #[error("{0}")]
    Options(String),
    /// The broker refused, or cannot be reached.
    #[error("the run could not {doing}: {source}")]
    Broker {
        /// What was tried.
        doing: &'static str,
        /// The client's error.
        source: Box<escrow::Error>,
    },
    /// The system said nothing about the broker's process: the pid is wrong, or another user's.
    #[error("nothing can be read about process {pid}: {source}")]
    Process {
        /// The process asked about.
        pid: u32,
        /// The system's error.
        source: std::io::Error,
    },
    /// A broker of the run's own could not be started or stopped.
    #[error("the run's own broker: {0}")]
    Spawn(String),
    /// A task of the generator itself failed.
    #[error("the load generator failed: {0}")]
    Generator(String),
}

impl Error {
    /// For `map_err`: names what was tried.
    pub(crate) fn broker(doing: &'static str) -> impl FnOnce(escrow::Error) -> Self {
        move |source| Self::Broker { doing, source: Box::new(source) }
    }

    /// For `map_err` of a plain call.
    pub(crate) fn call<S: Into<escrow::Error>>(doing: &'static str) -> impl FnOnce(S) -> Self {
        move |source| Self::Broker { doing, source: Box::new(source.into()) }
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Generator(error.to_string())
    }
}
