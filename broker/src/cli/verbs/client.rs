//! `escrow client`: who is connected.

use escrow_protocol::v1;

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::paging::Paging;
use crate::cli::view::ClientView;

/// What can be asked about clients.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum ClientVerb {
    /// List the producers and consumers that are connected.
    #[command(after_help = "Examples:
  escrow client ls
  escrow client ls --all -o jsonl | jq -r 'select(.role == \"producer\").client_id'")]
    Ls {
        #[command(flatten)]
        paging: Paging,
    },
}

/// Does it.
pub(crate) async fn run(verb: ClientVerb, global: &Global) -> Result<(), CliError> {
    let ClientVerb::Ls { paging } = verb;
    let mut admin = global.admin().await?;
    let fetch = async |page| {
        let answer = admin.list_clients(v1::ListClientsRequest { page: Some(page) }).await?.into_inner();
        Ok((answer.clients.into_iter().map(ClientView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), "no client is connected", fetch).await
}
