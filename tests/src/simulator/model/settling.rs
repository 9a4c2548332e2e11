//! What became of deliveries: settlements by their consumers, streams that ended, leases that ran out; and what each
//! must leave on the disk.

use escrow_broker::engine::{Now, Outcome, SessionId, Settle, Verb};
use escrow_broker::records::{DeadReason, OrderingPolicy};
use escrow_protocol::{LeaseToken, Reason};

use super::stands::{Expected, Failure};
use super::{Changes, Expectations, Held, Lease, Model, SessionModel, Standing, Verdict, require};

impl Model {
    pub(super) fn settled(
        &mut self,
        now: Now,
        settle: &Settle,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        let lease = self.leases.get(&settle.token).cloned();
        let own = lease.filter(|lease| self.groups[&lease.held.2].name == settle.group);
        let lease = match (outcome, own) {
            (Ok(_), None) => return Err("a lease that is over (or not the group's) still counted".into()),
            (Err(refusal), Some(lease)) => {
                let overdue = lease.deadline_ms <= now.mono_ms;
                require!(
                    overdue && refusal.reason == Reason::StaleLease,
                    "a live lease was refused: it runs until {}, now is {}",
                    lease.deadline_ms,
                    now.mono_ms
                );
                return Ok(());
            }
            (Err(refusal), None) => {
                require!(
                    matches!(refusal.reason, Reason::StaleLease | Reason::UnknownGroup),
                    "a stale lease was refused for another reason"
                );
                return Ok(());
            }
            (Ok(_), Some(lease)) => {
                let overdue = lease.deadline_ms <= now.mono_ms;
                require!(
                    !overdue,
                    "a lease counted that ran out at {}, now is {}",
                    lease.deadline_ms,
                    now.mono_ms
                );
                lease
            }
        };
        self.settle(now, &lease, &settle.verb, expected);
        Ok(())
    }

    fn settle(&mut self, now: Now, lease: &Lease, verb: &Verb, expected: &mut Expectations) {
        if let Verb::Extend { lease_ms } = verb {
            let duration = lease_ms.unwrap_or(self.groups[&lease.held.2].settings.lease_ms);
            let lease = self.leases.get_mut(&lease.token).expect("it was just found");
            lease.deadline_ms = now.mono_ms + duration;
            return;
        }
        self.leases.remove(&lease.token);
        match verb {
            Verb::Ack => self.ack(lease, expected),
            Verb::Nack { delay_ms, .. } => {
                let failure = delay_ms.map_or(Failure::ByPolicy, Failure::After);
                self.fail(now, lease, failure, expected);
            }
            Verb::Reject { .. } => {
                self.count_attempt(lease.held);
                self.bury(lease.held, DeadReason::Rejected, expected);
            }
            Verb::Release => self.give_back(lease),
            Verb::Extend { .. } => {}
        }
    }

    fn count_attempt(&mut self, held: Held) {
        if let Some(stand) = self.stand_mut(held) {
            stand.attempts_made += 1;
        }
    }

    fn ack(&mut self, lease: &Lease, expected: &mut Expectations) {
        self.tally.acked += 1;
        if let Some(stand) = self.stand_mut(lease.held) {
            stand.standing = Standing::Finished;
            stand.acked = true;
        }
        expected.held.insert(lease.held, Expected::Nothing);
    }

    /// The dispatcher could not read the body: no consumer is to blame.
    pub(super) fn undeliverable(
        &mut self,
        token: LeaseToken,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        match (outcome, self.leases.remove(&token)) {
            (Ok(_), Some(lease)) => self.bury(lease.held, DeadReason::Damaged, expected),
            (Err(_), Some(_)) => return Err("a live lease was refused".into()),
            // It has nothing left to change: the turn's records will show whether that is so.
            (_, None) => {}
        }
        Ok(())
    }

    /// A stream ended: what it held has failed, unless its leases outlive it.
    pub(super) fn session_closed(
        &mut self,
        now: Now,
        session: SessionId,
        expected: &mut Expectations,
        counts: bool,
    ) {
        let Some(closed) = self.sessions.remove(&session) else { return };
        self.questions_lost(session);
        if matches!(closed, SessionModel::Consumer { detached: true, .. }) {
            return;
        }
        let held: Vec<Lease> = self.leases.values().filter(|it| it.session == session).cloned().collect();
        for lease in held {
            self.leases.remove(&lease.token);
            match counts {
                true => self.fail(now, &lease, Failure::ByPolicy, expected),
                false => self.give_back(&lease),
            }
        }
    }

