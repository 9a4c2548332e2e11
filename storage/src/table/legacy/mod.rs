//! Records as format 1 stored them, each by itself: read, and moved into blocks when such a directory is opened.
//!
//! The move may be cut short anywhere: each record leaves its old place in the batch that puts it into its new one.

pub(crate) mod record;

use bytes::Bytes;

use self::record::Head;
use super::guard::guarded;
use super::{Table, TableError, corrupt};
use crate::values::{Copies, Held, SEPARATE_BYTES_MIN};
use crate::{Key, ReadError, hex};

/// How many records are moved at a time.
const PIECE_RECORDS: usize = 256;
/// And how many bytes of values about.
const PIECE_BYTES: usize = 4 << 20;

const HEADS: std::ops::Range<&[u8]> = (&[record::HEAD] as &[u8])..(&[record::HEAD + 1] as &[u8]);

/// A record of format 1.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) key: Key,
    /// The value, or why it cannot be served.
    pub(super) value: Result<Bytes, ReadError>,
    part_count: u32,
}

impl Table {
    /// Whether it still holds records of format 1.
    pub(crate) fn has_legacy(&self) -> Result<bool, TableError> {
        let db = self.writing()?;
        guarded(|| db.range(HEADS).next().transpose()).map(|found| found.is_some())
    }

    /// Moves every record of format 1 into blocks. Not synced.
    ///
    /// # Errors
    /// [`TableError::Damaged`] at the first that cannot be read; what was moved before stays moved.
    pub(crate) fn move_legacy(&self) -> Result<(), TableError> {
        let db = self.writing()?;
        loop {
            let mut piece = Vec::new();
            let mut bytes = 0;
            self.each_legacy(&mut |old| {
                let value = old.value.map_err(|error| TableError::Damaged(error.to_string()))?;
                bytes += value.len();
                piece.push((old.key, value, old.part_count));
                Ok(piece.len() < PIECE_RECORDS && bytes < PIECE_BYTES)
            })?;
            if piece.is_empty() {
                return Ok(());
            }
            self.move_legacy_piece(&db, piece)?;
        }
    }

    fn move_legacy_piece(&self, db: &sled::Db, piece: Vec<(Key, Bytes, u32)>) -> Result<(), TableError> {
        let failpoints = crate::FailPoints::off();
        let mut copies = Copies::new(&self.values, self.next_copies_number()?, &failpoints);
        for (key, value, _) in piece.iter().filter(|(_, value, _)| value.len() >= SEPARATE_BYTES_MIN) {
            copies.add(key, value).map_err(TableError::Io)?;
        }
        let mut pointers = copies.finish().map_err(TableError::Io)?;
        let mut writer = self.writer(db);
        // They are counted already.
        writer.meta.records_now -= piece.len() as u64;
        for (key, _, part_count) in &piece {
            writer.edit(record::head_key(key), None);
            (0..*part_count).for_each(|number| writer.edit(record::part_key(key, number), None));
        }
        let mut edits = piece
            .into_iter()
            .map(|(key, value, _)| {
                let entry = if value.len() < SEPARATE_BYTES_MIN {
                    Held::Inline(value)
                } else {
                    Held::At(pointers.pop_front().expect("each large value was copied, in this order"))
                };
                (key, Some(entry))
            })
            .peekable();
        while edits.peek().is_some() {
            let is_cut_short = writer.merge(&mut edits)?;
            assert!(!is_cut_short, "a piece is smaller than what is merged at a time");
        }
        writer.write()
    }

    /// Hands each record of format 1, ascending, to `take`, until that answers `false`.
    pub(super) fn each_legacy<E: From<TableError>>(
        &self,
        take: &mut dyn FnMut(Old) -> Result<bool, E>,
    ) -> Result<(), E> {
        let db = self.writing()?;
        let mut heads = db.range(HEADS);
        while let Some((table_key, head)) = guarded(|| heads.next().transpose())? {
            let key = Key::from(&table_key[1..]);
            let part_count = Head::decode(&head).map_or(0, |head| record::part_count(head.length));
            let value = value_of(&db, &key, &head)?.map_err(|fault| corrupt(&key, fault));
            if !take(Old { key, value, part_count })? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Parts of format 1 that belong to no record, or lie behind its end: each a sign of a head that is gone or wrong.
    pub(super) fn stray_parts(&self) -> Result<Vec<super::Lost>, TableError> {
        let db = self.writing()?;
        let mut strays = Vec::new();
        let mut parts = db.range(record::ALL_PARTS);
        let mut owner = Key::default();
        let mut count = 0;
        while let Some((part, _)) = guarded(|| parts.next().transpose())? {
            let Some((key, number)) = record::key_of_part(&part) else {
                strays.push(super::Lost::somewhere(format!("{} is no record", hex::of(&part))));
                continue;
            };
            if *owner != *key || count == 0 {
                owner = Key::from(key);
                let head = guarded(|| db.get(record::head_key(key)))?;
                let length =
                    head.as_deref().and_then(|head| Head::decode(head).ok()).map_or(0, |head| head.length);
                count = record::part_count(length);
            }
            if number >= count {
                strays.push(super::Lost::at(owner.clone(), format!("part {number} belongs to no record")));
            }
        }
        Ok(strays)
    }
}

fn value_of(db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Result<Bytes, String>, TableError> {
    let head = match Head::decode(stored) {
        Ok(head) => head,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut parts = Vec::new();
    if record::part_count(head.length) > 0 {
        parts =
            guarded(|| db.scan_prefix(record::part_prefix(key)).values().collect::<sled::Result<Vec<_>>>())?;
    }
    Ok(head.value(key, &parts))
}
