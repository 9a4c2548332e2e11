//! Dead letters through their forms: which of them a job is about, and what of an edited one stays as it was.

use escrow_protocol::v1;

use crate::harness::*;
use crate::html::Page;
use crate::scene::Scene;
use crate::web::*;

const BODY_BYTES_MAX: usize = 256 * 1024;
const BY: [(&str, &str); 2] = [("operator", "Ada 王"), ("reason", "found in the ledger")];

#[tokio::test]
async fn what_a_job_is_about_is_said_before_it_starts_and_as_long_as_it_is_kept() {
    let scene = Scene::set().await;
    let filter = "reason_is=REJECTED&error=never&from=2020-01-01";
    for verb in ["redrive", "discard"] {
        let path = format!("/dead-letters/of/billing/{verb}");
        for (language, all, filtered) in [
            (
                "en",
                "All dead letters of billing, 3 in all: no filter is set.",
                "The filter: Reason: rejected by the consumer · Died from (UTC): 2020-01-01 00:00:00.000 UTC · \
                 Error contains: never",
            ),
            (
                "zh-CN",
                "billing 的全部死信，共 3 条：没有设置筛选条件。",
                "筛选条件：原因: 被消费者拒绝 · 死亡时间自 (UTC): 2020-01-01 00:00:00.000 UTC · 错误包含: never",
            ),
        ] {
            let whole = scene.page(format!("{path}?lang={language}")).await.text;
            let filter_is = filtered.split_inclusive([':', '：']).next().expect("its first words");
            assert!(whole.contains(all) && !whole.contains(filter_is), "{whole}");
            let narrowed = scene.page(format!("{path}?{filter}&lang={language}")).await.text;
            assert!(narrowed.contains(filtered) && !narrowed.contains(all), "{narrowed}");
        }
    }
    // A message is a filter of the page, too, and not all there are.
    let of_message = format!("/dead-letters/of/billing/discard?message={}", scene.message);
    let of_message = scene.page(of_message).await.text;
    assert!(of_message.contains(&format!("The filter: Message id: {}", scene.message)), "{of_message}");

    for (fields, words) in [
        (vec![("key", "order-43")], "Key: order-43"),
        (vec![("offset", "0"), ("offset", "2")], "Offset: 0, 2"),
        (vec![], "none: all dead letters of the group"),
    ] {
        let token = scene.page("/store").await.field("token").unwrap();
        let mut sent = vec![("token", token.as_str()), ("dry_run", "1"), BY[0], BY[1]];
        sent.extend(fields);
        let started = scene.answer(form("/dead-letters/of/billing/discard", &sent)).await.expect(303);
        let job = started.header("location").unwrap().to_owned();
        for page in [job, "/dead-letters/jobs".to_owned()] {
            let page: Page = scene.page(&page).await;
            assert!(page.text.contains(words), "{words} is not in {}", page.text);
        }
    }
}

/// The address of the one dead letter, with this body and these headers, of a broker whose bodies have 256 KiB at most.
async fn letter(body: &str, headers: Vec<v1::Header>) -> (Harness, &'static str) {
    let mut config = config();
    config.body_bytes_max = BODY_BYTES_MAX;
    let harness = Harness::start_with(config).await;
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    consumer.credit(1).await;
    let message = v1::Message {
        body: body.to_owned().into(),
        key: "order-42".to_owned(),
        headers,
        ..message("order-paid", "")
    };
    harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
    let delivery = consumer.deliveries(1).await.remove(0);
    consumer.settle(reject(1, &delivery)).await;
    assert_eq!(consumer.result().await.fault, None);
    (harness, "/dead-letters/of/billing/0/edit")
}

/// As a browser sends a text: each line ends with two characters.
fn sent(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

#[tokio::test]
async fn a_body_that_was_not_changed_is_sent_again_as_it_was() {
    // As a form it is three times as long, and longer than an address may be.
    let body = format!(" {{\"to\":\n\"{}\"}}\r\n\n ", "王".repeat(80 * 1024));
    let header = v1::Header { name: "note".to_owned(), value: "  as it was ".to_owned() };
    let (harness, path) = letter(&body, vec![header]).await;
    let address = harness.broker.http_addr();
    let token = Page::read(get(path).of(address).await.expect(200).text()).field("token").unwrap();
    let typed = sent(&body);
    let fields = [
        ("token", token.as_str()),
        ("body", &typed),
        ("headers", "note:   as it was \r\n"),
        ("to_topic", "order-paid"),
        BY[0],
        BY[1],
    ];
    let done = form(path, &fields).of(address).await.expect(303);
    let to = done.header("location").unwrap().trim_end_matches("?done=1").to_owned();
    assert_eq!(get(format!("{to}/body")).of(address).await.expect(200).text(), body);
    let new = get(format!("/api/v1{to}")).of(address).await.expect(200).json();
    assert_eq!(new["message"]["headers"][0]["value"], "  as it was ");
}

#[tokio::test]
async fn a_form_that_is_too_large_is_refused_on_a_page() {
    let (harness, path) = letter("{}", Vec::new()).await;
    let large = "x".repeat(BODY_BYTES_MAX * 3 + 2 * 1024 * 1024);
    for (language, words) in [("en", "larger than this broker takes"), ("zh-CN", "超过此服务接受的大小")]
    {
        let ask = form(format!("{path}?lang={language}"), &[("body", &large)]);
        let refused = ask.of(harness.broker.http_addr()).await.expect(413);
        assert!(Page::read(refused.text()).text.contains(words), "{}", refused.text());
    }
    let address = harness.broker.http_addr();
    // Many small fields are many times as large once they are read.
    form(path, &vec![("a", ""); 1_100]).of(address).await.expect(413);
    // Only this form has a body in it.
    let large = "x".repeat(2 << 20);
    form("/new/topic", &[("name", &large)]).of(address).await.expect(413);
    // What another site sends is not read, so nobody knows that it is too large.
    let foreign = form(path, &vec![("a", ""); 1_100]).with("origin", "https://elsewhere.example");
    foreign.of(address).await.expect(403);
    // What is no form is refused on a page, too.
    let ask = ask("POST", path).with("content-type", "text/plain");
    Page::read(ask.of(harness.broker.http_addr()).await.expect(415).text());
}
