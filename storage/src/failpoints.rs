//! Places where a crash rig lets the process die, as suddenly as `kill -9` would.
//!
//! The caller reads `ESCROW_FAILPOINT=name[:n]` and parses it with [`FailPoints::parse`]; this crate reads no
//! environment. When off, a place costs one comparison.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A place where the process can be told to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// The batch is encoded, nothing of it is written.
    BeforeAppend,
    /// The frame is written, not yet synced.
    AfterAppend,
    /// The frame is durable, readers do not see it yet and the caller does not know.
    AfterSync,
    /// Values are written to a file of copies, not yet synced; nothing points to them.
    InCopies,
    /// One batch of the frozen overlay is in the table, more may follow.
    InSpill,
    /// One batch of pointers leads to the copies of what lived in a file of values, more may follow; the file is still
    /// there.
    InEmptying,
    /// The table was flushed by sled, but not yet synced by us.
    BetweenFlushAndSync,
    /// The watermark is durable, the journal files below it are still there.
    BeforeJournalDrop,
    /// The journal files below the watermark are gone, their directory is not yet synced.
    AfterJournalDrop,
    /// The journal was read, nothing of the recovery is written yet.
    DuringRecovery,
}

impl FailPoint {
    /// All of them, for a rig that tries each.
    pub const ALL: [Self; 10] = [
        Self::BeforeAppend,
        Self::AfterAppend,
        Self::AfterSync,
        Self::InCopies,
        Self::InSpill,
        Self::InEmptying,
        Self::BetweenFlushAndSync,
        Self::BeforeJournalDrop,
        Self::AfterJournalDrop,
        Self::DuringRecovery,
    ];

    /// The name in `ESCROW_FAILPOINT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeAppend => "before_append",
            Self::AfterAppend => "after_append",
            Self::AfterSync => "after_sync",
            Self::InCopies => "in_copies",
            Self::InSpill => "in_spill",
            Self::InEmptying => "in_emptying",
            Self::BetweenFlushAndSync => "between_flush_and_sync",
            Self::BeforeJournalDrop => "before_journal_drop",
            Self::AfterJournalDrop => "after_journal_drop",
            Self::DuringRecovery => "during_recovery",
        }
    }
}

/// `text` is no fail point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no fail point; use name[:n] with n from 1 and a name of: {known}")]
pub struct UnknownFailPoint {
    /// What was given.
    pub text: String,
    /// The names there are.
    pub known: String,
}

/// At which place the process dies, if at all. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct FailPoints {
    armed: Option<Arc<Armed>>,
}

#[derive(Debug)]
struct Armed {
    point: FailPoint,
    /// How many passes are left; the one that takes it to zero dies.
    left: AtomicU64,
}

impl FailPoints {
    /// None: nothing dies. The default.
    pub fn off() -> Self {
        Self::default()
    }

    /// The process dies when `point` is passed for the `nth` time (1 is the first).
    pub fn at(point: FailPoint, nth: u64) -> Self {
        Self { armed: Some(Arc::new(Armed { point, left: AtomicU64::new(nth.max(1)) })) }
    }

    /// Reads `name` or `name:n`; an empty text is [`FailPoints::off`].
    ///
    /// # Errors
    /// [`UnknownFailPoint`] for any other text. Reaction: do not start, a rig would test nothing.
    pub fn parse(text: &str) -> Result<Self, UnknownFailPoint> {
        if text.is_empty() {
            return Ok(Self::off());
        }
        let unknown = || UnknownFailPoint {
            text: text.to_owned(),
            known: FailPoint::ALL.map(FailPoint::name).join(", "),
        };
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let point = FailPoint::ALL.into_iter().find(|point| point.name() == name).ok_or_else(unknown)?;
        let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(unknown)?;
        Ok(Self::at(point, nth))
    }

    /// Passes `point`: dies here if it is its turn.
    pub(crate) fn pass(&self, point: FailPoint) {
        let Some(armed) = &self.armed else { return };
        if armed.point == point && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::error!(fail_point = point.name(), "dying at a fail point, as ordered");
            std::process::abort();
        }
    }
}

impl FromStr for FailPoints {
    type Err = UnknownFailPoint;

    fn from_str(text: &str) -> Result<Self, UnknownFailPoint> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_and_others_are_refused() {
        for point in FailPoint::ALL {
            assert_eq!(FailPoints::parse(point.name()).unwrap().armed.unwrap().point, point);
        }
        let third = FailPoints::parse("in_spill:3").unwrap();
        assert_eq!(third.armed.unwrap().left.load(Ordering::Relaxed), 3);
        assert!(FailPoints::parse("").unwrap().armed.is_none());
        for text in ["nowhere", "in_spill:0", "in_spill:", "in_spill:x"] {
            assert!(FailPoints::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pass_that_is_not_due_lives_on() {
        let points = FailPoints::at(FailPoint::InSpill, 2);
        points.pass(FailPoint::AfterSync);
        points.pass(FailPoint::InSpill);
    }
}
