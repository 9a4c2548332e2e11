//! The messages that share a business key, through the index of keys. Some may have another key with the same hash:
//! whoever reads them looks.

use escrow_protocol::MessageId;
use escrow_storage::{Read, ReadError};

use crate::records::keys;

/// Messages with the same key that are looked at, at most. A key that more share is no way to find one of them.
const MESSAGES_MAX: usize = 1_000;

/// Those that share `key`, in the order of the index; `None` if there are too many to be looked for in this way.
pub(super) fn messages(view: &dyn Read, key: &str) -> Result<Option<Vec<MessageId>>, ReadError> {
    let found = view.scan(&keys::business_key_range(keys::hash_of(key)), MESSAGES_MAX)?;
    if found.len() == MESSAGES_MAX {
        return Ok(None);
    }
    let ids = found.iter().filter_map(|(index_key, _)| keys::business_key_of(index_key));
    Ok(Some(ids.map(|(_, id)| id).collect()))
}
