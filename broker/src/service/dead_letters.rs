//! Dead letters: found and shown. Sending many again, or giving them up, is a job.

use escrow_protocol::{GroupName, MessageId, Offset, Reason, TopicName};
use escrow_storage::{KeyRange, Read, ReadError};

use super::pages::pair_cursor;
use super::retries::parse_place;
use super::{Operator, Page, Paged, Service, dead_letters_by_key, mismatch, unless_damaged};
use crate::dispatch::{decode, record};
use crate::engine::{Command, Inspect, MessageEdit, Refusal, Reply, Seen};
use crate::records::keys::space;
use crate::records::{
    DeadLetter, DeadPlace, Facets, Group, LetterFilter, Message, Place, Standing, TopicNumber, keys,
};

/// Records that one page of a filtered list looks at, at most: a page may be short and still have a next.
const EXAMINED_MAX: usize = 5_000;
/// Groups that one message may have died in and that are looked at, at most.
const GROUPS_MAX: usize = 1_000;
/// Records read at a time.
const CHUNK: usize = 250;
/// Bodies that one page reads to show keys and headers: dead letters are listed without bodies, but a message is one record.
const PAGE_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Of this group; `None`: of all.
    pub group: Option<GroupName>,
    /// Of this message.
    pub message: Option<MessageId>,
    /// Which of them.
    pub letters: LetterFilter,
}

impl DeadLetterFilter {
    /// Whether it leaves nothing out.
    pub fn is_of_all(&self) -> bool {
        self.message.is_none() && self.letters == LetterFilter::default()
    }
}

/// A dead letter with its message.
#[derive(Debug, Clone)]
pub struct DeadLetterView {
    /// Its dead-letter topic.
    pub topic: TopicNumber,
    /// Its place there.
    pub offset: Offset,
    /// Its record.
    pub record: DeadLetter,
    /// Its message; `None` if that cannot be read.
    pub message: Option<Message>,
    /// Of its body, also where that is left out; 0 if it cannot be read.
    pub body_bytes: u64,
}

impl DeadLetterView {
    fn new((topic, offset): (TopicNumber, Offset), record: DeadLetter, message: Option<Message>) -> Self {
        let body_bytes = message.as_ref().map_or(0, |message| message.body.len() as u64);
        Self { topic, offset, record, message, body_bytes }
    }
}

impl Service {
    /// A page of dead letters, oldest first. Their bodies are left out.
    ///
    /// # Errors
    /// `UnknownGroup`; `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        page: Page,
    ) -> Result<Paged<DeadLetterView>, Refusal> {
        if filter.letters.offsets.is_empty() && (filter.message.is_some() || filter.letters.key.is_some()) {
            return self.letters_of_messages(filter, page).await;
        }
        let after = page.after(parse_place)?;
        let topic = match &filter.group {
            Some(group) => Some(self.group(group.clone()).await?.dead_letter_topic),
            None => None,
        };
        if let (Some(topic), false) = (topic, filter.letters.offsets.is_empty()) {
            return self.read(move |view| exactly(view, topic, &filter)).await;
        }
        self.read(move |view| list(view, topic, &filter, after, page.limit)).await
    }

    /// Those of a message, or of a business key: found through the message, the newest first, not by reading all.
    async fn letters_of_messages(
        &self,
        filter: DeadLetterFilter,
        page: Page,
    ) -> Result<Paged<DeadLetterView>, Refusal> {
        let topic = match &filter.group {
            Some(group) => Some(self.group(group.clone()).await?.dead_letter_topic),
            None => None,
        };
        let before = page.after(|cursor| cursor.parse::<MessageId>().ok())?;
        self.read(move |view| of_messages(view, topic, &filter, before, page.limit)).await
    }

    /// A group's dead letters by what they died of and where they came from: counted, not read.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub async fn dead_letter_facets(&self, group: GroupName) -> Result<Facets, Refusal> {
        match self.see(Inspect::Facets(group)).await? {
            Seen::Facets(facets) => Ok(facets),
            _ => Err(mismatch()),
        }
    }

    /// The filter for a job: a message is named by its dead letters.
    ///
    /// # Errors
    /// `UnknownDeadLetter` if the message has none in that group.
    pub async fn filter_of_job(&self, filter: DeadLetterFilter) -> Result<LetterFilter, Refusal> {
        let Some(message) = filter.message.filter(|_| filter.letters.offsets.is_empty()) else {
            return Ok(filter.letters);
        };
        let letters = filter.letters.clone();
        let found = self.dead_letters(filter, Page::default()).await?.items;
        if found.is_empty() {
            let text = format!("message {message} has no dead letter that matches");
            return Err(Refusal::new(Reason::UnknownDeadLetter, text).with("message_id", message));
        }
        Ok(LetterFilter { offsets: found.iter().map(|letter| letter.offset).collect(), ..letters })
    }

    /// One dead letter, with its body.
    ///
    /// # Errors
    /// `UnknownGroup`, `UnknownDeadLetter`; `Damaged`.
    pub async fn dead_letter(&self, group: GroupName, offset: Offset) -> Result<DeadLetterView, Refusal> {
        let topic = self.group(group.clone()).await?.dead_letter_topic;
        let found = self.read(move |view| view_of(view, topic, offset)).await?;
        found.ok_or_else(|| absent(&group, offset))
    }

    /// Sends a dead letter again as a new message that is otherwise: its id, and the topic it goes to.
    ///
    /// # Errors
    /// `UnknownGroup`, `UnknownDeadLetter`; `UnknownTopic`, `ReservedTopic`; `DiskFull`.
    pub async fn edit_dead_letter(
        &self,
        (group, offset): (GroupName, Offset),
        to: Option<TopicName>,
        edit: MessageEdit,
        dry_run: bool,
        operator: Operator,
    ) -> Result<(MessageId, TopicName), Refusal> {
        tracing::info!(%group, offset = offset.0, dry_run, operator = operator.logged_name(), reason = operator.logged_reason(), "dead letter edited and sent again by hand");
        let command = Command::Redrive { group, offset, to, edit: Some(edit), dry_run };
        match self.command(operator, command).await? {
            Reply::Copied { copy, topic, .. } => Ok((copy, topic)),
            _ => Err(mismatch()),
        }
    }
}

