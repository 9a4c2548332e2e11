//! Topics and groups through their forms: made, kept for longer, subscribed, deleted; what is in use only if it is meant.

use crate::html::Page;
use crate::scene::Scene;
use crate::web::*;

const BY: [(&str, &str); 2] = [("operator", "Ada 王"), ("reason", "the disk fills")];

async fn audited(scene: &Scene, verb: &str, on: &str) {
    let audit = scene.page(format!("/audit?verb={verb}")).await.text;
    for words in [on, "Ada 王", "the disk fills"] {
        assert!(audit.contains(words), "{words} is not in {audit}");
    }
}

#[tokio::test]
async fn what_a_topic_keeps_is_changed() {
    let scene = Scene::set().await;
    let path = "/topics/order-paid/retention";
    assert!(scene.page("/topics/order-paid").await.links().contains(path));
    let with =
        |keep: &'static str, bytes: &'static str| [("keep", keep), ("keep_bytes", bytes), BY[0], BY[1]];
    for (fields, says) in [
        (with("a while", "0"), "is not a duration"),
        (with("1h", "much"), "is not a size"),
        (with("0s", "1GiB"), "no time is given"),
    ] {
        let refused = scene.send(path, &fields).await.expect(400);
        assert!(Page::read(refused.text()).text.contains(says), "{}", refused.text());
    }
    let done = scene.send(path, &with("12h", "10GiB")).await.expect(303);
    assert_eq!(done.header("location"), Some("/topics/order-paid?done=1"));
    let topic = scene.answer(get("/api/v1/topics/order-paid")).await.expect(200).json();
    let settings = &topic["settings"];
    assert_eq!(settings["keep_finished_ms"], 12 * 3_600_000);
    assert_eq!(settings["keep_finished_bytes"], 10_u64 << 30);
    let shown = scene.page(path).await;
    assert_eq!(
        (shown.field("keep").as_deref(), shown.field("keep_bytes").as_deref()),
        (Some("12h"), Some("10GiB"))
    );
    audited(&scene, "topic.update", "order-paid").await;
    // That of dead letters goes with its group.
    assert!(!scene.page("/topics/billing.dlq").await.links().contains("/topics/billing.dlq/delete"));
}

#[tokio::test]
async fn a_topic_that_is_listened_to_is_only_deleted_if_that_is_meant() {
    let scene = Scene::set().await;
    for (path, fields) in [
        ("/new/topic", vec![("name", "parcel"), ("keep", "0s"), ("keep_bytes", "0")]),
        (
            "/groups/billing/subscribe",
            vec![("topic", "parcel"), ("tags", "large, small"), ("start", "newest")],
        ),
    ] {
        scene.send(path, &[fields, BY.to_vec()].concat()).await.expect(303);
    }
    let group = scene.answer(get("/api/v1/groups/billing")).await.expect(200).json();
    assert_eq!(group["positions"][1]["tags"], serde_json::json!(["large", "small"]));
    let path = "/topics/parcel/delete";
    let asked = scene.page(path).await;
    assert!(asked.text.contains("0 messages go with it") && asked.text.contains("billing"), "{}", asked.text);
    let refused = scene.send(path, &BY).await.expect(409);
    assert!(Page::read(refused.text()).text.contains("groups listen to topic"), "{}", refused.text());
    scene.send(path, &[("force", "1"), BY[0]]).await.expect(422);
    let done = scene.send(path, &[("force", "1"), BY[0], BY[1]]).await.expect(303);
    scene.answer(get(done.header("location").unwrap())).await.expect(200);
    scene.answer(get("/topics/parcel")).await.expect(404);
    for verb in ["topic.create", "topic.delete"] {
        audited(&scene, verb, "parcel").await;
    }
}

#[tokio::test]
async fn a_group_is_made_ends_a_subscription_and_is_deleted() {
    let scene = Scene::set().await;
    let made = [("name", "mail"), ("topic", "order-paid"), ("start", "newest"), BY[0], BY[1]];
    let done = scene.send("/new/group", &made).await.expect(303);
    assert_eq!(done.header("location"), Some("/groups/mail?done=1"));
    scene.send("/new/group", &made).await.expect(409);

    for body in ["one", "two"] {
        scene.harness.publish("order-paid", body).await;
    }
    let end = "/groups/mail/unsubscribe?topic=order-paid";
    let group = scene.page("/groups/mail").await;
    assert!(group.links().contains(end), "{:?}", group.links());
    assert!(scene.page(end).await.text.contains("2 messages it has yet to finish"));
    scene.send(end, &[("topic", "order-paid"), BY[0], BY[1]]).await.expect(303);
    assert!(scene.page("/groups/mail").await.text.contains("listens to no topic"));

    scene.send("/groups/mail/delete", &BY).await.expect(303);
    scene.answer(get("/groups/mail")).await.expect(404);
    let used = scene.page("/groups/billing/delete").await.text;
    assert!(used.contains("3 dead letters") && used.contains("1 retry"), "{used}");
    scene.send("/groups/billing/delete", &BY).await.expect(409);
    scene.send("/groups/billing/delete", &[("force", "1"), BY[0], BY[1]]).await.expect(303);
    scene.answer(get("/groups/billing")).await.expect(404);
    for verb in ["group.create", "group.update", "group.delete"] {
        audited(&scene, verb, "mail").await;
    }
}
