//! Writing files of copies: values whose journal file holds too little else to be kept.
//!
//! Only the thread that writes the table does this. A file of copies is laid out like a journal file, so that the same
//! walk finds its values when they have to be moved again. Must be synced before the table points into it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::{FileId, Location, Pointer, Values};
use crate::codec::{PUT_HEADER_BYTES, edits_length};
use crate::failpoints::{FailPoint, FailPoints};
use crate::journal::frame::{self, FRAME_HEADER_BYTES, HEADER_BYTES, Header};
use crate::{Batch, Epoch, Key};

/// A file of copies ends at this size.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// So many bytes of values make a frame.
const FRAME_BYTES: usize = 256 << 10;

/// The file of copies that is being filled.
#[derive(Debug)]
pub(crate) struct Copies<'a> {
    values: &'a Values,
    failpoints: &'a FailPoints,
    next_number: u64,
    open: Option<Open>,
    pending: Batch,
    pending_bytes: usize,
    /// Where each value of the pending frame and those before it went, in the order in which they were added.
    pointers: VecDeque<Pointer>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    header: Header,
    offset: u64,
    frames: u64,
}

impl<'a> Copies<'a> {
    /// The first file that is begun gets the number `next_number`, which was never used.
    pub(crate) fn new(values: &'a Values, next_number: u64, failpoints: &'a FailPoints) -> Self {
        Self {
            values,
            failpoints,
            next_number,
            open: None,
            pending: Batch::new(),
            pending_bytes: 0,
            pointers: VecDeque::new(),
        }
    }

    /// Adds a value. Keys come in ascending order.
    pub(crate) fn add(&mut self, key: &Key, value: &Bytes) -> io::Result<()> {
        self.pending.put(key.clone(), value.clone());
        self.pending_bytes += key.len() + value.len();
        if self.pending_bytes >= FRAME_BYTES { self.write() } else { Ok(()) }
    }

    /// Makes all that was added durable; where it lies, in the order of adding.
    pub(crate) fn finish(mut self) -> io::Result<VecDeque<Pointer>> {
        self.write()?;
        self.close()?;
        Ok(self.pointers)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + edits_length(&batch));
        frame::encode(&batch, open.header.first + open.frames, open.header.salt(), &mut bytes);
        open.file.write_all_at(&bytes, open.offset)?;
        self.failpoints.pass(FailPoint::InCopies);
        let mut offset = open.offset + (FRAME_HEADER_BYTES + 4) as u64;
        for (key, edit) in batch.iter() {
            let value = edit.value().expect("only values are added");
            offset += (PUT_HEADER_BYTES + key.len()) as u64;
            self.pointers.push_back(Pointer::to(Location { file: open.id, offset }, key, value));
            offset += value.len() as u64;
        }
        open.offset += bytes.len() as u64;
        open.frames += 1;
        let is_full = open.offset >= FILE_BYTES_MAX;
        self.open = Some(open);
        if is_full { self.close() } else { Ok(()) }
    }

    fn begin(&mut self) -> io::Result<Open> {
        let number = self.next_number;
        self.next_number += 1;
        let id = FileId::copies(number);
        let header = Header { epoch: Epoch(0), first: number, is_reused: false };
        // One of that number can only be left of a crash before anything pointed into it.
        let path = self.values.path(id);
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        file.write_all_at(&header.encode(), 0)?;
        Ok(Open { file, id, header, offset: HEADER_BYTES as u64, frames: 0 })
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file.sync_all()?;
        self.values.sync_dir()
    }
}
