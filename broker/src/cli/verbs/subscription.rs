//! `TOPIC` or `TOPIC=TAG,TAG`: what a group listens to, as it is written on the command line.

use std::str::FromStr;

use escrow_protocol::{Tag, TopicName, v1};

/// A topic with the tags that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicAndTags {
    /// The topic.
    pub(crate) topic: String,
    /// None: all messages.
    pub(crate) tags: Vec<String>,
}

impl FromStr for TopicAndTags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, tags) = text.split_once('=').unwrap_or((text, ""));
        TopicName::new(topic).map_err(|error| error.to_string())?;
        let tags: Vec<String> = tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        tags.iter().try_for_each(|tag| Tag::new(tag).map(drop)).map_err(|error| error.to_string())?;
        Ok(Self { topic: topic.to_owned(), tags })
    }
}

impl From<TopicAndTags> for v1::Subscription {
    fn from(wanted: TopicAndTags) -> Self {
        Self { topic: wanted.topic, tags: wanted.tags }
    }
}

/// Where a group starts: `oldest`, `newest`, a time, or a duration ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartAt {
    /// At the oldest message kept.
    Oldest,
    /// Behind the newest.
    Newest,
    /// At this time, Unix milliseconds.
    Time(i64),
}

impl FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            _ => crate::cli::clock::past_ms(text)
                .map(Self::Time)
                .map_err(|fault| format!("{fault}; or oldest, or newest")),
        }
    }
}

impl StartAt {
    /// Its form on the wire: the position, and the time that goes with it.
    pub(crate) fn to_wire(self) -> (i32, i64) {
        match self {
            Self::Oldest => (v1::StartPosition::Oldest.into(), 0),
            Self::Newest => (v1::StartPosition::Newest.into(), 0),
            Self::Time(ms) => (v1::StartPosition::FromTime.into(), ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_with_their_tags() {
        let read = |text: &str| text.parse::<TopicAndTags>().map(|wanted| (wanted.topic, wanted.tags));
        assert_eq!(read("order-paid"), Ok(("order-paid".to_owned(), vec![])));
        assert_eq!(read("orders=eu,us"), Ok(("orders".to_owned(), vec!["eu".to_owned(), "us".to_owned()])));
        assert!(read("no good").is_err());
        assert!(read("orders=no good").is_err());
    }

    #[test]
    fn starts_are_read() {
        assert_eq!("oldest".parse(), Ok(StartAt::Oldest));
        assert_eq!("newest".parse(), Ok(StartAt::Newest));
        assert_eq!("2023-11-14T22:13:20Z".parse(), Ok(StartAt::Time(1_700_000_000_000)));
        assert!("sometime".parse::<StartAt>().is_err());
    }
}
