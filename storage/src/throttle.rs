//! How long a commit is held back while the table catches up: a little, then more, never a stall.
//!
//! Pure.

use std::time::Duration;

/// The delay of a commit when the live overlay has `live` bytes while another one is still being written to the table.
/// Zero up to `limit`; from there it grows with the square of the excess, to `longest` at `hard`.
///
/// The square keeps short bursts free: at a third of the way it is a ninth of the longest.
pub(crate) fn delay(live: u64, limit: u64, hard: u64, longest: Duration) -> Duration {
    let excess = live.saturating_sub(limit) as f64;
    let way = hard.saturating_sub(limit).max(1) as f64;
    let share = (excess / way).min(1.0);
    longest.mul_f64(share * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_smooth_and_bounded() {
        let longest = Duration::from_millis(100);
        let delays: Vec<_> = (0..=1000).map(|live| delay(live, 100, 400, longest)).collect();
        assert!(delays[..=100].iter().all(Duration::is_zero));
        assert!(delays.is_sorted());
        assert_eq!(delays[400], longest);
        assert_eq!(delays[1000], longest);
        let steepest = delays.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(steepest < Duration::from_millis(1), "no jump: {steepest:?}");
        assert_eq!(delay(9, 8, 8, longest), longest, "no division by zero");
    }
}
