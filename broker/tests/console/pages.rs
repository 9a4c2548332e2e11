//! Every page, in both languages: there, well formed, labelled, escaped, with nothing inline and the headers that keep it so.

use std::collections::BTreeSet;

use escrow_protocol::v1;

use crate::harness::*;
use crate::html::Page;
use crate::scene::{HOSTILE, Scene};
use crate::web::*;

/// The address of every page of the scene.
fn addresses(scene: &Scene) -> Vec<String> {
    let mut addresses: Vec<String> = [
        "/",
        "/topics",
        "/topics?prefix=order&dead=1&limit=1",
        "/topics/order-paid",
        "/topics/billing.dlq",
        "/topics/order-paid/retention",
        "/topics/order-paid/delete",
        "/new/topic",
        "/new/group",
        "/groups/billing/subscribe",
        "/groups/billing/unsubscribe?topic=order-paid",
        "/groups/billing/delete",
        "/groups",
        "/groups?limit=1",
        "/groups/billing",
        "/groups/billing/pause",
        "/groups/billing/resume",
        "/groups/billing/seek",
        "/groups/billing/seek?topic=order-paid&to=oldest",
        "/groups/billing/seek?topic=order-paid&to=newest",
        "/groups/billing/seek?topic=order-paid&to=time&value=soon",
        "/groups/billing/policy",
        "/dead-letters?group=billing&message=01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d",
        "/transactions",
        "/transactions?show=waiting",
        "/transactions?show=parked",
        "/transactions?show=decided",
        "/transactions?limit=1",
        "/retries",
        "/retries?group=billing",
        "/dead-letters",
        "/dead-letters?group=billing&limit=2",
        "/dead-letters?group=billing&reason_is=REJECTED&key=order-42&topic=order-paid&error=never&from=2020-01-01",
        "/dead-letters?group=billing&until=2020-01-01+12:00",
        "/dead-letters/of/billing/0",
        "/dead-letters/of/billing/0?as=hex",
        "/dead-letters/of/billing/0/edit",
        "/dead-letters/of/billing/redrive?offset=0&offset=1",
        "/dead-letters/of/billing/redrive?reason_is=REJECTED",
        "/dead-letters/of/billing/discard?offset=0",
        "/dead-letters/jobs",
        "/messages",
        "/messages?q=order-42",
        "/messages?q=nobody",
        "/scheduled",
        "/clients",
        "/alarms",
        "/alarms?show=all",
        "/audit",
        "/audit?who=ada&verb=tx.commit&target=tx&from=2020-01-01&until=2100-01-01",
        "/store",
    ]
    .map(str::to_owned)
    .to_vec();
    let transaction = &scene.transactions[0];
    for verb in ["", "/check", "/commit", "/rollback"] {
        addresses.push(format!("/transactions/{transaction}{verb}"));
    }
    for way in ["", "?as=json", "?as=text", "?as=hex"] {
        addresses.push(format!("/messages/{}{way}", scene.message));
    }
    addresses.push(format!("/scheduled/{}/cancel", scene.scheduled));
    addresses.push(format!("/scheduled/{}/move", scene.scheduled));
    for verb in ["run", "give-up"] {
        addresses.push(format!("/retries/of/billing/{verb}?id={}", scene.message));
    }
    addresses
}

#[tokio::test]
async fn every_page_is_there_in_both_languages_and_well_formed() {
    let scene = Scene::set().await;
    for address in addresses(&scene) {
        let join = if address.contains('?') { '&' } else { '?' };
        for (language, word) in [("en", "Dead letters"), ("zh-CN", "死信")] {
            let asked = format!("{address}{join}lang={language}");
            let answer = scene.answer(get(&asked)).await;
            assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
            let page = Page::read(answer.text());
            assert!(page.text.contains(word), "{asked}");
            assert_eq!(page.all("html").next().unwrap()["lang"], language);
            assert!(!answer.text().contains("<script>"), "{asked} lets a script through");
            assert!(
                !page.text.contains('{')
                    || ["<pre", "<textarea"].iter().any(|raw| answer.text().contains(raw)),
                "{asked} has a gap: {}",
                page.text
            );
        }
    }
}

#[tokio::test]
async fn every_link_leads_somewhere() {
    let scene = Scene::set().await;
    let (mut seen, mut open) = (BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(address) = open.pop() {
        if !seen.insert(address.clone()) || address.contains("lang=") {
            continue;
        }
        let answer = scene.answer(get(&address)).await;
        let is_backup = address.ends_with("/backup");
        assert!(answer.status == 200 || answer.status == 303 || is_backup, "{address}: {}", answer.status);
        if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            open.extend(Page::read(answer.text()).links());
        }
    }
    assert!(seen.len() > 40, "{seen:?}");
}

