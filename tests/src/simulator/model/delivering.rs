//! Deliveries: each one must be owed, due, wanted, in order, within credit, and under a lease that is new.

use escrow_broker::engine::{Delivery, Now};
use escrow_broker::records::OrderingPolicy;

use super::{Held, Lease, Model, Placed, SessionModel, Stand, Standing, Verdict, require};

impl Model {
    pub(super) fn handed_out(&mut self, now: Now, delivery: &Delivery) -> Verdict {
        self.tally.deliveries += 1;
        let group = self.group_number(&delivery.group);
        let Some(group) = group else { return Err("a group that does not exist was delivered to".into()) };
        let held: Held = (delivery.topic, delivery.offset, group);

        self.is_what_lies_there(now, held, delivery)?;
        self.is_owed(now, held, delivery)?;
        self.is_in_order(now, held)?;
        self.use_credit(held, delivery)?;
        self.lease(now, held, delivery)
    }

    fn is_what_lies_there(&self, now: Now, held: Held, delivery: &Delivery) -> Verdict {
        let Some(placed) = self.placed(held.0, held.1) else {
            return Err("a message was delivered that never became visible there".into());
        };
        require!(placed.id == delivery.id, "the message at that place is {}", placed.id);
        require!(placed.at_ms == delivery.at_ms, "it became visible at {}", placed.at_ms);
        require!(placed.body_bytes == delivery.body_bytes, "its body has {} bytes", placed.body_bytes);
        require!(placed.resolution.is_none(), "a dead letter that was redriven or discarded was delivered");
        let message = &self.messages[&placed.id];
        require!(message.stored, "a message was delivered whose record is gone");
        require!(
            message.transaction == delivery.transaction,
            "the message came in transaction {:?}",
            message.transaction
        );
        let redriven = self.stand(held).is_some_and(|stand| stand.redriven);
        require!(
            redriven || placed.expires_at_ms == 0 || now.unix_ms < placed.expires_at_ms,
            "an expired message was delivered: its time ended at {}, now is {}",
            placed.expires_at_ms,
            now.unix_ms
        );
        let topic = &self.topics[&held.0];
        let called = delivery.topic_name.as_ref();
        require!(called.is_none_or(|name| *name == topic.name), "the topic is called {}", topic.name);
        require!(called.is_some() || topic.deleted, "the topic {} is there and was not named", topic.name);
        require!(
            topic.dead_letters_of.is_some() == delivery.dead_letter,
            "whether it is a dead letter is wrong"
        );
        Ok(())
    }

    fn is_owed(&self, now: Now, held: Held, delivery: &Delivery) -> Verdict {
        let Some(stand) = self.stand(held) else {
            return Err("the group does not listen to that topic".into());
        };
        let group = &self.groups[&held.2];
        require!(!group.paused, "a paused group was delivered to");
        require!(!stand.acked, "a message was delivered again after its ack was answered");
        match stand.standing {
            Standing::Waiting => {}
            Standing::Retrying => require!(
                stand.due_at_ms <= self.latest_unix_ms,
                "a retry came early: due at {}, now is {}",
                stand.due_at_ms,
                now.unix_ms
            ),
            other => return Err(format!("the group was delivered a message that is {other:?}")),
        }
        require!(
            delivery.attempt == stand.attempts_made + 1,
            "the attempt is counted wrong: {} failed before",
            stand.attempts_made
        );
        Ok(())
    }

    fn is_in_order(&self, now: Now, held: Held) -> Verdict {
        if let Some(lease) = self.lease_of_key(held) {
            return Err(format!(
                "two messages of one ordering key are under lease: also offset {}",
                lease.held.1
            ));
        }
        // One that has outlived its time is not waited for: it goes to the dead letters.
        let waits = |stand: &Stand, placed: &Placed| {
            let lives = placed.expires_at_ms == 0 || placed.expires_at_ms > now.unix_ms;
            stand.standing == Standing::Waiting && lives
        };
        // What a person sends again comes out of order anyway; and what is doomed by its key may be buried later.
        let redriven = self.stand(held).is_some_and(|stand| stand.redriven);
        let dooms = self.timers_may_lag() && self.ordering_of(held.2) == OrderingPolicy::DeadLetter;
        if let Some(earlier) = self.earlier_of_key(held, waits)
            && !redriven
            && !dooms
        {
            return Err(format!("a message overtook offset {earlier} of its ordering key"));
        }
        let holds = self.ordering_of(held.2) != OrderingPolicy::Skip;
        let retries = |stand: &Stand, _: &Placed| stand.standing == Standing::Retrying;
        if let Some(earlier) = self.earlier_of_key(held, retries)
            && holds
        {
            return Err(format!("offset {earlier} of the ordering key is retrying, which holds the key"));
        }
        Ok(())
    }

    fn use_credit(&mut self, held: Held, delivery: &Delivery) -> Verdict {
        let out = self.leases.values().any(|lease| lease.session == delivery.session);
        let Some(SessionModel::Consumer { group, credit, .. }) = self.sessions.get_mut(&delivery.session)
        else {
            return Err("a stream that is not connected was delivered to".into());
        };
        require!(*group == held.2, "the stream belongs to another group");
        require!(credit.messages > 0, "more was delivered than the consumer's credit in messages");
        let fits = credit.bytes >= i64::from(delivery.body_bytes);
        require!(
            fits || (credit.bytes > 0 && !out),
            "more was delivered than the consumer's credit of {} bytes",
            credit.bytes
        );
        credit.messages -= 1;
        credit.bytes -= i64::from(delivery.body_bytes);
        Ok(())
    }

    fn lease(&mut self, now: Now, held: Held, delivery: &Delivery) -> Verdict {
        let token = delivery.token;
        require!(self.tokens_seen.insert(token), "a lease token was used twice");
        let lease_ms = self.groups[&held.2].settings.lease_ms;
        require!(delivery.lease_ms == lease_ms, "the group's leases last {lease_ms} ms");
        let was_retrying = self.retries.contains(&held);
        self.set_standing(held, Standing::Leased(token));
        let deadline_ms = now.mono_ms + lease_ms;
        let session = delivery.session;
        self.leases.insert(token, Lease { token, held, session, deadline_ms, was_retrying });
        Ok(())
    }
}
