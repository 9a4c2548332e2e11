//! Delivering and settling: leases are given for what is ready and wanted, and end with an ack, a failure, or a
//! release. Only the current token of a lease counts.

use std::sync::Arc;

use escrow_protocol::limits::{
    ATTEMPTS_KEPT, LEASE_MS_MAX, LEASE_MS_MIN, REASON_BYTES_MAX, RETRY_DELAY_MS_MAX,
};
use escrow_protocol::{LeaseToken, Reason};

use super::groups::{Lease, Retrying};
use super::position::Candidate;
use super::sabotage::{Fault, planted};
use super::story::noted;
use super::timers::{MonoTimer, WallTimer};
use super::trouble::Step;
use super::{Engine, Now, Refusal, Reply, SessionId, Settle, Turn, Verb};
use crate::records::{
    Attempt, AttemptKind, DeadReason, GroupNumber, Happening, Retry, RetryDelays, RetryPolicy, Subject,
    Tried, keys,
};

/// A failed attempt, before it is counted.
pub(super) struct Failure {
    pub(super) kind: AttemptKind,
    pub(super) error: String,
    /// The consumer's wish; `None`: the policy.
    pub(super) delay_ms: Option<u64>,
}

impl Engine {
    pub(super) fn settle(&mut self, now: Now, turn: &mut Turn<'_>, settle: Settle) -> Step<Reply> {
        let token = settle.token.0;
        let lease = match self.groups.leases.get(&token) {
            Some(lease) if !lease.is_lost && self.groups.known(lease.group).record.name == settle.group => {
                lease
            }
            _ => {
                self.counts.stale_settlements += 1;
                return Err(stale(settle.token).into());
            }
        };
        // An overdue lease is over, though its timer has not been handled yet.
        if lease.deadline_ms <= now.mono_ms && !planted(Fault::LateAckAccepted) {
            self.counts.stale_settlements += 1;
            return Err(stale(settle.token).into());
        }
        match settle.verb {
            Verb::Ack => self.ack(turn, token)?,
            Verb::Nack { delay_ms, reason } => {
                let delay_ms = delay_ms.map(|delay| delay.min(RETRY_DELAY_MS_MAX));
                self.fail(
                    now,
                    turn,
                    token,
                    Failure { kind: AttemptKind::Nack, error: cut(reason), delay_ms },
                )?;
                self.counts.nacks += 1;
            }
            Verb::Reject { reason } => {
                let failure = Failure { kind: AttemptKind::Rejected, error: cut(reason), delay_ms: None };
                self.fail(now, turn, token, failure)?;
                self.counts.rejects += 1;
            }
            Verb::Extend { lease_ms } => self.extend(now, token, lease_ms),
            Verb::Release => {
                self.release(token);
                self.counts.releases += 1;
            }
        }
        Ok(Reply::Done)
    }

    fn ack(&mut self, turn: &mut Turn<'_>, token: u64) -> Step<()> {
        let lease = self.take_lease(token).expect("the caller found it");
        let (number, candidate) = (lease.group, lease.candidate);
        if self.story.is_on() {
            let tried = Tried {
                number: candidate.attempts_made + 1,
                delivered_at_ms: lease.delivered_at_ms,
                client: lease.client.to_string(),
            };
            self.note(Subject::Place(candidate.topic, candidate.offset), Happening::Acked(number, tried));
        }
        self.groups.known_mut(number).acked += 1;
        self.counts.acks += 1;
        self.end_delivery(turn, number, &candidate)
    }

    /// The group is done with a message: finished or dead. Its retry ends, or its place in the queue.
    pub(super) fn end_delivery(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        candidate: &Candidate,
    ) -> Step<()> {
        let (topic, offset) = (candidate.topic, candidate.offset);
        if candidate.is_retry {
            if !planted(Fault::RetryOutlivesItsEnd) {
                turn.delete(keys::retry(topic, offset, number));
            }
            self.groups.known_mut(number).retries.remove(&(topic, offset));
            self.release_hold(turn, topic, offset, &candidate.entry)?;
        } else {
            self.finish_place(number, candidate);
        }
        let group = self.groups.known_mut(number);
        if let Some(gate) = group.gate_of(candidate) {
            gate.stop_retrying(offset);
        }
        group.reopen_gate(candidate);
        self.groups.awake.insert(number);
        Ok(())
    }

