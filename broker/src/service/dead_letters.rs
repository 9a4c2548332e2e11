//! Dead letters: found, shown, sent again, given up. Sending again is a job: one result for each, at a rate, ended by
//! whoever no longer listens.

use std::time::Duration;

use escrow_protocol::{GroupName, MessageId, Offset, Reason, TopicName};
use escrow_storage::{KeyRange, Read, ReadError};
use tokio::sync::mpsc;

use super::pages::pair_cursor;
use super::retries::parse_place;
use super::{Operator, Page, Paged, Service};
use crate::dispatch::{decode, record};
use crate::engine::{Command, Refusal, Reply};
use crate::records::keys::space;
use crate::records::{DeadLetter, Message, TopicNumber, keys};

/// Records that one page of a filtered list looks at, at most: a page may be short and still have a next.
const EXAMINED_MAX: usize = 5_000;
/// Records read at a time.
const CHUNK: usize = 250;
/// Results that wait for whoever listens to a job; beyond that the job waits. One, so that whoever stops listening has
/// stopped the job.
const RESULTS_WAITING_MAX: usize = 1;
/// Bodies that one page reads to show keys and headers: dead letters are listed without bodies, but a message is one record.
const PAGE_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Of this group; `None`: of all.
    pub group: Option<GroupName>,
    /// Exactly these; empty: all that match the rest.
    pub offsets: Vec<Offset>,
    /// With this reason.
    pub reason: Option<String>,
    /// With this business key.
    pub key: Option<String>,
    /// From this topic.
    pub topic: Option<TopicName>,
    /// Died at or after, Unix milliseconds; 0: no bound.
    pub from_ms: u64,
    /// Died before, Unix milliseconds; 0: no bound.
    pub until_ms: u64,
    /// Whose last error has this in it.
    pub error_contains: Option<String>,
}

impl DeadLetterFilter {
    fn admits(&self, dead: &DeadLetter) -> bool {
        let key_hash = self.key.as_deref().map(keys::hash_of);
        self.reason.as_deref().is_none_or(|reason| reason == dead.reason.as_str())
            && self.topic.as_ref().is_none_or(|topic| *topic == dead.topic_name)
            && key_hash.is_none_or(|hash| dead.entry.key_hash == Some(hash))
            && (self.from_ms == 0 || dead.at_ms >= self.from_ms)
            && (self.until_ms == 0 || dead.at_ms < self.until_ms)
            && self.error_contains.as_deref().is_none_or(|text| dead.error.contains(text))
    }

    /// The index and the record hold a hash of the key: the message decides.
    fn admits_message(&self, message: Option<&Message>) -> bool {
        self.key
            .as_deref()
            .is_none_or(|key| message.is_none_or(|message| message.key.as_deref() == Some(key)))
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
}

/// What a job does with each dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolving {
    /// Sends it again: to the failing group only, or as a new arrival in a topic.
    Redrive(Option<TopicName>),
    /// Gives it up.
    Discard,
}

/// What a job did with one dead letter.
#[derive(Debug)]
pub struct Resolved {
    /// Which.
    pub offset: Offset,
    /// Its message.
    pub message: Option<MessageId>,
    /// Why it was not done.
    pub refusal: Option<Refusal>,
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
        let after = page.after(parse_place)?;
        let topic = match &filter.group {
            Some(group) => Some(self.group(group.clone()).await?.dead_letter_topic),
            None => None,
        };
        if let (Some(topic), false) = (topic, filter.offsets.is_empty()) {
            return self.read(move |view| exactly(view, topic, &filter)).await;
        }
        self.read(move |view| list(view, topic, &filter, after, page.limit)).await
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

    /// Resolves all that match, one after another, at most `rate` a second (0: as fast as it goes). The receiver gets a
    /// result for each; dropping it ends the job behind the one under way.
    ///
    /// # Errors
    /// `UnknownGroup`; whatever ends the job early comes as its last result.
    pub async fn resolve(
        &self,
        filter: DeadLetterFilter,
        group: GroupName,
        resolving: Resolving,
        rate: u32,
        dry_run: bool,
        operator: Operator,
    ) -> Result<mpsc::Receiver<Result<Resolved, Refusal>>, Refusal> {
        let view = self.group(group.clone()).await?;
        // What dies again while the job runs is not part of it.
        let until = self.topic(view.dead_letter_topic_name).await?.next;
        tracing::info!(%group, ?resolving, rate, dry_run, operator = operator.logged_name(), reason = operator.logged_reason(), "dead letters resolved by hand");
        let (results, receiver) = mpsc::channel(RESULTS_WAITING_MAX);
        let job = Job {
            service: self.clone(),
            filter: DeadLetterFilter { group: Some(group.clone()), ..filter },
            group,
            resolving,
            pause: (rate > 0).then(|| Duration::from_secs(1) / rate),
            dry_run,
            operator,
            until,
            results,
        };
        tokio::spawn(job.run());
        Ok(receiver)
    }
}

