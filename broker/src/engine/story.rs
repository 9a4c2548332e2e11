//! What happened to messages, remembered also when they are gone. Notes of a turn are one record, written in the batch
//! that did what they say: nothing is ever written to note that something was only looked at or handed out. Stories are
//! filed in chapters; each has a sieve, so that a search reads the few chapters that may answer it.

use std::collections::VecDeque;

use escrow_storage::{KeyRange, Read, ReadError};

use super::sieve::Sieve;
use super::{Engine, Turn};
use crate::records::keys::{self, space};
use crate::records::{Chapter, Happening, Note, Story, Subject};

/// Subjects in a chapter before the next begins: what a search reads of a chapter is bounded by it.
const SUBJECTS_PER_CHAPTER: usize = 4_096;
/// A chapter is closed at the latest when it is this part of the age at which it goes.
const CHAPTERS_PER_AGE: u64 = 8;
/// Stories that are forgotten in one turn.
const FORGOTTEN_PER_TURN: u64 = 256;
/// Bytes of an error or a reason that a note keeps.
const TEXT_BYTES_MAX: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct StoryLog {
    /// Of this turn.
    fresh: Vec<Note>,
    /// The time of what is being handled, Unix milliseconds.
    now_ms: u64,
    /// Whose order is being carried out; empty: nobody's.
    by: String,
    /// The number of the next story.
    next: u64,
    open: Stretch,
    closed: VecDeque<Stretch>,
    /// Of all that are kept.
    notes: u64,
    keep_ms: u64,
    notes_max: u64,
}

/// A chapter in memory.
#[derive(Debug)]
struct Stretch {
    /// Its first story that is still there.
    first: u64,
    /// The one it is filed under.
    filed: u64,
    /// Behind its last.
    end: u64,
    notes: u64,
    subjects: usize,
    oldest_at_ms: u64,
    newest_at_ms: u64,
    sieve: Sieve,
}

impl Stretch {
    fn from(first: u64) -> Self {
        Self {
            first,
            filed: first,
            end: first,
            notes: 0,
            subjects: 0,
            oldest_at_ms: 0,
            newest_at_ms: 0,
            sieve: Sieve::for_subjects(SUBJECTS_PER_CHAPTER),
        }
    }

    fn take_in(&mut self, number: u64, notes: &[Note]) {
        self.end = number + 1;
        self.notes += notes.len() as u64;
        if let (Some(first), Some(last)) = (notes.first(), notes.last()) {
            self.oldest_at_ms = if self.oldest_at_ms == 0 { first.at_ms } else { self.oldest_at_ms };
            self.newest_at_ms = self.newest_at_ms.max(last.at_ms);
        }
        for subject in notes.iter().flat_map(Note::marks) {
            self.sieve.put(&subject);
            self.subjects += 1;
        }
    }
}

impl StoryLog {
    /// Notes are kept so long, and so many at most; 0: none are taken.
    pub(super) fn new(keep_ms: u64, notes_max: u64) -> Self {
        Self {
            fresh: Vec::new(),
            now_ms: 0,
            by: String::new(),
            next: 1,
            open: Stretch::from(1),
            closed: VecDeque::new(),
            notes: 0,
            keep_ms,
            notes_max,
        }
    }

    /// What is noted from now on happened then.
    pub(super) fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// What is noted from now on was ordered by that person; empty: by nobody.
    pub(super) fn set_person(&mut self, name: &str) {
        name.clone_into(&mut self.by);
    }

    /// Whose order is being carried out.
    pub(super) fn by(&self) -> String {
        self.by.clone()
    }

    /// Whether anything is noted at all: what notes would hold need not be gathered otherwise.
    pub(super) fn is_on(&self) -> bool {
        self.notes_max > 0
    }

    /// Notes what happened.
    pub(super) fn note(&mut self, subject: Subject, happening: Happening) {
        if self.is_on() {
            self.fresh.push(Note { at_ms: self.now_ms, subject, happening });
        }
    }

