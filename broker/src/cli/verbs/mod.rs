//! The verbs, a file for each noun: what they take, and what they do.

pub(crate) mod alarms;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod dlq;
pub(crate) mod group;
pub(crate) mod jobs;
pub(crate) mod man;
pub(crate) mod msg;
pub(crate) mod publish;
pub(crate) mod retry;
pub(crate) mod scheduled;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod subscribe;
pub(crate) mod top;
pub(crate) mod topic;
pub(crate) mod tx;

mod peek;
mod subscription;
