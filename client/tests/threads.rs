//! Everything can be moved to, and used from, other threads: a future that is not `Send` cannot be spawned.

use escrow::inbox::{Inbox, once};
use escrow::{Client, Deliveries, Delivery, HalfMessage, Message, MessageId, Producer, Verdict, WithChecker};

fn is_send_and_sync<T: Send + Sync>() {}

fn is_send<T: Send>(_: &T) {}

#[test]
fn handles_are_send_and_sync() {
    is_send_and_sync::<Client>();
    is_send_and_sync::<Producer>();
    is_send_and_sync::<Producer<WithChecker>>();
    is_send_and_sync::<HalfMessage>();
    is_send_and_sync::<Deliveries>();
    is_send_and_sync::<Delivery>();
    is_send_and_sync::<escrow::Error>();
}

struct Nowhere;

impl Inbox for Nowhere {
    type Error = std::io::Error;

    async fn first_time(&mut self, _id: MessageId) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Only compiled: it would need a broker to run.
async fn uses_everything(client: Client) -> Result<(), escrow::Error> {
    let producer = client.producer("orders").checker(|_| async { Verdict::Unknown }).build().await?;
    producer.publish(Message::new("orders")).await?;
    producer.send_half(Message::new("orders")).await?.commit().await?;
    let mut deliveries = client.subscribe("billing").topic("orders").open().await?;
    while let Some(delivery) = deliveries.next().await {
        delivery?.nack().reason("later").await?;
    }
    let consumer = client.subscribe("mail").handler(|received| async move {
        let id = received.id().ok_or_else(|| std::io::Error::other("no id"))?;
        let effect = async |_: &mut Nowhere| Ok::<_, std::io::Error>(());
        once(&mut Nowhere, id, effect).await.map(drop)
    });
    consumer.run_until(async {}).await?;
    client.admin().ensure_topic("orders").await?;
    producer.close().await;
    deliveries.close().await;
    Ok(())
}

#[test]
fn futures_are_send() {
    let spawnable = |client: Client| is_send(&uses_everything(client));
    let _ = spawnable;
}
