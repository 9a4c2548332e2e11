//! Where alarms are kept while the broker runs: the book, the outbox and what is still to be written down, behind one lock.
//! What changes is handed to the engine, which writes it as it writes everything; only then is anybody told. If the disk
//! takes nothing more, people are told all the same: that is when it matters most.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use escrow_protocol::Reason;
use escrow_storage::{Read, ReadError};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::book::{Book, Happening};
use super::outbox::{Attempt, Next, NoticeId, Outbox};
use super::recover::recover;
use super::sample::{Clue, Look};
use super::settings::{AlarmSettings, Sink};
use super::tls::Tls;
use crate::clock::Clock;
use crate::driver::EngineHandle;
use crate::engine::{AlarmNotes, Command, Input, Operator, Refusal, Reply, unknown_alarm};
use crate::records::{Alarm, AlarmEvent, AlarmNotice, AlarmRule, AlarmSinks};

/// After a write that found no room the next one waits this long, milliseconds: each costs the engine a look at its store.
const WRITE_AGAIN_MS: u64 = 30_000;

/// What alarms are made of.
pub struct AlarmsParts {
    /// What is configured.
    pub settings: AlarmSettings,
    /// What people's browsers call the console, without a slash at its end.
    pub console_url: String,
    /// Who writes down.
    pub engine: EngineHandle,
    /// The time.
    pub clock: Clock,
}

/// How alarms stand, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Open now, by rule.
    pub open: BTreeMap<AlarmRule, u64>,
    /// Raised since the start.
    pub raised: u64,
    /// Not raised since the start, for too many were open.
    pub suppressed: u64,
    /// Notices that wait for their sinks.
    pub waiting: u64,
    /// Notices that were taken since the start.
    pub taken: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Notices given up since the start.
    pub given_up: u64,
}

impl Standing {
    /// Open now.
    pub fn open(&self) -> u64 {
        self.open.values().sum()
    }
}

/// See the module. A clone is the same desk.
#[derive(Clone)]
pub struct Alarms {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) parts: AlarmsParts,
    /// Held while the engine writes: the lock is made for that, and only alarms wait for it.
    desk: Mutex<Desk>,
    /// As of the last change: for whoever must not wait.
    standing: StdMutex<Standing>,
    tls: Tls,
    /// For each courier: something new is there.
    bells: BTreeMap<String, Notify>,
}

/// What the lock guards.
pub(super) struct Desk {
    pub(super) book: Book,
    outbox: Outbox,
    /// What leads to the id of an open alarm, by its number, where that must be read: as of the last look at it.
    clues: BTreeMap<u64, Clue>,
    /// Not written down yet.
    notes: AlarmNotes,
    /// Until then nothing is written down, monotonic milliseconds: the disk had no room.
    rests_until_ms: u64,
    /// Sinks that do not know yet what is open, and who is configured; `None`: all know.
    newcomers: Option<Newcomers>,
}

/// An alarm that was asked for.
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) alarm: Alarm,
    /// What leads to what it is about by now, if that must be read.
    pub(crate) clue: Option<Clue>,
}

/// Sinks that were not configured when the broker ran last.
struct Newcomers {
    names: BTreeSet<String>,
    configured: AlarmSinks,
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").field("standing", &self.standing()).finish_non_exhaustive()
    }
}

impl Desk {
    /// Makes the notices of what happened, to be written down with the alarm.
    pub(super) fn tell(&mut self, now_ms: u64, happening: Happening) {
        let Happening { alarm: number, event } = happening;
        let Some(alarm) = self.book.get_mut(number) else { return };
        let made = self.outbox.tell(now_ms, (number, alarm), event);
        self.notes.notices.extend(made);
        self.notes.alarms.insert(number, Some(alarm.clone()));
        let rule = alarm.rule.as_str();
        let (subject, id, value) = (alarm.subject.as_str(), alarm.id.as_str(), alarm.value);
        tracing::warn!(alarm = number, event = event.as_str(), rule, subject, id, value, "alarm");
    }

