//! How the broker's records are written: a version byte, then fields in order. Integers are LEB128 (7 bits a byte, low
//! first), texts and byte strings carry their length. Drawn in docs/format.md.

use bytes::Bytes;
use escrow_protocol::{MessageId, Offset, TransactionId};

/// A record that cannot be read: written by a newer release, or damaged in a way its checksum cannot show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {record} record does not read: {fault}")]
pub struct DecodeError {
    /// Which record.
    pub record: &'static str,
    /// What does not fit.
    pub fault: &'static str,
}

/// A type with one written form.
pub trait Record: Sized {
    /// Its name in errors.
    const NAME: &'static str;
    /// The version this release writes; it reads that and all before.
    const VERSION: u8 = 1;

    /// About how many bytes the fields take: room is made for so many at once.
    fn size_hint(&self) -> usize {
        96
    }

    /// Writes the fields.
    fn write(&self, to: &mut Writer);

    /// Reads the fields.
    ///
    /// # Errors
    /// If they do not read.
    fn read(from: &mut Reader) -> Result<Self, DecodeError>;

    /// The record as bytes.
    fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        self.encode_over(&mut bytes);
        // Exactly as large as it is: many of them are kept in memory, and what has room to spare costs that and a counter.
        bytes.into_boxed_slice().into()
    }

    /// Writes the record over what `bytes` hold, in their memory.
    fn encode_over(&self, bytes: &mut Vec<u8>) {
        let mut writer = Writer { bytes: std::mem::take(bytes) };
        writer.bytes.clear();
        writer.bytes.reserve(1 + self.size_hint());
        writer.bytes.push(Self::VERSION);
        self.write(&mut writer);
        *bytes = writer.bytes;
    }

    /// The record these bytes are.
    ///
    /// # Errors
    /// [`DecodeError`] if they are of a newer version, too short, too long, or hold an illegal value.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader { bytes, at: 0, record: Self::NAME };
        let version = reader.u8()?;
        if version == 0 || version > Self::VERSION {
            return Err(reader.fault("its version is not known to this release"));
        }
        let record = Self::read(&mut reader)?;
        match reader.left().is_empty() {
            true => Ok(record),
            false => Err(reader.fault("bytes are left over")),
        }
    }
}

