//! `escrow status`: the broker at a glance.

use escrow_protocol::v1;

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::view::StatusView;

/// Does it.
pub(crate) async fn run(global: &Global) -> Result<(), CliError> {
    let status = global.admin().await?.get_status(v1::GetStatusRequest {}).await?.into_inner();
    Ok(global.printer().one(&StatusView::from(status))?)
}
