//! The audit: each operation by a person that was carried out has its entry in the batch that carried it out, and nothing
//! else has one; entries are never changed.

use escrow_broker::engine::{Cancelled, Input, Moved, Now, Outcome, Reply};
use escrow_broker::records::keys::{self, space};
use escrow_broker::records::{AuditEntry, AuditVerb, Decision, Record as _, Role};
use escrow_storage::Batch;

use super::{Model, Verdict, require};

impl Model {
    pub(super) fn take_audit(&mut self, now: Now, answers: &[(Input, Outcome)], batch: &Batch) -> Verdict {
        let operations: Vec<_> =
            answers.iter().filter_map(|(input, outcome)| operation_of(input, outcome)).collect();
        let mut entries = Vec::new();
        for (key, edit) in batch.iter().filter(|(key, _)| key.first() == Some(&space::AUDIT)) {
            let Some(value) = edit.value() else { continue };
            let number = keys::audit_of(key).ok_or("an audit entry has no number")?;
            require!(number == self.audited + 1, "audit entry {number} follows {}", self.audited);
            self.audited = number;
            let entry = AuditEntry::decode(value.clone()).map_err(|error| error.to_string())?;
            require!(
                entry.at_ms == now.unix_ms && !entry.name.is_empty(),
                "{entry:?} says nobody, or another time"
            );
            entries.push((entry.verb, entry.target));
        }
        require!(entries == operations, "the audit has {entries:?}, done by hand was {operations:?}");
        Ok(())
    }
}

/// What a person did, if it was done.
fn operation_of(input: &Input, outcome: &Outcome) -> Option<(AuditVerb, String)> {
    match (input, outcome.as_ref().ok()?) {
        (Input::Command(..), Reply::Cancelled(Cancelled::TooLate | Cancelled::NotKnown)) => None,
        (Input::Command(..), Reply::Moved(Moved::TooLate | Moved::NotKnown)) => None,
        (Input::Command(_, command), _) => command.audited(),
        (Input::Decide(decide), Reply::Decided { duplicate: false, .. }) if decide.role == Role::Person => {
            let verb = match decide.decision {
                Decision::Commit => AuditVerb::TransactionCommit,
                Decision::Rollback => AuditVerb::TransactionRollback,
            };
            Some((verb, decide.transaction.to_string()))
        }
        _ => None,
    }
}
