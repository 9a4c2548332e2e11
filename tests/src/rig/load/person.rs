//! The person of the load, who looks now and then at how far behind consumers are, and into the dead letters, and sends one
//! of them again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use escrow::{Client, v1};

use super::super::history::{Answer, Operation};
use super::{GROUPS, Shared, number_of, producers};

/// How many answers lie between two looks.
const LOOK_EVERY: u64 = 40;
/// With more than this before all groups together, producers wait: it must come to rest in time on a slow machine, too.
const LAG_MAX: u64 = 5_000;

pub(super) async fn redrive_now_and_then(client: Client, shared: Arc<Shared>, mut rng: fastrand::Rng) {
    while shared.is_producing() {
        shared.progress(LOOK_EVERY).await;
        // The broker may be down just now: there is another time.
        let Ok(status) = client.admin().get_status(v1::GetStatusRequest {}).await else { continue };
        shared.is_far_behind.store(status.into_inner().lag > LAG_MAX, Ordering::SeqCst);
        let group = GROUPS[rng.usize(0..GROUPS.len())];
        let filter = v1::DeadLetterFilter { group: group.into(), ..Default::default() };
        let page = Some(v1::Page { limit: 20, cursor: String::new() });
        let request = v1::ListDeadLettersRequest { page, filter: Some(filter) };
        let Ok(found) = client.admin().list_dead_letters(request).await else { continue };
        let mut letters = found.into_inner().dead_letters;
        if letters.is_empty() {
            continue;
        }
        let letter = letters.swap_remove(rng.usize(0..letters.len()));
        let message = number_of(&letter.message.unwrap_or_default().key);
        let operation = Operation::Redrive { group, message };
        let number = shared.history.invoke(operation);
        let answer = redrive(&client, group, letter.offset).await;
        shared.answer(number, answer.unwrap_or_else(|error| producers::answer_of(&error)));
    }
}

async fn redrive(client: &Client, group: &str, offset: u64) -> Result<Answer, escrow::Error> {
    let filter = v1::DeadLetterFilter {
        group: group.into(),
        offsets: vec![offset],
        ..v1::DeadLetterFilter::default()
    };
    let operator = v1::Operator { name: "person".into(), reason: "try again".into() };
    let request = v1::RedriveDeadLettersRequest {
        filter: Some(filter),
        operator: Some(operator),
        ..v1::RedriveDeadLettersRequest::default()
    };
    let job = client.admin().redrive_dead_letters(request).await?.into_inner();
    Ok(ended(client, job.job_id).await.unwrap_or(Answer::Unknown))
}

/// What became of the one dead letter of a job. `None`: the broker was gone before it said; the job goes on when it is
/// back.
async fn ended(client: &Client, job_id: u64) -> Option<Answer> {
    loop {
        let request = v1::GetJobRequest { job_id, ..Default::default() };
        let job = client.admin().get_job(request).await.ok()?.into_inner().job?;
        match job.state() {
            v1::JobState::Running | v1::JobState::Paused => {}
            _ if job.done == 1 => return Some(Answer::Ok),
            // Somebody else was faster.
            _ => return Some(Answer::Failed),
        }
    }
}
