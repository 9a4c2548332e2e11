//! How many dead letters each group got within the last minute: from how far its dead-letter topic has come, seen now and
//! then. Pure.

use std::collections::{BTreeMap, VecDeque};

/// The time that is looked back on, milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Looks closer together than this are one, milliseconds: bounds what is kept.
const APART_MS: u64 = 2_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Growths {
    seen: BTreeMap<String, VecDeque<(u64, u64)>>,
}

impl Growths {
    /// A group's counter, which only rises, stands at `count` now: by how much it rose within the last minute.
    pub(super) fn of(&mut self, group: &str, now_mono_ms: u64, count: u64) -> u64 {
        let seen = match self.seen.get_mut(group) {
            Some(seen) => seen,
            None => self.seen.entry(group.to_owned()).or_default(),
        };
        // A group of the same name that was made anew begins anew.
        if seen.back().is_some_and(|(_, before)| *before > count) {
            seen.clear();
        }
        while seen.front().is_some_and(|(at, _)| now_mono_ms.saturating_sub(*at) > WINDOW_MS) {
            seen.pop_front();
        }
        if seen.back().is_none_or(|(at, _)| now_mono_ms.saturating_sub(*at) >= APART_MS) {
            seen.push_back((now_mono_ms, count));
        }
        count - seen.front().map_or(count, |(_, before)| *before)
    }

    /// Forgets the groups that were looked for and are gone.
    pub(super) fn keep(&mut self, stays: impl Fn(&str) -> bool) {
        self.seen.retain(|group, _| stays(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_last_minute() {
        let mut growths = Growths::default();
        for (at_ms, count, growth) in [
            (0, 100, 0),
            (500, 103, 3),
            (1_000, 105, 5),
            (30_000, 110, 10),
            (60_000, 110, 10),
            // The look at 0 is out of sight; the next one kept is that at 30 s.
            (61_000, 110, 0),
            (62_000, 111, 1),
            // Made anew.
            (63_000, 2, 0),
        ] {
            assert_eq!(growths.of("billing", at_ms, count), growth, "at {at_ms}");
        }
    }

    #[test]
    fn groups_that_are_gone_are_forgotten() {
        let mut growths = Growths::default();
        growths.of("a", 0, 1);
        growths.of("b", 0, 1);
        growths.keep(|group| group == "b");
        assert_eq!(growths.seen.keys().collect::<Vec<_>>(), ["b"]);
    }
}
