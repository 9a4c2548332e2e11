//! Notes of what happened, found by what they are about. The engine says which stretches of stories may answer; they are
//! read here, the newest first, and no more of them than a page of an answer needs.

use escrow_protocol::{MessageId, Offset, TopicName, TransactionId};
use escrow_storage::{Read, ReadError};

use super::transactions::Labels;
use super::{Service, mismatch, unless_damaged};
use crate::dispatch::{decode, record};
use crate::engine::{Inspect, Refusal, Seen};
use crate::records::{Ending, Happening, Note, Story, Subject, TopicNumber, keys};

/// Stories that are read for one answer, at most.
const EXAMINED_MAX: u64 = 50_000;
/// Notes in one answer, at most: of more, the newest.
const NOTES_MAX: usize = 2_000;
/// Stories read at a time.
const CHUNK: usize = 128;

/// A message that is gone: what is still known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneMessage {
    /// Its id.
    pub id: MessageId,
    /// Its business key, where it was asked for by that: the key itself is not kept, only a hash of it.
    pub key: Option<String>,
    /// The topic it was visible in; `None`: it never was, or the topic is gone.
    pub topic: Option<TopicName>,
    /// Where it was visible, since when (Unix milliseconds).
    pub place: Option<(TopicNumber, Offset, u64)>,
    /// The transaction it came in.
    pub transaction: Option<TransactionId>,
    /// How it ended.
    pub ending: Ending,
    /// By whom, if by hand.
    pub by: String,
    /// When it was removed, Unix milliseconds.
    pub at_ms: u64,
}

impl Ending {
    /// Its word on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "FINISHED",
            Self::RolledBack => "ROLLED_BACK",
            Self::Cancelled => "CANCELLED",
            Self::Dropped => "DROPPED",
        }
    }
}

impl GoneMessage {
    /// The message that a note says is gone.
    pub(super) fn of(labels: &mut Labels<'_>, note: &Note) -> Result<Option<Self>, ReadError> {
        let (Subject::Message(id), Happening::Removed { ending, transaction, place, by, .. }) =
            (note.subject, &note.happening)
        else {
            return Ok(None);
        };
        let topic = match place {
            Some((topic, ..)) => labels.topic(*topic)?,
            None => None,
        };
        Ok(Some(Self {
            id,
            key: None,
            topic,
            place: *place,
            transaction: *transaction,
            ending: *ending,
            by: by.clone(),
            at_ms: note.at_ms,
        }))
    }
}

/// Where a search for stories goes on: before this story, and before this note of the one in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bookmark {
    /// Stories before this one.
    pub(super) story: u64,
    /// Of the last of them, so many notes.
    pub(super) notes: usize,
}

impl Bookmark {
    /// As a cursor.
    pub(super) fn cursor(self) -> String {
        format!("gone.{}.{}", self.story, self.notes)
    }

    /// What [`Bookmark::cursor`] wrote.
    pub(super) fn parse(cursor: &str) -> Option<Self> {
        let (story, notes) = cursor.strip_prefix("gone.")?.split_once('.')?;
        Some(Self { story: story.parse().ok()?, notes: notes.parse().ok()? })
    }
}

/// Notes with where each was found, the newest first; and where to go on.
pub(super) type Found = (Vec<Note>, Option<Bookmark>);

impl Service {
    /// All that was noted of these, in order of time.
    pub(super) async fn notes_of(&self, subjects: Vec<Subject>) -> Result<Vec<Note>, Refusal> {
        let (mut notes, _) = self.notes_before(subjects, None, NOTES_MAX).await?;
        notes.reverse();
        Ok(notes)
    }

    /// At most `limit` notes of any of these before `bookmark`, the newest first.
    pub(super) async fn notes_before(
        &self,
        subjects: Vec<Subject>,
        bookmark: Option<Bookmark>,
        limit: usize,
    ) -> Result<Found, Refusal> {
        let question =
            Inspect::Stories { subjects: subjects.clone(), before: bookmark.map(|bookmark| bookmark.story) };
        let Seen::Stories(stretches) = self.see(question).await? else { return Err(mismatch()) };
        self.read(move |view| search(view, &stretches, &subjects, bookmark, limit)).await
    }
}

fn search(
    view: &dyn Read,
    stretches: &[(u64, u64)],
    subjects: &[Subject],
    bookmark: Option<Bookmark>,
    limit: usize,
) -> Result<Found, ReadError> {
    let mut found = Vec::new();
    let mut examined = 0;
    for (first, end) in stretches {
        let mut until = *end;
        while until > *first {
            let from = (*first).max(until.saturating_sub(CHUNK as u64));
            for (number, story) in read_back(view, from, until)? {
                examined += 1;
                let known = bookmark.filter(|bookmark| bookmark.story == number + 1);
                let notes = known.map_or(story.notes.len(), |bookmark| bookmark.notes.min(story.notes.len()));
                for (nth, note) in story.notes[..notes].iter().enumerate().rev() {
                    if !note.marks().any(|mark| subjects.contains(&mark)) {
                        continue;
                    }
                    found.push(note.clone());
                    if found.len() == limit {
                        return Ok((found, Some(Bookmark { story: number + 1, notes: nth })));
                    }
                }
                if examined == EXAMINED_MAX {
                    return Ok((found, Some(Bookmark { story: number, notes: usize::MAX })));
                }
            }
            until = from;
        }
    }
    Ok((found, None))
}

/// Stories from the last to the first. One that is damaged is passed over: it hides no other.
fn read_back(view: &dyn Read, from: u64, until: u64) -> Result<Vec<(u64, Story)>, ReadError> {
    let range = keys::story_range(from, until);
    match view.scan_back(&range, (until - from) as usize) {
        Ok(entries) => {
            let numbered = entries
                .into_iter()
                .filter_map(|(key, value)| Some((keys::story_of(&key)?, decode::<Story>(&key, value).ok()?)));
            Ok(numbered.collect())
        }
        Err(ReadError::Corrupt { .. }) => {
            let mut stories = Vec::new();
            for number in (from..until).rev() {
                let story = unless_damaged(record::<Story>(view, &keys::story(number)))?;
                stories.extend(story.map(|story| (number, story)));
            }
            Ok(stories)
        }
        Err(error) => Err(error),
    }
}
