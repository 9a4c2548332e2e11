//! Messages: by id, and by business key.

use escrow_protocol::{MessageId, Reason};
use escrow_storage::{KeyRange, Read, ReadError};

use super::stories::Bookmark;
use super::transactions::Labels;
use super::{GoneMessage, Page, Paged, Service, Traced};
use crate::dispatch::record;
use crate::engine::Refusal;
use crate::records::{Message, Place, Standing, Subject, keys};

/// A message and where it is.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// Of its body, also where that is left out.
    pub body_bytes: u64,
    /// Where it is.
    pub place: Place,
    /// The name of the topic it is queued in; `None`: not queued, or the topic is gone.
    pub topic: Option<escrow_protocol::TopicName>,
}

impl Service {
    /// The message with this id.
    ///
    /// # Errors
    /// `UnknownMessage`; `Damaged`.
    pub async fn message(&self, id: MessageId) -> Result<StoredMessage, Refusal> {
        let found = self.read(move |view| stored(view, &mut Labels::new(view), id)).await?;
        found.ok_or_else(|| unknown(id))
    }

    /// The messages with this business key: those that are stored, newest first, without their bodies; then those that
    /// are gone and still told of, the last to go first.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn find_messages(&self, key: String, page: Page) -> Result<Paged<Traced>, Refusal> {
        let place = page.after(|cursor| match Bookmark::parse(cursor) {
            Some(bookmark) => Some(Search::Gone(bookmark)),
            None => cursor.parse().ok().map(Search::Stored),
        })?;
        let before = match place {
            Some(Search::Gone(bookmark)) => return self.gone_messages(key, Some(bookmark), page.limit).await,
            Some(Search::Stored(before)) => Some(before),
            None => None,
        };
        let (wanted, limit) = (key.clone(), page.limit);
        let stored = self.read(move |view| find(view, &wanted, before, limit)).await?;
        let mut items: Vec<_> =
            stored.items.into_iter().map(|stored| Traced::Stored(Box::new(stored))).collect();
        if stored.next.is_some() {
            return Ok(Paged { items, next: stored.next });
        }
        let gone = self.gone_messages(key, None, limit - items.len()).await?;
        items.extend(gone.items);
        Ok(Paged { items, next: gone.next })
    }

    async fn gone_messages(
        &self,
        key: String,
        before: Option<Bookmark>,
        limit: usize,
    ) -> Result<Paged<Traced>, Refusal> {
        let subjects = vec![Subject::Key(keys::hash_of(&key))];
        let (notes, next) = self.notes_before(subjects, before, limit).await?;
        let items = self.read(move |view| {
            let mut labels = Labels::new(view);
            let mut items = Vec::with_capacity(notes.len());
            for note in &notes {
                let gone = GoneMessage::of(&mut labels, note)?;
                items.extend(gone.map(|gone| Traced::Gone(GoneMessage { key: Some(key.clone()), ..gone })));
            }
            Ok(items)
        });
        Ok(Paged { items: items.await?, next: next.map(Bookmark::cursor) })
    }
}

/// Where a search by business key goes on.
enum Search {
    /// Among the stored ones, before this id.
    Stored(MessageId),
    /// Among those that are gone.
    Gone(Bookmark),
}

/// The refusal for a message that is not there.
pub(super) fn unknown(id: MessageId) -> Refusal {
    Refusal::new(
        Reason::UnknownMessage,
        format!("message {id} is not stored: it never was, was rolled back, or every group has finished it"),
    )
}

pub(super) fn stored(
    view: &dyn Read,
    labels: &mut Labels<'_>,
    id: MessageId,
) -> Result<Option<StoredMessage>, ReadError> {
    let (Some(message), Some(place)) =
        (record::<Message>(view, &keys::message(id))?, record::<Place>(view, &keys::place(id))?)
    else {
        return Ok(None);
    };
    let topic = match place.standing {
        Standing::Queued { topic, .. } => labels.topic(topic)?,
        Standing::Undecided | Standing::Scheduled { .. } => None,
    };
    let body_bytes = message.body.len() as u64;
    Ok(Some(StoredMessage { message, body_bytes, place, topic }))
}

/// Ids of one key ascend with the time they were made, so the index read backwards is newest first.
fn find(
    view: &dyn Read,
    key: &str,
    before: Option<MessageId>,
    limit: usize,
) -> Result<Paged<StoredMessage>, ReadError> {
    let hash = keys::hash_of(key);
    let mut range = keys::business_key_range(hash);
    if let Some(before) = before {
        range = KeyRange::new(range.start, keys::business_key(hash, before));
    }
    let mut labels = Labels::new(view);
    let mut items = Vec::new();
    let entries = view.scan_back(&range, limit)?;
    let more = entries.len() == limit;
    let mut last = None;
    for (index_key, _) in entries {
        let Some((_, id)) = keys::business_key_of(&index_key) else { continue };
        last = Some(id);
        let Some(mut found) = stored(view, &mut labels, id)? else { continue };
        // A page of bodies could be more than memory holds.
        found.message.body = bytes::Bytes::new();
        // The index files by hash: the key itself decides. Where hashes meet, a page is short and has a next.
        if found.message.key.as_deref() == Some(key) {
            items.push(found);
        }
    }
    Ok(Paged { items, next: last.filter(|_| more).map(|id| id.to_string()) })
}
