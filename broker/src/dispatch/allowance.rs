//! One bound, in bytes, for what was read for all sessions together and their peers have not taken yet. Whoever reads for
//! a peer takes a share of it first, and waits for one when there is none: nothing is read that there is no room for.
//!
//! A session that has nothing ahead of its peer may use all of it, one that has something only half: those that take
//! nothing leave room for those that do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;

/// What a session may have ahead of a peer that has taken nothing yet, bytes. It grows by what the peer takes.
const AHEAD_BYTES_FIRST: usize = 32 * 1024;
/// And of one that takes everything: several full frames, so that reading, encoding and sending go on side by side.
const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A peer that takes longer than this for a frame is slow: it begins anew.
const QUICK_MS: u64 = 1_000;
/// How often it is looked whether a peer takes anything, within the time it may stall.
const LOOKS: u32 = 4;

/// See the module. A clone is the same bound.
#[derive(Debug, Clone)]
pub struct Allowance {
    all: Arc<Semaphore>,
    /// Its half, for those that have something ahead.
    more: Arc<Semaphore>,
    bytes_max: u32,
}

impl Allowance {
    /// An allowance of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX).max(2);
        let all = Arc::new(Semaphore::new(bytes_max as usize));
        let more = Arc::new(Semaphore::new(bytes_max as usize / 2));
        Self { all, more, bytes_max }
    }

    /// Bytes that are free.
    pub fn free(&self) -> usize {
        self.all.available_permits()
    }

    /// `bytes` of it; what is larger than all of it gets all of it. Waits its turn. Cancel-safe: dropped early, it has
    /// taken nothing, and loses its turn.
    pub async fn take(&self, bytes: usize) -> Permit {
        Permit { _more: None, _all: part(&self.all, bytes, self.bytes_max).await }
    }

    /// As [`Allowance::take`], for one that has a share already.
    async fn take_more(&self, bytes: usize) -> Permit {
        let more = part(&self.more, bytes, self.bytes_max / 2).await;
        Permit { _more: Some(more), _all: part(&self.all, bytes, self.bytes_max).await }
    }
}

async fn part(of: &Arc<Semaphore>, bytes: usize, bytes_max: u32) -> OwnedSemaphorePermit {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(bytes_max);
    of.clone().acquire_many_owned(bytes).await.expect("nobody closes it")
}

/// A part of the allowance; dropped, it goes back.
#[derive(Debug)]
pub struct Permit {
    _more: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// What one session has read and its peer has not taken. A clone is the same.
#[derive(Debug, Clone)]
pub struct Ahead {
    allowance: Allowance,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    pace: Mutex<Pace>,
    /// The peer took something.
    taken: Notify,
}

#[derive(Debug)]
struct Pace {
    /// Ahead of the peer, bytes.
    bytes: usize,
    /// What may be.
    bytes_max: usize,
    /// Shares that went back so far.
    taken: u64,
}

impl Pace {
    /// Whether so much more may be read: anything, if the peer has taken all.
    fn admits(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    fn standing(&self) -> (usize, u64) {
        (self.bytes, self.taken)
    }
}

impl Ahead {
    /// Of a new session.
    pub fn new(allowance: Allowance, clock: Clock) -> Self {
        let pace = Mutex::new(Pace { bytes: 0, bytes_max: AHEAD_BYTES_FIRST, taken: 0 });
        Self { allowance, shared: Arc::new(Shared { clock, pace, taken: Notify::new() }) }
    }

    /// What may be read for the peer now, bytes; a single message may be larger.
    pub fn room(&self) -> usize {
        let pace = self.shared.lock();
        pace.bytes_max.saturating_sub(pace.bytes).max(1)
    }

