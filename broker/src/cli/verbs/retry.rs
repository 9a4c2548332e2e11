//! `escrow retry`: messages that wait for their next attempt.

use escrow_protocol::v1;

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::paging::Paging;
use crate::cli::view::RetryView;

/// What can be done with retries.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum RetryVerb {
    /// List the messages of a group that wait for their next attempt, with their last errors.
    #[command(after_help = "Examples:
  escrow retry ls billing
  escrow retry ls billing --all -o jsonl | jq -r .last_error | sort | uniq -c")]
    Ls {
        /// The group.
        group: String,
        #[command(flatten)]
        paging: Paging,
    },
}

/// Does it.
pub(crate) async fn run(verb: RetryVerb, global: &Global) -> Result<(), CliError> {
    let RetryVerb::Ls { group, paging } = verb;
    let mut admin = global.admin().await?;
    let empty = format!("no message of group {group} is retrying");
    let fetch = async |page| {
        let request = v1::ListRetriesRequest { page: Some(page), group: group.clone() };
        let answer = admin.list_retries(request).await?.into_inner();
        Ok((answer.retries.into_iter().map(RetryView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), &empty, fetch).await
}
