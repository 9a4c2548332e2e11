//! The page of alarms: what is open, the way to what mends it, looking after it, a test of who is told; in both languages.

use std::collections::BTreeMap;

use escrow_broker::alarms::{AlarmSettings, Limit, Rules, Secret, Sink, SinkKind, Url};
use escrow_broker::broker::BrokerConfig;
use escrow_broker::records::AlarmRule;
use escrow_protocol::v1;

use crate::harness::*;
use crate::html::Page;
use crate::web::*;

/// Dead letters are an alarm at once, and this webhook is told.
pub(crate) fn told_by(webhook: &Webhook) -> BrokerConfig {
    let mut rules = Rules::off();
    rules.set(AlarmRule::DeadLetters, Limit::read(AlarmRule::DeadLetters, "1").unwrap());
    let sink = Sink {
        kind: SinkKind::Webhook,
        url: Url::read(&webhook.url(), &["http"]).unwrap(),
        secret: Secret::default(),
        user: String::new(),
        from: String::new(),
        to: Vec::new(),
        chinese: false,
    };
    let sinks = BTreeMap::from([("oncall".to_owned(), sink)]);
    let alarms = AlarmSettings { rules, look_every_ms: 10, sinks, ..AlarmSettings::default() };
    BrokerConfig { alarms, ..config() }
}

#[tokio::test]
async fn an_alarm_is_shown_leads_to_what_mends_it_and_is_looked_after() {
    let mut webhook = Webhook::open().await;
    let harness = Harness::start_with(told_by(&webhook)).await;
    let address = harness.broker.http_addr();
    let page = async |path: &str| Page::read(get(path).of(address).await.expect(200).text());
    assert!(page("/alarms?lang=en").await.text.contains("No alarm is open"));

    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    harness.publish("order-paid", "x").await;
    consumer.credit(1).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    consumer.settle(reject(1, &delivery)).await;
    webhook.next_event("raised").await;
    let id = escrow_protocol::MessageId::from_slice(&delivery.message.unwrap().id).unwrap().to_string();

    let overview = page("/?lang=en").await;
    assert!(overview.links().contains("/alarms"), "{:?}", overview.links());
    for (language, said) in
        [("en", "group billing has 1 dead letter"), ("zh-CN", "消费组 billing 有 1 条死信")]
    {
        let shown = page(&format!("/alarms?lang={language}")).await;
        assert!(shown.text.contains(said) && shown.text.contains(&id), "{}", shown.text);
        let links = shown.links();
        assert!(
            links.contains("/dead-letters?group=billing") && links.contains("/alarms/1/ack"),
            "{links:?}"
        );
    }

    let asked = page("/alarms/1/ack?lang=en").await;
    let token = asked.field("token").unwrap();
    let fields = [("token", token.as_str()), ("operator", "Ada 王"), ("reason", "restarting it")];
    form("/alarms/1/ack", &fields[..2]).of(address).await.expect(422);
    form("/alarms/1/ack", &fields).of(address).await.expect(303);
    assert_eq!(webhook.next().await.json()["alarm"]["acknowledged"]["name"], "Ada 王");
    let shown = page("/alarms?lang=en").await;
    assert!(shown.text.contains("Ada 王") && shown.text.contains("restarting it"), "{}", shown.text);
    assert!(!shown.links().contains("/alarms/1/ack"), "somebody looks after it already");

    let tested = form("/alarms/sinks/oncall/test", &fields[..2]).of(address).await.expect(200);
    assert!(Page::read(tested.text()).text.contains("has taken the test"), "{}", tested.text());
    assert_eq!(webhook.next().await.event(), "test");
    assert!(page("/audit?verb=alarm.test").await.text.contains("oncall"));
    webhook.answer(500);
    let tested = form("/alarms/sinks/oncall/test", &fields[..2]).of(address).await.expect(200);
    assert!(Page::read(tested.text()).text.contains("it answered 500"), "{}", tested.text());
    form("/alarms/sinks/nobody/test", &fields[..1]).of(address).await.expect(404);
    form("/alarms/sinks/oncall/test", &[]).of(address).await.expect(403);
    get("/alarms/9/ack").of(address).await.expect(404);
}

#[tokio::test]
async fn an_open_alarm_names_what_is_still_open() {
    let mut rules = Rules::off();
    for rule in [AlarmRule::DeadLetters, AlarmRule::UndecidedCount] {
        rules.set(rule, Limit::read(rule, "1").unwrap());
    }
    let alarms = AlarmSettings { rules, look_every_ms: 10, ..AlarmSettings::default() };
    let harness = Harness::start_with(BrokerConfig { alarms, ..config() }).await;
    let address = harness.broker.http_addr();
    let names = async |id: &str, not: &str| loop {
        let listed = get("/api/v1/alarms").of(address).await.expect(200);
        let page = Page::read(get("/alarms").of(address).await.expect(200).text()).text;
        if [listed.text(), &page].iter().all(|text| text.contains(id) && !text.contains(not)) {
            return;
        }
        tokio::task::yield_now().await;
    };

    let mut transactions = Vec::new();
    for _ in 0..2 {
        let request = v1::SendHalfRequest {
            group: "orders".to_owned(),
            client_id: "orders-1".to_owned(),
            messages: vec![message("order-paid", "half")],
            ..Default::default()
        };
        let sent = harness.producer().send_half(request).await.unwrap().into_inner();
        transactions.push(escrow_protocol::TransactionId::from_u64(sent.transaction_id).to_string());
    }
    names(&transactions[0], &transactions[1]).await;
    let decided = serde_json::json!({
        "decision": "ROLLBACK", "operator": { "name": "ada", "reason": "never paid" }
    });
    let path = format!("/api/v1/transactions/{}/decide", transactions[0]);
    call("POST", path, decided).of(address).await.expect(200);
    names(&transactions[1], &transactions[0]).await;

    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    consumer.credit(2).await;
    let mut dead = Vec::new();
    for _ in 0..2 {
        harness.publish("order-paid", "x").await;
        let delivery = consumer.deliveries(1).await.remove(0);
        consumer.settle(reject(1, &delivery)).await;
        assert_eq!(consumer.result().await.fault, None);
        dead.push(escrow_protocol::MessageId::from_slice(&delivery.message.unwrap().id).unwrap().to_string());
        // The newest, although the alarm was raised for the one before and nobody is told again.
        names(dead.last().unwrap(), if dead.len() > 1 { &dead[0] } else { "nobody" }).await;
    }
    let request = v1::DiscardDeadLettersRequest {
        filter: Some(v1::DeadLetterFilter {
            group: "billing".to_owned(),
            offsets: vec![1],
            ..Default::default()
        }),
        operator: operator(),
        ..Default::default()
    };
    harness.admin().discard_dead_letters(request).await.unwrap();
    names(&dead[0], &dead[1]).await;
}
