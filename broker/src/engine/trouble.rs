//! Why a step of the engine ended early: the input is at fault, or the store is.

use escrow_protocol::Reason;
use escrow_storage::ReadError;

use super::Refusal;

/// See the module.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Answer it; nothing was changed.
    Refused(Refusal),
    /// The store failed: the turn must not be committed.
    Failed(ReadError),
}

/// The result of a step.
pub(super) type Step<T> = Result<T, Trouble>;

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ReadError> for Trouble {
    /// A damaged record refuses what needs it; everything else goes on.
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt { ref key, .. } => {
                let message = format!("{error}; run `escrow store verify` and restore a backup if need be");
                Self::Refused(Refusal::new(Reason::Damaged, message).with("record", key))
            }
            ReadError::Failed(_) => Self::Failed(error),
        }
    }
}
