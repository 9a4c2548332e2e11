//! The Escrow broker, as a library. `ARCHITECTURE.md` has the map.

pub mod alarms;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
mod console;
mod csv;
pub mod dev;
pub mod dispatch;
pub mod driver;
pub mod engine;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod records;
mod retry_spec;
pub mod service;
pub mod telemetry;