    /// Leases whose time is over have failed in this turn; where few timers fit into a turn, some wait for the next.
    pub(super) fn leases_ran_out(
        &mut self,
        now: Now,
        changes: &Changes,
        expected: &mut Expectations,
    ) -> Verdict {
        let overdue: Vec<Lease> =
            self.leases.values().filter(|lease| lease.deadline_ms <= now.mono_ms).cloned().collect();
        for lease in overdue {
            if self.timers_may_lag() && !self.shows(changes, lease.held) {
                continue;
            }
            self.leases.remove(&lease.token);
            self.fail(now, &lease, Failure::ByPolicy, expected);
        }
        Ok(())
    }

    /// Whether the batch says anything about this message of this group.
    fn shows(&self, changes: &Changes, held: Held) -> bool {
        let finished = changes.progress_of(held.2, held.0).is_some_and(|progress| {
            progress.floor > held.1
                || progress.finished.iter().any(|(start, end)| (*start..*end).contains(&held.1))
        });
        let was_retrying = self.retries.contains(&held);
        changes.retry(held).is_some()
            || changes.dead_place(held).is_some_and(Option::is_some)
            || (finished && !was_retrying)
    }

    /// Retries and dead letters on the disk: as the settlements demand, and no others but those of messages that outlived
    /// their time or stand behind a failed one of their key.
    pub(super) fn take_retries_and_dead_letters(
        &mut self,
        now: Now,
        changes: &Changes,
        expected: &Expectations,
    ) -> Verdict {
        for (held, outcome) in &expected.held {
            if self.groups.contains_key(&held.2) {
                self.is_as_expected(now, changes, *held, outcome)?;
            }
        }
        for (held, record) in &changes.retries {
            match record {
                Some(_) => {
                    require!(
                        expected.held.contains_key(held),
                        "a retry of {held:?} was written, and nothing that failed explains it: {record:?}"
                    );
                    self.retries.insert(*held);
                }
                None => {
                    self.retries.remove(held);
                }
            }
        }
        for (held, record) in &changes.dead_places {
            match record {
                Some(dead) => {
                    if !matches!(expected.held.get(held), Some(Expected::Dead { .. })) {
                        self.died_by_itself(now, changes, *held)?;
                    }
                    self.dead_places.insert(*held, dead.offset);
                    self.set_standing(*held, Standing::Dead(dead.offset));
                    self.tally.dead += 1;
                }
                None => {
                    self.dead_places.remove(held);
                }
            }
        }
        self.each_is_in_one_place(changes)
    }

    fn is_as_expected(&mut self, now: Now, changes: &Changes, held: Held, expected: &Expected) -> Verdict {
        let dead = changes.dead_place(held).and_then(|it| it.as_ref());
        match expected {
            Expected::Nothing => {
                require!(dead.is_none(), "{held:?} became a dead letter although it just ends");
                let retry = changes.retry(held).and_then(|it| it.as_ref());
                require!(retry.is_none(), "{held:?} is over and yet retried: {retry:?}");
                let was_retrying = self.retries.contains(&held);
                let removed = changes.retry(held).is_some();
                require!(!was_retrying || removed, "{held:?} is over and its retry is still on the disk");
            }
            Expected::Retry { attempts_made, due_from_ms, due_until_ms } => {
                if dead.is_some() {
                    return self.died_by_itself(now, changes, held);
                }
                let Some(Some(retry)) = changes.retry(held) else {
                    return Err(format!("{held:?} failed and no retry was written: the attempt is lost"));
                };
                require!(
                    retry.attempts_made == *attempts_made,
                    "{held:?} has {attempts_made} failed attempts, its retry says {}",
                    retry.attempts_made
                );
                require!(
                    (*due_from_ms..=*due_until_ms).contains(&retry.due_at_ms),
                    "{held:?} is due again between {due_from_ms} and {due_until_ms}, its retry says {}",
                    retry.due_at_ms
                );
                require!(retry.entry.id == self.placed_id(held), "{held:?}: the retry is of another message");
                let due_at_ms = retry.due_at_ms;
                if let Some(stand) = self.stand_mut(held) {
                    stand.due_at_ms = due_at_ms;
                }
            }
            Expected::Dead { reason, attempts_made } => {
                let Some(place) = dead else {
                    return Err(format!("{held:?} failed for good and is not in the dead letters"));
                };
                let topic = self.groups[&held.2].dead_letters;
                let Some(letter) = changes.dead_letter(topic, place.offset) else {
                    return Err(format!("{held:?} has a place in the dead letters and no dead letter there"));
                };
                require!(
                    letter.reason == *reason,
                    "{held:?} died of {reason:?}, its dead letter says {letter:?}"
                );
                require!(
                    letter.attempts_made == *attempts_made,
                    "{held:?} has {attempts_made} failed attempts, its dead letter says {}",
                    letter.attempts_made
                );
                require!(
                    letter.entry.id == self.placed_id(held),
                    "{held:?}: the dead letter is another message"
                );
                let history = letter.attempts.len() as u32;
                require!(
                    history >= (*attempts_made).min(16),
                    "{held:?} has a history of {history} attempts, and {attempts_made} were made"
                );
            }
        }
        Ok(())
    }