/// The dead letters of messages, message by message, the newest first.
fn of_messages(
    view: &dyn Read,
    topic: Option<TopicNumber>,
    filter: &DeadLetterFilter,
    before: Option<MessageId>,
    limit: usize,
) -> Result<Paged<DeadLetterView>, ReadError> {
    let ids = match (filter.message, &filter.letters.key) {
        (Some(id), _) => vec![id],
        (None, Some(key)) => {
            let hash = keys::hash_of(key);
            let all = keys::business_key_range(hash);
            let range = match before {
                Some(before) => KeyRange::new(all.start, keys::business_key(hash, before)),
                None => all,
            };
            let found = view.scan_back(&range, EXAMINED_MAX)?;
            found.iter().filter_map(|(key, _)| keys::business_key_of(key)).map(|(_, id)| id).collect()
        }
        (None, None) => Vec::new(),
    };
    let mut items = Vec::new();
    let mut examined = 0;
    for id in &ids {
        examined += 1;
        for (topic_of_letter, offset) in letters_of(view, *id)? {
            if topic.is_some_and(|topic| topic != topic_of_letter) {
                continue;
            }
            let Some(found) = view_of(view, topic_of_letter, offset)? else { continue };
            let is_meant =
                filter.letters.admits(&found.record) && filter.letters.admits_message(found.message.as_ref());
            items.extend(is_meant.then(|| without_body(found)));
        }
        if items.len() >= limit {
            break;
        }
    }
    let more = filter.message.is_none() && (examined < ids.len() || examined == EXAMINED_MAX);
    let last = ids.get(examined.wrapping_sub(1)).filter(|_| more);
    Ok(Paged { items, next: last.map(ToString::to_string) })
}

/// Where the dead letters of a message are, one for each group it died in.
fn letters_of(view: &dyn Read, id: MessageId) -> Result<Vec<(TopicNumber, Offset)>, ReadError> {
    let place = unless_damaged(record::<Place>(view, &keys::place(id)))?;
    let Some(Standing::Queued { topic, offset, .. }) = place.map(|place| place.standing) else {
        return Ok(Vec::new());
    };
    let mut letters = Vec::new();
    for (key, value) in view.scan(&keys::dead_place_range(topic, offset, offset.next()), GROUPS_MAX)? {
        let Some((_, _, number)) = keys::held_of(&key) else { continue };
        let place: DeadPlace = decode(&key, value)?;
        let group = record::<Group>(view, &keys::group(number))?;
        letters.extend(group.map(|group| (group.dead_letters, place.offset)));
    }
    Ok(letters)
}

fn absent(group: &GroupName, offset: Offset) -> Refusal {
    Refusal::new(
        Reason::UnknownDeadLetter,
        format!(
            "group {group} has no such dead letter at offset {offset}: redriven, discarded, or never there"
        ),
    )
}

