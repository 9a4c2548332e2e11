//! Jobs over many dead letters.

use super::*;
use crate::records::{JobDeed, JobDeeds, JobKind, JobState, LetterFilter};

impl Bench {
    /// A group `billing` on topic `paid` with so many dead letters, and its consumer.
    fn dead_letters(&mut self, count: usize) {
        self.topic("paid");
        self.group("billing", "paid", |_| {});
        for _ in 0..count {
            let message = self.message("paid");
            self.publish(message);
        }
        let (_, got) = self.consumer("billing", "paid");
        assert_eq!(got.len(), count);
        for delivery in got {
            self.ask(settle("billing", delivery.token, Verb::Reject { reason: "no stock".into() }));
        }
        self.later(0);
    }

    fn start(&mut self, kind: JobKind, filter: LetterFilter, rate: u32, dry_run: bool) -> JobView {
        match self.ask(by_hand(Command::StartJob { group: name("billing"), kind, filter, rate, dry_run })) {
            Reply::Job(job) => job,
            other => panic!("{other:?}"),
        }
    }

    fn order(&mut self, number: u64, order: JobOrder) -> JobState {
        match self.ask(by_hand(Command::OrderJob(number, order))) {
            Reply::Job(job) => job.progress.state,
            other => panic!("{other:?}"),
        }
    }

    /// What a job did.
    fn deeds(&self, number: u64) -> Vec<JobDeed> {
        let view = self.store.reader();
        let parts = escrow_storage::Read::scan(&view, &keys::all_job_deeds(number), 1_000).unwrap();
        let parts = parts.into_iter().map(|(_, part)| <JobDeeds as crate::records::Record>::decode(part));
        parts.flat_map(|part| part.unwrap().0).collect()
    }