#[tokio::test]
async fn pages_come_with_the_headers_that_protect_them() {
    let scene = Scene::set().await;
    let answer = scene.answer(get("/")).await.expect(200);
    let policy = answer.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for asset in Page::read(answer.text()).all("link").chain(Page::read(answer.text()).all("script")) {
        let address = asset.get("href").or_else(|| asset.get("src")).unwrap();
        scene.answer(get(address)).await.expect(200);
    }
    scene.answer(get("/").with("host", "evil.example")).await.expect(421);
    let lost = scene.answer(get("/nowhere")).await.expect(404);
    Page::read(lost.text());
    let unknown = scene.answer(get("/transactions/tx-0-99")).await.expect(404);
    assert!(Page::read(unknown.text()).text.contains("UNKNOWN_TRANSACTION"));
    scene.answer(get("/transactions/42")).await.expect(400);
}

#[tokio::test]
async fn the_language_is_remembered_and_a_browser_is_asked_for_its_own() {
    let scene = Scene::set().await;
    let chosen = scene.answer(get("/?lang=zh-CN")).await.expect(200);
    let cookie = chosen.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let remembered = scene.answer(get("/topics").with("cookie", &cookie)).await.expect(200);
    assert!(remembered.text().contains("<html lang=\"zh-CN\">"));
    let asked = scene.answer(get("/topics").with("accept-language", "zh-TW,en;q=0.5")).await.expect(200);
    assert!(asked.text().contains("<html lang=\"zh-CN\">"));
    let plain = scene.answer(get("/topics")).await.expect(200);
    assert!(plain.text().contains("<html lang=\"en\">"));
}

#[tokio::test]
async fn what_happened_to_an_order_is_one_search_away() {
    let scene = Scene::set().await;
    let found = scene.page("/messages?q=order-42").await;
    assert!(found.text.contains("20 B"), "how large the body is, which the list leaves out: {}", found.text);
    let link = found.links().into_iter().find(|link| link.starts_with("/messages/")).unwrap();
    assert_eq!(link, format!("/messages/{}", scene.message));
    let story = scene.page(&link).await;
    for words in ["Stored", "Visible", "Failed", "Dead letter", "never", "billing"] {
        assert!(story.text.contains(words), "{words} is not in {}", story.text);
    }
    // From there it is sent again.
    let dead = format!("/dead-letters?group=billing&message={}", scene.message);
    assert!(story.links().contains(&dead), "{:?}", story.links());
    let letters = scene.page(&dead).await.links();
    assert!(letters.iter().any(|link| link.starts_with("/dead-letters/of/billing/")), "{letters:?}");
    let by_id = scene.answer(get(format!("/messages?q={}", scene.message))).await.expect(303);
    assert_eq!(by_id.header("location"), Some(link.as_str()));
    // What is retrying leads to where it is run now or given up, by its key if it has one.
    let retries = scene.page("/retries?group=billing").await;
    let all = retries.all("form").find(|form| form.contains_key("data-choose-all"));
    assert!(all.is_some(), "one box may select all of the page");
    let retrying = retries.links().into_iter().find(|link| link.starts_with("/messages/")).unwrap();
    let run = format!("/retries?group=billing&key={}", encoded(HOSTILE));
    assert!(scene.page(&retrying).await.links().contains(&run), "{run}");
    assert!(scene.page(&run).await.links().contains(&retrying));
    let body = scene.answer(get(format!("{link}/body"))).await.expect(200);
    assert_eq!(body.text(), "{\"order\":\"order-42\"}");
    assert!(body.header("content-disposition").unwrap().starts_with("attachment"));
}

