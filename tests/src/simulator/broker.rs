//! The driver's part: turns over the real engine and a store in memory, exactly as the broker runs them, and every way
//! in which one can end.
//!
//! Invariant: nothing of a turn is handed on before its batch is durable.

use escrow_broker::engine::{
    Boot, Effect, Engine, Input, Inspect, Now, Outcome, Recovered, Reply, Seen, Settings, Turn,
};
use escrow_protocol::{Reason, ShardId};
use escrow_storage::{Batch, CommitError, FailMode, MemDisk, MemStore, Store};

use super::model::{Verdict, require};

/// What the world does to a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Accident {
    None,
    /// The process dies before the commit.
    CrashBefore,
    /// It dies after the commit, and before a word of it left.
    CrashAfter,
    /// It dies after the commit, when some of its answers have left and others have not.
    CrashAmid,
    /// The sync fails; what of the batch is on the disk, only the next start will see.
    SyncFails(FailModeHash),
    /// No room for the batch.
    Refused,
}

/// [`FailMode`], hashable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FailModeHash {
    Lost,
    Kept,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// Durable; answers and effects are on their way.
    Answered,
    /// Durable; some were told, then the process died.
    AnsweredInPart,
    /// Durable; nobody was told, for the process died.
    Unanswered,
    /// It never was, and the process died.
    Lost,
    /// There was no room for it: the process goes on with an engine that read the store again.
    Refused,
}

/// One round.
pub(super) struct Round {
    pub(super) end: End,
    pub(super) answers: Vec<(Input, Outcome)>,
    pub(super) batch: Batch,
    pub(super) effects: Vec<Effect>,
}

/// The process and its disk.
pub(super) struct Broker {
    disk: MemDisk,
    settings: Settings,
    seed: u64,
    process: Option<Process>,
}

struct Process {
    engine: Engine,
    store: MemStore,
}

impl Broker {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        Self { disk: MemDisk::new(), settings: settings.clone(), seed, process: None }
    }

    pub(super) fn disk(&self) -> &MemDisk {
        &self.disk
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts a process on the disk: a new claim, and an engine as the store says.
    pub(super) fn start(&mut self, now: Now) -> Verdict<Recovered> {
        let store = MemStore::claim(&self.disk);
        let before = self.disk.digest();
        let (engine, recovered) = self.recover(now, &store)?;
        require!(before == self.disk.digest(), "recovery wrote to the store");
        require!(recovered.damaged.is_empty(), "recovery found damage: {:?}", recovered.damaged);
        engine.assert_invariants();
        self.process = Some(Process { engine, store });
        Ok(recovered)
    }

    fn recover(&self, now: Now, store: &MemStore) -> Verdict<(Engine, Recovered)> {
        let epoch = store.epoch();
        let boot =
            Boot { shard: ShardId(0), epoch, seed: self.seed ^ epoch.0, settings: self.settings.clone() };
        Engine::recover(boot, now, &store.reader()).map_err(|error| format!("recovery failed: {error}"))
    }

    /// The engine forgets a turn that found no room: it is read from the store again, within the same claim.
    fn rebuild(&mut self, now: Now) -> Verdict {
        let Some(Process { engine, store }) = self.process.take() else { return Ok(()) };
        let (mut rebuilt, _) = self.recover(now, &store)?;
        rebuilt.succeed(&engine);
        rebuilt.assert_invariants();
        self.process = Some(Process { engine: rebuilt, store });
        Ok(())
    }

    /// A second engine on the same disk, without a claim: what a restart at this moment would make of it.
    pub(super) fn twin(&self, now: Now) -> Verdict<Twin> {
        let store = &self.process.as_ref().ok_or("a twin needs a running broker")?.store;
        let (engine, _) = self.recover(now, store)?;
        Ok(Twin { engine, reader: store.reader() })
    }

    /// Milliseconds until the engine wants a turn.
    pub(super) fn next_wake(&self, now: Now) -> Option<u64> {
        self.process.as_ref().and_then(|process| process.engine.next_wake(now))
    }

    /// A turn up to its commit, and what became of it.
    pub(super) fn turn(&mut self, now: Now, inputs: Vec<Input>, accident: Accident) -> Verdict<Round> {
        let Some(process) = &mut self.process else { return Err("a turn needs a running broker".into()) };
        let reader = process.store.reader();
        let mut turn = Turn::new(&reader, process.store.room());
        let mut answers = Vec::with_capacity(inputs.len());
        for input in inputs {
            let edits = turn.edits();
            let outcome = process.engine.handle(now, &mut turn, input.clone());
            wrote_only_if_taken(edits, turn.edits(), &input, &outcome)?;
            answers.push((input, outcome));
        }
        process.engine.fire(now, &mut turn);
        let finished = process
            .engine
            .finish(now, turn)
            .map_err(|error| format!("a turn could not be finished: {error}"))?;
        require!(
            !finished.effects.iter().any(|effect| matches!(effect, Effect::Deliver(_))),
            "a message was delivered by a turn that is not durable yet"
        );
        process.engine.assert_invariants();

        let end = commit(&mut process.store, &finished.batch, accident)?;
        match end {
            End::Answered => {}
            End::Refused => self.rebuild(now)?,
            End::AnsweredInPart | End::Unanswered | End::Lost => self.process = None,
        }
        Ok(Round { end, answers, batch: finished.batch, effects: finished.effects })
    }

    /// Leases for what is ready, after the commit.
    pub(super) fn deliver(&mut self, now: Now) -> Verdict<Vec<Effect>> {
        let Some(process) = &mut self.process else { return Err("delivering needs a running broker".into()) };
        let reader = process.store.reader();
        let effects =
            process.engine.deliver(now, &reader).map_err(|error| format!("delivering failed: {error}"))?;
        process.engine.assert_invariants();
        Ok(effects)
    }

    /// Asks the running engine.
    pub(super) fn inspect(&mut self, now: Now, question: Inspect) -> Verdict<Seen> {
        let Some(process) = &mut self.process else { return Err("asking needs a running broker".into()) };
        let reader = process.store.reader();
        ask(&mut process.engine, now, &reader, question)
    }

    /// Whether new messages are refused from now on.
    pub(super) fn set_room(&mut self, is_low: bool) {
        self.disk.refuse(is_low);
    }
}

