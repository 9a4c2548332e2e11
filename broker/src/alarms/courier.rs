//! Brings notices to one sink, one after another: what fails comes again later, also after a restart. And the last words of a
//! broker whose store failed, which nobody can write down any more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::desk::Alarms;
use super::http;
use super::letter::{Letter, Told, judge_answer};
use super::outbox::{Attempt, Next};
use super::settings::{Sink, SinkKind};
use super::smtp;
use crate::records::{Alarm, AlarmEvent, AlarmRule};

/// A test is over within this time: whoever asked for it waits.
const TEST_WITHIN: Duration = Duration::from_secs(8);
/// How long the last words may take for one sink, all attempts together.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(4);
/// Between two attempts at the last words.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(500);

impl Alarms {
    /// Brings its notices to `sink`, until told to stop. What is under way then comes again after the next start.
    pub(super) async fn carry(self, sink: String, stop: CancellationToken) {
        // Cancel-safe: a notice that was not settled is still in the outbox.
        stop.run_until_cancelled(self.carry_on(&sink)).await;
    }

    async fn carry_on(&self, name: &str) {
        let Ok(sink) = self.sink(name) else { return };
        loop {
            match self.next_of(name).await {
                Next::Send((number, notice), written) => {
                    let told = Told::Alarm { number, notice, event: written.event, alarm: &written.alarm };
                    let attempt = match self.deliver(sink, told, written.at_ms).await {
                        Ok(()) => Attempt::Taken,
                        Err(error) => {
                            let attempts = written.attempts + 1;
                            tracing::warn!(sink = name, alarm = number, attempts, error, "notice not taken");
                            Attempt::Failed(error)
                        }
                    };
                    self.settle(name, (number, notice), attempt).await;
                }
                Next::Wait(ms) => {
                    // Cancel-safe: both only wait.
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
                        () = self.rung(name) => {}
                    }
                }
                Next::Idle => self.rung(name).await,
            }
        }
    }

    /// Tries a sink once, now, and says how it went.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub async fn test(&self, sink: &Sink, by: &str) -> Result<(), String> {
        let trying = self.deliver(sink, Told::Test { by }, self.parts().clock.now().unix_ms);
        match tokio::time::timeout(TEST_WITHIN, trying).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("{} did not answer within {} s", sink.url, TEST_WITHIN.as_secs())),
        }
    }

    async fn deliver(&self, sink: &Sink, told: Told<'_>, at_ms: u64) -> Result<(), String> {
        let parts = self.parts();
        let within = Duration::from_millis(parts.settings.timeout_ms);
        let letter = Letter::new(told, at_ms, &parts.console_url, sink.chinese);
        let now_ms = parts.clock.now().unix_ms;
        if sink.kind == SinkKind::Smtp {
            return smtp::mail(self.tls(), sink, &letter, &mail_date(now_ms), within).await;
        }
        let (status, answer) = http::post(self.tls(), &sink.url, letter.post(sink, now_ms), within).await?;
        judge_answer(sink.kind, status, &answer).map_err(|error| format!("{}: {error}", sink.url))
    }

    /// The store failed and the broker is about to end: every sink is told at once, for a few seconds.
    pub async fn last_words(&self, fault: &str) {
        if self.settings().rules.get(AlarmRule::FailedSync).is_none() {
            return;
        }
        let now_ms = self.parts().clock.now().unix_ms;
        let alarm = Alarm {
            rule: AlarmRule::FailedSync,
            subject: fault.to_owned(),
            id: String::new(),
            raised_at_ms: now_ms,
            value: 1,
            limit: 1,
            worst: 1,
            told_at_ms: now_ms,
            repeats: 0,
            notices: 0,
            ack: None,
            resolved_at_ms: None,
        };
        let told = Told::Alarm { number: 0, notice: now_ms, event: AlarmEvent::Raised, alarm: &alarm };
        let telling = self.settings().sinks.iter().map(|(name, sink)| async move {
            let trying = async {
                while let Err(error) = self.deliver(sink, told, now_ms).await {
                    tracing::warn!(sink = name, error, "last words not taken");
                    tokio::time::sleep(LAST_WORDS_PAUSE).await;
                }
            };
            if tokio::time::timeout(LAST_WORDS_WITHIN, trying).await.is_err() {
                tracing::error!(sink = name, "nobody there heard that the store failed");
            }
        });
        futures::future::join_all(telling).await;
    }
}

/// As mails have it.
fn mail_date(now_ms: u64) -> String {
    let now = jiff::Timestamp::from_millisecond(now_ms as i64).unwrap_or_default();
    now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
