//! Stories of transactions: who decides, and who sees what.

use escrow::{Decision, Message, TransactionState, Verdict, v1};

use crate::dev::site::{Site, StoryError, body, decider, next};

/// What is published beside a half message, to see that nothing came before it.
const MARKER: &str = "marker";

pub(super) async fn committed(site: Site) -> Result<String, StoryError> {
    let topic = "check-committed";
    let mut deliveries = site.subscribe("check-committed-readers", &[topic]).await?;
    let producer = site.producer("check-committed-shop", Verdict::Unknown).await?;
    let half = producer.send_half(Message::new(topic).text("order")).await?;
    producer.publish(Message::new(topic).text(MARKER)).await?;
    // The half message was stored first: if it were visible, it would come first.
    let first = next(&mut deliveries).await?;
    let first_body = body(&first);
    first.ack().await?;
    let decided = half.commit().await?;
    let second = next(&mut deliveries).await?;
    let second_body = body(&second);
    second.ack().await?;
    let (state, by) = (decided.state.as_str_name(), decided.decider.map(|decider| decider.role));
    Ok(format!("{first_body}, then {second_body} after {state} by {}", by.unwrap_or_default()))
}

pub(super) async fn rolled_back(site: Site) -> Result<String, StoryError> {
    let topic = "check-rolled-back";
    let producer = site.producer("check-rolled-back-shop", Verdict::Unknown).await?;
    let half = producer.send_half(Message::new(topic).text("order")).await?;
    let decided = half.rollback().await?;
    let by = decided.decider.map(|decider| decider.role).unwrap_or_default();
    let seen = only_marker(&site, topic).await?;
    Ok(format!("{} by {by}, then {seen}", decided.state.as_str_name()))
}

/// Publishes a marker, and says where the first message of the topic is and what it is.
async fn only_marker(site: &Site, topic: &str) -> Result<String, StoryError> {
    let producer = site.client.producer("check-markers").build().await?;
    producer.publish(Message::new(topic).text(MARKER)).await?;
    let mut deliveries = site.subscribe(&format!("{topic}-readers"), &[topic]).await?;
    let first = next(&mut deliveries).await?;
    let seen = format!("only {} at offset {}", body(&first), first.offset());
    first.ack().await?;
    Ok(seen)
}

pub(super) async fn checked_to_commit(site: Site) -> Result<String, StoryError> {
    let topic = "check-asked-commit";
    let mut deliveries = site.subscribe("check-asked-commit-readers", &[topic]).await?;
    let producer = site.producer("check-asked-commit-shop", Verdict::Commit).await?;
    let half = producer.send_half(Message::new(topic).text("order")).await?;
    let id = half.transaction_id();
    // The producer says nothing: it dropped the half message, as one that fell over would.
    drop(half);
    let delivery = next(&mut deliveries).await?;
    let seen = body(&delivery);
    delivery.ack().await?;
    let transaction = site.transaction(id).await?;
    Ok(format!("{seen}, {} by {}", transaction.state().as_str_name(), decider(&transaction)))
}

pub(super) async fn checked_to_rollback(site: Site) -> Result<String, StoryError> {
    let topic = "check-asked-rollback";
    let producer = site.producer("check-asked-rollback-shop", Verdict::Rollback).await?;
    let half = producer.send_half(Message::new(topic).text("order")).await?;
    let transaction = site.transaction_in(half.transaction_id(), TransactionState::RolledBack).await?;
    let seen = only_marker(&site, topic).await?;
    Ok(format!("{} by {}, then {seen}", transaction.state().as_str_name(), decider(&transaction)))
}

pub(super) async fn parked(site: Site) -> Result<String, StoryError> {
    let topic = "check-parked";
    let mut deliveries = site.subscribe("check-parked-readers", &[topic]).await?;
    let producer = site.producer("check-parked-shop", Verdict::Unknown).await?;
    let half = producer.send_half(Message::new(topic).text("order")).await?;
    let id = half.transaction_id();
    let parked = site.transaction_in(id, TransactionState::Parked).await?;
    let request = v1::DecideTransactionRequest {
        transaction_id: id.as_u64(),
        decision: v1::Decision::Commit.into(),
        operator: Some(v1::Operator { name: "escrow-dev".to_owned(), reason: "the story".to_owned() }),
    };
    let decided = site.admin().decide_transaction(request).await?.into_inner();
    let delivery = next(&mut deliveries).await?;
    let seen = body(&delivery);
    delivery.ack().await?;
    // The producer, late: the same decision is welcome.
    producer.decide(id, Decision::Commit).await?;
    Ok(format!(
        "{} after {} checks, then {seen}, {} by {}",
        parked.state().as_str_name(),
        parked.checks_unknown,
        decided.state().as_str_name(),
        decider(&decided)
    ))
}

pub(super) async fn three_at_once(site: Site) -> Result<String, StoryError> {
    let topics = ["check-three-stock", "check-three-mail", "check-three-books"];
    let producer = site.producer("check-three-shop", Verdict::Unknown).await?;
    let messages = topics.iter().zip(["a", "b", "c"]).map(|(topic, text)| Message::new(*topic).text(text));
    producer.half().messages(messages).send().await?.commit().await?;
    let mut deliveries = site.subscribe("check-three-readers", &topics).await?;
    let mut seen = Vec::new();
    for _ in topics {
        let delivery = next(&mut deliveries).await?;
        let topic = delivery.topic().trim_start_matches("check-three-").to_owned();
        seen.push(format!("{} in {topic}", body(&delivery)));
        delivery.ack().await?;
    }
    seen.sort();
    Ok(seen.join(", "))
}
