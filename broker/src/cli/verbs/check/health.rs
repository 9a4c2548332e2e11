//! Whether the broker answers and can do its work.

use escrow_protocol::v1;

use super::{Bound, Limit, ordered};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Bytes, Cell, Ms, counted};
use crate::cli::verdict::{State, Thresholds, Unit, Verdict};
use crate::config::parse_size;

const FREE_WARNING_BYTES: u64 = 2 << 30;
const FREE_CRITICAL_BYTES: u64 = 512 << 20;

/// When the broker is unwell.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HealthArgs {
    /// Warning: less free space than this on its disk. Default: 2GiB.
    #[arg(long, value_parser = size, value_name = "SIZE")]
    free_warning: Option<u64>,
    /// Critical: less free space than this. Default: 512MiB.
    #[arg(long, value_parser = size, value_name = "SIZE")]
    free_critical: Option<u64>,
    #[command(flatten)]
    pub(super) limit: Limit,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// Looks.
pub(super) async fn look(args: HealthArgs, global: &Global) -> Result<Verdict, CliError> {
    let free = ordered(
        "free-",
        false,
        Bound::new(args.free_warning, FREE_WARNING_BYTES),
        Bound::new(args.free_critical, FREE_CRITICAL_BYTES),
    )?;
    let status = global.admin().await?.get_status(v1::GetStatusRequest {}).await?.into_inner();
    Ok(verdict(&status, free))
}

fn verdict(status: &v1::GetStatusResponse, free: Thresholds) -> Verdict {
    let store = status.store.clone().unwrap_or_default();
    let mut verdict = Verdict::new("HEALTH");
    if !status.accepting {
        verdict.add(State::Critical, "new messages are refused: space is short");
    }
    if store.corrupt_records > 0 {
        let words = format!(
            "{} found; `escrow store verify` names them",
            counted(store.corrupt_records, "damaged record")
        );
        verdict.add(State::Critical, words);
    }
    let free_text = Bytes(store.disk_free_bytes).shown().into_line();
    verdict.add(free.below(store.disk_free_bytes), format!("{free_text} free"));
    let up = Ms::from_wire((status.now_ms - status.started_at_ms) / 1000 * 1000).shown().into_line();
    verdict.add(State::Ok, format!("release {} answers, up {up}", status.version));
    verdict.number("free", store.disk_free_bytes, Unit::Bytes, free);
    verdict.number("last_sync", store.last_sync_us / 1000, Unit::Milliseconds, Thresholds::default());
    verdict.number("producers", status.producers, Unit::Count, Thresholds::default());
    verdict.number("consumers", status.consumers, Unit::Count, Thresholds::default());
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Thresholds = Thresholds { warning: Some(200), critical: Some(100) };

    fn status(accepting: bool, disk_free_bytes: u64, corrupt_records: u64) -> v1::GetStatusResponse {
        let store = v1::StoreStats { disk_free_bytes, corrupt_records, ..Default::default() };
        v1::GetStatusResponse { accepting, store: Some(store), ..Default::default() }
    }

    #[test]
    fn each_ailment_is_named() {
        for (status, state, words) in [
            (status(true, 200, 0), State::Ok, "200 B free"),
            (status(true, 199, 0), State::Warning, "- 199 B free"),
            (status(true, 99, 0), State::Critical, "- 99 B free"),
            (status(false, 500, 0), State::Critical, "new messages are refused"),
            (status(true, 500, 2), State::Critical, "2 damaged records"),
        ] {
            let verdict = verdict(&status, FREE);
            assert_eq!(verdict.state(), state, "{verdict}");
            assert!(verdict.to_string().contains(words), "{verdict}");
        }
    }
}
