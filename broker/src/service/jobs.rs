//! Jobs over many dead letters: started, watched, paused, gone on with, ended. They run in the engine; nobody needs to
//! listen.

use escrow_protocol::{GroupName, MessageId, Offset};
use escrow_storage::{KeyRange, Read, ReadError};

use super::pages::{pair_cursor, parse_pair};
use super::{Operator, Page, Paged, Service, mismatch};
use crate::dispatch::decode;
use crate::engine::{Command, Inspect, JobOrder, JobView, Refusal, Reply, Seen};
use crate::records::{JobDeeds, JobFailure, JobKind, LetterFilter, keys};

/// What became of one of a job's dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// Its place.
    pub offset: Offset,
    /// Its message, if it is there.
    pub message: Option<MessageId>,
    /// The new message it was sent again as, if it was.
    pub copy: Option<MessageId>,
    /// Why it was refused; `None`: it was done, or in a dry run would be.
    pub failure: Option<JobFailure>,
}

impl Service {
    /// Starts a job over the dead letters of a group.
    ///
    /// # Errors
    /// `UnknownGroup`; `UnknownTopic`, `ReservedTopic` for where they shall go; `LimitReached` if too many are under way.
    pub async fn start_job(
        &self,
        (group, kind, filter): (GroupName, JobKind, LetterFilter),
        rate: u32,
        dry_run: bool,
        operator: Operator,
    ) -> Result<JobView, Refusal> {
        tracing::info!(%group, ?kind, rate, dry_run, operator = operator.logged_name(), reason = operator.logged_reason(), "job over dead letters started by hand");
        self.job_command(operator, Command::StartJob { group, kind, filter, rate, dry_run }).await
    }

    /// Tells a job something.
    ///
    /// # Errors
    /// `UnknownJob`, `JobEnded`.
    pub async fn order_job(
        &self,
        number: u64,
        order: JobOrder,
        operator: Operator,
    ) -> Result<JobView, Refusal> {
        tracing::info!(
            job = number,
            ?order,
            operator = operator.logged_name(),
            reason = operator.logged_reason(),
            "job told by hand"
        );
        self.job_command(operator, Command::OrderJob(number, order)).await
    }

    /// A job.
    ///
    /// # Errors
    /// `UnknownJob`.
    pub async fn job(&self, number: u64) -> Result<JobView, Refusal> {
        match self.see(Inspect::Job(number)).await? {
            Seen::Job(job) => Ok(job),
            _ => Err(mismatch()),
        }
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list.
    pub async fn jobs(&self, page: Page) -> Result<Paged<JobView>, Refusal> {
        let before = page.after(|cursor| cursor.parse().ok())?;
        match self.see(Inspect::Jobs { before, limit: page.limit }).await? {
            Seen::Jobs(jobs) => Ok(Paged::of(jobs, page.limit, |job| job.number.to_string())),
            _ => Err(mismatch()),
        }
    }

    /// What became of each of a job's dead letters, by offset: of those that were done the first 10,000 are kept, of those
    /// that were refused the first 1,000.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn job_results(
        &self,
        number: u64,
        refused_only: bool,
        page: Page,
    ) -> Result<Paged<JobResult>, Refusal> {
        let (mut deed, mut failure) = page.after(parse_pair)?.unwrap_or((0, 0));
        self.read(move |view| {
            let wanted = page.limit + 1;
            let done = if refused_only { Vec::new() } else { deeds(view, number, deed, wanted)? };
            let refused = failures(view, number, failure, wanted)?;
            let (mut done, mut refused) = (done.into_iter().peekable(), refused.into_iter().peekable());
            let mut items = Vec::new();
            while items.len() < page.limit {
                let done_is_next = match (done.peek(), refused.peek()) {
                    (None, None) => break,
                    (Some((_, one)), Some(other)) => one.offset < other.offset,
                    (one, _) => one.is_some(),
                };
                if done_is_next {
                    let Some((at, result)) = done.next() else { break };
                    deed = at + 1;
                    items.push(result);
                } else {
                    let Some(result) = refused.next() else { break };
                    failure = result.offset.0.saturating_add(1);
                    items.push(result);
                }
            }
            let is_all = done.peek().is_none() && refused.peek().is_none();
            Ok(Paged { items, next: (!is_all).then(|| pair_cursor(deed, failure)) })
        })
        .await
    }

    async fn job_command(&self, operator: Operator, command: Command) -> Result<JobView, Refusal> {
        match self.command(operator, command).await? {
            Reply::Job(job) => Ok(job),
            _ => Err(mismatch()),
        }
    }
}

/// The deeds of a job from the one with number `from` on, with their numbers.
fn deeds(view: &dyn Read, job: u64, from: u64, limit: usize) -> Result<Vec<(u64, JobResult)>, ReadError> {
    let all = keys::all_job_deeds(job);
    let range = KeyRange::new(keys::job_deeds(job, from / JobDeeds::IN_ONE), all.end);
    let mut found = Vec::new();
    // One part more than a page fills: it starts in the middle of one.
    for (key, value) in view.scan(&range, limit.div_ceil(JobDeeds::IN_ONE as usize) + 1)? {
        let JobDeeds(part) = decode(&key, value)?;
        let Some(first) = keys::job_deeds_of(&key).map(|part| part * JobDeeds::IN_ONE) else { continue };
        found.extend((first..).zip(part).filter(|(at, _)| *at >= from).map(|(at, deed)| {
            let (offset, message, copy) = (deed.offset, Some(deed.message), deed.copy);
            (at, JobResult { offset, message, copy, failure: None })
        }));
    }
    found.truncate(limit);
    Ok(found)
}

/// What a job could not do, from this offset on.
fn failures(view: &dyn Read, job: u64, from: u64, limit: usize) -> Result<Vec<JobResult>, ReadError> {
    let range = KeyRange::new(keys::job_failure(job, Offset(from)), keys::job_failures(job).end);
    let mut found = Vec::new();
    for (key, value) in view.scan(&range, limit)? {
        let failure: JobFailure = decode(&key, value)?;
        let Some(offset) = keys::job_failure_of(&key) else { continue };
        found.push(JobResult { offset, message: failure.message, copy: None, failure: Some(failure) });
    }
    Ok(found)
}
