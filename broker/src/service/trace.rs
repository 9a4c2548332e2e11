//! The life of a message, also when it is gone: stored, checked, decided, queued, and in each group every delivery with
//! what came of it. From notes of what happened, and from the records of what is still there.

use std::collections::HashMap;

use escrow_protocol::{GroupName, MessageId, Offset, Reason, ShardId, TransactionId};
use escrow_storage::{Read, ReadError};

use super::stories::GoneMessage;
use super::transactions::Labels;
use super::{Service, StoredMessage, TransactionView, mismatch};
use crate::config::DurationText;
use crate::dispatch::{decode, record};
use crate::engine::{Inspect, Refusal, Seen, Whereabout, moment};
use crate::records::{
    Attempt, AttemptKind, CheckAnswer, DeadLetter, DeadPlace, DeadReason, Decider, Ending, Group,
    GroupNumber, Happening, Note, Retry, Role, Standing, Subject, TopicNumber, TransactionState, Tried, keys,
};

/// Groups of one topic whose records are looked at, at most.
const GROUPS_MAX: usize = 1_000;

/// One thing that happened to a message, or where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceEvent {
    /// Unix milliseconds; 0: not known, or still so.
    pub at_ms: u64,
    /// The word for it.
    pub event: &'static str,
    /// The group it concerns.
    pub group: Option<GroupName>,
    /// Which attempt; 0: it is about none.
    pub attempt: u32,
    /// Who did it: a client, a person.
    pub who: String,
    /// The error, reason or answer as it was given.
    pub detail: String,
    /// In words.
    pub text: String,
}

/// What is known of a message itself.
#[derive(Debug, Clone)]
pub enum Traced {
    /// It is stored.
    Stored(Box<StoredMessage>),
    /// It is gone.
    Gone(GoneMessage),
}

impl Traced {
    /// Its id.
    pub fn id(&self) -> MessageId {
        match self {
            Self::Stored(stored) => stored.message.id,
            Self::Gone(gone) => gone.id,
        }
    }

    /// The transaction it came in.
    pub fn transaction(&self) -> Option<TransactionId> {
        match self {
            Self::Stored(stored) => stored.place.transaction,
            Self::Gone(gone) => gone.transaction,
        }
    }

    /// Where it is or was visible, since when (Unix milliseconds).
    fn place(&self) -> Option<(TopicNumber, Offset, u64)> {
        match self {
            Self::Gone(gone) => gone.place,
            Self::Stored(stored) => match stored.place.standing {
                Standing::Queued { topic, offset, at_ms } => Some((topic, offset, at_ms)),
                Standing::Undecided | Standing::Scheduled { .. } => None,
            },
        }
    }
}

/// The life of a message.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The message.
    pub message: Traced,
    /// The transaction it came in, while that is remembered.
    pub transaction: Option<TransactionView>,
    /// In order of time; what has no time last.
    pub events: Vec<TraceEvent>,
}

impl Service {
    /// The life of a message that is stored, or gone and still told of.
    ///
    /// # Errors
    /// `UnknownMessage`; `Damaged`.
    pub async fn trace(&self, id: MessageId) -> Result<Trace, Refusal> {
        let own = self.notes_of(vec![Subject::Message(id)]).await?;
        let message = match self.message(id).await {
            Ok(stored) => Traced::Stored(Box::new(stored)),
            Err(refusal) if refusal.reason == Reason::UnknownMessage => {
                Traced::Gone(self.gone(&own).await?.ok_or(refusal)?)
            }
            Err(refusal) => return Err(refusal),
        };
        let transaction = self.transaction_if_remembered(message.transaction()).await?;
        let mut subjects = Vec::new();
        subjects.extend(message.transaction().map(|id| Subject::Transaction(id.number())));
        subjects.extend(message.place().map(|(topic, offset, _)| Subject::Place(topic, offset)));
        let mut notes = own;
        if !subjects.is_empty() {
            notes.extend(self.notes_of(subjects).await?);
        }
        let mut events = self.events_of_notes(notes).await?;
        events.extend(born(&message, transaction.as_ref(), &events));
        if let Some((topic, offset, at_ms)) = message.place() {
            let text = format!("visible at offset {offset}");
            events.push(TraceEvent { detail: offset.to_string(), ..event(at_ms, "QUEUED", text) });
            let standing = self.of_groups(topic, offset).await?;
            add_what_is_news(&mut events, standing);
        }
        if let Traced::Stored(stored) = &message
            && let Standing::Scheduled { due_ms } = stored.place.standing
        {
            events.push(event(due_ms, "SCHEDULED", "becomes visible at this time"));
        }
        let from_transaction: Vec<_> = transaction.iter().flat_map(of_transaction).collect();
        add_what_is_news(&mut events, from_transaction);
        in_order_of_time(&mut events);
        Ok(Trace { message, transaction, events })
    }

