//! What the verbs show, made from what the wire says: a view for each noun.

mod alarm;
mod audit;
mod client;
mod context;
mod dead_letter;
mod group;
mod job;
mod message;
mod retry;
mod status;
mod store;
mod topic;
mod transaction;

pub(crate) use alarm::{AlarmRuleView, AlarmSinkView, AlarmView};
pub(crate) use audit::AuditView;
pub(crate) use client::ClientView;
pub(crate) use context::{ContextView, TargetView};
pub(crate) use dead_letter::{DeadLetterView, FacetView};
pub(crate) use group::{GroupView, SeekView};
pub(crate) use job::{JobDetailView, JobResultView, JobView};
pub(crate) use message::{DeliveryView, PublishedView, ScheduledView, StoredMessageView, TraceView};
pub(crate) use retry::{RetryResultView, RetryView};
pub(crate) use status::StatusView;
pub(crate) use store::{StoreStatsView, StoredStatsView, VerifyView};
pub(crate) use topic::TopicView;
pub(crate) use transaction::TransactionView;

use escrow_protocol::{MessageId, TransactionId};

/// A message id as text; empty if there is none.
fn message_id(bytes: &[u8]) -> String {
    MessageId::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

/// A transaction id as text; `None` if there is none.
fn transaction_id(wire: u64) -> Option<String> {
    (wire != 0).then(|| TransactionId::from_u64(wire).to_string())
}

/// Bytes of a body: its text, or its bytes in hexadecimal.
fn body_texts(body: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(body.iter().map(|byte| format!("{byte:02x}")).collect())),
    }
}
