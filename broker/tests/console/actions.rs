//! Everything a person may do, through its form: with a reason, with the token, from this origin, or not at all.

use escrow_protocol::v1;
use serde_json::Value;

use crate::harness::*;
use crate::html::Page;
use crate::scene::Scene;
use crate::web::*;

/// Who has given a name before.
const KNOWN: (&str, &str) = ("cookie", "escrow_operator=Ada%20%E7%8E%8B");
const BY: [(&str, &str); 2] = [("operator", "Ada 王"), ("reason", "found in the ledger")];

async fn state(scene: &Scene, transaction: &str) -> (String, String) {
    let shown = scene.answer(get(format!("/api/v1/transactions/{transaction}"))).await.expect(200).json();
    let because = shown["decider"]["reason"].as_str().unwrap_or_default().to_owned();
    (shown["state"].as_str().unwrap().to_owned(), because)
}

#[tokio::test]
async fn a_transaction_is_committed_and_another_rolled_back() {
    let scene = Scene::set().await;
    for (transaction, verb, becomes) in
        [(&scene.transactions[0], "commit", "COMMITTED"), (&scene.transactions[1], "rollback", "ROLLED_BACK")]
    {
        let path = format!("/transactions/{transaction}/{verb}");
        let done = scene.send(&path, &BY).await.expect(303);
        assert_eq!(done.header("location"), Some(format!("/transactions/{transaction}?done=1").as_str()));
        assert_eq!(state(&scene, transaction).await, (becomes.to_owned(), "found in the ledger".to_owned()));
        // The name is remembered for the next time.
        let cookie = done.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let again = scene.answer(get("/groups/billing/pause").with("cookie", &cookie)).await.expect(200);
        assert_eq!(Page::read(again.text()).field("operator").as_deref(), Some("Ada 王"));
    }
    // Decided once: the other way is refused on the page, with who did it.
    let first = &scene.transactions[0];
    let refused = scene.send(&format!("/transactions/{first}/rollback"), &BY).await.expect(409);
    assert!(Page::read(refused.text()).text.contains("Ada 王"), "{}", refused.text());
    let shown = scene.page(format!("/transactions/{first}")).await;
    assert!(shown.text.contains("by a person, Ada 王: found in the ledger"), "{}", shown.text);
    assert!(!shown.links().iter().any(|link| link.ends_with("/commit")), "a decided one offers no decision");
}

#[tokio::test]
async fn nothing_is_done_without_a_reason_a_name_or_the_token() {
    let scene = Scene::set().await;
    let transaction = &scene.transactions[0];
    let path = format!("/transactions/{transaction}/commit");
    let token = scene.page(&path).await.field("token").unwrap();
    let with = |fields: &[(&str, &str)]| form(&path, fields);
    for (ask, status) in [
        (with(&[("token", &token), ("operator", "ada"), ("reason", "  ")]), 422),
        (with(&[("token", &token), ("reason", "r")]), 422),
        (with(&BY), 403),
        (with(&[("token", "0123"), BY[0], BY[1]]), 403),
        (with(&[("token", &token), BY[0], BY[1]]).with("sec-fetch-site", "cross-site"), 403),
        (with(&[("token", &token), BY[0], BY[1]]).with("origin", "http://evil.example"), 403),
        (with(&[("token", &token), BY[0], BY[1]]).with("host", "evil.example"), 421),
    ] {
        let answer = scene.answer(ask).await.expect(status);
        if status != 421 {
            Page::read(answer.text());
        }
        assert_eq!(state(&scene, transaction).await.0, "PREPARED");
    }
    let sent = with(&[("token", &token), BY[0], BY[1]]).with("sec-fetch-site", "same-origin");
    scene.answer(sent).await.expect(303);
    assert_eq!(state(&scene, transaction).await.0, "COMMITTED");
}