    /// What happened to a transaction, as far as it was noted; that it was made is known in any case.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub async fn transaction_events(&self, view: &TransactionView) -> Result<Vec<TraceEvent>, Refusal> {
        let notes = self.notes_of(vec![Subject::Transaction(view.id.number())]).await?;
        let mut events = self.events_of_notes(notes).await?;
        if events.iter().all(|event| event.event != "STORED") {
            events.push(made(
                view.record.group.as_ref(),
                view.record.client.as_ref(),
                view.record.created_at_ms,
            ));
        }
        in_order_of_time(&mut events);
        Ok(events)
    }

    async fn gone(&self, notes: &[Note]) -> Result<Option<GoneMessage>, Refusal> {
        let removed =
            notes.iter().rev().find(|note| matches!(note.happening, Happening::Removed { .. })).cloned();
        let Some(note) = removed else { return Ok(None) };
        self.read(move |view| GoneMessage::of(&mut Labels::new(view), &note)).await
    }

    async fn transaction_if_remembered(
        &self,
        id: Option<TransactionId>,
    ) -> Result<Option<TransactionView>, Refusal> {
        let Some(id) = id else { return Ok(None) };
        match self.transaction(id).await {
            Ok(found) => Ok(Some(found)),
            // Decided longer ago than is remembered.
            Err(refusal) if refusal.reason == Reason::UnknownTransaction => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    async fn events_of_notes(&self, notes: Vec<Note>) -> Result<Vec<TraceEvent>, Refusal> {
        let shard = self.parts.shard;
        self.read(move |view| {
            let mut names = Names { view, known: HashMap::new() };
            let mut events = Vec::new();
            for note in &notes {
                if let Happening::Decided { .. } = note.happening {
                    tell_decision(shard, note, &mut events);
                    continue;
                }
                of_note(&mut names, note, &mut events)?;
            }
            Ok(events)
        })
        .await
    }

    async fn of_groups(&self, topic: TopicNumber, offset: Offset) -> Result<Vec<TraceEvent>, Refusal> {
        let standing = match self.see(Inspect::Whereabouts { topic, offset }).await {
            Ok(Seen::Whereabouts(standing)) => standing,
            Ok(_) => return Err(mismatch()),
            // The topic was deleted: nobody stands anywhere with it.
            Err(refusal) if refusal.reason == Reason::UnknownTopic => Vec::new(),
            Err(refusal) => return Err(refusal),
        };
        let mut events = self.read(move |view| failures(view, topic, offset)).await?;
        events.extend(standing.into_iter().map(|(group, whereabout)| of_whereabout(group, &whereabout)));
        Ok(events)
    }
}

/// Which part of a message's life an event belongs to: what happens in one millisecond is told in this order.
/// Stable: what happened at the same time in the same part of its life stays in the order it was noted.
fn in_order_of_time(events: &mut [TraceEvent]) {
    events.sort_by_key(|event| (if event.at_ms == 0 { u64::MAX } else { event.at_ms }, part_of_life(event)));
}

/// A half message came.
fn made(group: &str, client: &str, at_ms: u64) -> TraceEvent {
    let text = format!("stored as a half message by {client} of {group}");
    TraceEvent { who: format!("{group} {client}"), ..event(at_ms, "STORED", text) }
}

fn part_of_life(event: &TraceEvent) -> u8 {
    match event.event {
        "STORED" => 0,
        "CHECK_ORDERED" | "CHECKED" | "PARKED" | "RESUMED" | "DECIDED" => 1,
        "SCHEDULED" | "MOVED" => 2,
        "QUEUED" => 3,
        "REMOVED" => 5,
        _ => 4,
    }
}

fn event(at_ms: u64, event: &'static str, text: impl Into<String>) -> TraceEvent {
    TraceEvent { at_ms, event, text: text.into(), ..TraceEvent::default() }
}

/// Adds what records say and notes did not: an older release took no notes, and notes are forgotten first.
fn add_what_is_news(events: &mut Vec<TraceEvent>, more: Vec<TraceEvent>) {
    for one in more {
        let same = |known: &&TraceEvent| known.group == one.group;
        let is_known = match one.event {
            "FAILED" => events.iter().filter(same).any(|known| {
                (known.event, known.attempt, known.at_ms) == (one.event, one.attempt, one.at_ms)
            }),
            "DECIDED" | "DEAD" => events.iter().filter(same).any(|known| known.event == one.event),
            "CHECKED" => events.iter().any(|known| known.event == "CHECKED"),
            "FINISHED" => events
                .iter()
                .filter(same)
                .any(|known| matches!(known.event, "ACKED" | "DISCARDED" | "COPIED")),
            _ => false,
        };
        if !is_known {
            events.push(one);
        }
    }
}

/// The first of all events.
fn born(message: &Traced, transaction: Option<&TransactionView>, noted: &[TraceEvent]) -> Option<TraceEvent> {
    let at_ms = match message {
        Traced::Stored(stored) => Some(stored.place.stored_at_ms),
        Traced::Gone(_) => transaction.map(|view| view.record.created_at_ms),
    };
    let text = match message.transaction() {
        Some(id) => format!("stored as a half message of {id}"),
        None => "stored".to_owned(),
    };
    let is_noted = noted.iter().any(|event| event.event == "STORED");
    let mut born = event(at_ms.filter(|_| !is_noted)?, "STORED", text);
    if let Some(view) = transaction {
        born.who = format!("{} {}", view.record.group, view.record.client);
    }
    Some(born)
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
        events.push(decided(*id, record.state == TransactionState::Committed, decider));
    } else {
        events.push(event(0, "WAITING", format!("{id} is undecided")));
    }
    events
}

