//! Alarms from outside: a broker that raises them, and those who are told.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use escrow_broker::alarms::{AlarmSettings, Limit, Rules, Secret, Sink, SinkKind, Url};
use escrow_broker::broker::BrokerConfig;
use escrow_broker::records::AlarmRule;
use escrow_protocol::v1;
use escrow_storage::{FailMode, MemStore};
use hmac::{Hmac, KeyInit as _, Mac as _};
use tonic::Code;

use crate::harness::*;

const SECRET: &str = "s3cr3t";

fn sink(kind: SinkKind, url: &str, secret: &str) -> Sink {
    Sink {
        kind,
        url: Url::read(url, &["http", "smtp"]).unwrap(),
        secret: Secret::new(secret),
        user: String::new(),
        from: String::new(),
        to: Vec::new(),
        chinese: false,
    }
}

/// One rule, looked at often, and one sink.
fn watching(rule: AlarmRule, limit: &str, sink: Sink) -> BrokerConfig {
    let mut rules = Rules::off();
    rules.set(rule, Limit::read(rule, limit).unwrap());
    let alarms = AlarmSettings {
        rules,
        look_every_ms: 10,
        repeat_ms: 0,
        console_url: "https://console.example/".to_owned(),
        sinks: BTreeMap::from([("oncall".to_owned(), sink)]),
        retry_delays_ms: vec![20],
        ..AlarmSettings::default()
    };
    BrokerConfig { alarms, ..config() }
}

fn told_by(webhook: &Webhook) -> BrokerConfig {
    watching(AlarmRule::DeadLetters, "1", sink(SinkKind::Webhook, &webhook.url(), SECRET))
}

/// Lets a message of group `billing` die: its id.
async fn let_one_die(harness: &Harness) -> String {
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    harness.publish("order-paid", "x").await;
    consumer.credit(1).await;
    let delivery = consumer.deliveries(1).await.remove(0);
    consumer.settle(reject(1, &delivery)).await;
    assert_eq!(consumer.result().await.fault, None);
    escrow_protocol::MessageId::from_slice(&delivery.message.unwrap().id).unwrap().to_string()
}

async fn discard_all(harness: &Harness) {
    let filter = Some(v1::DeadLetterFilter { group: "billing".to_owned(), ..Default::default() });
    let request = v1::DiscardDeadLettersRequest { filter, dry_run: false, operator: operator() };
    harness.admin().discard_dead_letters(request).await.unwrap();
}

async fn alarms(harness: &Harness, all: bool) -> Vec<v1::Alarm> {
    let request = v1::ListAlarmsRequest { page: whole(), all };
    harness.admin().list_alarms(request).await.unwrap().into_inner().alarms
}

/// As docs/operating.md tells a receiver to.
fn assert_signed(posted: &Posted) {
    let signed = format!("{}.{}", posted.header("escrow-timestamp"), posted.body);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(posted.header("escrow-signature"), format!("v1={digits}"));
}

