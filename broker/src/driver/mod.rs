//! The loop around the pure engine: drain what waits, handle, fire, commit, deliver, let out. One thread per shard.
//!
//! Invariant: nothing leaves this thread, no reply, no question, no delivery, before the batch that justifies it is
//! durable. It owns the engine and the store's writer; it must never wait for a peer or read a body.

mod handle;
mod inbox;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use escrow_protocol::{Reason, ShardId};
use escrow_storage::{BATCH_BYTES_MAX, Batch, CommitError, ReadError, Store};
use tokio::sync::oneshot;

use crate::clock::{Chance, Clock};
use crate::dispatch::{ReplyTo, Sessions, post};
use crate::engine::{Boot, Counts, Effect, Engine, Outcome, Recovered, Refusal, Settings, Turn};
use crate::metrics::{Happening, Metrics};
use crate::telemetry::{Deed, Done, Sent, Telemetry, TurnTold};

pub use handle::{EngineHandle, stopping};
use inbox::{Envelope, Inbox};
pub use inbox::{InboxLimits, NotTaken};

/// Most inputs of one turn: bounds how long the first waits for the last.
const TURN_INPUTS_MAX: usize = 1_024;
/// Most bytes of records in one turn, unless a single input has more: bounds how long a sync takes.
const TURN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// After a commit that found no room the driver rests this long, milliseconds: what is due would only be refused again.
const REFUSED_PAUSE_MS: u64 = 1_000;
/// When a client whose input came with too much else should try again, milliseconds.
const TOO_MUCH_RETRY_MS: u64 = 50;
/// When a client that met a full disk should try again, milliseconds.
const DISK_FULL_RETRY_MS: u64 = 5_000;
/// When the clients of a rebuilt engine should come back, milliseconds.
const REBUILT_RETURN_MS: u64 = 500;

/// Why the driver stopped without being told to. The process must end; a restart reads the truth.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriverError {
    /// A commit failed: what is on disk is unknown until the next start reads it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A read that the engine needs failed.
    #[error("the store cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A law of the engine was broken: stop before it damages data.
    #[error("the engine broke one of its own laws: {0}")]
    Panicked(String),
}

/// What a driver needs.
#[derive(Debug)]
pub struct DriverParts<S> {
    /// The shard it drives.
    pub shard: ShardId,
    /// The shard's store.
    pub store: S,
    /// What of the engine is configured.
    pub settings: Settings,
    /// How much may wait for it.
    pub inbox: InboxLimits,
    /// The time.
    pub clock: Clock,
    /// For the seed.
    pub chance: Chance,
    /// Where answers and effects go.
    pub sessions: Sessions,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Where its turns are told, if they are traced.
    pub telemetry: Option<Telemetry>,
}

/// A driver at work.
#[derive(Debug)]
pub struct DriverTask {
    closer: DriverCloser,
    ended: oneshot::Receiver<Result<(), DriverError>>,
}

/// Closes a driver: when told to, or when dropped.
#[derive(Debug)]
pub struct DriverCloser {
    inbox: Arc<Inbox>,
}

impl DriverCloser {
    /// Takes no more inputs in; the driver ends when those that wait are done.
    pub fn close(&self) {
        self.inbox.close();
    }

    /// Takes no more inputs in, and forgets those that wait: nobody hears of them, and nothing of them takes effect. The
    /// driver ends with the turn it is in. How many there were.
    pub fn abandon(&self) -> usize {
        self.inbox.abandon()
    }
}

impl Drop for DriverCloser {
    fn drop(&mut self) {
        self.close();
    }
}

impl DriverTask {
    /// See [`DriverCloser::close`].
    pub fn close(&self) {
        self.closer.close();
    }

    /// What else may close it.
    pub fn closer(&self) -> DriverCloser {
        DriverCloser { inbox: self.closer.inbox.clone() }
    }

    /// How it ended; call it once. The store is closed by then.
    ///
    /// # Errors
    /// Why it stopped on its own.
    pub async fn ended(&mut self) -> Result<(), DriverError> {
        match (&mut self.ended).await {
            Ok(end) => end,
            Err(_) => Err(DriverError::Panicked("its thread is gone".to_owned())),
        }
    }
}

