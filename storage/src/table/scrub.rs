//! Looking at every record of the table: for checking it, and for saving what can be read.

use bytes::Bytes;

use super::block::{self, PREFIX};
use super::guard::guarded;
use super::meta::{self, Meta};
use super::{Direction, Table, TableError};
use crate::values::{FileId, Held, Live};
use crate::{Key, ReadError, hex};

/// A record, or a stretch of them, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The key, if it is known; else only that something between two keys is lost.
    pub(crate) key: Option<Key>,
    pub(crate) fault: String,
}

impl Lost {
    pub(crate) fn at(key: Key, fault: String) -> Self {
        Self { key: Some(key), fault }
    }

    pub(crate) fn somewhere(fault: String) -> Self {
        Self { key: None, fault }
    }
}

/// What a scrub met.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    pub(crate) records: u64,
    pub(crate) lost: Vec<Lost>,
    /// How much of each file of values is pointed to, counted.
    live: std::collections::HashMap<FileId, Live>,
}

type Keep<'a, E> = &'a mut dyn FnMut(Key, Bytes) -> Result<(), E>;

impl Table {
    /// Hands every readable record to `keep`, and names the others. A page that cannot be read ends the walk; it is then
    /// walked from the other end up to that page.
    ///
    /// # Errors
    /// Only what `keep` answers, or a closed or failed disk.
    pub(crate) fn scrub<E: From<ReadError>>(&self, keep: Keep<'_, E>) -> Result<Scrub, E> {
        let mut scrub = Scrub::default();
        if let Some((forward_end, fault)) = self.scrub_towards(Direction::Forward, None, &mut scrub, keep)? {
            let from_the_end =
                self.scrub_towards(Direction::Backward, Some(&forward_end), &mut scrub, keep)?;
            let gap_end = from_the_end.map_or_else(String::new, |(key, _)| hex::of(&key));
            let gap = format!("between {} and {gap_end}: {fault}", hex::of(&forward_end));
            scrub.lost.push(Lost::somewhere(gap));
        }
        self.scrub_legacy(&mut scrub, keep)?;
        if scrub.lost.is_empty() && self.knows_live {
            self.compare_live(&mut scrub);
        }
        Ok(scrub)
    }

    /// Walks over the blocks until the end, `until` or a page that cannot be read; in that case the key of the last block
    /// before it and the fault.
    fn scrub_towards<E: From<ReadError>>(
        &self,
        direction: Direction,
        until: Option<&Key>,
        scrub: &mut Scrub,
        keep: Keep<'_, E>,
    ) -> Result<Option<(Key, String)>, E> {
        let db = self.reading()?;
        let mut blocks = db.range(&[PREFIX][..]..&[PREFIX + 1][..]);
        let mut at = Key::default();
        loop {
            let next = guarded(|| match direction {
                Direction::Forward => blocks.next().transpose(),
                Direction::Backward => blocks.next_back().transpose(),
            });
            let (key, bytes) = match next.map_err(|error| error.into_read_error(&at)) {
                Ok(None) => return Ok(None),
                Ok(Some((key, bytes))) => (Key::from(&key[1..]), bytes),
                Err(ReadError::Corrupt { fault, .. }) => return Ok(Some((at, fault))),
                Err(error) => return Err(error.into()),
            };
            if until.is_some_and(|until| key <= *until) {
                return Ok(None);
            }
            self.scrub_block(&key, &bytes, scrub, keep)?;
            at = key;
        }
    }

    fn scrub_block<E: From<ReadError>>(
        &self,
        key: &Key,
        bytes: &[u8],
        scrub: &mut Scrub,
        keep: Keep<'_, E>,
    ) -> Result<(), E> {
        let entries = match block::decode(key, bytes) {
            Ok(entries) => entries,
            Err(fault) => {
                let fault = format!("the records of the block from key {} on: {fault}", hex::of(key));
                scrub.lost.push(Lost::somewhere(fault));
                return Ok(());
            }
        };
        for (key, entry) in entries {
            scrub.records += 1;
            if let Held::At(pointer) = &entry {
                let live = scrub.live.entry(pointer.at.file).or_default();
                live.values += 1;
                live.bytes += u64::from(pointer.length);
            }
            match self.resolve(&key, entry) {
                Ok(value) => keep(key, value)?,
                Err(ReadError::Corrupt { fault, .. }) => scrub.lost.push(Lost::at(key, fault)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn scrub_legacy<E: From<ReadError>>(&self, scrub: &mut Scrub, keep: Keep<'_, E>) -> Result<(), E> {
        let walked = self.each_legacy::<Failure<E>>(&mut |old| {
            scrub.records += 1;
            match old.value {
                Ok(value) => keep(old.key, value).map_err(Failure::Keep)?,
                Err(ReadError::Corrupt { fault, .. }) => scrub.lost.push(Lost::at(old.key, fault)),
                Err(error) => return Err(Failure::Keep(error.into())),
            }
            Ok(true)
        });
        let strays = match walked {
            Ok(()) => self.stray_parts(),
            Err(Failure::Keep(error)) => return Err(error),
            Err(Failure::Table(error)) => Err(error),
        };
        match strays.map_err(|error| error.into_read_error(&[])) {
            Ok(strays) => scrub.lost.extend(strays),
            Err(ReadError::Corrupt { fault, .. }) => scrub.lost.push(Lost::somewhere(fault)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What is said of the files of values must be what was counted: by it they are deleted.
    fn compare_live(&self, scrub: &mut Scrub) {
        let said = self.live();
        let mut ids: Vec<_> = said.keys().chain(scrub.live.keys()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let (said, counted) = (said.get(&id).copied(), scrub.live.get(&id).copied());
            if said != counted {
                let Live { values, bytes } = counted.unwrap_or_default();
                let said = said.unwrap_or_default();
                scrub.lost.push(Lost::somewhere(format!(
                    "{values} values of {bytes} bytes in values/{id} are pointed to, {} of {} bytes were counted",
                    said.values, said.bytes
                )));
            }
        }
    }

    /// Reads what the table says of the files of values.
    pub(super) fn read_live(db: &sled::Db) -> Result<std::collections::HashMap<FileId, Live>, TableError> {
        let mut live = std::collections::HashMap::new();
        let mut records = db.range(super::apply::live_records());
        while let Some((key, bytes)) = guarded(|| records.next().transpose())? {
            let read = meta::file_of(&key).and_then(|id| Some((id, meta::decode_live(id, &bytes)?)));
            let (id, of_file) = read.ok_or_else(|| {
                TableError::Damaged(format!(
                    "what the table says of a file of values is damaged ({})",
                    hex::of(&key)
                ))
            })?;
            live.insert(id, of_file);
        }
        Ok(live)
    }

    /// What the table says of itself, if it says anything.
    pub(super) fn read_meta(db: &sled::Db) -> Result<Option<Meta>, TableError> {
        let Some(bytes) = guarded(|| db.get(meta::META_KEY))? else { return Ok(None) };
        let meta = Meta::decode(&bytes);
        meta.map(Some)
            .ok_or_else(|| TableError::Damaged("the record about the table itself is damaged".into()))
    }
}

/// How a walk over old records ended early.
enum Failure<E> {
    Keep(E),
    Table(TableError),
}

impl<E> From<TableError> for Failure<E> {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}
