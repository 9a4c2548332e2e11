//! Whether transactions are stuck.

use std::time::Duration;

use escrow_protocol::v1;

use super::{Bound, Limit, MINUTE_MS, ms, ordered};
use crate::cli::clock::duration;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Cell, Ms, counted};
use crate::cli::verdict::{State, Thresholds, Unit, Verdict};

/// When transactions are stuck.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TxArgs {
    /// Warning: the oldest undecided one is this old. Default: 10m.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    age_warning: Option<Duration>,
    /// Critical: the oldest undecided one is this old. Default: 1h.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    age_critical: Option<Duration>,
    /// Warning: so many wait for a checker. Default: 1.
    #[arg(long, value_name = "COUNT")]
    waiting_warning: Option<u64>,
    /// Critical: so many wait for a checker.
    #[arg(long, value_name = "COUNT")]
    waiting_critical: Option<u64>,
    /// Warning: so many are parked. Default: 1.
    #[arg(long, value_name = "COUNT")]
    parked_warning: Option<u64>,
    /// Critical: so many are parked.
    #[arg(long, value_name = "COUNT")]
    parked_critical: Option<u64>,
    /// Warning: so many are undecided.
    #[arg(long, value_name = "COUNT")]
    undecided_warning: Option<u64>,
    /// Critical: so many are undecided.
    #[arg(long, value_name = "COUNT")]
    undecided_critical: Option<u64>,
    #[command(flatten)]
    pub(super) limit: Limit,
}

/// When each number is bad.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    age: Thresholds,
    waiting: Thresholds,
    parked: Thresholds,
    undecided: Thresholds,
}

impl TxArgs {
    fn bounds(&self) -> Result<Bounds, CliError> {
        let rising = |what, warning, default: Option<u64>, critical, critical_default: Option<u64>| {
            ordered(what, true, Bound::new(warning, default), Bound::new(critical, critical_default))
        };
        let (warning, critical) = (ms(self.age_warning), ms(self.age_critical));
        Ok(Bounds {
            age: rising("age-", warning, Some(10 * MINUTE_MS), critical, Some(60 * MINUTE_MS))?,
            waiting: rising("waiting-", self.waiting_warning, Some(1), self.waiting_critical, None)?,
            parked: rising("parked-", self.parked_warning, Some(1), self.parked_critical, None)?,
            undecided: rising("undecided-", self.undecided_warning, None, self.undecided_critical, None)?,
        })
    }
}

/// Looks.
pub(super) async fn look(args: TxArgs, global: &Global) -> Result<Verdict, CliError> {
    let bounds = args.bounds()?;
    let status = global.admin().await?.get_status(v1::GetStatusRequest {}).await?.into_inner();
    Ok(verdict(&status, bounds))
}

fn verdict(status: &v1::GetStatusResponse, bounds: Bounds) -> Verdict {
    let mut verdict = Verdict::new("TX");
    let age_ms = match status.oldest_undecided_at_ms {
        0 => 0,
        at_ms => u64::try_from(status.now_ms - at_ms).unwrap_or(0),
    };
    let parked = bounds.parked.above(status.parked);
    if parked != State::Ok {
        verdict.add(parked, format!("{} parked: a person decides", status.parked));
    }
    let waiting = bounds.waiting.above(status.waiting_for_checker);
    if waiting != State::Ok {
        verdict.add(waiting, format!("{} wait for a checker", status.waiting_for_checker));
    }
    let age = bounds.age.above(age_ms);
    if age != State::Ok {
        verdict.add(
            age,
            format!("the oldest is undecided for {}", Ms(age_ms / 1000 * 1000).shown().into_line()),
        );
    }
    verdict.add(
        bounds.undecided.above(status.undecided),
        format!("{} undecided", counted(status.undecided, "transaction")),
    );
    verdict.number("undecided", status.undecided, Unit::Count, bounds.undecided);
    verdict.number("oldest", age_ms, Unit::Milliseconds, bounds.age);
    verdict.number("waiting", status.waiting_for_checker, Unit::Count, bounds.waiting);
    verdict.number("parked", status.parked, Unit::Count, bounds.parked);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        let thresholds = |warning, critical| Thresholds { warning: Some(warning), critical: Some(critical) };
        Bounds {
            age: thresholds(60_000, 600_000),
            waiting: thresholds(1, 5),
            parked: thresholds(1, 5),
            undecided: Thresholds::default(),
        }
    }

    #[test]
    fn each_way_to_be_stuck_is_named() {
        let at = |oldest_undecided_at_ms, waiting_for_checker, parked| v1::GetStatusResponse {
            now_ms: 1_000_000,
            undecided: 9,
            oldest_undecided_at_ms,
            waiting_for_checker,
            parked,
            ..Default::default()
        };
        for (status, state, words) in [
            (at(0, 0, 0), State::Ok, "TX OK - 9 transactions undecided |"),
            (at(940_001, 0, 0), State::Ok, "- 9 transactions undecided"),
            (at(940_000, 0, 0), State::Warning, "the oldest is undecided for 1m; 9"),
            (at(400_000, 0, 0), State::Critical, "the oldest is undecided for 10m"),
            (at(0, 4, 0), State::Warning, "- 4 wait for a checker"),
            (at(0, 0, 5), State::Critical, "- 5 parked: a person decides"),
        ] {
            let verdict = verdict(&status, bounds());
            assert_eq!(verdict.state(), state, "{verdict}");
            assert!(verdict.to_string().contains(words), "{verdict}");
        }
    }
}
