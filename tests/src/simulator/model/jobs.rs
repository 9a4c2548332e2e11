//! Jobs over dead letters: each step does what lies between where the job stood and where it stands now, each dead letter
//! once, and says exactly how many.

use escrow_broker::engine::{JobView, Now, Reply};
use escrow_broker::records::{JobKind, JobPlan, JobProgress, JobState, LetterFilter, Resolution};
use escrow_protocol::Offset;

use super::stands::{Expected, Standing};
use super::{Changes, Expectations, Held, Model, Placed, Verdict, require};

impl Model {
    /// The steps of this turn: they come behind what was asked, so what was resolved by hand is not theirs.
    pub(super) fn take_jobs(&mut self, now: Now, changes: &Changes, expected: &mut Expectations) -> Verdict {
        for (number, plan) in &changes.jobs {
            match plan {
                Some(plan) => {
                    require!(
                        self.jobs.keys().all(|other| other < number),
                        "the number of job {number} was given before"
                    );
                    self.jobs.insert(*number, (plan.clone(), begun()));
                }
                None => {
                    let gone = self.jobs.remove(number);
                    require!(gone.is_some_and(|(_, it)| it.state.is_ended()), "job {number} was forgotten");
                }
            }
        }
        for (number, progress) in &changes.job_progress {
            let Some(progress) = progress else { continue };
            let Some((plan, before)) = self.jobs.get(number).cloned() else {
                return Err(format!("job {number} has progress and no plan"));
            };
            self.step(now, changes, (&plan, &before, progress), expected)
                .map_err(|fault| format!("job {number}: {fault}\n    {before:?}\n    {progress:?}"))?;
            self.jobs.insert(*number, (plan, progress.clone()));
        }
        Ok(())
    }

    fn step(
        &mut self,
        now: Now,
        changes: &Changes,
        (plan, before, after): (&JobPlan, &JobProgress, &JobProgress),
        expected: &mut Expectations,
    ) -> Verdict {
        require!(!before.state.is_ended(), "it had ended and went on");
        require!(plan.filter == LetterFilter::default(), "nobody starts such a job here");
        let (done, failed) = (after.done - before.done, after.failed - before.failed);
        if after.state == JobState::Failed {
            require!(self.group_number(&plan.group_name) != Some(plan.group), "its group is there");
        }
        if plan.dry_run {
            return Ok(());
        }
        self.take_born_resolved(now, changes, plan, expected);
        let between = before.next..after.next;
        let letters: Vec<Offset> = self
            .dead_held_with_place()
            .filter(|(held, offset)| held.2 == plan.group && between.contains(&offset.0))
            // After a replay a newer letter took its place earlier in this turn.
            .filter(|(held, _)| !changes.dead_place(*held).is_some_and(Option::is_some))
            .map(|(_, offset)| offset)
            .collect();
        require!(
            letters.len() as u64 == done + failed,
            "it says {done} done and {failed} refused, and passed {letters:?}"
        );
        let to = match &plan.kind {
            JobKind::RedriveTo(topic) => Some(topic),
            _ => None,
        };
        require!(failed == 0 || (done == 0 && to.is_some()), "dead letters that are there were refused");
        if failed > 0 {
            return Ok(());
        }
        let resolution = match plan.kind {
            JobKind::Discard => Resolution::Discarded,
            _ => Resolution::Redriven,
        };
        for offset in letters {
            let id = self.placed(self.groups[&plan.group].dead_letters, offset).map(|placed| placed.id);
            let outcome = Ok(Reply::Resolved(id.ok_or("a dead letter without a place")?));
            self.resolved(now, (&plan.group_name, offset), resolution, to, &outcome, expected)?;
            self.tally.by_jobs += 1;
        }
        Ok(())
    }

    /// Messages that died in this turn, before the job began in the same one, and that it has dealt with already: of their
    /// letters nothing is on the disk but that a place was given for each.
    fn take_born_resolved(
        &mut self,
        now: Now,
        changes: &Changes,
        plan: &JobPlan,
        expected: &mut Expectations,
    ) {
        let dead = expected.held.iter().filter(|(_, it)| matches!(it, Expected::Dead { .. }));
        let born: Vec<Held> = dead
            .map(|(held, _)| *held)
            .filter(|held| held.2 == plan.group && !changes.dead_place(*held).is_some_and(Option::is_some))
            .collect();
        for held in born {
            let placed = self.topics[&held.0].places[&held.1].clone();
            let dead_letters = self.topics.get_mut(&plan.dead_letters).expect("a group has one");
            // A place that was given and removed in the same turn does not say whose it was: it left no trace.
            let is_its = |offset: Offset| {
                let entry = changes.queue.iter().find(|(at, _)| *at == (plan.dead_letters, offset));
                entry.and_then(|(_, entry)| entry.as_ref()).is_none_or(|entry| entry.id == placed.id)
            };
            let mut offset = dead_letters.next;
            while offset < plan.until && (dead_letters.places.contains_key(&offset) || !is_its(offset)) {
                offset = offset.next();
            }
            if offset >= plan.until {
                continue;
            }
            if changes.queue.iter().all(|(at, _)| *at != (plan.dead_letters, offset)) {
                expected.traceless.insert((plan.dead_letters, offset));
            }
            dead_letters.places.insert(
                offset,
                Placed { at_ms: now.unix_ms, expires_at_ms: 0, resolution: None, trimmed: false, ..placed },
            );
            while dead_letters.places.contains_key(&dead_letters.next) {
                dead_letters.next = dead_letters.next.next();
            }
            self.dead_places.insert(held, offset);
            self.set_standing(held, Standing::Dead(offset));
            self.tally.dead += 1;
            expected.held.insert(held, Expected::Nothing);
        }
    }

    /// What the broker says of its jobs.
    pub(crate) fn are_its_jobs(&self, seen: &[JobView]) -> Verdict {
        let known: Vec<_> = self.jobs.iter().rev().collect();
        require!(seen.len() == known.len(), "there are {} jobs, the broker has {}", known.len(), seen.len());
        for (view, (number, (plan, progress))) in seen.iter().zip(known) {
            require!(
                (view.number, view.plan.as_ref(), &view.progress) == (*number, plan, progress),
                "job {number} is {progress:?}, the broker says {view:?}"
            );
        }
        Ok(())
    }
}

/// A job of which nothing is done.
fn begun() -> JobProgress {
    JobProgress {
        state: JobState::Running,
        next: 0,
        examined: 0,
        done: 0,
        failed: 0,
        ended_at_ms: 0,
        fault: String::new(),
    }
}
