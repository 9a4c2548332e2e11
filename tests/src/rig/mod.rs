//! The crash rig: a real broker process under a mixed load, killed and started again, and a checker over what its
//! clients saw. What the broker answered must be true after every kill; what it did not answer may be either way, but
//! the same way for everybody.

mod cgroup;
mod command;
mod exhibit;
mod filesystem;
mod history;
pub mod http;
mod load;
mod process;
mod proxy;
mod readout;
mod stories;
mod trials;
mod unary;
pub mod wire;

pub use cgroup::MemoryBound;
pub use command::{Ran, commands_in, escrow, fresh};
pub use exhibit::{Exhibit, Fate, GROUPS as EXHIBIT_GROUPS, Sent, exhibit_settings};
pub use filesystem::{Kind, Mounted, Scratch, Shelf};
pub use history::{Answer, Choice, Decision, Delivered, Event, History, Operation, Reader, Verb, Verdicts};
pub use load::{Load, PREFETCH, Plan, Reach};
pub use process::{BrokerProcess, Ports, restore, verify};
pub use proxy::{Proxy, Toward, Weather};
pub use readout::{Content, Readout};
pub use stories::{FORGETFUL, forgotten_stories};
pub use trials::{Trials, number_from};
pub use unary::{Unary, is_refused_for_room};
