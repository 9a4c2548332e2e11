//! Jobs over many dead letters: sent again or given up at a rate, a bounded piece in each turn. What a step did and how
//! far the job has come are one batch: after a restart it goes on where it stood, and does nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use escrow_protocol::{GroupName, Offset, Reason};
use escrow_storage::{KeyRange, Read, ReadError};

use super::trouble::{Step, Trouble};
use super::turn::{decode, key_in};
use super::{Engine, JobOrder, JobView, Now, Operator, Refusal, Reply, Turn};
use crate::records::keys::{self, space};
use crate::records::{
    DeadLetter, JobDeed, JobDeeds, JobFailure, JobKind, JobPlan, JobProgress, JobState, LetterFilter, Message,
};

/// Dead letters that a job looks at in one turn, at most.
const LETTERS_PER_TURN_MAX: usize = 64;
/// Bytes of bodies after which a job's turn is over: copies for another topic are read and written.
const BYTES_PER_TURN_MAX: u64 = 4 << 20;
/// Jobs that are kept, ended ones included; the oldest ended one makes room.
const JOBS_KEPT_MAX: usize = 100;
/// Failures of a job whose details are kept; the others are counted.
const FAILURES_KEPT_MAX: u64 = 1_000;
/// Deeds of a job that are kept, some 20 bytes each; the others are counted, and told by the story of their message.
const DEEDS_KEPT_MAX: u64 = 10_000;
/// One dead letter, in the unit of credit: what a rate of one gains in a second.
const ONE: u64 = 1_000;
/// Credit is saved for so long, milliseconds: a job that was held up does not make up for more at once.
const CREDIT_SAVED_MS: u64 = 100;

/// A job.
#[derive(Debug)]
struct Job {
    plan: Arc<JobPlan>,
    progress: JobProgress,
    credit: u64,
    credited_at_mono_ms: u64,
    /// When its next step is due, monotonic.
    due_mono_ms: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_number: BTreeMap<u64, Job>,
    running: BTreeSet<u64>,
}

impl Jobs {
    /// Milliseconds until the next step of any.
    pub(super) fn next_in(&self, now: Now) -> Option<u64> {
        let due = self.running.iter().map(|number| self.by_number[number].due_mono_ms);
        due.min().map(|at| at.saturating_sub(now.mono_ms))
    }

    /// The newest first.
    pub(super) fn page(&self, before: Option<u64>, limit: usize) -> Vec<JobView> {
        let older = self.by_number.range(..before.unwrap_or(u64::MAX)).rev();
        older.take(limit).map(|(number, job)| job.view(*number)).collect()
    }

    pub(super) fn find(&self, number: u64) -> Result<JobView, Refusal> {
        self.by_number.get(&number).map(|job| job.view(number)).ok_or_else(|| unknown(number))
    }

    fn under_way(&self) -> usize {
        self.by_number.values().filter(|job| !job.progress.state.is_ended()).count()
    }

    fn stand(&mut self, number: u64) {
        let is_running =
            self.by_number.get(&number).is_some_and(|job| job.progress.state == JobState::Running);
        if is_running {
            self.running.insert(number);
        } else {
            self.running.remove(&number);
        }
    }
}

impl Job {
    fn view(&self, number: u64) -> JobView {
        JobView { number, plan: Arc::clone(&self.plan), progress: self.progress.clone() }
    }

    /// Dead letters in a second; `None`: as fast as it goes.
    fn rate(&self) -> Option<u64> {
        (self.plan.rate > 0 && !self.plan.dry_run).then_some(u64::from(self.plan.rate))
    }

    /// Starts the clock of its pace.
    fn pace_from(&mut self, now: Now, credit: u64) {
        (self.credit, self.credited_at_mono_ms) = (credit, now.mono_ms);
        self.plan_next(now);
    }

    fn earn(&mut self, now: Now) {
        let elapsed_ms = now.mono_ms.saturating_sub(self.credited_at_mono_ms);
        self.credited_at_mono_ms = now.mono_ms;
        if let Some(rate) = self.rate() {
            let most = ONE.max(rate.saturating_mul(CREDIT_SAVED_MS));
            self.credit = self.credit.saturating_add(elapsed_ms.saturating_mul(rate)).min(most);
        }
    }

