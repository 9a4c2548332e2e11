//! What a person sees at night when much is wrong: every page of the console and every list of the API, over a broker with
//! (in the long form) a million undecided transactions, 100,000 dead letters and 1,000 groups. A timing never decides an
//! everyday test: there it is only seen that all pages answer (broker/tests/console/work.rs counts what each reads). In the
//! long form the middle of what each takes is judged, which needs a quiet machine.

use std::time::Duration;

use escrow::{
    CheckPolicy, CheckRequest, Checker, Client, Deliveries, Message, Producer, Verdict, WithChecker,
};
use escrow_protocol::v1;
use escrow_tests::rig::{BrokerProcess, Ports, Trials, http};
use futures::{StreamExt as _, TryStreamExt as _};

/// Calls under way at once while the state is made.
const UNDER_WAY: usize = 512;
/// Requests for each page; the middle one counts.
const REQUESTS: usize = 9;
/// From so many transactions on, a page is too slow beyond this.
const JUDGED_FROM: u64 = 1_000_000;
const SLOW: Duration = Duration::from_millis(200);
/// Nothing is due while the pages are looked at.
const LATER: Duration = Duration::from_secs(12 * 3_600);

/// Knows nothing; nobody asks it while the pages are looked at.
struct Forgetful;

impl Checker for Forgetful {
    async fn check(&self, _: CheckRequest) -> Verdict {
        Verdict::Unknown
    }
}

/// How much of each there is.
#[derive(Debug, Clone, Copy)]
struct Amounts {
    undecided: u64,
    dead_letters: u64,
    groups: u64,
    /// Of each of the smaller things: retries, scheduled messages, decided transactions.
    few: u64,
}

impl Amounts {
    fn of(undecided: u64) -> Self {
        Self {
            undecided,
            dead_letters: undecided / 10,
            groups: (undecided / 1_000).clamp(20, 1_000),
            few: (undecided / 100).clamp(60, 10_000),
        }
    }
}

async fn connect(ports: Ports) -> Client {
    let client = Client::builder(ports.url()).operation_timeout(Duration::from_secs(120)).connect();
    client.await.expect("the broker is up")
}

async fn publish(producer: &Producer<WithChecker>, count: u64, message: impl Fn(u64) -> Message) {
    let sent = futures::stream::iter(0..count).map(|nth| producer.publish(message(nth)));
    sent.buffer_unordered(UNDER_WAY).map_ok(drop).try_collect::<()>().await.expect("messages are taken");
}

/// A tenth waits for a checker that is not there; the others have been asked about nothing yet.
async fn undecided(producer: &Producer<WithChecker>, count: u64) {
    let sent = futures::stream::iter(0..count).map(|nth| {
        let waits = nth % 10 == 0;
        let kind = if waits { "payment.book" } else { "order.create" };
        let first = if waits { Duration::from_millis(1) } else { LATER };
        let message = Message::new("order-paid").key(format!("half-{nth}")).text("4200 cents");
        let half = producer.half().message(message).kind(kind);
        half.check_policy(CheckPolicy::new().first_check_after(first)).send()
    });
    sent.buffer_unordered(UNDER_WAY).map_ok(drop).try_collect::<()>().await.expect("half messages are taken");
}

async fn take(from: &mut Deliveries, count: u64, settle: impl AsyncFn(escrow::Delivery, u64)) {
    let taken = (0..count).map(|_| ());
    let deliveries = futures::stream::unfold((from, taken), async |(from, mut taken)| {
        taken.next()?;
        let delivery = from.next().await.expect("the stream goes on").expect("a delivery");
        Some((delivery, (from, taken)))
    });
    deliveries
        .enumerate()
        .for_each_concurrent(UNDER_WAY, async |(nth, delivery)| settle(delivery, nth as u64).await)
        .await;
}

