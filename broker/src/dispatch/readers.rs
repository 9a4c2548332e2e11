//! The threads that wait for the disk when bodies are read, so that no session's does.
//!
//! Owns their number and their queue. A thread is woken only when none is already on its way to the queue: a burst of small
//! reads, one for each of a thousand consumers, is done by the one or two threads that are awake, and costs about as many
//! switches. (A pool that wakes a thread for each job, as tokio's for blocking calls, spent a quarter of the broker's CPU on
//! that.) A job behind a slow disk still waits for no other: whoever finds all that are awake at work has one more come.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Most threads: as many reads a disk is asked for at once.
const READERS_MAX: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// See the module. The threads end when it is dropped, each behind the job it has.
pub(super) struct Readers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Of them, those that wait for work and were not woken.
    idle: usize,
    /// One was woken, or begun, and has not come to the queue yet.
    is_one_coming: bool,
    is_closed: bool,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// Has `read` done by one of the threads. `None`: it panicked, or no thread could be had; the log has why.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            // Whoever asked may be gone, before or meanwhile.
            if !tell.is_closed() {
                let _ = tell.send(read());
            }
        });
        self.shared.submit(job);
        told.await.ok()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        state.jobs.clear();
        drop(state);
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        self.have_one_come(state);
    }

    /// Has a thread come for what is queued, unless one is on its way.
    fn have_one_come(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.is_one_coming || state.jobs.is_empty() {
            return;
        }
        if state.idle > 0 {
            state.is_one_coming = true;
            drop(state);
            self.work.notify_one();
        } else if state.threads < READERS_MAX {
            let shared = Arc::clone(self);
            let name = format!("reader-{}", state.threads);
            match thread::Builder::new().name(name).spawn(move || shared.work()) {
                Ok(_) => {
                    state.is_one_coming = true;
                    state.threads += 1;
                }
                // Those that are there do it. Without any, whoever asked is told so.
                Err(error) if state.threads == 0 => {
                    tracing::error!(%error, "no thread to read bodies with");
                    state.jobs.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, threads = state.threads, "no further thread to read bodies with")
                }
            }
        }
    }

    fn work(self: Arc<Self>) {
        let mut state = self.lock();
        state.is_one_coming = false;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                // The next job waits for nobody's disk.
                self.have_one_come(state);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("reading bodies panicked");
                }
                state = self.lock();
            } else if state.is_closed {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                state.is_one_coming = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A read that was forgotten is never done: then the test ends here, and not never.
    const PATIENCE: Duration = Duration::from_secs(30);
    const LOOKS_MAX: u32 = 20_000_000;

    #[tokio::test]
    async fn a_slow_read_holds_up_no_other() {
        let readers = Readers::new();
        let (finish, slow) = mpsc::channel::<()>();
        let slow = readers.run(move || slow.recv().is_ok());
        tokio::pin!(slow);
        // Submitted, and not done.
        assert!(futures::poll!(&mut slow).is_pending());
        for number in 0..100 {
            assert_eq!(timeout(PATIENCE, readers.run(move || number)).await, Ok(Some(number)));
        }
        assert!(futures::poll!(&mut slow).is_pending());
        finish.send(()).unwrap();
        assert_eq!(slow.await, Some(true));
    }

    #[tokio::test]
    async fn as_many_reads_as_there_may_be_threads_go_on_at_once_and_the_others_wait() {
        let readers = Readers::new();
        let together = Arc::new(Barrier::new(READERS_MAX));
        let most = Arc::new(AtomicUsize::new(0));
        let under_way = Arc::new(AtomicUsize::new(0));
        let jobs = (0..READERS_MAX * 3).map(|_| {
            let (together, most, under_way) = (together.clone(), most.clone(), under_way.clone());
            readers.run(move || {
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Passes only when all of them are here.
                together.wait();
                under_way.fetch_sub(1, Ordering::SeqCst);
            })
        });
        let done = timeout(PATIENCE, futures::future::join_all(jobs)).await.expect("all of them are done");
        assert!(done.iter().all(Option::is_some));
        assert_eq!(most.load(Ordering::SeqCst), READERS_MAX);
    }

    #[tokio::test]
    async fn a_read_that_panics_is_told_and_its_thread_reads_on() {
        let readers = Readers::new();
        for _ in 0..READERS_MAX * 2 {
            assert_eq!(readers.run(|| -> u8 { panic!("as planned") }).await, None);
        }
        assert_eq!(readers.run(|| 1).await, Some(1));
        assert!(readers.shared.lock().threads <= READERS_MAX);
    }

    #[tokio::test]
    async fn the_threads_end_with_it() {
        let readers = Readers::new();
        readers.run(|| ()).await.unwrap();
        let shared = Arc::downgrade(&readers.shared);
        drop(readers);
        let have_ended = (0..LOOKS_MAX).any(|_| {
            thread::yield_now();
            shared.strong_count() == 0
        });
        assert!(have_ended);
    }
}
