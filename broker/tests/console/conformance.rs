//! The OpenAPI document against the broker: every operation it declares is called, every reason it declares for a refusal
//! is provoked, and what comes back is what it describes. An operation or a reason that is added without a case here fails.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use escrow_broker::broker::BrokerConfig;
use escrow_broker::http::api::operations::{OPERATIONS, Operation, ROOT};
use escrow_protocol::v1;
use serde_json::{Value, json};

use crate::alarms::told_by;
use crate::harness::*;
use crate::web::*;

/// Belongs to nobody.
const NO_MESSAGE: &str = "01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d";

/// A broker, its document, and what was seen of it.
struct Judge {
    address: SocketAddr,
    document: Value,
    /// Calls with what they answered: a reason, or `DONE`.
    seen: BTreeSet<(&'static str, String)>,
}

impl Judge {
    async fn of(harness: &Harness) -> Self {
        let address = harness.broker.http_addr();
        let document = get(format!("{ROOT}/openapi.json")).of(address).await.expect(200).json();
        Self { address, document, seen: BTreeSet::new() }
    }

    /// The operation does what it says; its answer is as described.
    async fn done(&mut self, call: &str, path: &str, body: Value) -> Value {
        let (operation, answer) = self.ask(call, path, body).await;
        assert_eq!(answer.status, 200, "{call} {path}: {}", String::from_utf8_lossy(&answer.body));
        self.seen.insert((operation.call, "DONE".to_owned()));
        let described = &self.described(operation)["responses"]["200"]["content"];
        let Some(described) = described.get("application/json") else { return Value::Null };
        let answer = answer.json();
        self.assert_fits(&answer, &described["schema"], call);
        answer
    }

    /// The operation is refused, for a reason that is declared under its status.
    async fn refused(&mut self, call: &str, path: &str, body: Value, reason: &str) {
        let (operation, answer) = self.ask(call, path, body).await;
        let fault = answer.json();
        assert_eq!(fault["reason"], reason, "{call} {path}: {fault}");
        let described = self.described(operation)["responses"][answer.status.to_string()].clone();
        let schema = &described["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{call} does not declare {} for {reason}", answer.status);
        self.assert_fits(&fault, schema, call);
        self.seen.insert((operation.call, reason.to_owned()));
    }

    async fn ask(&self, call: &str, path: &str, body: Value) -> (&'static Operation, Answer) {
        let operation = operation(call);
        let at = path.split('?').next().unwrap();
        let fits = |(part, pattern): (&str, &str)| pattern.starts_with('{') || part == pattern;
        let (parts, pattern): (Vec<_>, Vec<_>) =
            (at.split('/').collect(), operation.path.split('/').collect());
        assert!(
            parts.len() == pattern.len() && parts.into_iter().zip(pattern).all(fits),
            "{path} is not {}",
            operation.path
        );
        let verb = operation.verb.as_str();
        let asked = match verb {
            "GET" => get(format!("{ROOT}{path}")),
            verb => self::call(verb, format!("{ROOT}{path}"), body),
        };
        (operation, asked.of(self.address).await)
    }

    fn described(&self, operation: &Operation) -> &Value {
        &self.document["paths"][operation.path][operation.verb.as_str().to_lowercase()]
    }

    /// What the document declares for this operation: the reasons, and that it can be done.
    fn declared(&self, operation: &Operation) -> Vec<String> {
        let responses = self.described(operation)["responses"].as_object().unwrap();
        let mut declared = vec!["DONE".to_owned()];
        for response in responses.values() {
            let all = response["content"]["application/json"]["schema"]["allOf"].as_array();
            let reasons =
                all.into_iter().flatten().filter_map(|part| part["properties"]["reason"]["enum"].as_array());
            declared.extend(reasons.flatten().map(|reason| reason.as_str().unwrap().to_owned()));
        }
        declared
    }

    /// As far as schemas go here: references, alternatives, objects, lists, plain values, and the values of a list.
    fn assert_fits(&self, value: &Value, schema: &Value, place: &str) {
        assert!(self.fits(value, schema), "{place}: {value} is not {schema}");
    }

