//! All settings of the store on disk, with defaults and minimums.
//!
//! A value below its minimum is raised to it by [`Options::checked`], which every open does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::overlay::Layers;
use crate::{FailPoints, Faults, Observer};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How a [`crate::DiskStore`] is opened. `Options::default()` is right for a broker.
#[derive(Clone)]
pub struct Options {
    /// The overlay is frozen and written to the table when its edits take more than this, large values not counted, which it
    /// leaves in the journal. Half of this again is what was written to the journal last. So two and a half times this much
    /// memory is ordinary, [`Options::overlay_bytes_hard`] and that half the bound. Default 16 MiB, minimum 1 KiB.
    pub overlay_bytes_max: u64,
    /// What the live overlay and the one that is being written to the table take together at most: when the table cannot
    /// keep up and the live one reaches half of it, [`crate::Store::room`] is low until it has shrunk. Default 4 x
    /// `overlay_bytes_max`, minimum 2 x.
    pub overlay_bytes_hard: Option<u64>,
    /// A journal file that has reached this size is followed by a new one. Default 64 MiB, minimum 4 KiB.
    pub journal_file_bytes_max: u64,
    /// The overlay is frozen, however small, when the journal has grown by this since it was begun: it bounds what a
    /// restart has to read. It counts as `overlay_bytes_max` does: where the table cannot keep up, commits are held back from
    /// here on, and [`crate::Store::room`] is low when the journal is as many times as large as the overlay may be. Default 256 MiB,
    /// minimum 4 KiB.
    pub journal_bytes_max: u64,
    /// So many zeros are written ahead of the last frame at a time: a sync of blocks that exist costs half of a sync that
    /// has to add them. 0 writes none. Default 256 KiB: with more, each
    /// extension shows in the 99th percentile, with less, large batches profit less. None are written for batches of 128 KiB or more.
    pub journal_ahead_bytes: u64,
    /// What the table keeps in memory of its pages. Default 32 MiB, minimum 1 MiB.
    pub table_cache_bytes: u64,
    /// A table that takes longer to open hangs on damage. Default 20 s, minimum 1 s: what else a start or a verification does
    /// must fit into the 30 s after which a person takes it for hanging.
    pub table_open_limit: Duration,
    /// Below this much free space new messages are refused. Default 128 MiB; 0 never refuses.
    pub free_floor_bytes: u64,
    /// The size of the file that is deleted to make room when the disk is really full. Default 16 MiB; 0 keeps none.
    pub ballast_bytes: u64,
    /// The longest a commit is delayed while the table catches up. Default 100 ms, which is also the maximum.
    pub commit_delay_max: Duration,
    /// Is told how long appends, syncs and spills take. Default none.
    pub observer: Option<Arc<dyn Observer>>,
    /// Where the process dies on purpose. Default nowhere.
    pub failpoints: FailPoints,
    /// Which operations fail on purpose. Default none.
    pub faults: Faults,
}

/// The longest delay of a commit that may be configured.
pub const COMMIT_DELAY_MAX: Duration = Duration::from_millis(100);

impl Default for Options {
    fn default() -> Self {
        Self {
            overlay_bytes_max: 16 * MIB,
            overlay_bytes_hard: None,
            journal_file_bytes_max: 64 * MIB,
            journal_bytes_max: 256 * MIB,
            journal_ahead_bytes: 256 * KIB,
            table_cache_bytes: 32 * MIB,
            table_open_limit: Duration::from_secs(20),
            free_floor_bytes: 128 * MIB,
            ballast_bytes: 16 * MIB,
            commit_delay_max: COMMIT_DELAY_MAX,
            observer: None,
            failpoints: FailPoints::off(),
            faults: Faults::default(),
        }
    }
}

impl Options {
    /// These options with everything below its minimum raised to it, and the delay held under its maximum.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.overlay_bytes_max = self.overlay_bytes_max.max(KIB);
        self.journal_file_bytes_max = self.journal_file_bytes_max.max(4 * KIB);
        self.journal_bytes_max = self.journal_bytes_max.max(4 * KIB);
        self.table_cache_bytes = self.table_cache_bytes.max(MIB);
        self.table_open_limit = self.table_open_limit.max(Duration::from_secs(1));
        self.commit_delay_max = self.commit_delay_max.min(COMMIT_DELAY_MAX);
        self.overlay_bytes_hard = Some(self.hard_limit());
        self
    }

    /// How full the live overlay is, in bytes: by what it takes of memory, or by what a restart would have to read, so that
    /// [`Options::journal_bytes_max`] counts as [`Options::overlay_bytes_max`], and twice as much as twice that.
    pub(crate) fn load(&self, layers: &Layers) -> u64 {
        let journal_bytes = u128::from(layers.live_journal_bytes());
        let by_journal =
            journal_bytes * u128::from(self.overlay_bytes_max) / u128::from(self.journal_bytes_max);
        layers.live_bytes().max(by_journal.try_into().unwrap_or(u64::MAX))
    }

    /// How much of what was written to the journal last is kept in memory for reading, in bytes.
    pub(crate) fn frames_bytes_max(&self) -> u64 {
        self.overlay_bytes_max / 2
    }

    /// How many bytes of journal files are kept to be written over. One spill lets go of as much as may lie behind an overlay
    /// and the rest of a file, and as much is written until the next: with so many, none is begun anew meanwhile.
    pub(crate) fn spare_bytes_max(&self) -> u64 {
        self.journal_bytes_max.saturating_add(self.journal_file_bytes_max)
    }

    /// Where the live overlay's memory ends, in bytes: it may be as large as that when it is frozen, and then there are two.
    pub(crate) fn live_limit(&self) -> u64 {
        self.hard_limit() / 2
    }

    /// Where the memory of both overlays ends, in bytes.
    pub(crate) fn hard_limit(&self) -> u64 {
        let asked = self.overlay_bytes_hard.unwrap_or(self.overlay_bytes_max.saturating_mul(4));
        asked.max(self.overlay_bytes_max.saturating_mul(2))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("overlay_bytes_max", &self.overlay_bytes_max)
            .field("overlay_bytes_hard", &self.hard_limit())
            .field("journal_file_bytes_max", &self.journal_file_bytes_max)
            .field("journal_bytes_max", &self.journal_bytes_max)
            .field("journal_ahead_bytes", &self.journal_ahead_bytes)
            .field("table_cache_bytes", &self.table_cache_bytes)
            .field("table_open_limit", &self.table_open_limit)
            .field("free_floor_bytes", &self.free_floor_bytes)
            .field("ballast_bytes", &self.ballast_bytes)
            .field("commit_delay_max", &self.commit_delay_max)
            .field("failpoints", &self.failpoints)
            .finish_non_exhaustive()
    }
}
