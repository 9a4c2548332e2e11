//! A dead letter.

use escrow_protocol::v1;

use super::message::MessageView;
use super::message_id;
use super::retry::AttemptView;
use crate::cli::output::{Count, Time, view};

view! {
    /// A message that ended in the dead letters of a group.
    DeadLetterView {
        /// The group that failed.
        group: String = "GROUP",
        /// Its place in the group's dead letters.
        offset: u64 = "OFFSET",
        /// Its id.
        message_id: String = "MESSAGE",
        /// Its business key.
        key: String = "KEY",
        /// Why it is here.
        cause: String = "CAUSE",
        /// The last error.
        error: String = "ERROR",
        /// When it came here.
        died_at: Time = "DIED AT",
        /// Where it came from.
        origin_topic: String = "FROM",
        /// Its place there.
        origin_offset: u64 = _,
        /// Attempts in all.
        attempts_made: u32 = "ATTEMPTS",
        /// How often it was sent again.
        redrives: u32 = "REDRIVES",
        /// The message. In lists without its body.
        message: Option<MessageView> = _,
        /// The last attempts.
        attempts: Vec<AttemptView> = _,
    }
}

view! {
    /// A value that dead letters have in common, and how many have it.
    FacetView {
        /// What it is a value of: `cause` or `topic`, as the filters of `escrow dlq ls` are named.
        of: &'static str = "OF",
        /// The value.
        value: String = "VALUE",
        /// How many.
        dead_letters: Count = "DEAD LETTERS",
    }
}

impl FacetView {
    /// The causes, then the topics; in each the most first.
    pub(crate) fn list(facets: v1::DeadLetterFacets) -> Vec<Self> {
        let of = |name, facets: Vec<v1::DeadLetterFacet>| {
            let view = move |facet: v1::DeadLetterFacet| Self {
                of: name,
                value: facet.value,
                dead_letters: Count(facet.count),
            };
            let mut views: Vec<_> = facets.into_iter().map(view).collect();
            views.sort_by_key(|view| std::cmp::Reverse(view.dead_letters.0));
            views
        };
        [of("cause", facets.reasons), of("topic", facets.topics)].concat()
    }
}

impl From<v1::DeadLetter> for DeadLetterView {
    fn from(dead: v1::DeadLetter) -> Self {
        let origin = dead.origin.unwrap_or_default();
        let message = dead.message;
        Self {
            group: dead.group,
            offset: dead.offset,
            message_id: message.as_ref().map(|message| message_id(&message.id)).unwrap_or_default(),
            key: message.as_ref().map(|message| message.key.clone()).unwrap_or_default(),
            cause: origin.reason,
            error: origin.error,
            died_at: Time(origin.at_ms),
            origin_topic: origin.topic,
            origin_offset: origin.offset,
            attempts_made: dead.attempts_made,
            redrives: dead.redrives,
            message: message.map(|message| MessageView::listed(message, dead.body_bytes)),
            attempts: dead.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}
