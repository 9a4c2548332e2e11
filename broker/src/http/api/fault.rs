//! What an operation that is refused answers: the same words as over gRPC, with the HTTP status that fits. The table from
//! reasons to statuses stands here; that from reasons to gRPC codes in `grpc/status.rs`.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use escrow_protocol::Reason;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// The gRPC code.
    pub code: &'static str,
    /// For programs.
    pub reason: String,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Machine-readable details.
    pub details: BTreeMap<String, String>,
    /// When waiting helps: how long, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The answer's status.
    #[serde(skip)]
    pub status: StatusCode,
}

impl Fault {
    /// A request that says something wrong.
    pub(crate) fn invalid(field: &str, fault_and_remedy: impl AsRef<str>) -> Self {
        Self {
            code: code_name(Code::InvalidArgument),
            reason: Reason::InvalidField.as_str().to_owned(),
            message: format!("{field}: {}", fault_and_remedy.as_ref()),
            details: BTreeMap::from([("field".to_owned(), field.to_owned())]),
            retry_after_ms: None,
            status: status_of(Reason::InvalidField),
        }
    }

    /// As [`Fault::invalid`], answered with another status: what is wrong is the request, not a field.
    pub(crate) fn request(status: StatusCode, what: &str, fault_and_remedy: impl AsRef<str>) -> Self {
        Self { status, ..Self::invalid(what, fault_and_remedy) }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.and_then(|info| info.reason.parse().ok());
        let retry_delay = details.retry_info().and_then(|retry| retry.retry_delay);
        Self {
            code: code_name(status.code()),
            reason: reason.unwrap_or(Reason::Internal).as_str().to_owned(),
            message: status.message().to_owned(),
            details: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            retry_after_ms: retry_delay.map(|delay| delay.as_millis() as u64),
            status: reason.map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self).expect("text and numbers can be written");
        let mut response = (self.status, super::json(body)).into_response();
        // Whole seconds are all that the header can say; rounded up, for never is anything too early.
        if let Some(ms) = self.retry_after_ms {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}

/// The HTTP status for a reason: the one table.
pub(crate) fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::InvalidField | Reason::HelloExpected | Reason::ProtocolVersion => StatusCode::BAD_REQUEST,
        Reason::UnknownTopic
        | Reason::UnknownGroup
        | Reason::UnknownTransaction
        | Reason::UnknownMessage
        | Reason::UnknownDeadLetter
        | Reason::UnknownRetry
        | Reason::UnknownJob
        | Reason::UnknownAlarm
        | Reason::UnknownSink
        | Reason::UnknownSubscription => StatusCode::NOT_FOUND,
        Reason::TopicExists
        | Reason::GroupExists
        | Reason::MessageIdReused
        | Reason::TransactionKeyReused
        | Reason::AlreadyDecided
        | Reason::StaleLease
        | Reason::SubscriptionMismatch
        | Reason::ReservedTopic
        | Reason::InUse
        | Reason::NotParked
        | Reason::JobEnded
        | Reason::AlarmResolved
        | Reason::NotUndecided => StatusCode::CONFLICT,
        Reason::WrongGroup => StatusCode::FORBIDDEN,
        Reason::OffsetOutOfRange => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::LimitReached | Reason::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Reason::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        Reason::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        // The record is damaged, not the request: another one may well be answered.
        Reason::Damaged => StatusCode::BAD_GATEWAY,
        // A reason that was added without a line here is a fault of the broker.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The name of a gRPC code.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_internal_faults_are_internal() {
        for reason in Reason::ALL {
            let internal = status_of(*reason) == StatusCode::INTERNAL_SERVER_ERROR;
            assert_eq!(internal, *reason == Reason::Internal, "{reason} has no line in the table");
        }
    }
}
