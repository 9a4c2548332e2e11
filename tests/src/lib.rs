//! What the suites of Escrow share: the simulator, and what starts, loads and kills real brokers.

pub mod fuzz;
pub mod rig;
pub mod simulator;
