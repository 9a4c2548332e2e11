//! `escrow msg`: find a message, see it, and follow its life.

use escrow_protocol::{MessageId, v1};

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::paging::Paging;
use crate::cli::view::{StoredMessageView, TraceView};

/// What can be asked about messages.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum MsgVerb {
    /// Show a message with its body, and where it is.
    #[command(after_help = "Examples:
  escrow msg get 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d
  escrow msg get 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d -o json | jq -r .message.body")]
    Get {
        /// The message.
        #[arg(value_name = "MESSAGE")]
        id: MessageId,
    },
    /// Find messages by their business key, newest first.
    #[command(after_help = "Examples:
  escrow msg find --key o-42
  escrow msg find --key o-42 --limit 1 -o json")]
    Find {
        /// The business key.
        #[arg(long)]
        key: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// The life of a message: stored, decided, delivered, retried, dead, finished.
    #[command(after_help = "Examples:
  escrow msg trace 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d
  escrow msg trace 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d -o json | jq .events")]
    Trace {
        /// The message.
        #[arg(value_name = "MESSAGE")]
        id: MessageId,
    },
}

/// Does it.
pub(crate) async fn run(verb: MsgVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        MsgVerb::Get { id } => {
            let request = v1::GetMessageRequest { message_id: id.as_bytes().to_vec().into() };
            let stored = global.admin().await?.get_message(request).await?.into_inner();
            Ok(global.printer().one(&StoredMessageView::from(stored))?)
        }
        MsgVerb::Find { key, paging } => find(key, paging, global).await,
        MsgVerb::Trace { id } => {
            let request = v1::TraceMessageRequest { message_id: id.as_bytes().to_vec().into() };
            let trace = global.admin().await?.trace_message(request).await?.into_inner();
            Ok(global.printer().one(&TraceView::from(trace))?)
        }
    }
}

async fn find(key: String, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = format!("no message with the key {key} is stored");
    let fetch = async |page| {
        let request = v1::FindMessagesRequest { key: key.clone(), page: Some(page) };
        let answer = admin.find_messages(request).await?.into_inner();
        Ok((answer.messages.into_iter().map(StoredMessageView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), &empty, fetch).await
}
