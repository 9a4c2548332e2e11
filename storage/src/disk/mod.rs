//! The store on disk: journal, overlay and table put together.

mod open;
mod reader;
mod shared;
mod snapshot;
mod spill;
mod store;

pub use open::Opened;
pub use reader::DiskReader;
pub use snapshot::Snapshot;
pub use store::DiskStore;

pub(crate) use open::{check_against_journal, check_against_mark};
pub(crate) use shared::Shared;
