//! A shop takes orders: the message "order paid" goes out if, and only if, the payment was booked.
//!
//! Three orders: one is paid, one is refused by the bank and rolled back, and one is paid by a process that dies before
//! it can commit, so that the broker asks the checker. Billing receives the two that were paid.
//!
//! Run it against a broker: `ESCROW_URL=http://127.0.0.1:7800 cargo run -p escrow-client --example order_payment`

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escrow::{CheckPolicy, CheckRequest, Checker, Client, Message, Verdict};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: u64,
}

/// The shop's database: which orders were paid (true) or refused (false). All instances of the shop share it.
type Database = Arc<Mutex<HashMap<String, bool>>>;

fn write(database: &Database, order: &Order, paid: bool) {
    database.lock().expect("no writer panics").insert(order.id.clone(), paid);
}

/// Books the payment, in the database's own transaction.
fn pay(database: &Database, order: &Order) -> Result<(), &'static str> {
    let covered = order.cents < 100_000;
    write(database, order, covered);
    covered.then_some(()).ok_or("not covered")
}

/// Answers the broker when a transaction was left undecided: by what the database says.
struct OrderChecker {
    database: Database,
}

impl Checker for OrderChecker {
    async fn check(&self, half: CheckRequest) -> Verdict {
        let verdict = match self.database.lock().expect("no writer panics").get(half.key()) {
            Some(true) => Verdict::Commit,
            Some(false) => Verdict::Rollback,
            None => Verdict::Unknown,
        };
        println!("shop:    the broker asks about {}: {verdict:?}", half.key());
        verdict
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("ESCROW_URL").unwrap_or_else(|_| "http://127.0.0.1:7800".into());
    let client = Client::connect(url).await?;
    // A suffix of its own keeps one run of this example apart from another.
    let run = escrow::Message::new("run").id().to_string();
    let (topic, group) = (format!("order-paid-{run}"), format!("billing-{run}"));
    client.admin().ensure_topic(&topic).await?;
    let mut billing = client.subscribe(group).topic(&topic).open().await?;

    let database = Database::default();
    let checker = OrderChecker { database: Arc::clone(&database) };
    let shop = client.producer(format!("shop-{run}")).checker(checker).build().await?;

    for order in [Order { id: "o-1".into(), cents: 4_200 }, Order { id: "o-2".into(), cents: 999_999 }] {
        let half = shop.send_half(Message::new(&topic).key(&order.id).json(&order)?).await?;
        match pay(&database, &order) {
            Ok(()) => {
                half.commit().await?;
                println!("shop:    {} is paid, committed", order.id);
            }
            Err(reason) => {
                half.rollback().await?;
                println!("shop:    {} is {reason}, rolled back", order.id);
            }
        }
    }

    let order = Order { id: "o-3".into(), cents: 1_000 };
    let soon = CheckPolicy::new().first_check_after(Duration::from_millis(100));
    let message = Message::new(&topic).key(&order.id).json(&order)?;
    let half = shop.half().message(message).check_policy(soon).send().await?;
    pay(&database, &order)?;
    println!("shop:    {} is paid, and nobody commits {}", order.id, half.transaction_id());
    drop(half);

    let mut paid = HashSet::new();
    while paid.len() < 2 {
        let delivery = billing.next().await.ok_or("the stream ended")??;
        let order: Order = delivery.json()?;
        println!("billing: {} over {} cents, attempt {}", order.id, order.cents, delivery.attempt());
        delivery.ack().await?;
        paid.insert(order.id);
    }
    assert_eq!(paid, HashSet::from(["o-1".to_owned(), "o-3".to_owned()]), "nothing else was paid");

    billing.close().await;
    shop.close().await;
    println!("done: two of three orders were paid, and billing knows exactly these two");
    Ok(())
}
