//! Writing a sorted set of edits to the table.
//!
//! Safe to repeat: applying the same edits again, after a crash half-way, gives the same table and the same count.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::guard::guarded;
use super::record::{self, Head, META_KEY, Meta};
use super::{Table, TableError};
use crate::Edit;
use crate::failpoints::{FailPoint, FailPoints};
use crate::lock::lock;

/// A sled batch is closed at so many records or bytes. While one is applied all reads of sled wait, so not more; each
/// costs a lock and a record of its own, so not less.
const BATCH_RECORDS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// How [`Table::apply`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All edits are applied, not yet synced.
    Done(Meta),
    /// It was told to stop; some edits are applied, and the table does not claim to hold any of them.
    Stopped,
}

impl Table {
    /// Applies `edits`, after which the table holds everything up to sequence `last`. Between two sled batches it asks
    /// `is_stopped`.
    pub(crate) fn apply<'a>(
        &self,
        edits: impl Iterator<Item = (&'a Bytes, &'a Edit)>,
        last: u64,
        is_stopped: &dyn Fn() -> bool,
        failpoints: &FailPoints,
    ) -> Result<Outcome, TableError> {
        let db = self.writing()?;
        let meta = self.meta().unwrap_or_default();
        let mut applier = Applier { db: &db, batch: BTreeMap::new(), bytes: 0, meta };
        for (key, edit) in edits {
            match edit {
                Edit::Put(value) => applier.put(key, value)?,
                Edit::Delete => applier.delete(key)?,
            }
            if applier.is_full() {
                applier.write()?;
                *lock(&self.meta) = Some(applier.meta);
                failpoints.pass(FailPoint::InSpill);
                if is_stopped() {
                    return Ok(Outcome::Stopped);
                }
            }
        }
        applier.meta.sequence = last;
        applier.meta.records = applier.meta.records_now;
        applier.write()?;
        *lock(&self.meta) = Some(applier.meta);
        failpoints.pass(FailPoint::InSpill);
        Ok(Outcome::Done(applier.meta))
    }
}

/// The sled batch that is being filled.
struct Applier<'a> {
    db: &'a sled::Db,
    batch: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    meta: Meta,
}

impl Applier<'_> {
    fn put(&mut self, key: &Bytes, value: &Bytes) -> Result<(), TableError> {
        let head_key = record::head_key(key);
        let old = guarded(|| self.db.get(&head_key))?;
        let stored = record::encode(key, value);
        match &old {
            None => self.meta.records_now += 1,
            // What is there already (a repeated spill) is not written again. Parts are not compared.
            Some(old) if stored.parts.is_empty() && **old == stored.head[..] => return Ok(()),
            Some(old) => self.remove_parts(key, old, stored.parts.len() as u32)?,
        }
        self.insert(head_key, stored.head);
        for (part, number) in stored.parts.into_iter().zip(0..) {
            self.insert(record::part_key(key, number), part);
        }
        Ok(())
    }

    /// A key that the table does not hold costs a look-up and nothing else: what is put and deleted within one overlay
    /// never reaches sled.
    fn delete(&mut self, key: &Bytes) -> Result<(), TableError> {
        let head_key = record::head_key(key);
        let Some(old) = guarded(|| self.db.get(&head_key))? else { return Ok(()) };
        self.meta.records_now -= 1;
        self.remove_parts(key, &old, 0)?;
        self.bytes += head_key.len();
        self.batch.insert(head_key, None);
        Ok(())
    }

    /// Removes the parts of `key` from number `from` on. An old head that cannot be read may have had any.
    fn remove_parts(&mut self, key: &Bytes, old: &[u8], from: u32) -> Result<(), TableError> {
        let old_count = Head::decode(old).map_or(u32::MAX, |head| record::part_count(head.length));
        if old_count <= from {
            return Ok(());
        }
        let first = record::part_key(key, from);
        let last = record::part_key(key, u32::MAX);
        let found = guarded(|| self.db.range(first..=last).keys().collect::<sled::Result<Vec<_>>>())?;
        for part in found {
            self.bytes += part.len();
            self.batch.insert(part.to_vec(), None);
        }
        Ok(())
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.batch.insert(key, Some(value));
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Writes the batch and the table's own record as one.
    fn write(&mut self) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for (key, value) in std::mem::take(&mut self.batch) {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(META_KEY, self.meta.encode());
        self.bytes = 0;
        guarded(|| self.db.apply_batch(batch))
    }
}
