//! Whether groups are behind, or have dead letters. Only the groups that are named, or all of them, page by page: what
//! each has is counted.

use std::time::Duration;

use escrow::Admin;
use escrow_protocol::{limits, v1};

use super::{Bound, Limit, MINUTE_MS, ms, ordered};
use crate::cli::clock::duration;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Cell, Ms, counted};
use crate::cli::verdict::{State, Thresholds, Unit, Verdict};

/// Most groups that are named in the words; the rest is counted.
const NAMED_MAX: usize = 5;

/// When groups are behind.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LagArgs {
    /// Only these groups. Default: all.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Warning: the oldest message that a group has yet to finish is this old. Default: 5m.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    age_warning: Option<Duration>,
    /// Critical: it is this old. Default: 30m.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    age_critical: Option<Duration>,
    /// Warning: a group has so many messages yet to finish.
    #[arg(long, value_name = "COUNT")]
    messages_warning: Option<u64>,
    /// Critical: a group has so many messages yet to finish.
    #[arg(long, value_name = "COUNT")]
    messages_critical: Option<u64>,
    #[command(flatten)]
    pub(super) limit: Limit,
}

/// When there are too many dead letters.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DlqArgs {
    /// Only these groups. Default: all.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Warning: a group has so many. Default: 1.
    #[arg(long, value_name = "COUNT")]
    warning: Option<u64>,
    /// Critical: a group has so many. Default: 100.
    #[arg(long, value_name = "COUNT")]
    critical: Option<u64>,
    #[command(flatten)]
    pub(super) limit: Limit,
}

/// How a group stands.
struct Standing {
    state: State,
    /// For sorting: the worst first.
    weight: u64,
    words: String,
}

/// Looks at lags.
pub(super) async fn lag(args: LagArgs, global: &Global) -> Result<Verdict, CliError> {
    let age = ordered(
        "age-",
        true,
        Bound::new(ms(args.age_warning), 5 * MINUTE_MS),
        Bound::new(ms(args.age_critical), 30 * MINUTE_MS),
    )?;
    let messages = ordered(
        "messages-",
        true,
        Bound::new(args.messages_warning, None),
        Bound::new(args.messages_critical, None),
    )?;
    let groups = groups(args.groups.clone(), global.admin().await?).await?;
    Ok(lag_verdict(&groups, !args.groups.is_empty(), age, messages))
}

fn lag_verdict(groups: &[v1::Group], are_named: bool, age: Thresholds, messages: Thresholds) -> Verdict {
    let lag_of = |group: &v1::Group| group.positions.iter().map(|position| position.lag).sum::<u64>();
    let age_of = |group: &v1::Group| {
        let oldest = group.positions.iter().map(|position| position.lag_ms).max().unwrap_or(0);
        u64::try_from(oldest).unwrap_or(0)
    };
    let standings = groups.iter().map(|group| {
        let (lag, oldest_ms) = (lag_of(group), age_of(group));
        let oldest = Ms(oldest_ms / 1000 * 1000).shown().into_line();
        let why = match (group.paused, group.members.is_empty()) {
            (true, _) => ", paused",
            (false, true) => ", no consumer",
            (false, false) => "",
        };
        Standing {
            state: worse(age.above(oldest_ms), messages.above(lag)),
            weight: oldest_ms,
            words: format!(
                "{}: {} behind, the oldest {oldest} old{why}",
                group.name,
                counted(lag, "message")
            ),
        }
    });
    let mut verdict = Verdict::new("LAG");
    let total: u64 = groups.iter().map(lag_of).sum();
    say(&mut verdict, standings.collect());
    verdict.add(
        State::Ok,
        format!("{}, {} to finish", counted(groups.len() as u64, "group"), counted(total, "message")),
    );
    let oldest = groups.iter().map(age_of).max().unwrap_or(0);
    verdict.number("lag", total, Unit::Count, Thresholds::default());
    verdict.number("oldest", oldest, Unit::Milliseconds, age);
    for group in groups.iter().filter(|_| are_named) {
        verdict.number(&format!("{}.lag", group.name), lag_of(group), Unit::Count, messages);
        verdict.number(&format!("{}.oldest", group.name), age_of(group), Unit::Milliseconds, age);
    }
    verdict
}

/// Looks at dead letters.
pub(super) async fn dead_letters(args: DlqArgs, global: &Global) -> Result<Verdict, CliError> {
    let bounds = ordered("", true, Bound::new(args.warning, 1), Bound::new(args.critical, 100))?;
    let groups = groups(args.groups.clone(), global.admin().await?).await?;
    Ok(dead_verdict(&groups, !args.groups.is_empty(), bounds))
}

