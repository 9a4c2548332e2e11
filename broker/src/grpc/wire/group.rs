//! Groups and topics: settings from the wire, checked; views to the wire.

use escrow_protocol::limits::{
    ATTEMPTS_MAX, LADDER_STEPS_MAX, LEASE_MS_MAX, LEASE_MS_MIN, RETRY_DELAY_MS_MAX,
};
use escrow_protocol::v1;

use super::fields::{Checked, known, ms, time, within, within_or};
use crate::engine::{GroupView, PositionView, Refusal, TopicView};
use crate::records::{GroupSettings, OrderingPolicy, RetryDelays, RetryPolicy, TopicSettings};

/// A lease when the wire does not say, milliseconds.
const LEASE_MS_DEFAULT: u64 = 30_000;
/// Attempts when the wire does not say.
const ATTEMPTS_DEFAULT: u32 = 16;
/// Jitter at most, percent.
const JITTER_PERCENT_MAX: u32 = 50;
/// Multipliers of an exponential policy, permille: 1 to 100 times.
const MULTIPLIER_PERMILLE: std::ops::RangeInclusive<u32> = 1_000..=100_000;

/// How a topic keeps messages.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn topic_settings(settings: Option<v1::TopicSettings>) -> Checked<TopicSettings> {
    let settings = settings.unwrap_or_default();
    Ok(TopicSettings {
        keep_finished_ms: time("settings.keep_finished_ms", settings.keep_finished_ms)?,
        keep_finished_bytes: settings.keep_finished_bytes,
    })
}

/// How a group works; `None`: not said.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn group_settings(settings: Option<v1::GroupSettings>) -> Checked<Option<GroupSettings>> {
    let Some(settings) = settings else { return Ok(None) };
    Ok(Some(GroupSettings {
        ordering: match known("settings.ordering", settings.ordering)? {
            v1::OrderingPolicy::Block => OrderingPolicy::Block,
            v1::OrderingPolicy::Skip => OrderingPolicy::Skip,
            v1::OrderingPolicy::DeadLetter => OrderingPolicy::DeadLetter,
        },
        lease_ms: within_or(
            "settings.lease_ms",
            settings.lease_ms,
            LEASE_MS_MIN,
            LEASE_MS_MAX,
            LEASE_MS_DEFAULT,
        )?,
        retry: retry_policy(settings.retry)?,
    }))
}

fn retry_policy(policy: Option<v1::RetryPolicy>) -> Checked<RetryPolicy> {
    let Some(policy) = policy else { return Ok(RetryPolicy::default()) };
    let count = |field, value: u32, max: u32| {
        if value <= max {
            return Ok(value);
        }
        Err(Refusal::invalid(field, format!("it is {value}, at most {max} is allowed")).with("limit", max))
    };
    Ok(RetryPolicy {
        delays: delays(policy.delays)?,
        immediate_attempts: count(
            "settings.retry.immediate_attempts",
            policy.immediate_attempts,
            ATTEMPTS_MAX,
        )?,
        jitter_percent: count("settings.retry.jitter_percent", policy.jitter_percent, JITTER_PERCENT_MAX)?,
        max_attempts: match count("settings.retry.max_attempts", policy.max_attempts, ATTEMPTS_MAX)? {
            0 => ATTEMPTS_DEFAULT,
            attempts => attempts,
        },
    })
}

fn delays(delays: Option<v1::retry_policy::Delays>) -> Checked<RetryDelays> {
    use v1::retry_policy::Delays as Wire;
    match delays {
        None => Ok(RetryPolicy::default().delays),
        Some(Wire::FixedMs(delay)) => {
            within("settings.retry.fixed_ms", delay, 0, RETRY_DELAY_MS_MAX).map(RetryDelays::Fixed)
        }
        Some(Wire::Ladder(ladder)) => {
            const FIELD: &str = "settings.retry.ladder.delays_ms";
            if !(1..=LADDER_STEPS_MAX).contains(&ladder.delays_ms.len()) {
                let fault =
                    format!("there are {}, a ladder has 1 to {LADDER_STEPS_MAX}", ladder.delays_ms.len());
                return Err(Refusal::invalid(FIELD, fault).with("limit", LADDER_STEPS_MAX));
            }
            let steps = ladder.delays_ms.into_iter().map(|step| within(FIELD, step, 0, RETRY_DELAY_MS_MAX));
            steps.collect::<Checked<_>>().map(RetryDelays::Ladder)
        }
        Some(Wire::Exponential(policy)) => {
            let initial_ms =
                within("settings.retry.exponential.initial_ms", policy.initial_ms, 1, RETRY_DELAY_MS_MAX)?;
            if !MULTIPLIER_PERMILLE.contains(&policy.multiplier_permille) {
                let fault = format!("it is {}, allowed is 1000 (once) to 100000", policy.multiplier_permille);
                return Err(Refusal::invalid("settings.retry.exponential.multiplier_permille", fault));
            }
            let max_ms =
                within("settings.retry.exponential.max_ms", policy.max_ms, initial_ms, RETRY_DELAY_MS_MAX)?;
            Ok(RetryDelays::Exponential {
                initial_ms,
                multiplier_permille: policy.multiplier_permille,
                max_ms,
            })
        }
    }
}

