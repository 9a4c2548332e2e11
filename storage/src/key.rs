//! A key: bytes in byte order. Short ones, which nearly all are, lie in the key itself: a tree of them is walked without
//! following a pointer to each, and making one takes nothing from the allocator.
//!
//! Invariant: whether a key is short follows from its length alone, and what a short one does not use is zero. So two short
//! keys are compared as numbers.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// The longest key that needs no memory of its own.
const SHORT_BYTES: usize = 30;

/// A key of a record. At most [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) bytes can be stored.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Short { length: u8, bytes: [u8; SHORT_BYTES] },
    Long(Box<[u8]>),
}

impl Key {
    /// The key that `parts` make one behind the other.
    #[inline]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>) -> Self {
        let parts = parts.into_iter();
        let length = parts.clone().map(<[u8]>::len).sum::<usize>();
        if length > SHORT_BYTES {
            return Self(Repr::Long(parts.collect::<Vec<_>>().concat().into()));
        }
        let mut bytes = [0; SHORT_BYTES];
        let mut filled = 0;
        for part in parts {
            bytes[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        Self(Repr::Short { length: length as u8, bytes })
    }

    /// The smallest key behind `key`.
    pub fn behind(key: &[u8]) -> Self {
        Self::of([key, &[0]])
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { length, bytes } => &bytes[..usize::from(*length)],
            Repr::Long(bytes) => bytes,
        }
    }
}

/// The bytes of a short key as three numbers that compare as the bytes do.
fn words(bytes: &[u8; SHORT_BYTES]) -> (u128, u64, u64) {
    // The last two overlap: what they share is equal if the first of them is.
    let word =
        |from: usize| u64::from_be_bytes(bytes[from..from + 8].try_into().expect("eight bytes were taken"));
    let first = u128::from_be_bytes(bytes[..16].try_into().expect("sixteen bytes were taken"));
    (first, word(16), word(SHORT_BYTES - 8))
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Short { length, bytes }, Repr::Short { length: other_length, bytes: other_bytes }) => {
                // With equal bytes the shorter one is the beginning of the longer, which has zeros behind it.
                words(bytes).cmp(&words(other_bytes)).then(length.cmp(other_length))
            }
            _ => self.bytes().cmp(other.bytes()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

// As bytes: a key is looked for by them.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::of([])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.bytes().escape_ascii())
    }
}

impl From<&[u8]> for Key {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() > SHORT_BYTES {
            return Self(Repr::Long(bytes.into()));
        }
        let mut short = [0; SHORT_BYTES];
        short[..bytes.len()].copy_from_slice(bytes);
        Self(Repr::Short { length: bytes.len() as u8, bytes: short })
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self::from(&bytes[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_their_bytes_do() {
        let mut all: Vec<Vec<u8>> = vec![Vec::new()];
        for length in [1, 2, 7, 8, 9, 15, 16, 17, 22, 23, 24, 25, 29, 30, 31, 40, 384] {
            for at in [0, length / 2, length - 1] {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'k'; length];
                    bytes[at] = byte;
                    all.push(bytes);
                    all.push(vec![byte; length]);
                }
            }
        }
        for left in &all {
            let left_key = Key::from(&left[..]);
            assert_eq!(&left_key[..], &left[..]);
            assert!(Key::behind(left) > left_key);
            for right in &all {
                let right_key = Key::from(&right[..]);
                assert_eq!(left_key.cmp(&right_key), left.cmp(right), "{left:?} and {right:?}");
                assert_eq!(left_key == right_key, left == right);
            }
        }
    }

    #[test]
    fn a_key_takes_no_more_than_a_handle_to_shared_bytes_did() {
        assert_eq!(size_of::<Key>(), size_of::<Bytes>());
    }
}
