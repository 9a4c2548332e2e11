//! Jobs over many dead letters: started, watched, paused, gone on with, ended. They run in the engine; nobody needs to
//! listen.

use escrow_protocol::{GroupName, Offset};
use escrow_storage::KeyRange;

use super::{Operator, Page, Paged, Service, mismatch};
use crate::dispatch::decode;
use crate::engine::{Command, Inspect, JobOrder, JobView, Refusal, Reply, Seen};
use crate::records::{JobFailure, JobKind, LetterFilter, keys};

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

    /// What a job could not do, by offset.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn job_failures(
        &self,
        number: u64,
        page: Page,
    ) -> Result<Paged<(Offset, JobFailure)>, Refusal> {
        let after = page.after(|cursor| cursor.parse::<u64>().ok())?;
        self.read(move |view| {
            let all = keys::job_failures(number);
            let start = after.map_or(all.start, |after| keys::job_failure(number, Offset(after).next()));
            let mut items = Vec::new();
            for (key, value) in view.scan(&KeyRange::new(start, all.end), page.limit)? {
                let failure = decode(&key, value)?;
                items.extend(keys::job_failure_of(&key).map(|offset| (offset, failure)));
            }
            Ok(Paged::of(items, page.limit, |(offset, _)| offset.0.to_string()))
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
