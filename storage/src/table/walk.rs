//! Walking over the records of a range, block by block, while the table changes.
//!
//! What is read of one block is of one moment; the next block is found from where the walk stands, so that a block that
//! was split or merged in between is neither met twice nor missed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::block::{self, PREFIX, Stored};
use super::guard::guarded;
use super::{Direction, Reading, Table, corrupt};
use crate::lock::read;
use crate::values::Held;
use crate::{Key, KeyRange, ReadError};

impl Table {
    /// The records of `range`, in order.
    pub(crate) fn records(&self, range: &KeyRange, direction: Direction) -> Result<Records<'_>, ReadError> {
        Ok(Records {
            table: self,
            db: self.reading()?,
            rest: range.clone(),
            direction,
            ready: VecDeque::new(),
            at: None,
        })
    }
}

/// A walk. See the module.
pub(crate) struct Records<'a> {
    table: &'a Table,
    db: Reading<'a>,
    /// What was not read yet.
    rest: KeyRange,
    direction: Direction,
    /// What was read and not handed out, in the order of the walk.
    ready: VecDeque<Stored>,
    /// The block that was read last, and how often blocks had changed then.
    at: Option<(sled::IVec, u64)>,
}

/// A block, and its key in the table.
type Found = Option<(sled::IVec, sled::IVec)>;

impl Records<'_> {
    /// The next key and what is stored at it.
    pub(crate) fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        loop {
            if let Some(stored) = self.ready.pop_front() {
                return Ok(Some(stored));
            }
            if self.rest.start >= self.rest.end || !self.read_block()? {
                return Ok(None);
            }
        }
    }

    /// The value of what this walk met at `key`.
    pub(crate) fn value(&self, key: &[u8], entry: Held) -> Result<Bytes, ReadError> {
        self.table.resolve(key, entry)
    }

    /// Reads the next block that may hold something of the rest; `false` if there is none.
    fn read_block(&mut self) -> Result<bool, ReadError> {
        let table = self.table;
        let _unchanged = read(&table.structure);
        let writes = table.writes.load(Ordering::Acquire);
        let known = self.at.take().filter(|(_, then)| *then == writes).map(|(key, _)| key);
        let place = match self.direction {
            Direction::Forward => self.rest.start.clone(),
            Direction::Backward => self.rest.end.clone(),
        };
        let found = match self.direction {
            Direction::Forward => self.forward(known),
            Direction::Backward => self.backward(known),
        };
        let found = found.map_err(|error| error.into_read_error(&place))?;
        let Some((block_key, bytes)) = found else { return Ok(false) };
        let entries = block::decode(&block_key[1..], &bytes)
            .map_err(|fault| corrupt(&place, format!("its block cannot be read: {fault}")))?;
        self.take(entries, &block_key[1..]);
        self.at = Some((block_key, writes));
        Ok(true)
    }

    fn forward(&self, known: Option<sled::IVec>) -> Result<Found, super::TableError> {
        use std::ops::Bound::{Excluded, Included};
        let db = &self.db;
        let start = block::table_key(&self.rest.start);
        let end = block::table_key(&self.rest.end);
        let behind = |key: &[u8]| {
            guarded(|| db.range::<&[u8], _>((Excluded(key), Excluded(&end[..]))).next().transpose())
        };
        if let Some(known) = known {
            return if known[..] < end[..] { behind(&known) } else { Ok(None) };
        }
        let floor = guarded(|| {
            db.range::<&[u8], _>((Included(&[PREFIX][..]), Included(&start[..]))).next_back().transpose()
        })?;
        match floor {
            Some(floor) => Ok(Some(floor)),
            None if start < end => behind(&start),
            None => Ok(None),
        }
    }

    fn backward(&self, known: Option<sled::IVec>) -> Result<Found, super::TableError> {
        let db = &self.db;
        let end = block::table_key(&self.rest.end);
        let before = known.as_ref().map_or(&end[..], |known| &known[..]);
        guarded(|| db.range(&[PREFIX][..]..before).next_back().transpose())
    }

    /// Keeps what of `entries` belongs to the rest; what is left lies behind this block, or before it.
    fn take(&mut self, entries: Vec<Stored>, block_key: &[u8]) {
        let within = entries.into_iter().filter(|(key, _)| self.rest.contains(key));
        match self.direction {
            Direction::Forward => {
                self.ready.extend(within);
                if let Some((last, _)) = self.ready.back() {
                    self.rest.start = Key::behind(last);
                }
            }
            Direction::Backward => {
                self.ready.extend(within.collect::<Vec<_>>().into_iter().rev());
                if block_key < &self.rest.end[..] {
                    self.rest.end = Key::from(block_key).max(self.rest.start.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::{Change, NewValue};
    use crate::{Edit, FailPoints};

    fn key(number: usize) -> Key {
        Key::from(format!("key-{number:04}"))
    }

    fn apply(table: &Table, edits: &[(Key, Edit)]) {
        let changes = edits.iter().map(|(key, edit)| Change { key, value: edit.value().map(NewValue::Here) });
        table.apply(changes, 1, &|| false, &FailPoints::off()).unwrap();
    }

    #[test]
    fn blocks_that_are_joined_or_split_under_a_walk_are_neither_missed_nor_met_twice() {
        for direction in [Direction::Forward, Direction::Backward] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("table");
            let table = Table::open(&path, 1 << 20, Duration::from_secs(9)).unwrap();
            table.values().make_dir().unwrap();
            let value = Edit::Put(vec![7; 100].into());
            apply(&table, &(0..200).map(|number| (key(number), value.clone())).collect::<Vec<_>>());
            let range = KeyRange::new("key", "kez");
            let mut records = table.records(&range, direction).unwrap();
            let mut seen = vec![records.next().unwrap().unwrap().0];
            // Only every tenth stays, so that blocks are joined; later, between those, many come, so that they are split.
            let stays = |number: &usize| number.is_multiple_of(10);
            let gone = (0..200).filter(|number| !stays(number)).map(|number| (key(number), Edit::Delete));
            apply(&table, &gone.collect::<Vec<_>>());
            for _ in 0..40 {
                seen.extend(records.next().unwrap().map(|(key, _)| key));
            }
            let news = (0..2000).map(|number| (Key::from(format!("key-0{}0x{number:04}", 7)), value.clone()));
            apply(&table, &news.collect::<Vec<_>>());
            while let Some((key, _)) = records.next().unwrap() {
                seen.push(key);
            }
            if direction == Direction::Backward {
                seen.reverse();
            }
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
            for number in (0..200).filter(stays) {
                assert!(seen.contains(&key(number)), "{direction:?}: {number} was there all the time");
            }
        }
    }
}
