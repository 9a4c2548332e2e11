//! A topic.

use escrow_protocol::v1;

use crate::cli::output::{Bytes, Count, Ms, Time, view};

view! {
    /// A topic, and how full it is.
    TopicView {
        /// Its name.
        name: String = "TOPIC",
        /// Offsets between the oldest kept and the next to be given.
        messages: Count = "MESSAGES",
        /// Of the bodies kept.
        size_bytes: Bytes = "SIZE",
        /// The oldest offset kept.
        head_offset: u64 = "HEAD",
        /// The next offset to be given.
        next_offset: u64 = "NEXT",
        /// Undecided or scheduled messages that will come to it.
        awaited: Count = _,
        /// The groups subscribed to it.
        groups: Vec<String> = "GROUPS",
        /// Finished messages are kept this long.
        keep_finished_ms: Ms = _,
        /// … and at most this much of them.
        keep_finished_size_bytes: Bytes = _,
        /// When it was made.
        created_at: Time = "CREATED AT",
        /// The group whose dead letters it holds.
        dead_letters_of: Option<String> = _,
    }
}

impl From<v1::Topic> for TopicView {
    fn from(topic: v1::Topic) -> Self {
        let settings = topic.settings.unwrap_or_default();
        Self {
            name: topic.name,
            messages: Count(topic.next_offset.saturating_sub(topic.head_offset)),
            size_bytes: Bytes(topic.bytes),
            head_offset: topic.head_offset,
            next_offset: topic.next_offset,
            awaited: Count(topic.awaited),
            groups: topic.groups,
            keep_finished_ms: Ms::from_wire(settings.keep_finished_ms),
            keep_finished_size_bytes: Bytes(settings.keep_finished_bytes),
            created_at: Time(topic.created_at_ms),
            dead_letters_of: Some(topic.dead_letters_of).filter(|group| !group.is_empty()),
        }
    }
}
