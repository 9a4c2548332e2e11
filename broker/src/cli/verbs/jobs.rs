//! `escrow jobs`: redrives and discards of many dead letters, which run in the broker.

use std::time::Duration;

use escrow_protocol::{limits, v1};

use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::counted;
use crate::cli::paging::Paging;
use crate::cli::progress::Progress;
use crate::cli::signals::interrupted;
use crate::cli::view::{JobDetailView, JobResultView, JobView};

/// How often a job is looked at while it is followed.
const LOOK: Duration = Duration::from_millis(100);
/// Results that are shown with a job, besides those that were refused.
const RESULTS_SHOWN: u32 = 20;

/// What can be done with jobs.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum JobsVerb {
    /// List jobs, newest first.
    #[command(after_help = "Examples:
  escrow jobs ls
  escrow jobs ls -o json | jq '.[] | select(.state == \"RUNNING\")'")]
    Ls {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a job: how far it is, its first results, and what it could not do.
    #[command(after_help = "Examples:
  escrow jobs show 7
  escrow jobs show 7 -o json | jq .failures")]
    Show {
        /// The job.
        job: u64,
        /// Watch it to its end.
        #[arg(long)]
        follow: bool,
    },
    /// List what became of each dead letter of a job, or in a dry run would.
    #[command(after_help = "Examples:
  escrow jobs results 7
  escrow jobs results 7 --refused --all -o jsonl")]
    Results {
        /// The job.
        job: u64,
        /// Only what was refused.
        #[arg(long)]
        refused: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Have a job wait.
    #[command(after_help = "Examples:
  escrow jobs pause 7
  escrow jobs pause 7 --reason 'the consumer is down again'")]
    Pause(Told),
    /// Have a job go on.
    #[command(after_help = "Examples:
  escrow jobs resume 7
  escrow jobs resume 7 --reason 'the consumer is back'")]
    Resume(Told),
    /// End a job. What it did stays done.
    #[command(after_help = "Examples:
  escrow jobs cancel 7
  escrow jobs cancel 7 --reason 'wrong group' --yes")]
    Cancel {
        #[command(flatten)]
        told: Told,
        #[command(flatten)]
        caution: Caution,
    },
}

/// Which job is told something, and why.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Told {
    /// The job.
    job: u64,
    /// Why, for the records.
    #[arg(long)]
    reason: Option<String>,
}

/// Does it.
pub(crate) async fn run(verb: JobsVerb, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let told = match verb {
        JobsVerb::Ls { paging } => return ls(paging, global).await,
        JobsVerb::Show { job, follow } => {
            if follow {
                let answer = admin.get_job(get(job, 1, false)).await?.into_inner();
                return self::follow(answer.job.unwrap_or_default(), global).await;
            }
            return show(job, global).await;
        }
        JobsVerb::Results { job, refused, paging } => return results(job, refused, paging, global).await,
        JobsVerb::Pause(Told { job, reason }) => {
            let operator = global.operator(reason.as_deref());
            admin.pause_job(v1::PauseJobRequest { job_id: job, operator }).await?
        }
        JobsVerb::Resume(Told { job, reason }) => {
            let operator = global.operator(reason.as_deref());
            admin.resume_job(v1::ResumeJobRequest { job_id: job, operator }).await?
        }
        JobsVerb::Cancel { told: Told { job, reason }, caution } => {
            let there = admin.get_job(get(job, 1, false)).await?.into_inner().job.unwrap_or_default();
            let left = counted(there.left, "dead letter");
            let what = format!("end job {job}, with {left} left; what it did stays done");
            if caution.resolve(&what)? == Resolve::Rehearse {
                return Ok(global.printer().done(&format!("this would {what}"))?);
            }
            let operator = global.operator(reason.as_deref());
            admin.cancel_job(v1::CancelJobRequest { job_id: job, operator }).await?
        }
    };
    Ok(global.printer().one(&JobView::from(told.into_inner()))?)
}

fn get(job_id: u64, limit: u32, refused_only: bool) -> v1::GetJobRequest {
    v1::GetJobRequest { job_id, page: Some(v1::Page { limit, ..Default::default() }), refused_only }
}

async fn ls(paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = "there are no jobs; `escrow dlq redrive GROUP --all` starts one";
    let fetch = async |page| {
        let answer = admin.list_jobs(v1::ListJobsRequest { page: Some(page) }).await?.into_inner();
        Ok((answer.jobs.into_iter().map(JobView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), empty, fetch).await
}

async fn show(job: u64, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let answer = admin.get_job(get(job, RESULTS_SHOWN, false)).await?.into_inner();
    let refused = admin.get_job(get(job, limits::PAGE_MAX as u32, true)).await?.into_inner();
    let view = JobDetailView::new(answer.job.unwrap_or_default(), answer.results, refused.results);
    global.printer().one(&view)?;
    if !answer.next_cursor.is_empty() {
        eprintln!("these are the first {RESULTS_SHOWN} results; `escrow jobs results {job}` lists them all");
    }
    Ok(())
}

async fn results(job_id: u64, refused_only: bool, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = if refused_only { "nothing was refused" } else { "nothing was done or refused yet" };
    let fetch = async |page| {
        let request = v1::GetJobRequest { job_id, page: Some(page), refused_only };
        let answer = admin.get_job(request).await?.into_inner();
        Ok((answer.results.into_iter().map(JobResultView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), empty, fetch).await
}

/// Watches a job to its end, then shows it. Whoever stops watching does not stop it.
///
/// # Errors
/// If anything was refused, or the job could not go on.
pub(super) async fn follow(started: v1::Job, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let progress = Progress::towards(started.total, "dead letters");
    let (mut job, mut seen, mut was_paused) = (started, 0, false);
    let mut stop = std::pin::pin!(interrupted());
    while matches!(job.state(), v1::JobState::Running | v1::JobState::Paused) {
        // A tick that is cut off is of no consequence.
        tokio::select! {
            () = &mut stop => {
                progress.finish();
                let id = job.job_id;
                eprintln!("job {id} goes on in the broker; `escrow jobs show {id}` looks, `escrow jobs cancel {id}` ends it");
                return Ok(());
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        job = admin.get_job(get(job.job_id, 1, false)).await?.into_inner().job.unwrap_or_default();
        progress.advance(job.examined.saturating_sub(seen));
        seen = job.examined;
        let is_paused = job.state() == v1::JobState::Paused;
        if is_paused && !was_paused {
            progress.say(&format!("job {0} is paused; `escrow jobs resume {0}` lets it go on", job.job_id));
        }
        was_paused = is_paused;
    }
    progress.finish();
    show(job.job_id, global).await?;
    let would = if job.dry_run { "would be done" } else { "done" };
    eprintln!("{} {would}, {} refused", job.done, job.failed);
    match (job.state(), job.failed) {
        (v1::JobState::Failed, _) => Err(CliError::failed(format!("job {}: {}", job.job_id, job.fault))),
        (_, 0) => Ok(()),
        (_, failed) => {
            Err(CliError::failed(format!("{} refused; see above for each", counted(failed, "dead letter"))))
        }
    }
}