    /// The queue no longer owes this place to the group.
    pub(super) fn finish_place(&mut self, number: GroupNumber, candidate: &Candidate) {
        let group = self.groups.known_mut(number);
        let Some(position) = group.positions.get_mut(&candidate.topic) else { return };
        let floor_moved = position.finish(candidate.offset);
        if !planted(Fault::AckNotStored) {
            self.groups.touch(number, candidate.topic);
        }
        if floor_moved {
            self.topics.to_trim.insert(candidate.topic);
        }
    }

    /// An attempt failed: again later, or to the dead letters. One batch either way.
    pub(super) fn fail(&mut self, now: Now, turn: &mut Turn<'_>, token: u64, failure: Failure) -> Step<()> {
        let lease = self.groups.leases.get(&token).expect("the caller found it");
        let (number, mut candidate, client) = (lease.group, lease.candidate.clone(), lease.client.clone());
        let delivered_at_ms = lease.delivered_at_ms;
        let key = keys::retry(candidate.topic, candidate.offset, number);
        let before: Option<Retry> = if candidate.is_retry { self.read_or_report(turn, &key)? } else { None };
        self.take_lease(token);

        candidate.attempts_made += match () {
            () if planted(Fault::AttemptCountedTwice) => 2,
            () if planted(Fault::AttemptNotCounted) => 0,
            () => 1,
        };
        let attempt = Attempt {
            number: candidate.attempts_made,
            at_ms: now.unix_ms,
            kind: failure.kind,
            error: failure.error.clone(),
            client: Some(client.clone()),
        };
        let (mut attempts, redrives) =
            before.map_or((Vec::new(), 0), |retry| (retry.attempts, retry.redrives));
        attempts.push(attempt);
        let surplus = attempts.len().saturating_sub(ATTEMPTS_KEPT);
        attempts.drain(..surplus);

        let group = self.groups.known_mut(number);
        group.nacked += u64::from(matches!(failure.kind, AttemptKind::Nack | AttemptKind::Rejected));
        let exhausted = candidate.attempts_made >= group.record.settings.retry.max_attempts;
        let reason = match failure.kind {
            AttemptKind::Rejected => Some(DeadReason::Rejected),
            _ if exhausted => Some(DeadReason::AttemptsExhausted),
            _ => None,
        };
        let retry = Retry {
            entry: candidate.entry.as_ref().clone(),
            due_at_ms: 0,
            attempts_made: candidate.attempts_made,
            attempts,
            redrives,
        };
        let due_ms = match reason {
            Some(_) => 0,
            None => {
                let delay_ms = self.delay_of(number, candidate.attempts_made, failure.delay_ms);
                now.unix_ms.saturating_add(delay_ms)
            }
        };
        let tried = Tried { number: candidate.attempts_made, delivered_at_ms, client: client.to_string() };
        let (kind, error) = (failure.kind, noted(&failure.error));
        let place = Subject::Place(candidate.topic, candidate.offset);
        self.note(place, Happening::Failed { group: number, tried, kind, error, due_ms });
        match reason {
            Some(reason) => self.bury(now, turn, number, &candidate, retry, reason, failure.error),
            None => {
                self.retry_later(turn, number, candidate, retry, due_ms);
                Ok(())
            }
        }
    }

    fn delay_of(&mut self, number: GroupNumber, attempts_made: u32, wish_ms: Option<u64>) -> u64 {
        let policy = &self.groups.known(number).record.settings.retry;
        match wish_ms {
            Some(delay) => delay,
            None => {
                let delay = policy_delay(policy, attempts_made);
                let span = delay.saturating_mul(u64::from(policy.jitter_percent)) / 100;
                // Never early: jitter only lengthens.
                delay.saturating_add(self.rng.u64(0..=span))
            }
        }
    }

