//! The scenarios that are more than a load or a backlog.

mod backlog;
mod due;
mod restart;
mod steady;
mod undecided;
