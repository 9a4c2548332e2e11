//! The bytes of a block: a few dozen neighbouring records in one value of sled. Drawn in docs/format.md.
//!
//! Pure. sled pays for each of its records (a lock, a page entry, a delta), so ours are put together. A checksum covers the
//! block and its key: neither a swapped block nor a part of one passes.

use bytes::{Bytes, BytesMut};

use crate::Key;
use crate::codec::Cursor;
use crate::values::{FileId, Held, Location, Pointer, SEPARATE_BYTES_MIN};

/// The largest value that is given to sled. Up to 16 values (a few more after merges) share a page, and a page over
/// 128 KiB becomes a blob file, which sled never syncs.
pub(super) const BLOCK_BYTES_MAX: usize = 4096;

const VERSION: u8 = 2;
/// version u8, crc32 u32, count u16.
const HEADER_BYTES: usize = 1 + 4 + 2;
/// shared u8, rest u16, kind u8.
const ENTRY_HEADER_BYTES: usize = 1 + 2 + 1;
/// file u64, offset u64, length u32, crc32 u32.
const POINTER_BYTES: usize = 8 + 8 + 4 + 4;

const KIND_INLINE: u8 = 0;
const KIND_POINTER: u8 = 1;

/// The prefix of blocks in the table. A block lies under its first key, or a smaller one that is behind the last key of
/// the block before.
pub(super) const PREFIX: u8 = b'b';

/// Why a block is not served.
pub(super) type Fault = String;

/// A key and what is stored at it.
pub(super) type Stored = (Key, Held);

/// The table key of a block.
pub(super) fn table_key(key: &[u8]) -> Vec<u8> {
    [&[PREFIX], key].concat()
}

fn shared(previous: &[u8], key: &[u8]) -> usize {
    let longest = previous.len().min(key.len()).min(usize::from(u8::MAX));
    previous.iter().zip(key).take(longest).take_while(|(left, right)| left == right).count()
}

fn size_of(previous: &[u8], (key, entry): &Stored) -> usize {
    let payload = match entry {
        Held::Inline(value) => 2 + value.len(),
        Held::At(_) => POINTER_BYTES,
    };
    ENTRY_HEADER_BYTES + key.len() - shared(previous, key) + payload
}

/// How many bytes `entries` take as one block.
pub(super) fn size(entries: &[Stored]) -> usize {
    let mut previous: &[u8] = &[];
    let mut size = HEADER_BYTES;
    for stored in entries {
        size += size_of(previous, stored);
        previous = &stored.0;
    }
    size
}

/// How many entries go to each block. What was only added to at its end is cut into full blocks, for more will come
/// there; anything else into blocks of one size, so that each has room.
pub(super) fn cut(entries: &[Stored], grew_at_its_end: bool) -> Vec<usize> {
    let total = size(entries);
    let blocks = total.div_ceil(BLOCK_BYTES_MAX).max(1);
    let wanted = if grew_at_its_end { BLOCK_BYTES_MAX } else { total.div_ceil(blocks) };
    let mut counts = Vec::with_capacity(blocks);
    let (mut count, mut bytes, mut previous) = (0, HEADER_BYTES, &[][..]);
    for stored in entries {
        let more = size_of(previous, stored);
        if count > 0 && (bytes + more > BLOCK_BYTES_MAX || bytes >= wanted || count == usize::from(u16::MAX))
        {
            counts.push(count);
            (count, bytes, previous) = (0, HEADER_BYTES, &[]);
        }
        bytes += size_of(previous, stored);
        count += 1;
        previous = &stored.0;
    }
    if count > 0 {
        counts.push(count);
    }
    counts
}

/// The block of `entries`, ascending, under `key`.
pub(super) fn encode(key: &[u8], entries: &[Stored]) -> Vec<u8> {
    let mut out = Vec::with_capacity(size(entries));
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(entries.len() as u16).to_be_bytes());
    let mut previous: &[u8] = &[];
    for (key, entry) in entries {
        let shared = shared(previous, key);
        out.push(shared as u8);
        out.extend_from_slice(&((key.len() - shared) as u16).to_be_bytes());
        out.push(if matches!(entry, Held::At(_)) { KIND_POINTER } else { KIND_INLINE });
        out.extend_from_slice(&key[shared..]);
        match entry {
            Held::Inline(value) => {
                out.extend_from_slice(&(value.len() as u16).to_be_bytes());
                out.extend_from_slice(value);
            }
            Held::At(pointer) => {
                out.extend_from_slice(&pointer.at.file.0.to_be_bytes());
                out.extend_from_slice(&pointer.at.offset.to_be_bytes());
                out.extend_from_slice(&pointer.length.to_be_bytes());
                out.extend_from_slice(&pointer.crc.to_be_bytes());
            }
        }
        previous = key;
    }
    let crc = checksum(key, &out[5..]);
    out[1..5].copy_from_slice(&crc.to_be_bytes());
    out
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    hasher.update(&(key.len() as u32).to_be_bytes());
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

/// All entries of the block under `key`.
pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Vec<Stored>, Fault> {
    check(key, bytes)?;
    let mut walk = Walk::over(bytes)?;
    // Values share one copy of the block.
    let copy = Bytes::copy_from_slice(bytes);
    let mut entries: Vec<Stored> = Vec::with_capacity(usize::from(walk.left));
    while let Some(raw) = walk.next()? {
        let key = Key::from(&walk.key[..]);
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err("its keys are out of order".into());
        }
        entries.push((key, raw.entry(|value| copy.slice_ref_within(bytes, value))));
    }
    Ok(entries)
}

