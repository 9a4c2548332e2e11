//! Writing a sorted set of edits to the table: block by block, each read, merged and written once.
//!
//! Safe to repeat: applying the same edits again, after a crash half-way, gives the same table and the same counts. A
//! block that cannot be read is never written over: that would make a silent gap of what it held.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::iter::Peekable;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::block::{self, BLOCK_BYTES_MAX, PREFIX, Stored};
use super::guard::guarded;
use super::meta::{self, LIVE_PREFIX, META_KEY, Meta};
use super::{Table, TableError};
use crate::Key;
use crate::failpoints::{FailPoint, FailPoints};
use crate::lock::{lock, write};
use crate::values::{Copies, FileId, Held, Live, Pointer, SEPARATE_BYTES_MIN, ValueError};

/// A sled batch is closed at so many records or bytes. While one is applied all reads of sled wait, so not more; each
/// costs a lock and a record of its own, so not less.
const BATCH_RECORDS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// So many edits are merged into one block's neighbourhood at a time.
const RUN_EDITS_MAX: usize = 1024;
/// A block that shrank below this is joined with the next one.
const BLOCK_BYTES_MIN: usize = BLOCK_BYTES_MAX / 4;

/// How [`Table::apply`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All edits are applied, not yet synced.
    Done(Meta),
    /// It was told to stop; some edits are applied, and the table does not claim to hold any of them.
    Stopped,
}

/// An edit on its way to the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) key: &'a Key,
    /// `None` deletes.
    pub(crate) value: Option<NewValue<'a>>,
}

/// A value on its way to the table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewValue<'a> {
    /// This. A large one is copied to a file of values.
    Here(&'a Bytes),
    /// It lies there, and stays.
    At(&'a Pointer),
    /// It lies there, and is copied, for that file goes.
    Leaving(&'a Pointer),
}

impl Table {
    /// Applies `changes`, ascending, after which the table holds everything up to sequence `last`. Between two sled
    /// batches it asks `is_stopped`.
    pub(crate) fn apply<'a>(
        &self,
        changes: impl Iterator<Item = Change<'a>> + Clone,
        last: u64,
        is_stopped: &dyn Fn() -> bool,
        failpoints: &FailPoints,
    ) -> Result<Outcome, TableError> {
        let db = self.writing()?;
        // Before the table points to them.
        let mut copied = self.copy_out(changes.clone(), failpoints)?;
        let mut edits = changes.map(|change| (change.key.clone(), held_of(&change, &mut copied))).peekable();
        let mut writer = self.writer(&db);
        while edits.peek().is_some() {
            let is_cut_short = writer.merge(&mut edits)?;
            // What was cut short goes on in blocks that must be found.
            if is_cut_short || writer.is_full() {
                writer.write()?;
                failpoints.pass(FailPoint::InSpill);
                if is_stopped() {
                    return Ok(Outcome::Stopped);
                }
            }
        }
        writer.meta.sequence = last;
        writer.meta.records = writer.meta.records_now;
        writer.write()?;
        failpoints.pass(FailPoint::InSpill);
        Ok(Outcome::Done(writer.meta))
    }

    /// Copies the large values that may not stay where they are; where they went, in order.
    fn copy_out<'a>(
        &self,
        changes: impl Iterator<Item = Change<'a>>,
        failpoints: &FailPoints,
    ) -> Result<VecDeque<Pointer>, TableError> {
        let mut copies = Copies::new(&self.values, self.next_copies_number()?, failpoints);
        for Change { key, value } in changes {
            match value {
                Some(NewValue::Here(value)) if value.len() >= SEPARATE_BYTES_MIN => copies.add(key, value),
                Some(NewValue::Leaving(pointer)) => copies.add(key, &self.leaving(key, pointer)?),
                _ => Ok(()),
            }
            .map_err(TableError::Io)?;
        }
        copies.finish().map_err(TableError::Io)
    }

    /// A value that must be copied. The journal is read at a start: there, what is wrong with it is named with its remedy.
    fn leaving(&self, key: &[u8], pointer: &Pointer) -> Result<Bytes, TableError> {
        self.values.read(key, pointer).map_err(|error| match error {
            ValueError::Io(error) => TableError::Io(error),
            ValueError::Gone => {
                TableError::Damaged(format!("the journal file {} is missing", pointer.at.file))
            }
            ValueError::Damaged(fault) => TableError::Damaged(fault),
        })
    }

    /// A number that no file of copies has, and none to which the table points had.
    pub(super) fn next_copies_number(&self) -> Result<u64, TableError> {
        let there = self.values.list().map_err(|error| TableError::Damaged(error.to_string()))?;
        let known = lock(&self.live).keys().copied().collect::<Vec<_>>();
        let highest = there.into_iter().chain(known).filter_map(FileId::copies_number).max();
        Ok(highest.map_or(1, |highest| highest + 1))
    }

    pub(super) fn writer<'a>(&'a self, db: &'a sled::Db) -> Writer<'a> {
        Writer {
            table: self,
            db,
            batch: BTreeMap::new(),
            bytes: 0,
            meta: self.meta().unwrap_or_default(),
            live: HashMap::new(),
        }
    }
}

