//! The simulator: the real engine, a store in memory, a fake clock, and clients, people and accidents drawn from a seed.
//! A model beside it says, more simply, what must hold; the first thing it cannot explain ends the run.
//!
//! One seed is one run, the same on every machine: no clock, no thread, no map without an order.
//!
//! | part | what it is |
//! |---|---|
//! | `plan` | what a seed stands for: who takes part, how they behave, what fails |
//! | `world`, `agenda`, `clock` | the run: events in order of time, turns of the broker |
//! | `broker` | the driver's part: turn, commit, deliver; crashes, failed syncs, restarts |
//! | `producers`, `consumers`, `persons` | those who ask |
//! | `model` | what must hold, from what was asked, answered, made durable and delivered |
//! | `drain`, `audit` | the end: everything arrived, nothing is left over, a restart changes nothing |
//!
//! # How one knows that it would notice
//! `escrow_broker::engine::sabotage::Fault` lists faults that can be planted in the engine; `tests/sabotage.rs` plants
//! each (with the feature `sabotage`) and fails if one goes unnoticed. Each takes five seeds at most.
//!
//! # Not covered
//! Damaged records, bounds of memory (topics, groups, sessions), changed tags of a subscription, bodies (the engine
//! never reads them), several shards.

mod agenda;
mod audit;
mod broker;
mod chance;
mod clock;
mod consumers;
mod drain;
mod model;
mod persons;
mod plan;
mod producers;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use model::Tally;
use model::Verdict;
use world::World;
pub use world::{Moment, Strike};

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Stands for all that happened: equal seeds, equal digests.
    pub digest: u64,
    /// How much happened.
    pub tally: Tally,
    /// Turns the broker took.
    pub turns: u64,
    /// What was broken, if something was.
    pub fault: Option<String>,
    /// The last events, if the run was made to be read.
    pub trace: String,
}

/// Runs `seed`; with `readable`, keeps the last events as text.
pub fn run(seed: u64, readable: bool) -> Report {
    report(seed, World::new(seed, readable))
}

/// Runs the beginning of `seed`, with `strike` as its one accident. Runs of one seed are alike up to their strike.
pub fn drill(seed: u64, readable: bool, strike: Strike) -> Report {
    report(seed, World::drill(seed, readable, strike))
}

fn report(seed: u64, mut world: World) -> Report {
    let verdict = catch_unwind(AssertUnwindSafe(|| whole_run(&mut world)));
    let fault = match verdict {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(fault),
        Err(panic) => Some(format!("the engine (or the simulator) panicked: {}", text_of(panic.as_ref()))),
    };
    Report {
        seed,
        digest: world.trace.digest(),
        tally: world.model.tally,
        turns: world.turns,
        fault,
        trace: world.trace.text(),
    }
}

fn whole_run(world: &mut World) -> Verdict {
    world.begin();
    world.run_until(world.plan.busy_ms)?;
    world.drain()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => panic.downcast_ref::<&str>().map_or("without a word", |text| text).to_owned(),
    }
}

/// The one command that replays `seed`.
pub fn replay_command(seed: u64) -> String {
    format!("ESCROW_SIM_SEED={seed} cargo test -p escrow-tests --test simulator -- replay --nocapture")
}

/// What to tell of a failed seed: the fault, the command, and the last events of a second, readable run.
pub fn story_of(seed: u64) -> String {
    let report = run(seed, true);
    let fault =
        report.fault.as_deref().unwrap_or("nothing was broken this time: the run is not deterministic");
    format!("seed {seed}: {fault}\n\nlast events:\n{}\nreplay: {}\n", report.trace, replay_command(seed))
}
