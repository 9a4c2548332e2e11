//! How single values look to people: ages, times, counts, sizes, links. Everything goes through maud, which escapes it.

use escrow_protocol::{MessageId, TransactionId};
use maud::{Markup, html};

use super::visit::{Visit, encoded};
use super::words::{Words, fill};
use crate::http::api::time_text;
use crate::records::{DeadReason, RetryDelays, Role, TransactionState};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A duration in its largest fitting unit: ages need no more.
pub(super) fn duration(words: &Words, ms: u64) -> String {
    let (unit, number) = match ms {
        ..SECOND => (words.ms, ms),
        SECOND..MINUTE => (words.s, ms / SECOND),
        MINUTE..HOUR => (words.min, ms / MINUTE),
        HOUR..DAY => (words.h, ms / HOUR),
        _ => (words.d, ms / DAY),
    };
    fill(unit, &[("n", &number)])
}

/// How long ago something was, with the exact time behind it.
pub(super) fn age(visit: &Visit, at_ms: u64) -> Markup {
    // To the second: a younger age would flicker and says nothing more.
    let ms = visit.now_ms().saturating_sub(at_ms).max(SECOND);
    timed(at_ms, &duration(visit.words(), ms))
}

/// When something is due or was: `in 3 min`, `3 min ago`.
pub(super) fn moment(visit: &Visit, at_ms: u64) -> Markup {
    let words = visit.words();
    let (phrase, ms) = match at_ms.checked_sub(visit.now_ms()) {
        Some(ahead) => (words.in_future, ahead),
        None => (words.ago, visit.now_ms() - at_ms),
    };
    timed(at_ms, &fill(phrase, &[("age", &duration(words, ms.max(SECOND)))]))
}

/// The exact time, in UTC.
pub(super) fn exact(at_ms: u64) -> Markup {
    timed(at_ms, &clock_text(at_ms))
}

fn timed(at_ms: u64, text: &str) -> Markup {
    let Some(rfc3339) = time_text(at_ms as i64) else { return html! { span.faint { "–" } } };
    html! { time datetime=(rfc3339) title=(clock_text(at_ms)) { (text) } }
}

/// The exact time as text, in UTC.
pub(super) fn clock_text(at_ms: u64) -> String {
    let text = time_text(at_ms as i64).unwrap_or_default();
    text.replace('T', " ").replace('Z', " UTC")
}

/// A count with thin groups of three.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size: `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A text that may be missing.
pub(super) fn or_none(text: &str) -> Markup {
    html! { @if text.is_empty() { span.faint { "–" } } @else { (text) } }
}

/// A link to a transaction.
pub(super) fn transaction(id: TransactionId) -> Markup {
    html! { a.mono.id href={ "/transactions/" (id) } { (id) } }
}

/// A link to a message.
pub(super) fn message(id: MessageId) -> Markup {
    html! { a.mono.id href={ "/messages/" (id) } { (id) } }
}

/// A link to the messages with a business key.
pub(super) fn key(key: Option<&str>) -> Markup {
    match key {
        Some(key) if !key.is_empty() => {
            // A search for what looks like an id would find the message with that id, if there is one.
            let by = if key.parse::<MessageId>().is_ok() { "&by=key" } else { "" };
            html! { a.key href={ "/messages?q=" (encoded(key)) (by) } { (key) } }
        }
        _ => or_none(""),
    }
}

/// A link to a group.
pub(super) fn group(name: &str) -> Markup {
    html! { a href=(group_page(name)) { (name) } }
}

/// The address of a group's page.
pub(super) fn group_page(name: &str) -> String {
    format!("/groups/{}", encoded(name))
}

/// A link to a topic.
pub(super) fn topic(name: Option<&str>) -> Markup {
    match name {
        Some(name) => html! { a href=(topic_page(name)) { (name) } },
        None => or_none(""),
    }
}

/// The address of a topic's page.
pub(super) fn topic_page(name: &str) -> String {
    format!("/topics/{}", encoded(name))
}

/// The state of a transaction.
pub(super) fn state(words: &'static Words, state: TransactionState) -> &'static str {
    match state {
        TransactionState::Prepared => words.state_prepared,
        TransactionState::Parked => words.state_parked,
        TransactionState::Committed => words.state_committed,
        TransactionState::RolledBack => words.state_rolled_back,
    }
}

/// In which role something was decided.
pub(super) fn role(words: &'static Words, role: Role) -> &'static str {
    match role {
        Role::Producer => words.role_producer,
        Role::Check => words.role_check,
        Role::Person => words.role_person,
        Role::Policy => words.role_policy,
    }
}

/// Why a message is dead.
pub(super) fn dead_reason(words: &'static Words, reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::AttemptsExhausted => words.reason_attempts_exhausted,
        DeadReason::Rejected => words.reason_rejected,
        DeadReason::Expired => words.reason_expired,
        DeadReason::OrderingKeyFailed => words.reason_ordering_key_failed,
        DeadReason::Damaged => words.reason_damaged,
        DeadReason::GivenUp => words.reason_given_up,
    }
}

/// The delays of a retry policy, in a few words.
pub(super) fn delays(words: &Words, delays: &RetryDelays) -> String {
    let one = |ms: u64| duration(words, ms);
    match delays {
        RetryDelays::Ladder(steps) => steps.iter().map(|ms| one(*ms)).collect::<Vec<_>>().join(" · "),
        RetryDelays::Fixed(ms) => one(*ms),
        RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => {
            format!("{} × {} … {}", one(*initial_ms), f64::from(*multiplier_permille) / 1000.0, one(*max_ms))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::Language;
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        let words = Language::English.words();
        for (ms, text) in
            [(0, "0 ms"), (999, "999 ms"), (61_000, "1 min"), (3 * HOUR + 1, "3 h"), (400 * DAY, "400 d")]
        {
            assert_eq!(duration(words, ms), text);
        }
        assert_eq!(duration(Language::Chinese.words(), 180_000), "3 分钟");
    }

    #[test]
    fn counts_and_sizes_can_be_read() {
        assert_eq!((count(7), count(1_234_567)), ("7".to_owned(), "1,234,567".to_owned()));
        assert_eq!(
            (size(512), size(1536), size(3 << 30)),
            ("512 B".to_owned(), "1.5 KiB".to_owned(), "3.0 GiB".to_owned())
        );
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let link = key(Some("<script>")).into_string();
        assert!(!link.contains("<script>") && link.contains("%3Cscript%3E"), "{link}");
        let like_an_id = key(Some("0190b3d0-7b1c-7cc3-98a4-1f1d2a3b4c5d")).into_string();
        assert!(like_an_id.contains("by=key") && !link.contains("by=key"), "{like_an_id}");
    }
}
