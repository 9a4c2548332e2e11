//! What a settled lease means: an ack is the end, a rejection is a dead letter until it is redriven, a nack is remembered
//! and not early, and only the newest lease counts.

use super::facts::{Done, Facts, InGroup};
use super::visibility::CLOCK_GRAIN_MS;
use super::{Delivered, Verb};

pub(super) fn judge(facts: &Facts, faults: &mut Vec<String>) {
    for (id, group, it) in facts.in_groups() {
        let name = Named { id, group };
        judge_attempts(name, it, faults);
        for settled in it.settlements.iter().filter(|settled| settled.is_ok()) {
            judge_settled(facts, name, it, settled, faults);
        }
        let acks = it.settlements.iter().filter(|done| done.what.1 == Verb::Ack && done.is_ok()).count();
        if acks > 0 && it.dead > 0 {
            faults.push(format!("{group}: message {id} is acked, and dead as well"));
        }
        if it.dead > 1 {
            faults.push(format!("{group}: message {id} has {} dead letters", it.dead));
        }
    }
}

/// A message in a group.
#[derive(Clone, Copy)]
struct Named {
    id: u64,
    group: &'static str,
}

/// What may come behind a settlement that was answered ok.
fn judge_settled(
    facts: &Facts,
    Named { id, group }: Named,
    it: &InGroup,
    settled: &Done<(u64, Verb)>,
    faults: &mut Vec<String>,
) {
    let (lease, verb) = settled.what;
    let later = it.deliveries.iter().filter(|(_, delivered)| delivered.lease > lease);
    for (at, delivered) in later {
        let Delivered { offset, attempt, lease: newer, .. } = *delivered;
        // Leases are given in order: the newer one was given when this one was no longer there to be settled, or
        // because it was settled so.
        if *at < settled.invoked {
            faults.push(format!(
                "{group}: {verb:?} of message {id} counted with the stale lease {lease}: lease {newer} was out"
            ));
            continue;
        }
        let redriven = it
            .redrives
            .iter()
            .any(|redrive| redrive.may_count() && redrive.invoked > settled.invoked && redrive.invoked < *at);
        match verb {
            Verb::Ack => {
                faults.push(format!("{group}: offset {offset} was delivered after its ack was answered"));
            }
            Verb::Reject if !redriven => {
                faults.push(format!("{group}: offset {offset} was delivered after it was rejected"));
            }
            Verb::Nack(delay_ms) if !redriven => {
                let of_this = it.deliveries.iter().find(|(_, delivered)| delivered.lease == lease);
                if of_this.is_some_and(|(_, of_this)| attempt <= of_this.attempt) {
                    faults.push(format!(
                        "{group}: message {id} came again as attempt {attempt}: a nack is lost"
                    ));
                }
                let waited_ms = at.ms - settled.invoked.ms;
                if waited_ms + CLOCK_GRAIN_MS < delay_ms && !facts.clock_was_set(settled.invoked, *at) {
                    faults.push(format!(
                        "{group}: message {id} came again {waited_ms} ms after a nack, not {delay_ms} ms: early"
                    ));
                }
            }
            Verb::Reject | Verb::Nack(_) | Verb::Release => {}
        }
    }
}

/// Attempts are counted and never forgotten; a redrive begins anew.
fn judge_attempts(Named { id, group }: Named, it: &InGroup, faults: &mut Vec<String>) {
    if it.may_be_redriven() {
        return;
    }
    for pair in it.deliveries.windows(2) {
        let (before, after) = (pair[0].1, pair[1].1);
        if before.lease == after.lease {
            faults.push(format!("{group}: message {id} was delivered twice under lease {}", before.lease));
        }
        if after.attempt < before.attempt {
            let (before, after) = (before.attempt, after.attempt);
            faults.push(format!("{group}: message {id} came as attempt {after} after attempt {before}"));
        }
    }
}