/// Where fields are written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A flag: one byte, 0 or 1.
    pub fn flag(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// An integer, 1 to 10 bytes.
    pub fn int(&mut self, value: impl Into<u64>) {
        let mut value = value.into();
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Eight bytes, big-endian: for hashes, whose every bit is used.
    pub fn fixed(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.int(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A text.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A text that may be missing; the empty one stands for that.
    pub fn text_option(&mut self, value: Option<impl AsRef<str>>) {
        self.text(value.as_ref().map_or("", |text| text.as_ref()));
    }

    /// The 16 bytes of a message id.
    pub fn message_id(&mut self, id: MessageId) {
        self.bytes.extend_from_slice(id.as_bytes());
    }

    /// A transaction that may be missing: 0 stands for that.
    pub fn transaction_option(&mut self, id: Option<TransactionId>) {
        self.int(id.map_or(0, TransactionId::as_u64));
    }

    /// How many items follow, then each.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.int(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }
}

/// Where fields are read.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    /// Up to where they were read. An index is cheaper than to split the shared bytes at each field.
    at: usize,
    record: &'static str,
}

impl Reader {
    /// The error for this record.
    pub fn fault(&self, fault: &'static str) -> DecodeError {
        DecodeError { record: self.record, fault }
    }

    /// What was not read yet.
    fn left(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        if count > self.left().len() {
            return Err(self.fault("it is too short"));
        }
        let from = self.at;
        self.at += count;
        Ok(&self.bytes[from..self.at])
    }

    /// See [`Writer::u8`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// See [`Writer::flag`].
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.fault("a flag is neither 0 nor 1")),
        }
    }

    /// See [`Writer::int`].
    pub fn int(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault("an integer is longer than 64 bits"))
    }

    /// An integer of at most 32 bits.
    pub fn int32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.int()?).map_err(|_| self.fault("an integer is longer than 32 bits"))
    }

    /// See [`Writer::fixed`].
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8)?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    /// See [`Writer::bytes`]. Shares the memory of the record.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let count = self.length()?;
        self.take(count)?;
        Ok(self.bytes.slice(self.at - count..self.at))
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let count = self.int()?;
        usize::try_from(count).map_err(|_| self.fault("a length does not fit"))
    }

    fn str(&mut self) -> Result<&str, DecodeError> {
        let record = self.record;
        let count = self.length()?;
        let fault = DecodeError { record, fault: "a text is not UTF-8" };
        std::str::from_utf8(self.take(count)?).map_err(|_| fault)
    }

    /// See [`Writer::text`].
    pub fn text(&mut self) -> Result<String, DecodeError> {
        self.str().map(str::to_owned)
    }

    /// See [`Writer::text_option`].
    pub fn text_option(&mut self) -> Result<Option<String>, DecodeError> {
        Ok(Some(self.str()?).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// A text that must be a name.
    pub fn name<T: std::str::FromStr>(&mut self) -> Result<T, DecodeError> {
        let record = self.record;
        self.str()?.parse().map_err(|_| DecodeError { record, fault: "a name is not legal" })
    }

    /// A name that may be missing.
    pub fn name_option<T: std::str::FromStr>(&mut self) -> Result<Option<T>, DecodeError> {
        let record = self.record;
        match self.str()? {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| DecodeError { record, fault: "a name is not legal" }),
        }
    }

    /// See [`Writer::message_id`].
    pub fn message_id(&mut self) -> Result<MessageId, DecodeError> {
        let record = self.record;
        MessageId::from_slice(self.take(16)?)
            .map_err(|_| DecodeError { record, fault: "a message id is nil" })
    }

    /// See [`Writer::transaction_option`].
    pub fn transaction_option(&mut self) -> Result<Option<TransactionId>, DecodeError> {
        Ok(match self.int()? {
            0 => None,
            wire => Some(TransactionId::from_u64(wire)),
        })
    }

    /// An offset.
    pub fn offset(&mut self) -> Result<Offset, DecodeError> {
        self.int().map(Offset)
    }

    /// See [`Writer::list`].
    pub fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.int()?;
        // Each item takes a byte at least: a count beyond that is damage, not a reason to reserve memory.
        if count > self.left().len() as u64 {
            return Err(self.fault("a count is larger than the record"));
        }
        (0..count).map(|_| each(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Sample(u64, String, Vec<u64>);

    impl Record for Sample {
        const NAME: &'static str = "sample";

        fn write(&self, to: &mut Writer) {
            to.int(self.0);
            to.text(&self.1);
            to.list(&self.2, |to, item| to.int(*item));
        }

        fn read(from: &mut Reader) -> Result<Self, DecodeError> {
            Ok(Self(from.int()?, from.text()?, from.list(Reader::int)?))
        }
    }

    #[test]
    fn a_record_reads_what_it_writes() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let sample = Sample(number, "täxt".into(), vec![number, 5]);
            assert_eq!(Sample::decode(sample.encode()), Ok(sample));
        }
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let whole = Sample(300, "text".into(), vec![1, 2, 3]).encode();
        for length in 0..whole.len() {
            assert!(Sample::decode(whole.slice(..length)).is_err(), "cut at {length} was accepted");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert!(Sample::decode(longer.into()).is_err());
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut newer = Sample(1, String::new(), vec![]).encode().to_vec();
        newer[0] = 2;
        let error = Sample::decode(newer.into()).expect_err("refused");
        assert!(error.to_string().contains("version"), "{error}");
    }

    #[test]
    fn an_integer_beyond_64_bits_is_refused() {
        let mut bytes = vec![1];
        bytes.extend([0xff; 10]);
        assert!(Sample::decode(bytes.into()).is_err());
    }
}
