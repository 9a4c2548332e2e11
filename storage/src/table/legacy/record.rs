//! The bytes of a record in a table of format 1: its keys, its envelope and its parts. Drawn in docs/format.md.
//!
//! Pure. No stored value exceeds [`STORED_BYTES_MAX`]; the checksum covers the key and the whole value, so neither a
//! swapped record nor a part of an older value can pass. Written by tests only.

use bytes::{Bytes, BytesMut};

use crate::codec::Cursor;

/// The largest value that is given to sled. Up to 16 values (a few more after merges) share a page, and a page over
/// 128 KiB becomes a blob file, which sled never syncs.
pub(crate) const STORED_BYTES_MAX: usize = 4096;

/// version u8, crc32 u32, length u32.
const HEAD_HEADER_BYTES: usize = 9;
/// crc32 u32.
const PART_HEADER_BYTES: usize = 4;
const HEAD_DATA_MAX: usize = STORED_BYTES_MAX - HEAD_HEADER_BYTES;
const PART_DATA_MAX: usize = STORED_BYTES_MAX - PART_HEADER_BYTES;

const VERSION: u8 = 1;

/// The prefix of heads: one for each record, in the order of the user's keys.
pub(crate) const HEAD: u8 = b'h';
/// The prefix of parts.
const PART: u8 = b'p';

/// Why a stored value is not served.
pub(crate) type Fault = String;

/// The table key of the head of `key`.
pub(crate) fn head_key(key: &[u8]) -> Vec<u8> {
    [&[HEAD], key].concat()
}

/// What all part keys of `key` begin with, and nothing else does: {`p`, key length u16, key}.
pub(crate) fn part_prefix(key: &[u8]) -> Vec<u8> {
    [&[PART][..], &(key.len() as u16).to_be_bytes(), key].concat()
}

/// The table key of the part with this number: the prefix and a u32.
pub(crate) fn part_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut out = part_prefix(key);
    out.extend_from_slice(&number.to_be_bytes());
    out
}

/// All part keys.
pub(crate) const ALL_PARTS: std::ops::Range<&[u8]> = (&[PART] as &[u8])..(&[PART + 1] as &[u8]);

/// The user's key and the number in the table key of a part; `None` if it is none.
pub(crate) fn key_of_part(table_key: &[u8]) -> Option<(&[u8], u32)> {
    let mut cursor = Cursor::new(table_key);
    let _ = cursor.u8().filter(|prefix| *prefix == PART)?;
    let length = cursor.u16()?;
    let key = cursor.take(usize::from(length))?;
    let number = cursor.u32()?;
    cursor.is_empty().then_some((key, number))
}

/// How many parts a value of `length` bytes has beside its head.
pub(crate) fn part_count(length: usize) -> u32 {
    length.saturating_sub(HEAD_DATA_MAX).div_ceil(PART_DATA_MAX) as u32
}

/// A value as it is stored.
pub(crate) struct Stored {
    pub(crate) head: Vec<u8>,
    pub(crate) parts: Vec<Vec<u8>>,
}

/// Cuts `value` and adds the checksums.
pub(crate) fn encode(key: &[u8], value: &[u8]) -> Stored {
    let (first, rest) = value.split_at(value.len().min(HEAD_DATA_MAX));
    let length = value.len() as u32;
    let mut head = Vec::with_capacity(HEAD_HEADER_BYTES + first.len());
    head.push(VERSION);
    head.extend_from_slice(&value_checksum(key, length, &[value]).to_be_bytes());
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(first);
    let parts = rest.chunks(PART_DATA_MAX).zip(0..).map(|(chunk, number)| {
        let crc = part_checksum(key, number, chunk);
        [&crc.to_be_bytes()[..], chunk].concat()
    });
    Stored { head, parts: parts.collect() }
}

