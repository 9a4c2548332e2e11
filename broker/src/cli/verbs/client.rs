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
  escrow client ls --group billing
  escrow client ls --all -o jsonl | jq -r 'select(.role == \"producer\").client_id'")]
    Ls {
        /// Only producers, or only consumers.
        #[arg(long, value_parser = ["producer", "consumer"])]
        role: Option<String>,
        /// Only of this group.
        #[arg(long, default_value = "", hide_default_value = true)]
        group: String,
        /// Only with an id that has this in it.
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        #[command(flatten)]
        paging: Paging,
    },
}

/// Does it.
pub(crate) async fn run(verb: ClientVerb, global: &Global) -> Result<(), CliError> {
    let ClientVerb::Ls { role, group, name, paging } = verb;
    let role = role.unwrap_or_default();
    let asked = v1::ListClientsRequest { page: None, role, group, client_id: name };
    let mut admin = global.admin().await?;
    let fetch = async |page| {
        let request = v1::ListClientsRequest { page: Some(page), ..asked.clone() };
        let answer = admin.list_clients(request).await?.into_inner();
        Ok((answer.clients.into_iter().map(ClientView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), "no client that matches is connected", fetch).await
}