#[tokio::test]
async fn a_business_key_that_looks_like_an_id_is_found() {
    let scene = Scene::set().await;
    // One that no message has as its id, and one that is the id of another message.
    let unlike = "01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d";
    for key in [unlike, &scene.message] {
        let message = v1::Message { key: key.to_owned(), ..message("order-paid", "x") };
        let request = v1::PublishRequest { message: Some(message) };
        let sent = scene.harness.producer().publish(request).await.unwrap().into_inner();
        let id = escrow_protocol::MessageId::from_slice(&sent.message_id).unwrap();
        let found = scene.page(format!("/messages/{id}")).await.links();
        let by_key = found.iter().find(|link| link.contains("q=")).expect("its key is a link");
        let listed = scene.page(by_key).await.links();
        assert!(listed.contains(&format!("/messages/{id}")), "{listed:?}");
    }
    let found = scene.page(format!("/messages?q={unlike}")).await;
    assert!(found.links().iter().any(|link| link.starts_with("/messages/0")), "{}", found.text);
    let none = scene.page("/messages?q=01939c5e-7d5a-7cc3-98a4-000000000000").await;
    assert!(none.text.contains("the key or id 01939c5e"), "{}", none.text);
}

#[tokio::test]
async fn a_filter_of_transactions_is_kept_by_the_tabs_and_does_not_say_that_there_are_none() {
    let scene = Scene::set().await;
    let page = scene.page("/transactions?group=orders&kind=order.create&key=nobody&limit=7").await;
    assert!(
        page.text.contains("Nothing matches here") && !page.text.contains("No transaction"),
        "{}",
        page.text
    );
    for show in ["waiting", "parked", "decided"] {
        let tab = format!("/transactions?group=orders&kind=order.create&key=nobody&limit=7&show={show}");
        assert!(page.links().contains(&tab), "{:?}", page.links());
    }
    let waiting = scene.page("/transactions?show=waiting").await;
    assert!(waiting.text.contains("No transaction waits"), "{}", waiting.text);
}

#[tokio::test]
async fn a_group_that_is_not_among_those_with_the_most_retries_has_its_true_number() {
    // As many as the page links to, and one with less.
    const LINKED: usize = 50;
    let harness = Harness::start().await;
    harness.publish("slow", "first").await;
    let mut sessions = Vec::new();
    for nth in 0..=LINKED {
        let group = if nth < LINKED { format!("group-{nth}") } else { "small".to_owned() };
        let session = harness.consumer_session(&group, "slow").await;
        session.credit(if nth < LINKED { 2 } else { 1 }).await;
        sessions.push(session);
    }
    harness.publish("slow", "second").await;
    for (nth, session) in sessions.iter_mut().enumerate() {
        for delivery in session.deliveries(if nth < LINKED { 2 } else { 1 }).await {
            session.settle(nack(1, &delivery, 3_600_000)).await;
            assert_eq!(session.result().await.fault, None);
        }
    }
    let shown = get("/retries?group=small").of(harness.broker.http_addr()).await.expect(200);
    let shown = Page::read(shown.text());
    assert!(shown.text.split_whitespace().collect::<Vec<_>>().windows(2).any(|two| two == ["small", "1"]));
    assert_eq!(
        shown.all("input").filter(|input| input.get("name").is_some_and(|name| name == "id")).count(),
        1
    );
}

#[tokio::test]
async fn the_overview_tells_what_is_ready_from_what_a_consumer_has() {
    let scene = Scene::set().await;
    scene.harness.publish("order-paid", "x").await;
    let ready = async || -> u64 {
        let overview = scene.page("/").await.text;
        let (_, after) = overview.split_once("Ready").expect("there is a tile");
        after.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let before = ready().await;
    let mut consumer = scene.harness.consumer_session("billing", "order-paid").await;
    consumer.credit(1).await;
    consumer.deliveries(1).await;
    assert_eq!(ready().await, before - 1, "{before} were ready");
}

#[tokio::test]
async fn lists_go_on_behind_their_page() {
    let scene = Scene::set().await;
    let mut address = "/dead-letters?group=billing&limit=1".to_owned();
    let mut keys: Vec<&&str> = Vec::new();
    loop {
        let page = scene.page(&address).await;
        keys.extend(["order-42", "order-43", "order-44"].iter().filter(|key| page.text.contains(**key)));
        match page.all("a").find(|link| link.get("rel").is_some_and(|rel| rel == "next")) {
            Some(next) => address = next["href"].clone(),
            None => break,
        }
    }
    assert_eq!(keys, [&"order-42", &"order-43", &"order-44"]);
}

#[tokio::test]
async fn what_comes_from_outside_is_shown_as_text() {
    let scene = Scene::set().await;
    let retries = scene.page(format!("/messages?q={}", encoded(HOSTILE))).await;
    assert_eq!(retries.field("q").as_deref(), Some(HOSTILE));
    let link = retries.links().into_iter().find(|link| link.starts_with("/messages/")).unwrap();
    assert!(scene.page(&link).await.text.contains(HOSTILE));
}
