//! Damaged and missing records at a start: what everything rests on refuses to start, the rest goes on and says so.

use escrow_storage::{Entry, KeyRange, MemReader, Read, ReadError};

use super::*;
use crate::records::{GroupNumber, TopicNumber};

/// A topic with a message that a slow group has not finished and a fast one has.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("slow", "paid", |_| {});
    bench.group("fast", "paid", |_| {});
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("fast", "paid");
    bench.ask(settle("fast", got[0].token, Verb::Ack));
    bench.later(0);
    assert_eq!(bench.count(keys::space::MESSAGE), 1);
    bench
}

fn paid(bench: &mut Bench) -> TopicNumber {
    match bench.ask(Input::Inspect(Inspect::Topic(name("paid")))) {
        Reply::Seen(Seen::Topic(view)) => view.number,
        other => panic!("{other:?}"),
    }
}

fn assert_refused(outcome: Result<Recovered, escrow_storage::ReadError>) {
    let error = outcome.expect_err("it started").to_string();
    assert!(error.contains("escrow store restore"), "no remedy: {error}");
}

#[test]
fn a_damaged_foundation_does_not_start() {
    for damaged in [
        |_: TopicNumber| keys::counters(),
        keys::topic,
        keys::tail,
        |_: TopicNumber| keys::group(GroupNumber(1)),
    ] {
        let mut bench = bench();
        let topic = paid(&mut bench);
        let before = bench.disk.len();
        assert_refused(bench.restart_with_damage(&damaged(topic)));
        assert_eq!(bench.disk.len(), before, "something was removed");
    }
}

#[test]
fn a_missing_foundation_does_not_start() {
    for missing in [
        |_: TopicNumber| keys::counters(),
        keys::tail,
        keys::topic,
        |_: TopicNumber| keys::group(GroupNumber(1)),
    ] {
        let mut bench = bench();
        let topic = paid(&mut bench);
        let mut batch = escrow_storage::Batch::new();
        batch.delete(missing(topic));
        bench.store.commit(batch).expect("commits");
        assert_refused(bench.try_restart());
    }
}

#[test]
fn a_tail_older_than_its_topic_does_not_start() {
    use escrow_storage::Read as _;
    let mut bench = bench();
    let key = keys::tail(paid(&mut bench));
    let older = bench.store.reader().get(&key).expect("reads").expect("is there");
    let message = bench.message("paid");
    bench.publish(message);
    let mut batch = escrow_storage::Batch::new();
    batch.put(key, older);
    bench.store.commit(batch).expect("commits");
    assert_refused(bench.try_restart());
}

#[test]
fn damaged_progress_is_reported_and_delivers_twice_rather_than_never() {
    let mut bench = bench();
    let topic = paid(&mut bench);
    let recovered = bench.restart_with_damage(&keys::progress(GroupNumber(2), topic)).expect("starts");
    assert!(!recovered.damaged.is_empty());
    let (_, again) = bench.consumer("fast", "paid");
    assert_eq!(again.len(), 1);
    let (_, first) = bench.consumer("slow", "paid");
    assert_eq!(first.len(), 1);
}

#[test]
fn a_damaged_record_does_not_keep_others_from_being_forgotten() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..2 {
        let message = bench.message("paid");
        let transaction = bench.half(vec![message]);
        bench.ask(decide(transaction, Decision::Rollback));
    }
    bench.restart_with_damage(&keys::decided(1)).expect("starts");
    let day_ms = bench.engine.settings.retention.decided_ms;
    bench.now = bench.now + day_ms;
    for _ in 0..3 {
        let view = bench.store.reader();
        let mut turn = Turn::new(&view, Room::Enough);
        bench.engine.fire(bench.now, &mut turn);
        let finished = bench.engine.finish(bench.now, turn).expect("the store works");
        bench.store.commit(finished.batch).expect("commits");
    }
    assert_eq!(bench.engine.take_reports().len(), 1);
    assert_eq!(bench.count(keys::space::DECIDED_LOG), 0);
    assert_eq!(bench.count(keys::space::DECIDED), 0);
}

/// A store in which one page, with all records of `hole`, cannot be read. As sled does, it says from where on.
struct LostPage {
    reader: MemReader,
    hole: KeyRange,
}

impl LostPage {
    fn lost(at: &[u8]) -> ReadError {
        let key = at.iter().map(|byte| format!("{byte:02x}")).collect();
        ReadError::Corrupt { key, fault: "its page cannot be read".to_owned() }
    }
}

impl Read for LostPage {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, ReadError> {
        if self.hole.contains(key) { Err(Self::lost(key)) } else { self.reader.get(key) }
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let found = self.reader.scan(range, limit)?;
        let mut at = range.start.to_vec();
        for (key, _) in &found {
            if self.hole.contains(key) {
                return Err(Self::lost(&at));
            }
            at = [key, &[0][..]].concat();
        }
        Ok(found)
    }

    fn scan_back(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let found = self.reader.scan_back(range, limit)?;
        if found.iter().any(|(key, _)| self.hole.contains(key)) {
            return Err(Self::lost(&range.end));
        }
        Ok(found)
    }
}

#[test]
fn a_page_that_cannot_be_read_ends_neither_the_start_nor_what_lies_behind_it() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    for _ in 0..6 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 6);
    for delivery in &got {
        bench.ask(settle("billing", delivery.token, Verb::Nack { delay_ms: None, reason: "later".into() }));
    }
    let reader = bench.store.reader();
    let retries = reader.scan(&keys::all(keys::space::RETRY), 10).expect("reads");
    assert_eq!(retries.len(), 6);
    for (first, end) in [(0, 2), (2, 4), (4, 6)] {
        let end = retries.get(end).map_or(keys::all(keys::space::RETRY).end, |(key, _)| key.clone());
        let view = LostPage { reader: reader.clone(), hole: KeyRange::new(retries[first].0.clone(), end) };
        let settings = bench.engine.settings.clone();
        let boot = Boot { shard: ShardId(0), epoch: bench.store.epoch(), seed: 7, settings };
        let (_, recovered) = Engine::recover(boot, bench.now, &view).expect("starts");
        assert_eq!(recovered.retrying, 4, "the retries before and behind the page");
        assert!(!recovered.damaged.is_empty());
    }
}