    /// Stores a retry and plans it.
    pub(super) fn retry_later(
        &mut self,
        turn: &mut Turn<'_>,
        number: GroupNumber,
        candidate: Candidate,
        mut retry: Retry,
        due_at_ms: u64,
    ) {
        let (topic, offset) = (candidate.topic, candidate.offset);
        retry.due_at_ms = due_at_ms;
        turn.put(keys::retry(topic, offset, number), &retry);
        if !candidate.is_retry {
            self.finish_place(number, &candidate);
        }
        let early_ms = if planted(Fault::RetryEarly) { 1_000 } else { 0 };
        self.timers.plan(due_at_ms.saturating_sub(early_ms), WallTimer::Retry(number, topic, offset));
        let group = self.groups.known_mut(number);
        let entry = Arc::clone(&candidate.entry);
        let attempts_made = candidate.attempts_made;
        group.retries.insert((topic, offset), Retrying { due_at_ms, is_planned: true, attempts_made, entry });
        if let Some(gate) = group.gate_of(&candidate) {
            gate.start_retrying(offset);
        }
        group.reopen_gate(&candidate);
    }

    /// The next attempt of a message is due.
    pub(super) fn retry_due(
        &mut self,
        number: GroupNumber,
        topic: crate::records::TopicNumber,
        offset: escrow_protocol::Offset,
    ) {
        let Some(group) = self.groups.by_number.get_mut(&number) else { return };
        let Some(retrying) = group.retries.set_under_way(&(topic, offset)) else { return };
        let entry = Arc::clone(&retrying.entry);
        let candidate =
            Candidate { topic, offset, entry, attempts_made: retrying.attempts_made, is_retry: true };
        group.ready.insert((topic, offset), candidate);
        self.groups.awake.insert(number);
    }

    fn extend(&mut self, now: Now, token: u64, lease_ms: Option<u64>) {
        let lease = self.groups.leases.get_mut(&token).expect("the caller found it");
        let default = self.groups.by_number[&lease.group].record.settings.lease_ms;
        let lease_ms = lease_ms.unwrap_or(default).clamp(LEASE_MS_MIN, LEASE_MS_MAX);
        self.timers.cancel_mono(lease.deadline_ms, MonoTimer::Lease(token));
        if !planted(Fault::ExtendIgnored) {
            lease.deadline_ms = now.mono_ms.saturating_add(lease_ms);
        }
        self.timers.plan_mono(lease.deadline_ms, MonoTimer::Lease(token));
        self.counts.extends += 1;
    }

    /// Back to where it came from, as if it had not been delivered.
    fn release(&mut self, token: u64) {
        let Some(Lease { group: number, candidate, .. }) = self.take_lease(token) else { return };
        let group = self.groups.known_mut(number);
        group.ready.insert((candidate.topic, candidate.offset), candidate.clone());
        group.reopen_gate(&candidate);
    }

    /// A lease ran out.
    pub(super) fn lease_expired(&mut self, now: Now, turn: &mut Turn<'_>, token: u64) -> Step<()> {
        let Some(lease) = self.groups.leases.get(&token) else { return Ok(()) };
        let number = lease.group;
        let failure = Failure {
            kind: AttemptKind::LeaseExpired,
            error: "the lease ran out before the consumer answered".into(),
            delay_ms: None,
        };
        self.fail(now, turn, token, failure)?;
        self.groups.known_mut(number).expired_leases += 1;
        self.counts.leases_expired += 1;
        Ok(())
    }

    /// Everything a consumer holds goes back as if it had not been delivered.
    pub(super) fn release_leases_of(&mut self, session: SessionId) {
        let consumer = self.sessions.consumers.get(&session).filter(|consumer| !consumer.detached);
        for token in consumer.map(|consumer| consumer.leases.clone()).unwrap_or_default() {
            self.release(token);
        }
    }

    /// A stream ended; what it still holds counts as failed.
    pub(super) fn session_closed(&mut self, now: Now, session: SessionId) -> Step<Reply> {
        if let Some(producer) = self.sessions.producers.remove(&session) {
            self.checker_gone(session, &producer.kinds, &producer.questions);
        }
        let Some(consumer) = self.sessions.consumers.get(&session) else { return Ok(Reply::Done) };
        let number = consumer.group;
        if !consumer.detached {
            // A consumer may hold very many: they are counted as failed a bounded number in a turn, and void at once.
            for token in &consumer.leases {
                if let Some(lease) = self.groups.leases.get_mut(token) {
                    lease.is_lost = true;
                    self.groups.lost.push_back(*token);
                }
            }
        }
        self.sessions.consumers.remove(&session);
        self.groups.known_mut(number).consumers.retain(|consumer| *consumer != session);
        self.watch_broadcast(now, number);
        Ok(Reply::Done)
    }