fn view_of(view: &dyn Read, topic: TopicNumber, offset: Offset) -> Result<Option<DeadLetterView>, ReadError> {
    let Some(found) = record::<DeadLetter>(view, &keys::dead_letter(topic, offset))? else { return Ok(None) };
    // A message that cannot be read is why it may be here: the rest is shown all the same.
    let message = unless_damaged(record::<Message>(view, &keys::message(found.entry.id)))?;
    Ok(Some(DeadLetterView::new((topic, offset), found, message)))
}

fn without_body(mut view: DeadLetterView) -> DeadLetterView {
    if let Some(message) = &mut view.message {
        message.body = bytes::Bytes::new();
    }
    view
}

fn exactly(
    view: &dyn Read,
    topic: TopicNumber,
    filter: &DeadLetterFilter,
) -> Result<Paged<DeadLetterView>, ReadError> {
    let mut items = Vec::new();
    for offset in &filter.letters.offsets {
        let Some(found) = view_of(view, topic, *offset)? else { continue };
        if filter.letters.admits(&found.record) && filter.letters.admits_message(found.message.as_ref()) {
            items.push(without_body(found));
        }
    }
    Ok(Paged { items, next: None })
}

/// Of the dead letters at these places, a page of those that match.
fn at_places(
    view: &dyn Read,
    places: impl Iterator<Item = (TopicNumber, Offset)>,
    filter: &DeadLetterFilter,
    limit: usize,
) -> Result<Paged<DeadLetterView>, ReadError> {
    let mut items = Vec::new();
    for (topic, offset) in places {
        let Some(found) = view_of(view, topic, offset)? else { continue };
        if filter.letters.admits(&found.record) && filter.letters.admits_message(found.message.as_ref()) {
            items.push(without_body(found));
        }
        if items.len() == limit {
            break;
        }
    }
    Ok(Paged::of(items, limit, |found| pair_cursor(found.topic.0.into(), found.offset.0)))
}

fn list(
    view: &dyn Read,
    topic: Option<TopicNumber>,
    filter: &DeadLetterFilter,
    after: Option<(TopicNumber, Offset)>,
    limit: usize,
) -> Result<Paged<DeadLetterView>, ReadError> {
    let places = match &filter.letters.key {
        Some(key) => dead_letters_by_key::places(view, key)?,
        None => None,
    };
    if let Some(places) = places {
        let wanted = |place: &(TopicNumber, Offset)| {
            after.is_none_or(|after| *place > after) && topic.is_none_or(|topic| place.0 == topic)
        };
        return at_places(view, places.into_iter().filter(wanted), filter, limit);
    }
    let mut range = match topic {
        Some(topic) => keys::dead_letter_range(topic, Offset(0), Offset(u64::MAX)),
        None => keys::all(space::DEAD_LETTER),
    };
    if let Some((topic, offset)) = after {
        range = KeyRange::new(keys::dead_letter(topic, offset.next()), range.end);
    }
    let (mut items, mut last) = (Vec::new(), None);
    let (mut examined, mut body_bytes) = (0, 0);
    while items.len() < limit && examined < EXAMINED_MAX && body_bytes < PAGE_BODY_BYTES_MAX {
        // A page at first: only where most do not match, more at once are worth it.
        let chunk = if examined == 0 { limit.min(CHUNK) } else { CHUNK };
        let entries = view.scan(&range, chunk)?;
        let exhausted = entries.len() < chunk;
        for (key, value) in entries {
            examined += 1;
            let found: DeadLetter = decode(&key, value)?;
            let Some((topic, offset)) = keys::dead_letter_of(&key) else { continue };
            last = Some((topic, offset));
            if filter.letters.admits(&found) {
                let message = unless_damaged(record::<Message>(view, &keys::message(found.entry.id)))?;
                if filter.letters.admits_message(message.as_ref()) {
                    body_bytes += message.as_ref().map_or(0, |message| message.body.len());
                    items.push(without_body(DeadLetterView::new((topic, offset), found, message)));
                }
            }
            if items.len() == limit || body_bytes >= PAGE_BODY_BYTES_MAX {
                let next = Some(pair_cursor(topic.0.into(), offset.0));
                return Ok(Paged { items, next });
            }
        }
        if exhausted {
            return Ok(Paged { items, next: None });
        }
        if let Some((topic, offset)) = last {
            range = KeyRange::new(keys::dead_letter(topic, offset.next()), range.end);
        }
    }
    Ok(Paged { items, next: last.map(|(topic, offset)| pair_cursor(topic.0.into(), offset.0)) })
}
