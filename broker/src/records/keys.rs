//! Where each record lies: one prefix byte a keyspace, then big-endian numbers, so that byte order is the order that
//! scans want. One pair of functions for each keyspace: the key, and what a key says. Drawn in docs/format.md.

use escrow_protocol::{MessageId, Offset};
use escrow_storage::{Key, KeyRange};

/// A topic within the broker's records: numbers are given once and never again, names may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNumber(pub u32);

/// A group within the broker's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u32);

/// The prefixes.
pub mod space {
    /// The counters: one record.
    pub const COUNTERS: u8 = 0x01;
    /// Topics by number.
    pub const TOPIC: u8 = 0x02;
    /// How far each topic has come.
    pub const TAIL: u8 = 0x03;
    /// Groups by number.
    pub const GROUP: u8 = 0x04;
    /// How far a group has come in a topic.
    pub const PROGRESS: u8 = 0x05;
    /// The order of a topic.
    pub const QUEUE: u8 = 0x06;
    /// What producers sent.
    pub const MESSAGE: u8 = 0x07;
    /// Where a message is.
    pub const PLACE: u8 = 0x08;
    /// Messages by business key.
    pub const BUSINESS_KEY: u8 = 0x09;
    /// Undecided transactions.
    pub const UNDECIDED: u8 = 0x0a;
    /// Decided transactions.
    pub const DECIDED: u8 = 0x0b;
    /// Transactions by the producer's own key.
    pub const TRANSACTION_KEY: u8 = 0x0c;
    /// Decided transactions in the order of their decision, for forgetting them.
    pub const DECIDED_LOG: u8 = 0x0d;
    /// Message ids in the order of their arrival, for deduplication.
    pub const REMEMBERED: u8 = 0x0e;
    /// Messages that wait for their next attempt.
    pub const RETRY: u8 = 0x0f;
    /// From a message's place to its dead letter.
    pub const DEAD_PLACE: u8 = 0x10;
    /// Dead letters by their place in the dead-letter topic.
    pub const DEAD_LETTER: u8 = 0x11;
    /// Scheduled messages by their time.
    pub const SCHEDULED: u8 = 0x12;
    /// Operations by hand in their order.
    pub const AUDIT: u8 = 0x13;
    /// Jobs by number: what they were told to do.
    pub const JOB: u8 = 0x14;
    /// How far each job has come.
    pub const JOB_PROGRESS: u8 = 0x15;
    /// What jobs could not do.
    pub const JOB_FAILURE: u8 = 0x16;
    /// Alarms by number.
    pub const ALARM: u8 = 0x17;
    /// Notices of alarms that a sink has not taken yet.
    pub const ALARM_NOTICE: u8 = 0x18;
    /// What happened, turn by turn.
    pub const STORY: u8 = 0x19;
    /// Stretches of stories, by the first.
    pub const CHAPTER: u8 = 0x1a;
    /// How many dead letters of a group died of what, and came from where.
    pub const FACETS: u8 = 0x1b;
    /// What jobs did.
    pub const JOB_DEEDS: u8 = 0x1c;
    /// Who is told of alarms: one record.
    pub const ALARM_SINKS: u8 = 0x1d;
}

fn key(space: u8, parts: &[&[u8]]) -> Key {
    Key::of(std::iter::once(&[space][..]).chain(parts.iter().copied()))
}

fn u32_at(key: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?))
}

fn id_at(key: &[u8], at: usize) -> Option<MessageId> {
    MessageId::from_slice(key.get(at..at + 16)?).ok()
}

/// All keys of a keyspace.
pub fn all(space: u8) -> KeyRange {
    KeyRange::prefix(&[space])
}

/// The one key of the counters.
pub fn counters() -> Key {
    key(space::COUNTERS, &[])
}

/// `02 topic`
pub fn topic(topic: TopicNumber) -> Key {
    key(space::TOPIC, &[&topic.0.to_be_bytes()])
}

/// What [`topic`] wrote.
pub fn topic_of(key: &[u8]) -> Option<TopicNumber> {
    u32_at(key, 1).map(TopicNumber)
}

/// `03 topic`
pub fn tail(topic: TopicNumber) -> Key {
    key(space::TAIL, &[&topic.0.to_be_bytes()])
}

/// `04 group`
pub fn group(group: GroupNumber) -> Key {
    key(space::GROUP, &[&group.0.to_be_bytes()])
}

/// What [`group`] wrote.
pub fn group_of(key: &[u8]) -> Option<GroupNumber> {
    u32_at(key, 1).map(GroupNumber)
}

/// `05 group topic`
pub fn progress(group: GroupNumber, topic: TopicNumber) -> Key {
    key(space::PROGRESS, &[&group.0.to_be_bytes(), &topic.0.to_be_bytes()])
}

