//! `/api/v1`: every operation of its table, its errors, and who may not call it.

use escrow_broker::http::api::operations::{OPERATIONS, ROOT};
use escrow_protocol::v1;
use serde_json::{Value, json};

use crate::harness::*;
use crate::web::*;

fn at(path: &str) -> String {
    format!("{ROOT}{path}")
}

fn by() -> Value {
    json!({ "name": "ada", "reason": "a test" })
}

/// A half message sent over the API.
async fn half(harness: &Harness) -> String {
    let body = json!({
        "group": "orders", "client_id": "orders-1",
        "messages": [{ "topic": "order-paid", "key": "o-42", "body": "4200" }],
    });
    let answer = call("POST", at("/producer/send-half"), body).of(harness.broker.http_addr()).await;
    answer.expect(200).json()["transaction_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_operation_of_the_table_answers_and_is_in_the_document() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    let document = get(at("/openapi.json")).of(address).await.expect(200).json();
    assert!(
        !document.to_string().contains("\"description\":null"),
        "OpenAPI knows no description that is null"
    );
    for operation in OPERATIONS {
        let described = &document["paths"][operation.path][operation.verb.as_str().to_lowercase()];
        assert_eq!(described["summary"], operation.summary, "{}", operation.path);
        for parameter in described["parameters"].as_array().into_iter().flatten() {
            let may_be_null = parameter["schema"]["type"].is_array();
            assert!(parameter["in"] != "path" || !may_be_null, "{}: {parameter}", operation.path);
        }

        // Names and ids that are well formed and belong to nobody: answered, one way or the other, by the operation.
        let path = operation
            .path
            .replace("{message_id}", "01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d")
            .replace("{transaction_id}", "tx-0-1")
            .replace("{offset}", "0")
            .replace("{job_id}", "1")
            .replace("{alarm_id}", "1")
            .replace("{name}", "nobody")
            .replace("{group}", "nobody");
        let ask = match operation.verb.as_str() {
            "GET" => get(at(&path)),
            verb => call(verb, at(&path), json!({})),
        };
        let answer = ask.of(address).await;
        assert_ne!(answer.status, 405, "{} {path}", operation.verb.as_str());
        // A store in memory has no backup, and says so.
        let is_backup = operation.call.ends_with("BackupStore");
        assert!(answer.status < 500 || is_backup, "{} {path}: {}", operation.verb.as_str(), answer.text());
        if answer.status != 200 {
            let fault = answer.json();
            assert!(fault["message"].as_str().unwrap().len() > 10, "{fault}");
            assert!(!fault["message"].as_str().unwrap().contains("no operation is here"), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_message_goes_out_and_comes_back_over_http() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    let message = json!({ "message": {
        "topic": "order-paid", "key": "o-42", "body": "4200 cents",
        "headers": [{ "name": "trace", "value": "1" }],
    } });
    let sent = call("POST", at("/producer/publish"), message).of(address).await.expect(200).json();
    assert_eq!((&sent["offset"], &sent["duplicate"]), (&json!(0), &json!(false)));
    let id = sent["message_id"].as_str().unwrap();
    let binary = json!({ "message": { "topic": "order-paid", "body_hex": "00ff10" } });
    call("POST", at("/producer/publish"), binary).of(address).await.expect(200);

    let receive = json!({
        "group": "billing", "client_id": "billing-1", "subscriptions": [{ "topic": "order-paid" }],
        "max_messages": 2,
    });
    let received = call("POST", at("/consumer/receive"), receive).of(address).await.expect(200).json();
    let deliveries = received["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 2);
    assert_eq!(deliveries[0]["message"]["id"], id);
    assert_eq!(deliveries[0]["message"]["body"], "4200 cents");
    assert_eq!(deliveries[1]["message"]["body_hex"], "00ff10");
    assert_eq!(deliveries[0]["transaction_id"], Value::Null);

    let settlements: Vec<_> = deliveries
        .iter()
        .map(|delivery| json!({ "lease_token": delivery["lease_token"], "ack": {} }))
        .collect();
    let settle = json!({ "group": "billing", "settlements": settlements });
    let settled = call("POST", at("/consumer/settle"), settle).of(address).await.expect(200).json();
    for result in settled["results"].as_array().unwrap() {
        assert_eq!(result["fault"], Value::Null, "{result}");
    }
}

#[tokio::test]
async fn a_transaction_is_listed_shown_and_decided() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    let id = half(&harness).await;
    assert_eq!(id, "tx-0-1");

    let listed = get(at("/transactions?filter=UNDECIDED&limit=10")).of(address).await.expect(200).json();
    assert_eq!(listed["transactions"][0]["transaction_id"], id);
    let shown = get(at("/transactions/tx-0-1")).of(address).await.expect(200).json();
    assert_eq!((&shown["state"], &shown["group"]), (&json!("PREPARED"), &json!("orders")));
    let made: jiff::Timestamp = shown["created_at"].as_str().unwrap().parse().unwrap();
    assert!(made.as_millisecond() > 0);
    assert_eq!(shown["decider"], Value::Null);

    let nameless = json!({ "decision": "COMMIT", "operator": { "name": "ada" } });
    let refused =
        call("POST", at("/transactions/tx-0-1/decide"), nameless).of(address).await.expect(400).json();
    assert_eq!((&refused["code"], &refused["reason"]), (&json!("INVALID_ARGUMENT"), &json!("INVALID_FIELD")));
    assert_eq!(refused["details"]["field"], "operator.reason");

    let decide = |decision: &str| json!({ "decision": decision, "operator": by() });
    let decided = call("POST", at("/transactions/tx-0-1/decide"), decide("commit"))
        .of(address)
        .await
        .expect(200)
        .json();
    assert_eq!((&decided["state"], &decided["decider"]["name"]), (&json!("COMMITTED"), &json!("ada")));
    let conflict = call("POST", at("/transactions/tx-0-1/decide"), decide("ROLLBACK"))
        .of(address)
        .await
        .expect(409)
        .json();
    assert_eq!(
        (&conflict["code"], &conflict["reason"]),
        (&json!("FAILED_PRECONDITION"), &json!("ALREADY_DECIDED"))
    );
    assert_eq!(conflict["details"]["state"], "COMMITTED");

    let found = get(at("/messages?key=o-42")).of(address).await.expect(200).json();
    let message = found["messages"][0]["message"]["id"].as_str().unwrap();
    let trace = get(at(&format!("/messages/{message}/trace"))).of(address).await.expect(200).json();
    let events: Vec<_> =
        trace["events"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
    assert!(events.contains(&json!("DECIDED")), "{events:?}");
}

#[tokio::test]
async fn dead_letters_are_filtered_paged_and_redriven_as_a_job() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    consumer.credit(3).await;
    for _ in 0..3 {
        harness.publish("order-paid", "bad").await;
    }
    for delivery in consumer.deliveries(3).await {
        consumer.settle(reject(1, &delivery)).await;
        assert_eq!(consumer.result().await.fault, None);
    }

    let first =
        get(at("/dead-letters?group=billing&reason=REJECTED&limit=2")).of(address).await.expect(200).json();
    assert_eq!(first["dead_letters"].as_array().unwrap().len(), 2);
    let cursor = encoded(first["next_cursor"].as_str().unwrap());
    let rest = get(at(&format!("/dead-letters?group=billing&limit=2&cursor={cursor}")))
        .of(address)
        .await
        .expect(200)
        .json();
    assert_eq!(rest["dead_letters"].as_array().unwrap().len(), 1);
    let shown = get(at("/dead-letters/billing/0")).of(address).await.expect(200).json();
    assert_eq!((&shown["message"]["body"], &shown["attempts"][0]["error"]), (&json!("bad"), &json!("never")));

    let redrive = json!({ "filter": { "group": "billing", "offsets": [0, 7] }, "operator": by() });
    let job = call("POST", at("/dead-letters/redrive"), redrive).of(address).await.expect(200).json();
    assert_eq!((&job["job_id"], &job["total"], &job["kind"]), (&json!(1), &json!(2), &json!("REDRIVE")));
    let ended = loop {
        let job = get(at("/jobs/1")).of(address).await.expect(200).json();
        if job["job"]["state"] == "DONE" {
            break job;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&ended["job"]["done"], &ended["job"]["failed"]), (&json!(1), &json!(1)));
    assert_eq!((&ended["results"][0]["offset"], &ended["results"][0]["fault"]), (&json!(0), &json!(null)));
    let first = get(at("/jobs/1?limit=1")).of(address).await.expect(200).json();
    let next = first["next_cursor"].as_str().expect("another page follows").to_owned();
    let second = get(format!("{}&cursor={next}", at("/jobs/1?limit=1"))).of(address).await.expect(200).json();
    for page in [second, get(at("/jobs/1?refused_only=true")).of(address).await.expect(200).json()] {
        assert_eq!(page["results"].as_array().map(Vec::len), Some(1));
        assert_eq!(page["results"][0]["fault"]["reason"], "UNKNOWN_DEAD_LETTER");
        assert_eq!((&page["results"][0]["offset"], &page["next_cursor"]), (&json!(7), &json!("")));
    }
    call("POST", at("/jobs/1/pause"), json!({ "operator": by() })).of(address).await.expect(409);
    get(at("/jobs/2")).of(address).await.expect(404);
}

#[tokio::test]
async fn the_audit_says_who_did_what_when_and_why_newest_first() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    let id = half(&harness).await;
    let made = json!({ "name": "t", "operator": by() });
    call("POST", at("/topics"), made.clone()).of(address).await.expect(200);
    call("POST", at("/topics"), made).of(address).await.expect(409);
    let decide = json!({ "decision": "COMMIT", "operator": by() });
    let decided = || call("POST", at("/transactions/tx-0-1/decide"), decide.clone());
    decided().of(address).await.expect(200);
    // The same again changes nothing.
    decided().of(address).await.expect(200);

    let first = get(at("/audit?limit=1")).of(address).await.expect(200).json();
    let newest = &first["entries"][0];
    assert_eq!(
        (&newest["verb"], &newest["target"], &newest["name"]),
        (&json!("tx.commit"), &json!(id), &json!("ada"))
    );
    assert_eq!((&newest["before"], &newest["after"]), (&json!("PREPARED"), &json!("COMMITTED")));
    assert_eq!(newest["reason"], "a test");
    assert!(newest["at"].as_str().unwrap().ends_with('Z'));
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = get(at(&format!("/audit?cursor={cursor}"))).of(address).await.expect(200).json();
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1, "{rest}");
    assert_eq!(
        (&rest["entries"][0]["verb"], &rest["entries"][0]["before"]),
        (&json!("topic.create"), &json!(""))
    );
    for (filter, found) in [
        ("name=ada", 2),
        ("name=eve", 0),
        ("verb=topic.create", 1),
        ("target=tx-0", 1),
        ("from=2020-01-01T00:00:00Z", 2),
        ("until=2020-01-01T00:00:00Z", 0),
    ] {
        let listed = get(at(&format!("/audit?{filter}"))).of(address).await.expect(200).json();
        assert_eq!(listed["entries"].as_array().unwrap().len(), found, "{filter}");
    }
    get(at("/audit?verb=topic.paint")).of(address).await.expect(400);
    get(at("/audit?cursor=last")).of(address).await.expect(400);
}

#[tokio::test]
async fn what_is_misspelt_is_refused_with_its_name() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    for (ask, status, field) in [
        (get(at("/topics?perfix=x")), 400, "perfix"),
        (get(at("/topics?limit=many")), 400, "page.limit"),
        (get(at("/transactions/tx-42")), 400, "transaction_id"),
        (get(at("/messages/42")), 400, "message_id"),
        (get(at("/dead-letters?from=yesterday")), 400, "filter.from"),
        (get(at("/transactions?filter=ALL")), 400, "filter"),
        (get(at("/nothing")), 404, "path"),
        (ask("DELETE", at("/status")).with("content-type", "application/json"), 405, "method"),
        (call("POST", at("/topics"), json!({ "name": 7 })), 400, "name"),
        (call("POST", at("/topics"), json!([])), 400, "body"),
        (
            call("POST", at("/topics"), json!({ "name": "t", "settings": { "keep": 1 } })),
            400,
            "settings.keep",
        ),
        (
            call("POST", at("/producer/publish"), json!({ "message": { "topic": "t", "body_hex": "0g" } })),
            400,
            "message.body_hex",
        ),
    ] {
        let fault = ask.of(address).await.expect(status).json();
        assert_eq!(fault["details"]["field"], field, "{fault}");
        assert!(fault["message"].as_str().unwrap().contains(':'), "{fault}");
    }
    let broken = ask("POST", at("/topics")).with("content-type", "application/json").of(address).await;
    assert_eq!(broken.status, 400, "{}", broken.text());
}

#[tokio::test]
async fn other_sites_pages_and_other_names_are_kept_out() {
    let harness = Harness::start().await;
    let address = harness.broker.http_addr();
    let topic = || json!({ "name": "t" });
    // As a form could be sent from anywhere.
    ask("POST", at("/topics")).of(address).await.expect(415);
    ask("POST", at("/topics")).with("content-type", "text/plain").of(address).await.expect(415);
    call("POST", at("/topics"), topic()).with("sec-fetch-site", "cross-site").of(address).await.expect(403);
    get(at("/status")).with("sec-fetch-site", "cross-site").of(address).await.expect(403);
    // As a name that was made to lead here.
    get(at("/status")).with("host", "evil.example:7880").of(address).await.expect(421);
    get(at("/status")).with("host", "localhost:7880").of(address).await.expect(200);
    // Probes come under any name.
    get("/readyz").with("host", "10.0.0.7:7880").of(address).await.expect(200);
    get(at("/topics/t")).of(address).await.expect(404);

    let config = escrow_broker::broker::BrokerConfig { insecure: true, ..config() };
    let open = Harness::start_with(config).await;
    get(at("/status")).with("host", "broker.example:7880").of(open.broker.http_addr()).await.expect(200);
}

#[tokio::test]
async fn a_full_page_of_the_status_has_times_and_the_store() {
    let harness = Harness::start().await;
    let status = get(at("/status")).of(harness.broker.http_addr()).await.expect(200).json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["now"].as_str().unwrap().ends_with('Z'));
    assert_eq!(status["oldest_undecided_at"], Value::Null);
    assert!(status["store"]["last_sequence"].is_u64());
}

#[tokio::test]
async fn the_same_broker_says_the_same_over_grpc_and_http() {
    let harness = Harness::start().await;
    harness.publish("order-paid", "x").await;
    harness.consumer_session("billing", "order-paid").await;
    let request = v1::GetGroupRequest { name: "billing".to_owned() };
    let grpc = harness.admin().get_group(request).await.unwrap().into_inner();
    let http = get(at("/groups/billing")).of(harness.broker.http_addr()).await.expect(200).json();
    assert_eq!(http["positions"][0]["lag"], grpc.positions[0].lag);
    assert_eq!(http["dead_letter_topic"], grpc.dead_letter_topic);
    assert_eq!(http["settings"]["retry"]["max_attempts"], grpc.settings.unwrap().retry.unwrap().max_attempts);
}
