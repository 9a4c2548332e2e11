//! What clients did and saw, in one order, and the checker that judges it afterwards.
//!
//! An operation is noted before it is sent and again when its outcome is known; one without an outcome may have happened
//! or not. The checker knows nothing of the broker but its promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// What a producer means to do with a message, and a checker will say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Publish it without a transaction.
    Publish,
    /// Half message, commit.
    Commit,
    /// Half message, rollback.
    Rollback,
    /// Half message, then silence; the checker says commit.
    CheckCommit,
    /// Half message, then silence; the checker says rollback.
    CheckRollback,
}

impl Choice {
    /// Whether groups shall see it.
    pub fn is_to_be_seen(self) -> bool {
        matches!(self, Self::Publish | Self::Commit | Self::CheckCommit)
    }
}

/// One thing that a client did or saw. Messages are named by their business key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A producer is about to send it, half or whole.
    Sending(u64, Choice),
    /// It is stored (a half message: invisible).
    Sent(u64),
    /// Its decision is about to be sent; for a published message this is its sending.
    Deciding(u64),
    /// Its decision was answered; for a published message, its sending.
    Decided(u64),
    /// A group was handed it.
    Delivered {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
        /// Its place.
        offset: u64,
    },
    /// Its ack or rejection is about to be sent: from here on the group may be done with it, answered or not.
    Settling {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
    },
    /// Its ack was answered.
    Acked {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
        /// Its place.
        offset: u64,
    },
    /// It was found in the dead letters of a group at the end.
    Dead {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
    },
}

/// All events, in the order in which they were noted.
#[derive(Debug, Default)]
pub struct History {
    events: Mutex<Vec<Event>>,
}

