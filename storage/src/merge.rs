//! The one way in which layers and table are read together: the newest wins, a tombstone hides.
//!
//! Why nothing is missed while an overlay moves to the table: the layers are asked first, both under one lock. A key that
//! is in neither was in the table at that moment, and stays there; if it is changed there afterwards, then by an overlay
//! that was frozen later. A value may be gone from where a layer or the table said it was: its file was let go, for the
//! overlay reached the table meanwhile. Then the count of moves has changed, and the layers are asked again.

use std::ops::ControlFlow;
use std::sync::RwLock;

use bytes::Bytes;

use crate::lock::read;
use crate::overlay::{Chunk, Layers, comes_first};
use crate::table::{Direction, Table};
use crate::values::Values;
use crate::{Entry, Key, KeyRange, OnDisk, ReadError};

/// How many edits of the layers are taken under one lock.
const CHUNK_EDITS_MAX: usize = 256;
const CHUNK_EDITS_MIN: usize = 16;

/// The layers, either as they change or as they were.
pub(crate) trait Newest {
    /// Runs `ask` on both layers at one moment.
    fn at_once<T>(&self, ask: impl FnOnce(&Layers) -> T) -> T;
}

impl Newest for RwLock<Layers> {
    fn at_once<T>(&self, ask: impl FnOnce(&Layers) -> T) -> T {
        ask(&read(self))
    }
}

impl Newest for Layers {
    fn at_once<T>(&self, ask: impl FnOnce(&Layers) -> T) -> T {
        ask(self)
    }
}

/// The value of `key`.
pub(crate) fn get(table: &Table, newest: &impl Newest, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
    let key = Key::from(key);
    loop {
        let (edit, moves) = newest.at_once(|layers| (layers.get(&key).cloned(), layers.moves()));
        let read = match &edit {
            None => table.get(&key),
            Some(edit) => edit.value().map(|held| table.values().resolve(&key, held)).transpose(),
        };
        match read {
            Err(ReadError::Corrupt { .. }) if has_moved(newest, moves) => {}
            read => return read,
        }
    }
}

/// The value of `key` if a layer knows it and has it in memory.
pub(crate) fn get_from_memory(
    values: &Values,
    newest: &impl Newest,
    key: &[u8],
) -> Result<Option<Bytes>, OnDisk> {
    let key = Key::from(key);
    let edit = newest.at_once(|layers| layers.get(&key).cloned()).ok_or(OnDisk)?;
    edit.value().map(|held| values.in_memory(&key, held).ok_or(OnDisk)).transpose()
}

/// At most `limit` entries of `range`.
pub(crate) fn scan(
    table: &Table,
    newest: &impl Newest,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    if limit > 0 {
        let chunk_edits = limit.clamp(CHUNK_EDITS_MIN, CHUNK_EDITS_MAX);
        walk(table, newest, range, direction, chunk_edits, &mut |key, value| {
            entries.push((key, value));
            if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(entries)
}

/// Hands each entry of `range` to `visit`, until it breaks off.
pub(crate) fn walk(
    table: &Table,
    newest: &impl Newest,
    range: &KeyRange,
    direction: Direction,
    chunk_edits: usize,
    visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut rest = (range.start < range.end).then(|| range.clone());
    while let Some(range) = rest {
        let (chunk, moves) =
            newest.at_once(|layers| (layers.chunk(&range, direction, chunk_edits), layers.moves()));
        let next_rest = chunk.rest.clone();
        let mut last = None;
        let walked = walk_chunk(table, chunk, direction, &mut |key, value| {
            last = Some(key.clone());
            visit(key, value)
        });
        rest = match walked {
            Ok(ControlFlow::Continue(())) => next_rest,
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(ReadError::Corrupt { .. }) if has_moved(newest, moves) => {
                behind(range, last.as_deref(), direction)
            }
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

fn has_moved(newest: &impl Newest, moves: u64) -> bool {
    newest.at_once(Layers::moves) != moves
}

/// What is left of `range` after `last` was handed out.
fn behind(range: KeyRange, last: Option<&[u8]>, direction: Direction) -> Option<KeyRange> {
    let rest = match (last, direction) {
        (None, _) => range,
        (Some(last), Direction::Forward) => KeyRange::new(Key::behind(last), range.end),
        (Some(last), Direction::Backward) => KeyRange::new(range.start, last.to_vec()),
    };
    (rest.start < rest.end).then_some(rest)
}

/// Merges one chunk with the table below it.
fn walk_chunk(
    table: &Table,
    chunk: Chunk,
    direction: Direction,
    visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ReadError> {
    let mut records = table.records(&chunk.covered, direction)?;
    let mut edits = chunk.edits.into_iter().peekable();
    let mut record = records.next()?;
    loop {
        let edit_is_next = match (edits.peek(), &record) {
            (None, None) => return Ok(ControlFlow::Continue(())),
            (None, Some(_)) => false,
            (Some(_), None) => true,
            (Some((newer, _)), Some((older, _))) => !comes_first(older, newer, direction),
        };
        let entry = if edit_is_next {
            let (key, edit) = edits.next().expect("it was peeked at");
            if record.as_ref().is_some_and(|(older, _)| *older == key) {
                record = records.next()?;
            }
            let value = edit.value().map(|held| table.values().resolve(&key, held)).transpose()?;
            value.map(|value| (key, value))
        } else {
            let (key, stored) = record.take().expect("there is one if no edit is next");
            let value = records.value(&key, stored)?;
            record = records.next()?;
            Some((key, value))
        };
        if let Some((key, value)) = entry
            && visit(key, value).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
}
