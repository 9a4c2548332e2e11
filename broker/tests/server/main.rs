//! The server from outside: a real broker in this process on ports of its own, raw clients, no sleeps.

mod admin;
mod edge;
mod harness;
mod http;
mod sessions;
mod trouble;