fn absent(group: &GroupName, offset: Offset) -> Refusal {
    Refusal::new(
        Reason::UnknownDeadLetter,
        format!(
            "group {group} has no such dead letter at offset {offset}: redriven, discarded, or never there"
        ),
    )
}

/// One job of resolving.
struct Job {
    service: Service,
    filter: DeadLetterFilter,
    group: GroupName,
    resolving: Resolving,
    pause: Option<Duration>,
    dry_run: bool,
    operator: Operator,
    until: Offset,
    results: mpsc::Sender<Result<Resolved, Refusal>>,
}

impl Job {
    async fn run(self) {
        if !self.filter.offsets.is_empty() {
            return self.run_exactly().await;
        }
        let mut page = Page { limit: CHUNK, cursor: None };
        loop {
            let found = match self.service.dead_letters(self.filter.clone(), page.clone()).await {
                Ok(found) => found,
                Err(refusal) => {
                    // Nobody listens: then nobody misses it.
                    let _ = self.results.send(Err(refusal)).await;
                    return;
                }
            };
            for dead in found.items {
                if dead.offset >= self.until {
                    return;
                }
                let resolved = self.resolve(dead.offset, Some(dead.record.entry.id)).await;
                if !self.hand_out(resolved).await {
                    return;
                }
            }
            page.cursor = found.next;
            if page.cursor.is_none() || self.results.is_closed() {
                return;
            }
        }
    }

    /// A result for each offset that was asked for, the ones that are not there included.
    async fn run_exactly(self) {
        let found = match self.service.dead_letters(self.filter.clone(), Page::default()).await {
            Ok(found) => found.items,
            Err(refusal) => {
                // Nobody listens: then nobody misses it.
                let _ = self.results.send(Err(refusal)).await;
                return;
            }
        };
        for offset in self.filter.offsets.clone() {
            let resolved = match found.iter().find(|dead| dead.offset == offset) {
                Some(dead) => self.resolve(offset, Some(dead.record.entry.id)).await,
                None => Resolved { offset, message: None, refusal: Some(absent(&self.group, offset)) },
            };
            if !self.hand_out(resolved).await {
                return;
            }
        }
    }

    /// `false`: nobody listens any more.
    async fn hand_out(&self, resolved: Resolved) -> bool {
        let heard = self.results.send(Ok(resolved)).await.is_ok();
        if let (true, Some(pause)) = (heard, self.pause) {
            tokio::time::sleep(pause).await;
        }
        heard
    }

    async fn resolve(&self, offset: Offset, message: Option<MessageId>) -> Resolved {
        let (group, dry_run) = (self.group.clone(), self.dry_run);
        let command = match self.resolving.clone() {
            Resolving::Redrive(to) => Command::Redrive { group, offset, to, dry_run },
            Resolving::Discard => Command::Discard { group, offset, dry_run },
        };
        match self.service.command(self.operator.clone(), command).await {
            Ok(Reply::Resolved(message)) => Resolved { offset, message: Some(message), refusal: None },
            Ok(_) => Resolved { offset, message: None, refusal: Some(super::mismatch()) },
            Err(refusal) => Resolved { offset, message, refusal: Some(refusal) },
        }
    }
}

fn view_of(view: &dyn Read, topic: TopicNumber, offset: Offset) -> Result<Option<DeadLetterView>, ReadError> {
    let Some(found) = record::<DeadLetter>(view, &keys::dead_letter(topic, offset))? else { return Ok(None) };
    // A message that cannot be read is why it may be here: the rest is shown all the same.
    let message = record::<Message>(view, &keys::message(found.entry.id)).ok().flatten();
    Ok(Some(DeadLetterView { topic, offset, record: found, message }))
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
    for offset in &filter.offsets {
        let Some(found) = view_of(view, topic, *offset)? else { continue };
        if filter.admits(&found.record) && filter.admits_message(found.message.as_ref()) {
            items.push(without_body(found));
        }
    }
    Ok(Paged { items, next: None })
}

fn list(
    view: &dyn Read,
    topic: Option<TopicNumber>,
    filter: &DeadLetterFilter,
    after: Option<(TopicNumber, Offset)>,
    limit: usize,
) -> Result<Paged<DeadLetterView>, ReadError> {
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
        let entries = view.scan(&range, CHUNK)?;
        let exhausted = entries.len() < CHUNK;
        for (key, value) in entries {
            examined += 1;
            let found: DeadLetter = decode(&key, value)?;
            let Some((topic, offset)) = keys::dead_letter_of(&key) else { continue };
            last = Some((topic, offset));
            if filter.admits(&found) {
                let message = record::<Message>(view, &keys::message(found.entry.id)).ok().flatten();
                if filter.admits_message(message.as_ref()) {
                    body_bytes += message.as_ref().map_or(0, |message| message.body.len());
                    items.push(without_body(DeadLetterView { topic, offset, record: found, message }));
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