async fn fill(client: &Client, amounts: Amounts) {
    let mut admin = client.admin();
    for topic in ["order-paid", "failing", "slow", "common"] {
        admin.ensure_topic(topic).await.expect("a topic is made");
    }
    // All groups listen to one topic: where one of its messages stands is asked of all.
    for nth in 0..amounts.groups {
        let subscription = v1::Subscription { topic: "common".to_owned(), tags: Vec::new() };
        let name = format!("group-{nth:04}");
        let operator = Some(v1::Operator { name: "test".to_owned(), reason: String::new() });
        let subscriptions = vec![subscription];
        let request = v1::CreateGroupRequest { name, subscriptions, operator, ..Default::default() };
        admin.create_group(request).await.expect("a group is made");
    }
    let producer = client.producer("orders").checker(Forgetful).kinds(["order.create"]).build().await;
    let producer = producer.expect("a producer connects");
    publish(&producer, 10, |nth| Message::new("common").key(format!("common-{nth}")).text("to all")).await;

    let mut billing =
        client.subscribe("billing").topic("failing").prefetch(1_000).open().await.expect("it joins");
    let (dead, ()) = futures::join!(
        take(&mut billing, amounts.dead_letters, async |delivery, nth| {
            let error = format!("connection refused: bank-{}.example:443", nth % 20);
            delivery.reject(error).await.expect("rejected");
        }),
        publish(&producer, amounts.dead_letters, |nth| Message::new("failing")
            .key(format!("order-{nth}"))
            .text("{}")),
    );
    let () = dead;
    let mut mail = client.subscribe("mail").topic("slow").prefetch(1_000).open().await.expect("it joins");
    futures::join!(
        take(&mut mail, amounts.few, async |delivery, _| {
            delivery.nack().after(LATER).reason("the mail server is away").await.expect("nacked");
        }),
        publish(&producer, amounts.few, |nth| Message::new("slow").key(format!("mail-{nth}")).text("parcel")),
    );
    publish(&producer, amounts.few, |_| {
        Message::new("order-paid").key("later").text("later").deliver_after(LATER)
    })
    .await;
    let decided = futures::stream::iter(0..amounts.few).map(async |nth| {
        let message = Message::new("order-paid").key("decided").text("4200 cents");
        let half = producer.send_half(message).await?;
        if nth % 2 == 0 { half.commit().await } else { half.rollback().await }
    });
    decided.buffer_unordered(UNDER_WAY).map_ok(drop).try_collect::<()>().await.expect("decided");
    undecided(&producer, amounts.undecided).await;
    // A job whose page is looked at; it changes nothing.
    let filter = v1::DeadLetterFilter { group: "billing".to_owned(), ..Default::default() };
    let rehearsed = v1::DiscardDeadLettersRequest { filter: Some(filter), dry_run: true, operator: None };
    admin.discard_dead_letters(rehearsed).await.expect("a job starts");
    for consumer in [billing, mail] {
        consumer.close().await;
    }
    producer.close().await;
}

/// Every page and list, with the filters that people use, the ones that match nothing among them.
const ADDRESSES: &[&str] = &[
    "/",
    "/transactions",
    "/transactions?show=waiting",
    "/transactions?show=parked",
    "/transactions?show=decided",
    "/transactions?limit=1000",
    "/transactions?key=half-77",
    "/transactions?key=decided&show=decided",
    "/transactions?key=decided&show=waiting",
    "/transactions?key=nobody",
    "/transactions?kind=payment.book&show=waiting",
    "/transactions?kind=nobody",
    "/transactions?group=nobody",
    "/transactions?show=decided&kind=nobody",
    "/dead-letters",
    "/dead-letters?group=billing",
    "/dead-letters?group=billing&limit=1000",
    "/dead-letters?group=billing&reason_is=REJECTED&error=bank-7",
    "/dead-letters?group=billing&reason_is=EXPIRED",
    "/dead-letters?group=billing&key=order-50",
    "/dead-letters?group=billing&key=nobody",
    "/dead-letters?group=billing&error=nothing+like+it",
    "/dead-letters?topic=failing",
    "/dead-letters/of/billing/7",
    "/dead-letters/of/billing/7/edit",
    "/dead-letters/of/billing/redrive",
    "/dead-letters/of/billing/discard?key=nobody",
    "/dead-letters/jobs",
    "/dead-letters/jobs/1",
    "/retries",
    "/retries?group=mail",
    "/retries?group=mail&key=mail-7",
    "/retries?group=mail&key=nobody",
    "/retries?group=mail&topic=slow&attempt_min=2",
    "/retries?group=mail&attempt_min=9",
    "/scheduled",
    "/scheduled?topic=order-paid",
    "/scheduled?topic=common",
    "/scheduled?key=later",
    "/scheduled?key=nobody",
    "/messages?q=order-42",
    "/messages?q=later",
    "/messages?q=decided",
    "/messages?q=common-3",
    "/messages?q=nobody",
    "/topics",
    "/topics/common",
    "/topics/failing",
    "/groups",
    "/groups?limit=1000",
    "/groups?prefix=group-05",
    "/groups/billing",
    "/clients",
    "/clients?role=consumer&group=billing",
    "/clients?name=nobody",
    "/store",
    "/audit",
    "/audit?who=nobody",
    "/alarms",
    "/alarms?show=all",
    "/metrics",
    "/api/v1/status",
    "/api/v1/transactions?filter=UNDECIDED",
    "/api/v1/transactions?filter=WAITING_FOR_CHECKER&limit=1000",
    "/api/v1/transactions?filter=ONLY_PARKED",
    "/api/v1/transactions?filter=DECIDED",
    "/api/v1/dead-letters",
    "/api/v1/dead-letters?group=billing&limit=1000",
    "/api/v1/dead-letters?group=billing&key=nobody",
    "/api/v1/groups?limit=1000",
    "/api/v1/groups/billing",
    "/api/v1/groups/mail/retries?limit=1000",
    "/api/v1/topics",
    "/api/v1/scheduled?limit=1000",
    "/api/v1/messages?key=later&limit=1000",
    "/api/v1/jobs",
    "/api/v1/audit",
    "/api/v1/alarms",
    "/api/v1/clients",
    "/api/v1/store",
];

