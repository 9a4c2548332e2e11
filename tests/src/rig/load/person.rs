//! The person of the load, who looks into the dead letters now and then and sends one of them again.

use std::sync::Arc;

use escrow::{Client, v1};

use super::super::history::{Answer, Operation};
use super::{GROUPS, Shared, number_of, producers};

/// How many answers lie between two looks.
const LOOK_EVERY: u64 = 40;

pub(super) async fn redrive_now_and_then(client: Client, shared: Arc<Shared>, mut rng: fastrand::Rng) {
    while shared.is_producing() {
        shared.progress(LOOK_EVERY).await;
        let group = GROUPS[rng.usize(0..GROUPS.len())];
        let filter = v1::DeadLetterFilter { group: group.into(), ..Default::default() };
        let page = Some(v1::Page { limit: 20, cursor: String::new() });
        let request = v1::ListDeadLettersRequest { page, filter: Some(filter) };
        // The broker may be down just now: there is another time.
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
    let mut results = client.admin().redrive_dead_letters(request).await?.into_inner();
    match results.message().await? {
        Some(v1::DeadLetterResult { fault: None, .. }) => Ok(Answer::Ok),
        Some(v1::DeadLetterResult { fault: Some(fault), .. }) => Err(fault.into()),
        // Somebody else was faster: nothing matched.
        None => Ok(Answer::Failed),
    }
}
