//! Dead letters by business key: through the index of keys and the places where messages died, so that one of a hundred
//! thousand is found without looking at the others.

use escrow_protocol::Offset;
use escrow_storage::{Read, ReadError};

use super::same_key;
use crate::dispatch::{decode, record};
use crate::records::{DeadPlace, Group, Place, Standing, TopicNumber, keys};

/// Groups in which one message may be dead, at most.
const GROUPS_MAX: usize = 1_000;

/// The places of the dead letters whose message has this key, in the order of the list; some may belong to another key with
/// the same hash. `None` if there are too many to be looked for in this way.
pub(super) fn places(view: &dyn Read, key: &str) -> Result<Option<Vec<(TopicNumber, Offset)>>, ReadError> {
    let Some(messages) = same_key::messages(view, key)? else { return Ok(None) };
    let mut places = Vec::new();
    for id in messages {
        let Some(place) = record::<Place>(view, &keys::place(id))? else { continue };
        let Standing::Queued { topic, offset, .. } = place.standing else { continue };
        let dead = view.scan(&keys::dead_place_range(topic, offset, offset.next()), GROUPS_MAX)?;
        if dead.len() == GROUPS_MAX {
            return Ok(None);
        }
        for (held, value) in dead {
            let Some((_, _, group)) = keys::held_of(&held) else { continue };
            let DeadPlace { offset } = decode(&held, value)?;
            let Some(group) = record::<Group>(view, &keys::group(group))? else { continue };
            places.push((group.dead_letters, offset));
        }
    }
    places.sort_unstable();
    Ok(Some(places))
}
