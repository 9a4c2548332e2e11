//! Messages that wait for their next attempt.

use escrow_protocol::{GroupName, Offset, TopicName};

use super::pages::{pair_cursor, parse_pair};
use super::transactions::Labels;
use super::{Page, Paged, Service, mismatch};
use crate::dispatch::record;
use crate::engine::{Inspect, Refusal, Seen};
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

impl Service {
    /// What a group will try again, by place.
    ///
    /// # Errors
    /// `UnknownGroup`; `InvalidField` for a cursor of another list; `Damaged`.
    pub async fn retries(&self, group: GroupName, page: Page) -> Result<Paged<RetryView>, Refusal> {
        let after = page.after(parse_place)?;
        let max_attempts = self.group(group.clone()).await?.settings.retry.max_attempts;
        let limit = page.limit;
        let question = Inspect::Retries { group: group.clone(), after, limit };
        let Seen::Retries(number, places) = self.see(question).await? else { return Err(mismatch()) };
        let full = Paged::of(places, limit, |(topic, offset)| pair_cursor(topic.0.into(), offset.0));
        self.read(move |view| {
            let mut labels = Labels::new(view);
            let mut items = Vec::with_capacity(full.items.len());
            for (topic, offset) in full.items {
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

/// A topic and an offset as a cursor.
pub(super) fn parse_place(cursor: &str) -> Option<(TopicNumber, Offset)> {
    let (topic, offset) = parse_pair(cursor)?;
    Some((TopicNumber(u32::try_from(topic).ok()?), Offset(offset)))
}
