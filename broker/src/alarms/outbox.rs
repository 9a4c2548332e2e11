//! What is still to be told to whom, and when it is tried (again). Pure: the time is passed in. It owns the notices; sending
//! them is the courier's, writing them down the desk's.

use std::collections::{BTreeMap, BTreeSet};

use crate::records::{Alarm, AlarmEvent, AlarmNotice};

/// Notices that wait for one sink; beyond that its oldest goes, counted: who was away that long looks at the console.
pub(super) const WAITING_MAX: usize = 2_000;
/// Longest error kept with a notice, bytes.
const ERROR_BYTES_MAX: usize = 300;

/// A notice: its alarm, and its number among that alarm's.
pub(super) type NoticeId = (u64, u64);

/// When a sink that failed is tried again, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patience {
    /// The delays before each further attempt, the last repeats, milliseconds. Not empty.
    pub(super) delays_ms: Vec<u64>,
    /// A notice of this age is given up when its next attempt fails, milliseconds.
    pub(super) give_up_ms: u64,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The sink has it.
    Taken,
    /// Not this time.
    Failed(String),
}

/// What a courier does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this.
    Send(NoticeId, Box<AlarmNotice>),
    /// Nothing for so many milliseconds.
    Wait(u64),
    /// Nothing until something new comes.
    Idle,
}

/// What went, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) taken: u64,
    pub(super) failed: u64,
    pub(super) given_up: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    patience: Patience,
    sinks: BTreeMap<String, Waiting>,
    sent: Sent,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: BTreeMap<NoticeId, AlarmNotice>,
    due: BTreeSet<(u64, NoticeId)>,
}

impl Waiting {
    fn put(&mut self, id: NoticeId, notice: AlarmNotice) {
        self.due.insert((notice.due_at_ms, id));
        self.notices.insert(id, notice);
    }

    fn take(&mut self, id: NoticeId) -> Option<AlarmNotice> {
        let notice = self.notices.remove(&id)?;
        self.due.remove(&(notice.due_at_ms, id));
        Some(notice)
    }

    /// Whether an earlier notice of the same alarm waits: nobody hears of an end before the beginning.
    fn is_behind(&self, (alarm, number): NoticeId) -> bool {
        self.notices.range((alarm, 0)..(alarm, number)).next().is_some()
    }
}

impl Outbox {
    /// An empty outbox for sinks of these names.
    pub(super) fn new(patience: Patience, sinks: impl Iterator<Item = String>) -> Self {
        Self {
            patience,
            sinks: sinks.map(|name| (name, Waiting::default())).collect(),
            sent: Sent::default(),
        }
    }

    /// One that was written down before; `false`: its sink is no longer there.
    pub(super) fn put_back(&mut self, id: NoticeId, notice: AlarmNotice) -> bool {
        match self.sinks.get_mut(&notice.sink) {
            Some(waiting) => {
                waiting.put(id, notice);
                true
            }
            None => false,
        }
    }

    /// Makes a notice for each sink, due at once. What is to be written down; `None`: it goes.
    pub(super) fn tell(
        &mut self,
        now_ms: u64,
        (number, alarm): (u64, &mut Alarm),
        event: AlarmEvent,
    ) -> Vec<(NoticeId, Option<AlarmNotice>)> {
        self.tell_those(now_ms, (number, alarm), event, |_| true)
    }

    /// As [`Outbox::tell`], only those of these names.
    pub(super) fn tell_those(
        &mut self,
        now_ms: u64,
        (number, alarm): (u64, &mut Alarm),
        event: AlarmEvent,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<(NoticeId, Option<AlarmNotice>)> {
        let mut changed = Vec::new();
        let first = alarm.notices + 1;
        let meant = || self.sinks.keys().filter(|sink| is_meant(sink));
        alarm.notices += meant().count() as u64;
        let told = self.sinks.iter_mut().filter(|(sink, _)| is_meant(sink));
        for (nth, (sink, waiting)) in (first..).zip(told) {
            let id = (number, nth);
            let notice = AlarmNotice {
                sink: sink.clone(),
                event,
                at_ms: now_ms,
                attempts: 0,
                due_at_ms: now_ms,
                error: String::new(),
                alarm: alarm.clone(),
            };
            waiting.put(id, notice.clone());
            changed.push((id, Some(notice)));
            if waiting.notices.len() > WAITING_MAX
                && let Some(oldest) = waiting.notices.keys().next().copied()
            {
                waiting.take(oldest);
                self.sent.given_up += 1;
                changed.push((oldest, None));
            }
        }
        changed
    }

    /// What the courier of `sink` does next.
    pub(super) fn next(&self, sink: &str, now_ms: u64) -> Next {
        let Some(waiting) = self.sinks.get(sink) else { return Next::Idle };
        let Some((due_at_ms, id)) = waiting.due.iter().find(|(_, id)| !waiting.is_behind(*id)) else {
            return Next::Idle;
        };
        // A clock that was set back must not hold a notice for longer than its delay.
        let longest_ms = self.patience.delays_ms.iter().max().copied().unwrap_or(0);
        match due_at_ms.saturating_sub(now_ms).min(longest_ms) {
            0 => Next::Send(*id, Box::new(waiting.notices[id].clone())),
            wait_ms => Next::Wait(wait_ms),
        }
    }

    /// What became of an attempt: what is to be written down; `None`: it goes.
    pub(super) fn settle(
        &mut self,
        now_ms: u64,
        sink: &str,
        id: NoticeId,
        attempt: Attempt,
    ) -> Option<(NoticeId, Option<AlarmNotice>)> {
        let waiting = self.sinks.get_mut(sink)?;
        // It may have made room for newer ones meanwhile.
        let mut notice = waiting.take(id)?;
        let error = match attempt {
            Attempt::Taken => {
                self.sent.taken += 1;
                return Some((id, None));
            }
            Attempt::Failed(error) => error,
        };
        self.sent.failed += 1;
        if now_ms.saturating_sub(notice.at_ms) >= self.patience.give_up_ms {
            self.sent.given_up += 1;
            return Some((id, None));
        }
        let delays = &self.patience.delays_ms;
        let nth = (notice.attempts as usize).min(delays.len() - 1);
        notice.attempts += 1;
        notice.due_at_ms = now_ms.saturating_add(delays[nth]);
        notice.error = cut(error);
        waiting.put(id, notice.clone());
        Some((id, Some(notice)))
    }

    /// How many wait, for all sinks.
    pub(super) fn waiting(&self) -> usize {
        self.sinks.values().map(|waiting| waiting.notices.len()).sum()
    }

    /// How many wait for a sink, and what went wrong with its oldest.
    pub(super) fn standing(&self, sink: &str) -> (usize, Option<&AlarmNotice>) {
        let Some(waiting) = self.sinks.get(sink) else { return (0, None) };
        (waiting.notices.len(), waiting.notices.values().find(|notice| notice.attempts > 0))
    }

    pub(super) fn sent(&self) -> Sent {
        self.sent
    }
}

/// Cut between characters.
fn cut(mut error: String) -> String {
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.truncate(end);
    error
}
