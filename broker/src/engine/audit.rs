//! The audit: every operation by a person that was carried out, in the batch that carried it out. Refused and rehearsed
//! ones changed nothing and are not in it. Append-only: an entry is never changed, and goes when it is old enough.

use std::fmt::Write as _;

use escrow_protocol::{MessageId, TransactionId};
use escrow_storage::{Key, KeyRange, Read, ReadError, Room};

use super::trouble::Step;
use super::turn::key_in;
use super::{Cancelled, Command, Engine, JobOrder, JobView, Moved, Now, Operator, Reply, Turn};
use crate::records::keys::{self, space};
use crate::records::{
    Alarm, AuditEntry, AuditVerb, DeadLetter, Decider, JobKind, LetterFilter, OrderingPolicy, Place,
    RetryPolicy, Standing, TopicSettings, TransactionState,
};
use crate::retry_spec::retry_spec;

/// Longest description of how something stood, bytes; a longer one is cut.
const STANDING_BYTES_MAX: usize = 1024;

/// Which entries there are. They are numbered without gaps, and the newest always stays, so that no number is used twice.
#[derive(Debug)]
pub(super) struct AuditLog {
    /// The oldest one kept,
    first: u64,
    /// and the next to be given.
    next: u64,
    /// When the oldest one was written, Unix milliseconds.
    oldest_at_ms: u64,
    keep_ms: u64,
    entries_max: u64,
}

impl AuditLog {
    pub(super) fn new(keep_ms: u64, entries_max: u64) -> Self {
        Self { first: 1, next: 1, oldest_at_ms: 0, keep_ms, entries_max }
    }

    fn give_number(&mut self, at_ms: u64) -> u64 {
        if self.first == self.next {
            self.oldest_at_ms = at_ms;
        }
        self.next += 1;
        self.next - 1
    }

    /// Unix milliseconds.
    pub(super) fn next_at(&self) -> Option<u64> {
        match self.next - self.first {
            0 | 1 => None,
            kept if kept > self.entries_max => Some(0),
            _ => Some(self.oldest_at_ms.saturating_add(self.keep_ms)),
        }
    }

    /// The oldest entry, if it is to go now.
    pub(super) fn pop_outdated(&self, now: Now) -> Option<u64> {
        self.next_at().filter(|at_ms| *at_ms <= now.unix_ms).map(|_| self.first)
    }
}

impl Command {
    /// What is written in the audit of it, and on what; `None` if it is only a rehearsal.
    pub fn audited(&self) -> Option<(AuditVerb, String)> {
        Some(match self {
            Self::Seek { dry_run: true, .. }
            | Self::Redrive { dry_run: true, .. }
            | Self::Discard { dry_run: true, .. }
            | Self::StartJob { dry_run: true, .. } => return None,
            Self::CreateTopic { name, .. } => (AuditVerb::TopicCreate, name.to_string()),
            Self::UpdateTopic { name, .. } => (AuditVerb::TopicUpdate, name.to_string()),
            Self::DeleteTopic { name, .. } => (AuditVerb::TopicDelete, name.to_string()),
            Self::CreateGroup { name, .. } => (AuditVerb::GroupCreate, name.to_string()),
            Self::UpdateGroup { name, .. } => (AuditVerb::GroupUpdate, name.to_string()),
            Self::DeleteGroup { name, .. } => (AuditVerb::GroupDelete, name.to_string()),
            Self::SetPaused { name, paused: true } => (AuditVerb::GroupPause, name.to_string()),
            Self::SetPaused { name, paused: false } => (AuditVerb::GroupResume, name.to_string()),
            Self::Seek { group, topic, .. } => (AuditVerb::GroupSeek, format!("{group} in {topic}")),
            Self::CheckNow(id) => (AuditVerb::TransactionCheck, id.to_string()),
            Self::Resume(id) => (AuditVerb::TransactionResume, id.to_string()),
            Self::CancelScheduled(id) => (AuditVerb::ScheduledCancel, id.to_string()),
            Self::MoveScheduled { id, .. } => (AuditVerb::ScheduledMove, id.to_string()),
            Self::RunRetry { group, id } => (AuditVerb::RetryRun, format!("{group}/{id}")),
            Self::GiveUpRetry { group, id } => (AuditVerb::RetryGiveUp, format!("{group}/{id}")),
            Self::Redrive { group, offset, edit: Some(_), .. } => {
                (AuditVerb::DeadLetterEdit, letter_name(group, *offset))
            }
            Self::Redrive { group, offset, .. } => {
                (AuditVerb::DeadLetterRedrive, letter_name(group, *offset))
            }
            Self::StartJob { kind: JobKind::Discard, group, .. } => {
                (AuditVerb::DeadLetterDiscard, group.to_string())
            }
            Self::StartJob { group, .. } => (AuditVerb::DeadLetterRedrive, group.to_string()),
            Self::OrderJob(number, JobOrder::Pause) => (AuditVerb::JobPause, number.to_string()),
            Self::OrderJob(number, JobOrder::Resume) => (AuditVerb::JobResume, number.to_string()),
            Self::OrderJob(number, JobOrder::Cancel) => (AuditVerb::JobCancel, number.to_string()),
            Self::AcknowledgeAlarm(number) => (AuditVerb::AlarmAck, number.to_string()),
            Self::Discard { group, offset, .. } => {
                (AuditVerb::DeadLetterDiscard, letter_name(group, *offset))
            }
            Self::Attest { verb, target, .. } => (*verb, target.clone()),
        })
    }
}

