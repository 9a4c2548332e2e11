//! Redrives and discards that were started here: how far they are, what they answered, and their brakes. Kept in memory; a
//! job ends with the process, and what it did by then is durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use escrow_protocol::{GroupName, MessageId, Offset};
use tokio::sync::{mpsc, watch};

use crate::engine::Refusal;
use crate::service::{DeadLetterFilter, Operator, Resolved, Resolving, Service};

/// Jobs that are shown; older ones are forgotten.
pub(super) const SHOWN_MAX: usize = 50;
/// Jobs under way at the same time.
const RUNNING_MAX: usize = 8;
/// Results that are kept of each job, of refused and of all.
pub(super) const RESULTS_MAX: usize = 200;

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) group: GroupName,
    pub(super) filter: DeadLetterFilter,
    pub(super) resolving: Resolving,
    /// A second; 0: no limit.
    pub(super) rate: u32,
    pub(super) dry_run: bool,
    pub(super) operator: Operator,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Running,
    Paused,
    Done,
    Stopped,
    Failed(String),
}

/// What a person tells a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    Pause,
    Stop,
}

/// What became of one dead letter.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) offset: Offset,
    pub(super) message: Option<MessageId>,
    pub(super) refusal: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) standing: Standing,
    pub(super) done: u64,
    pub(super) refused: u64,
    /// The last ones that were refused.
    pub(super) refusals: VecDeque<Line>,
    /// The last ones that were done.
    pub(super) successes: VecDeque<Line>,
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) plan: Plan,
    pub(super) started_at_ms: u64,
    progress: Mutex<Progress>,
    orders: watch::Sender<Order>,
}

/// All of them. A clone has the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    started: u64,
    jobs: VecDeque<Arc<Job>>,
}

impl Jobs {
    /// Starts a job; `None` when too many are under way.
    ///
    /// # Errors
    /// As [`Service::resolve`].
    pub(super) async fn start(
        &self,
        service: &Service,
        plan: Plan,
        now_ms: u64,
    ) -> Result<Option<u64>, Refusal> {
        if self.all().iter().filter(|job| job.is_under_way()).count() >= RUNNING_MAX {
            return Ok(None);
        }
        let Plan { group, filter, resolving, rate, dry_run, operator } = plan.clone();
        let results = service.resolve(filter, group, resolving, rate, dry_run, operator).await?;
        let job = self.board(|board| {
            board.started += 1;
            let job = Arc::new(Job::new(board.started, plan, now_ms));
            board.jobs.push_front(job.clone());
            board.jobs.truncate(SHOWN_MAX);
            job
        });
        let id = job.id;
        tokio::spawn(run(job, results));
        Ok(Some(id))
    }

    /// The newest first.
    pub(super) fn all(&self) -> Vec<Arc<Job>> {
        self.board(|board| board.jobs.iter().cloned().collect())
    }

    /// The job with this number.
    pub(super) fn find(&self, id: u64) -> Option<Arc<Job>> {
        self.board(|board| board.jobs.iter().find(|job| job.id == id).cloned())
    }

    fn board<T>(&self, look: impl FnOnce(&mut Board) -> T) -> T {
        look(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Job {
    fn new(id: u64, plan: Plan, started_at_ms: u64) -> Self {
        let progress = Progress {
            standing: Standing::Running,
            done: 0,
            refused: 0,
            refusals: VecDeque::new(),
            successes: VecDeque::new(),
        };
        Self {
            id,
            plan,
            started_at_ms,
            progress: Mutex::new(progress),
            orders: watch::Sender::new(Order::Run),
        }
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// Whether it still does something, or would once told to go on.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.lock().standing, Standing::Running | Standing::Paused)
    }

    /// Tells it something.
    pub(super) fn order(&self, order: Order) {
        self.orders.send_replace(order);
    }

    fn stand(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    fn note(&self, resolved: Resolved) {
        let refusal = resolved.refusal.map(|refusal| refusal.message);
        let line = Line { offset: resolved.offset, message: resolved.message, refusal };
        let mut progress = self.lock();
        let lines = if line.refusal.is_some() {
            progress.refused += 1;
            &mut progress.refusals
        } else {
            progress.done += 1;
            &mut progress.successes
        };
        lines.push_front(line);
        lines.truncate(RESULTS_MAX);
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the results one by one. Nobody who takes none lets the work go on, so taking none is the brake; going away ends it.
async fn run(job: Arc<Job>, mut results: mpsc::Receiver<Result<Resolved, Refusal>>) {
    let mut orders = job.orders.subscribe();
    loop {
        let order = *orders.borrow_and_update();
        match order {
            Order::Stop => return job.stand(Standing::Stopped),
            Order::Pause => {
                job.stand(Standing::Paused);
                // The sender lives in the job, which lives here.
                let _ = orders.changed().await;
                continue;
            }
            Order::Run => job.stand(Standing::Running),
        }
        // Both arms are cancel-safe: a result that was not taken stays in the channel, an order stays in the watch.
        tokio::select! {
            result = results.recv() => match result {
                Some(Ok(resolved)) => job.note(resolved),
                Some(Err(refusal)) => return job.stand(Standing::Failed(refusal.message)),
                None => return job.stand(Standing::Done),
            },
            _ = orders.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            group: "g".parse().unwrap(),
            filter: DeadLetterFilter::default(),
            resolving: Resolving::Discard,
            rate: 0,
            dry_run: false,
            operator: Operator::default(),
        }
    }

    fn resolved(offset: u64) -> Result<Resolved, Refusal> {
        Ok(Resolved { offset: Offset(offset), message: None, refusal: None })
    }

    #[tokio::test]
    async fn a_paused_job_takes_nothing_more_and_a_stopped_one_hangs_up() {
        let (sender, receiver) = mpsc::channel(1);
        let job = Arc::new(Job::new(1, plan(), 0));
        job.order(Order::Pause);
        let running = tokio::spawn(run(job.clone(), receiver));
        sender.send(resolved(0)).await.unwrap();
        // The channel holds one: the job that is paused leaves it there.
        tokio::task::yield_now().await;
        assert!(sender.try_send(resolved(1)).is_err());
        assert_eq!((job.progress().standing, job.progress().done), (Standing::Paused, 0));
        job.order(Order::Run);
        sender.send(resolved(1)).await.unwrap();
        job.order(Order::Stop);
        running.await.unwrap();
        assert!(sender.is_closed());
        assert_eq!(job.progress().standing, Standing::Stopped);
    }

    #[tokio::test]
    async fn a_job_ends_with_its_results_and_keeps_the_last_of_them() {
        let (sender, receiver) = mpsc::channel(1);
        let job = Arc::new(Job::new(1, plan(), 0));
        let running = tokio::spawn(run(job.clone(), receiver));
        for offset in 0..RESULTS_MAX as u64 + 5 {
            sender.send(resolved(offset)).await.unwrap();
        }
        drop(sender);
        running.await.unwrap();
        let progress = job.progress();
        assert_eq!((progress.standing, progress.done), (Standing::Done, RESULTS_MAX as u64 + 5));
        assert_eq!(progress.successes.len(), RESULTS_MAX);
    }
}