fn decided(id: TransactionId, committed: bool, decider: &Decider) -> TraceEvent {
    let done = if committed { "committed" } else { "rolled back" };
    let (role, name) = (decider.role.as_str(), &decider.name);
    let because = if decider.reason.is_empty() { String::new() } else { format!(": {}", decider.reason) };
    TraceEvent {
        who: format!("{role} {name}"),
        detail: decider.reason.clone(),
        ..event(decider.at_ms, "DECIDED", format!("{id} {done} by {role} {name}{because}"))
    }
}

fn of_whereabout(group: GroupName, whereabout: &Whereabout) -> TraceEvent {
    let mut event = match whereabout {
        Whereabout::Waiting => event(0, "WAITING", "not delivered yet"),
        Whereabout::Leased { client, attempt } => {
            let client = client.as_ref().map_or("a consumer that left", |client| client.as_str());
            let text = format!("attempt {attempt} is with {client}");
            TraceEvent { attempt: *attempt, who: client.to_owned(), ..event(0, "LEASED", text) }
        }
        Whereabout::Retrying { due_at_ms, attempts_made } => {
            let text = format!("tried again at this time; {attempts_made} attempts failed");
            TraceEvent { attempt: attempts_made + 1, ..event(*due_at_ms, "RETRYING", text) }
        }
        Whereabout::Dead { offset, reason } => {
            event(0, "DEAD", format!("in the dead letters at offset {offset}: {}", reason.as_str()))
        }
        Whereabout::Finished => event(0, "FINISHED", "done: acked, or passed over by filter or seek"),
    };
    event.group = Some(group);
    event
}

