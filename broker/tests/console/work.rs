//! What a page costs: the records that are read for it are those of a page, however many there are. Counted, not timed; the
//! rig `pages` measures the time, with a million.

use escrow_broker::broker::Broker;
use escrow_protocol::v1;
use escrow_storage::MemStore;

use crate::counted::{Counted, Reads};
use crate::harness::*;
use crate::web::*;

/// Of each thing at first, and then: more than a page of 50, so that both times the page is full.
const FEW: usize = 80;
const MANY: usize = 320;
/// What may differ between one look and another at the same: a timer may fire between them.
const SLACK: u64 = 4;
/// An hour: nothing falls due meanwhile.
const LATER_MS: u64 = 3_600_000;

/// Every list with what people filter it by, and the pages that show lists of other things. The filters by parts of an
/// error or of a name, and by the kind of what is decided, have no index: they look at 5,000 records at most for a page, and are
/// not here. `{newest}`: the number of the last job.
const ADDRESSES: &[&str] = &[
    "/",
    "/transactions",
    "/transactions?show=waiting",
    "/transactions?show=decided",
    "/transactions?group=orders",
    "/transactions?kind=waits&show=waiting",
    "/transactions?kind=nobody",
    "/transactions?key=half-7",
    "/transactions?key=half-7&group=orders&show=decided",
    "/transactions?key=nobody",
    "/dead-letters",
    "/dead-letters?group=billing",
    "/dead-letters?group=billing&reason_is=REJECTED",
    "/dead-letters?group=billing&key=order-7",
    "/dead-letters?key=nobody",
    "/dead-letters/of/billing/7",
    "/dead-letters/of/billing/redrive",
    "/dead-letters/of/billing/discard?key=nobody",
    "/dead-letters/jobs",
    "/dead-letters/jobs/{newest}",
    "/retries",
    "/retries?group=mail",
    "/retries?group=mail&topic=slow&attempt_min=2",
    "/retries?group=mail&attempt_min=9",
    "/retries?group=mail&key=mail-7",
    "/retries?group=mail&key=nobody",
    "/scheduled",
    "/scheduled?topic=common",
    "/scheduled?key=later-7",
    "/scheduled?key=nobody",
    "/messages?q=order-7",
    "/messages?q=often",
    "/topics",
    "/topics/failing",
    "/groups",
    "/groups/billing",
    "/groups/group-7",
    "/clients",
    "/clients?role=consumer&group=billing",
    "/clients?name=nobody",
    "/store",
    "/audit",
    "/alarms",
    "/api/v1/status",
    "/api/v1/transactions?filter=UNDECIDED",
    "/api/v1/transactions?filter=WAITING_FOR_CHECKER",
    "/api/v1/transactions?filter=DECIDED",
    "/api/v1/dead-letters",
    "/api/v1/dead-letters?group=billing&key=nobody",
    "/api/v1/groups",
    "/api/v1/groups/mail/retries",
    "/api/v1/topics",
    "/api/v1/scheduled",
    "/api/v1/messages?key=often",
    "/api/v1/jobs",
    "/api/v1/alarms",
    "/api/v1/audit",
    "/api/v1/clients",
];

