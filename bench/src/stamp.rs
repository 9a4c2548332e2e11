//! The stamp in each body, and what became of each stamped message: so that a run knows what it lost.

use std::collections::HashMap;

/// Bytes of a stamp: the producer and the number of the message there, 8 bytes each.
pub(crate) const STAMP_BYTES: usize = 16;

/// Names one message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) producer: u64,
    pub(crate) number: u64,
}

impl Stamp {
    /// Writes it over the first bytes of a body, which has room for it.
    pub(crate) fn write(self, body: &mut [u8]) {
        body[..8].copy_from_slice(&self.producer.to_be_bytes());
        body[8..STAMP_BYTES].copy_from_slice(&self.number.to_be_bytes());
    }

    /// Reads it back; `None` from a body that has none.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (stamp, _) = body.split_first_chunk::<STAMP_BYTES>()?;
        let (producer, number) = stamp.split_first_chunk::<8>()?;
        Some(Self {
            producer: u64::from_be_bytes(*producer),
            number: u64::from_be_bytes(<[u8; 8]>::try_from(number).ok()?),
        })
    }
}

/// A set of stamps: one bit each, the numbers being dense.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stamps {
    bits: HashMap<u64, Vec<u64>>,
    count: u64,
}

impl Stamps {
    /// Adds one. False if it was there.
    pub(crate) fn add(&mut self, stamp: Stamp) -> bool {
        let words = self.bits.entry(stamp.producer).or_default();
        let (word, bit) =
            (usize::try_from(stamp.number / 64).unwrap_or(usize::MAX), 1 << (stamp.number % 64));
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        let new = words[word] & bit == 0;
        words[word] |= bit;
        self.count += u64::from(new);
        new
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Those whose numbers are `wanted`.
    pub(crate) fn only(&self, wanted: impl Fn(u64) -> bool) -> Self {
        let mut only = Self::default();
        for (&producer, words) in &self.bits {
            for (word, index) in words.iter().zip(0..) {
                let numbers = (0..64).filter(|bit| word & (1 << bit) != 0).map(|bit| index * 64 + bit);
                numbers.filter(|&number| wanted(number)).for_each(|number| {
                    only.add(Stamp { producer, number });
                });
            }
        }
        only
    }

    /// How many of these are in `other` too.
    pub(crate) fn shared_with(&self, other: &Self) -> u64 {
        let shared = |(producer, words): (&u64, &Vec<u64>)| {
            let others = other.bits.get(producer).map_or(&[][..], Vec::as_slice);
            words.iter().zip(others).map(|(a, b)| u64::from((a & b).count_ones())).sum::<u64>()
        };
        self.bits.iter().map(shared).sum()
    }

    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        for (producer, others) in other.bits {
            let words = self.bits.entry(producer).or_default();
            words.resize(words.len().max(others.len()), 0);
            words.iter_mut().zip(&others).for_each(|(word, other)| *word |= other);
        }
        self.count = self.bits.values().flatten().map(|word| u64::from(word.count_ones())).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(numbers: impl IntoIterator<Item = u64>) -> Stamps {
        let mut stamps = Stamps::default();
        for number in numbers {
            stamps.add(Stamp { producer: 1, number });
        }
        stamps
    }

    #[test]
    fn a_stamp_reads_what_it_writes_and_nothing_else() {
        let stamp = Stamp { producer: 3, number: 1 << 40 };
        let mut body = vec![9; 20];
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(Stamp::read(&body[..15]), None);
    }

    #[test]
    fn what_is_missing_shared_and_doubled_is_counted() {
        let (sent, mut received) = (stamps(0..1000), stamps(10..500));
        assert_eq!((sent.count(), sent.shared_with(&received)), (1000, 490));
        assert!(!received.add(Stamp { producer: 1, number: 10 }), "received twice");
        received.merge(stamps(0..1000));
        assert_eq!((sent.shared_with(&received), received.count()), (1000, 1000));
        let every_third = sent.only(|number| number % 3 == 0);
        assert_eq!((every_third.count(), every_third.shared_with(&stamps(0..4))), (334, 2));
    }
}
