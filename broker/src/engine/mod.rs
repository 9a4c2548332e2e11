//! The engine: all of the product's promises, and nothing else.
//!
//! Pure: inputs, the time and a view of the store go in; answers, edits and effects come out. No I/O, no clock, no
//! chance but the seed it is given, no threads, no tokio, no sled. The same inputs give the same outcome.
//!
//! A turn: [`Turn::new`], [`Engine::handle`] for each input, [`Engine::fire`] for what is due, [`Engine::finish`]; then
//! the caller commits the batch, and only when it is durable lets answers and effects out; then [`Engine::deliver`].

mod alarms;
mod audit;
mod checks;
mod commands;
mod counts;
mod dead_letters;
mod deduplication;
mod deliver;
mod effect;
mod facets;
mod groups;
mod input;
mod inspect;
mod jobs;
mod leases;
mod ordering;
mod position;
mod publish;
mod recover;
mod refusal;
mod retention;
mod retries;
mod retry_by_hand;
pub mod sabotage;
mod sessions;
mod settings;
mod sieve;
mod story;
mod time;
mod timers;
mod topics;
mod transactions;
mod trouble;
mod turn;
mod undecided;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use alarms::unknown_alarm;
pub(crate) use audit::{moment, words_of_letters};
pub use counts::Counts;
pub use effect::*;
pub use input::*;
pub use refusal::Refusal;
pub use settings::*;
pub use time::Now;
pub(crate) use turn::key_in;
pub use turn::{Finished, Turn};

use escrow_protocol::{Reason, ShardId};
use escrow_storage::{Epoch, Read, ReadError, Room};

use self::sabotage::{Fault, planted};
use self::timers::{MonoTimer, WallTimer};
use self::trouble::{Step, Trouble};
use crate::records::{Counters, GroupNumber, Retry, keys};

/// The answer to an input: what became of it, or why it changed nothing.
pub type Outcome = Result<Reply, Refusal>;

/// What an engine starts from.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Its shard.
    pub shard: ShardId,
    /// The claim under which it works: makes its lease tokens differ from those of earlier claims.
    pub epoch: Epoch,
    /// For jitter.
    pub seed: u64,
    /// What is configured.
    pub settings: Settings,
}

/// What a recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Topics.
    pub topics: usize,
    /// Groups.
    pub groups: usize,
    /// Undecided transactions, the parked ones included.
    pub undecided: usize,
    /// Messages that wait for their next attempt.
    pub retrying: usize,
    /// Records that could not be read, by key and fault: they are left where they are and never served.
    pub damaged: Vec<String>,
}

/// See the module.
pub struct Engine {
    shard: ShardId,
    settings: Settings,
    rng: fastrand::Rng,
    counters: Counters,
    counters_dirty: bool,
    topics: topics::Topics,
    groups: groups::Groups,
    transactions: transactions::Transactions,
    kinds: checks::Kinds,
    questions: checks::Questions,
    deduplication: deduplication::Deduplication,
    schedule: publish::Schedule,
    sessions: sessions::Sessions,
    audit: audit::AuditLog,
    story: story::StoryLog,
    facets: facets::AllFacets,
    jobs: jobs::Jobs,
    timers: timers::Timers,
    /// Pages of queues that this turn may still read ahead.
    pages_left: usize,
    /// The group that was served last: the next turn goes on behind it.
    last_served: Option<GroupNumber>,
    accepting: bool,
    counts: Counts,
    reports: Vec<String>,
}

impl Engine {
    /// The engine as the store says it was. Writes nothing.
    ///
    /// # Errors
    /// If the store fails. Damaged records are reported, not an error.
    pub fn recover(boot: Boot, now: Now, view: &dyn Read) -> Result<(Self, Recovered), ReadError> {
        Self::rebuild(boot, now, view)
    }

    /// One thing that happened. A refused input has changed nothing (but for the count of contradicting decisions).
    pub fn handle(&mut self, now: Now, turn: &mut Turn<'_>, input: Input) -> Outcome {
        self.accepting = turn.room() == Room::Enough;
        self.story.set_time(now.unix_ms);
        let step = match input {
            Input::ProducerConnected(hello) => self.producer_connected(now, hello),
            Input::ConsumerConnected(hello) => self.join(now, turn, hello),
            Input::SessionClosed(session) => self.session_closed(now, session),
            Input::SessionFinished(session) => {
                self.release_leases_of(session);
                self.session_closed(now, session)
            }
            Input::Publish(message) => self.publish(now, turn, message),
            Input::SendHalf(half) => self.send_half(now, turn, half),
            Input::Decide(decide) => self.decide(now, turn, decide),
            Input::CheckAnswered(answer) => self.check_answered(now, turn, answer),
            Input::Credit(credit) => self.credit(credit),
            Input::Settle(settle) => self.settle(now, turn, settle),
            Input::Undeliverable(token, fault) => self.undeliverable(now, turn, token, fault),
            Input::Command(operator, command) => self.by_hand(now, turn, operator, command),
            Input::NoteAlarms(notes) => self.note_alarms(turn, notes),
            Input::Inspect(question) => self.inspect(turn, question),
        };
        step.map_err(|trouble| match trouble {
            Trouble::Refused(refusal) => refusal,
            Trouble::Failed(error) => {
                let refusal = Refusal::new(Reason::Internal, format!("the store failed: {error}"));
                turn.fail(error);
                refusal
            }
        })
    }

