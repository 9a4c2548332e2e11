//! The operations a producer has under way: which wait to be sent, which wait for an answer, which are tried again and
//! when they end. No I/O and no clock: the session tells it what happened and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use escrow_protocol::limits::{FRAME_BYTES_SOFT, FRAME_ENTRIES_MAX};
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_protocol::v1::{ProducerCommand, ProducerResult};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::frames::{FrameNumber, UnansweredFrames};
use crate::settings::OPERATIONS_UNDER_WAY_MAX;

/// Something a caller waits for.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) command: Command,
    /// Its size on the wire, about.
    pub(crate) bytes: usize,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Outcome, Error>>,
    /// Its share of the bytes that may be under way; given back when it ends.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In `to_send`.
    Waiting,
    /// In this frame, without an answer.
    Sent(FrameNumber),
    /// The broker asked to come back later: in `later`.
    Later,
}

#[derive(Debug)]
struct UnderWay {
    operation: Operation,
    place: Place,
    /// Sent in a session that ended before the answer: it may have taken effect.
    maybe_done: bool,
    /// The last answer that said "later".
    refusal: Option<Error>,
}

/// All operations of one producer, from acceptance to answer or deadline.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// By correlation, that is in order of acceptance; so the first has the earliest deadline.
    under_way: BTreeMap<u64, UnderWay>,
    to_send: VecDeque<u64>,
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    frames: UnansweredFrames,
    last_correlation: u64,
    sent_unanswered: usize,
    chance: fastrand::Rng,
}

impl Ledger {
    pub(crate) fn new(chance: fastrand::Rng) -> Self {
        Self {
            under_way: BTreeMap::new(),
            to_send: VecDeque::new(),
            later: BinaryHeap::new(),
            frames: UnansweredFrames::default(),
            last_correlation: 0,
            sent_unanswered: 0,
            chance,
        }
    }

    /// Whether another operation may be accepted.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way.len() < OPERATIONS_UNDER_WAY_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether an operation was sent in this session and is not answered.
    pub(crate) fn awaits_answers(&self) -> bool {
        self.sent_unanswered > 0
    }

    /// Whether there is something to write, and it may be written.
    pub(crate) fn wants_to_send(&self) -> bool {
        !self.to_send.is_empty() && self.frames.has_room()
    }