#[tokio::test]
async fn every_form_that_does_something_asks_for_the_token() {
    let scene = Scene::set().await;
    for path in [
        format!("/transactions/{}/check", scene.transactions[0]),
        format!("/transactions/{}/resume", scene.transactions[0]),
        format!("/scheduled/{}/cancel", scene.scheduled),
        format!("/scheduled/{}/move", scene.scheduled),
        format!("/retries/of/billing/run?id={}", scene.message),
        format!("/retries/of/billing/give-up?id={}", scene.message),
        "/groups/billing/pause".to_owned(),
        "/groups/billing/resume".to_owned(),
        "/groups/billing/seek".to_owned(),
        "/groups/billing/policy".to_owned(),
        "/groups/billing/subscribe".to_owned(),
        "/groups/billing/unsubscribe?topic=order-paid".to_owned(),
        "/groups/billing/delete".to_owned(),
        "/topics/order-paid/retention".to_owned(),
        "/topics/order-paid/delete".to_owned(),
        "/new/topic".to_owned(),
        "/new/group".to_owned(),
        "/dead-letters/of/billing/redrive".to_owned(),
        "/dead-letters/of/billing/discard".to_owned(),
        "/dead-letters/jobs/1".to_owned(),
        "/dead-letters/of/billing/0/edit".to_owned(),
        "/store/verify".to_owned(),
        "/store/backup".to_owned(),
        "/dead-letters/export".to_owned(),
        "/audit/export".to_owned(),
    ] {
        scene.answer(form(path, &BY)).await.expect(403);
    }
}

#[tokio::test]
async fn a_transaction_is_checked_now_and_only_a_parked_one_resumed() {
    let scene = Scene::set().await;
    let transaction = &scene.transactions[0];
    scene.send(&format!("/transactions/{transaction}/check"), &BY).await.expect(303);
    let refused = scene.send(&format!("/transactions/{transaction}/resume"), &BY).await.expect(409);
    assert!(Page::read(refused.text()).text.contains("not parked"), "{}", refused.text());
    let chinese = format!("/transactions/{transaction}/resume?lang=zh-CN");
    let refused = scene.send(&chinese, &BY).await.expect(409);
    assert!(
        Page::read(refused.text()).text.contains("未被搁置：只有已搁置的事务才能恢复"),
        "{}",
        refused.text()
    );
    let gone = scene.answer(get("/transactions/tx-0-99?lang=zh-CN")).await.expect(404);
    let gone = Page::read(gone.text()).text;
    assert!(gone.contains("不存在") && !gone.contains("is not known"), "{gone}");
}

#[tokio::test]
async fn a_group_is_paused_and_resumed() {
    let scene = Scene::set().await;
    for (verb, paused) in [("pause", true), ("resume", false)] {
        scene.send(&format!("/groups/billing/{verb}"), &BY).await.expect(303);
        let group = scene.answer(get("/api/v1/groups/billing")).await.expect(200).json();
        assert_eq!(group["paused"], paused);
    }
}

#[tokio::test]
async fn the_policy_of_a_group_is_changed_and_what_makes_no_sense_is_refused() {
    let scene = Scene::set().await;
    let path = "/groups/billing/policy";
    let fields = |delays: &'static str, attempts: &'static str| {
        [
            ("delays", delays),
            ("max_attempts", attempts),
            ("immediate", "1"),
            ("jitter", "20"),
            ("lease", "45s"),
            ("ordering", "skip"),
            BY[0],
            BY[1],
        ]
    };
    for (fields, says) in
        [(fields("every day", "5"), "is not a retry policy"), (fields("fixed:1s", "5000"), "at most 1000")]
    {
        let refused = scene.send(path, &fields).await.expect(400);
        assert!(Page::read(refused.text()).text.contains(says), "{}", refused.text());
    }
    scene.send(path, &fields("exponential:1s,2.5,10m", "5")).await.expect(303);
    let group = scene.answer(get("/api/v1/groups/billing")).await.expect(200).json();
    let settings = &group["settings"];
    assert_eq!((&settings["lease_ms"], &settings["ordering"]), (&45_000.into(), &"SKIP".into()));
    assert_eq!(settings["retry"]["exponential"]["multiplier_permille"], 2_500);
    assert_eq!(settings["retry"]["max_attempts"], 5);
    // The form has what was set.
    assert_eq!(scene.page(path).await.field("delays").as_deref(), Some("exponential:1s,2.5,10m"));
}

