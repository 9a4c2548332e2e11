//! The checks of one producer: questions that wait, run, and answers to be sent.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::{CheckAnswer, CheckQuestion, CheckVerdict, ProducerCommand};
use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::producer::checker::{AnyChecker, CheckRequest, Verdict};
use crate::settings::{CHECKS_RUNNING_MAX, CHECKS_WAITING_MAX};
use crate::trace::in_trace_of;

/// Runs a bounded number of checks at once.
pub(crate) struct Checks {
    checker: Option<Arc<dyn AnyChecker>>,
    time_max: Duration,
    waiting: VecDeque<CheckQuestion>,
    running: JoinSet<CheckAnswer>,
    answers: VecDeque<CheckAnswer>,
}

impl Checks {
    pub(crate) fn new(checker: Option<Arc<dyn AnyChecker>>, time_max: Duration) -> Self {
        Self {
            checker,
            time_max,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            answers: VecDeque::new(),
        }
    }

    /// The broker asked.
    pub(crate) fn ask(&mut self, question: CheckQuestion) {
        if self.waiting.len() >= CHECKS_WAITING_MAX {
            tracing::warn!(
                transaction_id = question.transaction_id,
                "too many checks wait, answered unknown"
            );
            self.answers.push_back(answer_to(&question, Verdict::Unknown));
            return;
        }
        self.waiting.push_back(question);
        self.start_waiting();
    }

    /// Waits until a running check has ended and keeps its answer; for ever if none runs. Cancel safe.
    pub(crate) async fn one_ends(&mut self) {
        match self.running.join_next().await {
            Some(Ok(answer)) => self.answers.push_back(answer),
            Some(Err(_aborted)) => {}
            None => std::future::pending().await,
        }
        self.start_waiting();
    }

    /// Whether there are answers to send.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Moves answers into `commands`, at most until it has `entries_max`.
    pub(crate) fn fill_frame(&mut self, commands: &mut Vec<ProducerCommand>, entries_max: usize) {
        let count = self.answers.len().min(entries_max.saturating_sub(commands.len()));
        commands.extend(
            self.answers.drain(..count).map(|answer| ProducerCommand {
                correlation: 0,
                command: Some(Command::CheckAnswer(answer)),
            }),
        );
    }

    /// The session ended: what was not begun or not sent is asked again. Running checks go on, their answers may still
    /// be in time.
    pub(crate) fn session_lost(&mut self) {
        self.waiting.clear();
        self.answers.clear();
    }

    fn start_waiting(&mut self) {
        while self.running.len() < CHECKS_RUNNING_MAX {
            let Some(question) = self.waiting.pop_front() else { return };
            match &self.checker {
                Some(checker) => {
                    self.running.spawn(judge(Arc::clone(checker), question, self.time_max));
                }
                None => self.answers.push_back(answer_to(&question, Verdict::Unknown)),
            }
        }
    }
}

async fn judge(checker: Arc<dyn AnyChecker>, question: CheckQuestion, time_max: Duration) -> CheckAnswer {
    let request = CheckRequest::new(question.clone());
    let trace = request.traceparent().map(str::to_owned);
    let check = in_trace_of(trace, async move { checker.check_boxed(request).await });
    let check = AssertUnwindSafe(check).catch_unwind();
    let transaction_id = question.transaction_id;
    let verdict = match timeout(time_max, check).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_panic)) => {
            tracing::error!(transaction_id, "checker panicked, answered unknown");
            Verdict::Unknown
        }
        Err(_elapsed) => {
            tracing::warn!(transaction_id, "checker took too long, answered unknown");
            Verdict::Unknown
        }
    };
    answer_to(&question, verdict)
}

fn answer_to(question: &CheckQuestion, verdict: Verdict) -> CheckAnswer {
    let verdict = match verdict {
        Verdict::Commit => CheckVerdict::VerdictCommit,
        Verdict::Rollback => CheckVerdict::VerdictRollback,
        Verdict::Unknown => CheckVerdict::Unknown,
    };
    CheckAnswer { transaction_id: question.transaction_id, check: question.check, verdict: verdict.into() }
}
