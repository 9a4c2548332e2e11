//! `escrow dlq`: see dead letters, send them again, or discard them.

use escrow_protocol::v1;
use futures::StreamExt;
use tonic::Streaming;

use crate::cli::clock::past_ms;
use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Printer, counted};
use crate::cli::paging::Paging;
use crate::cli::progress::Progress;
use crate::cli::view::{DeadLetterResultView, DeadLetterView};

/// What can be done with dead letters.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum DlqVerb {
    /// List the dead letters of a group.
    #[command(after_help = "Examples:
  escrow dlq ls billing
  escrow dlq ls billing --cause REJECTED --since 1h --error timeout")]
    Ls {
        /// The group.
        group: String,
        #[command(flatten)]
        matching: Matching,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a dead letter with its body and its attempts.
    #[command(after_help = "Examples:
  escrow dlq show billing 3
  escrow dlq show billing 3 -o json | jq -r .message.body")]
    Show {
        /// The group.
        group: String,
        /// Its offset in the group's dead letters.
        offset: u64,
    },
    /// Send dead letters again, to the group that failed.
    #[command(after_help = "Examples:
  escrow dlq redrive billing 3 4 7
  escrow dlq redrive billing --all --cause ATTEMPTS_EXHAUSTED --rate 100 --dry-run")]
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Not to the group that failed, but as a new arrival in this topic, for all its groups.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TOPIC")]
        to_topic: String,
        /// At most so many per second. Default: as fast as it goes.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        rate: u32,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
    /// Remove dead letters for good.
    #[command(after_help = "Examples:
  escrow dlq discard billing 3 --reason 'test order'
  escrow dlq discard billing --all --key o-42 --dry-run")]
    Discard {
        #[command(flatten)]
        which: Which,
        /// Why, for the records.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
}

/// What dead letters have in common.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Matching {
    /// Why they died: ATTEMPTS_EXHAUSTED, REJECTED, EXPIRED, ORDERING_KEY_FAILED or DAMAGED.
    #[arg(long)]
    cause: Option<String>,
    /// Their business key.
    #[arg(long)]
    key: Option<String>,
    /// The topic they came from.
    #[arg(long)]
    topic: Option<String>,
    /// Died at this time or later; a duration means that long ago.
    #[arg(long, value_parser = past_ms, value_name = "TIME")]
    since: Option<i64>,
    /// Died before this time; a duration means that long ago.
    #[arg(long, value_parser = past_ms, value_name = "TIME")]
    until: Option<i64>,
    /// A part of their last error.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

/// Which dead letters a verb is about: some offsets, or all that match.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The group.
    group: String,
    /// Their offsets in the group's dead letters.
    #[arg(required_unless_present = "all")]
    offsets: Vec<u64>,
    /// All of the group that match.
    #[arg(long, conflicts_with = "offsets")]
    all: bool,
    #[command(flatten)]
    matching: Matching,
}

impl Matching {
    fn filter(self, group: String, offsets: Vec<u64>) -> v1::DeadLetterFilter {
        v1::DeadLetterFilter {
            group,
            offsets,
            reason: self.cause.unwrap_or_default(),
            key: self.key.unwrap_or_default(),
            topic: self.topic.unwrap_or_default(),
            from_ms: self.since.unwrap_or(0),
            until_ms: self.until.unwrap_or(0),
            error_contains: self.error.unwrap_or_default(),
        }
    }
}

impl Which {
    fn filter(self) -> v1::DeadLetterFilter {
        self.matching.filter(self.group, self.offsets)
    }
}

/// Does it.
pub(crate) async fn run(verb: DlqVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        DlqVerb::Ls { group, matching, paging } => {
            ls(matching.filter(group, Vec::new()), paging, global).await
        }
        DlqVerb::Show { group, offset } => {
            let request = v1::GetDeadLetterRequest { group, offset };
            let dead = global.admin().await?.get_dead_letter(request).await?.into_inner();
            Ok(global.printer().one(&DeadLetterView::from(dead))?)
        }
        DlqVerb::Redrive { which, to_topic, rate, reason, caution } => {
            let how = How { to_topic, rate, reason };
            redrive(which.filter(), how, caution, global).await
        }
        DlqVerb::Discard { which, reason, caution } => discard(which.filter(), reason, caution, global).await,
    }
}

async fn ls(filter: v1::DeadLetterFilter, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = format!("group {} has no dead letters that match", filter.group);
    let fetch = async |page| {
        let request = v1::ListDeadLettersRequest { page: Some(page), filter: Some(filter.clone()) };
        let answer = admin.list_dead_letters(request).await?.into_inner();
        Ok((answer.dead_letters.into_iter().map(DeadLetterView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), &empty, fetch).await
}

/// How to send them again.
struct How {
    to_topic: String,
    rate: u32,
    reason: Option<String>,
}

async fn redrive(
    filter: v1::DeadLetterFilter,
    how: How,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let to = match how.to_topic.as_str() {
        "" => format!("group {}", filter.group),
        topic => format!("topic {topic}"),
    };
    let what = format!("send {} of group {} again, to {to}", extent(&filter), filter.group);
    let resolve = caution.resolve(&what)?;
    let request = v1::RedriveDeadLettersRequest {
        filter: Some(filter),
        to_topic: how.to_topic,
        rate: how.rate,
        dry_run: resolve == Resolve::Rehearse,
        operator: global.operator(how.reason.as_deref()),
    };
    let results = global.admin().await?.redrive_dead_letters(request).await?.into_inner();
    let done = if resolve == Resolve::Rehearse { "would be redriven" } else { "redriven" };
    print_results(results, done, &mut global.printer()).await
}

async fn discard(
    filter: v1::DeadLetterFilter,
    reason: Option<String>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let what = format!("remove {} of group {} for good", extent(&filter), filter.group);
    let resolve = caution.resolve(&what)?;
    let request = v1::DiscardDeadLettersRequest {
        filter: Some(filter),
        dry_run: resolve == Resolve::Rehearse,
        operator: global.operator(reason.as_deref()),
    };
    let results = global.admin().await?.discard_dead_letters(request).await?.into_inner();
    let done = if resolve == Resolve::Rehearse { "would be discarded" } else { "discarded" };
    print_results(results, done, &mut global.printer()).await
}

fn extent(filter: &v1::DeadLetterFilter) -> String {
    match filter.offsets.len() {
        0 => "all matching dead letters".to_owned(),
        count => counted(count as u64, "dead letter"),
    }
}

/// One line for each, as it comes; at the end how many were done, on stderr.
async fn print_results(
    mut results: Streaming<v1::DeadLetterResult>,
    done: &str,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let progress = Progress::counting("dead letters");
    let (mut good, mut refused) = (0_u64, 0_u64);
    while let Some(result) = results.next().await {
        let result = result?;
        if result.fault.is_some() {
            refused += 1;
        } else {
            good += 1;
        }
        printer.line(&DeadLetterResultView::new(result, done))?;
        progress.advance(1);
    }
    progress.finish();
    eprintln!("{good} {done}, {refused} refused");
    match refused {
        0 => Ok(()),
        _ => {
            Err(CliError::failed(format!("{} refused; see above for each", counted(refused, "dead letter"))))
        }
    }
}