#[tokio::test]
async fn a_group_is_moved_after_it_was_said_what_that_does() {
    let scene = Scene::set().await;
    scene.harness.publish("order-paid", "x").await;
    let tried = scene.page("/groups/billing/seek?topic=order-paid&to=newest").await;
    assert!(tried.text.contains("1 message is skipped"), "{}", tried.text);
    let fields = [("topic", "order-paid"), ("to", "newest"), BY[0], BY[1]];
    let token = tried.field("token").unwrap();
    let mut all = vec![("token", token.as_str())];
    all.extend(fields);
    scene.answer(form("/groups/billing/seek", &all)).await.expect(303);
    let group = scene.answer(get("/api/v1/groups/billing")).await.expect(200).json();
    assert_eq!(
        (&group["positions"][0]["floor_offset"], &group["positions"][0]["lag"]),
        (&5.into(), &0.into())
    );
}

#[tokio::test]
async fn a_scheduled_message_is_cancelled_and_one_nobody_knows_is_not() {
    let scene = Scene::set().await;
    let path = format!("/scheduled/{}/cancel", scene.scheduled);
    scene.send(&path, &BY).await.expect(303);
    assert!(!scene.page("/scheduled").await.text.contains(&scene.scheduled));
    let unknown = "/scheduled/01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d/cancel";
    let refused = scene.send(unknown, &BY).await.expect(404);
    assert!(Page::read(refused.text()).text.contains("No scheduled message has this id"));
}

#[tokio::test]
async fn a_scheduled_message_is_moved_to_another_time() {
    let scene = Scene::set().await;
    let path = format!("/scheduled/{}/move", scene.scheduled);
    let with = |to: &'static str| [("to", to), BY[0], BY[1]];
    let refused = scene.send(&path, &with("soon")).await.expect(400);
    assert!(Page::read(refused.text()).text.contains("it is not a time"), "{}", refused.text());
    scene.send(&path, &BY).await.expect(400);
    // A time that has passed: it is in its topic at once.
    scene.send(&path, &with("2026-01-31 12:00")).await.expect(303);
    assert!(!scene.page("/scheduled").await.text.contains(&scene.scheduled));
    let late = scene.send(&path, &with("2026-01-31 12:00")).await.expect(409);
    assert!(Page::read(late.text()).text.contains("Too late"), "{}", late.text());
    assert!(
        scene.page(format!("/messages/{}", scene.scheduled)).await.text.contains("Moved to another time")
    );
}

#[tokio::test]
async fn a_retry_is_run_and_given_up() {
    let scene = Scene::set().await;
    let retries = scene.answer(get("/api/v1/groups/billing/retries")).await.expect(200).json();
    let id = retries["retries"][0]["message_id"].as_str().unwrap().to_owned();
    let page = scene.page("/retries?group=billing").await;
    assert!(page.all("input").any(|input| input.get("value") == Some(&id)), "{}", page.text);
    let none = scene.answer(get("/retries/of/billing/run")).await.expect(400);
    assert!(Page::read(none.text()).text.contains("Nothing was selected"), "{}", none.text());

    // Nobody has credit: it is due, and waits for a consumer.
    let run = format!("/retries/of/billing/run?id={id}");
    scene.send(&run, &[("id", &id), BY[0], BY[1]]).await.expect(303);
    let retries = scene.answer(get("/api/v1/groups/billing/retries")).await.expect(200).json();
    let due: jiff::Timestamp = retries["retries"][0]["due_at"].as_str().unwrap().parse().unwrap();
    let now = scene.answer(get("/api/v1/status")).await.expect(200).json();
    assert!(due <= now["now"].as_str().unwrap().parse().unwrap(), "{due}");

    let give_up = format!("/retries/of/billing/give-up?id={id}");
    scene.send(&give_up, &[("id", &id), BY[0], BY[1]]).await.expect(303);
    assert_eq!(dead(&scene).await, 4);
    let letters = scene.page("/dead-letters?group=billing&reason_is=GIVEN_UP").await;
    assert!(letters.text.contains("given up by Ada 王: found in the ledger"), "{}", letters.text);
    // It is none any more: refused, and nothing is done.
    scene.send(&run, &[("id", &id), BY[0], BY[1]]).await.expect(404);
}

