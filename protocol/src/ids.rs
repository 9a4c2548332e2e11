//! Ids, offsets and tokens: newtypes, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Text or bytes that are not the id they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {remedy}")]
pub struct IdError {
    what: &'static str,
    text: String,
    remedy: &'static str,
}

/// Which shard of a broker something belongs to. One shard (0) is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u8);

/// The id of a message: a UUID (version 7), made once by whoever makes the message. Sending the same id again is sending
/// the same message again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// An id from the time it is made (Unix milliseconds) and ten random bytes.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid().into_bytes())
    }

    /// The id with exactly these bytes.
    ///
    /// # Errors
    /// If there are not 16 of them, or all are zero.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        match <[u8; 16]>::try_from(bytes) {
            Ok(id) if id != [0; 16] => Ok(Self(id)),
            _ => Err(IdError {
                what: "message id",
                text: format!("{} bytes", bytes.len()),
                remedy: "send the 16 bytes of a UUID that is not nil",
            }),
        }
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            what: "message id",
            text: text.to_owned(),
            remedy: "write it as a UUID that is not nil, e.g. 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d",
        };
        let uuid = Uuid::parse_str(text).map_err(|_| wrong())?;
        Self::from_slice(uuid.as_bytes()).map_err(|_| wrong())
    }
}

/// The id of a transaction: made by the broker, ascending within a shard, never used twice.
///
/// The top 8 bits are the shard, the rest its number there (from 1). As text: `tx-<shard>-<number>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(u64);

impl TransactionId {
    const NUMBER_BITS: u32 = 56;

    /// The `number`-th transaction of `shard`.
    ///
    /// # Panics
    /// If `number` needs more than 56 bits (2,000 years at a million a second).
    pub fn new(shard: ShardId, number: u64) -> Self {
        assert!(number < 1 << Self::NUMBER_BITS, "transaction numbers have 56 bits");
        Self(u64::from(shard.0) << Self::NUMBER_BITS | number)
    }

    /// From its form on the wire.
    pub fn from_u64(wire: u64) -> Self {
        Self(wire)
    }

    /// Its form on the wire.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The shard it lives in.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> Self::NUMBER_BITS) as u8)
    }

    /// Its number within the shard.
    pub fn number(self) -> u64 {
        self.0 & ((1 << Self::NUMBER_BITS) - 1)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tx-{}-{}", self.shard().0, self.number())
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TransactionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            what: "transaction id",
            text: text.to_owned(),
            remedy: "write it as tx-<shard>-<number>, e.g. tx-0-42",
        };
        let (shard, number) =
            text.strip_prefix("tx-").and_then(|rest| rest.split_once('-')).ok_or_else(wrong)?;
        let shard: u8 = shard.parse().map_err(|_| wrong())?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        if number == 0 || number >= 1 << Self::NUMBER_BITS {
            return Err(wrong());
        }
        Ok(Self::new(ShardId(shard), number))
    }
}

/// A place in a topic: 0 for the first message, one more for each. Dense; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// The one behind this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease. Only the current one of a message counts; one from before a restart never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_id_reads_what_it_writes() {
        let id = TransactionId::new(ShardId(3), 42);
        assert_eq!(id.to_string(), "tx-3-42");
        assert_eq!("tx-3-42".parse(), Ok(id));
        assert_eq!((id.shard(), id.number()), (ShardId(3), 42));
    }

    #[test]
    fn transaction_id_refuses_other_text() {
        for text in ["", "42", "tx-0", "tx-0-0", "tx-256-1", "tx-0-x", "tx-0-72057594037927936"] {
            assert!(text.parse::<TransactionId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn message_id_is_a_version_7_uuid_that_reads_what_it_writes() {
        let id = MessageId::new(1_700_000_000_000, [7; 10]);
        let text = id.to_string();
        assert_eq!(text.as_bytes()[14], b'7');
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn message_id_refuses_nil_and_other_lengths() {
        assert!(MessageId::from_slice(&[0; 16]).is_err());
        assert!(MessageId::from_slice(&[1; 15]).is_err());
        assert!("not-a-uuid".parse::<MessageId>().is_err());
    }
}
