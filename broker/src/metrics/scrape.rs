//! The text of one scrape: counters and histograms as they stand, and gauges made from what the scrape saw. Gauges of
//! topics and groups that are gone are gone with them.

use std::fmt::Write as _;

use super::Metrics;
use super::names::{self, Named};
use crate::alarms::Standing;
use crate::engine::{GroupView, StatusView, TopicView};
use crate::records::AlarmRule;
use crate::service::StoreNumbers;

/// What a scrape looks at.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The broker at a glance.
    pub status: StatusView,
    /// The topics, the first few thousand.
    pub topics: Vec<TopicView>,
    /// The groups, the first few thousand.
    pub groups: Vec<GroupView>,
    /// The store.
    pub store: StoreNumbers,
    /// Alarms.
    pub alarms: Standing,
    /// Unix milliseconds.
    pub now_ms: u64,
}

impl Metrics {
    /// The text for Prometheus.
    pub fn render(&self, scrape: &Scrape) -> String {
        let mut text = self.handle.render();
        for histogram in [
            &self.turn_inputs,
            &self.append_seconds,
            &self.sync_seconds,
            &self.spill_seconds,
            &self.commit_seconds,
            &self.publish_seconds,
            &self.decision_seconds,
            &self.delivery_delay_seconds,
        ] {
            histogram.render(&mut text);
        }
        let counts = self.counts();
        for ((name, help), value) in names::ENGINE_COUNTERS {
            let value = value(&counts);
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        let gauges = &mut Gauges { text: &mut text };
        status(gauges, scrape);
        topics(gauges, &scrape.topics);
        groups(gauges, scrape);
        store(gauges, &scrape.store);
        alarms(gauges, &scrape.alarms);
        text
    }
}

struct Gauges<'a> {
    text: &'a mut String,
}

