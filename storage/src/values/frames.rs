//! The frames that were written to the journal last, in memory: most values are read soon after they were written, or never.
//!
//! Owns no truth: whatever is in it lies in the journal, too. What is read is copied, so that a reader who is slow keeps
//! its value and not a whole frame.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use super::Location;
use crate::lock::{read, write};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// How much is kept, in bytes.
    bytes_max: AtomicU64,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// In the order of writing, which is that of their places: files are numbered by their first sequence.
    frames: VecDeque<Frame>,
    bytes: u64,
}

#[derive(Debug)]
struct Frame {
    at: Location,
    bytes: Arc<Vec<u8>>,
}

impl Frames {
    /// From now on at most `bytes_max` are kept.
    pub(crate) fn keep(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Keeps the frame that was written at `at`, behind all others, and lets go of the oldest ones that are too many. One
    /// that is larger than all that may be kept is not kept. Hands back memory that is not used any more, for the next frame.
    pub(crate) fn remember(&self, at: Location, frame: Vec<u8>) -> Option<Vec<u8>> {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        if frame.capacity() as u64 > bytes_max {
            return Some(frame);
        }
        let mut let_go = Vec::new();
        let mut kept = write(&self.kept);
        kept.bytes += frame.capacity() as u64;
        kept.frames.push_back(Frame { at, bytes: Arc::new(frame) });
        while kept.bytes > bytes_max
            && let Some(oldest) = kept.frames.pop_front()
        {
            kept.bytes -= oldest.bytes.capacity() as u64;
            let_go.push(oldest.bytes);
        }
        // Freed under no lock.
        drop(kept);
        let_go.into_iter().find_map(Arc::into_inner)
    }

    /// `length` bytes from `at` on, if the frame in which they lie is kept.
    pub(super) fn read(&self, at: Location, length: u32) -> Option<Bytes> {
        let (frame, from) = {
            let kept = read(&self.kept);
            let behind = kept.frames.partition_point(|frame| is_not_behind(frame.at, at));
            let frame = kept.frames.get(behind.checked_sub(1)?).filter(|frame| frame.at.file == at.file)?;
            (Arc::clone(&frame.bytes), (at.offset - frame.at.offset) as usize)
        };
        Some(Bytes::copy_from_slice(frame.get(from..from + length as usize)?))
    }
}

fn is_not_behind(left: Location, right: Location) -> bool {
    (left.file, left.offset) <= (right.file, right.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::FileId;

    fn at(file: u64, offset: u64) -> Location {
        Location { file: FileId::journal(file), offset }
    }

    #[test]
    fn what_is_kept_is_read_and_the_oldest_goes_first() {
        let frames = Frames::default();
        frames.keep(30);
        frames.remember(at(1, 40), b"0123456789".to_vec());
        frames.remember(at(1, 50), b"abcdefghij".to_vec());
        assert!(frames.remember(at(9, 40), b"ABCDEFGHIJ".to_vec()).is_none(), "all of them fit");
        assert_eq!(frames.read(at(1, 43), 4).as_deref(), Some(&b"3456"[..]));
        assert_eq!(frames.read(at(1, 50), 10).as_deref(), Some(&b"abcdefghij"[..]));
        assert_eq!(frames.read(at(9, 49), 1).as_deref(), Some(&b"J"[..]));
        for (place, length) in
            [(at(1, 39), 1), (at(1, 55), 6), (at(1, 60), 1), (at(2, 40), 1), (at(9, 45), 6)]
        {
            assert_eq!(frames.read(place, length), None, "{place:?} {length}");
        }
        let memory = frames.remember(at(9, 50), b"x".to_vec());
        assert_eq!(memory.as_deref(), Some(&b"0123456789"[..]), "it is the next frame's");
        assert_eq!(frames.read(at(1, 43), 4), None);
        assert_eq!(frames.remember(at(9, 51), vec![0; 31]).map(|memory| memory.len()), Some(31));
        assert_eq!(frames.read(at(9, 51), 1), None, "one that is larger than all that may be kept is not");
        assert_eq!(frames.read(at(9, 50), 1).as_deref(), Some(&b"x"[..]), "and drives out nothing");
    }
}