    fn fits(&self, value: &Value, schema: &Value) -> bool {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            return self.fits(value, self.document.pointer(pointer).expect("references lead somewhere"));
        }
        let each = |name: &str| schema[name].as_array();
        if each("anyOf").is_some_and(|any| !any.iter().any(|one| self.fits(value, one)))
            || each("allOf").is_some_and(|all| !all.iter().all(|one| self.fits(value, one)))
            || each("enum").is_some_and(|values| !values.contains(value))
        {
            return false;
        }
        if schema.get("type").is_some_and(|kind| !is_of(value, kind)) {
            return false;
        }
        match value {
            Value::Object(fields) => fields.iter().all(|(name, field)| {
                match (schema["properties"].get(name), schema.get("additionalProperties")) {
                    (Some(property), _) | (None, Some(property)) => self.fits(field, property),
                    // Parts of an `allOf` speak of some fields only.
                    (None, None) => schema.get("type").is_none(),
                }
            }),
            Value::Array(items) => items.iter().all(|item| self.fits(item, &schema["items"])),
            _ => true,
        }
    }
}

fn is_of(value: &Value, kind: &Value) -> bool {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("a type this test does not know: {other}"),
    };
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        kind => is(kind.as_str().unwrap()),
    }
}

fn operation(call: &str) -> &'static Operation {
    let found = OPERATIONS.iter().find(|operation| operation.call.ends_with(&format!("/{call}")));
    found.unwrap_or_else(|| panic!("there is no operation {call}"))
}

fn by() -> Value {
    json!({ "name": "ada", "reason": "a test" })
}

fn settings() -> BrokerConfig {
    let mut config = config();
    config.settings.topics.create_on_use = false;
    config
}

/// Takes a message of the topic as group billing, and says what became of it.
async fn settle(judge: &mut Judge, settlement: &str, how: Value) {
    let receive =
        json!({ "group": "billing", "client_id": "billing-1", "subscriptions": [{ "topic": "order-paid" }] });
    let received = judge.done("Receive", "/consumer/receive", receive).await;
    let token = &received["deliveries"][0]["lease_token"];
    let settlement =
        json!({ "group": "billing", "settlements": [{ "lease_token": token, settlement: how }] });
    let settled = judge.done("Settle", "/consumer/settle", settlement).await;
    assert_eq!(settled["results"][0]["fault"], Value::Null, "{settled}");
}

fn published(topic: &str) -> Value {
    json!({ "message": { "topic": topic, "key": "order-42", "body": "4200" } })
}

fn half(topic: &str) -> Value {
    json!({ "group": "orders", "client_id": "orders-1", "messages": [{ "topic": topic, "body": "4200" }] })
}

