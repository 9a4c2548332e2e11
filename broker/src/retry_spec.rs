//! The delays of a retry policy in one word, as the command line and the console have them.

use escrow_protocol::v1::retry_policy::Delays;
use escrow_protocol::v1::{Exponential, Ladder};

use crate::config::{DurationText, PermilleText, UnitError, parse_duration_ms, parse_permille};
use crate::records::RetryDelays;

/// Reads `ladder:10s,1m`, `exponential:1s,2,10m` or `fixed:30s`.
///
/// # Errors
/// The fault and the remedy.
pub(crate) fn retry_delays(text: &str) -> Result<Delays, String> {
    let wrong = || {
        format!(
            "{text:?} is not a retry policy; write ladder:10s,1m,5m or exponential:1s,2,10m (first, factor, longest) or fixed:30s"
        )
    };
    let (strategy, values) = text.split_once(':').ok_or_else(wrong)?;
    let values: Vec<&str> = values.split(',').map(str::trim).collect();
    let words = |error: UnitError| error.to_string();
    match (strategy, values.as_slice()) {
        ("ladder", steps) => {
            let delays_ms =
                steps.iter().map(|step| duration_ms(step)).collect::<Result<_, _>>().map_err(words)?;
            Ok(Delays::Ladder(Ladder { delays_ms }))
        }
        ("exponential", [first, factor, longest]) => Ok(Delays::Exponential(Exponential {
            initial_ms: duration_ms(first).map_err(words)?,
            multiplier_permille: u32::try_from(parse_permille(factor).map_err(words)?)
                .map_err(|_| wrong())?,
            max_ms: duration_ms(longest).map_err(words)?,
        })),
        ("fixed", [delay]) => Ok(Delays::FixedMs(duration_ms(delay).map_err(words)?)),
        _ => Err(wrong()),
    }
}

/// What [`retry_delays`] reads as these delays.
pub(crate) fn retry_spec(delays: &RetryDelays) -> String {
    let text = |ms: &u64| DurationText(*ms).to_string();
    match delays {
        RetryDelays::Ladder(steps) => {
            format!("ladder:{}", steps.iter().map(text).collect::<Vec<_>>().join(","))
        }
        RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => format!(
            "exponential:{},{},{}",
            text(initial_ms),
            PermilleText(u64::from(*multiplier_permille)),
            text(max_ms)
        ),
        RetryDelays::Fixed(delay) => format!("fixed:{}", text(delay)),
    }
}

fn duration_ms(text: &str) -> Result<i64, UnitError> {
    parse_duration_ms(text).map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let exponential =
            RetryDelays::Exponential { initial_ms: 1_500, multiplier_permille: 2_500, max_ms: 600_000 };
        for delays in [RetryDelays::Ladder(vec![0, 10_000, 90_000]), exponential, RetryDelays::Fixed(250)] {
            let read = match retry_delays(&retry_spec(&delays)).expect("it reads") {
                Delays::Ladder(ladder) => {
                    RetryDelays::Ladder(ladder.delays_ms.into_iter().map(|ms| ms as u64).collect())
                }
                Delays::FixedMs(ms) => RetryDelays::Fixed(ms as u64),
                Delays::Exponential(it) => RetryDelays::Exponential {
                    initial_ms: it.initial_ms as u64,
                    multiplier_permille: it.multiplier_permille,
                    max_ms: it.max_ms as u64,
                },
            };
            assert_eq!(read, delays, "{}", retry_spec(&delays));
        }
    }

    #[test]
    fn policies_are_read() {
        assert_eq!(
            retry_delays("ladder:10s,1m"),
            Ok(Delays::Ladder(Ladder { delays_ms: vec![10_000, 60_000] }))
        );
        let growing = Exponential { initial_ms: 1_000, multiplier_permille: 1_500, max_ms: 600_000 };
        assert_eq!(retry_delays("exponential:1s,1.5,10m"), Ok(Delays::Exponential(growing)));
        assert_eq!(retry_delays("fixed:250ms"), Ok(Delays::FixedMs(250)));
        for text in ["", "fixed", "fixed:", "fixed:1s,2s", "exponential:1s,2", "ladder:", "ladder:10", "x:1s"]
        {
            assert!(retry_delays(text).is_err(), "{text:?} was accepted");
        }
    }
}