#[tokio::test]
async fn an_alarm_is_raised_acknowledged_and_resolved_and_a_webhook_hears_all_of_it() {
    let mut webhook = Webhook::open().await;
    let harness = Harness::start_with(told_by(&webhook)).await;
    assert!(alarms(&harness, true).await.is_empty());
    let message = let_one_die(&harness).await;

    let raised = webhook.next().await;
    assert_signed(&raised);
    assert_eq!(
        (raised.path.as_str(), raised.header("content-type")),
        ("/hook?from=escrow", "application/json; charset=utf-8")
    );
    let said = raised.json();
    assert_eq!((said["event"].as_str(), said["id"].as_str()), (Some("raised"), Some("1.1")));
    assert_eq!(said["alarm"]["rule"], "dead_letters");
    assert_eq!(said["alarm"]["subject"], "billing");
    assert_eq!(said["alarm"]["id"], message.as_str());
    assert_eq!(said["link"], "https://console.example/dead-letters?group=billing");

    let open = alarms(&harness, false).await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((open[0].alarm_id, open[0].id.as_str(), open[0].resolved_at_ms), (1, message.as_str(), 0));
    assert_eq!(open[0].text, "group billing has 1 dead letter (limit 1)");
    let status = harness.admin().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.alarms_open, 1);
    let (_, metrics) = http_get(harness.broker.http_addr(), "/metrics").await;
    assert!(metrics.contains("escrow_alarms_open{rule=\"dead_letters\"} 1"), "{metrics}");

    let acknowledge = |alarm_id, name: &str| {
        let operator = Some(v1::Operator { name: name.to_owned(), reason: "on it".to_owned() });
        v1::AcknowledgeAlarmRequest { alarm_id, operator }
    };
    let unknown = harness.admin().acknowledge_alarm(acknowledge(9, "ada")).await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, "UNKNOWN_ALARM", None);
    let mine = harness.admin().acknowledge_alarm(acknowledge(1, "ada")).await.unwrap().into_inner();
    assert_eq!((mine.acknowledged_by.as_str(), mine.acknowledged_reason.as_str()), ("ada", "on it"));
    // Who was first stays the one.
    let again = harness.admin().acknowledge_alarm(acknowledge(1, "bob")).await.unwrap().into_inner();
    assert_eq!(again, mine);
    let told = webhook.next().await;
    assert_eq!(
        (told.event().as_str(), told.json()["alarm"]["acknowledged"]["name"].as_str()),
        ("acknowledged", Some("ada"))
    );
    let audit = v1::ListAuditRequest { page: whole(), filter: None };
    let audit = harness.admin().list_audit(audit).await.unwrap().into_inner().entries;
    let of_alarms: Vec<_> = audit.iter().filter(|entry| entry.verb == "alarm.ack").collect();
    assert_eq!(of_alarms.len(), 1, "{audit:?}");
    let entry = of_alarms[0];
    assert_eq!((entry.name.as_str(), entry.target.as_str(), entry.reason.as_str()), ("ada", "1", "on it"));
    assert_eq!(entry.before, "open rule=dead_letters subject=billing");
    assert_eq!(entry.after, "acknowledged by ada rule=dead_letters subject=billing");

    discard_all(&harness).await;
    let resolved = webhook.next().await;
    assert_signed(&resolved);
    assert_eq!(resolved.event(), "resolved");
    assert!(alarms(&harness, false).await.is_empty());
    let kept = alarms(&harness, true).await;
    assert!(kept.len() == 1 && kept[0].resolved_at_ms > 0, "{kept:?}");
    let late = harness.admin().acknowledge_alarm(acknowledge(1, "ada")).await.unwrap_err();
    assert_refused(&late, Code::FailedPrecondition, "ALARM_RESOLVED", None);
}

#[tokio::test]
async fn an_alarm_that_nobody_looks_after_is_told_again_and_only_then() {
    let mut webhook = Webhook::open().await;
    let mut config = told_by(&webhook);
    config.alarms.repeat_ms = 50;
    let harness = Harness::start_with(config).await;
    let_one_die(&harness).await;
    let_one_die(&harness).await;
    assert_eq!(webhook.next().await.event(), "raised");
    let repeated = webhook.next().await;
    assert_eq!(repeated.event(), "repeated");
    assert_eq!(
        (repeated.json()["alarm"]["repeats"].as_u64(), repeated.json()["alarm"]["number"].as_u64()),
        (Some(1), Some(1))
    );
    discard_all(&harness).await;
    webhook.next_event("resolved").await;
}

#[tokio::test]
async fn a_sink_that_is_new_is_told_once_what_is_open_with_the_figure_of_now() {
    let (mut old, mut new) = (Webhook::open().await, Webhook::open().await);
    let harness = Harness::start_with(told_by(&old)).await;
    let_one_die(&harness).await;
    assert_eq!(old.next().await.event(), "raised");
    let_one_die(&harness).await;
    while alarms(&harness, false).await[0].value != 2 {
        tokio::task::yield_now().await;
    }
    assert!(alarms(&harness, false).await[0].text.contains("2 dead letters"));
    let disk = harness.disk.clone();
    harness.broker.shutdown().await.unwrap();

    let both = |old: &Webhook, new: &Webhook| {
        let mut config = told_by(old);
        let sink = told_by(new).alarms.sinks.remove("oncall").unwrap();
        config.alarms.sinks.insert("second".to_owned(), sink);
        config
    };
    let config = both(&old, &new);
    let harness = Harness::start_on(config, MemStore::claim(&disk)).await;
    let told = new.next().await;
    assert_eq!((told.event().as_str(), told.json()["alarm"]["number"].as_u64()), ("raised", Some(1)));
    assert!(told.json()["text"].as_str().unwrap().contains("2 dead letters"), "{}", told.json());
    harness.broker.shutdown().await.unwrap();

    // Known by now: what it hears next is the end, as the old one does.
    let config = both(&old, &new);
    let harness = Harness::start_on(config, MemStore::claim(&disk)).await;
    discard_all(&harness).await;
    for webhook in [&mut old, &mut new] {
        assert_eq!(webhook.next().await.event(), "resolved");
    }
}