/// What is to be held for a change; `None` deletes.
fn held_of(change: &Change<'_>, copied: &mut VecDeque<Pointer>) -> Option<Held> {
    let mut copy =
        || copied.pop_front().expect("each large value that may not stay was copied, in this order");
    Some(match change.value? {
        NewValue::Here(value) if value.len() < SEPARATE_BYTES_MIN => Held::Inline(value.clone()),
        NewValue::At(pointer) => Held::At(*pointer),
        NewValue::Here(_) | NewValue::Leaving(_) => Held::At(copy()),
    })
}

/// The sled batch that is being filled. The batch holds blocks below those that are still to be merged only, so reading
/// blocks from sled while it is filled shows them as they are.
pub(super) struct Writer<'a> {
    table: &'a Table,
    db: &'a sled::Db,
    batch: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    pub(super) meta: Meta,
    /// The files of values whose use changed in this batch.
    live: HashMap<FileId, Live>,
}

/// A block and what becomes of it.
struct Merging {
    /// Under which key the first block of the result will lie.
    key: Key,
    /// The keys of the blocks that were read.
    old_keys: Vec<Key>,
    entries: Vec<Stored>,
    /// The key of the next block: not ours any more.
    upper: Option<Key>,
    has_shrunk: bool,
    /// Whether everything that was added lies behind all that was there.
    grew_at_its_end: bool,
    old_bytes: Option<sled::IVec>,
}

