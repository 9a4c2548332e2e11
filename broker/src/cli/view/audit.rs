//! An operation by hand.

use escrow_protocol::v1;

use crate::cli::output::{Time, view};

view! {
    /// An operation by hand.
    AuditView {
        /// Its number.
        number: u64 = "NUMBER",
        /// When.
        at: Time = "AT",
        /// Who.
        name: String = "WHO",
        /// What.
        verb: String = "WHAT",
        /// On what.
        target: String = "ON",
        /// Why.
        reason: String = "WHY",
        /// How it stood before.
        before: String = "BEFORE",
        /// How it stands since.
        after: String = "AFTER",
    }
}

impl From<v1::AuditEntry> for AuditView {
    fn from(entry: v1::AuditEntry) -> Self {
        Self {
            number: entry.number,
            at: Time(entry.at_ms),
            name: entry.name,
            verb: entry.verb,
            target: entry.target,
            reason: entry.reason,
            before: entry.before,
            after: entry.after,
        }
    }
}
