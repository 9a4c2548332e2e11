//! Where a run takes place: its topics and groups, made before and, if they are its own, removed after.

use std::ops::Range;

use escrow::{Client, v1};

use crate::clock;
use crate::error::Error;
use crate::load::Fates;
use crate::options::Options;
use crate::spawn::Broker;

/// Topics of one group, at most: a bound of the broker.
const TOPICS_OF_GROUP_MAX: usize = 250;

/// A group, and the topics it gets the messages of.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    topics: Range<usize>,
}

/// The topics and the groups of one run. Each group gets the messages of all topics; where they are too many for one,
/// it is several groups with a part each.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) topics: Vec<String>,
    pub(crate) groups: Vec<Group>,
    /// What the producers call themselves.
    pub(crate) producer_group: String,
    own_topics: bool,
    /// Nothing was made, or all goes with the broker.
    leave: bool,
}

impl Site {
    /// Makes them. The groups are new and behind everything that is there, so that they receive exactly this run.
    pub(crate) async fn prepare(client: &Client, options: &Options, broker: &Broker) -> Result<Self, Error> {
        let suffix = clock::suffix();
        let topics = match (&options.topic, options.topics) {
            (Some(topic), _) => vec![topic.clone()],
            (None, 1) => vec![format!("bench-{suffix}")],
            (None, count) => (0..count).map(|number| format!("bench-{suffix}-{number}")).collect(),
        };
        let topics_count = topics.len();
        let parts = (0..topics_count).step_by(TOPICS_OF_GROUP_MAX);
        let parts = parts.map(|from| from..topics_count.min(from + TOPICS_OF_GROUP_MAX));
        let whole = (0..options.groups).flat_map(|_| parts.clone());
        let name = |number| format!("bench-{suffix}-{number}");
        let groups = whole.zip(0..).map(|(topics, number): (_, usize)| Group { name: name(number), topics });
        let groups = groups.collect();
        let site = Self {
            topics,
            groups,
            producer_group: format!("bench-{suffix}"),
            own_topics: options.topic.is_none(),
            leave: broker.is_own() || broker.is_null,
        };
        if !broker.is_null {
            site.make(client).await?;
        }
        Ok(site)
    }

    async fn make(&self, client: &Client) -> Result<(), Error> {
        let mut admin = client.admin();
        for topic in &self.topics {
            admin.ensure_topic(topic).await.map_err(Error::broker("make its topic"))?;
        }
        for group in &self.groups {
            let topics = self.topics[group.topics.clone()].iter();
            let request = v1::CreateGroupRequest {
                name: group.name.clone(),
                subscriptions: topics
                    .map(|topic| v1::Subscription { topic: topic.clone(), tags: Vec::new() })
                    .collect(),
                start: v1::StartPosition::Newest.into(),
                operator: Some(v1::Operator { name: "escrow-bench".into(), reason: String::new() }),
                ..v1::CreateGroupRequest::default()
            };
            admin.create_group(request).await.map_err(Error::call("make its group"))?;
        }
        Ok(())
    }

    /// Of what was sent, what that group gets.
    pub(crate) fn share_of(&self, group: &Group, fates: &Fates) -> Fates {
        let topics = self.topics.len() as u64;
        fates.only(|number| group.topics.contains(&((number % topics) as usize)))
    }

    /// The topic of the message with that number.
    pub(crate) fn topic_of(&self, number: u64) -> &str {
        // No more topics than fit into memory.
        &self.topics[(number % self.topics.len() as u64) as usize]
    }

    /// Removes them.
    pub(crate) async fn clear(&self, client: &Client) -> Result<(), Error> {
        if self.leave {
            return Ok(());
        }
        let operator = Some(v1::Operator { name: "escrow-bench".into(), reason: "the run is over".into() });
        let mut admin = client.admin();
        for group in &self.groups {
            let request =
                v1::DeleteGroupRequest { name: group.name.clone(), force: true, operator: operator.clone() };
            admin.delete_group(request).await.map_err(Error::call("remove its group"))?;
        }
        for name in self.topics.iter().filter(|_| self.own_topics) {
            let request =
                v1::DeleteTopicRequest { name: name.clone(), force: true, operator: operator.clone() };
            admin.delete_topic(request).await.map_err(Error::call("remove its topic"))?;
        }
        Ok(())
    }
}
