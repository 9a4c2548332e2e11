//! The undecided transactions in memory: what is kept of each, found by its number and by the time of its timer.
//!
//! There may be millions, so it is made for little memory: numbers are given in order, so neighbours lie on one shelf, and
//! what is ordered by time is shelves, each known by its earliest timer. That is 25 bytes for a transaction; a map of them and
//! a list of their timers took 170.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::KindNumber;

/// Numbers of one shelf: looking through it must cost less than the look-up of the shelf.
const SHELF_NUMBERS: u64 = 64;
/// A shelf gives memory back when it uses less than this part of it.
const SHELF_USED_MIN: usize = 4;

/// What is kept in memory of an undecided transaction: enough to know when to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecided {
    pub(super) kind: KindNumber,
    /// When its timer is planned, Unix milliseconds.
    pub(super) timer_at_ms: u64,
    pub(super) created_at_ms: u64,
}

/// A transaction on its shelf.
#[derive(Debug, Clone, Copy)]
struct Slot {
    timer_at_ms: u64,
    created_at_ms: u64,
    kind: KindNumber,
    /// Of its number, what the number of the shelf does not say.
    nth: u8,
}

/// Transactions of [`SHELF_NUMBERS`] numbers that follow one another. Never empty.
#[derive(Debug, Default)]
struct Shelf {
    /// Ascending.
    slots: Vec<Slot>,
    /// Of all its timers.
    earliest_ms: u64,
    /// A bit for each kind that is on it; kinds share bits. Never misses one.
    kinds: u64,
}

impl Shelf {
    fn find(&self, nth: u8) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&nth, |slot| slot.nth)
    }

    /// Sums up its slots anew.
    fn sum_up(&mut self) {
        self.earliest_ms = self.slots.iter().map(|slot| slot.timer_at_ms).min().unwrap_or(u64::MAX);
        self.kinds = self.slots.iter().fold(0, |kinds, slot| kinds | slot.kind.bit());
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UndecidedTransactions {
    shelves: BTreeMap<u64, Shelf>,
    /// The earliest timer of each shelf, and the shelf.
    by_time: BTreeSet<(u64, u64)>,
    count: usize,
}

/// The shelf of a number, and its place there.
fn place_of(number: u64) -> (u64, u8) {
    (number / SHELF_NUMBERS, (number % SHELF_NUMBERS) as u8)
}

fn number_at(shelf: u64, nth: u8) -> u64 {
    shelf * SHELF_NUMBERS + u64::from(nth)
}

impl UndecidedTransactions {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, number: u64) -> Option<Undecided> {
        let (shelf, nth) = place_of(number);
        let shelf = self.shelves.get(&shelf)?;
        shelf.find(nth).ok().map(|at| shelf.slots[at].undecided())
    }

    /// Puts in a transaction that is not there.
    pub(super) fn insert(&mut self, number: u64, undecided: Undecided) {
        let Undecided { kind, timer_at_ms, created_at_ms } = undecided;
        let (key, nth) = place_of(number);
        let shelf = self.shelves.entry(key).or_default();
        let before_ms = (!shelf.slots.is_empty()).then_some(shelf.earliest_ms);
        let at = shelf.find(nth).expect_err("a transaction becomes undecided once");
        shelf.slots.insert(at, Slot { timer_at_ms, created_at_ms, kind, nth });
        shelf.kinds |= kind.bit();
        shelf.earliest_ms = before_ms.map_or(timer_at_ms, |before_ms| before_ms.min(timer_at_ms));
        let after_ms = shelf.earliest_ms;
        self.count += 1;
        self.known_by(key, before_ms, Some(after_ms));
    }

    /// Takes one out, if it is there.
    pub(super) fn remove(&mut self, number: u64) -> Option<Undecided> {
        let (key, nth) = place_of(number);
        let shelf = self.shelves.get_mut(&key)?;
        let at = shelf.find(nth).ok()?;
        let before_ms = shelf.earliest_ms;
        let slot = shelf.slots.remove(at);
        shelf.sum_up();
        if shelf.slots.capacity() > SHELF_USED_MIN * shelf.slots.len() {
            shelf.slots.shrink_to(2 * shelf.slots.len());
        }
        let after_ms = (!shelf.slots.is_empty()).then_some(shelf.earliest_ms);
        if after_ms.is_none() {
            self.shelves.remove(&key);
        }
        self.count -= 1;
        self.known_by(key, Some(before_ms), after_ms);
        Some(slot.undecided())
    }

    /// Plans the timer of one that is there.
    pub(super) fn plan(&mut self, number: u64, timer_at_ms: u64) {
        let (key, nth) = place_of(number);
        let shelf = self.shelves.get_mut(&key).expect("an undecided transaction is planned");
        let at = shelf.find(nth).expect("an undecided transaction is planned");
        let before_ms = shelf.earliest_ms;
        shelf.slots[at].timer_at_ms = timer_at_ms;
        shelf.sum_up();
        let after_ms = shelf.earliest_ms;
        self.known_by(key, Some(before_ms), Some(after_ms));
    }

    /// The shelf's earliest timer has changed.
    fn known_by(&mut self, shelf: u64, before_ms: Option<u64>, after_ms: Option<u64>) {
        if before_ms == after_ms {
            return;
        }
        if let Some(before_ms) = before_ms {
            self.by_time.remove(&(before_ms, shelf));
        }
        if let Some(after_ms) = after_ms {
            self.by_time.insert((after_ms, shelf));
        }
    }

    /// When the earliest timer is planned, Unix milliseconds.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// The transaction of the earliest timer. It stays planned: whoever acts on it plans it anew or takes it out.
    pub(super) fn earliest(&self) -> Option<u64> {
        let (at_ms, key) = *self.by_time.first()?;
        let slots = &self.shelves[&key].slots;
        slots.iter().find(|slot| slot.timer_at_ms == at_ms).map(|slot| number_at(key, slot.nth))
    }

    /// The one with the smallest number, which was made first.
    pub(super) fn oldest(&self) -> Option<(u64, Undecided)> {
        let (key, shelf) = self.shelves.first_key_value()?;
        shelf.slots.first().map(|slot| (number_at(*key, slot.nth), slot.undecided()))
    }

    /// Numbers from `from` on, ascending: of these kinds, or of all.
    pub(super) fn numbers_from<'a>(
        &'a self,
        from: u64,
        kinds: Option<&'a BTreeSet<KindNumber>>,
    ) -> impl Iterator<Item = u64> + 'a {
        let wanted = kinds.map_or(u64::MAX, |kinds| kinds.iter().fold(0, |bits, kind| bits | kind.bit()));
        let shelves = self.shelves.range(place_of(from).0..);
        let shelves = shelves.filter(move |(_, shelf)| shelf.kinds & wanted != 0);
        let slots = shelves.flat_map(|(key, shelf)| shelf.slots.iter().map(|slot| (*key, slot)));
        let slots = slots.filter(move |(_, slot)| kinds.is_none_or(|kinds| kinds.contains(&slot.kind)));
        slots.map(|(key, slot)| number_at(key, slot.nth)).filter(move |number| *number >= from)
    }

    /// Asserts its laws.
    ///
    /// # Panics
    /// If one does not hold.
    pub(super) fn assert_all(&self) {
        let slots: usize = self.shelves.values().map(|shelf| shelf.slots.len()).sum();
        assert_eq!(slots, self.count, "undecided transactions are counted");
        for (key, shelf) in &self.shelves {
            let earliest_ms = shelf.slots.iter().map(|slot| slot.timer_at_ms).min();
            assert_eq!(earliest_ms, Some(shelf.earliest_ms), "shelf {key} is known by its earliest timer");
            assert!(self.by_time.contains(&(shelf.earliest_ms, *key)), "shelf {key} is planned");
        }
        assert_eq!(self.by_time.len(), self.shelves.len(), "each shelf is planned once");
    }
}

