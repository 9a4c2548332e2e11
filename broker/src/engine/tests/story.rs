//! What is remembered of messages when they are gone, how little is written for it, and when it is forgotten.

use escrow_storage::Read as _;

use super::*;
use crate::records::{
    CheckAnswer, Ending, Happening, Note, QueueEntry, Record as _, Story, Subject, TopicNumber, keys,
};

/// All that was noted of `subject`, found as a search finds it.
fn told(bench: &mut Bench, subject: Subject) -> Vec<Note> {
    let question = Inspect::Stories { subjects: vec![subject], before: None };
    let Reply::Seen(Seen::Stories(stretches)) = bench.ask(Input::Inspect(question)) else { panic!() };
    let mut notes = Vec::new();
    for (first, end) in stretches.into_iter().rev() {
        for (_, value) in bench.store.reader().scan(&keys::story_range(first, end), 10_000).expect("reads") {
            notes.extend(Story::decode(value).expect("decodes").notes);
        }
    }
    notes.retain(|note| note.marks().any(|mark| mark == subject));
    notes
}

fn place_of(bench: &Bench, id: MessageId) -> (TopicNumber, Offset) {
    for (key, value) in bench.store.reader().scan(&keys::all(keys::space::QUEUE), 100).expect("reads") {
        if QueueEntry::decode(value).expect("decodes").id == id {
            return keys::queue_of(&key).expect("reads");
        }
    }
    panic!("{id} is in no queue")
}

#[test]
fn a_message_that_is_gone_is_still_told_of_also_after_a_restart() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |settings| settings.retry.delays = RetryDelays::Fixed(0));
    let message = bench.message("paid");
    let transaction = bench.half(vec![message.clone()]);
    bench.later(500);
    bench.ask(decide(transaction, Decision::Commit));
    let (topic, offset) = place_of(&bench, message.id);
    let (_, got) = bench.consumer("billing", "paid");
    bench.now = bench.now + 20;
    let (_, effects) = bench.turn(vec![settle("billing", got[0].token, nack())]);
    let again = deliveries(effects);
    bench.now = bench.now + 30;
    bench.ask(settle("billing", again[0].token, Verb::Ack));
    bench.later(0);
    assert_eq!(bench.count(keys::space::MESSAGE), 0);
    for _ in 0..2 {
        let gone = told(&mut bench, Subject::Message(message.id));
        let by_key = told(&mut bench, Subject::Key(keys::hash_of("key-1")));
        assert_eq!(gone, by_key);
        let Happening::Removed { ending, transaction: of, place, .. } = &gone[0].happening else { panic!() };
        assert_eq!((*ending, *of), (Ending::Finished, Some(transaction)));
        assert_eq!(place.map(|(topic, offset, _)| (topic, offset)), Some((topic, offset)));
        let decision = told(&mut bench, Subject::Transaction(transaction.number()));
        assert!(
            matches!(
                decision[..],
                [Note {
                    happening: Happening::Decided { committed: true, created_at_ms: 1_000_000, .. },
                    ..
                }]
            ),
            "{decision:?}"
        );
        let lived = told(&mut bench, Subject::Place(topic, offset));
        let [
            Note { happening: Happening::Failed { tried, error, .. }, .. },
            Note { happening: Happening::Acked(_, acked), at_ms, .. },
        ] = &lived[..]
        else {
            panic!("{lived:?}")
        };
        assert_eq!((tried.number, error.as_str(), acked.number), (1, "no stock", 2));
        assert_eq!(at_ms - acked.delivered_at_ms, 30, "a delivery is noted with what ended it");
        bench.restart();
        bench.later(0);
    }
}

#[test]
fn handing_out_writes_nothing_and_a_good_end_writes_one_record_in_a_turn() {
    let mut bench = Bench::new();
    bench.topic("paid");
    for _ in 0..50 {
        let message = bench.message("paid");
        bench.publish(message);
    }
    let before = bench.count(keys::space::STORY);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!((got.len(), bench.count(keys::space::STORY)), (50, before));
    bench.turn(got.iter().map(|got| settle("billing", got.token, Verb::Ack)).collect());
    assert_eq!(bench.count(keys::space::STORY), before + 1);
}

#[test]
fn each_check_is_noted_with_its_answer() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.later(10_000);
    let (session, effects) = bench.checker();
    let question = questions(effects)[0].check;
    bench.ask(Input::CheckAnswered(CheckAnswered { session, transaction, check: question, verdict: None }));
    let asked = questions(bench.later(40_000));
    assert_eq!(asked.len(), 1);
    bench.later(6_000);
    bench.ask(decide(transaction, Decision::Rollback));
    let notes = told(&mut bench, Subject::Transaction(transaction.number()));
    let answers: Vec<_> = notes
        .iter()
        .filter_map(|note| match &note.happening {
            Happening::Checked { answer, client } => Some((*answer, client.as_str())),
            _ => None,
        })
        .collect();
    let expected = [
        (CheckAnswer::NoChecker, ""),
        (CheckAnswer::Unknown, "producer-1"),
        (CheckAnswer::TimedOut, "producer-1"),
    ];
    assert_eq!(answers, expected);
}

