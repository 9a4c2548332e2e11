//! The retries of a group: by place, and by how often each has failed, so that the worst is found without looking at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::groups::{PlaceInGroup, Retrying};

/// See the module. Looking goes through the map by place; changes keep both in step.
#[derive(Debug, Default)]
pub(super) struct Retries {
    by_place: BTreeMap<PlaceInGroup, Retrying>,
    by_attempts: BTreeSet<(u32, PlaceInGroup)>,
}

impl Deref for Retries {
    type Target = BTreeMap<PlaceInGroup, Retrying>;

    fn deref(&self) -> &Self::Target {
        &self.by_place
    }
}

impl Retries {
    pub(super) fn insert(&mut self, place: PlaceInGroup, retrying: Retrying) {
        let attempts = retrying.attempts_made;
        if let Some(before) = self.by_place.insert(place, retrying) {
            self.by_attempts.remove(&(before.attempts_made, place));
        }
        self.by_attempts.insert((attempts, place));
    }

    pub(super) fn remove(&mut self, place: &PlaceInGroup) -> Option<Retrying> {
        let retrying = self.by_place.remove(place)?;
        self.by_attempts.remove(&(retrying.attempts_made, *place));
        Some(retrying)
    }

    /// Its next attempt is due: it waits for no timer any more.
    pub(super) fn set_under_way(&mut self, place: &PlaceInGroup) -> Option<&Retrying> {
        let retrying = self.by_place.get_mut(place)?;
        retrying.is_planned = false;
        Some(retrying)
    }

    /// It is due then; when it was before, and whether a timer waits for it.
    pub(super) fn set_due(&mut self, place: &PlaceInGroup, due_at_ms: u64) -> Option<(u64, bool)> {
        let retrying = self.by_place.get_mut(place)?;
        Some((std::mem::replace(&mut retrying.due_at_ms, due_at_ms), retrying.is_planned))
    }

    /// The one that has failed most often, and how often.
    pub(super) fn worst(&self) -> Option<(u32, PlaceInGroup)> {
        self.by_attempts.last().copied()
    }

    /// See [`super::Engine::assert_invariants`].
    pub(super) fn assert_invariants(&self) {
        assert_eq!(
            self.by_place.len(),
            self.by_attempts.len(),
            "retries are not all found by their attempts"
        );
        let (attempts, place) = match self.worst() {
            Some(worst) => worst,
            None => return,
        };
        assert_eq!(self.by_place[&place].attempts_made, attempts, "the worst retry has other attempts");
    }
}