#[tokio::test]
async fn a_message_that_is_gone_is_found_and_its_life_is_told() {
    let scene = Scene::set().await;
    let path = format!("/transactions/{}/rollback", scene.transactions[0]);
    scene.send(&path, &BY).await.expect(303);
    let found = scene.page("/messages?q=t-1").await;
    assert!(found.text.contains("gone: rolled back"), "{}", found.text);
    let link = found.links().into_iter().find(|link| link.starts_with("/messages/0")).unwrap();
    for (language, words) in
        [("en", ["Stored", "Removed", "found in the ledger"]), ("zh-CN", ["已移除", "已回滚", "Ada 王"])]
    {
        let story = scene.page(format!("{link}?lang={language}")).await;
        for word in words {
            assert!(story.text.contains(word), "{word} is not in {}", story.text);
        }
    }
}

#[tokio::test]
async fn none_selected_is_not_all() {
    let scene = Scene::set().await;
    for verb in ["redrive", "discard"] {
        let path = format!("/dead-letters/of/billing/{verb}?selected=1");
        let refused = scene.answer(get(&path)).await.expect(400);
        assert!(Page::read(refused.text()).text.contains("Nothing is selected"), "{}", refused.text());
        let token = scene.page("/store").await.field("token").unwrap();
        scene.answer(form(&path, &[("token", &token), BY[0], BY[1]])).await.expect(400);
    }
    assert_eq!(dead(&scene).await, 3);
}

/// The job's page once it has ended.
async fn ended(scene: &Scene, address: &str) -> Page {
    loop {
        let page = scene.page(address).await;
        if !page.text.contains(" running ") {
            return page;
        }
        tokio::task::yield_now().await;
    }
}

async fn dead(scene: &Scene) -> usize {
    let listed = scene.answer(get("/api/v1/dead-letters?group=billing")).await.expect(200).json();
    listed["dead_letters"].as_array().unwrap().len()
}

#[tokio::test]
async fn dead_letters_are_redriven_as_a_job_with_a_result_for_each() {
    let scene = Scene::set().await;
    let selected = "/dead-letters/of/billing/redrive?offset=0&offset=2";
    let confirm = scene.page(selected).await;
    let token = confirm.field("token").unwrap();
    assert!(confirm.text.contains("2 selected"), "{}", confirm.text);
    let base = [("token", token.as_str()), ("offset", "0"), ("offset", "2"), ("rate", "0"), BY[0], BY[1]];

    let mut tried = base.to_vec();
    tried.push(("dry_run", "1"));
    let started = scene.answer(form("/dead-letters/of/billing/redrive", &tried)).await.expect(303);
    let page = ended(&scene, started.header("location").unwrap()).await;
    assert!(page.text.contains("dry run") && page.text.contains("finished"), "{}", page.text);
    assert_eq!(dead(&scene).await, 3);

    let started = scene.answer(form("/dead-letters/of/billing/redrive", &base)).await.expect(303);
    let page = ended(&scene, started.header("location").unwrap()).await;
    assert!(page.text.contains("finished") && page.text.contains("found in the ledger"), "{}", page.text);
    assert_eq!(dead(&scene).await, 1);

    // Again: each is answered, and refused, for it is there no more.
    let started = scene.answer(form("/dead-letters/of/billing/redrive", &base)).await.expect(303);
    let page = ended(&scene, started.header("location").unwrap()).await;
    assert!(page.text.contains("has no dead letter at"), "{}", page.text);
    assert!(scene.page("/dead-letters/jobs").await.text.contains("Ada 王"));
}

