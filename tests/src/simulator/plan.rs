//! What a seed stands for: who takes part in a run, how they behave, and what goes wrong. Drawn once, at the start.

use std::collections::BTreeMap;

use escrow_broker::engine::{EngineLimits, Settings, Start, TopicDefaults, TransactionSettings, Wanted};
use escrow_broker::records::{
    GroupSettings, InDoubt, OrderingPolicy, RetryDelays, RetryPolicy, TopicSettings,
};
use escrow_protocol::{ClientId, GroupName, Kind, Tag, TopicName};

use super::chance::Chance;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// A run, before it begins.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) topics: Vec<(TopicName, TopicSettings)>,
    pub(super) groups: Vec<GroupPlan>,
    pub(super) producers: Vec<ProducerPlan>,
    pub(super) consumers: Vec<ConsumerPlan>,
    /// How long everybody is busy before the drain.
    pub(super) busy_ms: u64,
    /// Mean pause between two acts of a producer, and of the person.
    pub(super) producer_pause_ms: u64,
    pub(super) person_pause_ms: u64,
    /// What waits this long joins the turn, as it does while a real batch is being flushed.
    pub(super) flush_ms: u64,
    /// Ordering keys in use; few of them make them collide.
    pub(super) ordering_keys: u64,
    pub(super) faults: FaultPlan,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct FaultPlan {
    /// Of a thousand turns with edits: dead before the commit,
    pub(super) crash_before_permille: u64,
    /// dead after it and before the answers,
    pub(super) crash_after_permille: u64,
    /// the sync fails,
    pub(super) io_permille: u64,
    /// the commit is refused for want of room.
    pub(super) refuse_permille: u64,
    /// There are times of little room.
    pub(super) low_room: bool,
    /// Somebody sets the wall clock now and then.
    pub(super) clock_jumps: bool,
}

/// A group, and when it is made.
#[derive(Debug, Clone)]
pub(super) struct GroupPlan {
    pub(super) name: GroupName,
    pub(super) wanted: Vec<Wanted>,
    pub(super) settings: GroupSettings,
    pub(super) start: Start,
    /// Milliseconds after the beginning.
    pub(super) made_at_ms: u64,
}

/// A producer.
#[derive(Debug, Clone)]
pub(super) struct ProducerPlan {
    pub(super) client: ClientId,
    pub(super) group: GroupName,
    /// What it answers checks for.
    pub(super) kinds: Vec<Kind>,
    /// How it answers them.
    pub(super) manners: CheckerManners,
    /// Of a hundred transactions: decided in time, the rest is left to the check-back.
    pub(super) decides_percent: u64,
}

/// Of a hundred questions, how many are answered so; the rest with the truth.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckerManners {
    pub(super) unknown: u64,
    pub(super) late: u64,
    pub(super) never: u64,
    pub(super) twice: u64,
    pub(super) contradicts: u64,
    pub(super) as_another: u64,
}

/// A consumer.
#[derive(Debug, Clone)]
pub(super) struct ConsumerPlan {
    pub(super) client: ClientId,
    pub(super) group: GroupName,
    pub(super) wanted: Vec<Wanted>,
    pub(super) broadcast: bool,
    pub(super) detached: bool,
    pub(super) credit_messages: u32,
    pub(super) credit_bytes: u64,
    pub(super) manners: ConsumerManners,
}

/// Weights of what becomes of a delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConsumerManners {
    pub(super) ack: u64,
    pub(super) ack_late: u64,
    pub(super) ack_twice: u64,
    pub(super) nack: u64,
    pub(super) nack_after: u64,
    pub(super) reject: u64,
    pub(super) extend: u64,
    pub(super) release: u64,
    pub(super) never: u64,
    pub(super) die: u64,
    pub(super) leave: u64,
    pub(super) undeliverable: u64,
    /// How long it takes, on average.
    pub(super) work_ms: u64,
}

impl ConsumerManners {
    /// One who does its work at once.
    pub(super) const HEALTHY: Self = Self {
        ack: 1,
        ack_late: 0,
        ack_twice: 0,
        nack: 0,
        nack_after: 0,
        reject: 0,
        extend: 0,
        release: 0,
        never: 0,
        die: 0,
        leave: 0,
        undeliverable: 0,
        work_ms: 0,
    };
}

impl CheckerManners {
    /// One who knows and says so.
    pub(super) const HEALTHY: Self =
        Self { unknown: 0, late: 0, never: 0, twice: 0, contradicts: 0, as_another: 0 };
}

/// A name the simulator makes up: always legal.
pub(super) fn name<N: std::str::FromStr>(text: &str) -> N
where
    N::Err: std::fmt::Debug,
{
    text.parse().expect("the simulator's own names are legal")
}

/// The tags in use.
pub(super) const TAGS: [&str; 3] = ["red", "green", "blue"];

