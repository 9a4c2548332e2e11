//! The one error of this crate: what went wrong, and what the caller can do about it.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use escrow_protocol::v1::{Fault, Goodbye};
use escrow_protocol::{NameError, Reason};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What kind of failure an [`Error`] is: one kind for each way to react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong as it stands. Fix it; sending it again changes nothing.
    InvalidRequest,
    /// What was named does not exist, or no longer does.
    NotFound,
    /// What was to be created exists, or an id was used for something else.
    AlreadyExists,
    /// The state of things forbids it: decided otherwise, lease over, still in use. Look at [`Error::reason`].
    Conflict,
    /// This client may not do it.
    Denied,
    /// The broker has no room or no time now. Slow down and try again after [`Error::retry_after`].
    Exhausted,
    /// The broker cannot be reached, is stopping, or the connection was lost.
    Unavailable,
    /// The operation did not finish within its time.
    Timeout,
    /// This program has closed the producer or consumer.
    Closed,
    /// A stored record is damaged. A person has to look at the broker.
    Damaged,
    /// A fault of the broker, or an answer this client does not understand. Report it.
    Internal,
    /// A body could not be written as JSON, or read from it.
    Json,
}

impl ErrorKind {
    fn of(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidRequest,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition => Self::Conflict,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::ResourceExhausted => Self::Exhausted,
            Code::Unavailable | Code::Aborted | Code::Cancelled => Self::Unavailable,
            Code::DeadlineExceeded => Self::Timeout,
            Code::DataLoss => Self::Damaged,
            Code::Ok | Code::Unknown | Code::Internal | Code::Unimplemented => Self::Internal,
        }
    }
}

type Source = Box<dyn StdError + Send + Sync>;

/// Why an operation failed.
///
/// The client has already retried what can be retried, until the operation's deadline. What is left for the caller:
/// [`kind`](Self::kind) says how to react, [`reason`](Self::reason) is the broker's exact word,
/// [`is_retryable`](Self::is_retryable) and [`retry_after`](Self::retry_after) say whether and when the same call may
/// succeed, and [`outcome_unknown`](Self::outcome_unknown) says whether it may have taken effect all the same.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    reason: Option<Reason>,
    message: String,
    details: HashMap<String, String>,
    retry_after: Option<Duration>,
    outcome_unknown: bool,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            reason: None,
            message: message.into(),
            details: HashMap::new(),
            retry_after: None,
            outcome_unknown: false,
            source: None,
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("the {what} is closed"))
    }

    pub(crate) fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// For what this client finds out by itself and the broker would have a reason for.
    pub(crate) fn with_reason(mut self, reason: Reason) -> Self {
        self.0.reason = Some(reason);
        self
    }

    pub(crate) fn with_unknown_outcome(mut self, unknown: bool) -> Self {
        self.0.outcome_unknown = unknown;
        self
    }

    /// The same failure for another caller. Its source stays with the first, as text.
    pub(crate) fn copy(&self) -> Self {
        let inner = &self.0;
        Self(Box::new(Inner {
            kind: inner.kind,
            reason: inner.reason,
            message: inner.message.clone(),
            details: inner.details.clone(),
            retry_after: inner.retry_after,
            outcome_unknown: inner.outcome_unknown,
            source: inner.source.as_ref().map(|source| source.to_string().into()),
        }))
    }

    /// How to react.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The broker's reason, if the broker refused and gave one that this release knows; also if
    /// this client found out by itself: [`Reason::ProtocolVersion`], if it and the broker have no version in common, and
    /// [`Reason::StaleLease`], if a settlement was not sent because the session was lost, and the lease with it.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// What happened, for people. Without the source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The broker's details, for programs: `field` of a bad request, `state`, `by` and `at_ms` of a decision.
    pub fn details(&self) -> &HashMap<String, String> {
        &self.0.details
    }

    /// Whether the same call may succeed later. For the operations of a producer the client has then tried until the
    /// deadline already.
    ///
    /// With [`outcome_unknown`](Self::outcome_unknown) too, call again only what may safely happen twice. Publishing
    /// the same [`Message`](crate::Message), with its id, and deciding the same way are safe.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Exhausted | ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// How long to wait before trying again, if the broker said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the operation may have taken effect although it failed: it was sent, and no answer came. `false` means
    /// that it certainly has not.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// Whether to open the session again after it failed this way: everything that is not a refusal of its hello.
    pub(crate) fn may_reconnect(&self) -> bool {
        match self.0.kind {
            ErrorKind::Exhausted | ErrorKind::Unavailable | ErrorKind::Timeout => true,
            ErrorKind::Internal => self.0.reason.is_none_or(|reason| reason == Reason::Internal),
            _ => false,
        }
    }
}