/// What [`progress`] wrote.
pub fn progress_of(key: &[u8]) -> Option<(GroupNumber, TopicNumber)> {
    Some((GroupNumber(u32_at(key, 1)?), TopicNumber(u32_at(key, 5)?)))
}

/// `06 topic offset`
pub fn queue(topic: TopicNumber, offset: Offset) -> Key {
    key(space::QUEUE, &[&topic.0.to_be_bytes(), &offset.0.to_be_bytes()])
}

/// What [`queue`] wrote.
pub fn queue_of(key: &[u8]) -> Option<(TopicNumber, Offset)> {
    Some((TopicNumber(u32_at(key, 1)?), Offset(u64_at(key, 5)?)))
}

/// The queue entries of `topic` from `from` (included) to `until` (excluded).
pub fn queue_range(topic: TopicNumber, from: Offset, until: Offset) -> KeyRange {
    KeyRange::new(queue(topic, from), queue(topic, until))
}

/// `07 message`
pub fn message(id: MessageId) -> Key {
    key(space::MESSAGE, &[id.as_bytes()])
}

/// `08 message`
pub fn place(id: MessageId) -> Key {
    key(space::PLACE, &[id.as_bytes()])
}

/// `09 hash message`
pub fn business_key(hash: u64, id: MessageId) -> Key {
    key(space::BUSINESS_KEY, &[&hash.to_be_bytes(), id.as_bytes()])
}

/// What [`business_key`] wrote.
pub fn business_key_of(key: &[u8]) -> Option<(u64, MessageId)> {
    Some((u64_at(key, 1)?, id_at(key, 9)?))
}

/// All messages whose business key has this hash.
pub fn business_key_range(hash: u64) -> KeyRange {
    KeyRange::prefix(&key(space::BUSINESS_KEY, &[&hash.to_be_bytes()]))
}

/// `0a number`
pub fn undecided(number: u64) -> Key {
    key(space::UNDECIDED, &[&number.to_be_bytes()])
}

/// `0b number`
pub fn decided(number: u64) -> Key {
    key(space::DECIDED, &[&number.to_be_bytes()])
}

/// What [`undecided`] and [`decided`] wrote.
pub fn transaction_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 1)
}

/// `0c group 00 key`: a group's name has no zero byte.
pub fn transaction_key(group: &str, transaction_key: &str) -> Key {
    key(space::TRANSACTION_KEY, &[group.as_bytes(), &[0], transaction_key.as_bytes()])
}

/// `0d time number`: the time of the decision in Unix milliseconds, and the first transaction of the record.
pub fn decided_log(at_ms: u64, number: u64) -> Key {
    key(space::DECIDED_LOG, &[&at_ms.to_be_bytes(), &number.to_be_bytes()])
}

/// What [`decided_log`] wrote.
pub fn decided_log_of(key: &[u8]) -> Option<(u64, u64)> {
    Some((u64_at(key, 1)?, u64_at(key, 9)?))
}

/// `0e time number`: the time of arrival in Unix milliseconds, and a number that is given once.
pub fn remembered(at_ms: u64, number: u64) -> Key {
    key(space::REMEMBERED, &[&at_ms.to_be_bytes(), &number.to_be_bytes()])
}

/// What [`remembered`] wrote.
pub fn remembered_of(key: &[u8]) -> Option<(u64, u64)> {
    Some((u64_at(key, 1)?, u64_at(key, 9)?))
}

/// `0f topic offset group`
pub fn retry(topic: TopicNumber, offset: Offset, group: GroupNumber) -> Key {
    key(space::RETRY, &[&topic.0.to_be_bytes(), &offset.0.to_be_bytes(), &group.0.to_be_bytes()])
}

/// What [`retry`] and [`dead_place`] wrote.
pub fn held_of(key: &[u8]) -> Option<(TopicNumber, Offset, GroupNumber)> {
    Some((TopicNumber(u32_at(key, 1)?), Offset(u64_at(key, 5)?), GroupNumber(u32_at(key, 13)?)))
}

/// All retries of the messages of `topic` from `from` (included) to `until` (excluded).
pub fn retry_range(topic: TopicNumber, from: Offset, until: Offset) -> KeyRange {
    KeyRange::new(retry(topic, from, GroupNumber(0)), retry(topic, until, GroupNumber(0)))
}

/// `10 topic offset group`
pub fn dead_place(topic: TopicNumber, offset: Offset, group: GroupNumber) -> Key {
    key(space::DEAD_PLACE, &[&topic.0.to_be_bytes(), &offset.0.to_be_bytes(), &group.0.to_be_bytes()])
}

/// All dead places of the messages of `topic` from `from` (included) to `until` (excluded).
pub fn dead_place_range(topic: TopicNumber, from: Offset, until: Offset) -> KeyRange {
    KeyRange::new(dead_place(topic, from, GroupNumber(0)), dead_place(topic, until, GroupNumber(0)))
}

