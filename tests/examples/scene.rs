//! A broker with one of everything that the console shows, for the browser tests (`./test.sh --browser`): starts the real
//! binary on a directory that is deleted, fills it through the client, prints in one line of JSON what is where, and
//! stays, with its clients connected, until its input ends. Decides nothing about what a page should show.

use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

use escrow::{
    CheckPolicy, CheckRequest, Checker, Client, Deliveries, Delivery, Message, Producer, Start,
    TransactionId, Verdict, WithChecker, v1,
};
use escrow_tests::rig::{BrokerProcess, Ports};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Dead letters of group billing: more than a page of 50.
const DEAD: usize = 60;
/// Dead letters of each group of refunds.
const REFUNDS: usize = 9;
/// What no page may let through as markup.
const HOSTILE: &str = "<img src=x onerror=\"alert(1)\"><b>&amp;";
/// A day: nothing that is planned so far ahead happens while the tests run.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Knows nothing, whatever it is asked.
struct Forgetful;

impl Checker for Forgetful {
    async fn check(&self, _: CheckRequest) -> Verdict {
        Verdict::Unknown
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let ports = Ports::free();
    let settings = directory.path().join("escrow.toml");
    std::fs::write(
        &settings,
        format!("[alarms.sinks.oncall]\nkind = \"webhook\"\nurl = \"{}\"\n", told().await?),
    )?;
    let configured = [("ESCROW_CONFIG", settings.to_str().ok_or("a path of text")?)];
    let mut broker = BrokerProcess::start_in(&directory.path().join("data"), ports, &[], &configured)?;
    let client = Client::builder(ports.url()).client_id("till-7").connect().await?;
    for topic in [
        "order-paid",
        "order-shipped",
        "order-refunded",
        "order-returned",
        "a-topic-with-a-name-as-long-as-names-of-topics-tend-to-become-in-big-houses",
    ] {
        client.admin().ensure_topic(topic).await?;
    }
    let mut billing = client.subscribe("billing").topic("order-paid").prefetch(100).open().await?;
    let mut mail = client.subscribe("mail").topic("order-shipped").open().await?;
    let stock = client.subscribe("stock").topic_with_tags("order-shipped", ["eu", "us"]).open().await?;
    let orders = client.producer("orders").checker(Forgetful).kinds(["order.create"]).build().await?;

    let message = order_42(&orders, &mut billing).await?;
    dead_letters(&orders, &mut billing).await?;
    let transactions = transactions(&client, &orders).await?;
    let mut retries = Vec::new();
    for key in ["order-77", "order-78", "order-79", "order-80"] {
        let parcel = orders.publish(Message::new("order-shipped").key(key).text("parcel")).await?;
        retries.push(parcel.message_id.to_string());
        next(&mut mail).await?.nack().after(DAY / 24).reason("the mail server does not answer").await?;
    }
    let mut scheduled = Vec::new();
    for key in ["later-1", "later-2", "later-3"] {
        let later = Message::new("order-paid").key(key).text("later").deliver_after(DAY);
        scheduled.push(orders.publish(later).await?.message_id.to_string());
    }
    // An idle group that lags: nobody consumes, so that it can be moved and looked at.
    client.subscribe("ledger").topic("order-paid").start(Start::Oldest).open().await?.close().await;

    let alarms = alarms(&client).await?;
    let refunds = refunds(&client, &orders).await?;

    let scene = json!({
        "http": format!("http://127.0.0.1:{}", ports.http),
        "grpc": ports.url(),
        "message": message,
        "retries": retries,
        "scheduled": scheduled,
        "transactions": transactions,
        "alarms": alarms,
        "refunds": refunds,
    });
    writeln!(std::io::stdout(), "{scene}")?;
    tokio::task::spawn_blocking(|| Read::read_to_end(&mut std::io::stdin(), &mut Vec::new())).await??;

    orders.close().await;
    for consumer in [billing, mail, stock] {
        consumer.close().await;
    }
    Ok(broker.stop()?)
}

async fn next(from: &mut Deliveries) -> Outcome<Delivery> {
    Ok(from.next().await.ok_or("the stream ended")??)
}

/// Put in escrow, committed, tried once more, given up: a life with everything in it. The id of its message.
async fn order_42(orders: &Producer<WithChecker>, billing: &mut Deliveries) -> Outcome<String> {
    let message = Message::new("order-paid").key("order-42").tag("eu").header("currency", "EUR");
    let message =
        message.json(&json!({"order": 42, "cents": 4200, "items": [{"sku": "A-1", "count": 2}]}))?;
    let half = orders.half().message(message).kind("order.create").transaction_key("order-42").send().await?;
    let id = half.message_ids()[0];
    half.commit().await?;
    let first = next(billing).await?;
    first.nack().after(Duration::from_millis(1)).reason("connection refused: bank.example:443").await?;
    next(billing).await?.reject("account 17 is closed").await?;
    Ok(id.to_string())
}

async fn dead_letters(orders: &Producer<WithChecker>, billing: &mut Deliveries) -> Outcome<()> {
    for nth in 0..DEAD {
        let (key, error) = match nth {
            0 => (HOSTILE.to_owned(), HOSTILE.to_owned()),
            1 => ("a-key-".repeat(30), "java.lang.IllegalStateException:".repeat(20)),
            nth => (format!("order-{}", 1000 + nth), "connection refused: bank.example:443".to_owned()),
        };
        let message = Message::new("order-paid")
            .key(key)
            .header("note", HOSTILE)
            .json(&json!({"order": 1000 + nth}))?;
        orders.publish(message).await?;
        next(billing).await?.reject(error).await?;
    }
    Ok(())
}

/// Groups of their own with a few dead letters, of two topics: for what is done with all of them. Their names.
async fn refunds(client: &Client, orders: &Producer<WithChecker>) -> Outcome<Vec<String>> {
    let topics = ["order-refunded", "order-returned"];
    let mut names = Vec::new();
    for name in ["refunds-1", "refunds-2"] {
        let group = client.subscribe(name).topic(topics[0]).topic(topics[1]).start(Start::Newest);
        let mut deliveries = group.open().await?;
        for nth in 0..REFUNDS {
            let topic = topics[usize::from(nth == 0)];
            orders.publish(Message::new(topic).key(format!("{name}-{nth}")).text("money back")).await?;
            next(&mut deliveries).await?.reject("the bank is closed").await?;
        }
        deliveries.close().await;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Transactions by how they stand.
async fn transactions(client: &Client, orders: &Producer<WithChecker>) -> Outcome<serde_json::Value> {
    let half = async |kind: &str, key: String, policy: CheckPolicy| -> Outcome<TransactionId> {
        let message = Message::new("order-paid").key(&key).json(&json!({"order": key}))?;
        let half = orders.half().message(message).kind(kind).transaction_key(key).check_policy(policy);
        Ok(half.send().await?.transaction_id())
    };
    let late = || CheckPolicy::new().first_check_after(DAY / 2);
    let soon = || CheckPolicy::new().first_check_after(Duration::from_millis(1));
    let (mut undecided, mut parked) = (Vec::new(), Vec::new());
    for nth in 0..6 {
        undecided.push(half("order.create", format!("order-2{nth}"), late()).await?.to_string());
    }
    for nth in 0..3 {
        let park = soon().max_checks(1).in_doubt(v1::InDoubtPolicy::Park);
        let id = half("order.create", format!("order-3{nth}"), park).await?;
        until(client, id, |found| found.state() == v1::TransactionState::Parked).await?;
        parked.push(id.to_string());
    }
    let waiting = half("payment.book", "order-41".to_owned(), soon()).await?;
    until(client, waiting, |found| found.waiting_for_checker).await?;
    let message = Message::new("order-paid").key("order-40").text("never seen");
    let rolled_back = orders.half().message(message).kind("order.create").send().await?;
    let rolled_back_id = rolled_back.transaction_id().to_string();
    rolled_back.rollback().await?;
    Ok(json!({
        "undecided": undecided, "parked": parked, "waiting": waiting.to_string(), "rolled_back": rolled_back_id,
    }))
}

/// A webhook that takes whatever it is told. Where it listens.
async fn told() -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What is said fits into one piece, and is nobody's business here.
            let _ = stream.read(&mut [0; 64 * 1024]).await;
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    Ok(url)
}

/// The numbers of two alarms that are open: there are dead letters, and parked transactions.
async fn alarms(client: &Client) -> Outcome<Vec<u64>> {
    loop {
        let found = client.admin().list_alarms(v1::ListAlarmsRequest::default()).await?.into_inner();
        if found.alarms.len() >= 2 {
            return Ok(found.alarms.into_iter().map(|alarm| alarm.alarm_id).take(2).collect());
        }
        tokio::task::yield_now().await;
    }
}

/// Asks until it stands so.
async fn until(client: &Client, id: TransactionId, stands: impl Fn(&v1::Transaction) -> bool) -> Outcome<()> {
    loop {
        let request = v1::GetTransactionRequest { transaction_id: id.as_u64() };
        if stands(&client.admin().get_transaction(request).await?.into_inner()) {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}
