//! Bytes in and out: a cursor over bytes that nobody has checked yet, and the edits of a batch.
//!
//! All numbers are big-endian. Drawn in docs/format.md. Must never trust a length it has read.

use bytes::Bytes;

use crate::{Batch, Edit, Key};

/// The longest key, in bytes. sled keeps up to 256 keys in one index page and makes a (never synced) blob file of a
/// page over 128 KiB: 320 keys, a merged page, of 384 bytes stay below that.
pub const KEY_BYTES_MAX: usize = 384;

/// The most bytes the edits of one batch may take, so that a frame's length always fits its field and a reader can
/// refuse an absurd one. 1 GiB.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

const KIND_DELETE: u8 = 0;
const KIND_PUT: u8 = 1;

/// What stands before the key and the value of a put: kind u8, key length u16, value length u32.
pub(crate) const PUT_HEADER_BYTES: usize = 1 + 2 + 4;
/// What stands before the key of a delete.
const DELETE_HEADER_BYTES: usize = 1 + 2;

/// Takes fields off the front of unchecked bytes; `None` means that they end too soon.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// How many bytes [`encode_edits`] writes for `batch`.
pub(crate) fn edits_length(batch: &Batch) -> usize {
    4 + batch.iter().map(|(key, edit)| edit_length(key, edit)).sum::<usize>()
}

/// How many bytes one edit takes.
pub(crate) fn edit_length(key: &[u8], edit: &Edit) -> usize {
    match edit.value() {
        Some(value) => PUT_HEADER_BYTES + key.len() + value.len(),
        None => DELETE_HEADER_BYTES + key.len(),
    }
}

/// Appends the edits of `batch`: {count u32}, then of each {kind u8, key length u16, [value length u32], key, [value]}.
///
/// The caller has checked the keys against [`KEY_BYTES_MAX`] and the whole against [`BATCH_BYTES_MAX`].
pub(crate) fn encode_edits(batch: &Batch, out: &mut Vec<u8>) {
    out.extend_from_slice(&(batch.len() as u32).to_be_bytes());
    for (key, edit) in batch.iter() {
        out.push(if edit.value().is_some() { KIND_PUT } else { KIND_DELETE });
        out.extend_from_slice(&(key.len() as u16).to_be_bytes());
        if let Some(value) = edit.value() {
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        }
        out.extend_from_slice(key);
        if let Some(value) = edit.value() {
            out.extend_from_slice(value);
        }
    }
}

/// The inverse of [`encode_edits`]; `None` if the bytes are anything but that.
pub(crate) fn decode_edits(bytes: &[u8]) -> Option<Batch> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.u32()? as usize;
    let mut batch = Batch::new();
    for _ in 0..count {
        let kind = cursor.u8()?;
        let key_length = usize::from(cursor.u16()?);
        // Copies, so that an entry of the overlay does not keep a whole journal file in memory.
        match kind {
            KIND_PUT => {
                let value_length = cursor.u32()? as usize;
                let key = Key::from(cursor.take(key_length)?);
                batch.put(key, Bytes::copy_from_slice(cursor.take(value_length)?));
            }
            KIND_DELETE => batch.delete(Key::from(cursor.take(key_length)?)),
            _ => return None,
        }
    }
    (cursor.is_empty() && batch.len() == count).then_some(batch)
}

/// Hands the key of each put in encoded edits to `take`, with where its value begins in `bytes` and how long it is;
/// `None` if the bytes are no edits.
pub(crate) fn each_put(bytes: &[u8], take: &mut dyn FnMut(&[u8], usize, usize)) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.u32()?;
    for _ in 0..count {
        let kind = cursor.u8()?;
        let key_length = usize::from(cursor.u16()?);
        match kind {
            KIND_PUT => {
                let value_length = cursor.u32()? as usize;
                let key = cursor.take(key_length)?;
                let start = bytes.len() - cursor.rest.len();
                cursor.take(value_length)?;
                take(key, start, value_length);
            }
            KIND_DELETE => drop(cursor.take(key_length)?),
            _ => return None,
        }
    }
    cursor.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_survive_and_any_shorter_text_is_refused() {
        let mut batch = Batch::new();
        batch.put("", "");
        batch.put("key", vec![7; 300]);
        batch.delete("gone");
        let mut bytes = Vec::new();
        encode_edits(&batch, &mut bytes);
        assert_eq!(bytes.len(), edits_length(&batch));
        assert_eq!(decode_edits(&bytes).unwrap(), batch);
        let mut puts = Vec::new();
        let each =
            &mut |key: &[u8], start, length| puts.push((key.to_vec(), bytes[start..start + length].to_vec()));
        each_put(&bytes, each).unwrap();
        assert_eq!(puts, [(Vec::new(), Vec::new()), (b"key".to_vec(), vec![7; 300])]);
        for length in 0..bytes.len() {
            assert_eq!(decode_edits(&bytes[..length]), None, "{length} bytes");
        }
        bytes.push(0);
        assert_eq!(decode_edits(&bytes), None, "one byte too many");
    }
}