    /// When [`fire`](Self::fire) has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let deadline = self.under_way.values().next().map(|entry| entry.operation.deadline);
        let retry = self.later.peek().map(|Reverse((due, _))| *due);
        [deadline, retry].into_iter().flatten().min()
    }

    /// Takes an operation under way.
    pub(crate) fn accept(&mut self, operation: Operation) {
        self.last_correlation += 1;
        let entry = UnderWay { operation, place: Place::Waiting, maybe_done: false, refusal: None };
        self.under_way.insert(self.last_correlation, entry);
        self.to_send.push_back(self.last_correlation);
    }

    /// Moves what waits into `commands`, as much as one frame takes, and counts it as sent.
    pub(crate) fn fill_frame(&mut self, commands: &mut Vec<ProducerCommand>) {
        let frame = self.frames.next();
        let (before, mut bytes) = (commands.len(), 0);
        while commands.len() < FRAME_ENTRIES_MAX && bytes < FRAME_BYTES_SOFT {
            let Some(correlation) = self.to_send.pop_front() else { break };
            let Some(entry) = self.under_way.get_mut(&correlation) else { continue };
            if entry.operation.reply.is_closed() {
                self.under_way.remove(&correlation);
                continue;
            }
            // A large one goes alone: of several, the broker takes no more than a few MiB together.
            if !commands.is_empty() && bytes + entry.operation.bytes > FRAME_BYTES_SOFT {
                self.to_send.push_front(correlation);
                break;
            }
            bytes += entry.operation.bytes;
            entry.place = Place::Sent(frame);
            let command = Some(entry.operation.command.clone());
            commands.push(ProducerCommand { correlation, command });
        }
        let sent = commands.len() - before;
        self.sent_unanswered += sent;
        self.frames.written(sent);
    }

    /// The broker answered. An answer to nothing under way (its caller gave up) is ignored.
    pub(crate) fn answer(&mut self, result: ProducerResult, now: Instant) {
        let Some(mut entry) = self.under_way.remove(&result.correlation) else { return };
        self.leave_frame(entry.place);
        let error = match result.result {
            Some(Outcome::Fault(fault)) => Error::from(fault),
            Some(outcome) => return entry.reply(Ok(outcome)),
            None => {
                let error = Error::new(ErrorKind::Internal, "the broker answered without a result");
                return entry.reply(Err(error.with_unknown_outcome(true)));
            }
        };
        let Some(delay) = delay_of(&error) else { return entry.reply(Err(error)) };
        let due = now + delay.mul_f64(1.0 + self.chance.f64() / 2.0);
        if due >= entry.operation.deadline {
            let maybe_done = entry.maybe_done;
            return entry.reply(Err(error.with_unknown_outcome(maybe_done)));
        }
        entry.refusal = Some(error);
        entry.place = Place::Later;
        self.later.push(Reverse((due, result.correlation)));
        self.under_way.insert(result.correlation, entry);
    }

    /// The session ended: what was sent without an answer is sent again in the next one, first and in order.
    pub(crate) fn session_lost(&mut self) {
        self.frames.clear();
        self.sent_unanswered = 0;
        self.under_way.retain(|_, entry| !entry.operation.reply.is_closed());
        self.to_send.clear();
        for (correlation, entry) in &mut self.under_way {
            entry.maybe_done |= matches!(entry.place, Place::Sent(_));
            if entry.place != Place::Later {
                entry.place = Place::Waiting;
                self.to_send.push_back(*correlation);
            }
        }
    }

    /// Ends what is past its deadline and sends again what is due. Says whether an operation ended that this session
    /// had sent and never answered.
    pub(crate) fn fire(&mut self, now: Instant, last_loss: Option<&Error>) -> bool {
        let mut unanswered = false;
        while let Some(first) = self.under_way.first_entry() {
            if first.get().operation.deadline > now {
                break;
            }
            let entry = first.remove();
            unanswered |= matches!(entry.place, Place::Sent(_));
            self.leave_frame(entry.place);
            entry.expire(last_loss);
        }
        while let Some(Reverse((due, correlation))) = self.later.peek().copied() {
            if due > now {
                break;
            }
            self.later.pop();
            if let Some(entry) = self.under_way.get_mut(&correlation) {
                entry.place = Place::Waiting;
                self.to_send.push_back(correlation);
            }
        }
        unanswered
    }

    /// Nothing more will be sent: everything under way ends with `error`.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        self.to_send.clear();
        self.later.clear();
        self.frames.clear();
        self.sent_unanswered = 0;
        for (_, entry) in std::mem::take(&mut self.under_way) {
            let unknown = entry.maybe_done || matches!(entry.place, Place::Sent(_));
            entry.reply(Err(error.copy().with_unknown_outcome(unknown)));
        }
    }

    fn leave_frame(&mut self, place: Place) {
        if let Place::Sent(frame) = place {
            self.frames.answered(frame);
            self.sent_unanswered -= 1;
        }
    }
}

/// How long to wait before trying again what was refused so; `None`: the refusal is for the caller.
fn delay_of(error: &Error) -> Option<Duration> {
    match error.kind() {
        ErrorKind::Exhausted | ErrorKind::Unavailable => error.retry_after(),
        _ => None,
    }
}

impl UnderWay {
    /// The caller may be gone: then nobody wants to know.
    fn reply(self, result: Result<Outcome, Error>) {
        let _ = self.operation.reply.send(result);
    }

    fn expire(mut self, last_loss: Option<&Error>) {
        let unknown = self.maybe_done || matches!(self.place, Place::Sent(_));
        let error = match self.refusal.take() {
            Some(refusal) if !matches!(self.place, Place::Sent(_)) => refusal,
            _ => timed_out(last_loss),
        };
        self.reply(Err(error.with_unknown_outcome(unknown)));
    }
}

