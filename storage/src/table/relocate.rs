//! Moving the few values that still live in a file elsewhere, so that the file can be deleted.
//!
//! Only the thread that writes the table does this. Readers that meet an old pointer look again.

use std::collections::VecDeque;

use super::{Table, TableError};
use crate::failpoints::{FailPoint, FailPoints};
use crate::values::{Copies, FileId, Held, Pointer, Resting, ValueError, resting_in};

/// How many bytes of values are moved with one batch.
const PIECE_BYTES: usize = 4 << 20;

impl Table {
    /// Moves what lives in `files` into as few new ones as it takes; those that could not be walked to their end, and stay
    /// as they are.
    pub(crate) fn relocate(
        &self,
        files: &[FileId],
        failpoints: &FailPoints,
    ) -> Result<Vec<FileId>, TableError> {
        let mut living = Vec::new();
        let mut stuck = Vec::new();
        for id in files {
            if !self.collect(*id, &mut living, failpoints)? {
                tracing::warn!(file = %id, "a file of values is damaged where nothing is read: it is kept as it is");
                stuck.push(*id);
            }
        }
        self.move_piece(living, failpoints)?;
        Ok(stuck)
    }

    /// Adds what lives in the file `id` to `living`, and moves that when it is much; whether the whole file was walked.
    fn collect(
        &self,
        id: FileId,
        living: &mut Vec<Resting>,
        failpoints: &FailPoints,
    ) -> Result<bool, TableError> {
        let mut bytes = 0;
        let mut failed = None;
        let walked = resting_in(&self.values, id, &mut |resting| {
            if failed.is_some() || !self.is_at(&resting).unwrap_or(false) {
                return;
            }
            bytes += resting.value.len();
            living.push(resting);
            if bytes >= PIECE_BYTES {
                bytes = 0;
                failed = self.move_piece(std::mem::take(living), failpoints).err();
            }
        });
        let walked = match walked {
            Ok(walked) => walked,
            Err(ValueError::Gone) => true,
            Err(ValueError::Damaged(_)) => false,
            Err(ValueError::Io(error)) => return Err(TableError::Io(error)),
        };
        failed.map_or(Ok(walked), Err)
    }

    fn is_at(&self, resting: &Resting) -> Result<bool, crate::ReadError> {
        let entry = self.entry(&resting.key)?;
        Ok(
            matches!(entry, Some(Held::At(pointer)) if pointer == Pointer::to(resting.at, &resting.key, &resting.value)),
        )
    }

    fn move_piece(&self, mut piece: Vec<Resting>, failpoints: &FailPoints) -> Result<(), TableError> {
        if piece.is_empty() {
            return Ok(());
        }
        piece.sort_by(|left, right| left.key.cmp(&right.key));
        let mut copies = Copies::new(&self.values, self.next_copies_number()?, failpoints);
        for resting in &piece {
            copies.add(&resting.key, &resting.value).map_err(TableError::Io)?;
        }
        let pointers: VecDeque<Pointer> = copies.finish().map_err(TableError::Io)?;
        let db = self.writing()?;
        let keys = piece.into_iter().map(|resting| resting.key);
        let mut edits = keys.zip(pointers).map(|(key, pointer)| (key, Some(Held::At(pointer)))).peekable();
        let mut writer = self.writer(&db);
        while edits.peek().is_some() {
            if writer.merge(&mut edits)? || writer.is_full() {
                writer.write()?;
                failpoints.pass(FailPoint::InEmptying);
            }
        }
        writer.write()?;
        failpoints.pass(FailPoint::InEmptying);
        Ok(())
    }
}
