//! The task behind a producer: owns its stream, keeps it open, and moves operations, answers and checks over it.

use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::limits::FRAME_ENTRIES_MAX;
use escrow_protocol::v1::{
    Goodbye, ProducerFrame, ProducerRequest, ProducerResponse, ProducerResults, producer_request,
    producer_response,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::alarm::Alarm;
use crate::backoff::Backoff;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::producer::checks::Checks;
use crate::producer::handle::SessionState;
use crate::producer::ledger::{Ledger, Operation};
use crate::producer::link::{ProducerLink, ProducerStream};
use crate::settings::{GOODBYE_TIME_MAX, OPERATIONS_QUEUED_MAX, SESSION_COUNTS_AS_STABLE_AFTER};

/// A producer's session over all its streams.
pub(crate) struct ProducerSession {
    link: ProducerLink,
    operations: mpsc::Receiver<Operation>,
    ledger: Ledger,
    checks: Checks,
    backoff: Backoff,
    alarm: Alarm,
    state: Arc<SessionState>,
    /// Why the last stream ended; the source of timeouts while there is none.
    last_loss: Option<Error>,
    /// No operation will come any more.
    closing: bool,
}

/// How a stream ended.
enum StreamEnd {
    /// As this side wanted, with everything answered.
    Closed,
    /// Without this side wanting it; the broker may have asked to stay away for a while: the error's `retry_after`.
    Lost(Error),
}

/// Says that the session has ended, however it ends.
struct SayEnded(Arc<SessionState>);

impl Drop for SayEnded {
    fn drop(&mut self) {
        self.0.ended.cancel();
    }
}

impl ProducerSession {
    pub(crate) fn new(
        link: ProducerLink,
        operations: mpsc::Receiver<Operation>,
        checks: Checks,
        state: Arc<SessionState>,
    ) -> Self {
        let settings = &link.settings;
        let backoff = Backoff::new(settings.reconnect_shortest, settings.reconnect_longest, clock::chance());
        Self {
            ledger: Ledger::new(clock::chance()),
            alarm: Alarm::default(),
            last_loss: None,
            closing: false,
            link,
            operations,
            checks,
            backoff,
            state,
        }
    }

    /// Runs until every handle is gone, somebody closed it, or the broker refuses it for good.
    pub(crate) async fn run(mut self, mut stream: ProducerStream) {
        let _ended = SayEnded(Arc::clone(&self.state));
        loop {
            let opened_at = clock::now();
            self.state.take_limits(&stream.welcome);
            let error = match self.converse(stream).await {
                StreamEnd::Closed => return,
                StreamEnd::Lost(error) => error,
            };
            let stay_away = error.retry_after().unwrap_or_default();
            tracing::warn!(group = self.link.hello.group, error = %error, "producer session lost, reconnecting");
            self.ledger.session_lost();
            self.checks.session_lost();
            self.last_loss = Some(error);
            if clock::now() >= opened_at + SESSION_COUNTS_AS_STABLE_AFTER {
                self.backoff.reset();
            }
            stream = match self.reconnect(stay_away).await {
                Some(stream) => stream,
                None => return,
            };
            tracing::info!(group = self.link.hello.group, "producer session is back");
        }
    }

    /// Works one stream until it ends. Every arm is cancel safe; the stream is read in every turn.
    async fn converse(&mut self, mut stream: ProducerStream) -> StreamEnd {
        let mut accepted = Vec::new();
        let mut heard_at = clock::now();
        let goodbye = loop {
            if self.closing && self.ledger.is_empty() {
                return self.finish(stream).await;
            }
            self.alarm.set(self.ledger.next_wake());
            let wants_to_send = self.ledger.wants_to_send() || self.checks.has_answers();
            tokio::select! {
                received = stream.inbound.message() => match received {
                    Ok(Some(ProducerResponse { kind: Some(producer_response::Kind::Goodbye(goodbye)) })) => {
                        break goodbye;
                    }
                    Ok(Some(response)) => {
                        heard_at = clock::now();
                        self.take(response, heard_at);
                    }
                    Ok(None) => return lost("the broker ended the stream"),
                    Err(status) => return StreamEnd::Lost(status.into()),
                },
                permit = stream.outbound.reserve(), if wants_to_send => match permit {
                    Ok(permit) => permit.send(self.next_frame()),
                    Err(_closed) => return lost("the connection no longer takes frames"),
                },
                count = self.operations.recv_many(&mut accepted, OPERATIONS_QUEUED_MAX),
                        if !self.closing && self.ledger.has_room() => self.accept(count, &mut accepted),
                () = self.state.closing.cancelled(), if !self.operations.is_closed() => self.operations.close(),
                () = self.checks.one_ends() => {}
                () = self.alarm.rings() => if self.fire() && self.is_silent_since(heard_at) {
                    return lost("the broker no longer answers");
                },
            }
        };
        self.part(stream, goodbye).await
    }

    /// Opens the next stream, however long it takes; meanwhile operations are accepted and end at their deadlines.
    /// `None`: the session is over.
    async fn reconnect(&mut self, stay_away: Duration) -> Option<ProducerStream> {
        let mut stay_away = stay_away;
        loop {
            let delay = self.backoff.next_delay().max(self.backoff.no_earlier_than(stay_away));
            match self.attempt(delay).await? {
                Ok(stream) => return Some(stream),
                Err(error) if error.may_reconnect() => {
                    tracing::warn!(group = self.link.hello.group, error = %error, "producer cannot reconnect yet");
                    stay_away = error.retry_after().unwrap_or_default();
                    self.last_loss = Some(error);
                }
                Err(error) => {
                    self.refuse(error);
                    return None;
                }
            }
        }
    }

    /// One attempt to open a stream, after `delay`. `None`: nobody needs one any more.
    async fn attempt(&mut self, delay: Duration) -> Option<Result<ProducerStream, Error>> {
        let Self { link, operations, ledger, checks, alarm, state, last_loss, closing, .. } = self;
        let opening = async {
            sleep(delay).await;
            link.open().await
        };
        tokio::pin!(opening);
        let mut accepted = Vec::new();
        loop {
            if *closing && ledger.is_empty() {
                return None;
            }
            alarm.set(ledger.next_wake());
            tokio::select! {
                opened = &mut opening => return Some(opened),
                count = operations.recv_many(&mut accepted, OPERATIONS_QUEUED_MAX),
                        if !*closing && ledger.has_room() => {
                    *closing = count == 0;
                    accepted.drain(..).for_each(|operation| ledger.accept(operation));
                }
                () = state.closing.cancelled(), if !operations.is_closed() => operations.close(),
                () = checks.one_ends() => {}
                () = alarm.rings() => {
                    ledger.fire(clock::now(), last_loss.as_ref());
                }
            }
        }
    }

    fn accept(&mut self, count: usize, accepted: &mut Vec<Operation>) {
        // Nothing and not waiting: every handle is gone, or the queue was closed and is empty.
        self.closing = count == 0;
        accepted.drain(..).for_each(|operation| self.ledger.accept(operation));
    }

    fn take(&mut self, response: ProducerResponse, now: Instant) {
        if let Some(producer_response::Kind::Frame(frame)) = response.kind {
            let ProducerResults { results, questions } = frame;
            results.into_iter().for_each(|result| self.ledger.answer(result, now));
            questions.into_iter().for_each(|question| self.checks.ask(question));
        }
    }

    fn next_frame(&mut self) -> ProducerRequest {
        let mut commands = Vec::new();
        self.checks.fill_frame(&mut commands, FRAME_ENTRIES_MAX);
        if self.ledger.wants_to_send() {
            self.ledger.fill_frame(&mut commands);
        }
        ProducerRequest { kind: Some(producer_request::Kind::Frame(ProducerFrame { commands })) }
    }

    fn fire(&mut self) -> bool {
        self.ledger.fire(clock::now(), self.last_loss.as_ref())
    }

    /// Whether nothing came from the broker for as long as an operation may take.
    fn is_silent_since(&self, heard_at: Instant) -> bool {
        clock::now() >= heard_at + self.link.settings.operation_timeout
    }

    /// The broker is about to close the stream: nothing more is sent, answers on their way are still taken.
    async fn part(&mut self, mut stream: ProducerStream, goodbye: Goodbye) -> StreamEnd {
        drop(stream.outbound);
        let _ = timeout(GOODBYE_TIME_MAX, async {
            while self.ledger.awaits_answers() {
                match stream.inbound.message().await {
                    Ok(Some(response)) => self.take(response, clock::now()),
                    Ok(None) | Err(_) => break,
                }
            }
        })
        .await;
        StreamEnd::Lost(goodbye.into())
    }

    /// Ends this side of the stream and waits a while for the broker to end the other, so that what was written last
    /// is read.
    async fn finish(&mut self, mut stream: ProducerStream) -> StreamEnd {
        drop(stream.outbound);
        let _ =
            timeout(GOODBYE_TIME_MAX, async { while let Ok(Some(_)) = stream.inbound.message().await {} })
                .await;
        StreamEnd::Closed
    }

    /// The broker does not take this producer back, e.g. because the protocol has moved on.
    fn refuse(&mut self, error: Error) {
        tracing::error!(group = self.link.hello.group, error = %error, "producer session refused, giving up");
        self.ledger.fail_all(&error);
        self.operations.close();
        let _ = self.state.refused.set(error.copy());
        while let Ok(operation) = self.operations.try_recv() {
            let _ = operation.reply.send(Err(error.copy()));
        }
    }
}

fn lost(what: &str) -> StreamEnd {
    StreamEnd::Lost(Error::new(ErrorKind::Unavailable, what))
}