    fn placed_id(&self, held: Held) -> escrow_protocol::MessageId {
        self.topics[&held.0].places[&held.1].id
    }

    /// A message died without a consumer: it outlived its time, or an earlier one of its key failed.
    fn died_by_itself(&mut self, now: Now, changes: &Changes, held: Held) -> Verdict {
        let Some(stand) = self.stand(held) else {
            return Err(format!("{held:?} died, and the group does not listen to that topic"));
        };
        let offset = changes.dead_place(held).and_then(|it| it.as_ref()).map(|place| place.offset);
        let topic = self.groups[&held.2].dead_letters;
        let letter = offset.and_then(|offset| changes.dead_letter(topic, offset));
        let Some(letter) = letter else { return Err(format!("{held:?} died without a dead letter")) };
        require!(
            matches!(stand.standing, Standing::Waiting | Standing::Retrying),
            "{held:?} is {:?} and died of {:?}",
            stand.standing,
            letter.reason
        );
        match letter.reason {
            DeadReason::Expired => {
                let expires_at_ms = self.topics[&held.0].places[&held.1].expires_at_ms;
                require!(
                    expires_at_ms != 0 && expires_at_ms <= self.latest_unix_ms && !stand.redriven,
                    "{held:?} was called expired at {}, its time ends at {expires_at_ms}",
                    now.unix_ms
                );
                self.tally.expired += 1;
            }
            DeadReason::OrderingKeyFailed => {
                let policy = self.ordering_of(held.2);
                let before = self.groups[&held.2].ordering_before;
                require!(
                    [policy, before].contains(&OrderingPolicy::DeadLetter),
                    "{held:?} died for its ordering key, but the group's policy is {policy:?}"
                );
                let failed = self.earlier_of_key(held, |stand, _| {
                    stand.attempts_made > 0 && !stand.acked && !matches!(stand.standing, Standing::Finished)
                        || matches!(stand.standing, Standing::Retrying)
                });
                require!(
                    failed.is_some() || self.timers_may_lag(),
                    "{held:?} died for its ordering key, and none before it has failed"
                );
            }
            other => return Err(format!("{held:?} died of {other:?}, and no consumer said so")),
        }
        require!(
            letter.attempts_made == stand.attempts_made,
            "{held:?} has {} failed attempts, its dead letter says {}",
            stand.attempts_made,
            letter.attempts_made
        );
        Ok(())
    }

    /// A message is in the retries or in the dead letters of a group, never in both.
    fn each_is_in_one_place(&self, changes: &Changes) -> Verdict {
        let touched = changes.retries.iter().map(|(held, _)| held);
        for held in touched.chain(changes.dead_places.iter().map(|(held, _)| held)) {
            // After a replay the same message may fail again: its older letter stays until a newer one replaces it.
            let replayed = self.groups.get(&held.2).is_some_and(|group| group.replayed.contains(held));
            require!(
                replayed || !(self.retries.contains(held) && self.dead_places.contains_key(held)),
                "{held:?} is in the retries and in the dead letters"
            );
        }
        Ok(())
    }
}
