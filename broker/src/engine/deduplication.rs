//! The message ids of the last minutes: what has been stored is not stored again, even when it is finished and gone.
//!
//! There may be millions, so memory holds of each id only in which batch it is remembered: 26 bytes. What became of it is
//! asked of that batch's record, and only for a message that is sent again when it is gone.

use std::collections::HashMap;

use escrow_protocol::MessageId;

use super::trouble::Step;
use super::window::{Batch, Window};
use super::{Now, Turn};
use crate::records::{Fate, Remembered, keys};

/// Ids of one shelf, on average, when as many are remembered as may be. A shelf is a hash table, which has a power of two of
/// places and fills seven eighths of them, 14,336 of 16,384: one table for all would be twice as large as need be just where
/// it is full, and while it grows there would be both, for as long as a turn may not take.
const SHELF_IDS: usize = 12_500;

/// See the module.
#[derive(Debug)]
pub(super) struct Deduplication {
    /// The batch of each id: the lower half of its number. An id that was cancelled later is in two, and the later counts.
    shelves: Box<[HashMap<MessageId, u32>]>,
    /// For each shelf what a start has found so far: a table that is made at once, of its size, takes half the time.
    found: Box<[Vec<(MessageId, u32)>]>,
    /// By number.
    window: Window<u64>,
    /// Those of this turn: one record for all of them.
    fresh: Vec<(MessageId, Fate)>,
    /// The number of that record.
    next: u64,
}

impl Deduplication {
    pub(super) fn new(keep_ms: u64, ids_max: usize) -> Self {
        let shelves = (0..ids_max.div_ceil(SHELF_IDS).max(1)).map(|_| HashMap::new());
        Self {
            shelves: shelves.collect(),
            found: Box::default(),
            window: Window::new(keep_ms, ids_max),
            fresh: Vec::new(),
            next: 1,
        }
    }

    /// The next record is numbered behind `last`.
    pub(super) fn go_on_behind(&mut self, last: u64) {
        self.next = last + 1;
    }

    /// The number of the next record.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn shelf_of(&mut self, id: MessageId) -> &mut HashMap<MessageId, u32> {
        let at = self.shelf_at(id);
        &mut self.shelves[at]
    }

    fn shelf_at(&self, id: MessageId) -> usize {
        // The end of an id is chance, if it was made as it should be.
        let end = id.as_bytes().iter().rev().take(4).fold(0_usize, |end, byte| end << 8 | usize::from(*byte));
        end % self.shelves.len()
    }

    pub(super) fn remember(&mut self, id: MessageId, fate: Fate) {
        let batch = self.next as u32;
        self.shelf_of(id).insert(id, batch);
        self.fresh.push((id, fate));
    }

    /// What became of a message that was stored not long ago; reads it.
    pub(super) fn fate_of(&self, turn: &Turn<'_>, id: MessageId) -> Step<Option<Fate>> {
        let Some(batch) = self.shelves[self.shelf_at(id)].get(&id) else { return Ok(None) };
        let number = number_of(*batch, self.next);
        if number == self.next {
            return Ok(fate_in(&self.fresh, id));
        }
        let Some(at_ms) = self.time_of(number) else { return Ok(None) };
        let record: Option<Remembered> = turn.get(&keys::remembered(at_ms, number))?;
        Ok(record.and_then(|record| fate_in(&record.ids, id)))
    }

    /// When the batch of this number was written, Unix milliseconds.
    fn time_of(&self, number: u64) -> Option<u64> {
        let batches = self.window.batches();
        let at = batches.partition_point(|batch| batch.first < number);
        batches.get(at).filter(|batch| batch.first == number).map(|batch| batch.at_ms)
    }

    /// Takes in a record found at start; they come in order of time, which the clock may have turned round. Behind the last
    /// comes [`Deduplication::recovered`].
    pub(super) fn recover(&mut self, at_ms: u64, number: u64, record: &Remembered) {
        self.window.push(at_ms, number, record.ids.len());
        if self.found.is_empty() {
            self.found = self.shelves.iter().map(|_| Vec::new()).collect();
        }
        for (id, _) in &record.ids {
            let shelf = self.shelf_at(*id);
            self.found[shelf].push((*id, number as u32));
        }
    }

    /// All records were taken in. What came first is forgotten first, as before the restart: an id that is in two batches
    /// points to the later one, and would be lost with that while the earlier is still to be remembered.
    pub(super) fn recovered(&mut self) {
        self.window.in_order_of_arrival();
        let next = self.next;
        for (shelf, found) in self.shelves.iter_mut().zip(std::mem::take(&mut self.found)) {
            shelf.reserve(found.len());
            for (id, batch) in found {
                let known = shelf.entry(id).or_insert(batch);
                if number_of(*known, next) < number_of(batch, next) {
                    *known = batch;
                }
            }
        }
    }

    /// Whether this turn has ids to write.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Writes the ids of this turn.
    pub(super) fn flush(&mut self, now: Now, turn: &mut Turn<'_>) {
        self.window.push(now.unix_ms, self.next, self.fresh.len());
        // The next turn has about as many: growing to that anew, turn by turn, shows in the profile.
        let room = Vec::with_capacity(self.fresh.len());
        let ids = std::mem::replace(&mut self.fresh, room);
        turn.insert(keys::remembered(now.unix_ms, self.next), &Remembered { ids });
        self.next += 1;
    }

    /// The oldest batch of ids, if it is to be forgotten now.
    pub(super) fn pop_outdated(&mut self, now: Now) -> Option<Batch<u64>> {
        self.window.pop_outdated(now.unix_ms)
    }

    /// Forgets what the batch of that number remembers, unless it was remembered again since.
    pub(super) fn forget(&mut self, number: u64, record: &Remembered) {
        for (id, _) in &record.ids {
            let shelf = self.shelf_of(*id);
            if shelf.get(id) == Some(&(number as u32)) {
                shelf.remove(id);
            }
        }
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.window.next_at()
    }
}

