//! `escrow retry`: messages that wait for their next attempt: seen, run at once, given up.

use escrow_protocol::{MessageId, v1};

use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::counted;
use crate::cli::paging::Paging;
use crate::cli::view::{RetryResultView, RetryView};

/// What can be done with retries.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum RetryVerb {
    /// List the messages of a group that wait for their next attempt, with their last errors.
    #[command(after_help = "Examples:
  escrow retry ls billing --attempt-min 10
  escrow retry ls billing --all -o jsonl | jq -r .last_error | sort | uniq -c")]
    Ls {
        /// The group.
        group: String,
        /// Only of this topic.
        #[arg(long, default_value = "", hide_default_value = true)]
        topic: String,
        /// Only those whose next attempt is at least this one.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        attempt_min: u32,
        /// Only with this business key.
        #[arg(long, default_value = "", hide_default_value = true)]
        key: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Have messages tried at once, whatever the group's policy says.
    #[command(after_help = "Examples:
  escrow retry run billing 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d
  escrow retry run billing 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --reason 'the bank is back'")]
    Run {
        /// The group.
        group: String,
        /// The messages.
        #[arg(value_name = "MESSAGE", required = true)]
        ids: Vec<MessageId>,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
        /// Only say what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Move messages to the dead letters now, with all their attempts.
    #[command(after_help = "Examples:
  escrow retry give-up billing 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --reason 'the customer is gone' --yes
  escrow retry give-up billing 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --reason 'ticket 7' --dry-run")]
    GiveUp {
        /// The group.
        group: String,
        /// The messages.
        #[arg(value_name = "MESSAGE", required = true)]
        ids: Vec<MessageId>,
        /// Why. Stands in the dead letters and in the audit.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        caution: Caution,
    },
}

/// Does it.
pub(crate) async fn run(verb: RetryVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        RetryVerb::Ls { group, topic, attempt_min, key, paging } => {
            let request = v1::ListRetriesRequest { page: None, group, topic, attempt_min, key };
            ls(request, paging, global).await
        }
        RetryVerb::Run { group, ids, reason, dry_run } => {
            if dry_run {
                let what =
                    format!("this would have {} of group {group} tried at once", counted_messages(&ids));
                return Ok(global.printer().done(&what)?);
            }
            let operator = global.operator(reason.as_deref());
            let request = v1::RunRetriesRequest { group, message_ids: wire(&ids), operator };
            let answer = global.admin().await?.run_retries(request).await?.into_inner();
            report(&answer.results, "made due at once", global)
        }
        RetryVerb::GiveUp { group, ids, reason, caution } => {
            let what = format!("move {} of group {group} to its dead letters", counted_messages(&ids));
            if caution.resolve(&what)? == Resolve::Rehearse {
                return Ok(global.printer().done(&format!("this would {what}"))?);
            }
            let operator = global.operator(Some(&reason));
            let request = v1::GiveUpRetriesRequest { group, message_ids: wire(&ids), operator };
            let answer = global.admin().await?.give_up_retries(request).await?.into_inner();
            report(&answer.results, "given up", global)
        }
    }
}

fn counted_messages(ids: &[MessageId]) -> String {
    counted(ids.len() as u64, "message")
}

fn wire(ids: &[MessageId]) -> Vec<bytes::Bytes> {
    ids.iter().map(|id| bytes::Bytes::copy_from_slice(id.as_bytes())).collect()
}

/// Says what became of each, and fails if any was refused.
fn report(results: &[v1::RetryResult], done: &str, global: &Global) -> Result<(), CliError> {
    let views: Vec<_> = results.iter().map(|result| RetryResultView::new(result, done)).collect();
    global.printer().list(&views, "")?;
    match results.iter().filter(|result| result.fault.is_some()).count() as u64 {
        0 => Ok(()),
        failed => {
            Err(CliError::failed(format!("{} refused; see above for each", counted(failed, "message"))))
        }
    }
}

async fn ls(asked: v1::ListRetriesRequest, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let is_filtered = !asked.topic.is_empty() || asked.attempt_min > 0 || !asked.key.is_empty();
    let matching = if is_filtered { " that matches" } else { "" };
    let empty = format!("no message of group {}{matching} is retrying", asked.group);
    let fetch = async |page| {
        let request = v1::ListRetriesRequest { page: Some(page), ..asked.clone() };
        let answer = admin.list_retries(request).await?.into_inner();
        Ok((answer.retries.into_iter().map(RetryView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), &empty, fetch).await
}