/// A topic as the wire has it.
pub(crate) fn topic_to_wire(topic: TopicView) -> v1::Topic {
    v1::Topic {
        name: topic.name.to_string(),
        settings: Some(v1::TopicSettings {
            keep_finished_ms: ms(topic.settings.keep_finished_ms),
            keep_finished_bytes: topic.settings.keep_finished_bytes,
        }),
        created_at_ms: ms(topic.created_at_ms),
        head_offset: topic.head.0,
        next_offset: topic.next.0,
        bytes: topic.bytes,
        groups: topic.groups.iter().map(ToString::to_string).collect(),
        dead_letters_of: topic.dead_letters_of.map_or(String::new(), |group| group.to_string()),
        awaited: topic.awaited,
    }
}

/// A group as the wire has it, at this time.
pub(crate) fn group_to_wire(group: GroupView, now_ms: u64) -> v1::Group {
    v1::Group {
        name: group.name.to_string(),
        settings: Some(settings_to_wire(group.settings)),
        paused: group.paused,
        created_at_ms: ms(group.created_at_ms),
        positions: group.positions.into_iter().map(|position| position_to_wire(position, now_ms)).collect(),
        leased: group.leased,
        retrying: group.retrying,
        dead_letters: group.dead_letters,
        blocked_keys: group.blocked_keys,
        members: group.members.iter().map(ToString::to_string).collect(),
        acked: group.acked,
        nacked: group.nacked,
        expired_leases: group.expired_leases,
        dead_letter_topic: group.dead_letter_topic_name.to_string(),
        broadcast: group.broadcast,
    }
}

fn position_to_wire(position: PositionView, now_ms: u64) -> v1::GroupPosition {
    v1::GroupPosition {
        topic: position.topic.to_string(),
        tags: position.subscription.tags.iter().map(ToString::to_string).collect(),
        floor_offset: position.floor.0,
        finished_above: position.finished_above,
        lag: position.lag,
        lag_ms: position.oldest_at_ms.map_or(0, |at_ms| ms(now_ms.saturating_sub(at_ms))),
    }
}

fn settings_to_wire(settings: GroupSettings) -> v1::GroupSettings {
    use v1::retry_policy::Delays as Wire;
    let delays = match settings.retry.delays {
        RetryDelays::Ladder(steps) => {
            Wire::Ladder(v1::Ladder { delays_ms: steps.into_iter().map(ms).collect() })
        }
        RetryDelays::Exponential { initial_ms, multiplier_permille, max_ms } => {
            Wire::Exponential(v1::Exponential {
                initial_ms: ms(initial_ms),
                multiplier_permille,
                max_ms: ms(max_ms),
            })
        }
        RetryDelays::Fixed(delay) => Wire::FixedMs(ms(delay)),
    };
    v1::GroupSettings {
        retry: Some(v1::RetryPolicy {
            delays: Some(delays),
            immediate_attempts: settings.retry.immediate_attempts,
            jitter_percent: settings.retry.jitter_percent,
            max_attempts: settings.retry.max_attempts,
        }),
        ordering: match settings.ordering {
            OrderingPolicy::Block => v1::OrderingPolicy::Block,
            OrderingPolicy::Skip => v1::OrderingPolicy::Skip,
            OrderingPolicy::DeadLetter => v1::OrderingPolicy::DeadLetter,
        }
        .into(),
        lease_ms: ms(settings.lease_ms),
    }
}