    /// A lease whose consumer is gone.
    pub(super) fn lease_lost(&mut self, now: Now, turn: &mut Turn<'_>, token: u64) -> Step<()> {
        // Settled, expired or revoked meanwhile.
        if !self.groups.leases.contains_key(&token) {
            return Ok(());
        }
        let failure = Failure {
            kind: AttemptKind::ConsumerLost,
            error: "the consumer's connection ended before it answered".into(),
            delay_ms: None,
        };
        self.fail(now, turn, token, failure)?;
        self.counts.leases_lost += 1;
        Ok(())
    }

    /// The body of a leased message cannot be read: nobody is served a damaged message.
    pub(super) fn undeliverable(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        token: LeaseToken,
        fault: String,
    ) -> Step<Reply> {
        let Some(lease) = self.groups.leases.get(&token.0) else { return Ok(Reply::Done) };
        let (number, candidate, is_lost) = (lease.group, lease.candidate.clone(), lease.is_lost);
        self.report_damaged(&keys::message(candidate.entry.id), &fault);
        if is_lost {
            // Nobody settles a lost lease: its attempt is about to be counted, and the next one meets the damage again.
            return Ok(Reply::Done);
        }
        self.take_lease(token.0);
        let retry = self.retry_of(turn, number, &candidate)?;
        self.bury(now, turn, number, &candidate, retry, DeadReason::Damaged, cut(fault))?;
        Ok(Reply::Done)
    }
}

/// The delay behind the `attempts_made`-th failed attempt, before jitter.
fn policy_delay(policy: &RetryPolicy, attempts_made: u32) -> u64 {
    let Some(step) = attempts_made.checked_sub(policy.immediate_attempts + 1) else { return 0 };
    match &policy.delays {
        RetryDelays::Ladder(steps) => steps.get(step as usize).or(steps.last()).copied().unwrap_or(0),
        RetryDelays::Fixed(delay) => *delay,
        RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => {
            let mut delay = (*initial_ms).min(*max_ms);
            for _ in 0..step {
                if delay >= *max_ms {
                    break;
                }
                delay = (delay.saturating_mul(u64::from(*multiplier_permille)) / 1000).min(*max_ms);
            }
            delay
        }
    }
}

fn stale(token: LeaseToken) -> Refusal {
    Refusal::new(
        Reason::StaleLease,
        "the lease is over: it ran out, was settled, or belongs to another group; the message may be under way again",
    )
    .with("lease_token", token.0)
}

/// An error text within its bound.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(delays: RetryDelays, immediate_attempts: u32) -> RetryPolicy {
        RetryPolicy { delays, immediate_attempts, jitter_percent: 0, max_attempts: 16 }
    }

    #[test]
    fn ladder_repeats_its_last_step() {
        let policy = policy(RetryDelays::Ladder(vec![10, 30]), 0);
        assert_eq!([1, 2, 3, 9].map(|made| policy_delay(&policy, made)), [10, 30, 30, 30]);
    }

    #[test]
    fn immediate_attempts_come_before_the_delays() {
        let policy = policy(RetryDelays::Fixed(50), 2);
        assert_eq!([1, 2, 3, 4].map(|made| policy_delay(&policy, made)), [0, 0, 50, 50]);
    }

    #[test]
    fn exponential_grows_to_its_bound() {
        let delays = RetryDelays::Exponential { initial_ms: 100, multiplier_permille: 2000, max_ms: 500 };
        let policy = policy(delays, 0);
        assert_eq!([1, 2, 3, 4, 1000].map(|made| policy_delay(&policy, made)), [100, 200, 400, 500, 500]);
    }

    #[test]
    fn long_errors_are_cut_between_characters() {
        let text = cut("ä".repeat(REASON_BYTES_MAX));
        assert!(text.len() <= REASON_BYTES_MAX && text.chars().all(|c| c == 'ä'));
    }
}