impl Slot {
    fn undecided(&self) -> Undecided {
        Undecided { kind: self.kind, timer_at_ms: self.timer_at_ms, created_at_ms: self.created_at_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecided(timer_at_ms: u64) -> Undecided {
        Undecided { kind: KindNumber::for_tests(timer_at_ms as u32 % 70), timer_at_ms, created_at_ms: 7 }
    }

    #[test]
    fn it_does_what_a_map_and_a_list_of_timers_do() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut tried, mut map) = (UndecidedTransactions::default(), BTreeMap::new());
        for step in 0..20_000 {
            let number = rng.u64(1..500);
            let at_ms = rng.u64(0..100);
            match map.get_mut(&number) {
                None => {
                    tried.insert(number, undecided(at_ms));
                    map.insert(number, undecided(at_ms));
                }
                Some(known) if rng.bool() => {
                    tried.plan(number, at_ms);
                    known.timer_at_ms = at_ms;
                }
                Some(_) => assert_eq!(tried.remove(number), map.remove(&number)),
            }
            if step % 16 != 0 {
                continue;
            }
            tried.assert_all();
            let earliest = map.iter().map(|(number, it)| (it.timer_at_ms, *number)).min();
            assert_eq!(tried.next_at().zip(tried.earliest()), earliest);
            assert_eq!(tried.oldest(), map.first_key_value().map(|(number, it)| (*number, *it)));
            assert_eq!(tried.get(number), map.get(&number).copied());
            let kinds = BTreeSet::from([3, 67].map(KindNumber::for_tests));
            let of_kinds = map.range(number..).filter(|(_, it)| kinds.contains(&it.kind));
            let of_kinds: Vec<_> = of_kinds.map(|(number, _)| *number).collect();
            assert_eq!(tried.numbers_from(number, Some(&kinds)).collect::<Vec<_>>(), of_kinds);
            assert!(tried.numbers_from(number, None).eq(map.range(number..).map(|(number, _)| *number)));
        }
        assert_eq!(tried.remove(1_000), None);
    }

    #[test]
    fn a_million_take_little_and_few_that_are_left_of_them_too() {
        const MANY: u64 = 100_000;
        let mut tried = UndecidedTransactions::default();
        (1..=MANY).for_each(|number| tried.insert(number, undecided(number)));
        let slots = |tried: &UndecidedTransactions| -> usize {
            tried.shelves.values().map(|shelf| shelf.slots.capacity()).sum()
        };
        assert!(slots(&tried) as u64 <= MANY + SHELF_NUMBERS, "{} places", slots(&tried));
        assert!(size_of::<Slot>() <= 24);
        for number in (1..=MANY).filter(|number| number % SHELF_NUMBERS != 0) {
            assert!(tried.remove(number).is_some());
        }
        assert!(slots(&tried) <= SHELF_USED_MIN * tried.len(), "{} of {}", slots(&tried), tried.len());
    }
}