    /// What is due: checks, retries, leases, schedules, jobs, removals; bounded, see [`Engine::next_wake`].
    pub fn fire(&mut self, now: Now, turn: &mut Turn<'_>) {
        let limits = self.settings.limits;
        self.story.set_time(now.unix_ms);
        self.fail_lost(now, turn, limits.lost_leases_per_turn_max);
        self.fire_mono(now, turn, limits.timers_per_turn_max);
        self.fire_wall(now, turn, limits.timers_per_turn_max);
        let released = self.release_scheduled(now, turn, limits.timers_per_turn_max);
        self.absorb(turn, released);
        self.bury_doomed(now, turn, limits.timers_per_turn_max);
        self.step_jobs(now, turn);
        let asked = self.pump_checks(now, turn, limits.timers_per_turn_max);
        self.absorb(turn, asked);
        let trimmed = self.trim_topics(now, turn, limits.removals_per_turn_max);
        self.absorb(turn, trimmed);
        let forgotten = self.forget_outdated(now, turn);
        self.absorb(turn, forgotten);
    }

    fn fire_mono(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) {
        for _ in 0..limit {
            let Some(timer) = self.timers.pop_mono(now) else { return };
            let step = match timer {
                MonoTimer::Lease(token) => self.lease_expired(now, turn, token),
                MonoTimer::Question(check) => self.question_timed_out(now, turn, check),
            };
            self.absorb(turn, step);
        }
    }

    fn fire_wall(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) {
        for _ in 0..limit {
            let (timer_at_ms, transaction_at_ms) =
                (self.timers.next_wall_at(), self.transactions.undecided.next_at());
            let is_transaction =
                transaction_at_ms.is_some_and(|at_ms| timer_at_ms.is_none_or(|timer| at_ms <= timer));
            if is_transaction {
                let due = transaction_at_ms.filter(|at_ms| *at_ms <= now.unix_ms);
                let Some(number) = due.and_then(|_| self.transactions.undecided.earliest()) else { return };
                let step = self.transaction_due(now, turn, number);
                self.absorb(turn, step);
                continue;
            }
            let Some(timer) = self.timers.pop_wall(now) else { return };
            let step = match timer {
                WallTimer::Retry(group, topic, offset) => {
                    self.retry_due(group, topic, offset);
                    Ok(())
                }
                WallTimer::Retention(topic) => {
                    self.retention_due(topic);
                    Ok(())
                }
                WallTimer::BroadcastIdle(group) => self.broadcast_idle(now, turn, group),
            };
            self.absorb(turn, step);
        }
    }

    /// Counts as failed what lost consumers held.
    fn fail_lost(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) {
        for _ in 0..limit {
            let Some(token) = self.groups.lost.pop_front() else { return };
            let step = self.lease_lost(now, turn, token);
            self.absorb(turn, step);
        }
    }

    /// Moves to the dead letters what the last delivery found to be dead.
    fn bury_doomed(&mut self, now: Now, turn: &mut Turn<'_>, limit: usize) {
        for _ in 0..limit {
            let Some(number) = self.groups.with_doomed.first().copied() else { return };
            let Some((candidate, reason, error)) = self.groups.known_mut(number).doomed.pop_front() else {
                self.groups.with_doomed.remove(&number);
                continue;
            };
            let step = self.retry_of(turn, number, &candidate);
            let step = step.and_then(|retry| self.bury(now, turn, number, &candidate, retry, reason, error));
            self.absorb(turn, step);
        }
    }

    /// What is stored of a candidate's attempts so far.
    fn retry_of(
        &mut self,
        turn: &Turn<'_>,
        number: GroupNumber,
        candidate: &position::Candidate,
    ) -> Step<Retry> {
        let stored = match candidate.is_retry {
            true => self.read_or_report(turn, &keys::retry(candidate.topic, candidate.offset, number))?,
            false => None,
        };
        Ok(stored.unwrap_or_else(|| Retry {
            entry: candidate.entry.as_ref().clone(),
            due_at_ms: 0,
            attempts_made: candidate.attempts_made,
            attempts: Vec::new(),
            redrives: 0,
        }))
    }

    /// Work that nobody asked for has no one to refuse to: what a damaged record stops is reported.
    fn absorb(&mut self, turn: &mut Turn<'_>, step: Step<()>) {
        match step {
            Ok(()) => {}
            Err(Trouble::Failed(error)) => turn.fail(error),
            Err(Trouble::Refused(refusal)) => {
                self.counts.records_damaged += 1;
                self.reports.push(refusal.to_string());
            }
        }
    }

