//! Looking at every record of the table: for checking it, and for saving what can be read.

use bytes::Bytes;

use super::guard::guarded;
use super::record::{self, Head};
use super::{Direction, Table};
use crate::disk::everything;
use crate::{ReadError, hex};

/// A record, or a stretch of them, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The key, if it is known; else only that something between two keys is lost.
    pub(crate) key: Option<Bytes>,
    pub(crate) fault: String,
}

/// What a scrub met.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    pub(crate) records: u64,
    pub(crate) lost: Vec<Lost>,
}

impl Table {
    /// Hands every readable record to `keep`, and names the others. A page that cannot be read ends the walk; it is then
    /// walked from the other end up to that page.
    ///
    /// # Errors
    /// Only what `keep` answers, or a closed or failed disk.
    pub(crate) fn scrub<E: From<ReadError>>(
        &self,
        keep: &mut dyn FnMut(Bytes, Bytes) -> Result<(), E>,
    ) -> Result<Scrub, E> {
        let mut scrub = Scrub::default();
        let Some((forward_end, fault)) = self.scrub_towards(Direction::Forward, None, &mut scrub, keep)?
        else {
            return Ok(scrub);
        };
        let from_the_end = self.scrub_towards(Direction::Backward, Some(&forward_end), &mut scrub, keep)?;
        let gap_end = from_the_end.map_or_else(String::new, |(key, _)| hex::of(&key));
        let gap = format!("between {} and {gap_end}: {fault}", hex::of(&forward_end));
        scrub.lost.push(Lost { key: None, fault: gap });
        Ok(scrub)
    }

    /// Walks until the end, `until` or a page that cannot be read; in that case the last key before it and the fault.
    fn scrub_towards<E: From<ReadError>>(
        &self,
        direction: Direction,
        until: Option<&Bytes>,
        scrub: &mut Scrub,
        keep: &mut dyn FnMut(Bytes, Bytes) -> Result<(), E>,
    ) -> Result<Option<(Bytes, String)>, E> {
        let mut heads = self.heads(&everything(), direction)?;
        let mut at = Bytes::new();
        loop {
            let (key, head) = match heads.next() {
                Ok(None) => return Ok(None),
                Ok(Some((key, _))) if until.is_some_and(|until| key <= *until) => return Ok(None),
                Ok(Some(found)) => found,
                Err(ReadError::Corrupt { fault, .. }) => return Ok(Some((at, fault))),
                Err(error) => return Err(error.into()),
            };
            scrub.records += 1;
            match heads.value(&key, &head) {
                Ok(value) => keep(key.clone(), value)?,
                Err(ReadError::Corrupt { fault, .. }) => {
                    scrub.lost.push(Lost { key: Some(key.clone()), fault });
                }
                Err(error) => return Err(error.into()),
            }
            at = key;
        }
    }

    /// Parts that belong to no record, or lie behind its end: each a sign of a head that is gone or wrong.
    pub(crate) fn stray_parts(&self) -> Result<Vec<Lost>, ReadError> {
        let db = self.reading()?;
        let mut strays = Vec::new();
        let mut parts = db.range(record::ALL_PARTS);
        let mut owner = Bytes::new();
        let mut count = 0;
        loop {
            let next = guarded(|| parts.next().transpose()).map_err(|error| error.into_read_error(&owner))?;
            let Some((part, _)) = next else { return Ok(strays) };
            let Some((key, number)) = record::key_of_part(&part) else {
                strays.push(Lost { key: None, fault: format!("{} is no record", hex::of(&part)) });
                continue;
            };
            if owner != key || count == 0 {
                owner = Bytes::copy_from_slice(key);
                let head =
                    guarded(|| db.get(record::head_key(key))).map_err(|error| error.into_read_error(key))?;
                let length =
                    head.as_deref().and_then(|head| Head::decode(head).ok()).map_or(0, |head| head.length);
                count = record::part_count(length);
            }
            if number >= count {
                let fault = format!("part {number} belongs to no record");
                strays.push(Lost { key: Some(owner.clone()), fault });
            }
        }
    }
}