#[tokio::test]
async fn a_notice_that_was_not_taken_is_tried_again_also_after_a_restart() {
    let mut webhook = Webhook::open().await;
    webhook.answer(503);
    let harness = Harness::start_with(told_by(&webhook)).await;
    let_one_die(&harness).await;
    let (first, second) = (webhook.next().await, webhook.next().await);
    assert_eq!((first.status, second.status), (503, 503));
    assert_eq!(first.header("escrow-notice-id"), second.header("escrow-notice-id"));
    let rules = harness.admin().list_alarm_rules(v1::ListAlarmRulesRequest {}).await.unwrap().into_inner();
    let sink = &rules.sinks[0];
    assert_eq!((sink.name.as_str(), sink.kind.as_str(), sink.waiting), ("oncall", "webhook", 1));
    assert!(sink.fault.contains("503"), "{sink:?}");
    assert!(!sink.url.contains("hook"), "{sink:?}");
    let disk = harness.disk.clone();
    harness.broker.shutdown().await.unwrap();

    webhook.answer(200);
    let again = Harness::start_on(told_by(&webhook), MemStore::claim(&disk)).await;
    let taken = loop {
        let posted = webhook.next().await;
        if posted.status == 200 {
            break posted;
        }
    };
    assert_signed(&taken);
    assert_eq!(taken.body, first.body);
    // The alarm is the same one: nobody is told of it twice.
    assert_eq!(alarms(&again, true).await.len(), 1);
    discard_all(&again).await;
    let next = webhook.next().await;
    assert_eq!((next.event().as_str(), next.json()["alarm"]["number"].as_u64()), ("resolved", Some(1)));
    let written = disk.entries().into_iter().filter(|(key, _)| key[0] == 0x18).count();
    assert!(written <= 1, "what was taken is forgotten");
}

#[tokio::test]
async fn a_test_says_how_it_went() {
    let mut webhook = Webhook::open().await;
    let harness = Harness::start_with(told_by(&webhook)).await;
    let test = |name: &str| v1::TestAlarmSinkRequest { name: name.to_owned(), operator: operator() };
    let taken = harness.admin().test_alarm_sink(test("oncall")).await.unwrap().into_inner();
    assert_eq!((taken.taken, taken.fault.as_str()), (true, ""));
    let posted = webhook.next().await;
    assert_signed(&posted);
    assert_eq!(posted.event(), "test");
    assert!(posted.json()["text"].as_str().unwrap().contains("ada"));
    webhook.answer(401);
    let refused = harness.admin().test_alarm_sink(test("oncall")).await.unwrap().into_inner();
    assert!(!refused.taken && refused.fault.contains("401"), "{refused:?}");
    let unknown = harness.admin().test_alarm_sink(test("nobody")).await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, "UNKNOWN_SINK", None);
    assert!(unknown.message().contains("oncall"), "{}", unknown.message());
}

#[tokio::test]
async fn over_tls_a_webhook_must_prove_who_it_is() {
    let mut webhook = Webhook::open_tls().await;
    let url = format!("https://localhost:{}/hook", webhook.address.port());
    let mut told = sink(SinkKind::Webhook, "http://replaced", SECRET);
    told.url = Url::read(&url, &["https"]).unwrap();
    for (ca_file, trusted) in [(tls_file("ca.pem"), true), (String::new(), false)] {
        let mut config = watching(AlarmRule::DeadLetters, "1", told.clone());
        config.alarms.ca_file = ca_file;
        let harness = Harness::start_with(config).await;
        let test = v1::TestAlarmSinkRequest { name: "oncall".to_owned(), operator: operator() };
        let answer = harness.admin().test_alarm_sink(test).await.unwrap().into_inner();
        assert_eq!(answer.taken, trusted, "{answer:?}");
        if trusted {
            let posted = webhook.next().await;
            assert_signed(&posted);
            assert_eq!(posted.event(), "test");
        } else {
            // Where the system has no certificates at all, that is what it says.
            assert!(
                answer.fault.contains("TLS failed") || answer.fault.contains("trusts nobody"),
                "{answer:?}"
            );
        }
    }
}

