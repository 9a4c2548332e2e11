//! Messages that wait for their next attempt.

use escrow_protocol::{GroupName, MessageId, Offset, TopicName};
use escrow_storage::{Read, ReadError};

use super::pages::{TURNS_MAX, parse_pair};
use super::transactions::{KEY_BODY_BYTES_MAX, Labels};
use super::{Operator, Page, Paged, Service, mismatch, same_key, unless_damaged};
use crate::dispatch::record;
use crate::engine::{Command, DuePlace, Inspect, Refusal, RetryFilter, Seen};
use crate::records::{GroupNumber, Message, Place, Retry, Standing, TopicNumber, keys};

/// A message that waits for its next attempt.
#[derive(Debug, Clone)]
pub struct RetryView {
    /// The group.
    pub group: GroupName,
    /// The topic; `None` if that is gone.
    pub topic: Option<TopicName>,
    /// Its place there.
    pub offset: Offset,
    /// As the records name it.
    place: (TopicNumber, Offset),
    /// Its record.
    pub record: Retry,
    /// Its business key; not read where that would mean to read a large body.
    pub key: Option<String>,
    /// Attempts that the group's policy allows.
    pub max_attempts: u32,
}

/// Which retries of a group. What is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryMatching {
    /// Of this topic.
    pub topic: Option<TopicName>,
    /// Whose next attempt is at least this one; 0: any.
    pub attempt_min: u32,
    /// With this business key.
    pub key: Option<String>,
}

/// For each message, whether what was ordered could be done.
pub type RetryResults = Vec<(MessageId, Result<(), Refusal>)>;

impl Service {
    /// What a group will try again, the soonest first; what a consumer has at this moment comes before what waits. By key
    /// through the index of keys; by topic and attempt a page looks at some thousands and may be short.
    ///
    /// # Errors
    /// `UnknownGroup`; `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn retries(
        &self,
        group: GroupName,
        matching: RetryMatching,
        page: Page,
    ) -> Result<Paged<RetryView>, Refusal> {
        let after = page.after(parse_due)?;
        let max_attempts = self.group(group.clone()).await?.settings.retry.max_attempts;
        if let Some(key) = matching.key.clone()
            && let Some(found) = self.retries_by_key(&group, key, &matching, max_attempts).await?
        {
            return Ok(Paged::of_all(found, due_of, after, page.limit, due_cursor));
        }
        let (number, due, next) = self.due_places(&group, &matching, after, page.limit).await?;
        self.read(move |view| {
            let mut labels = Labels::new(view);
            let mut items = Vec::with_capacity(due.len());
            for (_, place) in due {
                // Gone since the engine was asked: it is settled.
                let Some(found) = retry(view, &mut labels, (&group, number), place, max_attempts)? else {
                    continue;
                };
                // The hash led here; the body is read, however large, to be certain.
                let is_meant = match &matching.key {
                    Some(key) => key_of(view, found.record.entry.id)?.as_ref() == Some(key),
                    None => true,
                };
                items.extend(is_meant.then_some(found));
            }
            Ok(Paged { items, next: next.map(due_cursor) })
        })
        .await
    }

    async fn due_places(
        &self,
        group: &GroupName,
        matching: &RetryMatching,
        mut after: Option<DuePlace>,
        limit: usize,
    ) -> Result<(GroupNumber, Vec<DuePlace>, Option<DuePlace>), Refusal> {
        let filter = RetryFilter {
            topic: matching.topic.clone(),
            attempt_min: matching.attempt_min,
            key_hash: matching.key.as_deref().map(keys::hash_of),
        };
        let mut due = Vec::new();
        let mut turns = 0;
        loop {
            let (group, filter) = (group.clone(), filter.clone());
            let question = Inspect::Retries { group, after, filter, limit: limit - due.len() };
            let Seen::Retries(number, found, next) = self.see(question).await? else {
                return Err(mismatch());
            };
            due.extend(found);
            after = next;
            turns += 1;
            if next.is_none() || due.len() >= limit || turns == TURNS_MAX {
                return Ok((number, due, after));
            }
        }
    }

    /// All with this key; `None` if so many messages share it that the index is no help.
    async fn retries_by_key(
        &self,
        group: &GroupName,
        key: String,
        matching: &RetryMatching,
        max_attempts: u32,
    ) -> Result<Option<Vec<RetryView>>, Refusal> {
        let (number, ..) = self.due_places(group, &RetryMatching::default(), None, 0).await?;
        let (group, matching) = (group.clone(), matching.clone());
        self.read(move |view| {
            let Some(messages) = same_key::messages(view, &key)? else { return Ok(None) };
            let mut labels = Labels::new(view);
            let mut found = Vec::new();
            for id in messages {
                let place = unless_damaged(record::<Place>(view, &keys::place(id)))?;
                let Some(Standing::Queued { topic, offset, .. }) = place.map(|place| place.standing) else {
                    continue;
                };
                let one = retry(view, &mut labels, (&group, number), (topic, offset), max_attempts)?;
                let Some(one) = one.filter(|one| matching.admits(one)) else { continue };
                if key_of(view, id)?.as_ref() == Some(&key) {
                    found.push(one);
                }
            }
            Ok(Some(found))
        })
        .await
    }
}

