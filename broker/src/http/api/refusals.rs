//! Why each operation may be refused, besides a request that says something wrong: what the OpenAPI document declares, and
//! what broker/tests/console/conformance.rs provokes, one by one. What any operation may meet (too much waits, the broker
//! stops, a record is damaged) is not listed here.

use escrow_protocol::Reason;

/// The reasons of this operation, by the name of its call; `None` for one that has no line here.
pub(crate) fn refusals_of(call: &str) -> Option<&'static [Reason]> {
    let name = call.rsplit('/').next().unwrap_or_default();
    Some(match name {
        "GetStatus" | "ListTopics" | "ListGroups" | "ListTransactions" | "ListScheduled" | "ListJobs"
        | "ListAudit" | "ExportAudit" | "FindMessages" | "ListClients" | "GetStoreStats" | "VerifyStore"
        | "BackupStore" | "CancelScheduled" | "MoveScheduled" | "Settle" | "ListAlarms"
        | "ListAlarmRules" => &[],
        "GetTopic" | "UpdateTopic" => &[Reason::UnknownTopic],
        "CreateTopic" => &[Reason::TopicExists, Reason::ReservedTopic, Reason::LimitReached],
        "DeleteTopic" => &[Reason::UnknownTopic, Reason::ReservedTopic, Reason::InUse],
        "GetGroup"
        | "PauseGroup"
        | "ResumeGroup"
        | "ListRetries"
        | "RunRetries"
        | "GiveUpRetries"
        | "ListDeadLetters"
        | "ExportDeadLetters"
        | "GetDeadLetterFacets" => &[Reason::UnknownGroup],
        "CreateGroup" => &[Reason::GroupExists, Reason::UnknownTopic, Reason::LimitReached],
        "UpdateGroup" => {
            &[Reason::UnknownGroup, Reason::UnknownTopic, Reason::UnknownSubscription, Reason::LimitReached]
        }
        "DeleteGroup" => &[Reason::UnknownGroup, Reason::InUse],
        "SeekGroup" => &[
            Reason::UnknownGroup,
            Reason::UnknownTopic,
            Reason::UnknownSubscription,
            Reason::OffsetOutOfRange,
        ],
        "GetTransaction" => &[Reason::UnknownTransaction],
        "CheckTransaction" => &[Reason::UnknownTransaction, Reason::NotUndecided],
        "DecideTransaction" => &[Reason::UnknownTransaction, Reason::AlreadyDecided],
        "ResumeTransaction" => &[Reason::UnknownTransaction, Reason::NotParked],
        "GetDeadLetter" => &[Reason::UnknownGroup, Reason::UnknownDeadLetter],
        "EditDeadLetter" => &[
            Reason::UnknownGroup,
            Reason::UnknownDeadLetter,
            Reason::UnknownTopic,
            Reason::ReservedTopic,
            Reason::LimitReached,
            Reason::DiskFull,
        ],
        "RedriveDeadLetters" => {
            &[Reason::UnknownGroup, Reason::UnknownTopic, Reason::ReservedTopic, Reason::LimitReached]
        }
        "DiscardDeadLetters" => &[Reason::UnknownGroup, Reason::LimitReached],
        "GetJob" => &[Reason::UnknownJob],
        "PauseJob" | "ResumeJob" | "CancelJob" => &[Reason::UnknownJob, Reason::JobEnded],
        "GetAlarm" => &[Reason::UnknownAlarm],
        "AcknowledgeAlarm" => &[Reason::UnknownAlarm, Reason::AlarmResolved],
        "TestAlarmSink" => &[Reason::UnknownSink],
        "GetMessage" | "TraceMessage" => &[Reason::UnknownMessage],
        "Publish" => &[
            Reason::UnknownTopic,
            Reason::ReservedTopic,
            Reason::MessageIdReused,
            Reason::LimitReached,
            Reason::DiskFull,
        ],
        "SendHalf" => &[
            Reason::UnknownTopic,
            Reason::ReservedTopic,
            Reason::MessageIdReused,
            Reason::TransactionKeyReused,
            Reason::LimitReached,
            Reason::DiskFull,
        ],
        "Decide" => &[Reason::UnknownTransaction, Reason::WrongGroup, Reason::AlreadyDecided],
        "Receive" => &[Reason::UnknownTopic, Reason::SubscriptionMismatch, Reason::LimitReached],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::operations::OPERATIONS;
    use super::*;

    #[test]
    fn every_operation_says_why_it_may_be_refused() {
        let silent = OPERATIONS.iter().filter(|operation| refusals_of(operation.call).is_none());
        let silent: Vec<_> = silent.map(|operation| operation.call).collect();
        assert!(
            silent.is_empty(),
            "give these a line in refusals.rs, and cases in conformance.rs: {silent:?}"
        );
    }
}