    /// Ends the turn: the batch to commit, and what may go out once it is durable.
    ///
    /// # Errors
    /// If the store failed during the turn: nothing of it may be committed or answered, the process must stop.
    pub fn finish(&mut self, now: Now, mut turn: Turn<'_>) -> Result<Finished, ReadError> {
        if self.deduplication.has_fresh() {
            self.counters_mut().remembered = self.deduplication.next();
            self.deduplication.flush(now, &mut turn);
        }
        self.transactions.flush(now, &mut turn);
        self.groups.flush(&mut turn);
        self.topics.flush(&mut turn);
        self.facets.flush(&mut turn);
        self.story.flush(&mut turn);
        if planted(Fault::DeliveredBeforeCommit) {
            let early = self.hand_out(now, turn.view())?;
            turn.effects.extend(early);
        }
        if std::mem::take(&mut self.counters_dirty) {
            turn.put(keys::counters(), &self.counters);
        }
        turn.into_finished()
    }

    /// Leases for what is ready and wanted, at most `limits.deliveries_per_turn_max`. Call it after the commit of the
    /// turn, with a view that sees that commit. Writes nothing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn deliver(&mut self, now: Now, view: &dyn Read) -> Result<Vec<Effect>, ReadError> {
        self.hand_out(now, view)
    }

    /// Milliseconds until there is something to do without an input; 0: at once. `None`: nothing is planned.
    pub fn next_wake(&self, now: Now) -> Option<u64> {
        let is_busy = !self.topics.to_trim.is_empty()
            || !self.topics.is_clean()
            || !self.groups.is_clean()
            || !self.groups.awake.is_empty()
            || !self.groups.with_doomed.is_empty()
            || !self.groups.lost.is_empty()
            || !self.questions.to_pump.is_empty();
        if is_busy {
            return Some(0);
        }
        let (ids, decided) = (self.deduplication.next_at(), self.transactions.next_at());
        let undecided = self.transactions.undecided.next_at();
        let (schedule, audit, story) = (self.schedule.next_at(), self.audit.next_at(), self.story.next_at());
        let stored = [schedule, undecided, ids, decided, audit, story];
        let stored = stored.into_iter().flatten().map(|at_ms| at_ms.saturating_sub(now.unix_ms));
        stored.chain(self.timers.next_in(now)).chain(self.jobs.next_in(now)).min()
    }

    /// Goes on where `before` was: for an engine that was recovered within one claim. Tokens that were given are not given
    /// again, and counts go on rising.
    pub fn succeed(&mut self, before: &Self) {
        self.groups.give_tokens_behind(&before.groups);
        self.questions.ask_behind(&before.questions);
        self.counts = before.counts;
    }

    /// What happened since the start, for metrics.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Damaged records met since the last call, by key and fault: for the log.
    pub fn take_reports(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reports)
    }

    /// Asserts every invariant that can be seen in memory: the simulator calls it after each turn.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn assert_invariants(&self) {
        self.assert_all();
    }

    /// The counters, to be changed: they are written at the end of the turn.
    fn counters_mut(&mut self) -> &mut Counters {
        self.counters_dirty = true;
        &mut self.counters
    }

    fn producer_connected(&mut self, now: Now, hello: ProducerConnected) -> Step<Reply> {
        self.sessions.admit(hello.session, self.settings.limits.sessions_max)?;
        let mut kinds = Vec::with_capacity(hello.kinds.len());
        for kind in hello.kinds {
            let number = self.kinds.number_of(&hello.group, &kind);
            self.kinds.get_mut(number).checkers.push(hello.session);
            self.questions.to_pump.insert(number);
            kinds.push((kind, number));
        }
        let producer = sessions::ProducerSession {
            client: hello.client,
            group: hello.group,
            kinds,
            questions: Default::default(),
            connected_at_ms: now.unix_ms,
            address: hello.address,
        };
        self.sessions.producers.insert(hello.session, producer);
        Ok(Reply::Welcome)
    }

    fn credit(&mut self, credit: Credit) -> Step<Reply> {
        let Some(consumer) = self.sessions.consumers.get_mut(&credit.session) else {
            return Err(Refusal::new(Reason::HelloExpected, "say hello before giving credit").into());
        };
        let (messages, bytes) =
            (escrow_protocol::limits::CREDIT_MESSAGES_MAX, escrow_protocol::limits::CREDIT_BYTES_MAX);
        consumer.credit_messages = consumer.credit_messages.saturating_add(credit.messages).min(messages);
        consumer.credit_bytes = consumer.credit_bytes.saturating_add_unsigned(credit.bytes).min(bytes as i64);
        self.groups.awake.insert(consumer.group);
        Ok(Reply::Done)
    }

    fn broadcast_idle(&mut self, now: Now, turn: &mut Turn<'_>, number: GroupNumber) -> Step<()> {
        let idle_until_ms = self.groups.by_number.get(&number).and_then(|group| group.idle_until_ms);
        match idle_until_ms {
            Some(until) if until <= now.unix_ms => self.remove_group(turn, number).map(|_| ()),
            _ => Ok(()),
        }
    }
}
