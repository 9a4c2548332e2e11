//! The store: its numbers, and whether it is sound.

use escrow_protocol::v1;

use crate::cli::output::{Bytes, Count, view};

view! {
    /// The numbers of a store.
    StoreStatsView {
        /// Where it lives.
        data_dir: String = "DIRECTORY",
        /// The format of its files.
        format: u32 = _,
        /// The last commit.
        last_sequence: u64 = "SEQUENCE",
        /// The last commit that is in the table.
        spilled_sequence: u64 = "SPILLED",
        /// Files of the journal.
        journal_files: u64 = _,
        /// Bytes of the journal.
        journal_bytes: Bytes = "JOURNAL",
        /// Memory of what is not yet in the table.
        overlay_bytes: Bytes = "OVERLAY",
        /// Bytes of the table.
        table_bytes: Bytes = "TABLE",
        /// Bytes of the commits since the start, as the journal has them.
        appended_bytes: Bytes = _,
        /// Syncs since the start.
        syncs: Count = _,
        /// How long the last one took, microseconds.
        last_sync_us: u64 = "LAST SYNC µs",
        /// What half of the syncs since the start took at most, microseconds.
        sync_p50_us: u64 = _,
        /// And 99 of 100.
        sync_p99_us: u64 = _,
        /// How long the last spill took, microseconds; 0: there was none since the start.
        last_spill_us: u64 = _,
        /// Damaged records that were met.
        corrupt_records: Count = "DAMAGED",
        /// Free space of the disk.
        disk_free_bytes: Bytes = "DISK FREE",
    }
}

view! {
    /// What lies in a data directory that no broker has open.
    StoredStatsView {
        /// The directory.
        data_dir: String = "DIRECTORY",
        /// The last whole commit.
        last_sequence: u64 = "SEQUENCE",
        /// Records in the table.
        table_records: Count = "RECORDS",
        /// Bytes of the table's files.
        table_bytes: Bytes = "TABLE",
        /// Files of the journal.
        journal_files: u64 = _,
        /// Commits in the journal, those that are also in the table among them.
        journal_frames: Count = "COMMITS",
        /// Bytes of the journal's files, the zeros written ahead included.
        journal_bytes: Bytes = "JOURNAL",
        /// Bytes of a torn last write, which the next start cuts.
        torn_bytes: Bytes = _,
        /// What is wrong: `escrow store verify` names it.
        faults: Count = "FAULTS",
    }
}

view! {
    /// What a check of the store found.
    VerifyView {
        /// Nothing is wrong.
        sound: bool = "SOUND",
        /// Records of the table and commits of the journal that were read.
        records: Count = "RECORDS",
        /// Each with its place and remedy.
        faults: Vec<String> = "FAULTS",
    }
}

impl From<v1::StoreStats> for StoreStatsView {
    fn from(stats: v1::StoreStats) -> Self {
        Self {
            data_dir: stats.data_dir,
            format: stats.format,
            last_sequence: stats.last_sequence,
            spilled_sequence: stats.spilled_sequence,
            journal_files: stats.journal_files,
            journal_bytes: Bytes(stats.journal_bytes),
            overlay_bytes: Bytes(stats.overlay_bytes),
            table_bytes: Bytes(stats.table_bytes),
            appended_bytes: Bytes(stats.appended_bytes),
            syncs: Count(stats.syncs),
            last_sync_us: stats.last_sync_us,
            sync_p50_us: stats.sync_p50_us,
            sync_p99_us: stats.sync_p99_us,
            last_spill_us: stats.last_spill_us,
            corrupt_records: Count(stats.corrupt_records),
            disk_free_bytes: Bytes(stats.disk_free_bytes),
        }
    }
}

impl From<v1::VerifyStoreResponse> for VerifyView {
    fn from(verified: v1::VerifyStoreResponse) -> Self {
        Self { sound: verified.sound, records: Count(verified.records), faults: verified.faults }
    }
}
