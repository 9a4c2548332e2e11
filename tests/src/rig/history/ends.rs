//! At the end each message has gone one way, the same in all groups, and the promised way if it was answered: nothing is
//! lost.

use std::collections::BTreeSet;

use super::facts::{Facts, InGroup, LAST, Message};
use super::{Decision, Reader, Verb, Verdicts};

/// Which way a message must have gone.
enum Way {
    /// Every group has it.
    Promised,
    /// Nobody has it.
    Hidden,
    /// Nobody knows: all or none.
    Unknown,
}

pub(super) fn judge(facts: &Facts, groups: &[&'static str], verdicts: &mut Verdicts) {
    let replayed = replayed(facts);
    for (id, message) in &facts.messages {
        let must_arrive = match way_of(message) {
            Way::Promised => {
                verdicts.promised += 1;
                if replayed.as_ref().is_some_and(|replayed| !replayed.contains(id)) {
                    verdicts
                        .faults
                        .push(format!("Replay: message {id} was committed, and is not there to be replayed"));
                }
                true
            }
            // Whoever saw it is convicted elsewhere.
            Way::Hidden => {
                verdicts.hidden += 1;
                false
            }
            Way::Unknown => {
                verdicts.unknown += 1;
                message.is_seen()
            }
        };
        for group in groups {
            let nothing = InGroup::default();
            let it = message.by_group.get(group).unwrap_or(&nothing);
            if must_arrive {
                judge_arrival(*id, group, it, &mut verdicts.faults);
            }
            judge_rejection(*id, group, it, &mut verdicts.faults);
        }
    }
}

fn way_of(message: &Message) -> Way {
    let told = message.told();
    if told.contains(&Decision::Commit) {
        return Way::Promised;
    }
    if told.contains(&Decision::Rollback) {
        return Way::Hidden;
    }
    // A half message that is stored is settled by its checker, whatever became of its producer.
    let is_stored = message.half.is_some_and(|half| half.is_ok());
    let is_meant = message.made.is_some_and(|made| made.choice.is_to_be_seen());
    match is_stored && is_meant && !message.may_be_rolled_back() {
        true => Way::Promised,
        false if message.commits().next().is_none() => Way::Hidden,
        false => Way::Unknown,
    }
}

/// The group is done with it: acked, answered or not, behind its last redrive; or in its dead letters.
fn judge_arrival(id: u64, group: &str, it: &InGroup, faults: &mut Vec<String>) {
    let redriven = it.redrives.iter().filter(|redrive| redrive.is_ok()).map(|redrive| redrive.invoked).max();
    let acked = it.settlements.iter().any(|done| {
        done.what.1 == Verb::Ack
            && done.may_count()
            && redriven.is_none_or(|redriven| redriven < done.invoked)
    });
    if acked || it.dead > 0 {
        return;
    }
    match redriven {
        Some(_) => {
            faults.push(format!("{group}: message {id} was redriven, and neither acked nor dead in the end"))
        }
        None => {
            faults.push(format!("{group}: message {id} was committed, and neither acked nor dead in the end"))
        }
    }
}

/// What was rejected for certain is in the dead letters until somebody sends it again.
fn judge_rejection(id: u64, group: &str, it: &InGroup, faults: &mut Vec<String>) {
    let rejected = it.settlements.iter().filter(|done| done.what.1 == Verb::Reject && done.is_ok());
    let Some(last) = rejected.map(|done| done.invoked).max() else { return };
    let redriven = it.redrives.iter().any(|redrive| redrive.may_count() && redrive.invoked > last);
    if it.dead == 0 && !redriven {
        faults.push(format!("{group}: message {id} was rejected, and is not in the dead letters"));
    }
}

/// What a replay of the topic, which keeps everything for some time, came across; `None`: nobody replayed it to its end.
fn replayed(facts: &Facts) -> Option<BTreeSet<u64>> {
    let is_whole = facts.read_all.contains(&Reader::Replay) && !facts.clock_was_set_before(LAST);
    is_whole.then(|| {
        let readings = facts.readings.iter().filter(|(reader, ..)| *reader == Reader::Replay);
        readings.map(|(_, message, _)| *message).collect()
    })
}