#[tokio::test]
async fn a_dead_letter_is_edited_and_sent_as_a_new_message_that_names_it() {
    let scene = Scene::set().await;
    let path = "/dead-letters/of/billing/0/edit";
    let (body, headers) = (("body", "{\"order\":\r\n42}"), ("headers", "note: mended\r\ncurrency: EUR"));
    let topic = ("to_topic", "order-paid");
    scene.send(path, &[body, headers, topic, ("operator", "ada")]).await.expect(422);
    scene.send(path, &[body, ("headers", "nonsense"), topic, BY[0], BY[1]]).await.expect(400);
    scene.send(path, &[body, headers, ("to_topic", "billing.dlq"), BY[0], BY[1]]).await.expect(409);
    scene.send(path, &[body, ("headers", "escrow-redriven-from: me"), topic, BY[0], BY[1]]).await.expect(400);
    assert_eq!(dead(&scene).await, 3);
    let done = scene.send(path, &[body, headers, topic, BY[0], BY[1]]).await.expect(303);
    let at = done.header("location").unwrap().trim_end_matches("?done=1").to_owned();
    let new = scene.answer(get(format!("/api/v1{at}"))).await.expect(200).json();
    assert_eq!(
        (&new["message"]["body"], &new["message"]["key"]),
        (&"{\"order\":\n42}".into(), &"order-42".into())
    );
    let named: Vec<_> =
        new["message"]["headers"].as_array().unwrap().iter().map(|h| h["value"].clone()).collect();
    assert_eq!(named, ["mended", "EUR", scene.message.as_str()]);
    assert_eq!(dead(&scene).await, 2);
    scene.answer(get(path)).await.expect(404);
    assert!(scene.page("/audit?verb=dlq.edit").await.text.contains("billing/0"));
}

#[tokio::test]
async fn all_that_match_are_discarded_and_nothing_else() {
    let scene = Scene::set().await;
    let path = "/dead-letters/of/billing/discard?key=order-43";
    let token = scene.page(path).await.field("token").unwrap();
    let fields = [("token", token.as_str()), ("key", "order-43"), BY[0], BY[1]];
    let started = scene.answer(form("/dead-letters/of/billing/discard", &fields)).await.expect(303);
    ended(&scene, started.header("location").unwrap()).await;
    let left = scene.answer(get("/api/v1/dead-letters?group=billing")).await.expect(200).json();
    let keys: Vec<_> =
        left["dead_letters"].as_array().unwrap().iter().map(|dead| dead["message"]["key"].clone()).collect();
    assert_eq!(keys, ["order-42", "order-44"]);
}

#[tokio::test]
async fn a_slow_job_is_paused_gone_on_with_and_stopped() {
    let scene = Scene::set().await;
    let token = scene.page("/dead-letters/of/billing/redrive").await.field("token").unwrap();
    let fields = [("token", token.as_str()), ("rate", "1"), BY[0], BY[1]];
    let started = scene.answer(form("/dead-letters/of/billing/redrive", &fields)).await.expect(303);
    let job = started.header("location").unwrap().to_owned();
    for (order, standing) in [("pause", "paused"), ("run", "running"), ("stop", "stopped by hand")] {
        let told = [("token", token.as_str()), ("order", order)];
        let asked = scene.answer(form(&job, &told)).await.expect(200);
        let asked = Page::read(asked.text());
        assert_eq!(asked.field("order").as_deref(), Some(order), "nobody is known: it asks who it is");
        scene.answer(form(&job, &[told[0], told[1], BY[0]])).await.expect(303);
        while !scene.page(&job).await.text.contains(standing) {
            tokio::task::yield_now().await;
        }
    }
    assert!(dead(&scene).await > 0);
    scene.answer(form(&job, &[("token", &token), ("order", "hurry")])).await.expect(400);
    let audit = scene.page("/audit?verb=job.cancel").await;
    assert!(audit.text.contains("Ada 王"), "{}", audit.text);
}

#[tokio::test]
async fn dead_letters_are_exported_with_their_bodies_as_lines_and_as_a_table() {
    let scene = Scene::set().await;
    let path = "/dead-letters/export?group=billing&format=jsonl";
    let token = scene.page(path).await.field("token").expect("nobody is known: it asks who it is");
    let answer = scene.answer(form(path, &[("token", &token), BY[0]])).await.expect(200);
    let cookie = answer.header("set-cookie").expect("the name is remembered");
    assert!(cookie.starts_with(KNOWN.1), "{cookie}");
    let lines = scene.answer(get(path).with(KNOWN.0, KNOWN.1)).await.expect(200);
    assert_eq!(lines.text(), answer.text());
    let audit = scene.page("/audit?verb=dlq.export").await;
    assert!(audit.text.contains("Ada 王") && audit.text.contains("billing"), "{}", audit.text);
    let lines: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["message"]["body"]), (3, &Value::from("{\"order\":\"order-42\"}")));
    assert_eq!(lines[0]["attempts"][0]["error"], "never");
    let table = scene
        .answer(get("/dead-letters/export?key=order-44&format=csv").with(KNOWN.0, KNOWN.1))
        .await
        .expect(200);
    let rows: Vec<_> = table.text().split("\r\n").filter(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), 2, "{}", table.text());
    assert!(rows[0].starts_with("group,offset,") && rows[1].contains("\"order-44\""), "{rows:?}");
}