    /// A share for `bytes`, once the peer has taken enough of what it was sent, and all the others too. Cancel-safe; one
    /// caller at a time.
    pub async fn share(&self, bytes: usize) -> Share {
        // `notify_one` stores a permit when nobody waits: nothing taken in between is missed.
        while !self.shared.lock().admits(bytes) {
            self.shared.taken.notified().await;
        }
        let is_ahead = self.shared.lock().bytes > 0;
        let permit = match is_ahead {
            true => self.allowance.take_more(bytes).await,
            false => self.allowance.take(bytes).await,
        };
        self.shared.lock().bytes += bytes;
        Share { bytes, sent_at_us: self.shared.clock.micros(), ahead: self.shared.clone(), _permit: permit }
    }

    /// Waits until the peer has taken nothing for as long as `stall`, although there was something to take. Cancel-safe.
    pub async fn stalled(&self, stall: Duration) {
        let mut looks = 0;
        let mut before = 0;
        while looks <= LOOKS {
            tokio::time::sleep(stall / LOOKS).await;
            let (bytes, taken) = self.shared.lock().standing();
            let stands = bytes > 0 && taken == before;
            looks = if stands { looks + 1 } else { 0 };
            before = taken;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a frame may read. It goes with the frame, and back when HTTP/2 has sent that.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    sent_at_us: u64,
    ahead: Arc<Shared>,
    _permit: Permit,
}

impl Share {
    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held_ms = (self.ahead.clock.micros() - self.sent_at_us) / 1_000;
        let mut pace = self.ahead.lock();
        pace.bytes -= self.bytes;
        pace.taken += 1;
        pace.bytes_max = match held_ms < QUICK_MS {
            true => (pace.bytes_max + self.bytes).min(AHEAD_BYTES_MAX),
            false => AHEAD_BYTES_FIRST,
        };
        drop(pace);
        self.ahead.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn ahead(allowance: &Allowance) -> Ahead {
        Ahead::new(allowance.clone(), Clock::start())
    }

    #[tokio::test]
    async fn all_shares_together_stay_within_the_allowance() {
        let allowance = Allowance::new(100);
        let sessions: Vec<_> = (0..20).map(|_| ahead(&allowance)).collect();
        let shares: Vec<_> = sessions.iter().filter_map(|session| session.share(10).now_or_never()).collect();
        assert_eq!((shares.len(), allowance.free()), (10, 0));
        drop(shares);
        assert_eq!(allowance.free(), 100);
        assert!(sessions[19].share(10).now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_takes_nothing_leaves_half_to_the_others() {
        let allowance = Allowance::new(100);
        let (greedy, modest) = (ahead(&allowance), ahead(&allowance));
        let mut shares = Vec::new();
        while let Some(share) = greedy.share(10).now_or_never() {
            shares.push(share);
        }
        assert_eq!(shares.len(), 6, "its first, and half of all");
        assert!(modest.share(40).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_peer_is_read_for_as_far_as_it_has_taken() {
        let session = ahead(&Allowance::new(64 << 20));
        let first = session.share(AHEAD_BYTES_FIRST).await;
        assert!(session.share(1).now_or_never().is_none(), "it has taken nothing");
        drop(first);
        assert_eq!(session.room(), 2 * AHEAD_BYTES_FIRST);
        for _ in 0..20 {
            drop(session.share(session.room()).await);
        }
        assert_eq!(session.room(), AHEAD_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_is_larger_than_all_goes_alone() {
        let allowance = Allowance::new(100);
        let session = ahead(&allowance);
        let large = session.share(1_000_000).await;
        assert_eq!(allowance.free(), 0);
        assert!(ahead(&allowance).share(1).now_or_never().is_none());
        drop(large);
        assert_eq!(allowance.free(), 100);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_has_stalled_and_one_without_anything_to_take_has_not() {
        let session = ahead(&Allowance::new(100));
        let stall = Duration::from_millis(8);
        let idle = tokio::time::timeout(stall * 10, session.stalled(stall)).await;
        assert!(idle.is_err());
        let share = session.share(10).await;
        tokio::time::timeout(Duration::from_secs(20), session.stalled(stall)).await.expect("stalled");
        drop(share);
    }
}