fn letter_name(group: &escrow_protocol::GroupName, offset: escrow_protocol::Offset) -> String {
    format!("{group}/{}", offset.0)
}

impl Engine {
    /// A person's order, and its entry in the audit if it was carried out.
    pub(super) fn by_hand(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        operator: Operator,
        command: Command,
    ) -> Step<Reply> {
        let Some((verb, target)) = command.audited() else {
            return self.command(now, turn, operator, command);
        };
        let ordered = command.clone();
        let before = self.standing_of(turn, &ordered);
        self.story.set_person(&operator.name);
        let done = self.command(now, turn, operator.clone(), command);
        self.story.set_person("");
        let reply = done?;
        let is_idle = matches!(
            reply,
            Reply::Cancelled(Cancelled::TooLate | Cancelled::NotKnown)
                | Reply::Moved(Moved::TooLate | Moved::NotKnown)
                | Reply::Alarm(_, false)
        );
        if is_idle {
            return Ok(reply);
        }
        let after = self.standing_after(turn, &ordered, &reply);
        let Operator { name, reason } = operator;
        self.audit(turn, AuditEntry { at_ms: now.unix_ms, name, reason, verb, target, before, after });
        Ok(reply)
    }

    /// A decision by a person.
    pub(super) fn audit_decision(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        id: TransactionId,
        (before, after): (TransactionState, TransactionState),
        decider: &Decider,
    ) {
        let verb = match after {
            TransactionState::Committed => AuditVerb::TransactionCommit,
            _ => AuditVerb::TransactionRollback,
        };
        let entry = AuditEntry {
            at_ms: now.unix_ms,
            name: decider.name.clone(),
            reason: decider.reason.clone(),
            verb,
            target: id.to_string(),
            before: before.as_str().to_owned(),
            after: after.as_str().to_owned(),
        };
        self.audit(turn, entry);
    }

    fn audit(&mut self, turn: &mut Turn<'_>, entry: AuditEntry) {
        turn.put(keys::audit(self.audit.give_number(entry.at_ms)), &entry);
    }

    /// How that stands which a command is about; empty: it is not there.
    fn standing_of(&self, turn: &Turn<'_>, command: &Command) -> String {
        let words = match command {
            Command::CreateTopic { name, .. }
            | Command::UpdateTopic { name, .. }
            | Command::DeleteTopic { name, .. } => {
                let number = self.topics.by_name.get(name);
                number.map(|number| words_of_topic(self.topics.known(*number).record.settings))
            }
            Command::CreateGroup { name, .. }
            | Command::UpdateGroup { name, .. }
            | Command::DeleteGroup { name, .. } => {
                self.groups.find(name.as_str()).ok().map(|number| self.words_of_group(number))
            }
            Command::SetPaused { name, .. } => self.groups.find(name.as_str()).ok().map(|number| {
                if self.groups.known(number).record.paused { "paused" } else { "running" }.to_owned()
            }),
            Command::Seek { group, topic, .. } => self.floor_of(group, topic),
            Command::CheckNow(id) | Command::Resume(id) => {
                let record = self.load_transaction(turn, id.number()).ok().flatten();
                record.map(|record| record.state.as_str().to_owned())
            }
            Command::RunRetry { group, id } | Command::GiveUpRetry { group, id } => {
                self.words_of_retrying(turn, group, *id)
            }
            Command::CancelScheduled(id) | Command::MoveScheduled { id, .. } => {
                let place: Option<Place> = turn.get(&keys::place(*id)).unwrap_or_default();
                place.and_then(|place| match place.standing {
                    Standing::Scheduled { due_ms } => Some(format!("due_at={}", moment(due_ms))),
                    _ => None,
                })
            }
            Command::StartJob { group, .. } => self.groups.find(group.as_str()).ok().map(|number| {
                let topic = self.groups.known(number).record.dead_letters;
                format!("dead_letters={}", self.topics.known(topic).tail.dead_letters)
            }),
            Command::OrderJob(number, _) => {
                let job = self.jobs.find(*number).ok();
                job.map(|job| format!("{} done={}", job.progress.state.as_str(), job.progress.done))
            }
            Command::Attest { .. } => None,
            Command::AcknowledgeAlarm(number) => {
                let alarm: Option<Alarm> = turn.get(&keys::alarm(*number)).unwrap_or_default();
                alarm.map(|alarm| words_of_alarm(&alarm))
            }
            Command::Redrive { group, offset, .. } | Command::Discard { group, offset, .. } => {
                let number = self.groups.find(group.as_str()).ok();
                let topic = number.map(|number| self.groups.known(number).record.dead_letters);
                let letter: Option<DeadLetter> =
                    topic.and_then(|topic| turn.get(&keys::dead_letter(topic, *offset)).unwrap_or_default());
                letter.map(|letter| format!("{} message={}", letter.reason.as_str(), letter.entry.id))
            }
        };
        cut(words.unwrap_or_default())
    }

