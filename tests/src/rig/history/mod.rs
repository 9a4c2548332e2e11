//! What clients did and saw, in one order, and the checker that judges it afterwards.
//!
//! An operation is noted before it is sent (invoked) and again when it came back: ok, failed, or unknown; one that never
//! came back is unknown too. Deliveries, readings and dead letters are noted as they are seen. The checker knows nothing
//! of the broker but its promises; it never looks at the clock, and judges a forged history like a true one.

mod ends;
mod facts;
#[cfg(test)]
mod forged;
mod leases;
mod order;
mod visibility;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use facts::Facts;

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
    /// Half message, then commit and rollback at once: either may win, once and for all. The checker says commit.
    Contested,
}

impl Choice {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Publish,
        Self::Commit,
        Self::Rollback,
        Self::CheckCommit,
        Self::CheckRollback,
        Self::Contested,
    ];

    /// Whether groups shall see it, unless somebody decides otherwise.
    pub fn is_to_be_seen(self) -> bool {
        matches!(self, Self::Publish | Self::Commit | Self::CheckCommit | Self::Contested)
    }
}

/// Which way a transaction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Its messages become visible.
    Commit,
    /// Nobody ever sees them.
    Rollback,
}

/// How a consumer settles a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Done.
    Ack,
    /// Again, this many milliseconds later at the earliest.
    Nack(u64),
    /// To the dead letters.
    Reject,
    /// Not looked at.
    Release,
}

/// Something that a client asks for. Messages are named by their business key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Send it for everybody to see.
    Publish(u64),
    /// Send it half.
    Half(u64),
    /// Decide it: a producer, or a checker that was asked (whose answer nobody confirms).
    Decide(u64, Decision),
    /// Settle a delivery.
    Settle {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
        /// The number of the lease.
        lease: u64,
        /// How.
        verb: Verb,
    },
    /// Send a dead letter to its group again.
    Redrive {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
    },
}

/// What became of an operation, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It happened.
    Ok,
    /// It happened: a published message has this place in its topic.
    Queued(u64),
    /// A decision counted: this is what stands.
    Decided(Decision),
    /// A decision was refused, because this stands.
    Conflict(Decision),
    /// A decision was refused, because nobody knows the transaction.
    Forgotten,
    /// It did not happen, says the client for certain.
    Failed,
    /// It may have happened.
    Unknown,
}

/// Who looks, beside the groups that listen from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// A new group that begins at the oldest message.
    Replay,
    /// A group that listens to dead letters.
    DeadLetters,
    /// Somebody who searches messages by their business key.
    Search,
    /// Somebody who asks `/api/v1`.
    Http,
    /// Somebody who looks at the pages of the console.
    Console,
    /// An export of dead letters.
    Export,
    /// A group on a broker that was restored from a backup.
    Backup,
}

/// One thing that a client did or saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A producer made a message up; nothing is sent yet.
    Made {
        /// Its name.
        message: u64,
        /// What shall become of it.
        choice: Choice,
        /// Those with the same one reach a group one after another, in commit order.
        ordering_key: Option<u64>,
        /// Not to be delivered earlier than this after now, milliseconds.
        delay_ms: u64,
    },
    /// An operation is about to be sent.
    Invoked(u64, Operation),
    /// What became of it.
    Answered(u64, Answer),
    /// A group was handed a message.
    Delivered(Delivered),
    /// Somebody read a message as one that is there to be read.
    Read {
        /// Who.
        reader: Reader,
        /// The message.
        message: u64,
        /// What is read is as old as this event's number: a backup is of the time when it was taken.
        as_of: usize,
    },
    /// Somebody was told that so many messages have, or had, a place in the topic.
    Counted {
        /// Who.
        reader: Reader,
        /// How many.
        places: u64,
        /// As in [`Read`](Self::Read).
        as_of: usize,
    },
    /// Somebody found it at this place of its topic.
    Found {
        /// The message.
        message: u64,
        /// The place.
        offset: u64,
    },
    /// Somebody was handed it with another body than it was sent with.
    Altered {
        /// The message.
        message: u64,
    },
    /// A reader has read all there was.
    ReadAll(Reader),
    /// It was found in the dead letters of a group at the end.
    Dead {
        /// The group.
        group: &'static str,
        /// The message.
        message: u64,
    },
    /// Somebody is about to set the broker's wall clock: what was to wait until then may come now.
    ClockSetting,
    /// The broker's wall clock is set.
    ClockSet,
}

/// A delivery, as the consumer saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The group.
    pub group: &'static str,
    /// The message.
    pub message: u64,
    /// Its place.
    pub offset: u64,
    /// The number of the lease. They grow in the order in which they are given, also over restarts.
    pub lease: u64,
    /// Which attempt it is, from 1.
    pub attempt: u32,
}

/// An event and when it was noted, milliseconds since the history began.
type Noted = (u64, Event);

/// All events, in the order in which they were noted.
#[derive(Debug)]
pub struct History {
    began: Instant,
    events: Mutex<Vec<Noted>>,
    next_operation: AtomicU64,
}