/// The number of which `batch` is the lower half, where the next one is `next`: the highest there is, for fewer than half of
/// that are remembered.
fn number_of(batch: u32, next: u64) -> u64 {
    next.wrapping_sub(u64::from((next as u32).wrapping_sub(batch)))
}

/// The last that is said of an id.
fn fate_in(ids: &[(MessageId, Fate)], id: MessageId) -> Option<Fate> {
    ids.iter().rev().find(|(known, _)| *known == id).map(|(_, fate)| *fate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(nth: u64) -> MessageId {
        let mut end = [0; 10];
        end[2..].copy_from_slice(&nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        MessageId::new(1_000, end)
    }

    #[test]
    fn as_many_as_may_be_remembered_take_little() {
        const IDS: usize = 250_000;
        let mut remembered = Deduplication::new(1_000, IDS);
        (0..IDS as u64)
            .for_each(|nth| remembered.remember(id(nth), Fate { transaction: None, cancelled: false }));
        let places: usize = remembered.shelves.iter().map(|shelf| shelf.capacity() * 8 / 7).sum();
        assert!(places < IDS * 4 / 3, "{places} places for {IDS} ids");
        assert!(size_of::<(MessageId, u32)>() <= 20);
    }

    #[test]
    fn an_id_is_remembered_as_long_as_either_of_its_batches_when_the_clock_went_back_between_them() {
        let mut remembered = Deduplication::new(1_000, 10);
        remembered.go_on_behind(2);
        let record = |cancelled| Remembered { ids: vec![(id(1), Fate { transaction: None, cancelled })] };
        // Stored at 90,000; cancelled later, at 40,000; then a restart.
        remembered.recover(40_000, 2, &record(true));
        remembered.recover(90_000, 1, &record(false));
        remembered.recovered();
        let at = |unix_ms| Now { unix_ms, mono_ms: 0 };
        assert!(
            remembered.pop_outdated(at(41_000)).is_none(),
            "what is forgotten now is the cancelled one, and the id"
        );
        for number in [1, 2] {
            let batch = remembered.pop_outdated(at(91_000)).expect("both are outdated");
            assert_eq!(batch.first, number);
        }
    }

    #[test]
    fn the_later_batch_counts_in_whatever_order_they_are_found() {
        let mut remembered = Deduplication::new(1_000, 10);
        remembered.go_on_behind(u64::from(u32::MAX) + 3);
        let record = Remembered { ids: vec![(id(1), Fate { transaction: None, cancelled: false })] };
        // The clock was set back between them, and their numbers' lower half ran over.
        let (earlier, later) = (u64::from(u32::MAX), u64::from(u32::MAX) + 2);
        remembered.recover(40, later, &record);
        remembered.recover(90, earlier, &record);
        remembered.recovered();
        assert_eq!((remembered.time_of(later), remembered.time_of(earlier)), (Some(40), Some(90)));
        remembered.forget(earlier, &record);
        let known = remembered.shelves[0].get(&id(1)).map(|batch| number_of(*batch, remembered.next));
        assert_eq!(known, Some(later));
        remembered.forget(later, &record);
        assert!(remembered.shelves[0].is_empty());
    }
}