fn dead_verdict(groups: &[v1::Group], are_named: bool, bounds: Thresholds) -> Verdict {
    let standings = groups.iter().map(|group| Standing {
        state: bounds.above(group.dead_letters),
        weight: group.dead_letters,
        words: format!("{}: {}", group.name, counted(group.dead_letters, "dead letter")),
    });
    let mut verdict = Verdict::new("DLQ");
    say(&mut verdict, standings.collect());
    let total: u64 = groups.iter().map(|group| group.dead_letters).sum();
    verdict.add(
        State::Ok,
        format!("{}, {} in all", counted(groups.len() as u64, "group"), counted(total, "dead letter")),
    );
    verdict.number("dead_letters", total, Unit::Count, Thresholds::default());
    for group in groups.iter().filter(|_| are_named) {
        verdict.number(&format!("{}.dead_letters", group.name), group.dead_letters, Unit::Count, bounds);
    }
    verdict
}

/// The worst first, the first few by name.
fn say(verdict: &mut Verdict, mut standings: Vec<Standing>) {
    standings.retain(|standing| standing.state != State::Ok);
    standings.sort_by_key(|standing| std::cmp::Reverse((standing.state, standing.weight)));
    let unnamed = standings.split_off(standings.len().min(NAMED_MAX));
    for standing in standings {
        verdict.add(standing.state, standing.words);
    }
    if let Some(first) = unnamed.first() {
        verdict.add(first.state, format!("{} more", counted(unnamed.len() as u64, "group")));
    }
}

fn worse(one: State, other: State) -> State {
    one.max(other)
}

/// The groups of these names, or all.
async fn groups(names: Vec<String>, mut admin: Admin) -> Result<Vec<v1::Group>, CliError> {
    let mut groups = Vec::new();
    if !names.is_empty() {
        for name in names {
            groups.push(admin.get_group(v1::GetGroupRequest { name }).await?.into_inner());
        }
        return Ok(groups);
    }
    let mut cursor = String::new();
    loop {
        let page = v1::Page { limit: limits::PAGE_MAX as u32, cursor };
        let request = v1::ListGroupsRequest { page: Some(page), prefix: String::new() };
        let answer = admin.list_groups(request).await?.into_inner();
        groups.extend(answer.groups);
        cursor = answer.next_cursor;
        if cursor.is_empty() {
            return Ok(groups);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, lag: u64, lag_ms: i64, dead_letters: u64) -> v1::Group {
        let position = v1::GroupPosition { lag, lag_ms, ..Default::default() };
        v1::Group { name: name.to_owned(), positions: vec![position], dead_letters, ..Default::default() }
    }

    #[test]
    fn the_worst_groups_are_named_first_and_the_rest_is_counted() {
        let groups: Vec<_> =
            (0..8).map(|nth| group(&format!("g{nth}"), nth, nth as i64 * 1000, nth)).collect();
        let bounds = Thresholds { warning: Some(1), critical: Some(7) };
        let line = dead_verdict(&groups, false, bounds).to_string();
        assert!(line.starts_with("ESCROW DLQ CRITICAL - g7: 7 dead letters; g6: 6 dead letters; "), "{line}");
        assert!(
            line.contains("; 2 groups more; 8 groups, 28 dead letters in all | 'dead_letters'=28;;;0"),
            "{line}"
        );
    }

    #[test]
    fn a_group_is_behind_by_age_or_by_number() {
        let age = Thresholds { warning: Some(5_000), critical: Some(60_000) };
        let messages = Thresholds { warning: None, critical: Some(100) };
        for (lag, lag_ms, state) in [
            (99, 4_999, State::Ok),
            (1, 5_000, State::Warning),
            (100, 0, State::Critical),
            (1, 60_000, State::Critical),
        ] {
            let verdict = lag_verdict(&[group("billing", lag, lag_ms, 0)], true, age, messages);
            assert_eq!(verdict.state(), state, "{verdict}");
            assert!(verdict.to_string().contains("'billing.lag'="), "{verdict}");
        }
        let line = lag_verdict(&[group("billing", 1, 5_000, 0)], false, age, messages).to_string();
        assert!(line.contains("billing: 1 message behind, the oldest 5s old, no consumer;"), "{line}");
        assert!(!line.contains("'billing"), "{line}");
    }
}
