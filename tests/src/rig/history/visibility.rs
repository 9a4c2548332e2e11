//! Who may see a message, and when: nobody before its commit is under way, nobody at all once it is rolled back, nobody
//! before its time, and nobody with another body than its own. A decision is one and stays.

use std::collections::BTreeMap;

use super::facts::{Facts, LAST, Message, Moment};
use super::{Answer, Decision};

/// The broker counts whole milliseconds of another clock than the history does.
pub(super) const CLOCK_GRAIN_MS: u64 = 2;

pub(super) fn judge(facts: &Facts, faults: &mut Vec<String>) {
    for (at, delivered) in &facts.deliveries {
        let who = delivered.group;
        let message = &facts.messages[&delivered.message];
        judge_sight(who, delivered.message, message, at.index, faults);
        judge_time(facts, who, delivered.message, message, *at, faults);
    }
    for (reader, id, as_of) in &facts.readings {
        let who = format!("{reader:?}");
        match facts.messages.get(id) {
            Some(message) => judge_sight(&who, *id, message, *as_of, faults),
            None => faults.push(format!("{who}: message {id} was read and never sent")),
        }
    }
    judge_counts(facts, faults);
    let mut places: BTreeMap<u64, u64> = BTreeMap::new();
    for (id, message) in &facts.messages {
        judge_decision(facts, *id, message, faults);
        for offset in &message.offsets {
            if let Some(other) = places.insert(*offset, *id) {
                faults.push(format!("offset {offset} is message {other} and message {id}"));
            }
        }
        if message.altered > 0 {
            faults.push(format!(
                "message {id} came {} times with another body than it was sent with",
                message.altered
            ));
        }
        if message.offsets.len() > 1 {
            faults.push(format!("message {id} was queued more than once: offsets {:?}", message.offsets));
        }
    }
}

/// `message` was seen as visible by `who`; what was seen is of the time of event `index`.
fn judge_sight(who: &str, id: u64, message: &Message, index: usize, faults: &mut Vec<String>) {
    let Some(made) = message.made else {
        faults.push(format!("{who}: message {id} was seen and never sent"));
        return;
    };
    let choice = made.choice;
    if message.half.is_some_and(|half| half.answer == Answer::Failed) {
        faults.push(format!("{who}: message {id} was seen, and its client knew that it was not stored"));
    }
    if message.told().contains(&Decision::Rollback) {
        faults.push(format!("{who}: message {id} was seen, and is rolled back ({choice:?})"));
    }
    match message.commits().map(|invoked| invoked.index).min() {
        Some(committed) if committed < index => {}
        Some(_) => {
            faults.push(format!("{who}: message {id} was seen before anybody committed it ({choice:?})"))
        }
        None if message.published.is_some() => {
            faults
                .push(format!("{who}: message {id} was seen, and its client knew that it was not published"));
        }
        None if choice.is_to_be_seen() => {
            faults.push(format!("{who}: message {id} was seen before anybody committed it ({choice:?})"));
        }
        None => faults.push(format!("{who}: message {id} was seen, and was to be rolled back ({choice:?})")),
    }
}

/// Only what is committed has a place: there are no more of them than of commits that had begun.
fn judge_counts(facts: &Facts, faults: &mut Vec<String>) {
    let commits = facts.messages.values().filter_map(|message| message.commits().min());
    let mut commits: Vec<usize> = commits.map(|began| began.index).collect();
    commits.sort_unstable();
    for (reader, places, as_of) in &facts.counts {
        let begun = commits.partition_point(|began| began < as_of) as u64;
        if *places > begun {
            faults.push(format!(
                "{reader:?}: {places} messages have a place in the topic, and {begun} commits had begun"
            ));
        }
    }
}

/// Not before its time.
fn judge_time(facts: &Facts, who: &str, id: u64, message: &Message, at: Moment, faults: &mut Vec<String>) {
    let Some(made) = message.made else { return };
    let waited_ms = at.ms - made.at.ms;
    if waited_ms + CLOCK_GRAIN_MS < made.delay_ms && !facts.clock_was_set_before(at) {
        let delay_ms = made.delay_ms;
        faults.push(format!(
            "{who}: message {id} came {waited_ms} ms after it was made, not {delay_ms} ms: early"
        ));
    }
}

fn judge_decision(facts: &Facts, id: u64, message: &Message, faults: &mut Vec<String>) {
    let told = message.told();
    if told.len() > 1 {
        faults.push(format!("the decision on message {id} changed: clients were told of {told:?}"));
    }
    let is_stored = message.half.is_some_and(|half| half.is_ok());
    for decision in &message.decisions {
        let asked = decision.what;
        match decision.answer {
            Answer::Decided(stands) if stands != asked => {
                faults.push(format!("{asked:?} of message {id} was answered ok, with {stands:?}"));
            }
            Answer::Conflict(stands) if stands == asked => {
                faults.push(format!("{asked:?} of message {id} was refused for being {stands:?} already"));
            }
            Answer::Forgotten if is_stored && !facts.clock_was_set_before(LAST) => {
                faults.push(format!(
                    "the half message {id} was stored, and at its {asked:?} nobody knew of it"
                ));
            }
            _ => {}
        }
    }
}