/// A slice of a copy for a slice of the original.
trait SliceWithin {
    fn slice_ref_within(&self, original: &[u8], part: &[u8]) -> Bytes;
}

impl SliceWithin for Bytes {
    fn slice_ref_within(&self, original: &[u8], part: &[u8]) -> Bytes {
        let start = part.as_ptr() as usize - original.as_ptr() as usize;
        self.slice(start..start + part.len())
    }
}

/// An entry whose value is still in the block.
enum Raw<'a> {
    Inline(&'a [u8]),
    At(Pointer),
}

impl Raw<'_> {
    fn entry(self, own: impl FnOnce(&[u8]) -> Bytes) -> Held {
        match self {
            Self::Inline(value) => Held::Inline(own(value)),
            Self::At(pointer) => Held::At(pointer),
        }
    }
}

/// A walk over the entries of a block that was checked.
struct Walk<'a> {
    cursor: Cursor<'a>,
    left: u16,
    /// The key of the entry that was last handed out.
    key: BytesMut,
}

/// Whether the block under `key` is what was written.
pub(super) fn check(key: &[u8], bytes: &[u8]) -> Result<(), Fault> {
    let mut cursor = Cursor::new(bytes);
    let version = cursor.u8().ok_or("the block is empty")?;
    if version != VERSION {
        return Err(format!("unknown version {version} of a block"));
    }
    let crc = cursor.u32().ok_or("the block is cut off")?;
    if checksum(key, &bytes[5..]) != crc {
        return Err("the checksum of the block does not match".into());
    }
    Ok(())
}

impl<'a> Walk<'a> {
    fn over(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes);
        let _ = cursor.take(5);
        let left = cursor.u16().ok_or("the block is cut off")?;
        Ok(Self { cursor, left, key: BytesMut::new() })
    }

    fn next(&mut self) -> Result<Option<Raw<'a>>, Fault> {
        if self.left == 0 {
            return if self.cursor.is_empty() {
                Ok(None)
            } else {
                Err("something follows its entries".into())
            };
        }
        self.left -= 1;
        self.entry().map(Some).ok_or_else(|| "an entry does not fit the block".into())
    }

    fn entry(&mut self) -> Option<Raw<'a>> {
        let cursor = &mut self.cursor;
        let shared = usize::from(cursor.u8()?);
        let rest = usize::from(cursor.u16()?);
        let kind = cursor.u8()?;
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(cursor.take(rest)?);
        match kind {
            KIND_INLINE => {
                let length = usize::from(cursor.u16()?);
                Some(Raw::Inline(cursor.take(length).filter(|_| length < SEPARATE_BYTES_MIN)?))
            }
            KIND_POINTER => {
                let at = Location { file: FileId(cursor.u64()?), offset: cursor.u64()? };
                Some(Raw::At(Pointer { at, length: cursor.u32()?, crc: cursor.u32()? }))
            }
            _ => None,
        }
    }
}

/// For fuzzers: any bytes as a block, as they are and with a fitting checksum.
pub(crate) fn fuzz(key: &[u8], bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    if sealed.len() >= HEADER_BYTES {
        sealed[0] = VERSION;
        let crc = checksum(key, &sealed[5..]);
        sealed[1..5].copy_from_slice(&crc.to_be_bytes());
    }
    for bytes in [bytes, &sealed] {
        let Ok(entries) = decode(key, bytes) else { continue };
        let again = encode(key, &entries);
        assert_eq!(decode(key, &again).as_ref(), Ok(&entries), "a block does not survive writing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<Stored> {
        let entry = |number: usize| {
            let at = Location { file: FileId(7), offset: number as u64 };
            let pointer = Held::At(Pointer { at, length: 1000, crc: 5 });
            let inline = Held::Inline(vec![number as u8; number % SEPARATE_BYTES_MIN].into());
            (
                Key::from(format!("a-common-prefix-{number:05}")),
                if number.is_multiple_of(3) { pointer } else { inline },
            )
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn blocks_hold_their_entries_within_the_limit() {
        let all = entries(900);
        for grew_at_its_end in [true, false] {
            let mut from = 0;
            for count in cut(&all, grew_at_its_end) {
                let part = &all[from..from + count];
                let bytes = encode(&part[0].0, part);
                assert!(bytes.len() <= BLOCK_BYTES_MAX && bytes.len() == size(part));
                assert_eq!(decode(&part[0].0, &bytes).unwrap(), part);
                from += count;
            }
            assert_eq!(from, all.len());
        }
    }

    #[test]
    fn a_block_is_accepted_only_whole_and_under_its_own_key() {
        let all = entries(20);
        let bytes = encode(b"a", &all);
        assert!(decode(b"b", &bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(b"a", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(b"a", &bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_large_entry_of_the_longest_key_fits_beside_another() {
        let key = |last: u8| Key::from([vec![last; 1], vec![b'k'; crate::KEY_BYTES_MAX - 1]].concat());
        let value = Held::Inline(vec![1; SEPARATE_BYTES_MIN - 1].into());
        let all = [(key(1), value.clone()), (key(2), value)];
        assert!(size(&all) <= BLOCK_BYTES_MAX);
        assert_eq!(cut(&all, true), [2]);
    }
}