    /// Tells sinks that are new what was open before `happenings`, once: what happens now is told to all. As raised, for it is
    /// news to them.
    pub(super) fn greet(&mut self, now_ms: u64, happenings: &[Happening]) {
        let Some(Newcomers { names, configured }) = self.newcomers.take() else { return };
        let fresh: BTreeSet<u64> = happenings.iter().map(|happening| happening.alarm).collect();
        for number in self.book.open_numbers().difference(&fresh) {
            let Some(alarm) = self.book.get_mut(*number) else { continue };
            let is_new = |sink: &str| names.contains(sink);
            let made = self.outbox.tell_those(now_ms, (*number, alarm), AlarmEvent::Raised, is_new);
            self.notes.notices.extend(made);
            self.notes.alarms.insert(*number, Some(alarm.clone()));
        }
        self.notes.sinks = Some(configured);
    }

    /// What each open alarm is about by now, for the one it named may be settled: an id is named at once; for what must be
    /// read, the clue is kept until somebody asks.
    pub(super) fn follow(&mut self, look: &Look) {
        let open = self.book.open_numbers();
        self.clues.retain(|number, _| open.contains(number));
        for reading in &look.readings {
            let Some(clue) = look.clue(reading.rule, &reading.subject) else { continue };
            let Some(number) = self.book.wrong(reading) else { continue };
            match clue {
                Clue::Id(id) => {
                    self.book.get_mut(number).into_iter().for_each(|alarm| alarm.id.clone_from(id))
                }
                clue => drop(self.clues.insert(number, clue.clone())),
            }
        }
    }

    fn found(&self, number: u64, alarm: Alarm) -> Found {
        let clue = self.clues.get(&number).filter(|_| !alarm.is_resolved());
        Found { number, alarm, clue: clue.cloned() }
    }

    /// Lets the oldest go that are over.
    pub(super) fn forget(&mut self) {
        let gone = self.book.forget();
        self.notes.alarms.extend(gone.into_iter().map(|number| (number, None)));
    }
}

impl Alarms {
    /// Alarms as they were when the broker stopped. Waits for the disk.
    ///
    /// # Errors
    /// If it fails.
    pub fn open(parts: AlarmsParts, view: &dyn Read) -> Result<Self, ReadError> {
        let recovered = recover(view)?;
        let settings = &parts.settings;
        let names = || settings.sinks.keys().cloned();
        let mut outbox = Outbox::new(settings.patience(), names());
        let mut notes = AlarmNotes::default();
        for (id, notice) in recovered.notices {
            if !outbox.put_back(id, notice) {
                notes.notices.insert(id, None);
            }
        }
        if !notes.notices.is_empty() {
            let notices = notes.notices.len();
            tracing::warn!(notices, "notices of alarms dropped: their sinks are no longer configured");
        }
        let configured = AlarmSinks(names().collect());
        let newcomers = (configured.0 != recovered.sinks).then(|| {
            let names = names().filter(|name| !recovered.sinks.contains(name)).collect();
            Newcomers { names, configured }
        });
        let book = Book::new(settings.rules.clone(), settings.repeat_ms, recovered.alarms);
        let bells = names().map(|name| (name, Notify::new())).collect();
        let desk = Desk { book, outbox, clues: BTreeMap::new(), notes, rests_until_ms: 0, newcomers };
        let standing = StdMutex::new(standing_of(&desk));
        Ok(Self {
            inner: Arc::new(Inner {
                tls: Tls::new(&parts.settings.ca_file),
                parts,
                desk: Mutex::new(desk),
                standing,
                bells,
            }),
        })
    }

    pub(super) fn parts(&self) -> &AlarmsParts {
        &self.inner.parts
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.inner.tls
    }

    /// What is configured.
    pub fn settings(&self) -> &AlarmSettings {
        &self.inner.parts.settings
    }

    /// How alarms stand. Never waits.
    pub fn standing(&self) -> Standing {
        self.inner.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn desk(&self) -> MutexGuard<'_, Desk> {
        self.inner.desk.lock().await
    }

    /// Has written down what is not yet, and lets the couriers know.
    pub(super) async fn publish(&self, desk: &mut Desk) {
        *self.inner.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing_of(desk);
        if desk.notes.is_empty() {
            return;
        }
        let now_ms = self.parts().clock.now().mono_ms;
        if now_ms >= desk.rests_until_ms {
            self.write_down(desk, now_ms).await;
        }
        self.inner.bells.values().for_each(Notify::notify_one);
    }

    async fn write_down(&self, desk: &mut Desk, now_ms: u64) {
        let notes = desk.notes.clone();
        match self.parts().engine.insist(Input::NoteAlarms(notes)).await {
            Ok(_) => desk.notes = AlarmNotes::default(),
            Err(refusal) if refusal.reason == Reason::ShuttingDown => {}
            Err(refusal) => {
                desk.rests_until_ms = now_ms.saturating_add(WRITE_AGAIN_MS);
                tracing::warn!(%refusal, "alarms are not written down yet; people are told all the same");
            }
        }
    }

