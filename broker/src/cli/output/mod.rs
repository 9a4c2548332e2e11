//! What the verbs print: one struct of serde feeds tables for people, tab-separated lines for pipes, and JSON.

mod cell;
mod printer;
mod view;

pub(crate) use cell::{Bytes, Cell, Count, Ms, Shown, Time, counted};
pub(crate) use printer::{Format, Printer, label};
pub(crate) use view::view;
pub(crate) use view::{Column, View};
