//! Which stories of messages a data directory no longer holds: whether their retention went on under a load. Opens the store
//! as a broker does, so the broker must be gone; changes nothing that a start would not.

use std::path::Path;

use escrow_broker::records::keys;
use escrow_storage::{DiskStore, Options, Read as _, Store as _};

/// Settings under which stories are forgotten all the time: a chapter is closed after an eighth of the age, and goes when
/// there are more notes than so many.
pub const FORGETFUL: [&str; 2] = ["retention.story_age=2s", "retention.story_count=200"];

/// How many stories were written to `dir` by a load and forgotten, at least: they are numbered from 1, and go oldest first. If
/// none is left, all were, and nothing says how many: that counts as one.
///
/// # Errors
/// If the store does not open.
pub fn forgotten_stories(dir: &Path) -> Result<u64, String> {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let (store, _) = DiskStore::open(dir, options).map_err(|error| error.to_string())?;
    let oldest =
        store.reader().scan(&keys::story_range(0, u64::MAX), 1).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    let oldest = oldest.first().and_then(|(key, _)| keys::story_of(key));
    Ok(oldest.map_or(1, |oldest| oldest - 1))
}
