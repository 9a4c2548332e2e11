//! The engine: all of the product's promises, and nothing else.
//!
//! Pure: inputs, the time and a view of the store go in; answers, edits and effects come out. No I/O, no clock, no
//! chance but the seed it is given, no threads, no tokio, no sled. The same inputs give the same outcome.
//!
//! A turn: [`Turn::new`], [`Engine::handle`] for each input, [`Engine::fire`] for what is due, [`Engine::finish`]; then
//! the caller commits the batch, and only when it is durable lets answers and effects out; then [`Engine::deliver`].

mod effect;
mod input;
mod refusal;
mod settings;
mod time;
mod turn;

pub use effect::*;
pub use input::*;
pub use refusal::Refusal;
pub use settings::*;
pub use time::Now;
pub use turn::{Finished, Turn};

use escrow_protocol::ShardId;
use escrow_storage::{Epoch, Read, ReadError};

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
    settings: Settings,
}

impl Engine {
    /// The engine as the store says it was. Writes nothing.
    ///
    /// # Errors
    /// If the store fails. Damaged records are reported, not an error.
    pub fn recover(boot: Boot, now: Now, view: &dyn Read) -> Result<(Self, Recovered), ReadError> {
        let _ = (now, view);
        Ok((Self { settings: boot.settings }, Recovered::default()))
    }

    /// One thing that happened. A refused input has changed nothing.
    pub fn handle(&mut self, now: Now, turn: &mut Turn<'_>, input: Input) -> Outcome {
        let _ = (now, turn, input, &self.settings);
        unreachable!("being written")
    }

    /// What is due: checks, retries, leases, schedules, removals; bounded, see [`Engine::next_wake`].
    pub fn fire(&mut self, now: Now, turn: &mut Turn<'_>) {
        let _ = (now, turn);
    }

    /// Ends the turn: the batch to commit, and what may go out once it is durable.
    ///
    /// # Errors
    /// If the store failed during the turn: nothing of it may be committed or answered, the process must stop.
    pub fn finish(&mut self, now: Now, turn: Turn<'_>) -> Result<Finished, ReadError> {
        let _ = now;
        turn.into_finished()
    }

    /// Leases for what is ready and wanted, at most `limits.deliveries_per_turn_max`. Call it after the commit of the
    /// turn, with a view that sees that commit. Writes nothing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn deliver(&mut self, now: Now, view: &dyn Read) -> Result<Vec<Effect>, ReadError> {
        let _ = (now, view);
        Ok(Vec::new())
    }

    /// Milliseconds until there is something to do without an input; 0: at once. `None`: nothing is planned.
    pub fn next_wake(&self, now: Now) -> Option<u64> {
        let _ = now;
        None
    }

    /// Asserts every invariant that can be seen in memory: the simulator calls it after each turn.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn assert_invariants(&self) {}
}
