//! Stories of messages that wait for their time.

use std::time::{Duration, UNIX_EPOCH};

use escrow::{Message, v1};

use crate::cli::now_ms;
use crate::dev::site::{Site, StoryError, body, next};

/// Long enough to be seen as a delay, short enough to wait for.
const SOON: Duration = Duration::from_millis(700);
/// Long enough never to come.
const LATER: Duration = Duration::from_secs(3600);

pub(super) async fn scheduled(site: Site) -> Result<String, StoryError> {
    let topic = "check-scheduled";
    let mut deliveries = site.subscribe("check-scheduled-readers", &[topic]).await?;
    let producer = site.client.producer("check-scheduled-shop").build().await?;
    let due_ms = now_ms() + SOON.as_millis() as i64;
    let due = UNIX_EPOCH + Duration::from_millis(due_ms.unsigned_abs());
    producer.publish(Message::new(topic).deliver_at(due).text("order")).await?;
    let delivery = next(&mut deliveries).await?;
    let early_ms = due_ms - now_ms();
    let is_mine = body(&delivery) == "order";
    delivery.ack().await?;
    Ok(match (is_mine, early_ms <= 0) {
        (true, true) => "delivered, not early".to_owned(),
        (true, false) => format!("delivered {early_ms} ms early"),
        (false, _) => "another message came".to_owned(),
    })
}

pub(super) async fn cancelled(site: Site) -> Result<String, StoryError> {
    let topic = "check-cancelled";
    let producer = site.client.producer("check-cancelled-shop").build().await?;
    let published = producer.publish(Message::new(topic).deliver_after(LATER).text("order")).await?;
    let request = v1::CancelScheduledRequest {
        message_id: published.message_id.as_bytes().to_vec().into(),
        operator: Some(v1::Operator { name: "escrow-dev".to_owned(), reason: "the story".to_owned() }),
    };
    let outcome = site.admin().cancel_scheduled(request).await?.into_inner().outcome();
    producer.publish(Message::new(topic).text("marker")).await?;
    let mut deliveries = site.subscribe("check-cancelled-readers", &[topic]).await?;
    let first = next(&mut deliveries).await?;
    let seen = format!("{}, then only {} at offset {}", outcome.as_str_name(), body(&first), first.offset());
    first.ack().await?;
    Ok(seen)
}