async fn topics_and_groups(judge: &mut Judge) {
    let named = |name: &str| json!({ "name": name, "operator": by() });
    for topic in ["order-paid", "unheard", "idle"] {
        judge.done("CreateTopic", "/topics", named(topic)).await;
    }
    judge.refused("CreateTopic", "/topics", named("unheard"), "TOPIC_EXISTS").await;
    judge.refused("CreateTopic", "/topics", named("a.dlq"), "RESERVED_TOPIC").await;
    judge.done("ListTopics", "/topics?limit=2", json!({})).await;
    judge.done("GetTopic", "/topics/order-paid", json!({})).await;
    let kept = json!({ "settings": { "keep_finished_ms": 1000 }, "operator": by() });
    judge.done("UpdateTopic", "/topics/idle", kept.clone()).await;
    for (call, body) in
        [("GetTopic", json!({})), ("UpdateTopic", kept), ("DeleteTopic", json!({ "operator": by() }))]
    {
        judge.refused(call, "/topics/nobody", body, "UNKNOWN_TOPIC").await;
    }

    let listens = |name: &str, topic: &str| json!({ "name": name, "subscriptions": [{ "topic": topic }], "operator": by() });
    for (group, topic) in [("billing", "order-paid"), ("mail", "order-paid"), ("idle", "idle")] {
        judge.done("CreateGroup", "/groups", listens(group, topic)).await;
    }
    judge.refused("CreateGroup", "/groups", listens("mail", "order-paid"), "GROUP_EXISTS").await;
    judge.refused("CreateGroup", "/groups", listens("late", "nobody"), "UNKNOWN_TOPIC").await;
    judge.done("ListGroups", "/groups", json!({})).await;
    judge.done("GetGroup", "/groups/billing", json!({})).await;
    let also = |topic: &str| json!({ "subscriptions": [{ "topic": topic }], "operator": by() });
    judge.done("UpdateGroup", "/groups/mail", also("unheard")).await;
    judge.refused("UpdateGroup", "/groups/mail", also("nobody"), "UNKNOWN_TOPIC").await;
    let ends = json!({ "unsubscribe": ["idle"], "operator": by() });
    judge.refused("UpdateGroup", "/groups/mail", ends.clone(), "UNKNOWN_SUBSCRIPTION").await;
    judge.done("PauseGroup", "/groups/mail/pause", json!({ "operator": by() })).await;
    judge.done("ResumeGroup", "/groups/mail/resume", json!({ "operator": by() })).await;
    for (call, path) in [
        ("GetGroup", "/groups/nobody"),
        ("UpdateGroup", "/groups/nobody"),
        ("DeleteGroup", "/groups/nobody"),
        ("PauseGroup", "/groups/nobody/pause"),
        ("ResumeGroup", "/groups/nobody/resume"),
        ("ListRetries", "/groups/nobody/retries"),
    ] {
        judge.refused(call, path, json!({ "operator": by() }), "UNKNOWN_GROUP").await;
    }
    let to = |topic: &str, offset: u64| json!({ "topic": topic, "offset": offset, "operator": by() });
    judge.done("SeekGroup", "/groups/mail/seek", to("order-paid", 0)).await;
    judge.refused("SeekGroup", "/groups/mail/seek", to("order-paid", 99), "OFFSET_OUT_OF_RANGE").await;
    judge.refused("SeekGroup", "/groups/mail/seek", to("idle", 0), "UNKNOWN_SUBSCRIPTION").await;
    judge.refused("SeekGroup", "/groups/mail/seek", to("nobody", 0), "UNKNOWN_TOPIC").await;
    judge.refused("SeekGroup", "/groups/nobody/seek", to("order-paid", 0), "UNKNOWN_GROUP").await;
    judge.refused("DeleteTopic", "/topics/idle", json!({ "operator": by() }), "IN_USE").await;
    judge.refused("DeleteTopic", "/topics/billing.dlq", json!({ "operator": by() }), "RESERVED_TOPIC").await;
    judge.done("DeleteGroup", "/groups/idle", json!({ "operator": by() })).await;
    judge.done("DeleteTopic", "/topics/idle", json!({ "operator": by() })).await;
}

async fn messages(judge: &mut Judge) {
    let sent = judge.done("Publish", "/producer/publish", published("order-paid")).await;
    let id = sent["message_id"].as_str().unwrap().to_owned();
    judge.refused("Publish", "/producer/publish", published("nobody"), "UNKNOWN_TOPIC").await;
    judge.refused("Publish", "/producer/publish", published("billing.dlq"), "RESERVED_TOPIC").await;
    let reused = json!({ "message": { "id": id, "topic": "unheard", "body": "x" } });
    judge.refused("Publish", "/producer/publish", reused, "MESSAGE_ID_REUSED").await;
    judge.done("FindMessages", "/messages?key=order-42", json!({})).await;
    judge.done("GetMessage", &format!("/messages/{id}"), json!({})).await;
    judge.done("TraceMessage", &format!("/messages/{id}/trace"), json!({})).await;
    judge.refused("GetMessage", &format!("/messages/{NO_MESSAGE}"), json!({}), "UNKNOWN_MESSAGE").await;
    judge
        .refused("TraceMessage", &format!("/messages/{NO_MESSAGE}/trace"), json!({}), "UNKNOWN_MESSAGE")
        .await;
    let cancel = |id: &str| format!("/scheduled/{id}/cancel");
    judge.done("CancelScheduled", &cancel(NO_MESSAGE), json!({ "operator": by() })).await;
    judge.done("ListScheduled", "/scheduled", json!({})).await;

    let receive = |topic: Value| json!({ "group": "billing", "client_id": "b", "subscriptions": [topic] });
    let tagged = receive(json!({ "topic": "order-paid", "tags": ["eu"] }));
    judge.refused("Receive", "/consumer/receive", tagged, "SUBSCRIPTION_MISMATCH").await;
    judge
        .refused("Receive", "/consumer/receive", receive(json!({ "topic": "nobody" })), "UNKNOWN_TOPIC")
        .await;
    settle(judge, "nack", json!({ "delay_ms": 3_600_000, "reason": "later" })).await;
    judge.done("ListRetries", "/groups/billing/retries?topic=order-paid&attempt_min=2", json!({})).await;
    let retries = json!({ "message_ids": [id, NO_MESSAGE], "operator": by() });
    judge.done("GiveUpRetries", "/groups/billing/retries/give-up", retries.clone()).await;
    judge.done("RunRetries", "/groups/billing/retries/run", retries.clone()).await;
    judge.refused("GiveUpRetries", "/groups/nobody/retries/give-up", retries.clone(), "UNKNOWN_GROUP").await;
    judge.refused("RunRetries", "/groups/nobody/retries/run", retries, "UNKNOWN_GROUP").await;
    judge.done("GetDeadLetterFacets", "/groups/billing/dead-letter-facets", json!({})).await;
    let facets = "/groups/nobody/dead-letter-facets";
    judge.refused("GetDeadLetterFacets", facets, json!({}), "UNKNOWN_GROUP").await;
    let shift = json!({ "deliver_at": "2026-01-01T00:00:00Z", "operator": by() });
    judge.done("MoveScheduled", &format!("/scheduled/{NO_MESSAGE}/move"), shift).await;
}