#[tokio::test]
async fn what_was_done_is_in_the_audit_and_what_was_refused_is_not() {
    let scene = Scene::set().await;
    let transaction = &scene.transactions[0];
    scene.send(&format!("/transactions/{transaction}/commit"), &BY).await.expect(303);
    scene.send(&format!("/transactions/{transaction}/rollback"), &BY).await.expect(409);
    let hostile = [("operator", "=cmd()"), ("reason", "+1, \"quoted\"")];
    scene.send("/groups/billing/pause", &hostile).await.expect(303);

    let page = scene.page("/audit").await;
    for words in [transaction.as_str(), "tx.commit", "Ada 王", "found in the ledger", "PREPARED", "COMMITTED"]
    {
        assert!(page.text.contains(words), "{words} is not in {}", page.text);
    }
    assert!(!page.all("td").any(|cell| cell.contains_key("tx.rollback")));
    let filtered = scene.page("/audit?verb=group.pause").await;
    assert!(filtered.text.contains("=cmd()") && !filtered.text.contains("found in the ledger"));
    scene.answer(get("/audit?verb=group.dance")).await.expect(400);

    let lines = scene.answer(get("/audit/export?format=jsonl").with(KNOWN.0, KNOWN.1)).await.expect(200);
    let lines: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verbs: Vec<_> = lines.iter().map(|line| line["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["audit.export", "group.pause", "tx.commit"]);
    let table = scene
        .answer(get("/audit/export?format=csv&verb=group.pause").with(KNOWN.0, KNOWN.1))
        .await
        .expect(200);
    let row = table.text().lines().nth(1).unwrap();
    assert!(row.contains("\"'=cmd()\"") && row.contains("\"'+1, \"\"quoted\"\"\""), "{row}");
}

#[tokio::test]
async fn the_store_is_verified() {
    let scene = Scene::set().await;
    let token = scene.page("/store").await.field("token").unwrap();
    let asked = scene.answer(form("/store/verify", &[("token", &token)])).await.expect(200);
    assert!(Page::read(asked.text()).field("operator").is_some(), "nobody is known: it asks who it is");
    let answer = scene.answer(form("/store/verify", &[("token", &token), BY[0]])).await.expect(200);
    assert!(scene.page("/audit?verb=store.verify").await.text.contains("Ada 王"));
    assert!(Page::read(answer.text()).text.contains("Sound"), "{}", answer.text());
}

#[tokio::test]
async fn waiting_and_parked_transactions_say_why() {
    let harness = Harness::start_with({
        let mut config = config();
        config.settings.transactions.first_check_after_ms = 0;
        config
    })
    .await;
    let request = v1::SendHalfRequest {
        group: "orders".to_owned(),
        client_id: "orders-1".to_owned(),
        messages: vec![message("order-paid", "half")],
        ..Default::default()
    };
    harness.producer().send_half(request).await.unwrap();
    let address = harness.broker.http_addr();
    loop {
        let page = get("/transactions/tx-0-1").of(address).await.expect(200);
        let page = Page::read(page.text());
        if page.text.contains("no producer that answers for kind “orders” is connected") {
            assert!(Page::read(get("/").of(address).await.text()).text.contains("Needs a person"));
            for (language, checks) in [("en", "no checker"), ("zh-CN", "无回查者")] {
                let list = format!("/transactions?show=waiting&lang={language}");
                let list = Page::read(get(&list).of(address).await.expect(200).text()).text;
                assert!(list.contains("0/15") && list.contains(checks), "{list}");
            }
            return;
        }
        tokio::task::yield_now().await;
    }
}
