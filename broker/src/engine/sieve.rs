//! A set of subjects in little memory: it never denies what was put in, and seldom claims what was not (a Bloom filter,
//! 12 bits for each, about 3 in 1000 claimed wrongly). Tells which stretches of stories need not be read.

use bytes::Bytes;

use crate::records::Subject;

/// Bits for each subject it is made for.
const BITS_EACH: usize = 12;
/// Bits that stand for one subject.
const PROBES: u64 = 8;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Sieve {
    bits: Vec<u8>,
}

impl Sieve {
    /// An empty one, made for so many subjects; more make it claim more that was not put in.
    pub(super) fn for_subjects(count: usize) -> Self {
        Self { bits: vec![0; (count * BITS_EACH).div_ceil(8).max(8)] }
    }

    /// One that denies nothing: for stretches whose own is lost.
    pub(super) fn open() -> Self {
        Self { bits: vec![0xff; 8] }
    }

    /// What [`Sieve::to_bytes`] wrote.
    pub(super) fn of_bytes(bytes: &Bytes) -> Self {
        match bytes.is_empty() {
            true => Self::open(),
            false => Self { bits: bytes.to_vec() },
        }
    }

    /// As stored.
    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bits)
    }

    /// Puts a subject in.
    pub(super) fn put(&mut self, subject: &Subject) {
        for bit in self.probes(subject) {
            self.bits[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Whether it may have been put in.
    pub(super) fn may_hold(&self, subject: &Subject) -> bool {
        self.probes(subject).all(|bit| self.bits[bit / 8] & 1 << (bit % 8) != 0)
    }

    fn probes(&self, subject: &Subject) -> impl Iterator<Item = usize> + use<> {
        let (start, step) = hashes(subject);
        let count = self.bits.len() as u64 * 8;
        (0..PROBES).map(move |nth| (start.wrapping_add(nth.wrapping_mul(step)) % count) as usize)
    }
}

/// Two hashes of a subject. They are stored (as bits of chapters): they never change.
fn hashes(subject: &Subject) -> (u64, u64) {
    let (sort, one, two) = match *subject {
        Subject::Message(id) => {
            let (high, low) = id.as_bytes().split_at(8);
            (1, number_of(high), number_of(low))
        }
        Subject::Place(topic, offset) => (2, u64::from(topic.0), offset.0),
        Subject::Transaction(number) => (3, number, 0),
        Subject::Key(hash) => (4, hash, 0),
    };
    let first = mixed(mixed(one ^ sort << 56) ^ two);
    (first, mixed(first) | 1)
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The finisher of splitmix64: every bit of the number touches every bit of the hash.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use escrow_protocol::{MessageId, Offset};

    use super::*;
    use crate::records::TopicNumber;

    fn subjects(from: u64, count: u64) -> impl Iterator<Item = Subject> {
        (from..from + count).map(|nth| match nth % 4 {
            0 => Subject::Message(MessageId::new(1_000_000 + nth, [nth as u8; 10])),
            1 => Subject::Place(TopicNumber(1), Offset(nth)),
            2 => Subject::Transaction(nth),
            _ => Subject::Key(nth),
        })
    }

    #[test]
    fn nothing_that_was_put_in_is_denied_and_little_else_is_claimed() {
        let mut sieve = Sieve::for_subjects(4_000);
        subjects(0, 4_000).for_each(|subject| sieve.put(&subject));
        let again = Sieve::of_bytes(&sieve.to_bytes());
        assert!(subjects(0, 4_000).all(|subject| again.may_hold(&subject)));
        let wrong = subjects(1_000_000, 10_000).filter(|subject| again.may_hold(subject)).count();
        assert!(wrong < 100, "{wrong} of 10,000 are claimed that were not put in");
    }

    #[test]
    fn an_open_one_denies_nothing() {
        assert!(subjects(0, 100).all(|subject| Sieve::of_bytes(&Bytes::new()).may_hold(&subject)));
    }
}
