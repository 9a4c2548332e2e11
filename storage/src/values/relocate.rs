//! Finding what a file of values holds, so that the few that still live in it can be moved and the file deleted.
//!
//! Reads frame by frame, never a whole file. Believes nothing that a checksum does not cover: a file that cannot be
//! walked to its end is left as it is, for its values are read through their own checksums.

use bytes::Bytes;

use super::{FileId, Location, SEPARATE_BYTES_MIN, ValueError, Values};
use crate::journal::frame::{FRAME_HEADER_BYTES, Frame, HEADER_BYTES, Header};
use crate::{Key, codec};

/// A value in a file.
#[derive(Debug)]
pub(crate) struct Resting {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) at: Location,
}

/// Hands each large value in the file `id` to `take`; whether the whole file could be walked.
pub(crate) fn resting_in(
    values: &Values,
    id: FileId,
    take: &mut dyn FnMut(Resting),
) -> Result<bool, ValueError> {
    let file = values.file(id)?;
    let size = file.size().map_err(ValueError::Io)?;
    let read = |offset, length| file.read_some(offset, length).map_err(ValueError::Io);
    let Ok(header) = Header::decode(&read(0, HEADER_BYTES)?) else { return Ok(false) };
    let salt = header.salt();
    let mut offset = HEADER_BYTES as u64;
    loop {
        let head = read(offset, FRAME_HEADER_BYTES)?;
        let length = head.get(..4).map(|length| u32::from_be_bytes(length.try_into().expect("four bytes")));
        let Some(length) = length.filter(|length| *length > 0) else {
            // Nothing, or zeros that were written ahead.
            return Ok(head.iter().all(|byte| *byte == 0));
        };
        let frame_bytes = FRAME_HEADER_BYTES as u64 + u64::from(length);
        if offset + frame_bytes > size {
            return Ok(false);
        }
        let bytes = Bytes::from(read(offset, frame_bytes as usize)?);
        let Some(frame) = Frame::read(&bytes, salt) else { return Ok(false) };
        let is_read = codec::each_put(frame.edits(), &mut |key, start, length| {
            if length >= SEPARATE_BYTES_MIN {
                let start = FRAME_HEADER_BYTES + start;
                take(Resting {
                    key: Key::from(key),
                    value: bytes.slice(start..start + length),
                    at: Location { file: id, offset: offset + start as u64 },
                });
            }
        });
        if is_read.is_none() {
            return Ok(false);
        }
        offset += frame_bytes;
    }
}
