//! What is ordered for a group as a whole: it is made, listens to another topic or to one less, is deleted.

use escrow_protocol::{TopicName, v1};
use maud::{Markup, html};

use super::super::confirm::{Confirm, carried};
use super::super::parts::{choice, force, forced, text};
use super::super::shell::Place;
use super::super::show::{count, group_page};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::engine::{GroupView, Refusal};

/// The calls that do it: their checks are those of every other way in.
const CREATE: &str = "/escrow.v1.AdminService/CreateGroup";
const UPDATE: &str = "/escrow.v1.AdminService/UpdateGroup";
const DELETE: &str = "/escrow.v1.AdminService/DeleteGroup";

fn creating(visit: &Visit) -> Confirm {
    let words = visit.words();
    let choices = html! {
        (text(visit, "name", (words.name_label, ""), "", true))
        (listening(visit))
    };
    let happens = vec![words.new_group_happens.to_owned()];
    let title = words.new_group_title.to_owned();
    let confirm = Confirm::new(Place::Groups, title, words.do_new_group, "/groups".to_owned());
    Confirm { happens, choices, ..confirm }
}

pub(in super::super) async fn ask_create(_: Desk, visit: Visit) -> Outcome {
    Ok(creating(&visit).ask(&visit).into())
}

pub(in super::super) async fn create(desk: Desk, visit: Visit) -> Outcome {
    let name = visit.field("name").unwrap_or_default().to_owned();
    let to = group_page(&name) + "?done=1";
    let request = |operator| {
        let (subscriptions, start) = (vec![subscription_of(&visit)], start_of(&visit)?);
        Ok(v1::CreateGroupRequest { name, subscriptions, start, operator, ..Default::default() })
    };
    desk.order(&visit, creating(&visit), CREATE, request, Some(to)).await
}

fn subscribing(visit: &Visit, view: &GroupView) -> Confirm {
    let words = visit.words();
    let title = fill(words.subscribe_title, &[("name", &view.name)]);
    let happens = vec![words.subscribe_happens.to_owned()];
    let choices = listening(visit);
    let confirm = Confirm::new(Place::Groups, title, words.do_subscribe, group_page(view.name.as_str()));
    Confirm { happens, choices, ..confirm }
}

pub(in super::super) async fn ask_subscribe(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    Ok(subscribing(&visit, &view).ask(&visit).into())
}

pub(in super::super) async fn subscribe(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    let request = |operator| {
        let (name, subscriptions) = (view.name.to_string(), vec![subscription_of(&visit)]);
        let start = start_of(&visit)?;
        Ok(v1::UpdateGroupRequest { name, subscriptions, start, operator, ..Default::default() })
    };
    desk.order(&visit, subscribing(&visit, &view), UPDATE, request, None).await
}

/// The end of a subscription that there is.
fn unsubscribing(visit: &Visit, view: &GroupView) -> Result<(TopicName, Confirm), Refusal> {
    let words = visit.words();
    let topic: TopicName =
        visit.optional("topic")?.ok_or_else(|| Refusal::invalid("topic", "it is missing; choose one"))?;
    let title = fill(words.unsubscribe_title, &[("name", &view.name), ("topic", &topic)]);
    let position = view.positions.iter().find(|position| position.topic == topic);
    let lag = position.map_or(0, |position| position.lag);
    let mut happens =
        vec![fill(words.unsubscribe_happens, &[("n", &count(lag))]), words.unsubscribe_final.to_owned()];
    happens.extend((!view.members.is_empty()).then(|| words.subscription_returns.to_owned()));
    let choices = carried([("topic", topic.as_str())].into_iter());
    let confirm = Confirm::new(Place::Groups, title, words.do_unsubscribe, group_page(view.name.as_str()));
    Ok((topic, Confirm { happens, grave: true, choices, ..confirm }))
}

pub(in super::super) async fn ask_unsubscribe(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    Ok(unsubscribing(&visit, &view)?.1.ask(&visit).into())
}

pub(in super::super) async fn unsubscribe(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    let (topic, confirm) = unsubscribing(&visit, &view)?;
    let request = |operator| {
        let (name, unsubscribe) = (view.name.to_string(), vec![topic.to_string()]);
        Ok(v1::UpdateGroupRequest { name, unsubscribe, operator, ..Default::default() })
    };
    desk.order(&visit, confirm, UPDATE, request, None).await
}

fn deleting(visit: &Visit, view: &GroupView) -> Confirm {
    let words = visit.words();
    let title = fill(words.group_delete_title, &[("name", &view.name)]);
    let (retries, dead) = (count(view.retrying), count(view.dead_letters));
    let mut happens = vec![fill(words.group_delete_happens, &[("retries", &retries), ("dead", &dead)])];
    happens.extend((!view.members.is_empty()).then(|| words.group_returns.to_owned()));
    if view.dead_letters > 0 || !view.members.is_empty() {
        happens.push(words.group_delete_used.to_owned());
    }
    let choices = force(visit);
    let confirm = Confirm::new(Place::Groups, title, words.do_delete, group_page(view.name.as_str()));
    Confirm { happens, grave: true, choices, ..confirm }
}

pub(in super::super) async fn ask_delete(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    Ok(deleting(&visit, &view).ask(&visit).into())
}

pub(in super::super) async fn delete(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    let (name, force) = (view.name.to_string(), forced(&visit));
    let request = |operator| Ok(v1::DeleteGroupRequest { name, force, operator });
    // Its own page is gone with it.
    let to = "/groups?done=1".to_owned();
    desk.order(&visit, deleting(&visit, &view), DELETE, request, Some(to)).await
}

/// The fields of a subscription.
fn listening(visit: &Visit) -> Markup {
    let words = visit.words();
    let starts = [("oldest", words.seek_oldest), ("newest", words.seek_newest)];
    html! {
        (text(visit, "topic", (words.topic, ""), "", true))
        (text(visit, "tags", (words.tags, words.subscribe_tags_help), "", false))
        (choice("start", words.subscribe_start, visit.field("start").unwrap_or("oldest"), &starts))
    }
}

fn subscription_of(visit: &Visit) -> v1::Subscription {
    let tags = visit.field("tags").unwrap_or_default().split(',').map(str::trim);
    let tags = tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    v1::Subscription { topic: visit.field("topic").unwrap_or_default().to_owned(), tags }
}

fn start_of(visit: &Visit) -> Result<i32, Refusal> {
    match visit.field("start") {
        Some("oldest") | None => Ok(v1::StartPosition::Oldest.into()),
        Some("newest") => Ok(v1::StartPosition::Newest.into()),
        Some(_) => Err(Refusal::invalid("start", "it is not oldest or newest; choose one")),
    }
}
