//! Groups: made, changed, paused, moved.

use escrow_protocol::{GroupName, Offset, TopicName};

use super::{Operator, Page, Paged, Service, mismatch};
use crate::engine::{Command, GroupView, Holding, Inspect, Refusal, Reply, SeekTo, Seen};

/// What a seek did (or would do).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sought {
    /// The floor before,
    pub from: Offset,
    /// and after.
    pub to: Offset,
    /// Messages that will be delivered again.
    pub replayed: u64,
    /// Messages that never will.
    pub skipped: u64,
}

impl Service {
    /// Makes or changes a group: `CreateGroup`, `UpdateGroup` or `SetPaused`.
    ///
    /// # Errors
    /// `GroupExists`, `UnknownGroup`, `UnknownTopic`, `SubscriptionMismatch`, `LimitReached`.
    pub async fn change_group(&self, command: Command, operator: Operator) -> Result<GroupView, Refusal> {
        let is_new = matches!(command, Command::CreateGroup { .. });
        let Reply::Group(group) = self.command(operator.clone(), command).await? else {
            return Err(mismatch());
        };
        if is_new {
            tracing::info!(group = %group.name, operator = operator.logged_name(), reason = operator.logged_reason(), "group created by hand");
        } else {
            tracing::info!(
                group = %group.name,
                paused = group.paused,
                operator = operator.logged_name(),
                reason = operator.logged_reason(),
                "group changed by hand"
            );
        }
        Ok(group)
    }

    /// Removes a group; how many retries and dead letters went with it.
    ///
    /// # Errors
    /// `UnknownGroup`, `InUse`.
    pub async fn delete_group(
        &self,
        name: GroupName,
        force: bool,
        operator: Operator,
    ) -> Result<(u64, u64), Refusal> {
        tracing::info!(group = %name, force, operator = operator.logged_name(), reason = operator.logged_reason(), "group deleted by hand");
        match self.command(operator, Command::DeleteGroup { name, force }).await? {
            Reply::GroupDeleted { retries, dead_letters } => Ok((retries, dead_letters)),
            _ => Err(mismatch()),
        }
    }

    /// A group.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub async fn group(&self, name: GroupName) -> Result<GroupView, Refusal> {
        match self.see(Inspect::Group(name)).await? {
            Seen::Group(group) => Ok(group),
            _ => Err(mismatch()),
        }
    }

    /// Groups by name.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list.
    pub async fn groups(&self, page: Page, prefix: String) -> Result<Paged<GroupView>, Refusal> {
        let after = page.after(|cursor| cursor.parse().ok())?;
        match self.see(Inspect::Groups { after, prefix, limit: page.limit }).await? {
            Seen::Groups(groups) => Ok(Paged::of(groups, page.limit, |group| group.name.to_string())),
            _ => Err(mismatch()),
        }
    }

    /// The groups that have some of these, those with the most first.
    ///
    /// # Errors
    /// If the broker is overloaded or stopping.
    pub async fn groups_holding(
        &self,
        what: Holding,
        limit: usize,
    ) -> Result<Vec<(GroupName, u64)>, Refusal> {
        match self.see(Inspect::Holding { what, limit }).await? {
            Seen::Holding(groups) => Ok(groups),
            _ => Err(mismatch()),
        }
    }

    /// Moves a group in one topic.
    ///
    /// # Errors
    /// `UnknownGroup`, `UnknownSubscription`, `OffsetOutOfRange`.
    pub async fn seek(
        &self,
        group: GroupName,
        topic: TopicName,
        to: SeekTo,
        dry_run: bool,
        operator: Operator,
    ) -> Result<Sought, Refusal> {
        tracing::info!(%group, %topic, ?to, dry_run, operator = operator.logged_name(), reason = operator.logged_reason(), "group moved by hand");
        match self.command(operator, Command::Seek { group, topic, to, dry_run }).await? {
            Reply::Sought { from, to, replayed, skipped } => Ok(Sought { from, to, replayed, skipped }),
            _ => Err(mismatch()),
        }
    }
}