impl fmt::Debug for Error {
    /// What a program shows that returns it from `main`: everything known, without what is not set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(reason) = &self.0.reason {
            shown.field("reason", reason);
        }
        if !self.0.details.is_empty() {
            shown.field("details", &self.0.details);
        }
        if let Some(retry_after) = &self.0.retry_after {
            shown.field("retry_after", retry_after);
        }
        if let Some(source) = &self.0.source {
            shown.field("source", &source.to_string());
        }
        shown.field("outcome_unknown", &self.0.outcome_unknown).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(reason) = self.0.reason {
            write!(f, " ({reason})")?;
        }
        if self.0.outcome_unknown {
            f.write_str("; it may have taken effect all the same")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Fault> for Error {
    /// A refusal inside a frame. The broker judged the operation, so its outcome is known, but for a fault of the
    /// broker itself.
    fn from(fault: Fault) -> Self {
        let kind = ErrorKind::of(Code::from_i32(fault.code));
        let retry_after = u64::try_from(fault.retry_after_ms).ok().filter(|ms| *ms > 0);
        Self(Box::new(Inner {
            kind,
            reason: fault.reason.parse().ok(),
            message: fault.message,
            details: fault.details,
            retry_after: retry_after.map(Duration::from_millis),
            outcome_unknown: kind == ErrorKind::Internal,
            source: None,
        }))
    }
}

impl From<Goodbye> for Error {
    /// The broker is closing the session.
    fn from(goodbye: Goodbye) -> Self {
        let mut error =
            Self::new(ErrorKind::Unavailable, format!("the broker said goodbye: {}", goodbye.reason));
        let retry_after = u64::try_from(goodbye.retry_after_ms).ok().filter(|ms| *ms > 0);
        error.0.retry_after = retry_after.map(Duration::from_millis);
        error
    }
}

impl From<Status> for Error {
    /// A failed call, with `google.rpc.ErrorInfo` and `RetryInfo` where the broker sent them. Without an `ErrorInfo`
    /// nobody judged the call, so it may have taken effect.
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let judged = info.is_some();
        let kind = match ErrorKind::of(status.code()) {
            // The transport's own error, for which there is no code: the connection broke.
            ErrorKind::Internal if !judged && status.code() == Code::Unknown && status.source().is_some() => {
                ErrorKind::Unavailable
            }
            kind => kind,
        };
        let reason = info.as_ref().and_then(|info| info.reason.parse().ok());
        let lost = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Internal);
        Self(Box::new(Inner {
            kind,
            reason,
            message: if status.message().is_empty() {
                format!("the call failed with {:?}", status.code())
            } else {
                status.message().to_owned()
            },
            details: info.map(|info| info.metadata).unwrap_or_default(),
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
            outcome_unknown: lost && (!judged || kind == ErrorKind::Internal),
            source: Some(status.into()),
        }))
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(ErrorKind::Json, format!("the body is not the JSON it should be: {error}")).because(error)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn fault(code: Code, reason: &str, retry_after_ms: i64) -> Fault {
        Fault {
            code: code as i32,
            reason: reason.to_owned(),
            message: "no".to_owned(),
            details: HashMap::from([("field".to_owned(), "body".to_owned())]),
            retry_after_ms,
        }
    }

    /// The code docs/protocol.md gives each reason, and the kind a caller sees.
    fn expected(reason: Reason) -> (Code, ErrorKind) {
        use ErrorKind as K;
        use Reason as R;
        match reason {
            R::InvalidField | R::HelloExpected => (Code::InvalidArgument, K::InvalidRequest),
            R::OffsetOutOfRange => (Code::OutOfRange, K::InvalidRequest),
            R::UnknownTopic
            | R::UnknownGroup
            | R::UnknownTransaction
            | R::UnknownMessage
            | R::UnknownDeadLetter
            | R::UnknownRetry
            | R::UnknownSubscription => (Code::NotFound, K::NotFound),
            R::TopicExists | R::GroupExists | R::MessageIdReused | R::TransactionKeyReused => {
                (Code::AlreadyExists, K::AlreadyExists)
            }
            R::WrongGroup => (Code::PermissionDenied, K::Denied),
            R::LimitReached | R::DiskFull | R::Overloaded => (Code::ResourceExhausted, K::Exhausted),
            R::ShuttingDown => (Code::Unavailable, K::Unavailable),
            R::Damaged => (Code::DataLoss, K::Damaged),
            R::Internal => (Code::Internal, K::Internal),
            _ => (Code::FailedPrecondition, K::Conflict),
        }
    }

    #[test]
    fn every_reason_in_a_fault_has_its_kind_and_keeps_its_details() {
        for reason in Reason::ALL {
            let (code, kind) = expected(*reason);
            let error = Error::from(fault(code, reason.as_str(), 0));
            assert_eq!((error.kind(), error.reason()), (kind, Some(*reason)));
            assert_eq!(error.details()["field"], "body");
            assert_eq!(error.outcome_unknown(), *reason == Reason::Internal, "{reason}");
        }
    }

    #[test]
    fn every_reason_in_a_status_has_its_kind_and_keeps_its_details() {
        for reason in Reason::ALL {
            let (code, kind) = expected(*reason);
            let mut details = ErrorDetails::new();
            details.set_error_info(reason.as_str(), "escrow", [("field".to_owned(), "body".to_owned())]);
            details.set_retry_info(Some(Duration::from_secs(2)));
            let error = Error::from(Status::with_error_details(code, "no", details));
            assert_eq!((error.kind(), error.reason()), (kind, Some(*reason)));
            assert_eq!(error.details()["field"], "body");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
            assert_eq!(error.outcome_unknown(), *reason == Reason::Internal, "{reason}");
        }
    }

    #[test]
    fn a_status_nobody_judged_leaves_the_outcome_unknown() {
        let error = Error::from(Status::unavailable("connection reset"));
        assert!(error.outcome_unknown() && error.is_retryable());
        assert!(error.to_string().contains("may have taken effect"));
    }

    #[test]
    fn a_connection_that_breaks_in_the_middle_is_worth_another_try() {
        let broken =
            std::io::Error::new(std::io::ErrorKind::BrokenPipe, "stream closed because of a broken pipe");
        let error = Error::from(Status::from_error(Box::new(broken)));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.outcome_unknown() && error.is_retryable() && error.may_reconnect());
        assert_eq!(Error::from(Status::unknown("a bug")).kind(), ErrorKind::Internal);
    }

    #[test]
    fn a_reason_of_a_later_release_is_no_reason_but_keeps_its_kind() {
        let error = Error::from(fault(Code::NotFound, "NEW_IN_A_LATER_RELEASE", 0));
        assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, None));
    }

    #[test]
    fn waiting_helps_only_when_the_broker_says_how_long() {
        assert_eq!(Error::from(fault(Code::ResourceExhausted, "LIMIT_REACHED", 0)).retry_after(), None);
        let error = Error::from(fault(Code::ResourceExhausted, "OVERLOADED", 250));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
    }
}