/// The attempts that failed, as the retry and dead-letter records of this place keep them.
fn failures(view: &dyn Read, topic: TopicNumber, offset: Offset) -> Result<Vec<TraceEvent>, ReadError> {
    let mut names = Names { view, known: HashMap::new() };
    let mut events = Vec::new();
    for (key, value) in view.scan(&keys::retry_range(topic, offset, offset.next()), GROUPS_MAX)? {
        let retry: Retry = decode(&key, value)?;
        let Some((_, _, number)) = keys::held_of(&key) else { continue };
        let group = names.of(number)?;
        events.extend(retry.attempts.iter().map(|attempt| attempted(group.clone(), attempt)));
    }
    for (key, value) in view.scan(&keys::dead_place_range(topic, offset, offset.next()), GROUPS_MAX)? {
        let place: DeadPlace = decode(&key, value)?;
        let Some((_, _, number)) = keys::held_of(&key) else { continue };
        let Some(group) = record::<Group>(view, &keys::group(number))? else { continue };
        let dead = record::<DeadLetter>(view, &keys::dead_letter(group.dead_letters, place.offset))?;
        let Some(dead) = dead else { continue };
        events.extend(dead.attempts.iter().map(|attempt| attempted(Some(dead.group.clone()), attempt)));
        events.push(died(dead.at_ms, Some(dead.group), place.offset, dead.reason, &dead.error));
    }
    Ok(events)
}

fn attempted(group: Option<GroupName>, attempt: &Attempt) -> TraceEvent {
    let client = attempt.client.as_ref().map_or("", |client| client.as_str());
    failed(attempt.at_ms, group, (attempt.number, client), attempt.kind, &attempt.error)
}

fn failed(
    at_ms: u64,
    group: Option<GroupName>,
    (attempt, client): (u32, &str),
    kind: AttemptKind,
    error: &str,
) -> TraceEvent {
    let at = if client.is_empty() { String::new() } else { format!(" at {client}") };
    let said = if error.is_empty() { String::new() } else { format!(": {error}") };
    TraceEvent {
        group,
        attempt,
        who: client.to_owned(),
        detail: if error.is_empty() { kind.as_str().to_owned() } else { error.to_owned() },
        ..event(at_ms, "FAILED", format!("attempt {attempt} failed{at}, {}{said}", kind.as_str()))
    }
}

fn died(at_ms: u64, group: Option<GroupName>, offset: Offset, reason: DeadReason, error: &str) -> TraceEvent {
    let text = format!("to the dead letters at offset {offset}: {} {error}", reason.as_str());
    let detail = format!("{} {error}", reason.as_str()).trim_end().to_owned();
    TraceEvent { group, detail, ..event(at_ms, "DEAD", text.trim_end()) }
}

/// Names of groups that are still there.
struct Names<'a> {
    view: &'a dyn Read,
    known: HashMap<GroupNumber, Option<GroupName>>,
}

impl Names<'_> {
    fn of(&mut self, number: GroupNumber) -> Result<Option<GroupName>, ReadError> {
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let name = record::<Group>(self.view, &keys::group(number))?.map(|group| group.name);
        self.known.insert(number, name.clone());
        Ok(name)
    }
}

fn by_hand(at_ms: u64, word: &'static str, who: &str, done: &str) -> TraceEvent {
    TraceEvent { who: who.to_owned(), ..event(at_ms, word, format!("{done} by {who}")) }
}

