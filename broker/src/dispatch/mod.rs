//! From effects to what a session sends: the outboxes of the live sessions, and the reading of bodies. Everything here
//! happens after the commit that justifies it.

mod allowance;
mod loader;
mod outbox;
mod post;
mod readers;
mod sessions;

pub use allowance::{Ahead, Allowance, Permit, Share};
pub use loader::{Loaded, LoadedDelivery, LoadedQuestion, Loader, decode, record};
pub use outbox::{COMMANDS_UNDER_WAY_MAX, Closing, OUTBOX_ENTRIES_MAX, Outbox, Parcel, Ticket};
pub use post::{ReplyTo, post};
pub use sessions::Sessions;