/// `11 topic offset`: of the dead-letter topic.
pub fn dead_letter(topic: TopicNumber, offset: Offset) -> Key {
    key(space::DEAD_LETTER, &[&topic.0.to_be_bytes(), &offset.0.to_be_bytes()])
}

/// What [`dead_letter`] wrote.
pub fn dead_letter_of(key: &[u8]) -> Option<(TopicNumber, Offset)> {
    queue_of(key)
}

/// The dead letters of `topic` from `from` (included) to `until` (excluded).
pub fn dead_letter_range(topic: TopicNumber, from: Offset, until: Offset) -> KeyRange {
    KeyRange::new(dead_letter(topic, from), dead_letter(topic, until))
}

/// `12 time message`
pub fn scheduled(due_ms: u64, id: MessageId) -> Key {
    key(space::SCHEDULED, &[&due_ms.to_be_bytes(), id.as_bytes()])
}

/// What [`scheduled`] wrote.
pub fn scheduled_of(key: &[u8]) -> Option<(u64, MessageId)> {
    Some((u64_at(key, 1)?, id_at(key, 9)?))
}

/// The time of a key within the schedule, though it may end there.
pub fn scheduled_time_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 1)
}

/// Before every scheduled message of `from_ms` and later.
pub fn scheduled_from(from_ms: u64) -> Key {
    key(space::SCHEDULED, &[&from_ms.to_be_bytes()])
}

/// `13 number`
pub fn audit(number: u64) -> Key {
    key(space::AUDIT, &[&number.to_be_bytes()])
}

/// What [`audit`] wrote.
pub fn audit_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 1)
}

/// `14 number`
pub fn job(number: u64) -> Key {
    key(space::JOB, &[&number.to_be_bytes()])
}

/// What [`job`] and [`job_progress`] wrote.
pub fn job_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 1)
}

/// `15 number`
pub fn job_progress(number: u64) -> Key {
    key(space::JOB_PROGRESS, &[&number.to_be_bytes()])
}

/// `16 number offset`: of the dead letter.
pub fn job_failure(number: u64, offset: Offset) -> Key {
    key(space::JOB_FAILURE, &[&number.to_be_bytes(), &offset.0.to_be_bytes()])
}

/// What [`job_failure`] wrote: the offset.
pub fn job_failure_of(key: &[u8]) -> Option<Offset> {
    u64_at(key, 9).map(Offset)
}

/// All failures of a job.
pub fn job_failures(number: u64) -> KeyRange {
    KeyRange::prefix(&key(space::JOB_FAILURE, &[&number.to_be_bytes()]))
}

/// `17 number`
pub fn alarm(number: u64) -> Key {
    key(space::ALARM, &[&number.to_be_bytes()])
}

/// What [`alarm`] wrote.
pub fn alarm_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 1)
}

/// `18 alarm notice`: the notice's number among those of its alarm.
pub fn alarm_notice((alarm, notice): (u64, u64)) -> Key {
    key(space::ALARM_NOTICE, &[&alarm.to_be_bytes(), &notice.to_be_bytes()])
}

/// What [`alarm_notice`] wrote.
pub fn alarm_notice_of(key: &[u8]) -> Option<(u64, u64)> {
    Some((u64_at(key, 1)?, u64_at(key, 9)?))
}

/// `19 number`: numbered without gaps.
pub fn story(number: u64) -> Key {
    key(space::STORY, &[&number.to_be_bytes()])
}

/// What [`story`] and [`chapter`] wrote.
pub fn story_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 1)
}

/// The stories from `from` (included) to `until` (excluded).
pub fn story_range(from: u64, until: u64) -> KeyRange {
    KeyRange::new(story(from), story(until))
}

/// `1a number`: of its first story.
pub fn chapter(first: u64) -> Key {
    key(space::CHAPTER, &[&first.to_be_bytes()])
}

/// `1b topic`: of the dead-letter topic.
pub fn facets(topic: TopicNumber) -> Key {
    key(space::FACETS, &[&topic.0.to_be_bytes()])
}

/// `1c number part`: the deeds of a job from `part` times [`super::JobDeeds::IN_ONE`] on.
pub fn job_deeds(number: u64, part: u64) -> Key {
    key(space::JOB_DEEDS, &[&number.to_be_bytes(), &part.to_be_bytes()])
}

/// What [`job_deeds`] wrote: the part.
pub fn job_deeds_of(key: &[u8]) -> Option<u64> {
    u64_at(key, 9)
}

/// All deeds of a job.
pub fn all_job_deeds(number: u64) -> KeyRange {
    KeyRange::prefix(&key(space::JOB_DEEDS, &[&number.to_be_bytes()]))
}

/// The one key of the sinks that know of the open alarms.
pub fn alarm_sinks() -> Key {
    key(space::ALARM_SINKS, &[])
}

/// The hash a business key is filed under: FNV-1a, 64 bits (whoever looks one up compares the key itself).
pub fn hash_of(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
