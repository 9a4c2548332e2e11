//! A group, its place in each topic, and what moving it would do.

use escrow_protocol::v1;
use escrow_protocol::v1::retry_policy::Delays;

use crate::cli::output::{Count, Ms, Time, view};
use crate::config::{DurationText, PermilleText};

view! {
    /// A group's place in one topic.
    PositionView {
        /// The topic.
        topic: String = "TOPIC",
        /// Only these tags.
        tags: Vec<String> = "TAGS",
        /// All below is finished, retrying or dead.
        floor_offset: u64 = "FLOOR",
        /// Finished out of order above it.
        finished_above: u64 = "FINISHED ABOVE",
        /// Yet to be finished.
        lag: Count = "LAG",
        /// How old the oldest of them is.
        lag_ms: Ms = "OLDEST",
    }
}

view! {
    /// A group, and how it fares.
    GroupView {
        /// Its name.
        name: String = "GROUP",
        /// Messages yet to be finished, over all topics.
        lag: Count = "LAG",
        /// How old the oldest of them is.
        oldest_ms: Ms = "OLDEST",
        /// Deliveries under lease.
        leased: Count = "LEASED",
        /// Messages that wait for their next attempt.
        retrying: Count = "RETRYING",
        /// Dead letters.
        dead_letters: Count = "DEAD",
        /// Consumers connected.
        members: Vec<String> = _,
        /// How many consumers are connected.
        consumers: Count = "CONSUMERS",
        /// No deliveries until resumed.
        paused: bool = "PAUSED",
        /// A broadcast group.
        broadcast: bool = _,
        /// How long a delivery may take.
        lease_ms: Ms = _,
        /// How failures are tried again.
        retry: String = _,
        /// Attempts in all.
        max_attempts: u32 = _,
        /// What a failure means for its ordering key.
        ordering: String = _,
        /// Ordering keys whose messages wait for an earlier one.
        blocked_keys: Count = _,
        /// Acked since the broker started.
        acked: Count = _,
        /// Nacked since the broker started.
        nacked: Count = _,
        /// Leases that ran out since the broker started.
        expired_leases: Count = _,
        /// Its dead-letter topic.
        dead_letter_topic: String = _,
        /// When it was made.
        created_at: Time = _,
        /// Its place in each topic.
        positions: Vec<PositionView> = "TOPICS",
    }
}

view! {
    /// What moving a group did, or would do.
    SeekView {
        /// The group.
        group: String = "GROUP",
        /// The topic.
        topic: String = "TOPIC",
        /// Where it was.
        from_offset: u64 = "FROM",
        /// Where it goes.
        to_offset: u64 = "TO",
        /// Messages that are delivered again.
        replayed: Count = "REPLAYED",
        /// Messages that are passed over.
        skipped: Count = "SKIPPED",
        /// Nothing was changed.
        dry_run: bool = "DRY RUN",
    }
}

impl From<v1::GroupPosition> for PositionView {
    fn from(position: v1::GroupPosition) -> Self {
        Self {
            topic: position.topic,
            tags: position.tags,
            floor_offset: position.floor_offset,
            finished_above: position.finished_above,
            lag: Count(position.lag),
            lag_ms: Ms::from_wire(position.lag_ms),
        }
    }
}

impl From<v1::Group> for GroupView {
    fn from(group: v1::Group) -> Self {
        let settings = group.settings.unwrap_or_default();
        let ordering = match settings.ordering() {
            v1::OrderingPolicy::Block => "block",
            v1::OrderingPolicy::Skip => "skip",
            v1::OrderingPolicy::DeadLetter => "dead_letter",
        };
        let retry = settings.retry.unwrap_or_default();
        Self {
            name: group.name,
            lag: Count(group.positions.iter().map(|position| position.lag).sum()),
            oldest_ms: Ms::from_wire(
                group.positions.iter().map(|position| position.lag_ms).max().unwrap_or(0),
            ),
            leased: Count(group.leased),
            retrying: Count(group.retrying),
            dead_letters: Count(group.dead_letters),
            consumers: Count(group.members.len() as u64),
            members: group.members,
            paused: group.paused,
            broadcast: group.broadcast,
            lease_ms: Ms::from_wire(settings.lease_ms),
            max_attempts: retry.max_attempts,
            retry: retry_text(&retry),
            ordering: ordering.to_owned(),
            blocked_keys: Count(group.blocked_keys),
            acked: Count(group.acked),
            nacked: Count(group.nacked),
            expired_leases: Count(group.expired_leases),
            dead_letter_topic: group.dead_letter_topic,
            created_at: Time(group.created_at_ms),
            positions: group.positions.into_iter().map(PositionView::from).collect(),
        }
    }
}

/// A retry policy in a few words.
fn retry_text(retry: &v1::RetryPolicy) -> String {
    let ms = |ms: i64| DurationText(u64::try_from(ms).unwrap_or(0)).to_string();
    let mut text = match &retry.delays {
        None => "ladder of the broker".to_owned(),
        Some(Delays::Ladder(ladder)) => {
            let steps: Vec<_> = ladder.delays_ms.iter().map(|step| ms(*step)).collect();
            format!("ladder {}", steps.join(" "))
        }
        Some(Delays::Exponential(growing)) => format!(
            "exponential from {} times {} up to {}",
            ms(growing.initial_ms),
            PermilleText(u64::from(growing.multiplier_permille)),
            ms(growing.max_ms)
        ),
        Some(Delays::FixedMs(delay)) => format!("every {}", ms(*delay)),
    };
    if retry.immediate_attempts > 0 {
        text.push_str(&format!(", the first {} at once", retry.immediate_attempts));
    }
    if retry.jitter_percent > 0 {
        text.push_str(&format!(", up to {} % longer", retry.jitter_percent));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_policies_read_as_words() {
        let exponential = v1::Exponential { initial_ms: 1000, multiplier_permille: 1500, max_ms: 60_000 };
        for (delays, text) in [
            (None, "ladder of the broker"),
            (Some(Delays::Ladder(v1::Ladder { delays_ms: vec![1000, 90_000] })), "ladder 1s 1m30s"),
            (Some(Delays::Exponential(exponential)), "exponential from 1s times 1.5 up to 1m"),
            (Some(Delays::FixedMs(250)), "every 250ms"),
        ] {
            assert_eq!(retry_text(&v1::RetryPolicy { delays, ..Default::default() }), text);
        }
        let more = v1::RetryPolicy {
            delays: Some(Delays::FixedMs(1000)),
            immediate_attempts: 2,
            jitter_percent: 10,
            max_attempts: 5,
        };
        assert_eq!(retry_text(&more), "every 1s, the first 2 at once, up to 10 % longer");
    }
}