/// What a note tells: an attempt tells of its delivery, too.
fn of_note(names: &mut Names<'_>, note: &Note, events: &mut Vec<TraceEvent>) -> Result<(), ReadError> {
    let at_ms = note.at_ms;
    let told = match &note.happening {
        Happening::Removed { ending, by, .. } => removed(at_ms, *ending, by),
        Happening::Released { due_ms } => event(*due_ms, "SCHEDULED", "scheduled for this time"),
        Happening::Moved { from_ms, to_ms, by } => {
            let text = format!("moved from {} to {} by {by}", moment(*from_ms), moment(*to_ms));
            TraceEvent { who: by.clone(), ..event(at_ms, "MOVED", text) }
        }
        Happening::Checked { answer, client } => checked(at_ms, *answer, client),
        Happening::Parked => event(at_ms, "PARKED", "checks or time are used up: waits for a person"),
        Happening::Resumed { by } => by_hand(at_ms, "RESUMED", by, "checked again, ordered"),
        Happening::CheckOrdered { by } => by_hand(at_ms, "CHECK_ORDERED", by, "a check was ordered"),
        Happening::Decided { .. } => return Ok(()),
        Happening::Acked(group, tried) => {
            let group = names.of(*group)?;
            events.push(delivered(group.clone(), tried));
            let text = format!("attempt {} was acked by {}", tried.number, tried.client);
            TraceEvent {
                group,
                attempt: tried.number,
                who: tried.client.clone(),
                ..event(at_ms, "ACKED", text)
            }
        }
        Happening::Failed { group, tried, kind, error, due_ms } => {
            let group = names.of(*group)?;
            events.push(delivered(group.clone(), tried));
            let mut told = failed(at_ms, group, (tried.number, &tried.client), *kind, error);
            if *due_ms > 0 {
                let wait_ms = due_ms.saturating_sub(at_ms);
                told.text.push_str(&format!("; tried again {} later", DurationText(wait_ms)));
            }
            told
        }
        Happening::Died { group, offset, reason, error } => {
            died(at_ms, names.of(*group)?, *offset, *reason, error)
        }
        Happening::RunNow(group, by) => {
            TraceEvent { group: names.of(*group)?, ..by_hand(at_ms, "RUN_NOW", by, "made due at once") }
        }
        Happening::Redriven(group, by) => {
            TraceEvent { group: names.of(*group)?, ..by_hand(at_ms, "REDRIVEN", by, "sent again") }
        }
        Happening::Copied(group, copy, by) => {
            let told = by_hand(at_ms, "COPIED", by, &format!("sent again as message {copy}"));
            TraceEvent { group: names.of(*group)?, detail: copy.to_string(), ..told }
        }
        Happening::Discarded(group, by) => {
            let who = if by.is_empty() { "retention" } else { by };
            TraceEvent { group: names.of(*group)?, ..by_hand(at_ms, "DISCARDED", who, "given up for good") }
        }
    };
    events.push(told);
    Ok(())
}

fn removed(at_ms: u64, ending: Ending, by: &str) -> TraceEvent {
    let text = match ending {
        Ending::Finished => "removed: every group has finished it".to_owned(),
        Ending::RolledBack => "removed: rolled back, nobody has seen it".to_owned(),
        Ending::Dropped => {
            "removed: its topic was deleted, or nobody listened until its time was over".to_owned()
        }
        Ending::Cancelled => format!("removed: cancelled by {by} before its time"),
    };
    TraceEvent { who: by.to_owned(), detail: ending.as_str().to_owned(), ..event(at_ms, "REMOVED", text) }
}

fn checked(at_ms: u64, answer: CheckAnswer, client: &str) -> TraceEvent {
    let (word, text) = match answer {
        CheckAnswer::Unknown => ("UNKNOWN", format!("checker {client} answered: unknown")),
        CheckAnswer::TimedOut => ("TIMED_OUT", format!("checker {client} did not answer in time")),
        CheckAnswer::NoChecker => {
            ("NO_CHECKER", "a check was due, and no checker of its kind was connected".to_owned())
        }
    };
    TraceEvent { who: client.to_owned(), detail: word.to_owned(), ..event(at_ms, "CHECKED", text) }
}

/// A decision tells of the half message, too.
fn tell_decision(shard: ShardId, note: &Note, events: &mut Vec<TraceEvent>) {
    let Happening::Decided { committed, role, name, reason, created_at_ms, group, client } = &note.happening
    else {
        return;
    };
    events.push(made(&group.to_string(), &client.to_string(), *created_at_ms));
    if *role == Role::Check {
        let said = if *committed { "COMMIT" } else { "ROLLBACK" };
        let text = format!("checker {name} answered: {}", said.to_lowercase());
        let asked = event(note.at_ms, "CHECKED", text);
        events.push(TraceEvent { who: name.clone(), detail: said.to_owned(), ..asked });
    }
    let Subject::Transaction(number) = note.subject else { return };
    let id = TransactionId::new(shard, number);
    let decider = Decider { role: *role, name: name.clone(), reason: reason.clone(), at_ms: note.at_ms };
    events.push(decided(id, *committed, &decider));
}

fn delivered(group: Option<GroupName>, tried: &Tried) -> TraceEvent {
    let text = format!("attempt {} was delivered to {}", tried.number, tried.client);
    TraceEvent {
        group,
        attempt: tried.number,
        who: tried.client.clone(),
        ..event(tried.delivered_at_ms, "DELIVERED", text)
    }
}
