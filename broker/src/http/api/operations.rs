//! The one table of what `/api/v1` offers. The router, the OpenAPI document and the tests are made from it, so none of
//! them can lack an operation or invent one. Each is a call of the gRPC services under another spelling.

/// How an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Looks, changes nothing.
    Get,
    /// Does something.
    Post,
    /// Changes settings.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    /// Its name in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// How it is asked for.
    pub verb: Verb,
    /// Where, below [`ROOT`]. What stands in braces is a field of the request.
    pub path: &'static str,
    /// The gRPC call that does it.
    pub call: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
}

/// Where the operations lie.
pub const ROOT: &str = "/api/v1";
/// Where the OpenAPI document lies, below [`ROOT`].
pub const DOCUMENT: &str = "/openapi.json";

macro_rules! operations {
    ($($service:literal { $($verb:ident $path:literal $call:literal $summary:literal;)* })*) => {
        /// All of them.
        pub const OPERATIONS: &[Operation] = &[$($(Operation {
            verb: Verb::$verb,
            path: $path,
            call: concat!("/escrow.v1.", $service, "/", $call),
            summary: $summary,
        },)*)*];
    };
}

operations! {
    "AdminService" {
        Get "/status" "GetStatus" "The broker at a glance; counts are exact";

        Get "/topics" "ListTopics" "Topics by name";
        Post "/topics" "CreateTopic" "Makes a topic";
        Get "/topics/{name}" "GetTopic" "A topic";
        Patch "/topics/{name}" "UpdateTopic" "Replaces the settings that are given";
        Delete "/topics/{name}" "DeleteTopic" "Removes a topic; refused while a group listens, unless forced";

        Get "/groups" "ListGroups" "Groups by name";
        Post "/groups" "CreateGroup" "Makes a group";
        Get "/groups/{name}" "GetGroup" "A group: positions, lag, members";
        Patch "/groups/{name}" "UpdateGroup" "Replaces the settings and subscriptions that are given";
        Delete "/groups/{name}" "DeleteGroup" "Removes a group; refused while it has dead letters or members, unless forced";
        Post "/groups/{name}/pause" "PauseGroup" "No deliveries until resumed";
        Post "/groups/{name}/resume" "ResumeGroup" "Deliveries go on";
        Post "/groups/{group}/seek" "SeekGroup" "Moves the group in one topic: replay or skip";
        Get "/groups/{group}/retries" "ListRetries" "What a group will try again";
        Post "/groups/{group}/retries/run" "RunRetries" "Their next attempts come at once";
        Post "/groups/{group}/retries/give-up" "GiveUpRetries" "To the dead letters now";

        Get "/transactions" "ListTransactions" "Transactions: undecided, waiting for a checker, parked or decided";
        Get "/transactions/{transaction_id}" "GetTransaction" "A transaction: messages, checks, decision";
        Post "/transactions/{transaction_id}/check" "CheckTransaction" "Asks a checker now";
        Post "/transactions/{transaction_id}/decide" "DecideTransaction" "Commit or rollback by a person";
        Post "/transactions/{transaction_id}/resume" "ResumeTransaction" "A parked transaction is checked again";

        Get "/scheduled" "ListScheduled" "What waits for its time, the next one first";
        Post "/scheduled/{message_id}/cancel" "CancelScheduled" "Withdraws a scheduled message; answers exactly";
        Post "/scheduled/{message_id}/move" "MoveScheduled" "Gives a scheduled message another time; answers exactly";

        Get "/dead-letters" "ListDeadLetters" "Dead letters, oldest first, without bodies";
        Get "/groups/{group}/dead-letter-facets" "GetDeadLetterFacets" "How many died of what, and came from where";
        Get "/dead-letters/{group}/{offset}" "GetDeadLetter" "A dead letter with its attempts and its body";
        Post "/dead-letters/{group}/{offset}/edit" "EditDeadLetter" "Sends one again as a new message with another body, headers or topic";
        Get "/dead-letters/export" "ExportDeadLetters" "All that match, a line each, with bodies; the audit has who took them";
        Post "/dead-letters/redrive" "RedriveDeadLetters" "Starts a job that sends them again, at a rate";
        Post "/dead-letters/discard" "DiscardDeadLetters" "Starts a job that removes them for good";

        Get "/jobs" "ListJobs" "Redrives and discards of many dead letters, newest first";
        Get "/jobs/{job_id}" "GetJob" "A job: how far it is, and what became of each of its dead letters";
        Post "/jobs/{job_id}/pause" "PauseJob" "The job waits";
        Post "/jobs/{job_id}/resume" "ResumeJob" "The job goes on";
        Post "/jobs/{job_id}/cancel" "CancelJob" "Ends the job; what it did stays done";

        Get "/audit" "ListAudit" "What was done by hand: who, when, what, on what, why, before and after; newest first";

        Get "/audit/export" "ExportAudit" "All that match, a line each; the audit has who took them";

        Get "/alarms" "ListAlarms" "Alarms, newest first: the open ones, or with all those that are over, too";
        Get "/alarms/rules" "ListAlarmRules" "The rules, their limits, and who is told";
        Get "/alarms/{alarm_id}" "GetAlarm" "An alarm";
        Post "/alarms/{alarm_id}/acknowledge" "AcknowledgeAlarm" "A person looks after it; nobody is reminded any more";
        Post "/alarms/sinks/{name}/test" "TestAlarmSink" "Sends a test to a sink, once, and says how it went";

        Get "/messages" "FindMessages" "Messages with a business key, newest first, without bodies; then those that are gone";
        Get "/messages/{message_id}" "GetMessage" "A message and where it is";
        Get "/messages/{message_id}/trace" "TraceMessage" "The life of a message, also when it is gone: checks, decision, each delivery and its end in each group";

        Get "/clients" "ListClients" "Who is connected";

        Get "/store" "GetStoreStats" "The store in numbers";
        Post "/store/verify" "VerifyStore" "Reads every record";
        Get "/store/backup" "BackupStore" "The backup file of docs/format.md, taken while the broker works";
    }
    "ProducerService" {
        Post "/producer/publish" "Publish" "Stores a message";
        Post "/producer/send-half" "SendHalf" "Stores a half message; nobody sees it until it is committed";
        Post "/producer/decide" "Decide" "Commits or rolls back a half message, as its producer";
    }
    "ConsumerService" {
        Post "/consumer/receive" "Receive" "Takes messages that are ready, under a lease";
        Post "/consumer/settle" "Settle" "Acks, nacks, rejects, extends or releases leases";
    }
}
