//! sled's own flush, kept from waiting for ever.
//!
//! When a write of sled fails on one of its threads, sled notes the error and wakes nobody: a flush that waits already for
//! what was to be written waits until another one comes by, finds the error, and wakes all (sled 0.34.7,
//! `pagecache/logger.rs` and `make_stable_inner` in `pagecache/iobuf.rs`). Its own flusher may be waiting, too. So another
//! one is sent now and then, for as long as the first one waits.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Scope, scope};
use std::time::Duration;

use super::TableError;
use super::guard::guarded;

/// When the first flush is looked after, and how often at most.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// Then each time it has taken another part like this: an error is found soon, for how long it took to come, and a disk that
/// is only slow is asked a few times.
const LOOK_PART: u32 = 4;

/// Flushes what sled holds in memory to its file. To sync the file is the caller's part.
pub(super) fn flush(db: &sled::Db) -> Result<(), TableError> {
    scope(|threads| {
        let (is_over, over) = channel();
        threads.spawn(move || look_after(db, &over, threads));
        let flushed = guarded(|| db.flush());
        drop(is_over);
        flushed.map(drop)
    })
}

fn look_after<'scope, 'env>(db: &'env sled::Db, over: &Receiver<()>, threads: &'scope Scope<'scope, 'env>) {
    let (mut wait, mut took) = (LOOK_AFTER, Duration::ZERO);
    while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(wait) {
        took += wait;
        tracing::debug!(?took, "the table is still being flushed");
        // Whatever it finds, the first one finds too.
        threads.spawn(|| drop(guarded(|| db.flush())));
        wait = LOOK_AFTER.max(took / LOOK_PART);
    }
}