impl History {
    /// Notes an event.
    pub fn note(&self, event: Event) {
        self.events.lock().expect("nobody panics holding it").push(event);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.events.lock().expect("nobody panics holding it").len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Judges it: `groups` are all that listened from the start to the end, when everything had come to rest.
    pub fn judge(&self, groups: &[&'static str]) -> Verdicts {
        judge(&self.events.lock().expect("nobody panics holding it"), groups)
    }
}

/// What the checker found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Broken promises. Empty: none.
    pub faults: Vec<String>,
    /// Messages that were answered as stored and to be seen.
    pub promised: usize,
    /// Messages whose outcome no client ever learnt.
    pub unknown: usize,
    /// Deliveries.
    pub deliveries: usize,
}

#[derive(Debug, Default)]
struct Message {
    choice: Option<Choice>,
    sent: bool,
    deciding: bool,
    decided: bool,
    offsets: BTreeSet<u64>,
    delivered: BTreeSet<&'static str>,
    settling: BTreeSet<&'static str>,
    finished: BTreeSet<&'static str>,
}

fn judge(events: &[Event], groups: &[&'static str]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut messages: BTreeMap<u64, Message> = BTreeMap::new();
    let mut places: BTreeMap<u64, u64> = BTreeMap::new();
    let mut acked: BTreeSet<(&str, u64)> = BTreeSet::new();

    for event in events {
        match *event {
            Event::Sending(id, choice) => messages.entry(id).or_default().choice = Some(choice),
            Event::Sent(id) => messages.entry(id).or_default().sent = true,
            Event::Deciding(id) => messages.entry(id).or_default().deciding = true,
            Event::Decided(id) => messages.entry(id).or_default().decided = true,
            Event::Delivered { group, message: id, offset } => {
                verdicts.deliveries += 1;
                if acked.contains(&(group, offset)) {
                    verdicts
                        .faults
                        .push(format!("{group}: offset {offset} was delivered after its ack was answered"));
                }
                if let Some(other) = places.insert(offset, id).filter(|other| *other != id) {
                    verdicts.faults.push(format!("offset {offset} is message {other} and message {id}"));
                }
                let message = messages.entry(id).or_default();
                message.offsets.insert(offset);
                message.delivered.insert(group);
                judge_delivery(group, id, message, &mut verdicts.faults);
            }
            Event::Settling { group, message: id } => {
                messages.entry(id).or_default().settling.insert(group);
            }
            Event::Acked { group, message: id, offset } => {
                acked.insert((group, offset));
                messages.entry(id).or_default().finished.insert(group);
            }
            Event::Dead { group, message: id } => {
                messages.entry(id).or_default().finished.insert(group);
            }
        }
    }
    for (id, message) in &messages {
        judge_end(*id, message, groups, &mut verdicts);
    }
    verdicts
}

/// A delivery may only be of what was sent to be seen, and only once its commit was under way.
fn judge_delivery(group: &str, id: u64, message: &Message, faults: &mut Vec<String>) {
    match message.choice {
        None => faults.push(format!("{group}: message {id} was delivered and never sent")),
        Some(choice) if !choice.is_to_be_seen() => {
            faults
                .push(format!("{group}: message {id} was delivered, and was to be rolled back ({choice:?})"));
        }
        Some(Choice::Commit) if !message.deciding => {
            faults.push(format!("{group}: message {id} was delivered before anybody committed it"));
        }
        Some(_) => {}
    }
}

/// At the end each message has gone one way, the same in all groups, and the promised way if it was answered.
fn judge_end(id: u64, message: &Message, groups: &[&'static str], verdicts: &mut Verdicts) {
    let faults = &mut verdicts.faults;
    let Some(choice) = message.choice else { return };
    if message.offsets.len() > 1 {
        faults.push(format!("message {id} was queued more than once: offsets {:?}", message.offsets));
    }
    if !choice.is_to_be_seen() {
        return;
    }
    // A half message that is stored is settled by its checker, whatever became of its producer.
    let is_promised = match choice {
        Choice::Publish => message.decided,
        _ => message.sent,
    };
    let seen_by_some = !message.delivered.is_empty() || !message.finished.is_empty();
    if is_promised {
        verdicts.promised += 1;
    } else {
        verdicts.unknown += 1;
    }
    if !is_promised && !seen_by_some {
        return;
    }
    for group in groups {
        if !message.finished.contains(group) && !message.settling.contains(group) {
            faults.push(format!(
                "{group}: message {id} ({choice:?}) was committed, and neither acked nor dead in the end"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [&str; 2] = ["billing", "stock"];

    fn sent_and_committed(id: u64) -> Vec<Event> {
        vec![Event::Sending(id, Choice::Commit), Event::Sent(id), Event::Deciding(id), Event::Decided(id)]
    }

    fn delivered(group: &'static str, message: u64, offset: u64) -> Event {
        Event::Delivered { group, message, offset }
    }

    fn settling(group: &'static str, message: u64) -> Event {
        Event::Settling { group, message }
    }

    fn acked(group: &'static str, message: u64, offset: u64) -> Event {
        Event::Acked { group, message, offset }
    }

    fn faults(events: Vec<Event>) -> Vec<String> {
        judge(&events, &GROUPS).faults
    }

    fn convicts(events: Vec<Event>, word: &str) {
        let faults = faults(events);
        assert!(faults.iter().any(|fault| fault.contains(word)), "not convicted of {word:?}: {faults:?}");
    }

    fn good() -> Vec<Event> {
        let mut events = sent_and_committed(1);
        events.extend(GROUPS.iter().flat_map(|group| [delivered(group, 1, 0), acked(group, 1, 0)]));
        events
    }

    #[test]
    fn a_good_history_is_acquitted() {
        assert_eq!(faults(good()), Vec::<String>::new());
    }

    #[test]
    fn a_dead_letter_counts_as_an_end() {
        let mut events = good();
        events.pop();
        events.push(Event::Dead { group: "stock", message: 1 });
        assert_eq!(faults(events), Vec::<String>::new());
    }

    #[test]
    fn a_lost_message_is_convicted() {
        let mut events = good();
        events.truncate(events.len() - 2);
        convicts(events, "neither acked nor dead");
    }

    #[test]
    fn an_ack_without_an_answer_may_have_counted_a_delivery_alone_may_not() {
        let mut events = good();
        events.pop();
        convicts(events.clone(), "stock: message 1");
        events.push(settling("stock", 1));
        assert_eq!(faults(events), Vec::<String>::new());
    }

    #[test]
    fn a_message_of_unknown_outcome_may_be_lost_but_not_for_one_group_only() {
        let mut events = vec![Event::Sending(1, Choice::Publish), Event::Deciding(1)];
        assert_eq!(faults(events.clone()), Vec::<String>::new());
        events.extend([delivered("billing", 1, 0), acked("billing", 1, 0)]);
        convicts(events, "stock: message 1");
    }

    #[test]
    fn a_half_message_that_was_stored_must_be_settled() {
        convicts(vec![Event::Sending(1, Choice::CheckCommit), Event::Sent(1)], "neither acked nor dead");
    }

    #[test]
    fn an_early_delivery_is_convicted() {
        let events = vec![Event::Sending(1, Choice::Commit), Event::Sent(1), delivered("billing", 1, 0)];
        convicts(events, "before anybody committed");
    }

    #[test]
    fn a_rolled_back_delivery_is_convicted() {
        let events =
            vec![Event::Sending(1, Choice::CheckRollback), Event::Sent(1), delivered("billing", 1, 0)];
        convicts(events, "rolled back");
    }

    #[test]
    fn a_delivery_behind_an_answered_ack_is_convicted() {
        let mut events = good();
        events.push(delivered("billing", 1, 0));
        convicts(events, "after its ack");
    }

    #[test]
    fn an_offset_used_twice_is_convicted() {
        let mut events = good();
        events.extend(sent_and_committed(2));
        events.push(delivered("billing", 2, 0));
        convicts(events, "offset 0 is message 1 and message 2");
    }

    #[test]
    fn a_message_queued_twice_is_convicted() {
        let mut events = good();
        events.push(delivered("billing", 1, 7));
        convicts(events, "more than once");
    }
}
