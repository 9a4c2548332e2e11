//! What a memory of bounded age and size is made of: batches of items in order of time, the oldest forgotten first.
//! Used for message ids (deduplication) and for decided transactions.

use std::collections::VecDeque;

/// Batches, oldest first. Each is one record on disk, found by its time and first item.
#[derive(Debug)]
pub(super) struct Window<T> {
    batches: VecDeque<Batch<T>>,
    items: usize,
    keep_ms: u64,
    items_max: usize,
}

#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) at_ms: u64,
    pub(super) first: T,
    pub(super) count: usize,
}

impl<T> Window<T> {
    pub(super) fn new(keep_ms: u64, items_max: usize) -> Self {
        Self { batches: VecDeque::new(), items: 0, keep_ms, items_max }
    }

    /// Remembers a batch. Time may have jumped back: order of arrival is what counts.
    pub(super) fn push(&mut self, at_ms: u64, first: T, count: usize) {
        self.items += count;
        self.batches.push_back(Batch { at_ms, first, count });
    }

    /// Puts batches that were found in order of time, which the clock may have turned round, into that of their arrival.
    pub(super) fn in_order_of_arrival(&mut self)
    where
        T: Ord + Copy,
    {
        self.batches.make_contiguous().sort_by_key(|batch| batch.first);
    }

    /// The oldest batch, if it is to be forgotten now.
    pub(super) fn pop_outdated(&mut self, now_ms: u64) -> Option<Batch<T>> {
        let oldest = self.batches.front()?;
        let outdated = oldest.at_ms.saturating_add(self.keep_ms) <= now_ms;
        // The newest batch always stays within the bound: a batch is never larger than a turn.
        let crowded = self.items > self.items_max && self.batches.len() > 1;
        if !(outdated || crowded) {
            return None;
        }
        let batch = self.batches.pop_front()?;
        self.items -= batch.count;
        Some(batch)
    }

    /// All batches, in order of arrival.
    pub(super) fn batches(&self) -> &VecDeque<Batch<T>> {
        &self.batches
    }

    /// When the oldest batch will have been kept long enough, Unix milliseconds; at once if there are too many.
    pub(super) fn next_at(&self) -> Option<u64> {
        let oldest = self.batches.front()?;
        match self.items > self.items_max && self.batches.len() > 1 {
            true => Some(0),
            false => Some(oldest.at_ms.saturating_add(self.keep_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_batches_leave_first_and_only_when_old() {
        let mut window = Window::new(100, 10);
        window.push(0, 'a', 2);
        window.push(50, 'b', 2);
        assert!(window.pop_outdated(99).is_none());
        assert_eq!(window.next_at(), Some(100));
        assert_eq!(window.pop_outdated(100).map(|batch| batch.first), Some('a'));
        assert!(window.pop_outdated(100).is_none());
    }

    #[test]
    fn more_than_the_bound_leaves_before_its_time() {
        let mut window = Window::new(1_000_000, 3);
        window.push(0, 'a', 2);
        window.push(0, 'b', 2);
        assert_eq!(window.next_at(), Some(0));
        assert_eq!(window.pop_outdated(0).map(|batch| batch.first), Some('a'));
        assert!(window.pop_outdated(0).is_none());
    }
}