/// A topic nobody ever makes.
pub(super) fn unknown_topic() -> TopicName {
    name("no-such-topic")
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn of(chance: &mut Chance) -> Self {
        let topics: Vec<_> = (0..chance.between(1, 4)).map(|n| draw_topic(chance, n)).collect();
        let names: Vec<TopicName> = topics.iter().map(|(name, _)| name.clone()).collect();
        let busy_ms = chance.between(2, 8) * MINUTE;
        let groups: Vec<_> =
            (0..chance.between(1, 4)).map(|n| draw_group(chance, n, &names, busy_ms)).collect();
        let kinds: Vec<Kind> = (0..chance.between(1, 2)).map(|n| name(&format!("kind{n}"))).collect();
        let producers = (0..chance.between(1, 4)).map(|n| draw_producer(chance, n, &kinds)).collect();
        let mut consumers: Vec<ConsumerPlan> = Vec::new();
        for group in &groups {
            for _ in 0..chance.between(1, 3) {
                let number = consumers.len() as u64;
                consumers.push(draw_consumer(chance, number, group));
            }
        }
        if chance.percent(25) {
            let number = consumers.len() as u64;
            consumers.push(draw_broadcast(chance, number, &names));
        }
        if chance.percent(20) {
            let number = consumers.len() as u64;
            let group = chance.pick(&groups).clone();
            consumers.push(draw_dead_letter_reader(chance, number, &group));
        }
        Self {
            settings: draw_settings(chance, &kinds),
            topics,
            groups,
            producers,
            consumers,
            busy_ms,
            producer_pause_ms: chance.between(1, 8) * SECOND,
            person_pause_ms: chance.between(4, 30) * SECOND,
            flush_ms: *chance.pick(&[0, 1, 20, 300]),
            ordering_keys: chance.between(1, 4),
            faults: draw_faults(chance),
        }
    }
}

fn draw_faults(chance: &mut Chance) -> FaultPlan {
    // A third of the runs has no accidents at all: what fails there is no matter of recovery.
    let accidents = u64::from(!chance.percent(33));
    FaultPlan {
        crash_before_permille: accidents * chance.between(0, 12),
        crash_after_permille: accidents * chance.between(0, 12),
        io_permille: accidents * chance.between(0, 8),
        refuse_permille: accidents * chance.between(0, 4),
        low_room: chance.percent(20),
        clock_jumps: chance.percent(20),
    }
}

fn draw_settings(chance: &mut Chance, kinds: &[Kind]) -> Settings {
    let mut settings = Settings { transactions: draw_transactions(chance, kinds), ..Settings::default() };
    settings.topics = TopicDefaults { create_on_use: chance.percent(10) };
    settings.groups.broadcast_idle_ms = chance.between(20, 120) * SECOND;
    settings.retention.ids_ms = chance.between(30, 300) * SECOND;
    settings.retention.decided_ms = chance.between(30, 600) * SECOND;
    settings.retention.unsubscribed_ms = chance.between(60, 900) * SECOND;
    if chance.percent(30) {
        settings.limits = EngineLimits {
            window_max: chance.between(2, 40),
            page: chance.between(1, 8) as usize,
            deliveries_per_turn_max: chance.between(1, 8) as usize,
            removals_per_turn_max: chance.between(1, 8) as usize,
            ..settings.limits
        };
    }
    if chance.percent(15) {
        settings.limits.timers_per_turn_max = chance.between(1, 4) as usize;
    }
    if chance.percent(15) {
        settings.limits.retrying_per_group_max = chance.between(1, 6) as usize;
    }
    settings
}

fn draw_transactions(chance: &mut Chance, kinds: &[Kind]) -> TransactionSettings {
    let in_doubt = [InDoubt::Park, InDoubt::Rollback, InDoubt::Commit];
    let mut of_kinds = BTreeMap::new();
    for kind in kinds {
        if chance.percent(40) {
            of_kinds.insert(kind.clone(), *chance.pick(&in_doubt));
        }
    }
    TransactionSettings {
        first_check_after_ms: chance.between(1, 8) * SECOND,
        check_delays_ms: (0..chance.between(1, 4)).map(|_| chance.between(1, 30) * SECOND).collect(),
        check_jitter_percent: *chance.pick(&[0, 20]),
        check_timeout_ms: chance.between(1, 6) * SECOND,
        max_checks: chance.between(1, 6) as u32,
        max_undecided_age_ms: chance.between(20, 600) * SECOND,
        in_doubt: *chance.pick(&in_doubt),
        kinds: of_kinds,
        questions_per_checker_max: *chance.pick(&[1, 2, 256]),
    }
}

fn draw_topic(chance: &mut Chance, number: u64) -> (TopicName, TopicSettings) {
    let kept = chance.percent(30);
    let settings = TopicSettings {
        keep_finished_ms: if kept { chance.between(10, 300) * SECOND } else { 0 },
        keep_finished_bytes: if kept && chance.percent(40) { chance.between(100, 2_000) } else { 0 },
    };
    (name(&format!("t{number}")), settings)
}

