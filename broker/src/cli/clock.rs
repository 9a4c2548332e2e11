//! The one place of the command line that reads the clock; and the texts of times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::config::parse_duration_ms;

/// Now, Unix milliseconds.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a duration, for clap.
///
/// # Errors
/// The fault and the remedy.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text).map(Duration::from_millis).map_err(|error| error.to_string())
}

/// Reads a time in RFC 3339, Unix milliseconds.
///
/// # Errors
/// The fault and the remedy.
pub(crate) fn time_ms(text: &str) -> Result<i64, String> {
    text.parse::<Timestamp>().map(|time| time.as_millisecond()).map_err(|_| {
        format!("{text:?} is not a time; write it in RFC 3339, such as 2026-01-31T08:00:00Z or with +08:00")
    })
}

/// Reads a time in the past: RFC 3339, or a duration that long ago. Unix milliseconds.
///
/// # Errors
/// The fault and the remedy.
pub(crate) fn past_ms(text: &str) -> Result<i64, String> {
    past_from(text, now_ms())
}

fn past_from(text: &str, now_ms: i64) -> Result<i64, String> {
    match parse_duration_ms(text) {
        Ok(ago) => Ok(now_ms.saturating_sub_unsigned(ago).max(1)),
        Err(_) => time_ms(text).map_err(|fault| format!("{fault}, or a duration that long ago, such as 15m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time_ms("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(time_ms("2023-11-15T06:13:20.5+08:00"), Ok(1_700_000_000_500));
        assert!(time_ms("yesterday").is_err());
    }

    #[test]
    fn the_past_may_be_a_duration() {
        assert_eq!(past_from("15m", 1_700_000_000_000), Ok(1_700_000_000_000 - 900_000));
        assert_eq!(past_from("2023-11-14T22:13:20Z", 0), Ok(1_700_000_000_000));
        let fault = past_from("long ago", 0).expect_err("not a time");
        assert!(fault.contains("15m"), "{fault}");
    }
}
