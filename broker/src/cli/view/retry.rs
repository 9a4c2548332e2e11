//! A message that waits for its next attempt, and the attempts that failed.

use escrow_protocol::v1;

use super::message_id;
use crate::cli::output::{Time, view};

view! {
    /// An attempt that failed.
    AttemptView {
        /// Which one.
        number: u32 = "ATTEMPT",
        /// When.
        at: Time = "AT",
        /// How.
        kind: String = "KIND",
        /// Why.
        error: String = "ERROR",
        /// Whose.
        client_id: String = "CLIENT",
    }
}

view! {
    /// A message that waits for its next attempt.
    RetryView {
        /// The group.
        group: String = "GROUP",
        /// The topic.
        topic: String = "TOPIC",
        /// Its place there.
        offset: u64 = "OFFSET",
        /// Its id.
        message_id: String = "MESSAGE",
        /// Its business key.
        key: String = "KEY",
        /// The attempt that comes next.
        next_attempt: u32 = "NEXT ATTEMPT",
        /// Attempts in all.
        max_attempts: u32 = "OF",
        /// When it comes.
        due_at: Time = "DUE AT",
        /// Why the last one failed.
        last_error: Option<String> = "LAST ERROR",
        /// Those that failed.
        attempts: Vec<AttemptView> = _,
    }
}

view! {
    /// What became of a retry.
    RetryResultView {
        /// The message.
        message_id: String = "MESSAGE",
        /// What was done; none: it was refused.
        done: Option<String> = "DONE",
        /// Why it was refused.
        fault: Option<String> = "FAULT",
    }
}

impl RetryResultView {
    /// `done`: what was done with those that were not refused.
    pub(crate) fn new(result: &v1::RetryResult, done: &str) -> Self {
        let fault = result.fault.as_ref().map(|fault| format!("{}: {}", fault.reason, fault.message));
        Self {
            message_id: message_id(&result.message_id),
            done: fault.is_none().then(|| done.to_owned()),
            fault,
        }
    }
}

impl From<v1::Attempt> for AttemptView {
    fn from(attempt: v1::Attempt) -> Self {
        Self {
            number: attempt.number,
            at: Time(attempt.at_ms),
            kind: attempt.kind,
            error: attempt.error,
            client_id: attempt.client_id,
        }
    }
}

impl From<v1::Retry> for RetryView {
    fn from(retry: v1::Retry) -> Self {
        Self {
            group: retry.group,
            topic: retry.topic,
            offset: retry.offset,
            message_id: message_id(&retry.message_id),
            key: retry.key,
            next_attempt: retry.next_attempt,
            max_attempts: retry.max_attempts,
            due_at: Time(retry.due_at_ms),
            last_error: retry.attempts.last().map(|attempt| attempt.error.clone()),
            attempts: retry.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}
