//! `escrow msg`: find a message, see it, and follow its life.

use escrow::Admin;
use escrow_protocol::{MessageId, v1};

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::Format;
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
    /// Find messages by their business key, newest first; those that are gone and still told of, too.
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
    /// The life of a message, also when it is gone: checks, decision, each delivery and its end, dead letters, redrives.
    #[command(after_help = "Examples:
  escrow msg trace --key order-42
  escrow msg trace 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d -o json | jq .events")]
    Trace {
        /// The message.
        #[arg(value_name = "MESSAGE", required_unless_present = "key", conflicts_with = "key")]
        id: Option<MessageId>,
        /// All messages with this business key, newest first.
        #[arg(long)]
        key: Option<String>,
        /// With --key: at most this many.
        #[arg(long, default_value_t = 10, requires = "key", value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
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
        MsgVerb::Trace { id: Some(id), .. } => {
            let view = trace(&mut global.admin().await?, id.as_bytes().to_vec().into()).await?;
            Ok(global.printer().one(&view)?)
        }
        MsgVerb::Trace { id: None, key, limit } => trace_key(key.unwrap_or_default(), limit, global).await,
    }
}

async fn trace(admin: &mut Admin, message_id: bytes::Bytes) -> Result<TraceView, CliError> {
    let answer = admin.trace_message(v1::TraceMessageRequest { message_id }).await?.into_inner();
    Ok(TraceView::from(answer))
}

/// What happened to everything with this key.
async fn trace_key(key: String, limit: u32, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let page = Some(v1::Page { limit, cursor: String::new() });
    let found = admin.find_messages(v1::FindMessagesRequest { key: key.clone(), page }).await?.into_inner();
    if found.messages.is_empty() {
        return Err(CliError::failed(format!(
            "nothing is known of a message with the key {key}: it never came, or was gone longer ago than `retention.story_age`"
        )));
    }
    let mut views = Vec::with_capacity(found.messages.len());
    for message in found.messages {
        let id = message.message.map(|message| message.id).unwrap_or_default();
        // Of one that is gone only a hash of its key is kept.
        views.push(TraceView { key: key.clone(), ..trace(&mut admin, id).await? });
    }
    let mut printer = global.printer();
    match printer.format() {
        Format::Table => views.iter().try_for_each(|view| printer.one(view))?,
        Format::Json | Format::Jsonl => printer.list(&views, "")?,
    }
    if !found.next_cursor.is_empty() {
        eprintln!("there are more with this key: `escrow msg find --key {key} --all` lists them");
    }
    Ok(())
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