async fn transactions(judge: &mut Judge, harness: &Harness) {
    let sent = judge.done("SendHalf", "/producer/send-half", half("order-paid")).await;
    let id = sent["transaction_id"].as_str().unwrap().to_owned();
    judge.refused("SendHalf", "/producer/send-half", half("nobody"), "UNKNOWN_TOPIC").await;
    judge.refused("SendHalf", "/producer/send-half", half("billing.dlq"), "RESERVED_TOPIC").await;
    let mut reused = half("order-paid");
    reused["messages"][0]["id"] = sent["message_ids"][0].clone();
    reused["messages"].as_array_mut().unwrap().push(json!({ "topic": "order-paid", "body": "another" }));
    judge.refused("SendHalf", "/producer/send-half", reused, "MESSAGE_ID_REUSED").await;
    let keyed = |topic: &str| {
        let mut keyed = half(topic);
        keyed["transaction_key"] = json!("order-42");
        keyed
    };
    let other = judge.done("SendHalf", "/producer/send-half", keyed("order-paid")).await;
    judge.refused("SendHalf", "/producer/send-half", keyed("unheard"), "TRANSACTION_KEY_REUSED").await;

    judge.done("ListTransactions", "/transactions?filter=UNDECIDED", json!({})).await;
    judge.done("GetTransaction", &format!("/transactions/{id}"), json!({})).await;
    judge.done("CheckTransaction", &format!("/transactions/{id}/check"), json!({ "operator": by() })).await;
    let resume = format!("/transactions/{id}/resume");
    judge.refused("ResumeTransaction", &resume, json!({ "operator": by() }), "NOT_PARKED").await;
    let decide = |decision: &str| json!({ "decision": decision, "operator": by() });
    let path = format!("/transactions/{id}/decide");
    judge.done("DecideTransaction", &path, decide("COMMIT")).await;
    judge.refused("DecideTransaction", &path, decide("ROLLBACK"), "ALREADY_DECIDED").await;
    let check = format!("/transactions/{id}/check");
    judge.refused("CheckTransaction", &check, json!({ "operator": by() }), "NOT_UNDECIDED").await;
    for (call, path, body) in [
        ("GetTransaction", "/transactions/tx-0-99", json!({})),
        ("CheckTransaction", "/transactions/tx-0-99/check", json!({ "operator": by() })),
        ("ResumeTransaction", "/transactions/tx-0-99/resume", json!({ "operator": by() })),
        ("DecideTransaction", "/transactions/tx-0-99/decide", decide("COMMIT")),
    ] {
        judge.refused(call, path, body, "UNKNOWN_TRANSACTION").await;
    }
    let own = |id: &Value, group: &str, decision: &str| json!({ "transaction_id": id, "decision": decision, "group": group, "client_id": "orders-1" });
    let other = &other["transaction_id"];
    judge.refused("Decide", "/producer/decide", own(other, "eve", "COMMIT"), "WRONG_GROUP").await;
    judge.done("Decide", "/producer/decide", own(other, "orders", "ROLLBACK")).await;
    judge.refused("Decide", "/producer/decide", own(other, "orders", "COMMIT"), "ALREADY_DECIDED").await;
    let nobody = json!("tx-0-99");
    judge
        .refused("Decide", "/producer/decide", own(&nobody, "orders", "COMMIT"), "UNKNOWN_TRANSACTION")
        .await;
    let parked = parked(judge, harness).await;
    judge
        .done("ResumeTransaction", &format!("/transactions/{parked}/resume"), json!({ "operator": by() }))
        .await;
}

