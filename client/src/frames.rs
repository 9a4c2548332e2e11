//! Counts the frames that were written and not answered in full, so that a peer that does not read is not buried in
//! small ones.

use std::collections::VecDeque;

use crate::settings::FRAMES_UNANSWERED_MAX;

/// Names a written frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameNumber(u64);

/// The frames of one session whose entries are not all answered.
#[derive(Debug, Default)]
pub(crate) struct UnansweredFrames {
    /// Entries without an answer, for each frame from number `first` on.
    entries: VecDeque<usize>,
    first: u64,
    unanswered: usize,
}

impl UnansweredFrames {
    /// Whether another frame may be written.
    pub(crate) fn has_room(&self) -> bool {
        self.unanswered < FRAMES_UNANSWERED_MAX
    }

    /// The number of the frame that is written next.
    pub(crate) fn next(&self) -> FrameNumber {
        FrameNumber(self.first + self.entries.len() as u64)
    }

    /// The frame [`next`](Self::next) was written; `entries` of it will be answered.
    pub(crate) fn written(&mut self, entries: usize) {
        self.entries.push_back(entries);
        self.unanswered += usize::from(entries > 0);
        self.forget_answered();
    }

    /// An entry of `frame` was answered.
    pub(crate) fn answered(&mut self, frame: FrameNumber) {
        let Some(index) = frame.0.checked_sub(self.first) else { return };
        let Some(entries) = self.entries.get_mut(index as usize) else { return };
        if *entries == 1 {
            self.unanswered -= 1;
        }
        *entries = entries.saturating_sub(1);
        self.forget_answered();
    }

    /// The session is over: none of them will be answered.
    pub(crate) fn clear(&mut self) {
        self.first += self.entries.len() as u64;
        self.entries.clear();
        self.unanswered = 0;
    }

    fn forget_answered(&mut self) {
        while self.entries.front() == Some(&0) {
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_frames_are_written_than_may_stay_unanswered() {
        let mut frames = UnansweredFrames::default();
        let first = frames.next();
        for _ in 0..FRAMES_UNANSWERED_MAX {
            assert!(frames.has_room());
            frames.written(2);
        }
        assert!(!frames.has_room());
        frames.answered(first);
        assert!(!frames.has_room(), "one entry of the frame is still open");
        frames.answered(first);
        assert!(frames.has_room());
    }

    #[test]
    fn a_frame_without_answers_takes_no_room() {
        let mut frames = UnansweredFrames::default();
        for _ in 0..2 * FRAMES_UNANSWERED_MAX {
            frames.written(0);
        }
        assert!(frames.has_room());
        assert!(frames.entries.is_empty());
    }

    #[test]
    fn answers_to_a_lost_session_are_no_answers_to_the_next() {
        let mut frames = UnansweredFrames::default();
        let old = frames.next();
        frames.written(1);
        frames.clear();
        frames.written(1);
        frames.answered(old);
        assert_eq!(frames.unanswered, 1);
    }
}