/// Pages that have to be found first: those of a message, of a transaction, and pages far down a list.
async fn found(port: u16) -> Vec<String> {
    let json = async |path: &str| -> serde_json::Value {
        let page = http::get(port, path).await.expect("an answer");
        serde_json::from_str(&page.text).unwrap_or_else(|error| panic!("{path}: {error}: {}", page.text))
    };
    let mut addresses = Vec::new();
    for key in ["order-42", "common-3", "half-77"] {
        let found = json(&format!("/api/v1/messages?key={key}")).await;
        let id = found["messages"][0]["message"]["id"].as_str().expect("it is stored").to_owned();
        addresses.extend([format!("/messages/{id}"), format!("/api/v1/messages/{id}/trace")]);
    }
    let page = json("/api/v1/transactions?filter=UNDECIDED&limit=1000").await;
    let id = page["transactions"][7]["transaction_id"].as_str().expect("there are some").to_owned();
    addresses.extend([format!("/transactions/{id}"), format!("/transactions/{id}/commit")]);
    for (console, list) in [
        ("/transactions?", "/api/v1/transactions?filter=UNDECIDED"),
        ("/dead-letters?group=billing", "/api/v1/dead-letters?group=billing"),
        ("/groups?", "/api/v1/groups?prefix="),
    ] {
        let mut cursor = String::new();
        for _ in 0..5 {
            let page = json(&format!("{list}&limit=1000&cursor={cursor}")).await;
            let Some(next) = page["next_cursor"].as_str().filter(|next| !next.is_empty()) else { break };
            next.clone_into(&mut cursor);
        }
        addresses.extend([format!("{console}&cursor={cursor}"), format!("{list}&cursor={cursor}")]);
    }
    addresses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_answers_however_much_there_is() {
    let trials = Trials::of("pages", "undecided transactions", 1_000);
    let amounts = Amounts::of(trials.count);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let ports = Ports::free();
    let mut broker = BrokerProcess::start(&scratch.path().join("data"), ports, &[], None)
        .unwrap_or_else(|log| panic!("{log}"));
    let client = connect(ports).await;
    fill(&client, amounts).await;
    println!("{amounts:?}: made in {} s", trials.elapsed().as_secs());

    let mut addresses: Vec<String> = ADDRESSES.iter().map(|&address| address.to_owned()).collect();
    addresses.extend(found(ports.http).await);
    let (mut failures, mut medians) = (Vec::new(), Vec::new());
    for address in addresses {
        let mut took = Vec::new();
        for _ in 0..REQUESTS {
            let page = http::get(ports.http, &address).await.expect("an answer");
            if page.status != 200 {
                failures.push(format!("{address} answers {}: {}", page.status, page.text));
                break;
            }
            took.push(page.took);
        }
        took.sort_unstable();
        let Some(&median) = took.get(took.len() / 2) else { continue };
        println!("{:>9.1} ms  {address}", median.as_secs_f64() * 1_000.0);
        if trials.count >= JUDGED_FROM && median > SLOW {
            failures.push(format!("{address} takes {} ms", median.as_millis()));
        }
        medians.push((median, address));
    }
    medians.sort_unstable();
    let (slowest, address) = medians.last().expect("some pages were looked at").clone();
    let middle = medians[medians.len() / 2].0;
    let seen = format!(
        "{} dead letters, {} groups; {} pages, each {REQUESTS} times: the middle one {:.1} ms, the slowest {:.1} ms ({address})",
        amounts.dead_letters,
        amounts.groups,
        medians.len(),
        middle.as_secs_f64() * 1_000.0,
        slowest.as_secs_f64() * 1_000.0,
    );
    if let Err(fault) = broker.stop() {
        failures.push(fault);
    }
    let count = trials.count;
    trials.finish(count, &seen, &failures);
}
