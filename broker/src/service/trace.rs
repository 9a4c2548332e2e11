//! The life of a message: stored, checked, decided, queued, and where each group stands with it.

use escrow_protocol::{GroupName, MessageId, Offset, Reason};
use escrow_storage::{Read, ReadError};

use super::{Service, StoredMessage, TransactionView, mismatch};
use crate::dispatch::{decode, record};
use crate::engine::{Inspect, Refusal, Seen, Whereabout};
use crate::records::{
    Attempt, DeadLetter, DeadPlace, Group, GroupNumber, Retry, Standing, TopicNumber, TransactionState, keys,
};

/// Groups of one topic whose records are looked at, at most.
const GROUPS_MAX: usize = 1_000;

/// One thing that happened to a message, or where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// Unix milliseconds; 0: not known.
    pub at_ms: u64,
    /// The word for it.
    pub event: &'static str,
    /// The group it concerns.
    pub group: Option<GroupName>,
    /// For people.
    pub text: String,
}

/// The life of a message.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The message.
    pub message: StoredMessage,
    /// The transaction it came in, while that is remembered.
    pub transaction: Option<TransactionView>,
    /// In order of time; what has no time last.
    pub events: Vec<TraceEvent>,
}

impl Service {
    /// The life of a message that is still stored.
    ///
    /// # Errors
    /// `UnknownMessage`; `Damaged`.
    pub async fn trace(&self, id: MessageId) -> Result<Trace, Refusal> {
        let message = self.message(id).await?;
        let transaction = match message.place.transaction {
            None => None,
            Some(transaction) => match self.transaction(transaction).await {
                Ok(found) => Some(found),
                // Decided longer ago than is remembered.
                Err(refusal) if refusal.reason == Reason::UnknownTransaction => None,
                Err(refusal) => return Err(refusal),
            },
        };
        let mut events = vec![event(message.place.stored_at_ms, "STORED", "stored by the broker")];
        events.extend(transaction.iter().flat_map(of_transaction));
        match message.place.standing {
            Standing::Undecided => {}
            Standing::Scheduled { due_ms } => {
                events.push(event(due_ms, "SCHEDULED", "will become visible at this time"));
            }
            Standing::Queued { topic, offset, at_ms } => {
                events.push(event(at_ms, "QUEUED", format!("visible at offset {offset}")));
                events.extend(self.of_groups(topic, offset).await?);
            }
        }
        // Stable: what happened at the same time stays in the order it was found.
        events.sort_by_key(|event| if event.at_ms == 0 { u64::MAX } else { event.at_ms });
        Ok(Trace { message, transaction, events })
    }

    async fn of_groups(&self, topic: TopicNumber, offset: Offset) -> Result<Vec<TraceEvent>, Refusal> {
        let standing = match self.see(Inspect::Whereabouts { topic, offset }).await {
            Ok(Seen::Whereabouts(standing)) => standing,
            Ok(_) => return Err(mismatch()),
            // The topic was deleted: nobody stands anywhere with it.
            Err(refusal) if refusal.reason == Reason::UnknownTopic => Vec::new(),
            Err(refusal) => return Err(refusal),
        };
        let mut events: Vec<_> =
            standing.into_iter().map(|(group, whereabout)| of_whereabout(group, &whereabout)).collect();
        events.extend(self.read(move |view| failures(view, topic, offset)).await?);
        Ok(events)
    }
}

fn event(at_ms: u64, event: &'static str, text: impl Into<String>) -> TraceEvent {
    TraceEvent { at_ms, event, group: None, text: text.into() }
}

fn of_transaction(transaction: &TransactionView) -> Vec<TraceEvent> {
    let TransactionView { id, record, .. } = transaction;
    let mut events = Vec::new();
    let checks = record.checks;
    if checks.delivered + checks.no_checker > 0 {
        let text = format!(
            "{} checks reached a checker ({} unknown, {} timed out); {} found none",
            checks.delivered, checks.unknown, checks.timed_out, checks.no_checker
        );
        events.push(event(0, "CHECKED", text));
    }
    if let Some(decider) = &record.decider {
        let done = if record.state == TransactionState::Committed { "committed" } else { "rolled back" };
        let because = if decider.reason.is_empty() { String::new() } else { format!(": {}", decider.reason) };
        let text = format!("{id} {done} by {} {}{because}", decider.role.as_str(), decider.name);
        events.push(event(decider.at_ms, "DECIDED", text));
    } else {
        events.push(event(0, "WAITING", format!("{id} is undecided")));
    }
    events
}

fn of_whereabout(group: GroupName, whereabout: &Whereabout) -> TraceEvent {
    let (at_ms, name, text) = match whereabout {
        Whereabout::Waiting => (0, "WAITING", "not delivered yet".to_owned()),
        Whereabout::Leased { client, attempt } => {
            let client = client.as_ref().map_or("a consumer that left", |client| client.as_str());
            (0, "LEASED", format!("attempt {attempt} is with {client}"))
        }
        Whereabout::Retrying { due_at_ms, attempts_made } => {
            (*due_at_ms, "RETRYING", format!("tried again at this time; {attempts_made} attempts failed"))
        }
        Whereabout::Dead { offset, reason } => {
            (0, "DEAD", format!("in the dead letters at offset {offset}: {}", reason.as_str()))
        }
        Whereabout::Finished => (0, "FINISHED", "done".to_owned()),
    };
    TraceEvent { at_ms, event: name, group: Some(group), text }
}

/// The attempts that failed, as the retry and dead-letter records of this place keep them.
fn failures(view: &dyn Read, topic: TopicNumber, offset: Offset) -> Result<Vec<TraceEvent>, ReadError> {
    let mut events = Vec::new();
    for (key, value) in view.scan(&keys::retry_range(topic, offset, offset.next()), GROUPS_MAX)? {
        let retry: Retry = decode(&key, value)?;
        let Some((_, _, number)) = keys::held_of(&key) else { continue };
        let group = group_name(view, number)?;
        events.extend(retry.attempts.iter().map(|attempt| failed(group.clone(), attempt)));
    }
    for (key, value) in view.scan(&keys::dead_place_range(topic, offset, offset.next()), GROUPS_MAX)? {
        let place: DeadPlace = decode(&key, value)?;
        let Some((_, _, number)) = keys::held_of(&key) else { continue };
        let Some(group) = record::<Group>(view, &keys::group(number))? else { continue };
        let dead = record::<DeadLetter>(view, &keys::dead_letter(group.dead_letters, place.offset))?;
        let Some(dead) = dead else { continue };
        events.extend(dead.attempts.iter().map(|attempt| failed(Some(dead.group.clone()), attempt)));
        let text = format!("to the dead letters: {} {}", dead.reason.as_str(), dead.error);
        events.push(TraceEvent { at_ms: dead.at_ms, event: "DEAD", group: Some(dead.group), text });
    }
    Ok(events)
}

fn group_name(view: &dyn Read, number: GroupNumber) -> Result<Option<GroupName>, ReadError> {
    Ok(record::<Group>(view, &keys::group(number))?.map(|group| group.name))
}

fn failed(group: Option<GroupName>, attempt: &Attempt) -> TraceEvent {
    let client = attempt.client.as_ref().map_or(String::new(), |client| format!(" at {client}"));
    let error = if attempt.error.is_empty() { String::new() } else { format!(": {}", attempt.error) };
    let text = format!("attempt {} failed{client}, {}{error}", attempt.number, attempt.kind.as_str());
    TraceEvent { at_ms: attempt.at_ms, event: "FAILED", group, text }
}
