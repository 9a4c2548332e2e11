//! Making a data directory from records: an empty one for a new store, a full one for a restore or a salvage.
//!
//! Writes no `FORMAT`: until the caller does that, the directory is not one.

use bytes::Bytes;

use crate::directory::{Layout, create_with_parents, io_error, sync_dir};
use crate::journal;
use crate::journal::frame::Header;
use crate::table::{self, Change, Meta, NewValue, Table, TableError};
use crate::watermark::{Mark, Watermark};
use crate::{Edit, Epoch, FailPoints, Key, OpenError, Options, remedy};

/// How many bytes of records are collected before they go to the table.
const PENDING_BYTES_MAX: usize = 8 << 20;

/// A directory in the making.
pub(crate) struct Builder {
    layout: Layout,
    table: Table,
    pending: Vec<(Key, Edit)>,
    pending_bytes: usize,
}

impl Builder {
    /// Makes the directories and an empty table. A table that is there already must be empty.
    pub(crate) fn begin(layout: &Layout, options: &Options) -> Result<Self, OpenError> {
        create_with_parents(&layout.journal())?;
        create_with_parents(&layout.table())?;
        create_with_parents(&layout.values())?;
        let table = Table::open(&layout.table(), options.table_cache_bytes, options.table_open_limit)?;
        if table.meta().is_some_and(|meta| meta != Meta::default()) {
            return Err(without_format(layout));
        }
        table.initialise(Meta::default())?;
        Ok(Self { layout: layout.clone(), table, pending: Vec::new(), pending_bytes: 0 })
    }

    /// Adds an edit; a later one of the same key wins.
    pub(crate) fn add(&mut self, key: Key, edit: Edit) -> Result<(), OpenError> {
        // Within one piece each key may occur once.
        if self.pending.last().is_some_and(|(last, _)| *last >= key) {
            self.apply(0)?;
        }
        self.pending_bytes += key.len() + edit.value().map_or(0, Bytes::len);
        self.pending.push((key, edit));
        if self.pending_bytes >= PENDING_BYTES_MAX { self.apply(0) } else { Ok(()) }
    }

    /// Makes everything durable as the state after `sequence`, with `epoch` as the last claim.
    pub(crate) fn finish(
        mut self,
        sequence: u64,
        epoch: Epoch,
        options: &Options,
    ) -> Result<Table, OpenError> {
        self.apply(sequence)?;
        self.table.sync(&FailPoints::off()).map_err(|error| self.error(error))?;
        let records = self.table.meta().unwrap_or_default().records;
        let layout = &self.layout;
        Watermark::create(
            &layout.watermark(),
            Mark { sequence, records, epoch: epoch.0, committed: sequence },
        )?;
        let header = Header { epoch, first: sequence + 1, is_reused: false };
        journal::create_file(&layout.journal(), &header, &options.faults)
            .map_err(|error| io_error(&layout.journal(), error.into()))?;
        sync_dir(&layout.root).map_err(|source| io_error(&layout.root, source))?;
        Ok(self.table)
    }

    fn apply(&mut self, sequence: u64) -> Result<(), OpenError> {
        let edits = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let edits = edits.iter().map(|(key, edit)| Change { key, value: edit.value().map(NewValue::Here) });
        let applied = self.table.apply(edits, sequence, &|| false, &FailPoints::off());
        applied.map(|_| ()).map_err(|error| self.error(error))
    }

    fn error(&self, error: TableError) -> OpenError {
        match error {
            TableError::Io(source) => io_error(&self.table.path(), source),
            other => table::damaged(&self.layout.table(), other.to_string()),
        }
    }
}

/// There is data, but the file that says that it is complete is missing.
pub(crate) fn without_format(layout: &Layout) -> OpenError {
    OpenError::Damaged {
        file: layout.format(),
        fault: "it is missing, but there is data; a restore may have been interrupted".into(),
        remedy: remedy::RESTORE.into(),
    }
}
