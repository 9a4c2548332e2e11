//! What the table says of itself: how far it has come, how much it holds, and how much of each file of values it points to.
//!
//! Pure. Both kinds of records are written in the same sled batch as the edits they describe, so they are exact after any
//! crash.

use crate::codec::Cursor;
use crate::values::{FileId, Live};

/// Where [`Meta`] lies.
pub(super) const META_KEY: &[u8] = b"m";
/// The prefix of what is said of files of values: {`f`, file id u64}.
pub(super) const LIVE_PREFIX: u8 = b'f';

const VERSION: u8 = 1;

/// What the table says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    /// The last sequence that is in the table completely.
    pub(crate) sequence: u64,
    /// How many records there were then.
    pub(crate) records: u64,
    /// How many records there are now: differs while an overlay is being written.
    pub(crate) records_now: u64,
}

impl Meta {
    /// {version u8, sequence u64, records u64, records now u64, crc32 u32}.
    pub(super) fn encode(&self) -> Vec<u8> {
        sealed(&[self.sequence, self.records, self.records_now], &[])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [sequence, records, records_now] = opened(bytes, &[])?;
        Some(Self { sequence, records, records_now })
    }
}

/// The table key of what is said of a file.
pub(super) fn live_key(id: FileId) -> Vec<u8> {
    [&[LIVE_PREFIX][..], &id.0.to_be_bytes()].concat()
}

/// The file of a table key.
pub(super) fn file_of(table_key: &[u8]) -> Option<FileId> {
    let mut cursor = Cursor::new(table_key);
    let _ = cursor.u8().filter(|prefix| *prefix == LIVE_PREFIX)?;
    let id = cursor.u64()?;
    cursor.is_empty().then_some(FileId(id))
}

/// {version u8, values u64, bytes u64, crc32 u32}; the checksum covers the table key too.
pub(super) fn encode_live(id: FileId, live: Live) -> Vec<u8> {
    sealed(&[live.values, live.bytes], &live_key(id))
}

pub(super) fn decode_live(id: FileId, bytes: &[u8]) -> Option<Live> {
    let [values, bytes] = opened(bytes, &live_key(id))?;
    Some(Live { values, bytes })
}

fn sealed(numbers: &[u64], key: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let crc = checksum(key, &out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

fn opened<const N: usize>(bytes: &[u8], key: &[u8]) -> Option<[u64; N]> {
    let mut cursor = Cursor::new(bytes);
    let version = cursor.u8()?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = cursor.u64()?;
    }
    let is_whole = cursor.u32()? == checksum(key, &bytes[..bytes.len().checked_sub(4)?]);
    (is_whole && cursor.is_empty() && version == VERSION).then_some(numbers)
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_says_of_itself_is_accepted_only_whole() {
        let meta = Meta { sequence: 5, records: 7, records_now: 9 };
        let live = Live { values: 3, bytes: 4000 };
        let (said, of_file) = (meta.encode(), encode_live(FileId(8), live));
        assert_eq!((Meta::decode(&said), decode_live(FileId(8), &of_file)), (Some(meta), Some(live)));
        assert_eq!(decode_live(FileId(9), &of_file), None, "it is bound to its file");
        assert_eq!(file_of(&live_key(FileId(8))), Some(FileId(8)));
        for bytes in [said, of_file] {
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Meta::decode(&flipped).is_none() && decode_live(FileId(8), &flipped).is_none());
            }
        }
    }
}