#[test]
fn stories_are_forgotten_by_age_and_by_count_and_the_rest_is_found() {
    let mut settings = Settings::default();
    settings.retention.story_ms = 80_000;
    let mut bench = Bench::with(settings);
    bench.topic("paid");
    let (session, _) = bench.consumer("billing", "paid");
    let mut ids = Vec::new();
    for nth in 0..200_u64 {
        bench.ask(Input::Credit(Credit { session, messages: 1, bytes: 100 }));
        let mut message = bench.message("paid");
        message.id = MessageId::new(bench.now.unix_ms, [nth as u8; 10]);
        ids.push(message.id);
        let (_, effects) = bench.turn(vec![Input::Publish(message.into())]);
        let got = deliveries(effects);
        let got = if got.is_empty() { deliveries(bench.later(0)) } else { got };
        bench.ask(settle("billing", got[0].token, Verb::Ack));
        bench.later(1_000);
    }
    let kept = |bench: &mut Bench| -> Vec<bool> {
        ids.iter().map(|id| !told(bench, Subject::Message(*id)).is_empty()).collect()
    };
    let before = kept(&mut bench);
    // The last 80 seconds are kept; a chapter lasts a tenth of that and goes as a whole.
    assert!(before[125..].iter().all(|kept| *kept), "{before:?}");
    assert!(before[..100].iter().all(|kept| !*kept), "{before:?}");
    bench.restart();
    assert_eq!(kept(&mut bench), before);

    bench.engine.settings.retention.story_max = 100;
    bench.restart();
    bench.later(0);
    let notes: usize = bench
        .store
        .reader()
        .scan(&keys::all(keys::space::STORY), 10_000)
        .expect("reads")
        .into_iter()
        .map(|(_, value)| Story::decode(value).expect("decodes").notes.len())
        .sum();
    assert!(notes <= 100 + 25, "{notes} notes are kept");
    assert!(*kept(&mut bench).last().expect("there are some"));

    bench.engine.settings.retention.story_max = 0;
    bench.restart();
    let before = bench.count(keys::space::STORY);
    let message = bench.message("paid");
    bench.publish(message);
    let (_, got) = bench.consumer("billing", "paid");
    bench.ask(settle("billing", got[0].token, Verb::Ack));
    bench.later(0);
    assert!(bench.count(keys::space::STORY) <= before, "0 notes nothing");
}

#[test]
fn a_chapter_that_is_damaged_loses_no_story() {
    let mut settings = Settings::default();
    settings.retention.story_ms = 8_000;
    let mut bench = Bench::with(settings);
    bench.topic("paid");
    let mut ids = Vec::new();
    for nth in 0..5_u8 {
        let mut message = bench.message("paid");
        message.id = MessageId::new(bench.now.unix_ms, [nth + 1; 10]);
        ids.push(message.id);
        let transaction = bench.half(vec![message]);
        bench.ask(decide(transaction, Decision::Rollback));
        bench.later(1_000);
    }
    let chapters = bench.store.reader().scan(&keys::all(keys::space::CHAPTER), 100).expect("reads");
    assert!(chapters.len() >= 2, "{} chapters", chapters.len());
    let recovered = bench.restart_with_damage(&chapters[1].0).expect("it starts all the same");
    assert_eq!(recovered.damaged.len(), 1, "{:?}", recovered.damaged);
    for id in ids {
        assert_eq!(told(&mut bench, Subject::Message(id)).len(), 1, "{id}");
    }
}

/// Bytes that the journal has of 400 transactions that go well, 20 in a turn.
fn written_for_transactions(story_max: u64) -> usize {
    let mut settings = Settings::default();
    settings.retention.story_max = story_max;
    let mut bench = Bench::with(settings);
    bench.topic("paid");
    let (session, _) = bench.consumer("billing", "paid");
    let before = bench.written;
    for round in 0..20_u64 {
        let messages = (0..20).map(|nth| Message {
            id: MessageId::new(bench.now.unix_ms, [(round * 20 + nth) as u8; 10]),
            key: Some(format!("order-{round}-{nth}")),
            body: Bytes::from_static(&[b'x'; 256]),
            ..bench_message(&bench, "paid")
        });
        let halves: Vec<Input> = messages.map(|message| half(vec![message])).collect();
        let (outcomes, _) = bench.turn(halves);
        bench.now = bench.now + 3;
        let decisions = outcomes.into_iter().map(|outcome| match outcome.expect("prepared") {
            Reply::Prepared { transaction, .. } => decide(transaction, Decision::Commit),
            other => panic!("{other:?}"),
        });
        let (_, effects) = bench.turn(decisions.collect());
        bench.now = bench.now + 2;
        let acks = deliveries(effects).into_iter().map(|got| settle("billing", got.token, Verb::Ack));
        let acks: Vec<Input> = acks.collect();
        assert_eq!(acks.len(), 20);
        bench.turn(acks);
        bench.turn(vec![Input::Credit(Credit { session, messages: 20, bytes: 20 * 256 })]);
    }
    bench.written - before
}

fn bench_message(bench: &Bench, topic: &str) -> Message {
    Message {
        id: MessageId::new(bench.now.unix_ms, [1; 10]),
        topic: name(topic),
        key: None,
        ordering_key: None,
        tag: None,
        headers: vec![],
        deliver_at_ms: 0,
        time_to_live_ms: 0,
        body: Bytes::new(),
    }
}

#[test]
fn telling_what_happened_adds_little_to_what_is_written() {
    let (without, with) = (written_for_transactions(0) / 400, written_for_transactions(3_000_000) / 400);
    println!("{without} bytes in the journal for a transaction, {with} with its story");
    assert!(with - without <= 90, "{without} bytes for a transaction, {with} with its story");
    assert!(with * 100 <= without * 112, "{without} bytes for a transaction, {with} with its story");
}