    /// Dead letters it may do something with now.
    fn allowance(&self) -> u64 {
        if self.rate().is_some() { self.credit / ONE } else { u64::MAX }
    }

    fn spend(&mut self) {
        self.credit = self.credit.saturating_sub(ONE);
    }

    fn plan_next(&mut self, now: Now) {
        let wait_ms = match self.rate() {
            Some(rate) => ONE.saturating_sub(self.credit).div_ceil(rate),
            None => 0,
        };
        self.due_mono_ms = now.mono_ms.saturating_add(wait_ms);
    }

    fn end(&mut self, now: Now, state: JobState, fault: impl Into<String>) {
        self.progress.state = state;
        self.progress.ended_at_ms = now.unix_ms;
        self.progress.fault = fault.into();
    }
}

impl LetterFilter {
    /// Whether the rest of it matters for a dead letter that was found.
    fn is_open(&self) -> bool {
        *self == Self { offsets: self.offsets.clone(), ..Self::default() }
    }

    /// Whether it admits a dead letter, as far as its own record says.
    pub fn admits(&self, letter: &DeadLetter) -> bool {
        let key_hash = self.key.as_deref().map(keys::hash_of);
        self.reason.is_none_or(|reason| reason == letter.reason)
            && self.topic.as_ref().is_none_or(|topic| *topic == letter.topic_name)
            && key_hash.is_none_or(|hash| letter.entry.key_hash == Some(hash))
            && (self.from_ms == 0 || letter.at_ms >= self.from_ms)
            && (self.until_ms == 0 || letter.at_ms < self.until_ms)
            && self.error_contains.as_deref().is_none_or(|text| letter.error.contains(text))
    }

    /// The record has a hash of the key: the message decides. One that cannot be read is not excluded.
    pub fn admits_message(&self, message: Option<&Message>) -> bool {
        let key = self.key.as_deref();
        key.is_none_or(|key| message.is_none_or(|message| message.key.as_deref() == Some(key)))
    }
}

/// What a job looks at in one turn.
struct Found {
    letters: Vec<Letter>,
    /// Nothing follows.
    is_all: bool,
}

/// A dead letter that a job looks at, or why it cannot be read.
struct Letter {
    offset: Offset,
    /// Where the job stands behind it.
    next: u64,
    record: Result<DeadLetter, Refusal>,
}

impl Engine {
    /// Makes a job; its first step is due at once.
    pub(super) fn start_job(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        operator: Operator,
        (group, kind, mut filter): (GroupName, JobKind, LetterFilter),
        (rate, dry_run): (u32, bool),
    ) -> Step<Reply> {
        let number = self.groups.find(group.as_str())?;
        if let JobKind::RedriveTo(topic) = &kind {
            self.topic_to_publish(topic)?;
        }
        let max = self.settings.limits.jobs_max;
        if self.jobs.under_way() >= max {
            let text = format!(
                "{max} jobs are under way, as many as `limits.jobs` allows; wait for one, or cancel it"
            );
            return Err(Refusal::new(Reason::LimitReached, text).with("limit", "limits.jobs").into());
        }
        self.forget_oldest_job(turn)?;
        filter.offsets.sort_unstable();
        filter.offsets.dedup();
        let dead_letters = self.groups.known(number).record.dead_letters;
        let tail = self.topics.known(dead_letters).tail;
        let is_listed = !filter.offsets.is_empty();
        let plan = JobPlan {
            kind,
            group: number,
            group_name: group,
            dead_letters,
            rate,
            dry_run,
            name: operator.name,
            reason: operator.reason,
            at_ms: now.unix_ms,
            until: tail.next,
            total: if is_listed { filter.offsets.len() as u64 } else { tail.dead_letters },
            filter,
        };
        let progress = JobProgress {
            state: JobState::Running,
            next: if is_listed { 0 } else { tail.head.0 },
            examined: 0,
            done: 0,
            failed: 0,
            ended_at_ms: 0,
            fault: String::new(),
        };
        let job_number = self.jobs.by_number.last_key_value().map_or(1, |(last, _)| last + 1);
        turn.put(keys::job(job_number), &plan);
        turn.put(keys::job_progress(job_number), &progress);
        let plan = Arc::new(plan);
        let mut job = Job { plan, progress, credit: 0, credited_at_mono_ms: 0, due_mono_ms: 0 };
        job.pace_from(now, ONE);
        let view = job.view(job_number);
        self.jobs.by_number.insert(job_number, job);
        self.jobs.stand(job_number);
        Ok(Reply::Job(view))
    }

