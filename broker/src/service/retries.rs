//! Messages that wait for their next attempt.

use escrow_protocol::{GroupName, MessageId, Offset, TopicName};

use super::pages::parse_pair;
use super::transactions::Labels;
use super::{Operator, Page, Paged, Service, mismatch};
use crate::dispatch::record;
use crate::engine::{Command, Inspect, Refusal, Seen};
use crate::records::{Retry, TopicNumber, keys};

/// A message that waits for its next attempt.
#[derive(Debug, Clone)]
pub struct RetryView {
    /// The group.
    pub group: GroupName,
    /// The topic; `None` if that is gone.
    pub topic: Option<TopicName>,
    /// Its place there.
    pub offset: Offset,
    /// Its record.
    pub record: Retry,
    /// Attempts that the group's policy allows.
    pub max_attempts: u32,
}

/// For each message, whether what was ordered could be done.
pub type RetryResults = Vec<(MessageId, Result<(), Refusal>)>;

impl Service {
    /// What a group will try again, the soonest first; what a consumer has at this moment comes before what waits.
    ///
    /// # Errors
    /// `UnknownGroup`; `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn retries(&self, group: GroupName, page: Page) -> Result<Paged<RetryView>, Refusal> {
        let after = page.after(parse_due)?;
        let max_attempts = self.group(group.clone()).await?.settings.retry.max_attempts;
        let limit = page.limit;
        let question = Inspect::Retries { group: group.clone(), after, limit };
        let Seen::Retries(number, places) = self.see(question).await? else { return Err(mismatch()) };
        let full = Paged::of(places, limit, |(due, (topic, offset))| format!("{due}.{}.{offset}", topic.0));
        self.read(move |view| {
            let mut labels = Labels::new(view);
            let mut items = Vec::with_capacity(full.items.len());
            for (_, (topic, offset)) in full.items {
                // Gone since the engine was asked: it is settled.
                let Some(found) = record::<Retry>(view, &keys::retry(topic, offset, number))? else {
                    continue;
                };
                let topic = labels.topic(topic)?;
                items.push(RetryView { group: group.clone(), topic, offset, record: found, max_attempts });
            }
            Ok(Paged { items, next: full.next })
        })
        .await
    }
}

impl Service {
    /// Has retries tried at once: for each message, whether that could be.
    ///
    /// # Errors
    /// `UnknownGroup`. For single messages `UnknownRetry`; `InUse` while a consumer has it.
    pub async fn run_retries(
        &self,
        group: GroupName,
        ids: Vec<MessageId>,
        operator: Operator,
    ) -> Result<RetryResults, Refusal> {
        tracing::info!(%group, messages = ids.len(), operator = operator.logged_name(), reason = operator.logged_reason(), "retries run by hand");
        self.each_retry(&group, ids, &operator, |group, id| Command::RunRetry { group, id }).await
    }

    /// Moves retries to the dead letters: for each message, whether that could be.
    ///
    /// # Errors
    /// `UnknownGroup`. For single messages `UnknownRetry`; `InUse` while a consumer has it.
    pub async fn give_up_retries(
        &self,
        group: GroupName,
        ids: Vec<MessageId>,
        operator: Operator,
    ) -> Result<RetryResults, Refusal> {
        tracing::info!(%group, messages = ids.len(), operator = operator.logged_name(), reason = operator.logged_reason(), "retries given up by hand");
        self.each_retry(&group, ids, &operator, |group, id| Command::GiveUpRetry { group, id }).await
    }

    async fn each_retry(
        &self,
        group: &GroupName,
        ids: Vec<MessageId>,
        operator: &Operator,
        order: impl Fn(GroupName, MessageId) -> Command,
    ) -> Result<RetryResults, Refusal> {
        // Refused as a whole, not message by message.
        self.group(group.clone()).await?;
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let done = self.command(operator.clone(), order(group.clone(), id)).await;
            results.push((id, done.map(|_| ())));
        }
        Ok(results)
    }
}

/// When it is due, a topic and an offset as a cursor.
fn parse_due(cursor: &str) -> Option<(u64, (TopicNumber, Offset))> {
    let (due, place) = cursor.split_once('.')?;
    Some((due.parse().ok()?, parse_place(place)?))
}

/// A topic and an offset as a cursor.
pub(super) fn parse_place(cursor: &str) -> Option<(TopicNumber, Offset)> {
    let (topic, offset) = parse_pair(cursor)?;
    Some((TopicNumber(u32::try_from(topic).ok()?), Offset(offset)))
}