/// Recovers the engine from the store, then drives it on a thread of its own.
///
/// # Errors
/// If the store cannot be read.
pub async fn start<S: Store + 'static>(
    parts: DriverParts<S>,
) -> Result<(EngineHandle, DriverTask, Recovered), DriverError> {
    let inbox = Arc::new(Inbox::new(parts.inbox));
    let handle = EngineHandle { inbox: inbox.clone(), clock: parts.clock.clone() };
    let (tell_recovered, recovered) = oneshot::channel();
    let (tell_end, ended) = oneshot::channel();
    let name = format!("engine-{}", parts.shard.0);
    let thread_inbox = inbox.clone();
    let spawned = thread::Builder::new().name(name).spawn(move || {
        let run = || -> Result<(), DriverError> {
            let (driver, found) = match Driver::recover(parts, thread_inbox.clone()) {
                Ok(recovered) => recovered,
                Err(error) => {
                    // Whoever waits for the recovery hears it; a start that was given up hears nothing.
                    let _ = tell_recovered.send(Err(error.clone()));
                    return Err(error);
                }
            };
            let _ = tell_recovered.send(Ok(found));
            driver.run()
        };
        let end = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(DriverError::Panicked(words_of(&*panic))));
        thread_inbox.close();
        if let Err(error) = &end {
            tracing::error!(%error, "engine stopped: the process must end, a restart reads the truth");
        }
        let _ = tell_end.send(end);
    });
    spawned.map_err(|error| DriverError::Panicked(format!("no thread for the engine: {error}")))?;
    let recovered = recovered.await.unwrap_or_else(|_| {
        Err(DriverError::Panicked("the recovery ended without a word; the log has its last".to_owned()))
    })?;
    Ok((handle, DriverTask { closer: DriverCloser { inbox }, ended }, recovered))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without words".to_owned())
}

struct Driver<S: Store> {
    engine: Engine,
    reader: S::Reader,
    parts: DriverParts<S>,
    inbox: Arc<Inbox>,
}

impl<S: Store> Driver<S> {
    fn recover(parts: DriverParts<S>, inbox: Arc<Inbox>) -> Result<(Self, Recovered), DriverError> {
        let reader = parts.store.reader();
        let (engine, recovered) = recover(&parts, &reader)?;
        Ok((Self { engine, reader, parts, inbox }, recovered))
    }

    fn run(mut self) -> Result<(), DriverError> {
        loop {
            let wait_ms = self.engine.next_wake(self.parts.clock.now());
            let Some(envelopes) = self.inbox.take(TURN_INPUTS_MAX, TURN_BYTES_MAX, wait_ms)? else {
                return Ok(());
            };
            self.turn(envelopes)?;
        }
    }

    fn turn(&mut self, envelopes: Vec<Envelope>) -> Result<(), DriverError> {
        let Self { engine, reader, parts, .. } = self;
        let now = parts.clock.now();
        let inputs = envelopes.len();
        let mut turn = Turn::new(reader, parts.store.room());
        let mut answers: Vec<(ReplyTo, Outcome)> = Vec::with_capacity(inputs);
        let mut happenings = Vec::with_capacity(inputs);
        let counts_before = *engine.counts();
        let mut deeds = Vec::new();
        for envelope in envelopes {
            if parts.telemetry.is_some() {
                deeds.push((Deed::of(&envelope.input), envelope.queued_at_us));
            }
            let happening = Happening::of(&envelope.input, envelope.queued_at_us);
            let outcome = engine.handle(now, &mut turn, envelope.input);
            happenings.push(happening);
            answers.push((envelope.reply_to, outcome));
        }
        engine.fire(now, &mut turn);
        let finished = engine.finish(now, turn)?;

        let writes = !finished.batch.is_empty();
        let begun_us = parts.clock.micros();
        let batch_bytes = bytes_of(&finished.batch);
        // Nothing to write is committed, too, which costs nothing: a store that failed behind the engine's back says so. Where
        // everything new is refused for want of room, nobody else would ask.
        match parts.store.commit(finished.batch) {
            Ok(_) if writes => parts.metrics.committed(inputs, parts.clock.micros() - begun_us),
            Ok(_) => {}
            Err(CommitError::Refused(fault)) => return self.refuse(answers, batch_bytes, &fault),
            // Failed, fenced or unknown: all memory of the shard is void. Nothing is answered.
            Err(error) => return Err(error.into()),
        }
        // Invariant: durable from here on; before here nothing has left.
        let mut effects = finished.effects;
        let now = parts.clock.now();
        effects.extend(engine.deliver(now, reader)?);
        let durable_at_us = parts.clock.micros();
        for (happening, (_, outcome)) in happenings.iter().zip(&answers) {
            parts.metrics.handled(happening, outcome, durable_at_us);
        }
        if let Some(telemetry) = &parts.telemetry {
            telemetry.turn(told(deeds, &answers, &effects, durable_at_us, now.unix_ms));
        }
        parts.metrics.effects(&effects, now.unix_ms);
        parts.metrics.set_counts(*engine.counts());
        warn_of_doubt(counts_before, *engine.counts());
        for report in engine.take_reports() {
            tracing::error!(report, "damaged record met and left alone");
        }
        post(&parts.sessions, answers, effects);
        Ok(())
    }

