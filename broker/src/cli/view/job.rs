//! A job over many dead letters.

use escrow_protocol::v1;

use super::message_id;
use crate::cli::output::{Time, view};

view! {
    /// A job over many dead letters.
    JobView {
        /// Its number.
        job_id: u64 = "JOB",
        /// What it does.
        kind: String = "KIND",
        /// Whose dead letters.
        group: String = "GROUP",
        /// Which of them.
        filter: String = _,
        /// Where it stands.
        state: String = "STATE",
        /// Dead letters there were to look at.
        total: u64 = "TOTAL",
        /// Done, or in a dry run would be.
        done: u64 = "DONE",
        /// Refused.
        failed: u64 = "FAILED",
        /// Still to be looked at.
        left: u64 = "LEFT",
        /// A second; 0: no limit.
        rate: u32 = "RATE",
        /// Only says what would happen.
        dry_run: bool = "DRY RUN",
        /// Where they go; empty: to the failing group.
        to_topic: String = _,
        /// Who ordered it.
        name: String = "WHO",
        /// Why.
        reason: String = _,
        /// When.
        created_at: Time = "CREATED AT",
        /// When it ended.
        ended_at: Time = _,
        /// Why it could not go on.
        fault: String = _,
    }
}

view! {
    /// What became of a dead letter in a job.
    JobResultView {
        /// Its place.
        offset: u64 = "OFFSET",
        /// Its message.
        message_id: String = "MESSAGE",
        /// Whether it was done, or in a dry run would be.
        done: bool = "DONE",
        /// The new message it was sent again as; empty: as itself, or not at all.
        new_message_id: String = "NEW MESSAGE",
        /// Why it was refused, for programs.
        reason: String = "REASON",
        /// Why, for people.
        text: String = "TEXT",
    }
}

view! {
    /// A job, its first results, and what it could not do.
    JobDetailView {
        /// The job.
        job_id: u64 = _,
        /// What it does.
        kind: String = _,
        /// Whose dead letters.
        group: String = _,
        /// Which of them.
        filter: String = _,
        /// Where it stands.
        state: String = _,
        /// Dead letters there were to look at.
        total: u64 = _,
        /// Looked at.
        examined: u64 = _,
        /// Done, or in a dry run would be.
        done: u64 = _,
        /// Refused.
        failed: u64 = _,
        /// Still to be looked at.
        left: u64 = _,
        /// A second; 0: no limit.
        rate: u32 = _,
        /// Only says what would happen.
        dry_run: bool = _,
        /// Where they go; empty: to the failing group.
        to_topic: String = _,
        /// Who ordered it.
        name: String = _,
        /// Why.
        reason: String = _,
        /// When.
        created_at: Time = _,
        /// When it ended.
        ended_at: Time = _,
        /// Why it could not go on.
        fault: String = _,
        /// Its first results.
        results: Vec<JobResultView> = _,
        /// What was refused.
        failures: Vec<JobResultView> = _,
    }
}

impl From<v1::Job> for JobView {
    fn from(job: v1::Job) -> Self {
        let (kind, state) = (job.kind().as_str_name().to_owned(), job.state().as_str_name().to_owned());
        let operator = job.operator.unwrap_or_default();
        let filter = job.filter.unwrap_or_default();
        Self {
            job_id: job.job_id,
            kind,
            filter: words_of(&filter),
            group: filter.group,
            state,
            total: job.total,
            done: job.done,
            failed: job.failed,
            left: job.left,
            rate: job.rate,
            dry_run: job.dry_run,
            to_topic: job.to_topic,
            name: operator.name,
            reason: operator.reason,
            created_at: Time(job.created_at_ms),
            ended_at: Time(job.ended_at_ms),
            fault: job.fault,
        }
    }
}

/// What a filter asks for beside the group, as the audit words it.
fn words_of(filter: &v1::DeadLetterFilter) -> String {
    let time = |ms: i64| Time(ms).text().unwrap_or_default();
    let offsets: Vec<_> = filter.offsets.iter().map(u64::to_string).collect();
    let parts = [
        ("reason", filter.reason.clone()),
        ("key", filter.key.clone()),
        ("message", message_id(&filter.message_id)),
        ("topic", filter.topic.clone()),
        ("from", time(filter.from_ms)),
        ("until", time(filter.until_ms)),
        ("error_contains", filter.error_contains.clone()),
        ("offsets", offsets.join(",")),
    ];
    let said = parts.iter().filter(|(_, value)| !value.is_empty());
    let said: Vec<_> = said.map(|(name, value)| format!("{name}={value}")).collect();
    if said.is_empty() { "all dead letters of the group".to_owned() } else { said.join(" ") }
}

impl From<v1::JobResult> for JobResultView {
    fn from(result: v1::JobResult) -> Self {
        let done = result.fault.is_none();
        let fault = result.fault.unwrap_or_default();
        Self {
            offset: result.offset,
            message_id: message_id(&result.message_id),
            done,
            new_message_id: message_id(&result.new_message_id),
            reason: fault.reason,
            text: fault.message,
        }
    }
}

impl JobDetailView {
    /// A job with these results, and these that were refused.
    pub(crate) fn new(job: v1::Job, results: Vec<v1::JobResult>, failures: Vec<v1::JobResult>) -> Self {
        let views = |results: Vec<_>| results.into_iter().map(JobResultView::from).collect();
        let examined = job.examined;
        let job = JobView::from(job);
        Self {
            job_id: job.job_id,
            kind: job.kind,
            group: job.group,
            filter: job.filter,
            state: job.state,
            total: job.total,
            examined,
            done: job.done,
            failed: job.failed,
            left: job.left,
            rate: job.rate,
            dry_run: job.dry_run,
            to_topic: job.to_topic,
            name: job.name,
            reason: job.reason,
            created_at: job.created_at,
            ended_at: job.ended_at,
            fault: job.fault,
            results: views(results),
            failures: views(failures),
        }
    }
}
