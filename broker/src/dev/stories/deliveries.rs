//! Stories of deliveries: retries, dead letters, order.

use escrow::{Message, v1};

use crate::dev::site::{Site, StoryError, body, eventually, next};

pub(super) async fn retried(site: Site) -> Result<String, StoryError> {
    let (topic, group) = ("check-retried", "check-retried-readers");
    let mut deliveries = site.subscribe(group, &[topic]).await?;
    let producer = site.client.producer("check-retried-shop").build().await?;
    producer.publish(Message::new(topic).text("order")).await?;
    let first = next(&mut deliveries).await?;
    let mut attempts = vec![first.attempt()];
    first.nack().reason("the bank is down").await?;
    let second = next(&mut deliveries).await?;
    attempts.push(second.attempt());
    second.ack().await?;
    let group = group_of(&site, group).await?;
    let lag: u64 = group.positions.iter().map(|position| position.lag).sum();
    let attempts: Vec<_> = attempts.iter().map(ToString::to_string).collect();
    Ok(format!("attempts {}; {} retrying, lag {lag}", attempts.join(", "), group.retrying))
}

async fn group_of(site: &Site, name: &str) -> Result<v1::Group, StoryError> {
    Ok(site.admin().get_group(v1::GetGroupRequest { name: name.to_owned() }).await?.into_inner())
}

pub(super) async fn dead_lettered(site: Site) -> Result<String, StoryError> {
    let (topic, group) = ("check-dead", "check-dead-readers");
    let mut deliveries = site.subscribe(group, &[topic]).await?;
    let producer = site.client.producer("check-dead-shop").build().await?;
    producer.publish(Message::new(topic).text("order").key("o-1")).await?;
    let max_attempts = group_of(&site, group).await?.settings.and_then(|settings| settings.retry);
    for _ in 0..max_attempts.map_or(1, |retry| retry.max_attempts) {
        next(&mut deliveries).await?.nack().reason("no such account").await?;
    }
    let filter = v1::DeadLetterFilter { group: group.to_owned(), ..Default::default() };
    let dead = dead_letter(&site, &filter).await?;
    let request = v1::RedriveDeadLettersRequest {
        filter: Some(filter),
        operator: Some(v1::Operator { name: "escrow-dev".to_owned(), reason: "the story".to_owned() }),
        ..Default::default()
    };
    let job_id = site.admin().redrive_dead_letters(request).await?.into_inner().job_id;
    let again = next(&mut deliveries).await?;
    let is_same = body(&again) == "order" && again.key() == "o-1";
    again.ack().await?;
    // What was delivered again was counted in the batch that sent it.
    let job =
        site.admin().get_job(v1::GetJobRequest { job_id, ..Default::default() }).await?.into_inner().job;
    let redriven = job.unwrap_or_default().done;
    let left = group_of(&site, group).await?.dead_letters;
    Ok(format!(
        "{} after {} attempts; redriven {redriven}, {}, {left} dead",
        dead.origin.unwrap_or_default().reason,
        dead.attempts_made,
        if is_same { "delivered again" } else { "another message came" }
    ))
}

/// Waits for the first dead letter that matches.
async fn dead_letter(site: &Site, filter: &v1::DeadLetterFilter) -> Result<v1::DeadLetter, StoryError> {
    eventually("no dead letter was listed", async || {
        let request = v1::ListDeadLettersRequest { page: None, filter: Some(filter.clone()) };
        Ok(site.admin().list_dead_letters(request).await?.into_inner().dead_letters.into_iter().next())
    })
    .await
}

pub(super) async fn ordered(site: Site) -> Result<String, StoryError> {
    let topic = "check-ordered";
    let mut deliveries = site.subscribe("check-ordered-readers", &[topic]).await?;
    let producer = site.client.producer("check-ordered-shop").build().await?;
    for number in 1..=5 {
        producer.publish(Message::new(topic).ordering_key("account-7").text(number.to_string())).await?;
    }
    let failed = next(&mut deliveries).await?;
    let failed_body = body(&failed);
    failed.nack().reason("the bank is down").await?;
    let mut done = Vec::new();
    for _ in 1..=5 {
        let delivery = next(&mut deliveries).await?;
        done.push(body(&delivery));
        delivery.ack().await?;
    }
    Ok(format!("{failed_body} failed, then {}", done.join(" ")))
}
