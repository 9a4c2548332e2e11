//! The load generator behind `escrow bench`.
//!
//! Closed loop for throughput (a number of operations outstanding), open loop for latency (a rate, counted from the
//! intended time). Every message carries a stamp, and what was sent is compared with what is received: speed without
//! correctness is no result. Quote CPU per operation beside every throughput, and look at `device_flushes`: a durable
//! figure without any is void.

mod arguments;
mod clock;
mod commits;
pub mod comparison;
mod details;
mod error;
mod load;
mod loads;
mod meter;
mod null;
mod options;
mod order;
mod pacer;
mod process;
mod progress;
mod readings;
mod receive;
mod report;
mod roofline;
mod run;
mod scenarios;
mod site;
mod spawn;
mod stamp;

pub use arguments::Arguments;
pub use details::{Backlog, Curve, CurvePoint, Details, Due, Restart, Stage, Steady, Undecided};
pub use error::Error;
pub use null::{NullArguments, null_server};
pub use options::{Options, Scenario, Source, Spawn};
pub use report::{
    BrokerCost, CpuSeconds, Intervals, Latency, Phase, Progress, Report, RssBytes, Verification,
};
pub use roofline::Roofline;
pub use run::run;
