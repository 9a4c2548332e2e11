//! Retries that a person has tried at once or gives up, and scheduled messages that get another time.

use escrow_broker::engine::{Moved, Now, Outcome, Reply};
use escrow_broker::records::{DeadReason, GroupNumber};
use escrow_protocol::{GroupName, MessageId, Reason};

use super::stands::Expected;
use super::{Expectations, Held, MessageFate, Model, Standing, Verdict, require};

/// What is ordered of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    GiveUp,
}

impl Model {
    /// Messages that wait for their next attempt, each with its group.
    pub(crate) fn retrying_messages(&self) -> Vec<(GroupName, MessageId)> {
        let idle = self.retries.iter().filter(|held| {
            self.stand(**held).is_some_and(|stand| matches!(stand.standing, Standing::Retrying))
        });
        idle.filter_map(|held| {
            let group = self.groups.get(&held.2)?;
            Some((group.name.clone(), self.placed(held.0, held.1)?.id))
        })
        .collect()
    }

    /// Where a group may be retrying a message: at its own place, and as a dead letter that is read like any message.
    fn retry_places(&self, group: GroupNumber, id: MessageId) -> Vec<Held> {
        let Some(message) = self.messages.get(&id) else { return Vec::new() };
        let mut places: Vec<Held> =
            message.places.iter().map(|(topic, offset)| (*topic, *offset, group)).collect();
        for (held, at) in self.dead_held_with_place() {
            let same = message.places.contains(&(held.0, held.1));
            let owner = self.groups.get(&held.2).filter(|_| same);
            places.extend(owner.map(|owner| (owner.dead_letters, at, group)));
        }
        places
    }

    pub(super) fn retry_ordered(
        &mut self,
        now: Now,
        (group, id): (&GroupName, MessageId),
        order: Order,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        let Some(number) = self.group_number(group) else {
            require!(outcome.is_err(), "a retry of a group that does not exist was ordered");
            return Ok(());
        };
        let places = self.retry_places(number, id);
        let idle = places
            .iter()
            .copied()
            .find(|held| self.stand(*held).is_some_and(|stand| matches!(stand.standing, Standing::Retrying)));
        let refusal = match outcome {
            Ok(Reply::Resolved(answered)) => {
                require!(*answered == id, "the order was about message {id}");
                let Some(held) = idle else {
                    return Err("something was done with a retry, and there is none to do it with".into());
                };
                self.retry_done(now, held, order, expected);
                return Ok(());
            }
            Ok(_) => return Err("an order about a retry was answered with something else".into()),
            Err(refusal) => refusal,
        };
        let with_a_consumer = places
            .iter()
            .any(|held| self.leases.values().any(|lease| lease.held == *held && lease.was_retrying));
        // What has failed in this very turn, such as the leases of a stream that ended, is counted at its end.
        let in_motion = places.iter().any(|held| expected.held.contains_key(held));
        match refusal.reason {
            Reason::InUse => {
                require!(with_a_consumer || in_motion, "no consumer has a retry of message {id}");
            }
            Reason::UnknownRetry => {
                let waits = idle.is_some() || with_a_consumer;
                require!(!waits || in_motion, "message {id} is retrying at {idle:?}");
            }
            _ => return Err("an order about a retry was refused for no good reason".into()),
        }
        Ok(())
    }

    fn retry_done(&mut self, now: Now, held: Held, order: Order, expected: &mut Expectations) {
        match order {
            Order::GiveUp => self.bury(held, DeadReason::GivenUp, expected),
            Order::Run => {
                let attempts_made = self.stand(held).map_or(0, |stand| stand.attempts_made);
                let (due_from_ms, due_until_ms) = (now.unix_ms, now.unix_ms);
                expected.held.insert(held, Expected::Retry { attempts_made, due_from_ms, due_until_ms });
            }
        }
    }

    pub(super) fn schedule_moved(
        &mut self,
        id: MessageId,
        to_ms: u64,
        outcome: &Outcome,
        expected: &Expectations,
    ) -> Verdict {
        let Ok(Reply::Moved(answer)) = outcome else {
            return Err("a move was not answered exactly".into());
        };
        let fate = self.messages.get(&id).map(|message| message.fate);
        let in_the_queue = matches!(fate, Some(MessageFate::Queued | MessageFate::DueNow));
        match answer {
            Moved::Moved => {
                let waits = matches!(fate, Some(MessageFate::Scheduled { .. }));
                require!(waits, "a message was called moved that is {fate:?}");
                let message = self.messages.get_mut(&id).expect("it has a fate");
                message.fate = MessageFate::Scheduled { due_ms: to_ms };
            }
            Moved::TooLate => require!(in_the_queue, "too late to move a message that is {fate:?}"),
            Moved::NotKnown => {
                let waits = matches!(fate, Some(MessageFate::Scheduled { .. }));
                require!(!waits, "a scheduled message is not known");
                let stored = self.messages.get(&id).is_some_and(|message| message.stored);
                let is_there = in_the_queue && stored && !self.leaves_in_this_turn(id, expected);
                require!(!is_there, "a message in its queue is not known");
            }
        }
        Ok(())
    }
}
