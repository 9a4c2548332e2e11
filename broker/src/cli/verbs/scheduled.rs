//! `escrow scheduled`: messages that wait for their time: seen, cancelled, given another.

use std::time::Duration;

use escrow_protocol::v1::cancel_scheduled_response::Outcome;
use escrow_protocol::v1::move_scheduled_response::Outcome as Moved;
use escrow_protocol::{MessageId, v1};

use crate::cli::clock::{duration, now_ms, time_ms};
use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Cell as _, Time};
use crate::cli::paging::Paging;
use crate::cli::view::ScheduledView;

/// What can be done with scheduled messages.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum ScheduledVerb {
    /// List the messages that wait for their time, the next one first.
    #[command(after_help = "Examples:
  escrow scheduled ls --key order-42
  escrow scheduled ls --topic order-paid --limit 5 -o json")]
    Ls {
        /// Only of this topic.
        #[arg(long, default_value = "", hide_default_value = true)]
        topic: String,
        /// Only with this business key.
        #[arg(long, default_value = "", hide_default_value = true)]
        key: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Cancel a scheduled message: it will never be delivered.
    #[command(after_help = "Examples:
  escrow scheduled cancel 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --yes
  escrow scheduled cancel 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --dry-run")]
    Cancel {
        /// The message.
        #[arg(value_name = "MESSAGE")]
        id: MessageId,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
    /// Give a scheduled message another time.
    #[command(after_help = "Examples:
  escrow scheduled move 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --in 2h
  escrow scheduled move 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --to 2026-12-24T18:00:00Z --reason 'not before the feast'")]
    Move(MoveArgs),
}

/// Which message gets which time.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MoveArgs {
    /// The message.
    #[arg(value_name = "MESSAGE")]
    id: MessageId,
    /// Its new time (RFC 3339). One that has passed means at once.
    #[arg(long, value_name = "TIME", value_parser = time_ms, required_unless_present = "after")]
    to: Option<i64>,
    /// Its new time, counted from now.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration, conflicts_with = "to")]
    after: Option<Duration>,
    /// Why, for the records.
    #[arg(long)]
    reason: Option<String>,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(crate) async fn run(verb: ScheduledVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        ScheduledVerb::Ls { topic, key, paging } => {
            ls(v1::ListScheduledRequest { page: None, topic, key }, paging, global).await
        }
        ScheduledVerb::Cancel { id, reason, caution } => cancel(id, reason.as_deref(), caution, global).await,
        ScheduledVerb::Move(args) => shift(args, global).await,
    }
}

async fn shift(args: MoveArgs, global: &Global) -> Result<(), CliError> {
    let MoveArgs { id, to, after, reason, dry_run } = args;
    let later =
        |after: Duration| now_ms().saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    let deliver_at_ms = to.or(after.map(later)).unwrap_or_default();
    let time = Time(deliver_at_ms).shown().into_line();
    if dry_run {
        return Ok(global.printer().done(&format!("this would move message {id} to {time}"))?);
    }
    let message_id = id.as_bytes().to_vec().into();
    let operator = global.operator(reason.as_deref());
    let request = v1::MoveScheduledRequest { message_id, deliver_at_ms, operator };
    match global.admin().await?.move_scheduled(request).await?.into_inner().outcome() {
        Moved::Moved => Ok(global.printer().done(&format!("moved message {id} to {time}"))?),
        Moved::TooLate => Err(too_late(id)),
        Moved::NotKnown | Moved::Unspecified => Err(not_known(id)),
    }
}

fn too_late(id: MessageId) -> CliError {
    CliError::failed(format!(
        "too late: message {id} is in its topic already; `escrow msg trace {id}` follows it"
    ))
}

fn not_known(id: MessageId) -> CliError {
    CliError::failed(format!("no scheduled message has the id {id}; `escrow scheduled ls` lists them"))
}

async fn ls(asked: v1::ListScheduledRequest, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let fetch = async |page| {
        let answer = admin
            .list_scheduled(v1::ListScheduledRequest { page: Some(page), ..asked.clone() })
            .await?
            .into_inner();
        Ok((answer.scheduled.into_iter().map(ScheduledView::from).collect(), answer.next_cursor))
    };
    let is_filtered = !asked.topic.is_empty() || !asked.key.is_empty();
    let empty = if is_filtered { "no message that matches is scheduled" } else { "no message is scheduled" };
    paging.print(&mut global.printer(), empty, fetch).await
}

async fn cancel(
    id: MessageId,
    reason: Option<&str>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let message_id = id.as_bytes().to_vec();
    let stored = admin.get_message(v1::GetMessageRequest { message_id: message_id.clone().into() }).await;
    let where_it_is = match stored {
        Ok(stored) => {
            let stored = stored.into_inner();
            format!("now {} for topic {}", stored.state, stored.topic)
        }
        Err(_unknown) => "which is not known".to_owned(),
    };
    let what = format!("cancel message {id}, {where_it_is}");
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let operator = global.operator(reason);
    let request = v1::CancelScheduledRequest { message_id: message_id.into(), operator };
    match admin.cancel_scheduled(request).await?.into_inner().outcome() {
        Outcome::Cancelled => Ok(global.printer().done(&format!("cancelled message {id}"))?),
        Outcome::TooLate => Err(too_late(id)),
        Outcome::NotKnown | Outcome::Unspecified => Err(not_known(id)),
    }
}
