//! The example of the README: a half message, the local work, the commit; and a group that gets it.

use escrow::{CheckRequest, Checker, Client, Message, Verdict};

struct OrderChecker;

impl Checker for OrderChecker {
    async fn check(&self, half: CheckRequest) -> Verdict {
        // Asked when this producer fell silent: look into your database what became of order half.key().
        if half.key() == "order-42" { Verdict::Commit } else { Verdict::Unknown }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("ESCROW_URL").unwrap_or_else(|_| "http://127.0.0.1:7800".into());
    let client = Client::connect(url).await?;
    client.admin().ensure_topic("order-paid").await?;
    let mut billing = client.subscribe("billing").topic("order-paid").open().await?;

    let producer = client.producer("orders").checker(OrderChecker).build().await?;
    let half = producer.send_half(Message::new("order-paid").key("order-42").text("4200 cents")).await?;
    // The local transaction goes here. Nobody sees the message until:
    half.commit().await?;

    let delivery = billing.next().await.ok_or("the stream ended")??;
    println!("billing received {}: {}", delivery.key(), delivery.text()?);
    delivery.ack().await?;
    Ok(())
}
