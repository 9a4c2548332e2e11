//! Order within an ordering key: places follow the order of commits, and a group gets one message after another, each when
//! the one before is done.

use std::collections::BTreeMap;

use super::facts::{Done, Facts, InGroup, Message, Moment};
use super::{Decision, Delivered, Verb};

pub(super) fn judge(facts: &Facts, faults: &mut Vec<String>) {
    let mut keys: BTreeMap<u64, Vec<(u64, &Message)>> = BTreeMap::new();
    for (id, message) in &facts.messages {
        if let Some(key) = message.made.and_then(|made| made.ordering_key) {
            keys.entry(key).or_default().push((*id, message));
        }
    }
    for (key, messages) in keys {
        judge_places(key, &messages, faults);
        judge_deliveries(key, &messages, faults);
    }
}

/// When the client knew that it is committed, if it ever did.
fn committed_at(message: &Message) -> Option<Moment> {
    let decided = message.decisions.iter().filter(|done| done.what == Decision::Commit && done.is_ok());
    let decided = decided.filter_map(|done| done.answered);
    let published = message.published.iter().filter(|done| done.is_ok()).filter_map(|done| done.answered);
    decided.chain(published).min()
}

/// What was committed before another's commit began has the lower place.
fn judge_places(key: u64, messages: &[(u64, &Message)], faults: &mut Vec<String>) {
    // A scheduled message gets its place when it is due.
    let at_once = messages.iter().filter(|(_, message)| message.made.is_some_and(|made| made.delay_ms == 0));
    let mut placed: Vec<(u64, u64, &Message)> =
        at_once.filter_map(|(id, message)| Some((*message.offsets.first()?, *id, *message))).collect();
    placed.sort_by_key(|(offset, ..)| *offset);
    // Of those with lower places: the one whose commit began last.
    let mut last: Option<(Moment, u64)> = None;
    for (offset, id, message) in placed {
        if let (Some(known), Some((began, other))) = (committed_at(message), last)
            && known < began
        {
            faults.push(format!(
                "ordering key {key}: message {id} was committed before message {other}, and has the later place {offset}"
            ));
        }
        last = last.max(message.commits().min().map(|began| (began, id)));
    }
}

/// In each group, in the order of leases: never back, and never on before the one before was done.
fn judge_deliveries(key: u64, messages: &[(u64, &Message)], faults: &mut Vec<String>) {
    let mut by_group: BTreeMap<&str, Vec<(Moment, Delivered, &InGroup)>> = BTreeMap::new();
    for (_, message) in messages {
        for (group, it) in &message.by_group {
            let deliveries = it.deliveries.iter().map(|(at, delivered)| (*at, *delivered, it));
            by_group.entry(group).or_default().extend(deliveries);
        }
    }
    for (group, mut deliveries) in by_group {
        deliveries.sort_by_key(|(_, delivered, _)| delivered.lease);
        let mut furthest: Option<(Delivered, &InGroup)> = None;
        for (at, delivered, it) in deliveries {
            let Some((before, before_it)) = furthest else {
                furthest = Some((delivered, it));
                continue;
            };
            if delivered.offset < before.offset && !it.may_be_redriven() {
                faults.push(format!(
                    "{group}: ordering key {key}: message {} was delivered behind message {}: out of order",
                    delivered.message, before.message
                ));
            }
            if delivered.offset > before.offset {
                if !may_be_done(before_it, at) {
                    faults.push(format!(
                        "{group}: ordering key {key}: message {} was delivered while message {} was not done: out of order",
                        delivered.message, before.message
                    ));
                }
                furthest = Some((delivered, it));
            }
        }
    }
}

/// Whether the group may have been done with a message at that moment: it was being acked or rejected, or went to the
/// dead letters by itself at a time nobody saw.
fn may_be_done(it: &InGroup, at: Moment) -> bool {
    let finishing = |done: &Done<(u64, Verb)>| {
        matches!(done.what.1, Verb::Ack | Verb::Reject) && done.may_count() && done.invoked < at
    };
    it.settlements.iter().any(finishing) || it.dead > 0 || it.may_be_redriven()
}