    /// There was no room for the turn: every input of it is refused, and the engine forgets it by reading the store
    /// again. What it knew of sessions is gone too: they are closed, and come back.
    fn refuse(
        &mut self,
        answers: Vec<(ReplyTo, Outcome)>,
        batch_bytes: usize,
        fault: &str,
    ) -> Result<(), DriverError> {
        tracing::warn!(
            fault,
            inputs = answers.len(),
            batch_bytes,
            "the store refused a turn: its inputs are refused"
        );
        let (mut rebuilt, _) = recover(&self.parts, &self.reader)?;
        rebuilt.succeed(&self.engine);
        self.engine = rebuilt;
        let refusal = refusal_of(answers.len(), batch_bytes, fault);
        self.parts.metrics.refused(refusal.reason, answers.len());
        let refused = answers.into_iter().map(|(reply_to, _)| (reply_to, Err(refusal.clone()))).collect();
        post(&self.parts.sessions, refused, Vec::new());
        self.parts.sessions.close_all("the broker had to read its store again", REBUILT_RETURN_MS);
        self.inbox.pause(REFUSED_PAUSE_MS);
        Ok(())
    }
}

/// A turn, for the traces.
fn told(
    deeds: Vec<(Option<Deed>, u64)>,
    answers: &[(ReplyTo, Outcome)],
    effects: &[Effect],
    durable_at_us: u64,
    unix_ms: u64,
) -> TurnTold {
    let done = deeds
        .into_iter()
        .zip(answers)
        .filter_map(|((deed, queued_at_us), (_, outcome))| Some(Done::new(deed?, queued_at_us, outcome)));
    TurnTold {
        durable_at_us,
        unix_ms,
        done: done.collect(),
        sent: effects.iter().filter_map(Sent::of).collect(),
    }
}

/// What the inputs of a refused turn are told, in the store's words: it refuses for lack of room on the disk, or because
/// the turn's batch is larger than any it takes.
fn refusal_of(inputs: usize, batch_bytes: usize, fault: &str) -> Refusal {
    if batch_bytes <= BATCH_BYTES_MAX {
        let text = format!("the broker's disk has no room ({fault}); free space, then try again");
        return Refusal::new(Reason::DiskFull, text).retry_after(DISK_FULL_RETRY_MS);
    }
    if inputs > 1 {
        let text =
            format!("what came together at once is more than the store takes ({fault}); send it again");
        return Refusal::new(Reason::Overloaded, text).retry_after(TOO_MUCH_RETRY_MS);
    }
    let text = format!("this is more than the store takes at once ({fault}); do it in smaller steps");
    Refusal::new(Reason::LimitReached, text).with("limit", BATCH_BYTES_MAX)
}

/// At least what the store counts for `batch`: its keys and values, and what it writes around them.
fn bytes_of(batch: &Batch) -> usize {
    const AROUND_AN_EDIT: usize = 16;
    let edits = batch
        .iter()
        .map(|(key, edit)| key.len() + edit.value().map_or(0, |value| value.len()) + AROUND_AN_EDIT);
    edits.sum()
}

/// A transaction whose checks are used up is never parked or decided in silence.
fn warn_of_doubt(before: Counts, after: Counts) {
    let parked = after.transactions_parked.saturating_sub(before.transactions_parked);
    let decided = after.decisions_by_policy.saturating_sub(before.decisions_by_policy);
    if parked > 0 {
        tracing::warn!(
            parked,
            parked_since_start = after.transactions_parked,
            "transactions in doubt parked: a person decides (`escrow tx ls --state parked`)"
        );
    }
    if decided > 0 {
        tracing::warn!(
            decided,
            decided_since_start = after.decisions_by_policy,
            "transactions in doubt decided by policy (`escrow tx ls --state decided`)"
        );
    }
}

fn recover<S: Store>(parts: &DriverParts<S>, reader: &S::Reader) -> Result<(Engine, Recovered), ReadError> {
    let boot = Boot {
        shard: parts.shard,
        epoch: parts.store.epoch(),
        seed: parts.chance.seed(),
        settings: parts.settings.clone(),
    };
    Engine::recover(boot, parts.clock.now(), reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_turn_is_worded_after_the_store() {
        let full = refusal_of(3, 100, "No space left on device (os error 28)");
        assert_eq!(full.reason, Reason::DiskFull);
        assert!(full.message.contains("No space left on device") && full.retry_after_ms.is_some());

        let fault = "a batch of 1073741825 bytes is larger than 1073741824";
        let together = refusal_of(3, BATCH_BYTES_MAX + 1, fault);
        assert_eq!(together.reason, Reason::Overloaded);
        let alone = refusal_of(1, BATCH_BYTES_MAX + 1, fault);
        assert_eq!((alone.reason, alone.retry_after_ms), (Reason::LimitReached, None));
        for refusal in [together, alone] {
            assert!(
                refusal.message.contains(fault) && !refusal.message.contains("disk"),
                "{}",
                refusal.message
            );
        }
    }

    #[test]
    fn a_batch_is_never_taken_for_smaller_than_its_keys_and_values() {
        let mut batch = Batch::new();
        batch.put(&b"key"[..], &b"value"[..]);
        batch.delete(&b"gone"[..]);
        assert!(bytes_of(&batch) >= 3 + 5 + 4);
    }
}