    /// A page of the alarms, newest first: the open ones, or all that are kept.
    pub(crate) async fn page(&self, before: Option<u64>, open: bool, limit: usize) -> Vec<Found> {
        let desk = self.desk().await;
        let page = desk.book.page(before, open, limit);
        page.into_iter().map(|(number, alarm)| desk.found(number, alarm)).collect()
    }

    /// An alarm.
    ///
    /// # Errors
    /// `UnknownAlarm`.
    pub(crate) async fn get(&self, number: u64) -> Result<Found, Refusal> {
        let desk = self.desk().await;
        let alarm = desk.book.get(number).cloned().ok_or_else(|| unknown_alarm(number))?;
        Ok(desk.found(number, alarm))
    }

    /// A person takes an alarm upon themselves: others are told so, and nobody is reminded any more. Who was first stays
    /// the one.
    ///
    /// # Errors
    /// `UnknownAlarm`, `AlarmResolved`.
    pub async fn acknowledge(&self, number: u64, operator: Operator) -> Result<Alarm, Refusal> {
        let mut desk = self.desk().await;
        desk.rests_until_ms = 0;
        self.publish(&mut desk).await;
        if desk.notes.alarms.contains_key(&number) {
            let text = format!("alarm {number} is not written down yet, for the disk has no room; free some");
            return Err(Refusal::new(Reason::DiskFull, text).retry_after(self.settings().look_every_ms));
        }
        let order = Input::Command(operator, Command::AcknowledgeAlarm(number));
        let Reply::Alarm(alarm, is_new) = self.parts().engine.insist(order).await? else {
            return Err(Refusal::new(Reason::Internal, "the answer is about no alarm; please report this"));
        };
        if let Some(ack) = alarm.ack.clone().filter(|_| is_new)
            && let Some(happening) = desk.book.acknowledge(number, ack)
        {
            desk.tell(self.parts().clock.now().unix_ms, happening);
            self.publish(&mut desk).await;
        }
        // As it stands here: the written one has the value of when people were told last.
        Ok(desk.book.get(number).cloned().unwrap_or(alarm))
    }

    /// How a sink stands: notices that wait for it, and what went wrong last.
    pub async fn sink_standing(&self, sink: &str) -> (usize, Option<String>) {
        let desk = self.desk().await;
        let (waiting, failed) = desk.outbox.standing(sink);
        (waiting, failed.map(|notice| notice.error.clone()))
    }

    /// A sink.
    ///
    /// # Errors
    /// `UnknownSink`.
    pub fn sink(&self, name: &str) -> Result<&Sink, Refusal> {
        self.settings().sinks.get(name).ok_or_else(|| {
            let known: Vec<_> = self.settings().sinks.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "none is configured, see `alarms.sinks`".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            Refusal::new(Reason::UnknownSink, format!("there is no sink {name:?}; {known}"))
                .with("sink", name)
        })
    }

    /// What the courier of a sink does next.
    pub(super) async fn next_of(&self, sink: &str) -> Next {
        self.desk().await.outbox.next(sink, self.parts().clock.now().unix_ms)
    }

    /// Waits until something new may be there for a sink. Cancel-safe.
    pub(super) async fn rung(&self, sink: &str) {
        match self.inner.bells.get(sink) {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// What became of an attempt is written down before the next one is made.
    pub(super) async fn settle(&self, sink: &str, id: NoticeId, attempt: Attempt) {
        let mut desk = self.desk().await;
        let now_ms = self.parts().clock.now().unix_ms;
        let changed: Option<(NoticeId, Option<AlarmNotice>)> = desk.outbox.settle(now_ms, sink, id, attempt);
        desk.notes.notices.extend(changed);
        self.publish(&mut desk).await;
    }
}

fn standing_of(desk: &Desk) -> Standing {
    let (raised, suppressed) = desk.book.raised();
    let sent = desk.outbox.sent();
    Standing {
        open: desk.book.open_by_rule(),
        raised,
        suppressed,
        waiting: desk.outbox.waiting() as u64,
        taken: sent.taken,
        failed: sent.failed,
        given_up: sent.given_up,
    }
}
