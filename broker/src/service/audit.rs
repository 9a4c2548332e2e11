//! The audit: what was done by hand, newest first.

use escrow_storage::{KeyRange, Read, ReadError};

use escrow_protocol::Reason;

use super::{Operator, Page, Paged, Service};
use crate::dispatch::decode;
use crate::engine::{Command, Refusal};
use crate::records::keys::{self, space};
use crate::records::{AuditEntry, AuditVerb};

/// Entries that one page of a filtered list looks at, at most: a page may be short and still have a next.
const EXAMINED_MAX: usize = 5_000;
/// Entries read at a time.
const CHUNK: usize = 250;

/// Which operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this person.
    pub name: Option<String>,
    /// This operation.
    pub verb: Option<AuditVerb>,
    /// On a name or id that has this in it.
    pub target: Option<String>,
    /// At or after, Unix milliseconds; 0: no bound.
    pub from_ms: u64,
    /// Before, Unix milliseconds; 0: no bound.
    pub until_ms: u64,
}

impl AuditFilter {
    fn admits(&self, entry: &AuditEntry) -> bool {
        self.name.as_deref().is_none_or(|name| name == entry.name)
            && self.verb.is_none_or(|verb| verb == entry.verb)
            && self.target.as_deref().is_none_or(|target| entry.target.contains(target))
            && (self.from_ms == 0 || entry.at_ms >= self.from_ms)
            && (self.until_ms == 0 || entry.at_ms < self.until_ms)
    }
}

/// An operation by hand, with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditView {
    /// Its number: they rise by one.
    pub number: u64,
    /// What was done.
    pub entry: AuditEntry,
}

impl Service {
    /// Writes into the audit what a person did outside the engine, which changes nothing there. Where the disk has no room it
    /// is only logged: a backup must be possible then, too.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub(super) async fn attest(
        &self,
        operator: Operator,
        verb: AuditVerb,
        target: String,
        outcome: String,
    ) -> Result<(), Refusal> {
        let (name, reason) = (operator.logged_name(), operator.logged_reason());
        tracing::info!(verb = verb.as_str(), target, outcome, operator = name, reason, "done by hand");
        match self.command(operator, Command::Attest { verb, target, outcome }).await {
            Err(refusal) if refusal.reason == Reason::DiskFull => {
                tracing::warn!(verb = verb.as_str(), %refusal, "not in the audit");
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// A page of what was done by hand, newest first.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn audit(&self, filter: AuditFilter, page: Page) -> Result<Paged<AuditView>, Refusal> {
        let before = page.after(|cursor| cursor.parse::<u64>().ok())?;
        self.read(move |view| list(view, &filter, before, page.limit)).await
    }
}

fn list(
    view: &dyn Read,
    filter: &AuditFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<Paged<AuditView>, ReadError> {
    let all = keys::all(space::AUDIT);
    let mut end = before.map_or(all.end, keys::audit);
    let mut items = Vec::new();
    let (mut examined, mut last) = (0, before);
    while examined < EXAMINED_MAX {
        // A page at first: only where most do not match, more at once are worth it.
        let chunk = if examined == 0 { limit.min(CHUNK) } else { CHUNK };
        let entries = view.scan_back(&KeyRange::new(all.start.clone(), end), chunk)?;
        let exhausted = entries.len() < chunk;
        for (key, value) in entries {
            examined += 1;
            let Some(number) = keys::audit_of(&key) else { continue };
            last = Some(number);
            let entry: AuditEntry = decode(&key, value)?;
            if filter.admits(&entry) {
                items.push(AuditView { number, entry });
            }
            if items.len() == limit {
                return Ok(Paged { items, next: Some(number.to_string()) });
            }
        }
        if exhausted {
            return Ok(Paged { items, next: None });
        }
        end = keys::audit(last.unwrap_or(0));
    }
    Ok(Paged { items, next: last.map(|number| number.to_string()) })
}
