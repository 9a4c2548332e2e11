//! Topics.

use escrow_protocol::TopicName;

use super::{Operator, Page, Paged, Service, mismatch};
use crate::engine::{Command, Inspect, Refusal, Reply, Seen, TopicView};
use crate::records::TopicSettings;

impl Service {
    /// Makes a topic.
    ///
    /// # Errors
    /// `TopicExists`, `ReservedTopic`, `LimitReached`.
    pub async fn create_topic(
        &self,
        name: TopicName,
        settings: TopicSettings,
        operator: Operator,
    ) -> Result<TopicView, Refusal> {
        tracing::info!(topic = %name, operator = operator.logged_name(), reason = operator.logged_reason(), "topic created by hand");
        self.topic_command(operator, Command::CreateTopic { name, settings }).await
    }

    /// Changes how a topic keeps messages.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn update_topic(
        &self,
        name: TopicName,
        settings: TopicSettings,
        operator: Operator,
    ) -> Result<TopicView, Refusal> {
        tracing::info!(topic = %name, operator = operator.logged_name(), reason = operator.logged_reason(), "topic changed by hand");
        self.topic_command(operator, Command::UpdateTopic { name, settings }).await
    }

    /// Removes a topic; how many messages went with it.
    ///
    /// # Errors
    /// `UnknownTopic`, `InUse`, `ReservedTopic`.
    pub async fn delete_topic(
        &self,
        name: TopicName,
        force: bool,
        operator: Operator,
    ) -> Result<u64, Refusal> {
        tracing::info!(topic = %name, force, operator = operator.logged_name(), reason = operator.logged_reason(), "topic deleted by hand");
        match self.command(operator, Command::DeleteTopic { name, force }).await? {
            Reply::Count(messages) => Ok(messages),
            _ => Err(mismatch()),
        }
    }

    /// A topic.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn topic(&self, name: TopicName) -> Result<TopicView, Refusal> {
        match self.see(Inspect::Topic(name)).await? {
            Seen::Topic(topic) => Ok(topic),
            _ => Err(mismatch()),
        }
    }

    /// Topics by name.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list.
    pub async fn topics(
        &self,
        page: Page,
        prefix: String,
        dead_letter_topics: bool,
    ) -> Result<Paged<TopicView>, Refusal> {
        let after = page.after(|cursor| cursor.parse().ok())?;
        let question = Inspect::Topics { after, prefix, dead_letter_topics, limit: page.limit };
        match self.see(question).await? {
            Seen::Topics(topics) => Ok(Paged::of(topics, page.limit, |topic| topic.name.to_string())),
            _ => Err(mismatch()),
        }
    }

    async fn topic_command(&self, operator: Operator, command: Command) -> Result<TopicView, Refusal> {
        match self.command(operator, command).await? {
            Reply::Topic(topic) => Ok(topic),
            _ => Err(mismatch()),
        }
    }
}
