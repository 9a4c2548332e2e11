//! Settlements on their way: those that wait to be sent and those that wait for their result. No I/O.

use std::collections::{HashMap, VecDeque};

use escrow_protocol::Reason;
use escrow_protocol::limits::{FRAME_BYTES_SOFT, FRAME_ENTRIES_MAX};
use escrow_protocol::v1::settlement::Verb;
use escrow_protocol::v1::{SettleResult, Settlement};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind};
use crate::frames::{FrameNumber, UnansweredFrames};

/// What became of a delivery, and who waits for the broker's word on it.
#[derive(Debug)]
pub(crate) struct Settle {
    pub(crate) token: u64,
    pub(crate) verb: Verb,
    /// `None`: nobody waits; the broker answers only if it failed.
    pub(crate) reply: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Settle {
    /// Tells whoever waits that it was never sent: the session is gone, and the lease with it.
    pub(crate) fn refuse_as_lost(self) {
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(lease_lost()));
        }
    }

    /// Whether the delivery is out of this client's hands with it.
    pub(crate) fn is_final(&self) -> bool {
        is_final(&self.verb)
    }
}

fn is_final(verb: &Verb) -> bool {
    !matches!(verb, Verb::Extend(_))
}

#[derive(Debug)]
struct UnderWay {
    token: u64,
    is_final: bool,
    frame: FrameNumber,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// All settlements of one consumer that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Settlements {
    to_send: VecDeque<Settle>,
    under_way: HashMap<u64, UnderWay>,
    frames: UnansweredFrames,
    last_correlation: u64,
}

impl Settlements {
    pub(crate) fn is_empty(&self) -> bool {
        self.to_send.is_empty() && self.under_way.is_empty()
    }

    pub(crate) fn awaits_results(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether another frame may be written.
    pub(crate) fn may_send(&self) -> bool {
        self.frames.has_room()
    }

    /// Whether there is something to write, and it may be written.
    pub(crate) fn wants_to_send(&self) -> bool {
        !self.to_send.is_empty() && self.may_send()
    }

    pub(crate) fn accept(&mut self, settle: Settle) {
        self.to_send.push_back(settle);
    }

    /// What waits, as much as one frame takes; and the leases that are settled by sending, without a result.
    pub(crate) fn next_frame(&mut self) -> (Vec<Settlement>, Vec<u64>) {
        let frame = self.frames.next();
        let (mut entries, mut settled) = (Vec::new(), Vec::new());
        let (mut bytes, mut answered_later) = (0, 0);
        while entries.len() < FRAME_ENTRIES_MAX && bytes < FRAME_BYTES_SOFT {
            let Some(settle) = self.to_send.pop_front() else { break };
            let is_final = settle.is_final();
            let mut correlation = 0;
            if let Some(reply) = settle.reply {
                self.last_correlation += 1;
                correlation = self.last_correlation;
                answered_later += 1;
                let under_way = UnderWay { token: settle.token, is_final, frame, reply };
                self.under_way.insert(correlation, under_way);
            } else if is_final {
                settled.push(settle.token);
            }
            let entry = Settlement { correlation, lease_token: settle.token, verb: Some(settle.verb) };
            bytes += entry.encoded_len();
            entries.push(entry);
        }
        self.frames.written(answered_later);
        (entries, settled)
    }

    /// The broker's word on one of them. Returns the lease that is settled by it.
    pub(crate) fn answer(&mut self, result: SettleResult) -> Option<u64> {
        let under_way = self.under_way.remove(&result.correlation)?;
        self.frames.answered(under_way.frame);
        let outcome = result.fault.map_or(Ok(()), |fault| Err(Error::from(fault)));
        let _ = under_way.reply.send(outcome);
        under_way.is_final.then_some(under_way.token)
    }

    /// The session ended, and all leases with it. What was sent has an unknown outcome, what was not has none. Returns
    /// the leases that are out of this client's hands.
    pub(crate) fn session_lost(&mut self) -> Vec<u64> {
        self.frames.clear();
        let mut gone = Vec::new();
        for (_, under_way) in self.under_way.drain() {
            let _ = under_way.reply.send(Err(result_lost()));
            if under_way.is_final {
                gone.push(under_way.token);
            }
        }
        for settle in self.to_send.drain(..) {
            if settle.is_final() {
                gone.push(settle.token);
            }
            settle.refuse_as_lost();
        }
        gone
    }

    /// No session will come any more.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        for (_, under_way) in self.under_way.drain() {
            let _ = under_way.reply.send(Err(error.copy().with_unknown_outcome(true)));
        }
        for reply in self.to_send.drain(..).filter_map(|settle| settle.reply) {
            let _ = reply.send(Err(error.copy()));
        }
    }
}

fn lease_lost() -> Error {
    let text = "the session was lost before the settlement was sent, and the lease with it; the message is delivered again";
    Error::new(ErrorKind::Conflict, text).with_reason(Reason::StaleLease)
}

fn result_lost() -> Error {
    let text = "the session was lost before the broker answered the settlement; if it did not count, the message is \
                delivered again";
    Error::new(ErrorKind::Unavailable, text).with_unknown_outcome(true)
}

#[cfg(test)]
mod tests {
    use escrow_protocol::v1::{Ack, Extend, Release};

    use super::*;

    fn ack(settlements: &mut Settlements, token: u64) -> oneshot::Receiver<Result<(), Error>> {
        let (reply, answer) = oneshot::channel();
        settlements.accept(Settle { token, verb: Verb::Ack(Ack {}), reply: Some(reply) });
        answer
    }

    #[test]
    fn a_sent_ack_of_a_lost_session_has_an_unknown_outcome_and_an_unsent_one_has_none() {
        let mut settlements = Settlements::default();
        let mut sent = ack(&mut settlements, 1);
        settlements.next_frame();
        let mut unsent = ack(&mut settlements, 2);
        assert_eq!(settlements.session_lost(), [1, 2]);
        let error = sent.try_recv().expect("answered").expect_err("lost");
        assert!(error.outcome_unknown() && error.is_retryable());
        let error = unsent.try_recv().expect("answered").expect_err("lost");
        assert_eq!(error.reason(), Some(Reason::StaleLease));
        assert!(!error.outcome_unknown() && !error.is_retryable());
        assert!(settlements.is_empty());
    }

    #[test]
    fn a_release_is_settled_by_sending_and_an_extension_settles_nothing() {
        let mut settlements = Settlements::default();
        settlements.accept(Settle { token: 1, verb: Verb::Release(Release {}), reply: None });
        settlements.accept(Settle { token: 2, verb: Verb::Extend(Extend { lease_ms: 0 }), reply: None });
        let (entries, settled) = settlements.next_frame();
        assert_eq!((entries.len(), settled), (2, vec![1]));
        assert!(settlements.is_empty());
    }

    #[test]
    fn an_answer_settles_the_lease_once() {
        let mut settlements = Settlements::default();
        let mut answer = ack(&mut settlements, 7);
        let (entries, settled) = settlements.next_frame();
        assert!(settled.is_empty());
        let result = SettleResult { correlation: entries[0].correlation, lease_token: 7, fault: None };
        assert_eq!(settlements.answer(result.clone()), Some(7));
        assert_eq!(settlements.answer(result), None);
        assert!(answer.try_recv().expect("answered").is_ok());
    }
}
