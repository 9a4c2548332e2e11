//! Each input with its answer, to the rule that judges it; and which refusals are reasons.

use escrow_broker::engine::{
    Command, ConsumerConnected, Credit, Input, Now, Outcome, ProducerConnected, Refusal, Reply,
};
use escrow_broker::records::Resolution;
use escrow_protocol::{Reason, TopicName};

use super::config::seek_of;
use super::retrying::Order;
use super::{CreditModel, Expectations, Model, SessionModel, Verdict, require};

impl Model {
    pub(super) fn answered(
        &mut self,
        now: Now,
        input: &Input,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        self.tally.refused += u64::from(outcome.is_err());
        match input {
            Input::ProducerConnected(hello) => self.producer_connected(hello, outcome),
            Input::ConsumerConnected(hello) => self.consumer_connected(hello, outcome),
            Input::SessionClosed(session) => {
                self.session_closed(now, *session, expected, true);
                Ok(())
            }
            Input::SessionFinished(session) => {
                self.session_closed(now, *session, expected, false);
                Ok(())
            }
            Input::Publish(message) => self.published(now, message, outcome, expected),
            Input::SendHalf(half) => self.prepared(now, half, outcome, expected),
            Input::Decide(decide) => self.decided(now, decide, outcome),
            Input::CheckAnswered(answer) => self.check_answered(now, answer, outcome),
            Input::Credit(credit) => {
                self.credited(*credit, outcome);
                Ok(())
            }
            Input::Settle(settle) => self.settled(now, settle, outcome, expected),
            Input::Undeliverable(token, _) => self.undeliverable(*token, outcome, expected),
            Input::Command(_, command) => self.commanded(now, command, outcome, expected),
            Input::NoteAlarms(_) | Input::Inspect(_) => Ok(()),
        }
    }

    fn commanded(
        &mut self,
        now: Now,
        command: &Command,
        outcome: &Outcome,
        expected: &mut Expectations,
    ) -> Verdict {
        if let Some((group, topic, to, dry_run)) = seek_of(command) {
            return self.sought((group, topic), to, dry_run, outcome, expected);
        }
        match command {
            Command::CheckNow(id) => self.check_now(now, *id, outcome),
            Command::Resume(id) => self.resumed(now, *id, outcome),
            Command::CancelScheduled(id) => self.cancelled(*id, outcome, expected),
            Command::MoveScheduled { id, deliver_at_ms } => {
                self.schedule_moved(*id, *deliver_at_ms, outcome, expected)
            }
            Command::RunRetry { group, id } => {
                self.retry_ordered(now, (group, *id), Order::Run, outcome, expected)
            }
            Command::GiveUpRetry { group, id } => {
                self.retry_ordered(now, (group, *id), Order::GiveUp, outcome, expected)
            }
            Command::Redrive { dry_run: true, .. } | Command::Discard { dry_run: true, .. } => Ok(()),
            Command::Redrive { group, offset, to, .. } => {
                let place = (group, *offset);
                self.resolved(now, place, Resolution::Redriven, to.as_ref(), outcome, expected)
            }
            Command::Discard { group, offset, .. } => {
                self.resolved(now, (group, *offset), Resolution::Discarded, None, outcome, expected)
            }
            Command::StartJob { .. } | Command::OrderJob(..) => ordered_a_job(outcome),
            other => self.ordered(other, outcome),
        }
    }

    fn producer_connected(&mut self, hello: &ProducerConnected, outcome: &Outcome) -> Verdict {
        require!(matches!(outcome, Ok(Reply::Welcome)), "a producer was not welcome");
        let (client, group, kinds) = (hello.client.clone(), hello.group.clone(), hello.kinds.clone());
        self.sessions.insert(hello.session, SessionModel::Producer { client, group, kinds });
        Ok(())
    }

    fn consumer_connected(&mut self, hello: &ConsumerConnected, outcome: &Outcome) -> Verdict {
        match outcome {
            Ok(Reply::Joined { group, lease_ms }) => {
                let number = self.group_number(group).ok_or("joined a group that does not exist")?;
                let lasts = self.groups[&number].settings.lease_ms;
                require!(*lease_ms == lasts, "the leases of that group last {lasts} ms");
                let (detached, credit) = (hello.detached, CreditModel::default());
                let session = SessionModel::Consumer { group: number, detached, credit };
                self.sessions.insert(hello.session, session);
                Ok(())
            }
            Ok(_) => Err("a consumer was answered with something else".into()),
            Err(refusal) => {
                let reasons = [
                    Reason::UnknownTopic,
                    Reason::UnknownGroup,
                    Reason::SubscriptionMismatch,
                    Reason::InvalidField,
                    Reason::ReservedTopic,
                ];
                require!(reasons.contains(&refusal.reason), "a consumer was refused for no good reason");
                Ok(())
            }
        }
    }

    fn credited(&mut self, credit: Credit, outcome: &Outcome) {
        if let (Ok(_), Some(SessionModel::Consumer { credit: has, .. })) =
            (outcome, self.sessions.get_mut(&credit.session))
        {
            has.messages += i64::from(credit.messages);
            has.bytes += credit.bytes as i64;
        }
    }

    /// Why a new message for this topic may be refused.
    pub(super) fn refused_message(&self, topic: &TopicName, refusal: &Refusal) -> Verdict {
        match refusal.reason {
            Reason::UnknownTopic => {
                require!(self.topic_number(topic).is_none(), "topic {topic} exists and is called unknown");
            }
            Reason::ReservedTopic => require!(topic.is_dead_letter_topic(), "topic {topic} is not reserved"),
            Reason::DiskFull => {
                require!(refusal.retry_after_ms.is_some(), "a full disk does not say when to retry")
            }
            Reason::LimitReached => {}
            _ => return Err("a message was refused for no good reason".into()),
        }
        Ok(())
    }
}

fn ordered_a_job(outcome: &Outcome) -> Verdict {
    let Err(refusal) = outcome else { return Ok(()) };
    let reasons = [
        Reason::UnknownGroup,
        Reason::UnknownTopic,
        Reason::ReservedTopic,
        Reason::LimitReached,
        Reason::UnknownJob,
        Reason::JobEnded,
    ];
    require!(reasons.contains(&refusal.reason), "a job was refused for no good reason");
    Ok(())
}
