//! How long whoever takes a backup may keep it waiting: each piece in time, and all of them at a pace.
//!
//! While a backup is taken its view of the store keeps an overlay in memory. One who takes every piece at the last moment
//! would hold it for ever.

use std::time::Duration;

/// Whoever takes less than this over a long time has stalled, however regularly it comes: 1 MiB in a second, with which
/// 10 GB take less than three hours.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// A reserve of waiting time, used up by waiting and filled by what is taken.
#[derive(Debug)]
pub(super) struct Patience {
    full: Duration,
    left: Duration,
}

impl Patience {
    /// A full one.
    pub(super) fn new(full: Duration) -> Self {
        Self { full, left: full }
    }

    /// How long the next piece may wait.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// A piece of `bytes` was taken after so long.
    pub(super) fn spend(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_SECOND_MIN);
        // No more than a full one: who was fast may not stand still all the longer.
        self.left = (self.left.saturating_sub(waited) + earned).min(self.full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Duration = Duration::from_secs(30);
    const PIECE: usize = 64 << 10;

    /// How many pieces are taken by one who takes each after `wait`; none: it never ends.
    fn pieces_taken(wait: Duration) -> Option<u32> {
        let mut patience = Patience::new(FULL);
        for taken in 0..100_000 {
            if wait > patience.left() {
                return Some(taken);
            }
            patience.spend(wait, PIECE);
        }
        None
    }

    #[test]
    fn who_takes_each_piece_in_time_but_all_too_slowly_is_ended() {
        assert_eq!(pieces_taken(Duration::from_secs(31)), Some(0));
        assert_eq!(pieces_taken(Duration::from_secs(29)), Some(1));
        let taken = pieces_taken(Duration::from_millis(100)).expect("640 KiB in a second are too few");
        assert!((700..900).contains(&taken), "{taken}");
    }

    #[test]
    fn who_keeps_the_pace_may_take_as_long_as_there_is_something() {
        assert_eq!(pieces_taken(Duration::from_millis(60)), None);
    }

    #[test]
    fn haste_earns_no_right_to_stand_still() {
        let mut patience = Patience::new(FULL);
        (0..100_000).for_each(|_| patience.spend(Duration::ZERO, PIECE));
        assert_eq!(patience.left(), FULL);
    }
}
