//! A transaction, its messages, its checks and its decision.

use escrow_protocol::v1;

use super::message::TraceEventView;
use super::{message_id, transaction_id};
use crate::cli::now_ms;
use crate::cli::output::{Bytes, Ms, Time, view};

view! {
    /// A message of a transaction.
    TransactionMessageView {
        /// Its id.
        message_id: String = "MESSAGE",
        /// Its topic.
        topic: String = "TOPIC",
        /// Its business key.
        key: String = "KEY",
        /// Its place, once it is queued.
        offset: Option<u64> = "OFFSET",
        /// Not delivered before.
        deliver_at: Time = "DELIVER AT",
        /// Of its body.
        body_bytes: Bytes = "BODY",
    }
}

view! {
    /// A transaction.
    TransactionView {
        /// Its id.
        transaction_id: String = "TRANSACTION",
        /// Where it stands.
        state: String = "STATE",
        /// The producer group that made it.
        group: String = "GROUP",
        /// Who can answer for it.
        kind: String = "KIND",
        /// The first business key of its messages, or the producer's own for it.
        key: String = "KEY",
        /// The producer's own key for it.
        transaction_key: String = _,
        /// When it was made.
        created_at: Time = _,
        /// How long ago that is, whole seconds.
        age_ms: Ms = "AGE",
        /// The instance that made it.
        client_id: String = _,
        /// Checks that reached a checker.
        checks_delivered: u32 = "CHECKS",
        /// Of these: answered "unknown".
        checks_unknown: u32 = "UNKNOWN",
        /// Of these: not answered in time.
        checks_timed_out: u32 = "TIMED OUT",
        /// Times that no checker was connected.
        checks_without_checker: u32 = "FOUND NONE",
        /// Checks before the in-doubt policy.
        max_checks: u32 = "MAX",
        /// The next check.
        next_check_at: Time = "NEXT CHECK AT",
        /// A check is due, and nobody can answer it.
        waiting_for_checker: bool = "NO CHECKER",
        /// Who could answer it now.
        checkers_connected: u32 = _,
        /// What happens when nobody knows.
        in_doubt: String = _,
        /// When it happens.
        in_doubt_at: Time = _,
        /// In which role the decision was taken.
        decided_by_role: Option<String> = _,
        /// By whom.
        decided_by: Option<String> = "DECIDED BY",
        /// Why.
        decided_because: Option<String> = _,
        /// When.
        decided_at: Time = _,
        /// Contradicting decisions that were refused.
        conflicts: u32 = _,
        /// Its messages.
        messages: Vec<TransactionMessageView> = "MESSAGES",
        /// Each check with its answer, parked, resumed, decided. Not in lists.
        events: Vec<TraceEventView> = _,
    }
}

impl From<v1::TransactionMessage> for TransactionMessageView {
    fn from(message: v1::TransactionMessage) -> Self {
        Self {
            message_id: message_id(&message.message_id),
            topic: message.topic,
            key: message.key,
            offset: message.offset,
            deliver_at: Time(message.deliver_at_ms),
            body_bytes: Bytes(message.body_bytes),
        }
    }
}

impl From<v1::Transaction> for TransactionView {
    fn from(transaction: v1::Transaction) -> Self {
        let state = transaction.state().as_str_name().to_owned();
        let in_doubt = match transaction.in_doubt() {
            v1::InDoubtPolicy::InDoubtRollback => "rollback",
            v1::InDoubtPolicy::InDoubtCommit => "commit",
            v1::InDoubtPolicy::Park | v1::InDoubtPolicy::InDoubtUnspecified => "park",
        };
        let decider = transaction.decider;
        let of_decider = |field: fn(&v1::Decider) -> &String| {
            decider.as_ref().map(field).filter(|text| !text.is_empty()).cloned()
        };
        let keys =
            transaction.messages.iter().map(|message| &message.key).chain([&transaction.transaction_key]);
        let key = keys.into_iter().find(|key| !key.is_empty()).cloned().unwrap_or_default();
        Self {
            key,
            transaction_id: transaction_id(transaction.transaction_id).unwrap_or_default(),
            state,
            group: transaction.group,
            kind: transaction.kind,
            transaction_key: transaction.transaction_key,
            created_at: Time(transaction.created_at_ms),
            age_ms: Ms::from_wire((now_ms() - transaction.created_at_ms).max(0) / 1_000 * 1_000),
            client_id: transaction.client_id,
            checks_delivered: transaction.checks_delivered,
            checks_unknown: transaction.checks_unknown,
            checks_timed_out: transaction.checks_timed_out,
            checks_without_checker: transaction.checks_without_checker,
            max_checks: transaction.max_checks,
            next_check_at: Time(transaction.next_check_at_ms),
            waiting_for_checker: transaction.waiting_for_checker,
            checkers_connected: transaction.checkers_connected,
            in_doubt: in_doubt.to_owned(),
            in_doubt_at: Time(transaction.in_doubt_at_ms),
            decided_by_role: of_decider(|decider| &decider.role),
            decided_by: of_decider(|decider| &decider.name),
            decided_because: of_decider(|decider| &decider.reason),
            decided_at: Time(decider.as_ref().map_or(0, |decider| decider.at_ms)),
            conflicts: transaction.conflicts,
            messages: transaction.messages.into_iter().map(TransactionMessageView::from).collect(),
            events: transaction.events.into_iter().map(TraceEventView::from).collect(),
        }
    }
}
