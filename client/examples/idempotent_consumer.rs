//! A consumer that books each message once, although messages may come twice.
//!
//! The first attempt books and commits, and then "crashes" before the ack. The message comes again; the inbox, which
//! lives in the same store and the same transaction as the booking, knows it, and it is only acked.
//!
//! Run it against a broker: `ESCROW_URL=http://127.0.0.1:7800 cargo run -p escrow-client --example idempotent_consumer`

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use escrow::inbox::{Inbox, once};
use escrow::{Client, Message, MessageId};

/// Stands for a database with transactions: what is in `Tables` is committed together, or not at all. Here it is in
/// memory and dies with the program; yours is on disk.
#[derive(Debug, Clone, Default)]
struct Tables {
    handled: HashSet<MessageId>,
    balance: i64,
}

struct Database {
    committed: Tables,
}

/// A transaction works on a copy; dropping it is a rollback.
struct Transaction {
    tables: Tables,
}

impl Database {
    fn begin(&self) -> Transaction {
        Transaction { tables: self.committed.clone() }
    }

    fn commit(&mut self, transaction: Transaction) {
        self.committed = transaction.tables;
    }
}

impl Inbox for Transaction {
    type Error = Infallible;

    /// In SQL: `INSERT INTO inbox … ON CONFLICT DO NOTHING`, true if a row was inserted.
    async fn first_time(&mut self, id: MessageId) -> Result<bool, Infallible> {
        Ok(self.tables.handled.insert(id))
    }
}

/// Books `amount` unless the message was booked before; true if it was booked now.
async fn book(database: &mut Database, id: MessageId, amount: i64) -> Result<bool, Infallible> {
    let mut transaction = database.begin();
    let booked = once(&mut transaction, id, async |transaction: &mut Transaction| {
        transaction.tables.balance += amount;
        Ok::<_, Infallible>(())
    })
    .await?;
    database.commit(transaction);
    Ok(booked.is_some())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("ESCROW_URL").unwrap_or_else(|_| "http://127.0.0.1:7800".into());
    let client = Client::connect(url).await?;
    let run = Message::new("run").id().to_string();
    let topic = format!("payments-{run}");
    client.admin().ensure_topic(&topic).await?;
    let mut deliveries = client.subscribe(format!("ledger-{run}")).topic(&topic).open().await?;

    let producer = client.producer(format!("bank-{run}")).build().await?;
    let payment = Message::new(&topic).key("payment-1").json(&10)?;
    let first = producer.publish(payment.clone()).await?;
    let second = producer.publish(payment).await?;
    println!("bank:   sent twice by one id; duplicate: {} and {}", first.duplicate, second.duplicate);

    let mut database = Database { committed: Tables::default() };
    loop {
        let delivery = deliveries.next().await.ok_or("the stream ended")??;
        let id = delivery.id().ok_or("a message without an id")?;
        let booked = book(&mut database, id, delivery.json()?).await?;
        println!("ledger: attempt {}, booked now: {booked}", delivery.attempt());
        if booked {
            // As if the program had died between the commit and the ack.
            delivery.nack().after(Duration::ZERO).reason("crashed before the ack").await?;
        } else {
            delivery.ack().await?;
            break;
        }
    }
    assert_eq!(database.committed.balance, 10, "booked exactly once");

    deliveries.close().await;
    producer.close().await;
    println!("done: delivered twice, booked once");
    Ok(())
}