    /// How it stands since; where the thing itself is gone, what became of it.
    fn standing_after(&self, turn: &Turn<'_>, command: &Command, reply: &Reply) -> String {
        match (command, reply) {
            (_, Reply::Copied { copy, topic, .. }) => format!("redriven to topic {topic} as message={copy}"),
            (Command::Redrive { to: None, group, .. }, _) => format!("redriven to group {group}"),
            (Command::Redrive { to: Some(topic), .. }, _) => format!("redriven to topic {topic}"),
            (Command::Discard { .. }, _) => "discarded".to_owned(),
            (Command::CancelScheduled(_), _) => "cancelled".to_owned(),
            (Command::GiveUpRetry { .. }, _) => "dead letter".to_owned(),
            (Command::Seek { .. }, Reply::Sought { to, replayed, skipped, .. }) => {
                format!("offset={} replayed={replayed} skipped={skipped}", to.0)
            }
            (Command::StartJob { .. }, Reply::Job(job)) => cut(words_of_job(job)),
            (Command::Attest { outcome, .. }, _) => cut(outcome.clone()),
            _ => self.standing_of(turn, command),
        }
    }

    fn words_of_retrying(
        &self,
        turn: &Turn<'_>,
        group: &escrow_protocol::GroupName,
        id: MessageId,
    ) -> Option<String> {
        let group = self.groups.known(self.groups.find(group.as_str()).ok()?);
        let places = self.places_of(turn, id).ok()?;
        let retrying = places.iter().find_map(|place| group.retries.get(place))?;
        Some(format!("due_at={} attempts_made={}", moment(retrying.due_at_ms), retrying.attempts_made))
    }

    fn floor_of(
        &self,
        group: &escrow_protocol::GroupName,
        topic: &escrow_protocol::TopicName,
    ) -> Option<String> {
        let number = self.groups.find(group.as_str()).ok()?;
        let topic = self.topics.find(topic.as_str()).ok()?;
        let position = self.groups.known(number).positions.get(&topic)?;
        Some(format!("offset={}", position.floor().0))
    }

    fn words_of_group(&self, number: crate::records::GroupNumber) -> String {
        let group = &self.groups.known(number).record;
        let settings = &group.settings;
        let mut words = format!(
            "{} ordering={} lease={} {} topics=",
            if group.paused { "paused" } else { "running" },
            words_of_ordering(settings.ordering),
            span(settings.lease_ms),
            words_of_retry(&settings.retry),
        );
        for (nth, subscription) in group.subscriptions.iter().enumerate() {
            if words.len() > STANDING_BYTES_MAX {
                break;
            }
            let name = self.topics.get(subscription.topic).map(|topic| &topic.record.name);
            let comma = if nth > 0 { "," } else { "" };
            let tags: Vec<_> = subscription.tags.iter().map(|tag| tag.as_str()).collect();
            let tags = if tags.is_empty() { String::new() } else { format!("[{}]", tags.join(" ")) };
            // Writing to a text cannot fail.
            let _ = write!(words, "{comma}{}{tags}", name.map_or("?", |name| name.as_str()));
        }
        words
    }

    /// Removes the oldest entry.
    pub(super) fn forget_operation(&mut self, turn: &mut Turn<'_>, number: u64) -> Step<()> {
        turn.delete(keys::audit(number));
        self.audit.first = number + 1;
        let next: Option<AuditEntry> = self.read_or_report(turn, &keys::audit(number + 1))?;
        // One that is damaged says no time: it goes with those around it.
        self.audit.oldest_at_ms = next.map_or(self.audit.oldest_at_ms, |entry| entry.at_ms);
        Ok(())
    }

