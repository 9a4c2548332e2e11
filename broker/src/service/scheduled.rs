//! Messages that wait for their time.

use escrow_protocol::limits::DELIVER_AHEAD_MS_MAX;
use escrow_protocol::{MessageId, TopicName};
use escrow_storage::{KeyRange, Read, ReadError};

use super::transactions::Labels;
use super::{Operator, Page, Paged, Service, mismatch};
use crate::dispatch::{decode, record};
use crate::engine::{Cancelled, Command, Moved, Refusal, Reply};
use crate::records::keys::space;
use crate::records::{Message, Stub, keys};

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

impl Service {
    /// What waits for its time, the next one first.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn scheduled(&self, page: Page) -> Result<Paged<ScheduledView>, Refusal> {
        let after = page.after(parse_cursor)?;
        self.read(move |view| list(view, after, page.limit)).await
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

fn cursor_of(item: &ScheduledView) -> String {
    format!("{}.{}", item.due_ms, item.id)
}

fn parse_cursor(cursor: &str) -> Option<(u64, MessageId)> {
    let (due, id) = cursor.split_once('.')?;
    Some((due.parse().ok()?, id.parse().ok()?))
}

fn list(
    view: &dyn Read,
    after: Option<(u64, MessageId)>,
    limit: usize,
) -> Result<Paged<ScheduledView>, ReadError> {
    let mut range = keys::all(space::SCHEDULED);
    if let Some((due, id)) = after {
        // The smallest key behind that one.
        let mut start = keys::scheduled(due, id).to_vec();
        start.push(0);
        range = KeyRange::new(start, range.end);
    }
    let mut labels = Labels::new(view);
    let mut items = Vec::new();
    for (key, value) in view.scan(&range, limit)? {
        let Some((due_ms, id)) = keys::scheduled_of(&key) else { continue };
        let stub: Stub = decode(&key, value)?;
        let message = match stub.key_hash {
            Some(_) => record::<Message>(view, &keys::message(id))?,
            None => None,
        };
        let topic = labels.topic(stub.topic)?;
        items.push(ScheduledView { id, topic, key: message.and_then(|message| message.key), due_ms });
    }
    Ok(Paged::of(items, limit, cursor_of))
}