impl RetryMatching {
    fn admits(&self, retry: &RetryView) -> bool {
        self.topic.as_ref().is_none_or(|topic| retry.topic.as_ref() == Some(topic))
            && retry.record.attempts_made.saturating_add(1) >= self.attempt_min
    }
}

fn retry(
    view: &dyn Read,
    labels: &mut Labels<'_>,
    (group, number): (&GroupName, GroupNumber),
    (topic, offset): (TopicNumber, Offset),
    max_attempts: u32,
) -> Result<Option<RetryView>, ReadError> {
    let Some(found) = record::<Retry>(view, &keys::retry(topic, offset, number))? else { return Ok(None) };
    let (place, name) = ((topic, offset), labels.topic(topic)?);
    let key = match found.entry.key_hash.filter(|_| found.entry.body_bytes <= KEY_BODY_BYTES_MAX) {
        Some(_) => key_of(view, found.entry.id)?,
        None => None,
    };
    Ok(Some(RetryView { group: group.clone(), topic: name, place, offset, record: found, key, max_attempts }))
}

/// The record of a retry has a hash of it: the message says what it is.
fn key_of(view: &dyn Read, id: MessageId) -> Result<Option<String>, ReadError> {
    Ok(unless_damaged(record::<Message>(view, &keys::message(id)))?.and_then(|message| message.key))
}

fn due_of(retry: &RetryView) -> DuePlace {
    (retry.record.due_at_ms, retry.place)
}

impl Service {
    /// Has retries tried at once: for each message, whether that could be.
    ///
    /// # Errors
    /// `UnknownGroup`. For single messages `UnknownRetry`; `InUse` while a consumer has it.
    pub async fn run_retries(
        &self,
        group: GroupName,
        ids: Vec<MessageId>,
        operator: Operator,
    ) -> Result<RetryResults, Refusal> {
        tracing::info!(%group, messages = ids.len(), operator = operator.logged_name(), reason = operator.logged_reason(), "retries run by hand");
        self.each_retry(&group, ids, &operator, |group, id| Command::RunRetry { group, id }).await
    }

    /// Moves retries to the dead letters: for each message, whether that could be.
    ///
    /// # Errors
    /// `UnknownGroup`. For single messages `UnknownRetry`; `InUse` while a consumer has it.
    pub async fn give_up_retries(
        &self,
        group: GroupName,
        ids: Vec<MessageId>,
        operator: Operator,
    ) -> Result<RetryResults, Refusal> {
        tracing::info!(%group, messages = ids.len(), operator = operator.logged_name(), reason = operator.logged_reason(), "retries given up by hand");
        self.each_retry(&group, ids, &operator, |group, id| Command::GiveUpRetry { group, id }).await
    }

    async fn each_retry(
        &self,
        group: &GroupName,
        ids: Vec<MessageId>,
        operator: &Operator,
        order: impl Fn(GroupName, MessageId) -> Command,
    ) -> Result<RetryResults, Refusal> {
        // Refused as a whole, not message by message.
        self.group(group.clone()).await?;
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let done = self.command(operator.clone(), order(group.clone(), id)).await;
            results.push((id, done.map(|_| ())));
        }
        Ok(results)
    }
}

fn due_cursor((due, (topic, offset)): DuePlace) -> String {
    format!("{due}.{}.{offset}", topic.0)
}

/// When it is due, a topic and an offset as a cursor.
fn parse_due(cursor: &str) -> Option<(u64, (TopicNumber, Offset))> {
    let (due, place) = cursor.split_once('.')?;
    Some((due.parse().ok()?, parse_place(place)?))
}

/// A topic and an offset as a cursor.
pub(super) fn parse_place(cursor: &str) -> Option<(TopicNumber, Offset)> {
    let (topic, offset) = parse_pair(cursor)?;
    Some((TopicNumber(u32::try_from(topic).ok()?), Offset(offset)))
}
