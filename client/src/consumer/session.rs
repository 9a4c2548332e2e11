//! The task behind a consumer: owns its stream, keeps it open, takes deliveries in, renews leases, sends settlements.

use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::v1::settlement::Verb;
use escrow_protocol::v1::{
    ConsumerBatch, ConsumerFrame, ConsumerRequest, ConsumerResponse, Delivery, Extend, Goodbye, Release,
    SettleResult, consumer_request, consumer_response,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::backoff::Backoff;
use crate::clock;
use crate::consumer::credit::Credit;
use crate::consumer::leases::Leases;
use crate::consumer::link::{ConsumerLink, ConsumerStream};
use crate::consumer::ready::Ready;
use crate::consumer::settlements::{Settle, Settlements};
use crate::error::{Error, ErrorKind};
use crate::settings::{EXTENSIONS_QUEUED_MAX, GOODBYE_TIME_MAX, SESSION_COUNTS_AS_STABLE_AFTER};

/// What the session and its reader tell each other.
#[derive(Debug, Default)]
pub(crate) struct ConsumerState {
    pub(crate) ready: Ready,
    /// The reader wants no more deliveries.
    pub(crate) closing: CancellationToken,
    /// After `closing`: what was not handed over is released.
    pub(crate) released: CancellationToken,
}

/// Where settlements come from.
#[derive(Debug)]
pub(crate) struct SettleQueues {
    pub(crate) settlements: mpsc::Receiver<Settle>,
    pub(crate) extensions: mpsc::Receiver<Settle>,
}

/// A consumer's session over all its streams.
#[derive(Debug)]
pub(crate) struct ConsumerSession {
    link: ConsumerLink,
    queues: SettleQueues,
    settlements: Settlements,
    leases: Leases,
    credit: Credit,
    backoff: Backoff,
    alarm: Alarm,
    state: Arc<ConsumerState>,
    /// No new deliveries are wanted.
    closing: bool,
    /// Nobody is left who could settle anything, and all settlements were taken from the queue.
    abandoned: bool,
    /// Nobody is left who could extend anything.
    extensions_ended: bool,
}

/// How a stream ended.
enum StreamEnd {
    /// As this side wanted, with everything settled.
    Closed,
    /// Without this side wanting it; the broker may have asked to stay away for a while: the error's `retry_after`.
    Lost(Error),
}

/// Tells the reader that nothing more comes, however the session ends.
struct SayEnded(Arc<ConsumerState>);

impl Drop for SayEnded {
    fn drop(&mut self) {
        self.0.ready.end(None);
        self.0.released.cancel();
    }
}

impl ConsumerSession {
    pub(crate) fn new(
        link: ConsumerLink,
        queues: SettleQueues,
        credit: Credit,
        leases: Leases,
        state: Arc<ConsumerState>,
    ) -> Self {
        let settings = &link.settings;
        let backoff = Backoff::new(settings.reconnect_shortest, settings.reconnect_longest, clock::chance());
        Self {
            settlements: Settlements::default(),
            alarm: Alarm::default(),
            closing: false,
            abandoned: false,
            extensions_ended: false,
            link,
            queues,
            leases,
            credit,
            backoff,
            state,
        }
    }

    /// Runs until it is closed and everything is settled, or the broker refuses it for good.
    pub(crate) async fn run(mut self, mut stream: ConsumerStream) {
        let _said = SayEnded(Arc::clone(&self.state));
        loop {
            let opened_at = clock::now();
            let error = match self.converse(stream).await {
                StreamEnd::Closed => return,
                StreamEnd::Lost(error) => error,
            };
            let stay_away = error.retry_after().unwrap_or_default();
            self.session_lost();
            if self.closing {
                return self.settlements.fail_all(&error);
            }
            tracing::warn!(group = self.link.hello.group, error = %error, "consumer session lost, reconnecting");
            if clock::now() >= opened_at + SESSION_COUNTS_AS_STABLE_AFTER {
                self.backoff.reset();
            }
            stream = match self.reconnect(stay_away).await {
                Ok(Some(stream)) => stream,
                Ok(None) => return self.settlements.fail_all(&Error::closed("consumer")),
                Err(refusal) => {
                    tracing::error!(group = self.link.hello.group, error = %refusal, "consumer session refused, giving up");
                    self.settlements.fail_all(&refusal);
                    self.state.ready.end(Some(refusal));
                    return;
                }
            };
            tracing::info!(group = self.link.hello.group, "consumer session is back");
        }
    }

    /// Works one stream until it ends. Every arm is cancel safe; the stream is read in every turn.
    async fn converse(&mut self, mut stream: ConsumerStream) -> StreamEnd {
        let (mut settled, mut extended) = (Vec::new(), Vec::new());
        let settled_max = self.queues.settlements.max_capacity();
        self.credit.reset();
        let goodbye = loop {
            if self.closing && self.settlements.is_empty() {
                if self.abandoned || self.leases.count() == 0 {
                    return self.finish(stream).await;
                }
                self.state.released.cancel();
            }
            self.alarm.set(self.leases.next_wake());
            let wants_to_send = self.wants_to_send();
            tokio::select! {
                received = stream.inbound.message() => match received {
                    Ok(Some(ConsumerResponse { kind: Some(consumer_response::Kind::Goodbye(goodbye)) })) => {
                        break goodbye;
                    }
                    Ok(Some(response)) => self.take(response),
                    Ok(None) => return lost("the broker ended the stream"),
                    Err(status) => return StreamEnd::Lost(status.into()),
                },
                permit = stream.outbound.reserve(), if wants_to_send => match permit {
                    Ok(permit) => permit.send(self.next_frame()),
                    Err(_closed) => return lost("the connection no longer takes frames"),
                },
                count = self.queues.settlements.recv_many(&mut settled, settled_max), if !self.abandoned => {
                    self.accept_settlements(count, &mut settled);
                }
                count = self.queues.extensions.recv_many(&mut extended, EXTENSIONS_QUEUED_MAX), if !self.extensions_ended => {
                    self.accept_extensions(count, &mut extended);
                }
                () = self.state.closing.cancelled(), if !self.closing => self.stop_taking(),
                () = self.alarm.rings() => self.renew(clock::now()),
            }
        };
        self.part(stream, goodbye).await
    }

    /// Opens the next stream, however long it takes. `None`: the reader is gone. An error: refused for good.
    async fn reconnect(&mut self, stay_away: Duration) -> Result<Option<ConsumerStream>, Error> {
        let mut stay_away = stay_away;
        loop {
            let delay = self.backoff.next_delay().max(self.backoff.no_earlier_than(stay_away));
            match self.attempt(delay).await {
                None => return Ok(None),
                Some(Ok(stream)) => return Ok(Some(stream)),
                Some(Err(error)) if error.may_reconnect() => {
                    tracing::warn!(group = self.link.hello.group, error = %error, "consumer cannot reconnect yet");
                    stay_away = error.retry_after().unwrap_or_default();
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// One attempt to open a stream, after `delay`. What is settled or extended meanwhile is answered at once: nothing
    /// of it can count any more. `None`: the reader is gone.
    async fn attempt(&mut self, delay: Duration) -> Option<Result<ConsumerStream, Error>> {
        let Self { link, queues, leases, state, extensions_ended, .. } = self;
        let opening = async {
            sleep(delay).await;
            link.open().await
        };
        tokio::pin!(opening);
        let (mut settled, mut extended) = (Vec::new(), Vec::new());
        let settled_max = queues.settlements.max_capacity();
        loop {
            // Every arm is cancel safe.
            tokio::select! {
                opened = &mut opening => return Some(opened),
                () = state.closing.cancelled() => return None,
                count = queues.settlements.recv_many(&mut settled, settled_max) => {
                    if count == 0 {
                        return None;
                    }
                    for settle in settled.drain(..) {
                        if settle.is_final() {
                            leases.give_back(settle.token);
                        }
                        settle.refuse_as_lost();
                    }
                }
                count = queues.extensions.recv_many(&mut extended, EXTENSIONS_QUEUED_MAX), if !*extensions_ended => {
                    *extensions_ended = count == 0;
                    extended.drain(..).for_each(Settle::refuse_as_lost);
                }
            }
        }
    }

    fn wants_to_send(&self) -> bool {
        let credit = !self.closing && self.credit.is_worth_a_frame(self.leases.count(), self.leases.bytes());
        (credit && self.settlements.may_send()) || self.settlements.wants_to_send()
    }

    fn next_frame(&mut self) -> ConsumerRequest {
        let (settlements, settled) = self.settlements.next_frame();
        settled.into_iter().for_each(|token| self.leases.give_back(token));
        let credit = match self.closing {
            true => None,
            false => self.credit.grant(self.leases.count(), self.leases.bytes()),
        };
        let frame = ConsumerFrame { credit, settlements };
        ConsumerRequest { kind: Some(consumer_request::Kind::Frame(frame)) }
    }

    fn take(&mut self, response: ConsumerResponse) {
        if let Some(consumer_response::Kind::Frame(batch)) = response.kind {
            let ConsumerBatch { deliveries, results } = batch;
            results.into_iter().for_each(|result| self.take_result(result));
            self.take_deliveries(deliveries);
        }
    }

    fn take_result(&mut self, result: SettleResult) {
        let fault = result.fault.clone();
        if let Some(fault) = fault {
            tracing::debug!(lease_token = result.lease_token, reason = fault.reason, "settlement refused");
            self.leases.is_over(result.lease_token);
        }
        if let Some(token) = self.settlements.answer(result) {
            self.leases.give_back(token);
        }
    }

    fn take_deliveries(&mut self, mut deliveries: Vec<Delivery>) {
        let now = clock::now();
        deliveries.retain(|delivery| {
            let bytes = delivery.message.as_ref().map_or(0, |message| message.body.len() as u64);
            let allowed = self.credit.used(bytes);
            if self.closing || !allowed {
                self.settlements.accept(release(delivery.lease_token));
                return false;
            }
            let length = Duration::from_millis(u64::try_from(delivery.lease_ms).unwrap_or(0).max(1));
            self.leases.take(delivery.lease_token, bytes, length, now);
            true
        });
        self.state.ready.add(deliveries);
    }

    fn accept_settlements(&mut self, count: usize, settled: &mut Vec<Settle>) {
        if count == 0 {
            self.abandoned = true;
            self.stop_taking();
        }
        settled.drain(..).for_each(|settle| self.settlements.accept(settle));
    }

    fn accept_extensions(&mut self, count: usize, extended: &mut Vec<Settle>) {
        // Closed together with the queue of settlements, which may still hold some: only that one's end is the end.
        self.extensions_ended = count == 0;
        let now = clock::now();
        for settle in extended.drain(..) {
            if let Verb::Extend(Extend { lease_ms }) = settle.verb {
                let time = Duration::from_millis(u64::try_from(lease_ms).unwrap_or(0));
                self.leases.extended(settle.token, now + time);
            }
            self.settlements.accept(settle);
        }
    }

    /// The reader wants no more: what it did not take goes back to the queue.
    fn stop_taking(&mut self) {
        self.closing = true;
        for delivery in self.state.ready.take_all() {
            self.settlements.accept(release(delivery.lease_token));
        }
        self.state.ready.end(None);
    }

    fn renew(&mut self, now: Instant) {
        for token in self.leases.due(now) {
            let verb = Verb::Extend(Extend { lease_ms: 0 });
            self.settlements.accept(Settle { token, verb, reply: None });
        }
    }

    /// The leases are lost: what the reader did not take comes again, what it took it will be told when it settles.
    fn session_lost(&mut self) {
        for delivery in self.state.ready.take_all() {
            self.leases.give_back(delivery.lease_token);
        }
        for token in self.settlements.session_lost() {
            self.leases.give_back(token);
        }
        self.leases.session_lost();
    }

    /// The broker is about to close the stream: nothing more is sent, results on their way are still taken.
    async fn part(&mut self, mut stream: ConsumerStream, goodbye: Goodbye) -> StreamEnd {
        drop(stream.outbound);
        let _ = timeout(GOODBYE_TIME_MAX, async {
            while self.settlements.awaits_results() {
                match stream.inbound.message().await {
                    Ok(Some(response)) => self.take(response),
                    Ok(None) | Err(_) => break,
                }
            }
        })
        .await;
        StreamEnd::Lost(goodbye.into())
    }

    /// Ends this side of the stream and waits a while for the broker to end the other, so that what was written last
    /// is read. What still comes was not looked at; the broker takes it back with the end of the session.
    async fn finish(&mut self, mut stream: ConsumerStream) -> StreamEnd {
        drop(stream.outbound);
        let _ =
            timeout(GOODBYE_TIME_MAX, async { while let Ok(Some(_)) = stream.inbound.message().await {} })
                .await;
        StreamEnd::Closed
    }
}

fn release(token: u64) -> Settle {
    Settle { token, verb: Verb::Release(Release {}), reply: None }
}

fn lost(what: &str) -> StreamEnd {
    StreamEnd::Lost(Error::new(ErrorKind::Unavailable, what))
}
