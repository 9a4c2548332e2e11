//! The bytes of a journal file: its header and its frames. Drawn in docs/format.md.
//!
//! Pure. Must never accept a frame of another file: each checksum is bound to the header of its file.

use crate::codec::{self, Cursor};
use crate::{Batch, Epoch};

/// The format of journal files that this release writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// The size of [`Header`] in a file.
pub(crate) const HEADER_BYTES: usize = 40;
/// What stands before the edits of a frame: length u32, crc32 u32, sequence u64.
pub(crate) const FRAME_HEADER_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"ESCROWJL";

/// How a journal file begins: {magic, format u32, epoch u64, first sequence u64, reused u64, crc32 u32}.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The claim under which the file was begun.
    pub(crate) epoch: Epoch,
    /// The sequence of its first frame.
    pub(crate) first: u64,
    /// It is written over an older file: behind its last frame there may be what that one held.
    pub(crate) is_reused: bool,
}

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Wrong magic, length or checksum.
    Damaged(&'static str),
    /// A format that this release does not know.
    Newer(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_be_bytes());
        out[12..20].copy_from_slice(&self.epoch.0.to_be_bytes());
        out[20..28].copy_from_slice(&self.first.to_be_bytes());
        out[28..36].copy_from_slice(&u64::from(self.is_reused).to_be_bytes());
        let crc = crc32fast::hash(&out[..36]);
        out[36..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let head = bytes.get(..HEADER_BYTES).ok_or(HeaderFault::Damaged("shorter than a header"))?;
        if head[..8] != MAGIC {
            return Err(HeaderFault::Damaged("not a journal file (magic)"));
        }
        let mut cursor = Cursor::new(&head[8..]);
        let fields = (|| Some((cursor.u32()?, cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u32()?)))();
        let (format, epoch, first, reused, crc) = fields.expect("the slice has the length of a header");
        if crc32fast::hash(&head[..36]) != crc {
            return Err(HeaderFault::Damaged("the header's checksum does not match"));
        }
        if format > FORMAT {
            return Err(HeaderFault::Newer(format));
        }
        Ok(Self { epoch: Epoch(epoch), first, is_reused: reused != 0 })
    }

    /// What binds the checksums of frames to this file.
    pub(crate) fn salt(&self) -> u32 {
        crc32fast::hash(&self.encode())
    }
}

/// A frame whose checksum fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    edits: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`; `None` if there is no whole one with a fitting checksum.
    pub(crate) fn read(bytes: &'a [u8], salt: u32) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let length = cursor.u32()?;
        let crc = cursor.u32()?;
        let sequence = cursor.u64()?;
        let edits = cursor.take(length as usize)?;
        let is_whole = sequence > 0 && length >= 4 && checksum(salt, length, sequence, edits) == crc;
        is_whole.then_some(Self { sequence, edits })
    }

    /// How many bytes of the file it takes.
    pub(crate) fn size(&self) -> usize {
        FRAME_HEADER_BYTES + self.edits.len()
    }

    /// The encoded edits; they begin [`FRAME_HEADER_BYTES`] behind the frame's own beginning.
    pub(crate) fn edits(&self) -> &'a [u8] {
        self.edits
    }

    /// The batch; `None` if the edits are not what a batch is encoded to. One without edits is never written.
    pub(crate) fn batch(&self) -> Option<Batch> {
        codec::decode_edits(self.edits).filter(|batch| !batch.is_empty())
    }
}

/// How many bytes of the file the frame of `batch` takes.
pub(crate) fn size_of(batch: &Batch) -> u64 {
    (FRAME_HEADER_BYTES + codec::edits_length(batch)) as u64
}

/// Writes the frame of `batch` over whatever `out` holds.
pub(crate) fn encode(batch: &Batch, sequence: u64, salt: u32, out: &mut Vec<u8>) {
    out.clear();
    out.resize(FRAME_HEADER_BYTES, 0);
    codec::encode_edits(batch, out);
    finish(sequence, salt, out);
}

/// Fills in what stands before the edits that `out` holds.
pub(crate) fn finish(sequence: u64, salt: u32, out: &mut [u8]) {
    let (head, edits) = out.split_at_mut(FRAME_HEADER_BYTES);
    let length = edits.len() as u32;
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4..8].copy_from_slice(&checksum(salt, length, sequence, edits).to_be_bytes());
    head[8..].copy_from_slice(&sequence.to_be_bytes());
}

fn checksum(salt: u32, length: u32, sequence: u64, edits: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_be_bytes());
    hasher.update(&length.to_be_bytes());
    hasher.update(&sequence.to_be_bytes());
    hasher.update(edits);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_accepted_only_whole_and_in_its_own_file() {
        let header = Header { epoch: Epoch(3), first: 7, is_reused: false };
        let mut batch = Batch::new();
        batch.put("k", "v");
        let mut bytes = Vec::new();
        encode(&batch, 7, header.salt(), &mut bytes);
        let frame = Frame::read(&bytes, header.salt()).unwrap();
        assert_eq!((frame.sequence, frame.batch().unwrap(), frame.size()), (7, batch, bytes.len()));
        assert!(Frame::read(&bytes, Header { epoch: Epoch(4), first: 7, is_reused: false }.salt()).is_none());
        for length in 0..bytes.len() {
            assert!(Frame::read(&bytes[..length], header.salt()).is_none());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::read(&flipped, header.salt()).is_none(), "bit {bit}");
        }
        assert!(Frame::read(&[0; 64], header.salt()).is_none(), "zeros are the end");
    }

    #[test]
    fn a_header_says_whether_it_is_damaged_or_newer() {
        let header = Header { epoch: Epoch(3), first: 7, is_reused: false };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&flipped), Err(HeaderFault::Damaged(_))), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8..12].copy_from_slice(&9_u32.to_be_bytes());
        let crc = crc32fast::hash(&newer[..36]);
        newer[36..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Header::decode(&newer), Err(HeaderFault::Newer(9)));
    }
}