    /// A person's word to a job. What it is already is no contradiction.
    pub(super) fn order_job(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: u64,
        order: JobOrder,
    ) -> Step<Reply> {
        let job = self.jobs.by_number.get_mut(&number).ok_or_else(|| unknown(number))?;
        let state = job.progress.state;
        if state.is_ended() {
            let text = format!("job {number} has ended: {}", state.as_str());
            return Err(Refusal::new(Reason::JobEnded, text).with("state", state.as_str()).into());
        }
        match order {
            JobOrder::Pause => job.progress.state = JobState::Paused,
            JobOrder::Resume if state == JobState::Running => {}
            JobOrder::Resume => {
                job.progress.state = JobState::Running;
                job.pace_from(now, 0);
            }
            JobOrder::Cancel => job.end(now, JobState::Cancelled, ""),
        }
        turn.put(keys::job_progress(number), &job.progress);
        let view = job.view(number);
        self.jobs.stand(number);
        Ok(Reply::Job(view))
    }

    fn forget_oldest_job(&mut self, turn: &mut Turn<'_>) -> Step<()> {
        if self.jobs.by_number.len() < JOBS_KEPT_MAX {
            return Ok(());
        }
        let ended = self.jobs.by_number.iter().find(|(_, job)| job.progress.state.is_ended());
        let Some((number, _)) = ended else { return Ok(()) };
        let number = *number;
        let failures = match turn.scan(&keys::job_failures(number), FAILURES_KEPT_MAX as usize) {
            Ok(failures) => failures,
            // They are never looked for again; the damage was reported by whoever looked for them.
            Err(ReadError::Corrupt { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        failures.into_iter().for_each(|(key, _)| turn.delete(key));
        // By number, not by looking: parts that were never written are nothing to delete.
        let done = self.jobs.by_number[&number].progress.done.min(DEEDS_KEPT_MAX);
        (0..done.div_ceil(JobDeeds::IN_ONE)).for_each(|part| turn.delete(keys::job_deeds(number, part)));
        turn.delete(keys::job(number));
        turn.delete(keys::job_progress(number));
        self.jobs.by_number.remove(&number);
        Ok(())
    }

    /// A step of each job that is due.
    pub(super) fn step_jobs(&mut self, now: Now, turn: &mut Turn<'_>) {
        let numbers: Vec<u64> = self.jobs.running.iter().copied().collect();
        for number in numbers {
            let Some(mut job) = self.jobs.by_number.remove(&number) else { continue };
            let is_due = job.due_mono_ms <= now.mono_ms;
            if is_due {
                let before = job.progress.clone();
                let mut deeds = Vec::new();
                let step = self.step_job(now, turn, number, &mut job, &mut deeds);
                let noted = self.note_deeds(turn, number, before.done, deeds);
                if job.progress != before {
                    turn.put(keys::job_progress(number), &job.progress);
                }
                self.absorb(turn, step);
                self.absorb(turn, noted);
            }
            self.jobs.by_number.insert(number, job);
            self.jobs.stand(number);
        }
    }

    /// Writes what a step did behind what the job has `done` already.
    fn note_deeds(&mut self, turn: &mut Turn<'_>, number: u64, done: u64, deeds: Vec<JobDeed>) -> Step<()> {
        let mut at = done;
        let mut deeds = deeds.into_iter().take(DEEDS_KEPT_MAX.saturating_sub(done) as usize).peekable();
        while deeds.peek().is_some() {
            let key = keys::job_deeds(number, at / JobDeeds::IN_ONE);
            let mut part: JobDeeds = match at % JobDeeds::IN_ONE {
                0 => JobDeeds::default(),
                _ => self.read_or_report(turn, &key)?.unwrap_or_default(),
            };
            let room = JobDeeds::IN_ONE - at % JobDeeds::IN_ONE;
            let before = part.0.len();
            part.0.extend(deeds.by_ref().take(room as usize));
            at += (part.0.len() - before) as u64;
            turn.put(key, &part);
        }
        Ok(())
    }

    fn step_job(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        number: u64,
        job: &mut Job,
        deeds: &mut Vec<JobDeed>,
    ) -> Step<()> {
        let plan = Arc::clone(&job.plan);
        if !self.groups.by_number.contains_key(&plan.group) {
            job.end(now, JobState::Failed, format!("group {} is gone", plan.group_name));
            return Ok(());
        }
        job.earn(now);
        let mut bytes = 0;
        let found = self.letters_of(turn, &plan, &job.progress, job.allowance())?;
        let is_all = found.is_all;
        let mut is_through = true;
        for Letter { offset, next, record: letter } in found.letters {
            if job.allowance() == 0 || bytes >= BYTES_PER_TURN_MAX {
                is_through = false;
                break;
            }
            let body_bytes = letter.as_ref().map_or(0, |letter| u64::from(letter.entry.body_bytes));
            let message = letter.as_ref().ok().map(|letter| letter.entry.id);
            let outcome = match letter {
                Ok(letter) if !self.is_meant(turn, &plan.filter, &letter) => {
                    job.progress.next = next;
                    job.progress.examined += 1;
                    continue;
                }
                Ok(_) => self.job_does(now, turn, &plan, offset),
                Err(refusal) => Err(refusal.into()),
            };
            bytes += body_bytes;
            match outcome {
                Ok(reply) => {
                    job.progress.done += 1;
                    deeds.extend(deed_of(offset, &reply, plan.dry_run));
                }
                Err(Trouble::Refused(refusal)) if refusal.reason == Reason::DiskFull => {
                    // Not the dead letter's fault: it is tried again.
                    let wait_ms = refusal.retry_after_ms.unwrap_or(ONE);
                    job.due_mono_ms = now.mono_ms.saturating_add(wait_ms);
                    return Ok(());
                }
                Err(Trouble::Refused(refusal)) => {
                    job.progress.failed += 1;
                    if job.progress.failed <= FAILURES_KEPT_MAX {
                        let (reason, text) = (refusal.reason.as_str().to_owned(), refusal.message);
                        let failure = JobFailure { message, reason, text };
                        turn.put(keys::job_failure(number, offset), &failure);
                    }
                }
                Err(failed) => return Err(failed),
            }
            job.progress.next = next;
            job.progress.examined += 1;
            job.spend();
        }
        if is_all && is_through {
            job.end(now, JobState::Done, "");
        }
        job.plan_next(now);
        Ok(())
    }

    fn job_does(&mut self, now: Now, turn: &mut Turn<'_>, plan: &JobPlan, offset: Offset) -> Step<Reply> {
        self.story.set_person(&plan.name);
        let done = self.job_does_what(now, turn, plan, offset);
        self.story.set_person("");
        done
    }

    fn job_does_what(
        &mut self,
        now: Now,
        turn: &mut Turn<'_>,
        plan: &JobPlan,
        offset: Offset,
    ) -> Step<Reply> {
        match &plan.kind {
            JobKind::Redrive => self.redrive(now, turn, plan.group, offset, (None, None), plan.dry_run),
            JobKind::RedriveTo(topic) => {
                self.redrive(now, turn, plan.group, offset, (Some(topic.clone()), None), plan.dry_run)
            }
            JobKind::Discard => self.discard(turn, plan.group, offset, plan.dry_run),
        }
    }

    fn is_meant(&self, turn: &Turn<'_>, filter: &LetterFilter, letter: &DeadLetter) -> bool {
        if !filter.admits(letter) {
            return false;
        }
        if filter.key.is_none() {
            return true;
        }
        let message: Option<Message> = turn.get(&keys::message(letter.entry.id)).unwrap_or_default();
        filter.admits_message(message.as_ref())
    }

    /// What a job looks at in this turn, at most so many; and whether that is all there is.
    fn letters_of(
        &self,
        turn: &Turn<'_>,
        plan: &JobPlan,
        progress: &JobProgress,
        allowance: u64,
    ) -> Step<Found> {
        let most = match plan.filter.is_open() {
            true => usize::try_from(allowance).unwrap_or(usize::MAX).min(LETTERS_PER_TURN_MAX),
            false => LETTERS_PER_TURN_MAX,
        };
        if !plan.filter.offsets.is_empty() {
            return self.letters_listed(turn, plan, progress, most);
        }
        let range = keys::dead_letter_range(plan.dead_letters, Offset(progress.next), plan.until);
        let mut letters = Vec::new();
        let (entries, damaged) = match turn.scan(&range, most) {
            Ok(entries) => (entries, None),
            Err(ReadError::Corrupt { key, fault }) => {
                let key = key_in(&range, &key)?;
                let before = KeyRange::new(range.start.clone(), key.clone());
                (turn.scan(&before, most)?, Some((key, fault)))
            }
            Err(error) => return Err(error.into()),
        };
        let is_all = entries.len() < most && damaged.is_none();
        let is_full = entries.len() == most;
        for (key, value) in entries {
            let Some((_, offset)) = keys::dead_letter_of(&key) else { continue };
            let letter =
                decode::<DeadLetter>(&key, value).map_err(|error| damaged_letter(&error.to_string()));
            letters.push(Letter { offset, next: offset.0 + 1, record: letter });
        }
        if let Some((key, fault)) = damaged.filter(|_| !is_full)
            && let Some((_, offset)) = keys::dead_letter_of(&key)
        {
            letters.push(Letter { offset, next: offset.0 + 1, record: Err(damaged_letter(&fault)) });
        }
        Ok(Found { letters, is_all })
    }

    fn letters_listed(
        &self,
        turn: &Turn<'_>,
        plan: &JobPlan,
        progress: &JobProgress,
        most: usize,
    ) -> Step<Found> {
        let mut letters = Vec::new();
        let listed = plan.filter.offsets.iter().enumerate().skip(progress.next as usize);
        for (index, offset) in listed.take(most) {
            let letter = match self.letter(turn, plan.group, *offset) {
                Ok((_, letter)) => Ok(letter),
                Err(Trouble::Refused(refusal)) => Err(refusal),
                Err(failed) => return Err(failed),
            };
            letters.push(Letter { offset: *offset, next: index as u64 + 1, record: letter });
        }
        let is_all = letters.len() < most;
        Ok(Found { letters, is_all })
    }

    pub(super) fn recover_jobs(&mut self, now: Now, view: &dyn Read) -> Result<(), ReadError> {
        self.each_record(view, space::JOB, |engine, key, plan: JobPlan| {
            let Some(number) = keys::job_of(key) else { return engine.misplaced(key) };
            // Until its progress is read; one that is damaged must not begin anew, for it may have been cancelled.
            let progress = JobProgress {
                state: JobState::Failed,
                next: 0,
                examined: 0,
                done: 0,
                failed: 0,
                ended_at_ms: now.unix_ms,
                fault: "the record of its progress is damaged".to_owned(),
            };
            let plan = Arc::new(plan);
            let job = Job { plan, progress, credit: 0, credited_at_mono_ms: 0, due_mono_ms: 0 };
            engine.jobs.by_number.insert(number, job);
        })?;
        self.each_record(view, space::JOB_PROGRESS, |engine, key, progress: JobProgress| {
            let number = keys::job_of(key);
            match number.and_then(|number| Some((number, engine.jobs.by_number.get_mut(&number)?))) {
                Some((number, job)) => {
                    job.progress = progress;
                    job.pace_from(now, 0);
                    engine.jobs.stand(number);
                }
                None => engine.misplaced(key),
            }
        })
    }
}

/// What was done with the letter at `offset`. The id that a rehearsal gives a copy is given to nothing.
fn deed_of(offset: Offset, reply: &Reply, dry_run: bool) -> Option<JobDeed> {
    match reply {
        Reply::Resolved(message) => Some(JobDeed { offset, message: *message, copy: None }),
        Reply::Copied { of, copy, .. } => {
            Some(JobDeed { offset, message: *of, copy: (!dry_run).then_some(*copy) })
        }
        _ => None,
    }
}

fn unknown(number: u64) -> Refusal {
    let text =
        format!("there is no job {number}: never started, or forgotten since; `escrow jobs ls` lists them");
    Refusal::new(Reason::UnknownJob, text).with("job_id", number)
}

fn damaged_letter(fault: &str) -> Refusal {
    Refusal::new(
        Reason::Damaged,
        format!("{fault}; run `escrow store verify` and restore a backup if need be"),
    )
}
