//! What a person may do with a message that waits for its next attempt: have it tried at once, or give it up. Not while a
//! consumer has it: what comes of that attempt is not known yet.

use std::sync::Arc;

use escrow_protocol::{GroupName, MessageId, Reason};

use super::groups::PlaceInGroup;
use super::position::Candidate;
use super::sabotage::{Fault, planted};
use super::timers::WallTimer;
use super::trouble::Step;
use super::{Engine, Now, Operator, Refusal, Reply, Turn};
use crate::records::{
    DeadPlace, DeadReason, GroupNumber, Happening, Place, Record as _, Standing, Subject, keys,
};

impl Engine {
    /// Due at once, whatever its policy says.
    pub(super) fn run_retry(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        group: &GroupName,
        id: MessageId,
    ) -> Step<Reply> {
        let (number, place, candidate) = self.idle_retry(turn, group, id)?;
        let mut record = self.retry_of(turn, number, &candidate)?;
        if planted(Fault::RunNowIgnored) {
            return Ok(Reply::Resolved(candidate.entry.id));
        }
        let (topic, offset) = place;
        let retries = &mut self.groups.known_mut(number).retries;
        let (due_before_ms, is_planned) = retries.set_due(&place, now.unix_ms).expect("it was just found");
        if is_planned {
            // It fires in this turn.
            self.timers.cancel(due_before_ms, WallTimer::Retry(number, topic, offset));
            self.timers.plan(now.unix_ms, WallTimer::Retry(number, topic, offset));
        }
        record.due_at_ms = now.unix_ms;
        turn.put(keys::retry(topic, offset, number), &record);
        let by = self.story.by();
        self.note(Subject::Place(topic, offset), Happening::RunNow(number, by));
        self.groups.awake.insert(number);
        Ok(Reply::Resolved(candidate.entry.id))
    }

    /// To the dead letters now, with all its attempts.
    pub(super) fn give_up_retry(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        (group, id): (&GroupName, MessageId),
        operator: &Operator,
    ) -> Step<Reply> {
        let (number, place, candidate) = self.idle_retry(turn, group, id)?;
        let record = self.retry_of(turn, number, &candidate)?;
        let (topic, offset) = place;
        let group = self.groups.known_mut(number);
        let retrying = group.retries.get(&place).expect("it was just found");
        if retrying.is_planned {
            self.timers.cancel(retrying.due_at_ms, WallTimer::Retry(number, topic, offset));
        }
        group.ready.remove(&place);
        group.doomed.retain(|(candidate, ..)| (candidate.topic, candidate.offset) != place);
        group.withdraw_from_gates(topic, offset, Some(&candidate.entry));
        if planted(Fault::GivenUpForgotten) {
            self.end_delivery(turn, number, &candidate)?;
        } else {
            let error = format!("given up by {}: {}", operator.name, operator.reason);
            self.bury(now, turn, number, &candidate, record, DeadReason::GivenUp, super::leases::cut(error))?;
        }
        Ok(Reply::Resolved(candidate.entry.id))
    }

    /// The retry of a message in a group, if no consumer has it.
    fn idle_retry(
        &self,
        turn: &Turn<'_>,
        group_name: &GroupName,
        id: MessageId,
    ) -> Step<(GroupNumber, PlaceInGroup, Candidate)> {
        let number = self.groups.find(group_name.as_str())?;
        let group = self.groups.known(number);
        let found = self.places_of(turn, id)?.into_iter().find_map(|place| {
            let retrying = group.retries.get(&place)?;
            Some((place, retrying))
        });
        let Some((place, retrying)) = found else {
            return Err(Refusal::new(
                Reason::UnknownRetry,
                format!(
                    "group {group_name:?} does not retry message {id}: acked, dead, or never failed; `escrow msg trace \
                     {id}` says which"
                ),
            )
            .with("message_id", id)
            .into());
        };
        if let Some(token) = group.leased.get(&place) {
            let lease = &self.groups.leases[token];
            return Err(Refusal::new(
                Reason::InUse,
                format!(
                    "attempt {} of message {id} is with consumer {}: wait for its answer, or for its lease to run out",
                    lease.candidate.attempts_made + 1,
                    lease.client
                ),
            )
            .with("client_id", &lease.client)
            .into());
        }
        let (entry, attempts_made) = (Arc::clone(&retrying.entry), retrying.attempts_made);
        let candidate = Candidate { topic: place.0, offset: place.1, entry, attempts_made, is_retry: true };
        Ok((number, place, candidate))
    }

    /// Where a message is: in its topic, and as a dead letter of groups in their dead-letter topics.
    pub(super) fn places_of(&self, turn: &Turn<'_>, id: MessageId) -> Step<Vec<PlaceInGroup>> {
        let place: Option<Place> = turn.get(&keys::place(id))?;
        let Some(Standing::Queued { topic, offset, .. }) = place.map(|place| place.standing) else {
            return Ok(Vec::new());
        };
        let mut places = vec![(topic, offset)];
        let range = keys::dead_place_range(topic, offset, offset.next());
        for (key, value) in turn.scan(&range, self.groups.by_number.len() + 1)? {
            let owner = keys::held_of(&key).and_then(|(.., owner)| self.groups.by_number.get(&owner));
            if let (Some(owner), Ok(DeadPlace { offset })) = (owner, DeadPlace::decode(value)) {
                places.push((owner.record.dead_letters, offset));
            }
        }
        Ok(places)
    }
}
