//! Consumers of the load: they settle each delivery in some way, by chance.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use escrow::{Client, Delivery};

use super::super::history::{Answer, Delivered, Event, Operation, Verb};
use super::{Shared, TOPIC, note_body, number_of};

/// Deliveries that a consumer holds at once.
pub const PREFETCH: u32 = 32;
/// The longest delay that a nack asks for, milliseconds.
const NACK_MS_MAX: u64 = 100;

pub(super) async fn consume(
    client: Client,
    group: &'static str,
    shared: Arc<Shared>,
    mut rng: fastrand::Rng,
) {
    let mut deliveries = loop {
        match client.subscribe(group).topic(TOPIC).prefetch(PREFETCH).open().await {
            Ok(deliveries) => break deliveries,
            Err(error) => assert!(error.is_retryable(), "{group}: a consumer joins: {error:?}"),
        }
    };
    loop {
        let stopped = shared.stopped.notified();
        if shared.stop_consuming.load(Ordering::SeqCst) {
            break;
        }
        let delivery = tokio::select! {
            // Cancel safe: a delivery that is not taken stays in the stream.
            delivery = deliveries.next() => delivery,
            () = stopped => continue,
        };
        match delivery {
            Some(Ok(delivery)) => settle(group, delivery, &shared, &mut rng).await,
            Some(Err(error)) if error.is_retryable() => {}
            Some(Err(error)) => panic!("{group}: {error}"),
            None => break,
        }
    }
    deliveries.close().await;
}

async fn settle(group: &'static str, delivery: Delivery, shared: &Shared, rng: &mut fastrand::Rng) {
    let (message, offset) = (number_of(delivery.key()), delivery.offset());
    let (lease, attempt) = (delivery.lease_token(), delivery.attempt());
    shared.history.note(Event::Delivered(Delivered { group, message, offset, lease, attempt }));
    note_body(&shared.history, message, &delivery);
    let verb = match rng.u8(0..40) {
        0..2 => Verb::Nack(rng.u64(1..NACK_MS_MAX)),
        2..4 => Verb::Release,
        4..6 => Verb::Reject,
        // Let go without a word: a nack whose answer nobody waits for.
        6 => return,
        _ => Verb::Ack,
    };
    let operation = Operation::Settle { group, message, lease, verb };
    let call = async move {
        match verb {
            Verb::Ack => delivery.ack().await,
            Verb::Nack(delay_ms) => {
                delivery.nack().after(Duration::from_millis(delay_ms)).reason("by chance").await
            }
            Verb::Reject => delivery.reject("by chance").await,
            Verb::Release => delivery.release().await,
        }
    };
    shared.perform(operation, call, |()| Answer::Ok).await;
}
