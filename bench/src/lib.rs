//! The load generator behind `escrow bench publish|tx|consume`.
//!
//! Closed loop for throughput (a number of operations outstanding), open loop for latency (a rate, counted from the
//! intended time). Every message carries a stamp, and what was sent is compared with what is received. Quote CPU per
//! operation beside every throughput, and look at `device_flushes`: a durable figure without any is void.

mod clock;
mod error;
mod load;
mod loads;
mod meter;
mod options;
mod pacer;
mod process;
mod progress;
mod readings;
mod receive;
mod report;
mod run;
mod site;
mod stamp;

pub use error::Error;
pub use options::{Arguments, Options, Scenario};
pub use report::{BrokerCost, Latency, Phase, Progress, Report, Verification};
pub use run::run;