fn draw_wanted(chance: &mut Chance, topics: &[TopicName]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let certain = chance.below(topics.len() as u64) as usize;
    for (number, topic) in topics.iter().enumerate() {
        if number == certain || chance.percent(40) {
            wanted.push(Wanted { topic: topic.clone(), tags: draw_tags(chance) });
        }
    }
    wanted
}

fn draw_tags(chance: &mut Chance) -> Vec<Tag> {
    if chance.percent(70) {
        return Vec::new();
    }
    let mut tags: Vec<Tag> = TAGS.iter().filter(|_| chance.percent(50)).map(|tag| name(tag)).collect();
    tags.sort();
    tags
}

fn draw_group(chance: &mut Chance, number: u64, topics: &[TopicName], busy_ms: u64) -> GroupPlan {
    let late = chance.percent(30);
    GroupPlan {
        name: name(&format!("g{number}")),
        wanted: draw_wanted(chance, topics),
        settings: GroupSettings {
            retry: draw_retry(chance),
            ordering: *chance.pick(&[
                OrderingPolicy::Block,
                OrderingPolicy::Skip,
                OrderingPolicy::DeadLetter,
            ]),
            lease_ms: chance.between(1, 20) * SECOND,
        },
        start: *chance.pick(&[Start::Oldest, Start::Oldest, Start::Newest, Start::Time(0)]),
        made_at_ms: if late { chance.between(SECOND, busy_ms) } else { 0 },
    }
}

fn draw_retry(chance: &mut Chance) -> RetryPolicy {
    let delays = match chance.below(3) {
        0 => RetryDelays::Ladder((0..chance.between(1, 4)).map(|_| chance.between(0, 20_000)).collect()),
        1 => RetryDelays::Exponential {
            initial_ms: chance.between(100, 3_000),
            multiplier_permille: chance.between(1_000, 3_000) as u32,
            max_ms: chance.between(3_000, 30_000),
        },
        _ => RetryDelays::Fixed(chance.between(0, 10_000)),
    };
    RetryPolicy {
        delays,
        immediate_attempts: *chance.pick(&[0, 0, 1, 2]),
        jitter_percent: *chance.pick(&[0, 0, 20]),
        max_attempts: chance.between(1, 5) as u32,
    }
}

fn draw_producer(chance: &mut Chance, number: u64, kinds: &[Kind]) -> ProducerPlan {
    let mut answered: Vec<Kind> = kinds.iter().filter(|_| chance.percent(70)).cloned().collect();
    answered.sort();
    ProducerPlan {
        client: name(&format!("p{number}")),
        group: name(&format!("pg{}", chance.below(2))),
        kinds: answered,
        manners: CheckerManners {
            unknown: chance.below(50),
            late: chance.below(20),
            never: chance.below(20),
            twice: chance.below(10),
            contradicts: chance.below(10),
            as_another: chance.below(10),
        },
        decides_percent: chance.between(20, 90),
    }
}

fn draw_manners(chance: &mut Chance) -> ConsumerManners {
    let troubled = chance.percent(70);
    let mut weight = |bound: u64| if troubled { chance.below(bound) } else { 0 };
    ConsumerManners {
        ack: 40,
        ack_late: weight(10),
        ack_twice: weight(8),
        nack: weight(25),
        nack_after: weight(15),
        reject: weight(6),
        extend: weight(10),
        release: weight(10),
        never: weight(8),
        die: weight(6),
        leave: weight(4),
        undeliverable: weight(2),
        work_ms: chance.between(1, 3_000),
    }
}

fn draw_consumer(chance: &mut Chance, number: u64, group: &GroupPlan) -> ConsumerPlan {
    ConsumerPlan {
        client: name(&format!("c{number}")),
        group: group.name.clone(),
        wanted: if chance.percent(50) { Vec::new() } else { group.wanted.clone() },
        broadcast: false,
        detached: chance.percent(20),
        credit_messages: chance.between(1, 12) as u32,
        credit_bytes: chance.between(50, 2_000),
        manners: draw_manners(chance),
    }
}

fn draw_broadcast(chance: &mut Chance, number: u64, topics: &[TopicName]) -> ConsumerPlan {
    ConsumerPlan {
        group: name("everyone"),
        wanted: draw_wanted(chance, topics),
        broadcast: true,
        detached: false,
        client: name(&format!("b{number}")),
        credit_messages: 10,
        credit_bytes: 1_000,
        manners: draw_manners(chance),
    }
}

/// Reads the dead letters of `group` as if they were a topic like any other.
fn draw_dead_letter_reader(chance: &mut Chance, number: u64, group: &GroupPlan) -> ConsumerPlan {
    let topic = group.name.dead_letter_topic().expect("short names have room for the suffix");
    ConsumerPlan {
        client: name(&format!("d{number}")),
        group: name("undertaker"),
        wanted: vec![Wanted { topic, tags: Vec::new() }],
        broadcast: false,
        detached: false,
        credit_messages: 5,
        credit_bytes: 1_000,
        manners: draw_manners(chance),
    }
}
