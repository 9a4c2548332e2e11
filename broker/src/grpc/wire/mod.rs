//! Between the wire and the broker's own types, one file for each noun: what comes in is checked here and nowhere else,
//! and carries the proof inward in its type.

pub mod admin;
pub mod consumer;
pub mod fields;
pub mod group;
pub mod message;
pub mod results;
pub mod transaction;
