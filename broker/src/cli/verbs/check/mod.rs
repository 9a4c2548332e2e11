//! `escrow check`: how the broker stands, for monitoring systems: one line, and exit status 0 ok, 1 warning, 2 critical,
//! 3 unknown. Each asks for what counters know, never for a list of messages.

mod groups;
mod health;
mod transactions;

use std::io::{self, Write as _};
use std::time::Duration;

use crate::cli::clock::duration;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::verdict::{State, Thresholds, Verdict};

use groups::{DlqArgs, LagArgs};
use health::HealthArgs;
use transactions::TxArgs;

/// What can be checked.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum CheckVerb {
    /// Whether the broker answers, takes new messages, has room, and found no damage.
    #[command(after_help = "Exit status: 0 ok, 1 warning, 2 critical (also when nobody answers), 3 unknown.

Examples:
  escrow check health
  escrow check health --context prod --free-warning 20GiB --free-critical 5GiB --timeout 5s")]
    Health(HealthArgs),
    /// Whether transactions are stuck: too long undecided, waiting for a checker, or parked.
    #[command(after_help = "Exit status: 0 ok, 1 warning, 2 critical, 3 unknown (also when nobody answers).

Examples:
  escrow check tx
  escrow check tx --age-warning 5m --age-critical 30m --parked-critical 1")]
    Tx(TxArgs),
    /// Whether groups are behind: the messages they have yet to finish, and how old those are.
    #[command(after_help = "Exit status: 0 ok, 1 warning, 2 critical, 3 unknown (also when nobody answers).

Examples:
  escrow check lag
  escrow check lag billing mail --age-critical 10m --messages-warning 10000")]
    Lag(LagArgs),
    /// Whether groups have dead letters.
    #[command(after_help = "Exit status: 0 ok, 1 warning, 2 critical, 3 unknown (also when nobody answers).

Examples:
  escrow check dlq
  escrow check dlq billing --warning 10 --critical 1000")]
    Dlq(DlqArgs),
}

/// How long a check may take.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Limit {
    /// How long it may take in all.
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// Does it.
pub(crate) async fn run(verb: CheckVerb, global: &Global) -> Result<(), CliError> {
    let (name, unseen, limit) = match &verb {
        // A broker that does not answer is what this check is for.
        CheckVerb::Health(args) => ("HEALTH", State::Critical, args.limit),
        CheckVerb::Tx(args) => ("TX", State::Unknown, args.limit),
        CheckVerb::Lag(args) => ("LAG", State::Unknown, args.limit),
        CheckVerb::Dlq(args) => ("DLQ", State::Unknown, args.limit),
    };
    let look = async {
        match verb {
            CheckVerb::Health(args) => health::look(args, global).await,
            CheckVerb::Tx(args) => transactions::look(args, global).await,
            CheckVerb::Lag(args) => groups::lag(args, global).await,
            CheckVerb::Dlq(args) => groups::dead_letters(args, global).await,
        }
    };
    let verdict = match tokio::time::timeout(limit.timeout, look).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::only(name, state_of(&error, unseen), error.to_string()),
        Err(_) => {
            let words =
                format!("no answer within {}", crate::config::DurationText(limit.timeout.as_millis() as u64));
            Verdict::only(name, unseen, words)
        }
    };
    writeln!(io::stdout(), "{verdict}")?;
    match verdict.state() {
        State::Ok => Ok(()),
        state => Err(CliError::Verdict(state as u8)),
    }
}

/// What an error says of the broker: one that makes no sense, says nothing of it.
fn state_of(error: &CliError, unseen: State) -> State {
    match error.status() {
        3 => unseen,
        _ => State::Unknown,
    }
}

/// A bound as somebody gave it, and what it is where nobody did.
#[derive(Debug, Clone, Copy, Default)]
struct Bound {
    given: Option<u64>,
    default: Option<u64>,
}

impl Bound {
    fn new(given: Option<u64>, default: impl Into<Option<u64>>) -> Self {
        Self { given, default: default.into() }
    }
}

/// Both must make sense together: a warning comes first. One that was left alone gives way to one that was given: who
/// wants `--age-critical 1m` means it.
///
/// # Errors
/// Which of two that were given is on the wrong side.
fn ordered(what: &str, rising: bool, warning: Bound, critical: Bound) -> Result<Thresholds, CliError> {
    let earlier = |one: u64, other: u64| if rising { one.min(other) } else { one.max(other) };
    let later = |one: u64, other: u64| if rising { one.max(other) } else { one.min(other) };
    let (warning, critical) = match (warning.given, critical.given) {
        (Some(given), None) => (Some(given), critical.default.map(|default| later(default, given))),
        (None, Some(given)) => (warning.default.map(|default| earlier(default, given)), Some(given)),
        (None, None) => (warning.default, critical.default),
        both => both,
    };
    let wrong = match (warning, critical) {
        (Some(warning), Some(critical)) if rising => warning > critical,
        (Some(warning), Some(critical)) => warning < critical,
        _ => false,
    };
    if wrong {
        let side = if rising { "above" } else { "below" };
        return Err(CliError::usage(format!(
            "--{what}warning is {side} --{what}critical: it would never be reached; swap them"
        )));
    }
    Ok(Thresholds { warning, critical })
}

const MINUTE_MS: u64 = 60_000;

fn ms(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_on_the_wrong_side_are_refused() {
        let given = |bound: u64| Bound::new(Some(bound), 7);
        let refused = |what, rising, warning, critical| {
            ordered(what, rising, given(warning), given(critical)).unwrap_err().to_string()
        };
        assert!(refused("age-", true, 2, 1).contains("--age-warning is above"));
        assert!(refused("free-", false, 1, 2).contains("is below"));
        assert!(ordered("", true, given(1), given(1)).is_ok());
    }

    #[test]
    fn a_threshold_that_nobody_gave_gives_way_to_one_that_somebody_did() {
        let (warning, critical) = (Bound::new(None, 5), Bound::new(None, 30));
        let of = |rising, warning, critical| {
            let both = ordered("", rising, warning, critical).unwrap();
            (both.warning, both.critical)
        };
        assert_eq!(of(true, warning, critical), (Some(5), Some(30)));
        assert_eq!(of(true, warning, Bound { given: Some(2), ..critical }), (Some(2), Some(2)));
        assert_eq!(of(true, Bound { given: Some(60), ..warning }, critical), (Some(60), Some(60)));
        assert_eq!(of(true, Bound { given: Some(9), ..warning }, critical), (Some(9), Some(30)));
        // What falls is the other way round.
        assert_eq!(of(false, critical, Bound { given: Some(40), ..warning }), (Some(40), Some(40)));
        assert_eq!(of(false, Bound { given: Some(3), ..critical }, warning), (Some(3), Some(3)));
        let none = Bound::default();
        assert_eq!(of(true, Bound { given: Some(1), ..none }, none), (Some(1), None));
        assert_eq!(of(true, warning, none), (Some(5), None));
    }
}
