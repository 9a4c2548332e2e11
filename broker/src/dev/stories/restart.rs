//! The story of the broker that is killed in the middle of its work: what was answered is there, what was under way goes
//! on, and the clients come back by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use escrow::{Message, TransactionState, Verdict};

use crate::dev::process::BrokerProcess;
use crate::dev::site::{Site, StoryError, body, decider, next};

/// Tells it, with a broker of its own.
pub(crate) async fn restart() -> Result<String, StoryError> {
    let mut broker = BrokerProcess::start().await?;
    let site = Site::connect(&broker.url()).await?;
    let (topic, orders) = ("check-restart", "check-restart-orders");
    let mut deliveries = site.subscribe("check-restart-readers", &[topic]).await?;
    let mut decided_ones = site.subscribe("check-restart-bookkeepers", &[orders]).await?;

    // The checker knows nothing until the broker is back: the transaction must outlive the crash undecided.
    let is_back = Arc::new(AtomicBool::new(false));
    let knows = Arc::clone(&is_back);
    let checker = move |_half| {
        let verdict = if knows.load(Ordering::Acquire) { Verdict::Commit } else { Verdict::Unknown };
        async move { verdict }
    };
    let producer = site.producer_with("check-restart-shop", checker).await?;
    let mut stored = 0;
    for text in ["acked", "unacked"] {
        producer.publish(Message::new(topic).text(text)).await?;
        stored += 1;
    }
    next(&mut deliveries).await?.ack().await?;
    let policy = escrow::CheckPolicy::new().max_checks(1000);
    let half =
        producer.half().message(Message::new(orders).text("order")).check_policy(policy).send().await?;
    let id = half.transaction_id();
    drop(half);
    // In hand when the broker dies: its lease dies with it.
    let in_hand = next(&mut deliveries).await?;

    broker.kill()?;
    broker.start_again().await?;
    is_back.store(true, Ordering::Release);

    let again = next(&mut deliveries).await?;
    let again_body = body(&again);
    again.ack().await?;
    // Of the old lease, from before the crash: it must not count, and it may not be an error to this story.
    drop(in_hand);
    let order = next(&mut decided_ones).await?;
    let order_body = body(&order);
    order.ack().await?;
    let transaction = site.transaction_in(id, TransactionState::Committed).await?;
    // The producer's session came back too.
    producer.publish(Message::new(topic).text("after")).await?;
    let last = next(&mut deliveries).await?;
    let last_body = body(&last);
    last.ack().await?;
    Ok(format!(
        "{stored} stored; killed and started; {again_body} again, {order_body} {} by {}, {last_body}",
        transaction.state().as_str_name(),
        decider(&transaction)
    ))
}