/// A transaction whose only check was answered "unknown".
async fn parked(judge: &mut Judge, harness: &Harness) -> String {
    let mut producer = harness.producer_session("orders", &["orders"]).await;
    let mut sent = half("order-paid");
    sent["check_policy"] = json!({ "max_checks": 1, "first_check_after_ms": 1 });
    let sent = judge.done("SendHalf", "/producer/send-half", sent).await;
    let id = sent["transaction_id"].as_str().unwrap().to_owned();
    let question = producer.question().await;
    let answer = v1::CheckAnswer {
        transaction_id: question.transaction_id,
        check: question.check,
        verdict: v1::CheckVerdict::Unknown.into(),
    };
    let command = v1::producer_command::Command::CheckAnswer(answer);
    producer.frame(vec![v1::ProducerCommand { correlation: 0, command: Some(command) }]).await;
    loop {
        let shown = judge.done("GetTransaction", &format!("/transactions/{id}"), json!({})).await;
        if shown["state"] == "PARKED" {
            return id;
        }
        tokio::task::yield_now().await;
    }
}

async fn dead_letters_and_jobs(judge: &mut Judge) {
    for _ in 0..2 {
        judge.done("Publish", "/producer/publish", published("order-paid")).await;
        settle(judge, "reject", json!({ "reason": "never" })).await;
    }
    judge.refused("DeleteGroup", "/groups/billing", json!({ "operator": by() }), "IN_USE").await;
    judge.done("ListDeadLetters", "/dead-letters?group=billing&reason=REJECTED", json!({})).await;
    judge.refused("ListDeadLetters", "/dead-letters?group=nobody", json!({}), "UNKNOWN_GROUP").await;
    let export = |group: &str| format!("/dead-letters/export?group={group}&operator.name=ada");
    judge.done("ExportDeadLetters", &export("billing"), json!({})).await;
    judge.refused("ExportDeadLetters", &export("nobody"), json!({}), "UNKNOWN_GROUP").await;
    judge.done("GetDeadLetter", "/dead-letters/billing/0", json!({})).await;
    judge.refused("GetDeadLetter", "/dead-letters/billing/99", json!({}), "UNKNOWN_DEAD_LETTER").await;
    judge.refused("GetDeadLetter", "/dead-letters/nobody/0", json!({}), "UNKNOWN_GROUP").await;
    let edit = |topic: &str| json!({ "to_topic": topic, "body": "mended", "operator": by() });
    let path = "/dead-letters/billing/0/edit";
    judge.refused("EditDeadLetter", path, edit("nobody"), "UNKNOWN_TOPIC").await;
    judge.refused("EditDeadLetter", path, edit("billing.dlq"), "RESERVED_TOPIC").await;
    judge.done("EditDeadLetter", path, edit("unheard")).await;
    judge.refused("EditDeadLetter", path, edit("unheard"), "UNKNOWN_DEAD_LETTER").await;
    judge.refused("EditDeadLetter", "/dead-letters/nobody/0/edit", edit(""), "UNKNOWN_GROUP").await;

    let of = |group: &str| json!({ "filter": { "group": group }, "rate": 1, "operator": by() });
    let to = |topic: &str| json!({ "filter": { "group": "billing" }, "to_topic": topic, "operator": by() });
    let (redrive, discard) = ("/dead-letters/redrive", "/dead-letters/discard");
    judge.refused("RedriveDeadLetters", redrive, of("nobody"), "UNKNOWN_GROUP").await;
    judge.refused("RedriveDeadLetters", redrive, to("nobody"), "UNKNOWN_TOPIC").await;
    judge.refused("RedriveDeadLetters", redrive, to("billing.dlq"), "RESERVED_TOPIC").await;
    judge
        .refused(
            "DiscardDeadLetters",
            discard,
            json!({ "filter": { "group": "nobody" }, "operator": by() }),
            "UNKNOWN_GROUP",
        )
        .await;
    // Nothing is at these places: the job goes through them one a second, slow enough to be told something.
    let places: Vec<_> = (1000..1100).collect();
    let slow = json!({ "filter": { "group": "billing", "offsets": places }, "rate": 1, "operator": by() });
    let job = judge.done("RedriveDeadLetters", redrive, slow).await["job_id"].as_u64().unwrap();
    let at = |verb: &str| format!("/jobs/{job}{verb}");
    judge.done("PauseJob", &at("/pause"), json!({ "operator": by() })).await;
    judge.done("ResumeJob", &at("/resume"), json!({ "operator": by() })).await;
    judge.done("CancelJob", &at("/cancel"), json!({ "operator": by() })).await;
    for (call, verb) in [("PauseJob", "/pause"), ("ResumeJob", "/resume"), ("CancelJob", "/cancel")] {
        judge.refused(call, &at(verb), json!({ "operator": by() }), "JOB_ENDED").await;
        judge.refused(call, &format!("/jobs/99{verb}"), json!({ "operator": by() }), "UNKNOWN_JOB").await;
    }
    judge.done("GetJob", &at(""), json!({})).await;
    judge.refused("GetJob", "/jobs/99", json!({}), "UNKNOWN_JOB").await;
    judge
        .done("DiscardDeadLetters", discard, json!({ "filter": { "group": "billing" }, "operator": by() }))
        .await;
    judge.done("ListJobs", "/jobs?limit=1", json!({})).await;
}

