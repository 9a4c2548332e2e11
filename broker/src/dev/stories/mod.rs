//! The stories: what the product promises, each told once through the real client and compared with what was seen. Every
//! story has its own topics and groups, so that all can be told at once.

mod decisions;
mod deliveries;
mod restart;
mod schedules;

use std::future::Future;
use std::pin::Pin;

use super::site::{Site, StoryError};

pub(super) use restart::restart;

type Telling = Pin<Box<dyn Future<Output = Result<String, StoryError>>>>;

/// A story: what must be seen, and how it is told.
pub(super) struct Story {
    pub(super) title: &'static str,
    /// What must be seen, word for word. What is seen is put together from what the broker says and delivers.
    pub(super) expected: &'static str,
    pub(super) tell: fn(Site) -> Telling,
}

macro_rules! story {
    ($title:literal, $tell:path, $expected:literal) => {
        Story { title: $title, expected: $expected, tell: |site| Box::pin($tell(site)) }
    };
}

/// Those that share one broker. [`restart`] has its own, which it kills.
pub(super) const STORIES: &[Story] = &[
    story!("committed", decisions::committed, "marker, then order after COMMITTED by producer"),
    story!("rolled back", decisions::rolled_back, "ROLLED_BACK by producer, then only marker at offset 0"),
    story!("check-back to commit", decisions::checked_to_commit, "order, COMMITTED by check"),
    story!(
        "check-back to rollback",
        decisions::checked_to_rollback,
        "ROLLED_BACK by check, then only marker at offset 0"
    ),
    story!(
        "parked, then decided by hand",
        decisions::parked,
        "PARKED after 2 checks, then order, COMMITTED by person"
    ),
    story!("three messages, one transaction", decisions::three_at_once, "a in stock, b in mail, c in books"),
    story!("retried, then acked", deliveries::retried, "attempts 1, 2; 0 retrying, lag 0"),
    story!(
        "dead-lettered, then redriven",
        deliveries::dead_lettered,
        "ATTEMPTS_EXHAUSTED after 3 attempts; redriven 1, delivered again, 0 dead"
    ),
    story!("ordered by key", deliveries::ordered, "1 failed, then 1 2 3 4 5"),
    story!("scheduled", schedules::scheduled, "delivered, not early"),
    story!("scheduled, then cancelled", schedules::cancelled, "CANCELLED, then only marker at offset 0"),
];

/// What [`restart`] must see.
pub(super) const RESTART: (&str, &str) =
    ("kill -9 in the middle", "2 stored; killed and started; unacked again, order COMMITTED by check, after");