fn timed_out(last_loss: Option<&Error>) -> Error {
    let error = Error::new(ErrorKind::Timeout, "the broker did not answer within the operation's time");
    match last_loss {
        Some(loss) => error.because(loss.copy()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use escrow_protocol::v1::{Fault, PublishRequest, PublishResponse};
    use tonic::Code;

    use super::*;
    use crate::clock;

    type Answer = oneshot::Receiver<Result<Outcome, Error>>;

    fn ledger() -> Ledger {
        Ledger::new(fastrand::Rng::with_seed(7))
    }

    fn publish(ledger: &mut Ledger, bytes: usize, deadline: Instant) -> Answer {
        let (reply, answer) = oneshot::channel();
        let command = Command::Publish(PublishRequest::default());
        ledger.accept(Operation { command, bytes, deadline, reply, _room: None });
        answer
    }

    fn frame(ledger: &mut Ledger) -> Vec<u64> {
        let mut commands = Vec::new();
        ledger.fill_frame(&mut commands);
        commands.iter().map(|command| command.correlation).collect()
    }

    fn stored(correlation: u64) -> ProducerResult {
        ProducerResult { correlation, result: Some(Outcome::Published(PublishResponse::default())) }
    }

    fn overloaded(correlation: u64, retry_after_ms: i64) -> ProducerResult {
        let fault = Fault {
            code: Code::ResourceExhausted as i32,
            reason: "OVERLOADED".into(),
            retry_after_ms,
            ..Fault::default()
        };
        ProducerResult { correlation, result: Some(Outcome::Fault(fault)) }
    }

    fn error_of(mut answer: Answer) -> Error {
        answer.try_recv().expect("answered").expect_err("failed")
    }

    #[test]
    fn what_waits_goes_into_one_frame_up_to_the_soft_bound() {
        let (mut ledger, later) = (ledger(), clock::now() + Duration::from_secs(30));
        let _answers: Vec<_> = (0..5).map(|_| publish(&mut ledger, 400 * 1024, later)).collect();
        assert_eq!(frame(&mut ledger), [1, 2]);
        assert_eq!(frame(&mut ledger), [3, 4]);
        assert_eq!(frame(&mut ledger), [5]);
        assert!(!ledger.wants_to_send());
    }

    #[test]
    fn what_is_larger_than_a_frame_should_be_goes_alone() {
        let (mut ledger, later) = (ledger(), clock::now() + Duration::from_secs(30));
        let _answer = publish(&mut ledger, 2 * FRAME_BYTES_SOFT, later);
        let mut commands = vec![ProducerCommand::default()];
        ledger.fill_frame(&mut commands);
        assert_eq!(commands.len(), 1, "not behind a check's answer");
        assert_eq!(frame(&mut ledger), [1]);
    }

    #[test]
    fn a_lost_session_sends_the_unanswered_again_and_in_order() {
        let (mut ledger, now) = (ledger(), clock::now());
        let mut answers: Vec<_> =
            (0..3).map(|_| publish(&mut ledger, 1, now + Duration::from_secs(30))).collect();
        frame(&mut ledger);
        ledger.answer(stored(2), now);
        ledger.session_lost();
        assert_eq!(frame(&mut ledger), [1, 3]);
        ledger.answer(stored(1), now);
        assert!(answers[0].try_recv().expect("answered").is_ok());
        assert!(answers[2].try_recv().is_err(), "still under way");
    }

    #[test]
    fn an_operation_that_was_never_sent_ends_with_a_known_outcome() {
        let (mut ledger, now) = (ledger(), clock::now());
        let answer = publish(&mut ledger, 1, now);
        assert!(!ledger.fire(now, None));
        let error = error_of(answer);
        assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Timeout, false));
    }

    #[test]
    fn an_operation_that_was_sent_ends_with_an_unknown_outcome() {
        let (mut ledger, now) = (ledger(), clock::now());
        let answer = publish(&mut ledger, 1, now);
        frame(&mut ledger);
        ledger.session_lost();
        ledger.fire(now, Some(&Error::new(ErrorKind::Unavailable, "connection reset")));
        let error = error_of(answer);
        assert!(error.outcome_unknown());
        assert!(std::error::Error::source(&error).is_some_and(|loss| loss.to_string().contains("reset")));
    }

    #[test]
    fn a_refusal_with_a_time_is_tried_again_no_earlier() {
        let (mut ledger, now) = (ledger(), clock::now());
        let mut answer = publish(&mut ledger, 1, now + Duration::from_secs(30));
        frame(&mut ledger);
        ledger.answer(overloaded(1, 100), now);
        assert!(answer.try_recv().is_err() && !ledger.wants_to_send());
        let due = ledger.next_wake().expect("a retry is planned");
        assert!(due >= now + Duration::from_millis(100));
        ledger.fire(due, None);
        assert_eq!(frame(&mut ledger), [1]);
    }

    #[test]
    fn a_refusal_that_outlasts_the_deadline_is_the_callers_at_once() {
        let (mut ledger, now) = (ledger(), clock::now());
        let answer = publish(&mut ledger, 1, now + Duration::from_millis(50));
        frame(&mut ledger);
        ledger.answer(overloaded(1, 100), now);
        let error = error_of(answer);
        assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Exhausted, false));
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_refusal_after_a_lost_session_leaves_the_outcome_unknown() {
        let (mut ledger, now) = (ledger(), clock::now());
        let answer = publish(&mut ledger, 1, now + Duration::from_millis(50));
        frame(&mut ledger);
        ledger.session_lost();
        frame(&mut ledger);
        ledger.answer(overloaded(1, 100), now);
        assert!(error_of(answer).outcome_unknown());
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent() {
        let (mut ledger, now) = (ledger(), clock::now());
        drop(publish(&mut ledger, 1, now + Duration::from_secs(30)));
        assert!(frame(&mut ledger).is_empty());
        assert!(ledger.is_empty());
    }
}