/// An alarm is raised, looked after, and over.
async fn alarms(judge: &mut Judge, webhook: &mut Webhook) {
    judge.done("Publish", "/producer/publish", published("order-paid")).await;
    settle(judge, "reject", json!({ "reason": "never" })).await;
    webhook.next_event("raised").await;
    judge.done("ListAlarms", "/alarms", json!({})).await;
    judge.done("ListAlarmRules", "/alarms/rules", json!({})).await;
    judge.done("GetAlarm", "/alarms/1", json!({})).await;
    judge.refused("GetAlarm", "/alarms/99", json!({}), "UNKNOWN_ALARM").await;
    let acknowledged = json!({ "operator": by() });
    judge.done("AcknowledgeAlarm", "/alarms/1/acknowledge", acknowledged.clone()).await;
    let nobodys = "/alarms/99/acknowledge";
    judge.refused("AcknowledgeAlarm", nobodys, acknowledged.clone(), "UNKNOWN_ALARM").await;
    judge.done("TestAlarmSink", "/alarms/sinks/oncall/test", acknowledged.clone()).await;
    let nobodys = "/alarms/sinks/nobody/test";
    judge.refused("TestAlarmSink", nobodys, acknowledged.clone(), "UNKNOWN_SINK").await;
    let all = json!({ "filter": { "group": "billing" }, "operator": by() });
    judge.done("DiscardDeadLetters", "/dead-letters/discard", all).await;
    webhook.next_event("resolved").await;
    judge.refused("AcknowledgeAlarm", "/alarms/1/acknowledge", acknowledged, "ALARM_RESOLVED").await;
}

/// What only looks at the whole.
async fn the_rest(judge: &mut Judge) {
    judge.done("GetStatus", "/status", json!({})).await;
    judge.done("ListAudit", "/audit", json!({})).await;
    judge.done("ListClients", "/clients?role=consumer&group=billing", json!({})).await;
    judge.done("GetStoreStats", "/store", json!({})).await;
    judge.done("VerifyStore", "/store/verify", json!({ "operator": by() })).await;
    judge.done("ExportAudit", "/audit/export?operator.name=ada&operator.reason=look", json!({})).await;
    // A name nobody knows is refused by every operation.
    for operation in OPERATIONS {
        let path = operation
            .path
            .replace("{message_id}", NO_MESSAGE)
            .replace("{transaction_id}", "tx-0-1")
            .replace("{offset}", "0")
            .replace("{job_id}", "1")
            .replace("{alarm_id}", "1")
            .replace("{name}", "billing")
            .replace("{group}", "billing");
        let call = operation.call.rsplit('/').next().unwrap();
        judge.refused(call, &format!("{path}?nonsense=1"), json!({ "nonsense": 1 }), "INVALID_FIELD").await;
    }
}

