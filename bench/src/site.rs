//! Where a run takes place: its topic and group, made before and, if they are its own, removed after.

use escrow::{Client, v1};

use crate::clock;
use crate::error::Error;
use crate::options::Options;

/// The topic and the group of one run.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) topic: String,
    pub(crate) group: String,
    own_topic: bool,
}

impl Site {
    /// Makes them. The group is new and behind everything that is there, so that it receives exactly this run.
    pub(crate) async fn prepare(client: &Client, options: &Options) -> Result<Self, Error> {
        let suffix = clock::suffix();
        let site = Self {
            topic: options.topic.clone().unwrap_or_else(|| format!("bench-{suffix}")),
            group: format!("bench-{suffix}"),
            own_topic: options.topic.is_none(),
        };
        let mut admin = client.admin();
        admin.ensure_topic(&site.topic).await.map_err(Error::broker("make its topic"))?;
        let subscription = v1::Subscription { topic: site.topic.clone(), tags: Vec::new() };
        let request = v1::CreateGroupRequest {
            name: site.group.clone(),
            subscriptions: vec![subscription],
            start: v1::StartPosition::Newest.into(),
            ..v1::CreateGroupRequest::default()
        };
        admin.create_group(request).await.map_err(Error::call("make its group"))?;
        Ok(site)
    }

    /// Removes them.
    pub(crate) async fn clear(self, client: &Client) -> Result<(), Error> {
        let operator = Some(v1::Operator { name: "escrow-bench".into(), reason: "the run is over".into() });
        let mut admin = client.admin();
        let group = v1::DeleteGroupRequest { name: self.group, force: true, operator: operator.clone() };
        admin.delete_group(group).await.map_err(Error::call("remove its group"))?;
        if self.own_topic {
            let topic = v1::DeleteTopicRequest { name: self.topic, force: true, operator };
            admin.delete_topic(topic).await.map_err(Error::call("remove its topic"))?;
        }
        Ok(())
    }
}
