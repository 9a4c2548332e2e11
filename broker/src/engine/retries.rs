//! The retries of a group: by place, by when each is due, and by how often each has failed, so that a page of the next
//! ones and the worst are found without looking at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};

use super::groups::{PlaceInGroup, Retrying};

/// See the module. Looking goes through the map by place; changes keep all three in step.
#[derive(Debug, Default)]
pub(super) struct Retries {
    by_place: BTreeMap<PlaceInGroup, Retrying>,
    by_due: BTreeSet<(u64, PlaceInGroup)>,
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
        let (due_at_ms, attempts) = (retrying.due_at_ms, retrying.attempts_made);
        if let Some(before) = self.by_place.insert(place, retrying) {
            self.by_due.remove(&(before.due_at_ms, place));
            self.by_attempts.remove(&(before.attempts_made, place));
        }
        self.by_due.insert((due_at_ms, place));
        self.by_attempts.insert((attempts, place));
    }

    pub(super) fn remove(&mut self, place: &PlaceInGroup) -> Option<Retrying> {
        let retrying = self.by_place.remove(place)?;
        self.by_due.remove(&(retrying.due_at_ms, *place));
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
        let before = std::mem::replace(&mut retrying.due_at_ms, due_at_ms);
        self.by_due.remove(&(before, *place));
        self.by_due.insert((due_at_ms, *place));
        Some((before, retrying.is_planned))
    }

    /// The next ones after this one, soonest first; one that is under way is due since then.
    pub(super) fn due_after(
        &self,
        after: Option<(u64, PlaceInGroup)>,
    ) -> impl Iterator<Item = &(u64, PlaceInGroup)> {
        self.by_due.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
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
        let by_due: BTreeSet<_> =
            self.by_place.iter().map(|(place, retrying)| (retrying.due_at_ms, *place)).collect();
        assert_eq!(by_due, self.by_due, "retries are not all found by when they are due");
        let (attempts, place) = match self.worst() {
            Some(worst) => worst,
            None => return,
        };
        assert_eq!(self.by_place[&place].attempts_made, attempts, "the worst retry has other attempts");
    }
}
