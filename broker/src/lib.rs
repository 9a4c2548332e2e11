//! The Escrow broker, as a library. `ARCHITECTURE.md` has the map.

pub mod config;
pub mod engine;
pub mod records;
