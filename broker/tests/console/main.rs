//! The HTTP port from outside: the API and the console of a real broker in this process, on a port of its own. No sleeps.
#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of a test are tests")]

mod actions;
mod alarms;
mod api;
mod conformance;
mod counted;
mod dead_letters;
#[allow(dead_code, unused_imports, reason = "the other suite uses the rest")]
#[path = "../server/harness/mod.rs"]
mod harness;
mod html;
mod orders;
mod pages;
mod scene;
mod web;
mod work;