impl Default for History {
    #[allow(
        clippy::disallowed_methods,
        reason = "the moments of a history are its business; the judge takes them as values"
    )]
    fn default() -> Self {
        Self { began: Instant::now(), events: Mutex::default(), next_operation: AtomicU64::new(0) }
    }
}

impl History {
    /// Notes an event.
    pub fn note(&self, event: Event) {
        let mut events = self.events.lock().expect("nobody panics holding it");
        // The moment is taken under the lock: events and their moments have one order.
        events.push((self.began.elapsed().as_millis() as u64, event));
    }

    /// Notes that an operation is about to be sent; says by which number it is answered.
    pub fn invoke(&self, operation: Operation) -> u64 {
        let number = self.next_operation.fetch_add(1, Ordering::Relaxed);
        self.note(Event::Invoked(number, operation));
        number
    }

    /// Notes what became of an operation.
    pub fn answer(&self, operation: u64, answer: Answer) {
        self.note(Event::Answered(operation, answer));
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.lock().expect("nobody panics holding it").len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message that was made last. 0: none was.
    pub fn newest(&self) -> u64 {
        let events = self.events.lock().expect("nobody panics holding it");
        let made = events.iter().rev().find_map(|(_, event)| match event {
            Event::Made { message, .. } => Some(*message),
            _ => None,
        });
        made.unwrap_or(0)
    }

    /// What is known of a disk whose power was cut when `certain` events had been noted, and was off by the time of
    /// `possible`: what was answered before must be there, what was asked for meanwhile may be, nothing else ever was.
    #[must_use]
    pub fn cut(&self, certain: usize, possible: usize) -> Self {
        let events = self.events.lock().expect("nobody panics holding it");
        let is_left = |nth: usize, event: &Event| {
            nth < certain || matches!(event, Event::Made { .. } | Event::Invoked(..))
        };
        let left = events.iter().take(possible).enumerate().filter(|(nth, (_, event))| is_left(*nth, event));
        Self {
            began: self.began,
            events: Mutex::new(left.map(|(_, noted)| *noted).collect()),
            next_operation: AtomicU64::new(self.next_operation.load(Ordering::Relaxed)),
        }
    }

    /// Judges it: `groups` are all that listened from the start to the end, when everything had come to rest. Each
    /// keeps the order of its ordering keys (policy `block`).
    pub fn judge(&self, groups: &[&'static str]) -> Verdicts {
        judge(&self.events.lock().expect("nobody panics holding it"), groups)
    }
}

/// What the checker found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Broken promises. Empty: none.
    pub faults: Vec<String>,
    /// Messages that must reach every group.
    pub promised: usize,
    /// Messages that must reach nobody.
    pub hidden: usize,
    /// Messages that may be either way, the same for everybody.
    pub unknown: usize,
    /// Operations that were answered as done.
    pub done: usize,
    /// Operations whose outcome the client did not know.
    pub open: usize,
    /// Deliveries.
    pub deliveries: usize,
    /// Deliveries of what the group had been handed before.
    pub repeated: usize,
    /// Deliveries that their consumers gave back on purpose: nacked, rejected, released or let go.
    pub handed_back: usize,
    /// Half messages that were sent.
    pub halves: usize,
    /// Checks that a checker answered.
    pub checks: usize,
    /// Dead letters that were sent again.
    pub redriven: usize,
    /// Decisions that were refused because the opposite stood.
    pub conflicts: usize,
    /// What readers read.
    pub readings: usize,
}

impl Verdicts {
    /// In a few words, for the record of a rig.
    pub fn seen(&self) -> String {
        format!(
            "{} promised, {} hidden, {} of unknown outcome; {} operations done, {} open; {} delivered ({} again), {} \
             checks, {} conflicts, {} redriven, {} read",
            self.promised,
            self.hidden,
            self.unknown,
            self.done,
            self.open,
            self.deliveries,
            self.repeated,
            self.checks,
            self.conflicts,
            self.redriven,
            self.readings
        )
    }

    /// Adds what another history came to.
    pub fn add(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.promised += other.promised;
        self.hidden += other.hidden;
        self.unknown += other.unknown;
        self.done += other.done;
        self.open += other.open;
        self.deliveries += other.deliveries;
        self.repeated += other.repeated;
        self.handed_back += other.handed_back;
        self.halves += other.halves;
        self.checks += other.checks;
        self.redriven += other.redriven;
        self.conflicts += other.conflicts;
        self.readings += other.readings;
    }
}

fn judge(events: &[Noted], groups: &[&'static str]) -> Verdicts {
    let facts = Facts::of(events);
    let mut verdicts = facts.counted();
    visibility::judge(&facts, &mut verdicts.faults);
    leases::judge(&facts, &mut verdicts.faults);
    order::judge(&facts, &mut verdicts.faults);
    ends::judge(&facts, groups, &mut verdicts);
    verdicts
}