    /// Writes the notes of this turn.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) {
        if self.fresh.is_empty() {
            return;
        }
        let story = Story { notes: std::mem::take(&mut self.fresh) };
        turn.put(keys::story(self.next), &story);
        self.take_in(self.next, &story.notes);
        self.fresh = story.notes;
        self.fresh.clear();
        if self.is_full() {
            self.close_chapter(turn);
        }
    }

    fn take_in(&mut self, number: u64, notes: &[Note]) {
        self.notes += notes.len() as u64;
        self.open.take_in(number, notes);
        self.next = number + 1;
    }

    fn is_full(&self) -> bool {
        let age_ms = self.open.newest_at_ms.saturating_sub(self.open.oldest_at_ms);
        self.open.subjects >= SUBJECTS_PER_CHAPTER || age_ms >= self.keep_ms / CHAPTERS_PER_AGE
    }

    fn close_chapter(&mut self, turn: &mut Turn<'_>) {
        let chapter = std::mem::replace(&mut self.open, Stretch::from(self.next));
        let record = Chapter {
            end: chapter.end,
            notes: chapter.notes,
            newest_at_ms: chapter.newest_at_ms,
            sieve: chapter.sieve.to_bytes(),
        };
        turn.put(keys::chapter(chapter.filed), &record);
        self.closed.push_back(chapter);
    }

    /// When the oldest chapter is to go, Unix milliseconds. The newest stays.
    pub(super) fn next_at(&self) -> Option<u64> {
        let oldest = self.closed.front()?;
        match self.notes > self.notes_max {
            true => Some(0),
            false => Some(oldest.newest_at_ms.saturating_add(self.keep_ms)),
        }
    }

    /// Forgets some of the oldest chapter, if its time has come.
    pub(super) fn forget_outdated(&mut self, now_ms: u64, turn: &mut Turn<'_>) {
        if self.next_at().is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        let Some(oldest) = self.closed.front_mut() else { return };
        let until = oldest.end.min(oldest.first + FORGOTTEN_PER_TURN);
        (oldest.first..until).for_each(|number| turn.delete(keys::story(number)));
        oldest.first = until;
        if until == oldest.end {
            turn.delete(keys::chapter(oldest.filed));
            self.notes -= oldest.notes;
            self.closed.pop_front();
        }
    }

    /// The stretches of stories (first, and behind the last) that may tell of one of `subjects`, the newest first.
    pub(super) fn stretches(&self, subjects: &[Subject], before: Option<u64>) -> Vec<(u64, u64)> {
        let all = std::iter::once(&self.open).chain(self.closed.iter().rev());
        let older = all.filter(|stretch| before.is_none_or(|before| stretch.first < before));
        let claimed = older.filter(|stretch| subjects.iter().any(|subject| stretch.sieve.may_hold(subject)));
        claimed.map(|stretch| (stretch.first, before.unwrap_or(u64::MAX).min(stretch.end))).collect()
    }
}

impl Engine {
    /// Notes what happened.
    pub(super) fn note(&mut self, subject: Subject, happening: Happening) {
        self.story.note(subject, happening);
    }

    /// The chapters, and what was written since the last was closed. A chapter that is damaged or missing loses its
    /// sieve, not its stories.
    pub(super) fn recover_story(&mut self, view: &dyn Read) -> Result<(), ReadError> {
        let mut chapters = Vec::new();
        self.each_record(view, space::CHAPTER, |engine, key, chapter: Chapter| match keys::story_of(key) {
            Some(first) => chapters.push((first, chapter)),
            None => engine.misplaced(key),
        })?;
        let first = match view.scan(&keys::all(space::STORY), 1) {
            Ok(found) => found.first().and_then(|(key, _)| keys::story_of(key)),
            Err(ReadError::Corrupt { .. }) => chapters.first().map(|(first, _)| *first).or(Some(1)),
            Err(error) => return Err(error),
        };
        let Some(first) = first else { return Ok(()) };
        self.story.next = first;
        for (filed, chapter) in chapters {
            if filed > self.story.next {
                self.story.bridge(filed, chapter.newest_at_ms);
            }
            self.story.recover_chapter(filed, &chapter);
        }
        self.story.open = Stretch::from(self.story.next);
        let from = self.story.next;
        let mut stories = Vec::new();
        let rest = KeyRange::new(keys::story(from), keys::all(space::STORY).end);
        self.each_record_in(view, rest, |engine, key, story: Story| match keys::story_of(key) {
            Some(number) => stories.push((number, story)),
            None => engine.misplaced(key),
        })?;
        stories.into_iter().for_each(|(number, story)| self.story.take_in(number, &story.notes));
        Ok(())
    }
}

impl StoryLog {
    /// Stories up to `end` whose chapter is lost: they are found by reading them.
    fn bridge(&mut self, end: u64, newest_at_ms: u64) {
        let stretch = Stretch { end, newest_at_ms, sieve: Sieve::open(), ..Stretch::from(self.next) };
        self.closed.push_back(stretch);
        self.next = end;
    }

    fn recover_chapter(&mut self, filed: u64, chapter: &Chapter) {
        let Chapter { end, notes, newest_at_ms, ref sieve } = *chapter;
        // Forgotten in part, before the restart: the first that is left was found.
        let first = filed.max(self.next).min(end);
        let stretch = Stretch {
            first,
            filed,
            end,
            notes,
            newest_at_ms,
            sieve: Sieve::of_bytes(sieve),
            ..Stretch::from(filed)
        };
        self.notes += notes;
        self.closed.push_back(stretch);
        self.next = end.max(self.next);
    }
}

/// A text as a note keeps it.
pub(super) fn noted(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