    /// Where a job stands, and what it has done, refused and left.
    fn job(&mut self, number: u64) -> (JobState, u64, u64, u64) {
        match self.ask(Input::Inspect(Inspect::Job(number))) {
            Reply::Seen(Seen::Job(job)) => {
                (job.progress.state, job.progress.done, job.progress.failed, job.left())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn all() -> LetterFilter {
    LetterFilter::default()
}

#[test]
fn a_job_keeps_its_pace_goes_on_after_a_restart_and_sends_nothing_twice() {
    let mut bench = Bench::new();
    bench.dead_letters(5);
    bench.start(JobKind::Redrive, all(), 10, false);
    bench.later(0);
    assert_eq!(bench.job(1), (JobState::Running, 1, 0, 4), "the first goes at once");
    bench.later(99);
    assert_eq!(bench.job(1).1, 1);
    bench.later(1);
    assert_eq!(bench.job(1).1, 2);
    // A restart does not make up for anything, and forgets nothing.
    bench.restart();
    assert_eq!(bench.job(1), (JobState::Running, 2, 0, 3));
    bench.later(99);
    assert_eq!(bench.job(1).1, 2);
    bench.later(1);
    assert_eq!(bench.job(1).1, 3);
    // Died between the step and its commit: neither happened.
    bench.now = bench.now + 100;
    let view = bench.store.reader();
    let mut turn = Turn::new(&view, Room::Enough);
    bench.engine.fire(bench.now, &mut turn);
    drop(turn);
    bench.restart();
    assert_eq!(bench.job(1).1, 3);
    for _ in 0..4 {
        bench.later(100);
    }
    assert_eq!(bench.job(1), (JobState::Done, 5, 0, 0));
    assert_eq!(bench.group_view("billing").dead_letters, 0);
    let (_, mut got) = bench.consumer("billing", "paid");
    got.extend(deliveries(bench.later(0)));
    let offsets: Vec<_> = got.iter().map(|delivery| delivery.offset.0).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4], "each once");
}

#[test]
fn a_job_that_was_held_up_does_not_make_up_for_it_at_once() {
    let mut bench = Bench::new();
    bench.dead_letters(50);
    bench.start(JobKind::Discard, all(), 20, false);
    bench.later(0);
    bench.later(60_000);
    // What a tenth of a second allows, and no more.
    assert_eq!(bench.job(1).1, 3);
}

#[test]
fn without_a_rate_a_job_is_done_in_bounded_steps_one_a_turn() {
    let mut bench = Bench::new();
    bench.dead_letters(90);
    let started = bench.start(JobKind::Discard, all(), 0, false);
    assert_eq!(started.plan.total, 90);
    assert_eq!(bench.job(1).1, 64, "its own turn, and no more");
    bench.later(0);
    assert_eq!(bench.job(1), (JobState::Done, 90, 0, 0));
    assert_eq!(bench.group_view("billing").dead_letters, 0);
}

#[test]
fn a_paused_job_waits_also_over_a_restart_and_a_cancelled_one_is_over() {
    let mut bench = Bench::new();
    bench.dead_letters(4);
    bench.start(JobKind::Redrive, all(), 1, false);
    assert_eq!(bench.order(1, JobOrder::Pause), JobState::Paused);
    let (_, done, ..) = bench.job(1);
    bench.later(60_000);
    bench.restart();
    bench.later(60_000);
    assert_eq!((bench.job(1).0, bench.job(1).1), (JobState::Paused, done));
    assert_eq!(bench.order(1, JobOrder::Resume), JobState::Running);
    bench.later(1_000);
    assert_eq!(bench.job(1).1, done + 1);
    assert_eq!(bench.order(1, JobOrder::Cancel), JobState::Cancelled);
    bench.later(60_000);
    assert_eq!(bench.job(1), (JobState::Cancelled, done + 1, 0, 0));
    for order in [JobOrder::Pause, JobOrder::Resume, JobOrder::Cancel] {
        assert_eq!(bench.refused(by_hand(Command::OrderJob(1, order))), Reason::JobEnded);
    }
    assert_eq!(bench.refused(by_hand(Command::OrderJob(2, JobOrder::Pause))), Reason::UnknownJob);
}

#[test]
fn only_what_matches_is_touched_and_what_was_chosen_and_is_not_there_is_named() {
    let mut bench = Bench::new();
    bench.dead_letters(3);
    let before = bench.group_view("billing");
    bench.start(JobKind::Discard, all(), 0, true);
    bench.later(0);
    assert_eq!(bench.job(1), (JobState::Done, 3, 0, 0));
    assert_eq!(bench.group_view("billing"), before, "a rehearsal changes nothing");

    bench.start(JobKind::Discard, LetterFilter { key: Some("key-2".into()), ..all() }, 0, false);
    bench.later(0);
    assert_eq!(bench.job(2), (JobState::Done, 1, 0, 0));
    let chosen = vec![Offset(2), Offset(1), Offset(2), Offset(9)];
    bench.start(JobKind::Discard, LetterFilter { offsets: chosen, ..all() }, 0, false);
    bench.later(0);
    assert_eq!(bench.job(3), (JobState::Done, 1, 2, 0), "1 is gone, 9 never was, 2 was named twice");
    assert_eq!(bench.count(keys::space::JOB_FAILURE), 2);
    assert_eq!(bench.group_view("billing").dead_letters, 1);
}

#[test]
fn each_letter_has_its_result_also_after_a_crash_and_what_is_sent_elsewhere_names_its_copy() {
    let mut bench = Bench::new();
    bench.dead_letters(100);
    bench.topic("later");
    bench.start(JobKind::RedriveTo(name("later")), all(), 0, true);
    bench.later(0);
    bench.later(0);
    assert_eq!(bench.job(1), (JobState::Done, 100, 0, 0));
    let would = bench.deeds(1);
    assert_eq!(would.iter().map(|deed| deed.offset.0).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    assert!(would.iter().all(|deed| deed.copy.is_none()), "a rehearsal makes no copy");

    // Letter by letter, with a restart in the middle of a record of them.
    bench.start(JobKind::RedriveTo(name("later")), all(), 1_000, false);
    for turn in 0..200 {
        if turn == 70 {
            bench.restart();
        }
        bench.later(1);
    }
    assert_eq!(bench.job(2), (JobState::Done, 100, 0, 0));
    let deeds = bench.deeds(2);
    assert_eq!(deeds.iter().map(|deed| deed.message).collect::<Vec<_>>(), {
        would.iter().map(|deed| deed.message).collect::<Vec<_>>()
    });
    let view = bench.store.reader();
    for deed in &deeds {
        let copy = deed.copy.expect("it names its copy");
        assert!(escrow_storage::Read::get(&view, &keys::message(copy)).unwrap().is_some());
    }
    assert_eq!(bench.count(keys::space::JOB_DEEDS), 4, "64 in a record");
}

#[test]
fn what_dies_again_while_a_job_runs_is_not_part_of_it() {
    let mut bench = Bench::new();
    bench.dead_letters(2);
    let (_, _) = bench.consumer("billing", "paid");
    let (group, filter) = (name("billing"), all());
    let start = Command::StartJob { group, kind: JobKind::Redrive, filter, rate: 1, dry_run: false };
    let (_, mut effects) = bench.turn(vec![by_hand(start)]);
    for _ in 0..10 {
        effects.extend(bench.later(1_000));
        for delivery in deliveries(std::mem::take(&mut effects)) {
            bench.ask(settle("billing", delivery.token, Verb::Reject { reason: "again".into() }));
        }
    }
    assert_eq!(bench.job(1), (JobState::Done, 2, 0, 0));
    assert_eq!(bench.group_view("billing").dead_letters, 2);
}

#[test]
fn so_many_jobs_at_once_and_no_more_and_one_whose_group_goes_ends() {
    let mut settings = Settings::default();
    settings.limits.jobs_max = 1;
    let mut bench = Bench::with(settings);
    bench.dead_letters(2);
    let start = || {
        let filter = LetterFilter::default();
        by_hand(Command::StartJob {
            group: name("billing"),
            kind: JobKind::Redrive,
            filter,
            rate: 1,
            dry_run: false,
        })
    };
    bench.ask(start());
    assert_eq!(bench.refused(start()), Reason::LimitReached);
    bench.ask(by_hand(Command::DeleteGroup { name: name("billing"), force: true }));
    bench.later(1_000);
    assert_eq!(bench.job(1).0, JobState::Failed);
    assert_eq!(bench.refused(start()), Reason::UnknownGroup);
}

#[test]
fn an_edited_letter_goes_out_as_a_new_message_and_the_old_one_ends_in_the_same_batch() {
    let mut bench = Bench::new();
    bench.dead_letters(1);
    let edit = |dry_run| {
        let edit = MessageEdit {
            headers: Some(vec![("currency".into(), "EUR".into())]),
            body: Some(Bytes::from_static(b"mended")),
        };
        by_hand(Command::Redrive {
            group: name("billing"),
            offset: Offset(0),
            to: None,
            edit: Some(edit),
            dry_run,
        })
    };
    bench.ask(edit(true));
    assert_eq!(bench.group_view("billing").dead_letters, 1, "a rehearsal changes nothing");
    bench.handle_and_die(edit(false));
    bench.restart();
    assert_eq!(bench.group_view("billing").dead_letters, 1, "neither happened");
    let Reply::Copied { of, copy, topic } = bench.ask(edit(false)) else { panic!("no copy was made") };
    assert_eq!(topic, name("paid"));
    let record = bench.store.reader();
    let record = escrow_storage::Read::get(&record, &keys::message(copy)).unwrap().unwrap();
    let message = <Message as crate::records::Record>::decode(record).unwrap();
    assert_eq!((message.body, message.key.as_deref()), (Bytes::from_static(b"mended"), Some("key-1")));
    let headers = vec![("currency".into(), "EUR".into()), ("escrow-redriven-from".into(), of.to_string())];
    assert_eq!(message.headers, headers);
    assert_eq!(bench.group_view("billing").dead_letters, 0);
    assert_eq!(bench.refused(edit(false)), Reason::UnknownDeadLetter);
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [copy]);
}