/// Makes things number `from` to `to` of every sort.
async fn add(harness: &Harness, from: usize, to: usize) {
    let publish = async |topic: &str, key: String, deliver_at_ms: i64| {
        let message = v1::Message { key, deliver_at_ms, ..message(topic, "{}") };
        harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
    };
    let mut billing = harness.consumer_session("billing", "failing").await;
    let mut mail = harness.consumer_session("mail", "slow").await;
    let count = (to - from) as u32;
    billing.credit(count).await;
    mail.credit(count).await;
    for nth in from..to {
        publish("failing", format!("order-{nth}"), 0).await;
        publish("slow", format!("mail-{nth}"), 0).await;
        publish("common", "often".to_owned(), 0).await;
        publish("common", format!("later-{nth}"), now_ms() + (LATER_MS + nth as u64) as i64).await;
        for (kind, decision) in
            [("waits", None), ("order.create", None), ("order.create", Some(v1::Decision::Commit))]
        {
            half(harness, (kind, format!("half-{nth}")), decision).await;
        }
        let subscriptions = vec![v1::Subscription { topic: "common".to_owned(), tags: Vec::new() }];
        let request = v1::CreateGroupRequest {
            name: format!("group-{nth}"),
            subscriptions,
            operator: operator(),
            ..Default::default()
        };
        harness.admin().create_group(request).await.unwrap();
        // A job of its own for nothing: the last hundred are kept.
        let filter =
            v1::DeadLetterFilter { group: "billing".to_owned(), offsets: vec![9_999], ..Default::default() };
        let request = v1::DiscardDeadLettersRequest {
            filter: Some(filter),
            operator: operator(),
            ..Default::default()
        };
        while harness.admin().discard_dead_letters(request.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    for delivery in billing.deliveries(count as usize).await {
        billing.settle(reject(1, &delivery)).await;
        assert_eq!(billing.result().await.fault, None);
    }
    for delivery in mail.deliveries(count as usize).await {
        mail.settle(nack(1, &delivery, LATER_MS as i64)).await;
        assert_eq!(mail.result().await.fault, None);
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What `waits` is due at once, and nobody is there to be asked.
async fn half(harness: &Harness, (kind, key): (&str, String), decision: Option<v1::Decision>) {
    let first_check_after_ms = if kind == "waits" { 1 } else { LATER_MS as i64 };
    let request = v1::SendHalfRequest {
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        kind: kind.to_owned(),
        messages: vec![v1::Message { key, ..message("common", "half") }],
        check_policy: Some(v1::CheckPolicy { first_check_after_ms, ..Default::default() }),
        ..Default::default()
    };
    let sent = harness.producer().send_half(request).await.unwrap().into_inner();
    if let Some(decision) = decision {
        let request = v1::DecideRequest {
            transaction_id: sent.transaction_id,
            decision: decision.into(),
            group: "orders".to_owned(),
            client_id: "orders-1".to_owned(),
        };
        harness.producer().decide(request).await.unwrap();
    }
}

/// What one look at the page reads: the least of some, for the broker may be at something else meanwhile.
async fn cost(harness: &Harness, reads: &Reads, address: &str, jobs: usize) -> u64 {
    let address = address.replace("{newest}", &jobs.to_string());
    let mut least = u64::MAX;
    for _ in 0..3 {
        let before = reads.so_far();
        get(&address).of(harness.broker.http_addr()).await.expect(200);
        least = least.min(reads.so_far() - before);
    }
    least
}

#[tokio::test]
async fn a_page_reads_what_it_shows_and_not_what_there_is() {
    let reads = Reads::default();
    let mut config = config();
    config.settings.transactions.first_check_after_ms = LATER_MS;
    let store = MemStore::new();
    let disk = store.disk().clone();
    let broker = Broker::start(config, Counted { store, reads: reads.clone() }).await.unwrap();
    let channel = connect(broker.grpc_addr()).await;
    let harness = Harness { broker, disk, channel };
    for topic in ["failing", "slow", "common"] {
        harness.publish(topic, "first").await;
    }

    add(&harness, 0, FEW).await;
    let mut few = Vec::new();
    for address in ADDRESSES {
        few.push(cost(&harness, &reads, address, FEW).await);
    }
    add(&harness, FEW, MANY).await;
    let mut grown = Vec::new();
    for (address, few) in ADDRESSES.iter().zip(few) {
        let many = cost(&harness, &reads, address, MANY).await;
        if many > few + SLACK {
            grown.push(format!("{address}: {few} records with {FEW} of each, {many} with {MANY}"));
        }
    }
    assert!(grown.is_empty(), "these pages cost more the more there is:\n{}", grown.join("\n"));
}