impl Gauges<'_> {
    /// One gauge without labels.
    fn one(&mut self, named: Named, value: f64) {
        self.many(named, std::iter::once((String::new(), value)));
    }

    /// One counter without labels.
    fn counter(&mut self, (name, text): Named, value: u64) {
        let _ = writeln!(self.text, "# HELP {name} {text}\n# TYPE {name} counter\n{name} {value}");
    }

    /// One gauge with a value for each set of labels. Names of topics and groups need no escaping.
    fn many(&mut self, named: Named, values: impl Iterator<Item = (String, f64)>) {
        self.write(named, "gauge", values);
    }

    /// As [`Gauges::many`], of what only rises until the broker or the thing itself begins anew.
    fn counters(&mut self, named: Named, values: impl Iterator<Item = (String, f64)>) {
        self.write(named, "counter", values);
    }

    fn write(&mut self, (name, text): Named, kind: &str, values: impl Iterator<Item = (String, f64)>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        let _ = writeln!(self.text, "# HELP {name} {text}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }
}

fn status(gauges: &mut Gauges<'_>, scrape: &Scrape) {
    let status = &scrape.status;
    for (named, value) in [
        (names::TOPICS, status.topics),
        (names::GROUPS, status.groups),
        (names::UNDECIDED, status.undecided),
        (names::WAITING_FOR_CHECKER, status.waiting_for_checker),
        (names::PARKED, status.parked),
        (names::RETRYING, status.retrying),
        (names::SCHEDULED, status.scheduled),
        (names::LEASED, status.leased),
        (names::DEAD_LETTERS, status.dead_letters),
        (names::LAG, status.lag),
        (names::PRODUCERS, status.producers),
        (names::CONSUMERS, status.consumers),
        (names::ACCEPTING, u64::from(status.accepting)),
    ] {
        gauges.one(named, value as f64);
    }
    let release = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    gauges.many(names::BUILD_INFO, std::iter::once((release, 1.0)));
    let age = status.oldest_undecided_at_ms.map_or(0, |at_ms| scrape.now_ms.saturating_sub(at_ms));
    gauges.one(names::OLDEST_UNDECIDED_SECONDS, age as f64 / 1e3);
}

fn topics(gauges: &mut Gauges<'_>, topics: &[TopicView]) {
    let of = |value: fn(&TopicView) -> u64| {
        topics.iter().map(move |topic| (format!("{{topic=\"{}\"}}", topic.name), value(topic) as f64))
    };
    gauges.many(names::TOPIC_MESSAGES, of(|topic| topic.next.0 - topic.head.0));
    gauges.many(names::TOPIC_BODY_BYTES, of(|topic| topic.bytes));
    gauges.many(names::TOPIC_AWAITED, of(|topic| topic.awaited));
    gauges.many(names::TOPIC_NEXT_OFFSET, of(|topic| topic.next.0));
}

fn groups(gauges: &mut Gauges<'_>, scrape: &Scrape) {
    let of = |value: fn(&GroupView) -> u64| {
        scrape.groups.iter().map(move |group| (format!("{{group=\"{}\"}}", group.name), value(group) as f64))
    };
    gauges.many(names::GROUP_LEASED, of(|group| group.leased));
    gauges.many(names::GROUP_RETRYING, of(|group| group.retrying));
    gauges.many(names::GROUP_DEAD, of(|group| group.dead_letters));
    gauges.many(names::GROUP_MEMBERS, of(|group| group.members.len() as u64));
    gauges.many(names::GROUP_BLOCKED, of(|group| group.blocked_keys));
    gauges.many(names::GROUP_PAUSED, of(|group| u64::from(group.paused)));
    gauges.counters(names::GROUP_ACKS, of(|group| group.acked));
    gauges.counters(names::GROUP_NACKS, of(|group| group.nacked));
    gauges.counters(names::GROUP_EXPIRED, of(|group| group.expired_leases));
    let positions = || {
        scrape.groups.iter().flat_map(|group| {
            group.positions.iter().map(move |position| {
                (format!("{{group=\"{}\",topic=\"{}\"}}", group.name, position.topic), position)
            })
        })
    };
    gauges.many(names::GROUP_LAG, positions().map(|(labels, position)| (labels, position.lag as f64)));
    gauges.many(
        names::GROUP_LAG_SECONDS,
        positions().map(|(labels, position)| {
            let age = position.oldest_at_ms.map_or(0, |at_ms| scrape.now_ms.saturating_sub(at_ms));
            (labels, age as f64 / 1e3)
        }),
    );
}

/// Every rule has its line, also at zero: an alert on them is not fooled by one that is missing.
fn alarms(gauges: &mut Gauges<'_>, alarms: &Standing) {
    let open = AlarmRule::ALL.iter().map(|rule| {
        let open = alarms.open.get(rule).copied().unwrap_or(0);
        (format!("{{rule=\"{}\"}}", rule.as_str()), open as f64)
    });
    gauges.many(names::ALARMS_OPEN, open);
    gauges.one(names::ALARM_NOTICES_WAITING, alarms.waiting as f64);
    for (named, value) in [
        (names::ALARMS_RAISED, alarms.raised),
        (names::ALARMS_SUPPRESSED, alarms.suppressed),
        (names::ALARM_NOTICES_TAKEN, alarms.taken),
        (names::ALARM_NOTICES_FAILED, alarms.failed),
        (names::ALARM_NOTICES_GIVEN_UP, alarms.given_up),
    ] {
        gauges.counter(named, value);
    }
}

fn store(gauges: &mut Gauges<'_>, store: &StoreNumbers) {
    for (named, value) in [
        (names::STORE_SEQUENCE, store.last_sequence),
        (names::STORE_SPILLED, store.spilled_sequence),
        (names::STORE_JOURNAL_BYTES, store.journal_bytes),
        (names::STORE_OVERLAY_BYTES, store.overlay_bytes),
        (names::STORE_TABLE_BYTES, store.table_bytes),
        (names::STORE_FREE_BYTES, store.disk_free_bytes),
        (names::STORE_CORRUPT, store.corrupt_records),
        (names::STORE_SYNCS, store.syncs),
    ] {
        gauges.one(named, value as f64);
    }
    gauges.one(names::STORE_LAST_SYNC_SECONDS, store.last_sync_us as f64 / 1e6);
}
