//! What is said of dead letters before and while much is done with them: which of them it is about.

use crate::html::Page;
use crate::scene::Scene;
use crate::web::*;

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
            assert!(whole.contains(all) && !whole.contains("筛选条件："), "{whole}");
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
