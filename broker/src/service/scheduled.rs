//! Messages that wait for their time.

use escrow_protocol::limits::DELIVER_AHEAD_MS_MAX;
use escrow_protocol::{MessageId, TopicName};
use escrow_storage::{Key, KeyRange, Read, ReadError};

use super::transactions::Labels;
use super::{Operator, Page, Paged, Service, mismatch, same_key, unless_damaged};
use crate::dispatch::{decode, record};
use crate::engine::{Cancelled, Command, Moved, Refusal, Reply};
use crate::records::keys::space;
use crate::records::{Message, Place, Standing, Stub, keys};

/// A message that waits for its time.
#[derive(Debug, Clone)]
pub struct ScheduledView {
    /// The message.
    pub id: MessageId,
    /// Its topic; `None` if that is gone.
    pub topic: Option<TopicName>,
    /// Its business key.
    pub key: Option<String>,
    /// Its time, Unix milliseconds.
    pub due_ms: u64,
}

/// Which scheduled messages. What is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduledMatching {
    /// Of this topic.
    pub topic: Option<TopicName>,
    /// With this business key.
    pub key: Option<String>,
}

impl ScheduledMatching {
    fn admits(&self, view: &ScheduledView) -> bool {
        self.topic.as_ref().is_none_or(|topic| view.topic.as_ref() == Some(topic))
            && self.key.as_ref().is_none_or(|key| view.key.as_ref() == Some(key))
    }
}

/// Messages that one page of a filtered list looks at, at most.
const EXAMINED_MAX: usize = 5_000;
/// Messages read at a time.
const CHUNK: usize = 250;

impl Service {
    /// What waits for its time, the next one first. By key through the index of keys; by topic a page looks at some thousands
    /// and may be short.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn scheduled(
        &self,
        matching: ScheduledMatching,
        page: Page,
    ) -> Result<Paged<ScheduledView>, Refusal> {
        let after = page.after(parse_cursor)?;
        self.read(move |view| {
            if let Some(key) = &matching.key
                && let Some(found) = with_key(view, key, &matching)?
            {
                return Ok(Paged::of_all(found, place_of, after, page.limit, cursor_of));
            }
            list(view, &matching, after, page.limit)
        })
        .await
    }

    /// Withdraws a scheduled message.
    ///
    /// # Errors
    /// If the broker is overloaded or stopping.
    pub async fn cancel_scheduled(&self, id: MessageId, operator: Operator) -> Result<Cancelled, Refusal> {
        tracing::info!(message_id = %id, operator = operator.logged_name(), reason = operator.logged_reason(), "scheduled message cancelled by hand");
        match self.command(operator, Command::CancelScheduled(id)).await? {
            Reply::Cancelled(outcome) => Ok(outcome),
            _ => Err(mismatch()),
        }
    }
}

impl Service {
    /// Gives a scheduled message another time.
    ///
    /// # Errors
    /// `InvalidField` for a time more than a year ahead.
    pub async fn move_scheduled(
        &self,
        id: MessageId,
        deliver_at_ms: u64,
        operator: Operator,
    ) -> Result<Moved, Refusal> {
        let latest_ms = self.parts.clock.now().unix_ms + DELIVER_AHEAD_MS_MAX;
        if deliver_at_ms > latest_ms {
            let fault = "it is more than 366 days ahead; choose an earlier time";
            return Err(Refusal::invalid("deliver_at_ms", fault).with("limit", latest_ms));
        }
        tracing::info!(message_id = %id, deliver_at_ms, operator = operator.logged_name(), reason = operator.logged_reason(), "scheduled message moved by hand");
        match self.command(operator, Command::MoveScheduled { id, deliver_at_ms }).await? {
            Reply::Moved(outcome) => Ok(outcome),
            _ => Err(mismatch()),
        }
    }
}

/// Where it stands in the list.
fn place_of(item: &ScheduledView) -> (u64, MessageId) {
    (item.due_ms, item.id)
}

fn cursor_of((due_ms, id): (u64, MessageId)) -> String {
    format!("{due_ms}.{id}")
}

fn parse_cursor(cursor: &str) -> Option<(u64, MessageId)> {
    let (due, id) = cursor.split_once('.')?;
    Some((due.parse().ok()?, id.parse().ok()?))
}

fn list(
    view: &dyn Read,
    matching: &ScheduledMatching,
    after: Option<(u64, MessageId)>,
    limit: usize,
) -> Result<Paged<ScheduledView>, ReadError> {
    let hash = matching.key.as_deref().map(keys::hash_of);
    let mut range = keys::all(space::SCHEDULED);
    if let Some((due, id)) = after {
        range = KeyRange::new(Key::behind(&keys::scheduled(due, id)), range.end);
    }
    let mut labels = Labels::new(view);
    let (mut items, mut examined) = (Vec::new(), 0);
    loop {
        // A page at first: only where most do not match, more at once are worth it.
        let chunk = if examined == 0 { limit.min(CHUNK) } else { CHUNK };
        let entries = view.scan(&range, chunk)?;
        let is_last = entries.len() < chunk;
        for (key, value) in entries {
            let Some((due_ms, id)) = keys::scheduled_of(&key) else { continue };
            examined += 1;
            let stub: Stub = decode(&key, value)?;
            // What cannot match is not read.
            let is_possible = hash.is_none_or(|hash| stub.key_hash == Some(hash))
                && (matching.topic.is_none() || labels.topic(stub.topic)? == matching.topic);
            if is_possible {
                let found = view_of(view, &mut labels, &stub, (due_ms, id))?;
                items.extend(Some(found).filter(|found| matching.admits(found)));
            }
            if items.len() == limit || examined == EXAMINED_MAX {
                return Ok(Paged { items, next: Some(cursor_of((due_ms, id))) });
            }
            range = KeyRange::new(Key::behind(&key), range.end.clone());
        }
        if is_last {
            return Ok(Paged { items, next: None });
        }
    }
}

fn view_of(
    view: &dyn Read,
    labels: &mut Labels<'_>,
    stub: &Stub,
    (due_ms, id): (u64, MessageId),
) -> Result<ScheduledView, ReadError> {
    let message = match stub.key_hash {
        // Damaged, it is shown without its key: it must not hide all the others.
        Some(_) => unless_damaged(record::<Message>(view, &keys::message(id)))?,
        None => None,
    };
    let topic = labels.topic(stub.topic)?;
    Ok(ScheduledView { id, topic, key: message.and_then(|message| message.key), due_ms })
}

/// All with this key; `None` if so many messages share it that the index is no help.
fn with_key(
    view: &dyn Read,
    key: &str,
    matching: &ScheduledMatching,
) -> Result<Option<Vec<ScheduledView>>, ReadError> {
    let Some(messages) = same_key::messages(view, key)? else { return Ok(None) };
    let mut labels = Labels::new(view);
    let mut found = Vec::new();
    for id in messages {
        let place = unless_damaged(record::<Place>(view, &keys::place(id)))?;
        let Some(Standing::Scheduled { due_ms }) = place.map(|place| place.standing) else { continue };
        let Some(stub) = record::<Stub>(view, &keys::scheduled(due_ms, id))? else { continue };
        let one = view_of(view, &mut labels, &stub, (due_ms, id))?;
        found.extend(Some(one).filter(|one| matching.admits(one)));
    }
    Ok(Some(found))
}