    pub(super) fn recover_audit(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        let all = keys::all(space::AUDIT);
        let Some(first) = first_number(view, &all)? else { return Ok(()) };
        let last = last_number(view, &all)?.unwrap_or(first);
        (self.audit.first, self.audit.next) = (first, last + 1);
        let turn = Turn::new(view, Room::Enough);
        match turn.get::<AuditEntry>(&keys::audit(first)) {
            Ok(entry) => self.audit.oldest_at_ms = entry.map_or(0, |entry| entry.at_ms),
            Err(ReadError::Corrupt { fault, .. }) => self.report_damaged(&keys::audit(first), &fault),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The number of the first entry; a damaged one counts, for its key is whole.
fn first_number(view: &dyn Read, range: &KeyRange) -> Result<Option<u64>, ReadError> {
    match view.scan(range, 1) {
        Ok(found) => Ok(found.first().and_then(|(key, _)| keys::audit_of(key))),
        Err(ReadError::Corrupt { key, .. }) => Ok(keys::audit_of(&key_in(range, &key)?)),
        Err(error) => Err(error),
    }
}

/// The number of the last entry.
fn last_number(view: &dyn Read, range: &KeyRange) -> Result<Option<u64>, ReadError> {
    match view.scan_back(range, 1) {
        Ok(found) => Ok(found.first().and_then(|(key, _)| keys::audit_of(key))),
        Err(ReadError::Corrupt { key, .. }) => {
            let key = key_in(range, &key)?;
            let later = last_number(view, &KeyRange::new(Key::behind(&key), range.end.clone()))?;
            Ok(later.or_else(|| keys::audit_of(&key)))
        }
        Err(error) => Err(error),
    }
}

fn words_of_topic(settings: TopicSettings) -> String {
    let TopicSettings { keep_finished_ms, keep_finished_bytes } = settings;
    format!("keep_finished={} keep_finished_bytes={keep_finished_bytes}", span(keep_finished_ms))
}

fn words_of_alarm(alarm: &Alarm) -> String {
    let standing = match (&alarm.ack, alarm.is_resolved()) {
        (_, true) => "resolved".to_owned(),
        (Some(ack), false) => format!("acknowledged by {}", ack.name),
        (None, false) => "open".to_owned(),
    };
    format!("{standing} rule={} subject={}", alarm.rule.as_str(), alarm.subject)
}

fn words_of_job(job: &JobView) -> String {
    let plan = &job.plan;
    let mut words = format!("job={} of={} rate={}", job.number, plan.total, plan.rate);
    if let JobKind::RedriveTo(topic) = &plan.kind {
        let _ = write!(words, " to_topic={topic}");
    }
    words.push_str(&words_of_letters(&plan.filter));
    words
}

/// Which dead letters, each part behind a space.
pub(crate) fn words_of_letters(filter: &LetterFilter) -> String {
    let LetterFilter { offsets, reason, key, topic, from_ms, until_ms, error_contains } = filter;
    let mut words = String::new();
    let mut also = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(words, " {name}={value}");
        }
    };
    also("reason", reason.map(|reason| reason.as_str().to_owned()));
    also("key", key.clone());
    also("topic", topic.as_ref().map(ToString::to_string));
    also("from", Some(*from_ms).filter(|ms| *ms > 0).map(moment));
    also("until", Some(*until_ms).filter(|ms| *ms > 0).map(moment));
    also("error_contains", error_contains.clone());
    let listed: Vec<_> = offsets.iter().map(|offset| offset.0.to_string()).collect();
    also("offsets", Some(listed.join(",")).filter(|_| !offsets.is_empty()));
    words
}

fn words_of_ordering(policy: OrderingPolicy) -> &'static str {
    match policy {
        OrderingPolicy::Block => "block",
        OrderingPolicy::Skip => "skip",
        OrderingPolicy::DeadLetter => "dead-letter",
    }
}

fn words_of_retry(retry: &RetryPolicy) -> String {
    format!(
        "max_attempts={} immediate_attempts={} jitter_percent={} delays={}",
        retry.max_attempts,
        retry.immediate_attempts,
        retry.jitter_percent,
        retry_spec(&retry.delays)
    )
}

/// As all times for people are written; its number where it is beyond the calendar.
pub(crate) fn moment(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| unix_ms.to_string(), |time| format!("{time:.3}"))
}

fn span(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// Cut between characters.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(STANDING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
