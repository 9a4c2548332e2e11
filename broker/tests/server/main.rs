//! The server from outside: a real broker in this process on ports of its own, raw clients, no sleeps.
#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of a test are tests")]

mod admin;
mod alarms;
mod edge;
mod harness;
mod http;
mod lists;
mod memory;
mod metrics_page;
mod repair;
mod sessions;
mod traces;
mod trouble;
