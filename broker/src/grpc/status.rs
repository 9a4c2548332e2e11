//! The one table from reasons to gRPC codes, and the two forms of a refusal: the status of a unary call, the fault in a
//! session's frame.

use std::collections::HashMap;
use std::time::Duration;

use escrow_protocol::{Reason, v1};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::engine::Refusal;

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "escrow";

/// The code for a reason.
pub(super) fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::InvalidField | Reason::HelloExpected => Code::InvalidArgument,
        Reason::UnknownTopic
        | Reason::UnknownGroup
        | Reason::UnknownTransaction
        | Reason::UnknownMessage
        | Reason::UnknownDeadLetter
        | Reason::UnknownRetry
        | Reason::UnknownJob
        | Reason::UnknownAlarm
        | Reason::UnknownSink
        | Reason::UnknownSubscription => Code::NotFound,
        Reason::TopicExists
        | Reason::GroupExists
        | Reason::MessageIdReused
        | Reason::TransactionKeyReused => Code::AlreadyExists,
        Reason::ProtocolVersion
        | Reason::AlreadyDecided
        | Reason::StaleLease
        | Reason::SubscriptionMismatch
        | Reason::ReservedTopic
        | Reason::InUse
        | Reason::NotParked
        | Reason::JobEnded
        | Reason::AlarmResolved
        | Reason::NotUndecided => Code::FailedPrecondition,
        Reason::WrongGroup => Code::PermissionDenied,
        Reason::OffsetOutOfRange => Code::OutOfRange,
        Reason::LimitReached | Reason::DiskFull | Reason::Overloaded => Code::ResourceExhausted,
        Reason::ShuttingDown => Code::Unavailable,
        Reason::Damaged => Code::DataLoss,
        Reason::Internal => Code::Internal,
        // A reason that was added without a line here is a fault of the broker.
        _ => Code::Internal,
    }
}

/// A refusal as the status of a call.
pub(super) fn status_of(refusal: Refusal) -> Status {
    let metadata: HashMap<String, String> =
        refusal.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason.as_str(), DOMAIN, metadata);
    if let Some(ms) = refusal.retry_after_ms {
        details.set_retry_info(Some(Duration::from_millis(ms)));
    }
    Status::with_error_details(code_of(refusal.reason), refusal.message, details)
}

/// A refusal as a fault in a frame.
pub(super) fn fault_of(refusal: Refusal) -> v1::Fault {
    v1::Fault {
        code: code_of(refusal.reason) as i32,
        reason: refusal.reason.as_str().to_owned(),
        message: refusal.message,
        details: refusal.details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        retry_after_ms: refusal.retry_after_ms.unwrap_or(0) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_internal_faults_are_internal() {
        for reason in Reason::ALL {
            let internal = code_of(*reason) == Code::Internal;
            assert_eq!(internal, *reason == Reason::Internal, "{reason} has no line in the table");
        }
    }

    #[test]
    fn a_status_carries_the_reason_the_details_and_when_to_retry() {
        let refusal = Refusal::new(Reason::Overloaded, "full").with("limit", 5).retry_after(50);
        let status = status_of(refusal);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", "escrow"));
        assert_eq!(info.metadata["limit"], "5");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(50)));
    }
}
