//! Between the wire and the broker's own types, one file for each noun: what comes in is checked here and nowhere else,
//! and carries the proof inward in its type.

pub(super) mod admin;
pub(super) mod alarm;
pub(super) mod consumer;
pub(super) mod fields;
pub(super) mod group;
pub(super) mod message;
pub(super) mod results;
pub(super) mod transaction;