fn decoded_mail(dialogue: &Dialogue) -> (String, String) {
    let begin = dialogue.iter().position(|line| line == "DATA").unwrap() + 1;
    let end = dialogue.iter().position(|line| line == ".").unwrap();
    let mail = dialogue[begin..end].join("\n");
    let (head, body) = mail.split_once("\n\n").unwrap();
    let body = BASE64.decode(body.replace('\n', "")).unwrap();
    (head.to_owned(), String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn mail_is_sent_to_everybody_who_is_to_get_it() {
    for login in [false, true] {
        let (address, mut mails) = mail_server(login).await;
        let (user, secret) = if login { ("escrow", "pw") } else { ("", "") };
        let sink = Sink {
            user: user.to_owned(),
            from: "escrow@example.com".to_owned(),
            to: vec!["ops@example.com".to_owned(), "lead@example.com".to_owned()],
            ..sink(SinkKind::Smtp, &format!("smtp://{address}"), secret)
        };
        let harness = Harness::start_with(watching(AlarmRule::DeadLetters, "1", sink)).await;
        let message = let_one_die(&harness).await;
        let dialogue = mails.recv().await.unwrap();
        for line in
            ["MAIL FROM:<escrow@example.com>", "RCPT TO:<ops@example.com>", "RCPT TO:<lead@example.com>"]
        {
            assert!(dialogue.iter().any(|said| said == line), "{line} is not in {dialogue:?}");
        }
        let words = format!("AUTH PLAIN {}", BASE64.encode("\0escrow\0pw"));
        assert_eq!(dialogue.contains(&words), login, "{dialogue:?}");
        let (head, body) = decoded_mail(&dialogue);
        let subject = head.lines().find_map(|line| line.strip_prefix("Subject: =?UTF-8?B?")).unwrap();
        let subject = BASE64.decode(subject.trim_end_matches("?=")).unwrap();
        assert_eq!(String::from_utf8(subject).unwrap(), "[Escrow] ALARM: Dead letters");
        assert!(body.starts_with("group billing has 1 dead letter (limit 1)\r\n"), "{body}");
        assert!(
            body.contains(&message) && body.contains("https://console.example/dead-letters?group=billing"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_broker_whose_store_fails_says_so_before_it_stops() {
    let mut webhook = Webhook::open().await;
    let config = watching(AlarmRule::FailedSync, "1", sink(SinkKind::Webhook, &webhook.url(), SECRET));
    let mut harness = Harness::start_with(config).await;
    harness.publish("t", "x").await;
    harness.disk.fail_nth_io(1, FailMode::Lost);
    let mut producer = harness.producer();
    let publishing = tokio::spawn(async move {
        let request = v1::PublishRequest { message: Some(message("t", "y")) };
        producer.publish(request).await
    });
    let told = webhook.next().await;
    assert_signed(&told);
    assert_eq!(told.json()["alarm"]["rule"], "failed_sync");
    assert!(told.json()["text"].as_str().unwrap().contains("the store failed"), "{}", told.body);
    harness.broker.wait().await;
    publishing.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_full_disk_does_not_keep_an_alarm_from_being_told() {
    let mut webhook = Webhook::open().await;
    let config = watching(AlarmRule::UndecidedAge, "300ms", sink(SinkKind::Webhook, &webhook.url(), SECRET));
    let harness = Harness::start_with(config.clone()).await;
    let half = v1::SendHalfRequest {
        messages: vec![message("t", "half")],
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        ..Default::default()
    };
    let prepared = harness.producer().send_half(half).await.unwrap().into_inner();
    // From here on nothing can be written down.
    harness.disk.refuse_commits(true);
    let told = webhook.next().await;
    let transaction = escrow_protocol::TransactionId::from_u64(prepared.transaction_id).to_string();
    assert_eq!(told.json()["alarm"]["id"], transaction.as_str());
    assert_eq!(told.json()["link"], format!("https://console.example/transactions/{transaction}"));
    let acknowledge = || v1::AcknowledgeAlarmRequest { alarm_id: 1, operator: operator() };
    let refused = harness.admin().acknowledge_alarm(acknowledge()).await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, "DISK_FULL", None);
    harness.disk.refuse_commits(false);
    harness.admin().acknowledge_alarm(acknowledge()).await.unwrap();
    assert_eq!(webhook.next_event("acknowledged").await.event(), "acknowledged");
    let disk = harness.disk.clone();
    harness.broker.shutdown().await.unwrap();
    let again = Harness::start_on(config, MemStore::claim(&disk)).await;
    let kept = alarms(&again, true).await;
    assert_eq!((kept.len(), kept[0].acknowledged_by.as_str()), (1, "ada"), "{kept:?}");
}
