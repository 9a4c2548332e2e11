//! The leases a consumer holds, and when to renew them. No I/O and no clock.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// A lease is looked at this many times before it would end.
const LOOKS_PER_LEASE: u32 = 6;

#[derive(Debug)]
struct Lease {
    bytes: u64,
    length: Duration,
    ends: Instant,
    held_since: Instant,
    /// False once it cannot be renewed any more: its session is gone, or the broker said that it is over.
    alive: bool,
}

/// All leases of one consumer: of deliveries that wait in the client, are in user code, or whose settlement is under
/// way.
#[derive(Debug)]
pub(crate) struct Leases {
    held: HashMap<u64, Lease>,
    bytes: u64,
    hold_max: Duration,
    next_look: Option<Instant>,
}

impl Leases {
    /// Renews each lease until it was held for `hold_max`.
    pub(crate) fn new(hold_max: Duration) -> Self {
        Self { held: HashMap::new(), bytes: 0, hold_max, next_look: None }
    }

    /// How many are held.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// The bytes of their bodies.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A delivery came.
    pub(crate) fn take(&mut self, token: u64, bytes: u64, length: Duration, now: Instant) {
        let lease = Lease { bytes, length, ends: now + length, held_since: now, alive: true };
        self.bytes += bytes;
        if let Some(replaced) = self.held.insert(token, lease) {
            self.bytes -= replaced.bytes;
        }
        let look = now + length / LOOKS_PER_LEASE;
        self.next_look = Some(self.next_look.map_or(look, |earlier| earlier.min(look)));
    }

    /// It was settled.
    pub(crate) fn give_back(&mut self, token: u64) {
        if let Some(lease) = self.held.remove(&token) {
            self.bytes -= lease.bytes;
        }
    }

    /// User code extended it itself.
    pub(crate) fn extended(&mut self, token: u64, until: Instant) {
        if let Some(lease) = self.held.get_mut(&token) {
            lease.ends = until;
        }
    }

    /// The broker said that it is over.
    pub(crate) fn is_over(&mut self, token: u64) {
        if let Some(lease) = self.held.get_mut(&token) {
            lease.alive = false;
        }
    }

    /// The session ended, and all leases with it. Those still in user code stay counted until settled.
    pub(crate) fn session_lost(&mut self) {
        self.held.values_mut().for_each(|lease| lease.alive = false);
    }

    /// When [`due`](Self::due) has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.next_look.filter(|_| !self.held.is_empty())
    }

    /// The leases to renew now: those of which no more than a half is left. They count as renewed. Since each is looked
    /// at six times in its length, at least a third is left when it is renewed.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<u64> {
        if self.next_wake().is_none_or(|look| look > now) {
            return Vec::new();
        }
        let (mut due, mut shortest) = (Vec::new(), None);
        for (token, lease) in &mut self.held {
            shortest = Some(shortest.map_or(lease.length, |length: Duration| length.min(lease.length)));
            let renewable = lease.alive && now < lease.held_since + self.hold_max;
            if renewable && lease.ends <= now + lease.length / 2 {
                lease.ends = now + lease.length;
                due.push(*token);
            }
        }
        self.next_look = shortest.map(|length| now + length / LOOKS_PER_LEASE);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const LENGTH: Duration = Duration::from_secs(30);
    const HOUR: Duration = Duration::from_secs(3600);

    /// Follows the alarm for `time` and returns when, since the start, the lease 1 was renewed.
    fn renewals(leases: &mut Leases, start: Instant, time: Duration) -> Vec<Duration> {
        let mut renewals = Vec::new();
        while let Some(now) = leases.next_wake().filter(|now| *now < start + time) {
            renewals.extend(leases.due(now).iter().map(|_| now - start));
        }
        renewals
    }

    #[test]
    fn a_lease_is_renewed_while_at_least_a_third_of_it_is_left() {
        let start = clock::now();
        let mut leases = Leases::new(HOUR);
        leases.take(1, 10, LENGTH, start);
        let mut renewed_at = Duration::ZERO;
        for at in renewals(&mut leases, start, Duration::from_secs(600)) {
            assert!(at - renewed_at >= LENGTH / 2 && at - renewed_at <= LENGTH * 2 / 3, "{at:?}");
            renewed_at = at;
        }
        assert!(renewed_at > Duration::from_secs(570));
    }

    #[test]
    fn renewing_ends_after_the_longest_time_it_may_be_held() {
        let start = clock::now();
        let mut leases = Leases::new(Duration::from_secs(100));
        leases.take(1, 10, LENGTH, start);
        let last = renewals(&mut leases, start, HOUR).pop().expect("was renewed");
        assert!(last < Duration::from_secs(100) && last > Duration::from_secs(60), "{last:?}");
    }

    #[test]
    fn a_settled_or_lost_lease_is_not_renewed() {
        let start = clock::now();
        let mut leases = Leases::new(HOUR);
        leases.take(1, 10, LENGTH, start);
        leases.give_back(1);
        assert_eq!((leases.next_wake(), leases.count(), leases.bytes()), (None, 0, 0));
        leases.take(2, 10, LENGTH, start);
        leases.session_lost();
        assert!(renewals(&mut leases, start, Duration::from_secs(100)).is_empty());
        assert_eq!(leases.count(), 1, "still counted until user code settles it");
    }
}