/// The head of a stored value.
pub(crate) struct Head<'a> {
    crc: u32,
    pub(crate) length: usize,
    first: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads a head; what it says is not checked before [`Head::value`].
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes);
        let version = cursor.u8().ok_or("the record is empty")?;
        if version != VERSION {
            return Err(format!("unknown record version {version}"));
        }
        let crc = cursor.u32().ok_or("the record is cut off")?;
        let length = cursor.u32().ok_or("the record is cut off")? as usize;
        let first = &bytes[HEAD_HEADER_BYTES..];
        if first.len() != length.min(HEAD_DATA_MAX) {
            return Err(format!("the record holds {} of its {length} bytes", first.len()));
        }
        Ok(Self { crc, length, first })
    }

    /// Puts the value together from the stored `parts`, ascending, and checks it.
    pub(crate) fn value(&self, key: &[u8], parts: &[impl AsRef<[u8]>]) -> Result<Bytes, Fault> {
        let expected = part_count(self.length);
        if parts.len() != expected as usize {
            return Err(format!("{} of {expected} parts are there", parts.len()));
        }
        // Only now: a damaged length would ask for up to 4 GiB.
        let mut value = BytesMut::with_capacity(self.length);
        value.extend_from_slice(self.first);
        for (part, number) in parts.iter().zip(0..) {
            value.extend_from_slice(part_data(key, number, part.as_ref())?);
        }
        let is_whole =
            value.len() == self.length && value_checksum(key, self.length as u32, &[&value]) == self.crc;
        if !is_whole {
            return Err("the checksum does not match".into());
        }
        Ok(value.freeze())
    }
}

fn part_data<'a>(key: &[u8], number: u32, part: &'a [u8]) -> Result<&'a [u8], Fault> {
    let mut cursor = Cursor::new(part);
    let crc = cursor.u32().ok_or_else(|| format!("part {number} is cut off"))?;
    let chunk = &part[PART_HEADER_BYTES..];
    if part_checksum(key, number, chunk) != crc {
        return Err(format!("the checksum of part {number} does not match"));
    }
    Ok(chunk)
}

fn value_checksum(key: &[u8], length: u32, pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    hasher.update(&(key.len() as u32).to_be_bytes());
    hasher.update(key);
    hasher.update(&length.to_be_bytes());
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

fn part_checksum(key: &[u8], number: u32, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&part_key(key, number));
    hasher.update(chunk);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
    }

    #[test]
    fn values_of_every_size_class_survive_within_the_stored_limit() {
        for length in [0, 1, HEAD_DATA_MAX, HEAD_DATA_MAX + 1, HEAD_DATA_MAX + PART_DATA_MAX, 200_000] {
            let value = value_of(length);
            let stored = encode(b"key", &value);
            assert_eq!(stored.parts.len(), part_count(length) as usize);
            assert!(stored.parts.iter().chain([&stored.head]).all(|bytes| bytes.len() <= STORED_BYTES_MAX));
            let head = Head::decode(&stored.head).unwrap();
            assert_eq!(head.value(b"key", &stored.parts).unwrap(), value);
            assert!(head.value(b"kez", &stored.parts).is_err(), "the key is covered");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_missing_or_swapped_part_passes() {
        let stored = encode(b"key", &value_of(9000));
        let reads = |stored: &Stored| {
            Head::decode(&stored.head).and_then(|head| head.value(b"key", &stored.parts)).is_ok()
        };
        assert!(reads(&stored));
        let flip = |bytes: &mut Vec<u8>, bit: usize| bytes[bit / 8] ^= 1 << (bit % 8);
        for bit in (0..4096 * 8).step_by(61).chain(0..80) {
            let mut damaged = Stored { head: stored.head.clone(), parts: stored.parts.clone() };
            flip(&mut damaged.head, bit);
            assert!(!reads(&damaged), "head bit {bit}");
        }
        for bit in (0..stored.parts[1].len() * 8).step_by(61) {
            let mut damaged = Stored { head: stored.head.clone(), parts: stored.parts.clone() };
            flip(&mut damaged.parts[1], bit);
            assert!(!reads(&damaged), "part bit {bit}");
        }
        let mut parts = stored.parts.clone();
        parts.swap(0, 1);
        assert!(!reads(&Stored { head: stored.head.clone(), parts }));
        let parts = stored.parts[..1].to_vec();
        assert!(!reads(&Stored { head: stored.head.clone(), parts }));
        assert!(!reads(&Stored { head: Vec::new(), parts: stored.parts }));
    }

    #[test]
    fn the_parts_of_one_key_are_never_those_of_another() {
        assert!(!part_key(b"ab", 0).starts_with(&part_prefix(b"a")));
        assert_eq!(key_of_part(&part_key(b"ab", 7)), Some((&b"ab"[..], 7)));
        assert_eq!(key_of_part(&head_key(b"ab")), None);
    }
}