/// A broker that has reached its bounds: two topics (one of dead letters), no undecided transaction, no job.
async fn at_its_bounds(judge: &mut Judge) {
    judge.done("Publish", "/producer/publish", published("order-paid")).await;
    settle(judge, "reject", json!({ "reason": "never" })).await;
    let made =
        |name: &str| json!({ "name": name, "subscriptions": [{ "topic": "order-paid" }], "operator": by() });
    let of_group = json!({ "filter": { "group": "billing" }, "operator": by() });
    let receive =
        json!({ "group": "late", "client_id": "late-1", "subscriptions": [{ "topic": "order-paid" }] });
    for (call, path, body) in [
        ("CreateTopic", "/topics", json!({ "name": "one-more", "operator": by() })),
        ("CreateGroup", "/groups", made("late")),
        (
            "UpdateGroup",
            "/groups/billing",
            json!({ "subscriptions": [{ "topic": "one-more" }], "operator": by() }),
        ),
        ("Publish", "/producer/publish", published("one-more")),
        ("SendHalf", "/producer/send-half", half("order-paid")),
        ("Receive", "/consumer/receive", receive),
        ("RedriveDeadLetters", "/dead-letters/redrive", of_group.clone()),
        ("DiscardDeadLetters", "/dead-letters/discard", of_group),
        (
            "EditDeadLetter",
            "/dead-letters/billing/0/edit",
            json!({ "to_topic": "one-more", "operator": by() }),
        ),
    ] {
        judge.refused(call, path, body, "LIMIT_REACHED").await;
    }
}

async fn without_room(judge: &mut Judge, harness: &Harness) {
    judge.done("Publish", "/producer/publish", published("order-paid")).await;
    settle(judge, "reject", json!({ "reason": "never" })).await;
    harness.disk.refuse(true);
    let edit = json!({ "to_topic": "order-paid", "operator": by() });
    judge.refused("Publish", "/producer/publish", published("order-paid"), "DISK_FULL").await;
    judge.refused("SendHalf", "/producer/send-half", half("order-paid"), "DISK_FULL").await;
    judge.refused("EditDeadLetter", "/dead-letters/billing/0/edit", edit, "DISK_FULL").await;
}

#[tokio::test]
async fn every_operation_and_every_declared_refusal_is_as_the_document_says() {
    let harness = Harness::start_with(settings()).await;
    let mut judge = Judge::of(&harness).await;
    topics_and_groups(&mut judge).await;
    messages(&mut judge).await;
    transactions(&mut judge, &harness).await;
    dead_letters_and_jobs(&mut judge).await;
    the_rest(&mut judge).await;
    let mut seen = judge.seen;

    let mut tight = config();
    tight.settings.limits.topics_max = 2;
    tight.settings.limits.undecided_max = 0;
    tight.settings.limits.jobs_max = 0;
    let tight = Harness::start_with(tight).await;
    let mut judge = Judge::of(&tight).await;
    at_its_bounds(&mut judge).await;
    seen.extend(judge.seen);

    let mut webhook = Webhook::open().await;
    let watched = Harness::start_with(told_by(&webhook)).await;
    let mut judge = Judge::of(&watched).await;
    alarms(&mut judge, &mut webhook).await;
    seen.extend(judge.seen);

    let full = Harness::start().await;
    let mut judge = Judge::of(&full).await;
    without_room(&mut judge, &full).await;
    seen.extend(std::mem::take(&mut judge.seen));

    // A store in memory has no backup; that of a broker on disk is taken in tests/tests/backup.rs.
    seen.insert((operation("BackupStore").call, "DONE".to_owned()));
    let declared = OPERATIONS
        .iter()
        .flat_map(|operation| judge.declared(operation).into_iter().map(|outcome| (operation.call, outcome)));
    let declared: BTreeSet<_> = declared.collect();
    let unproved: Vec<_> = declared.difference(&seen).collect();
    assert!(unproved.is_empty(), "declared, and no case provokes it: {unproved:?}");
    let undeclared: Vec<_> = seen.difference(&declared).collect();
    assert!(undeclared.is_empty(), "{undeclared:?}");
}