impl Writer<'_> {
    /// Merges the next edits, as far as they concern one block (or the few it is joined with); whether it stopped before
    /// the end of that block.
    pub(super) fn merge(
        &mut self,
        edits: &mut Peekable<impl Iterator<Item = (Key, Option<Held>)>>,
    ) -> Result<bool, TableError> {
        let Some((first, _)) = edits.peek() else { return Ok(false) };
        let mut merging = self.find(&first.clone())?;
        let mut left = RUN_EDITS_MAX;
        loop {
            let upper = merging.upper.clone();
            let is_ours = |key: &Key| upper.as_ref().is_none_or(|upper| key < upper);
            let mut news = Vec::new();
            while left > 0
                && let Some(edit) = edits.next_if(|(key, _)| is_ours(key))
            {
                left -= 1;
                news.push(edit);
            }
            self.take_in(&mut merging, news)?;
            let is_cut_short = edits.peek().is_some_and(|(key, _)| is_ours(key));
            if is_cut_short || !self.join_next(&mut merging)? {
                self.put(merging);
                return Ok(is_cut_short);
            }
        }
    }

    /// The block in which `first` belongs: the last one that does not begin behind it, else the first of all.
    fn find(&self, first: &Key) -> Result<Merging, TableError> {
        let floor =
            guarded(|| self.db.range(&[PREFIX][..]..=&block::table_key(first)[..]).next_back().transpose())?;
        let (found, key) = match floor {
            Some(found) => {
                let key = Key::from(&found.0[1..]);
                (Some(found), key)
            }
            // Everything below the first block is free: it is moved down to `first`.
            None => (self.block_behind(&[PREFIX])?, first.clone()),
        };
        let mut merging = Merging {
            key,
            old_keys: Vec::new(),
            entries: Vec::new(),
            upper: None,
            has_shrunk: false,
            grew_at_its_end: true,
            old_bytes: None,
        };
        if let Some((table_key, bytes)) = found {
            merging.entries = decode(&table_key[1..], &bytes)?;
            merging.upper = self.block_behind(&table_key)?.map(|(key, _)| Key::from(&key[1..]));
            merging.old_keys.push(Key::from(&table_key[1..]));
            merging.old_bytes = Some(bytes);
        }
        Ok(merging)
    }

    fn block_behind(&self, table_key: &[u8]) -> Result<Option<(sled::IVec, sled::IVec)>, TableError> {
        let next =
            guarded(|| self.db.range::<&[u8], _>((Excluded(table_key), Unbounded)).next().transpose())?;
        Ok(next.filter(|(key, _)| key.first() == Some(&PREFIX)))
    }

    /// Merges edits into the entries of a block, and counts what changes.
    fn take_in(&mut self, merging: &mut Merging, news: Vec<(Key, Option<Held>)>) -> Result<(), TableError> {
        let Some((first_new, _)) = news.first() else { return Ok(()) };
        if merging.entries.last().is_some_and(|(last, _)| last >= first_new) {
            merging.grew_at_its_end = false;
        }
        let mut merged = Vec::with_capacity(merging.entries.len() + news.len());
        let mut olds = std::mem::take(&mut merging.entries).into_iter().peekable();
        for (key, new) in news {
            while let Some(old) = olds.next_if(|(old, _)| *old < key) {
                merged.push(old);
            }
            let old = olds.next_if(|(old, _)| *old == key);
            match (&old, &new) {
                (None, Some(_)) => self.meta.records_now += 1,
                (Some(_), None) => {
                    self.meta.records_now -= 1;
                    merging.has_shrunk = true;
                }
                _ => {}
            }
            if let Some((_, Held::At(pointer))) = &old {
                self.count(pointer, false)?;
            }
            if let Some(Held::At(pointer)) = &new {
                self.count(pointer, true)?;
            }
            merged.extend(new.map(|entry| (key, entry)));
        }
        merged.extend(olds);
        merging.entries = merged;
        Ok(())
    }

    /// Counts a value that is pointed to from now on, or no longer.
    fn count(&mut self, pointer: &Pointer, is_new: bool) -> Result<(), TableError> {
        let id = pointer.at.file;
        let live = self
            .live
            .entry(id)
            .or_insert_with(|| lock(&self.table.live).get(&id).copied().unwrap_or_default());
        let bytes = u64::from(pointer.length);
        let counted = if is_new {
            Some(Live { values: live.values + 1, bytes: live.bytes + bytes })
        } else {
            let values = live.values.checked_sub(1);
            values.zip(live.bytes.checked_sub(bytes)).map(|(values, bytes)| Live { values, bytes })
        };
        *live =
            counted.ok_or_else(|| TableError::Damaged(format!("more values left {id} than were in it")))?;
        Ok(())
    }

    /// Joins a block that has become small with the next one; whether there is one. What does not fit one block is cut
    /// into two of a size.
    fn join_next(&self, merging: &mut Merging) -> Result<bool, TableError> {
        let is_small = merging.has_shrunk && block::size(&merging.entries) < BLOCK_BYTES_MIN;
        let Some(upper) = merging.upper.clone().filter(|_| is_small && !merging.entries.is_empty()) else {
            return Ok(false);
        };
        let table_key = block::table_key(&upper);
        let Some(bytes) = guarded(|| self.db.get(&table_key))? else { return Ok(false) };
        merging.entries.extend(decode(&upper, &bytes)?);
        merging.old_keys.push(upper);
        merging.upper = self.block_behind(&table_key)?.map(|(key, _)| Key::from(&key[1..]));
        merging.grew_at_its_end = false;
        Ok(true)
    }

    fn put(&mut self, merging: Merging) {
        let Merging { key, old_keys, entries, grew_at_its_end, old_bytes, .. } = merging;
        for old in &old_keys {
            self.edit(block::table_key(old), None);
        }
        let mut from = 0;
        for count in block::cut(&entries, grew_at_its_end) {
            let part = &entries[from..from + count];
            let key = if from == 0 { &key } else { &part[0].0 };
            let bytes = block::encode(key, part);
            let is_as_before =
                old_keys.first() == Some(key) && old_bytes.as_ref().is_some_and(|old| **old == bytes[..]);
            if is_as_before {
                self.batch.remove(&block::table_key(key));
            } else {
                self.edit(block::table_key(key), Some(bytes));
            }
            from += count;
        }
    }

    pub(super) fn edit(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.batch.insert(key, value);
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Writes the batch, and what the table says of itself, as one.
    pub(super) fn write(&mut self) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for (key, value) in std::mem::take(&mut self.batch) {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.bytes = 0;
        let live = std::mem::take(&mut self.live);
        for (id, live) in &live {
            match live.values {
                0 => batch.remove(meta::live_key(*id)),
                _ => batch.insert(meta::live_key(*id), meta::encode_live(*id, *live)),
            }
        }
        batch.insert(META_KEY, self.meta.encode());
        {
            let _changing = write(&self.table.structure);
            let applied = guarded(|| self.db.apply_batch(batch));
            // Failed or not: what was remembered of blocks is not to be used.
            self.table.writes.fetch_add(1, Ordering::Release);
            applied?;
        }
        let mut known = lock(&self.table.live);
        for (id, live) in live {
            if live.values == 0 {
                known.remove(&id);
            } else {
                known.insert(id, live);
            }
        }
        drop(known);
        *lock(&self.table.meta) = Some(self.meta);
        Ok(())
    }
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<Vec<Stored>, TableError> {
    block::decode(key, bytes).map_err(|fault| {
        TableError::Damaged(format!("the block of records from key {} on: {fault}", crate::hex::of(key)))
    })
}

/// The table keys of what is said of files of values.
pub(super) fn live_records() -> std::ops::Range<&'static [u8]> {
    (&[LIVE_PREFIX] as &[u8])..(&[LIVE_PREFIX + 1] as &[u8])
}
