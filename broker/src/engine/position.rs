//! A group's place in one topic: the floor below which all is finished, what is finished above it, and what has been
//! read ahead. "Finished" here: no longer owed from the queue (acked, filtered out, retrying or dead).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use escrow_protocol::{Offset, Tag};

use super::sabotage::{Fault, planted};
use crate::records::{Progress, QueueEntry, TopicNumber};

/// A message that may be delivered to a group.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) topic: TopicNumber,
    pub(super) offset: Offset,
    pub(super) entry: Arc<QueueEntry>,
    /// Attempts that failed so far.
    pub(super) attempts_made: u32,
    /// It has a retry record: the queue no longer owes it.
    pub(super) is_retry: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Position {
    /// Only these; empty: all.
    pub(super) tags: Vec<Tag>,
    floor: u64,
    /// Finished above the floor: start → end (excluded), not touching.
    finished: BTreeMap<u64, u64>,
    /// The next offset to read from the queue.
    next_read: u64,
    /// Read, and not offered yet.
    page: VecDeque<Candidate>,
}

impl Position {
    /// A place with nothing finished at or above `floor`.
    pub(super) fn at(floor: Offset, tags: Vec<Tag>) -> Self {
        Self { tags, floor: floor.0, finished: BTreeMap::new(), next_read: floor.0, page: VecDeque::new() }
    }

    pub(super) fn recovered(progress: &Progress, tags: Vec<Tag>) -> Self {
        let mut position = Self::at(progress.floor, tags);
        position.finished = progress.finished.iter().map(|(start, end)| (start.0, end.0)).collect();
        position
    }

    /// What is stored of it.
    pub(super) fn progress(&self) -> Progress {
        let floor = match self.floor {
            floor if planted(Fault::FloorTooFar) => floor + 1,
            floor if planted(Fault::FloorBackwards) => floor.saturating_sub(1),
            floor => floor,
        };
        Progress {
            floor: Offset(floor),
            finished: self.finished.iter().map(|(start, end)| (Offset(*start), Offset(*end))).collect(),
        }
    }

    pub(super) fn floor(&self) -> Offset {
        Offset(self.floor)
    }

    pub(super) fn next_read(&self) -> Offset {
        Offset(self.next_read)
    }

    /// How many offsets above the floor are finished.
    pub(super) fn finished_above(&self) -> u64 {
        self.finished.iter().map(|(start, end)| end - start).sum()
    }

    /// How many messages up to `next` are not finished.
    pub(super) fn lag(&self, next: Offset) -> u64 {
        next.0.saturating_sub(self.floor) - self.finished_above()
    }

    pub(super) fn is_finished(&self, offset: Offset) -> bool {
        if offset.0 < self.floor {
            return true;
        }
        self.finished.range(..=offset.0).next_back().is_some_and(|(_, end)| offset.0 < *end)
    }

    /// Marks `offset` as finished; the floor follows. Returns whether the floor moved.
    pub(super) fn finish(&mut self, offset: Offset) -> bool {
        let offset = offset.0;
        debug_assert!(!self.is_finished(Offset(offset)), "offset {offset} is finished twice");
        if offset == self.floor {
            // Invariant: the floor stands on the first offset that is not finished.
            self.floor = match self.finished.first_key_value() {
                Some((&start, &end)) if start == offset + 1 => {
                    self.finished.pop_first();
                    end
                }
                _ => offset + 1,
            };
            // What is finished before it was read need not be read.
            self.next_read = self.next_read.max(self.floor);
            return true;
        }
        let mut start = offset;
        let mut end = offset + 1;
        if let Some((&before, &before_end)) = self.finished.range(..offset).next_back()
            && before_end == offset
        {
            start = before;
        }
        if let Some(after_end) = self.finished.remove(&end) {
            end = after_end;
        }
        self.finished.insert(start, end);
        false
    }

    /// How far beyond the floor it has read.
    pub(super) fn window(&self) -> u64 {
        self.next_read - self.floor.min(self.next_read)
    }

    /// Takes in what was read from `next_read` up to `until`.
    pub(super) fn take_in(&mut self, page: impl IntoIterator<Item = Candidate>, until: Offset) {
        self.page.extend(page);
        self.next_read = until.0;
    }

    pub(super) fn pop(&mut self) -> Option<Candidate> {
        self.page.pop_front()
    }

    /// Takes `offset` out of what was read ahead.
    pub(super) fn forget(&mut self, offset: Offset) {
        self.page.retain(|candidate| candidate.offset != offset);
    }

    /// The oldest message that was read and not offered.
    pub(super) fn oldest_read(&self) -> Option<&Candidate> {
        self.page.front()
    }

    /// Starts over at `floor`.
    pub(super) fn seek(&mut self, floor: Offset) {
        *self = Self::at(floor, std::mem::take(&mut self.tags));
    }

    /// Reads again from the floor, with other tags.
    pub(super) fn filter_by(&mut self, tags: Vec<Tag>, keep_reading_from: Offset) {
        self.tags = tags;
        self.page.clear();
        self.next_read = keep_reading_from.0;
    }

    pub(super) fn wants(&self, tag: Option<&Tag>) -> bool {
        self.tags.is_empty() || tag.is_some_and(|tag| self.tags.binary_search(tag).is_ok())
    }

    /// Asserts what must hold of it.
    pub(super) fn assert_invariants(&self) {
        let mut before = self.floor;
        for (start, end) in &self.finished {
            assert!(*start > before && end > start, "finished ranges touch or overlap: {:?}", self.finished);
            before = *end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position::at(Offset(10), vec![])
    }

    #[test]
    fn floor_moves_over_what_was_finished_out_of_order() {
        let mut position = position();
        for offset in [12, 14, 13, 11] {
            assert!(!position.finish(Offset(offset)));
            position.assert_invariants();
        }
        assert_eq!(position.finished_above(), 4);
        assert_eq!(position.lag(Offset(20)), 6);
        assert!(position.finish(Offset(10)));
        assert_eq!((position.floor(), position.finished_above()), (Offset(15), 0));
    }

    #[test]
    fn progress_reads_what_it_writes() {
        let mut position = position();
        for offset in [12, 13, 17] {
            position.finish(Offset(offset));
        }
        let again = Position::recovered(&position.progress(), vec![]);
        assert_eq!(again.progress(), position.progress());
        for (offset, finished) in
            [(9, true), (10, false), (12, true), (13, true), (14, false), (17, true), (18, false)]
        {
            assert_eq!(again.is_finished(Offset(offset)), finished, "offset {offset}");
        }
    }
}
