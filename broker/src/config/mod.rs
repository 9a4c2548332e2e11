//! The configuration: what can be set, where values come from, and what is wrong with them.
//!
//! Defaults, then a TOML file, then the environment, then `--set` flags; the later wins. One table ([`keys`]) drives
//! reading, checking and printing. Whoever holds a [`Config`] holds one that was checked, as a whole.

mod alarms;
mod fault;
mod keys;
mod nearest;
mod print;
mod rules;
mod section;
mod shape;
mod sources;
mod units;

pub use fault::{Fault, Faults, Source};
pub use nearest::nearest;
pub use print::print_defaults;
pub use section::{
    CONNECTIONS_MAX_DEFAULT, Choice, Config, DeliverySection, GroupsSection, GrpcSection, HttpSection,
    LimitsSection, LogFormat, LogSection, MetricsSection, RetrySection, RetryStrategy, StoreSection,
    TelemetrySection,
};
pub use sources::Sources;
pub use units::{
    DurationText, PermilleText, SizeText, UnitError, parse_duration_ms, parse_permille, parse_size,
};

#[cfg(test)]
mod tests;