/// See [`Broker::twin`].
pub(super) struct Twin {
    engine: Engine,
    reader: <MemStore as Store>::Reader,
}

impl Twin {
    pub(super) fn inspect(&mut self, now: Now, question: Inspect) -> Verdict<Seen> {
        ask(&mut self.engine, now, &self.reader, question)
    }
}

fn ask(
    engine: &mut Engine,
    now: Now,
    reader: &<MemStore as Store>::Reader,
    question: Inspect,
) -> Verdict<Seen> {
    let mut turn = Turn::new(reader, escrow_storage::Room::Enough);
    let asked = format!("{question:?}");
    let outcome = engine.handle(now, &mut turn, Input::Inspect(question));
    require!(turn.edits() == 0, "a question changed something: {asked}");
    match outcome {
        Ok(Reply::Seen(seen)) => Ok(seen),
        other => Err(format!("{asked} was answered with {other:?}")),
    }
}

/// A refused input has changed nothing; but a contradiction is counted.
fn wrote_only_if_taken(before: usize, after: usize, input: &Input, outcome: &Outcome) -> Verdict {
    let Err(refusal) = outcome else { return Ok(()) };
    let counted = refusal.reason == Reason::AlreadyDecided;
    require!(
        before == after || counted,
        "a refused input left {} edits\n    asked: {input:?}\n    answered: {outcome:?}",
        after - before
    );
    Ok(())
}

fn commit(store: &mut MemStore, batch: &Batch, accident: Accident) -> Verdict<End> {
    match accident {
        Accident::CrashBefore => return Ok(End::Lost),
        Accident::SyncFails(mode) => store.disk().fail_nth_io(1, mode.into()),
        Accident::Refused => store.disk().refuse_commits(true),
        Accident::None | Accident::CrashAfter | Accident::CrashAmid => {}
    }
    let outcome = store.commit(batch.clone());
    store.disk().fail_nth_io(0, FailMode::Lost);
    store.disk().refuse_commits(false);
    match (outcome, accident) {
        (Ok(_), Accident::CrashAfter) => Ok(End::Unanswered),
        (Ok(_), Accident::CrashAmid) => Ok(End::AnsweredInPart),
        (Ok(_), _) => Ok(End::Answered),
        (Err(CommitError::Failed(_)), Accident::SyncFails(FailModeHash::Kept)) => Ok(End::Unanswered),
        (Err(CommitError::Failed(_)), _) => Ok(End::Lost),
        (Err(CommitError::Refused(_)), _) => Ok(End::Refused),
        (Err(error), _) => Err(format!("a commit failed in an unforeseen way: {error}")),
    }
}

impl From<FailModeHash> for FailMode {
    fn from(mode: FailModeHash) -> Self {
        match mode {
            FailModeHash::Lost => Self::Lost,
            FailModeHash::Kept => Self::Kept,
        }
    }
}
