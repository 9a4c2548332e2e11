//! What is ordered for a topic: it is made, keeps what is finished for longer or shorter, is deleted. What fills the disk is
//! mended here; each order asks who and why.

use escrow_protocol::v1;
use maud::{Markup, html};

use super::super::confirm::Confirm;
use super::super::parts::{force, forced, text};
use super::super::shell::Place;
use super::super::show::{count, topic_page};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::config::{DurationText, SizeText, parse_duration_ms, parse_size};
use crate::engine::{Refusal, TopicView};
use crate::records::TopicSettings;

/// The calls that do it: their checks are those of every other way in.
const CREATE: &str = "/escrow.v1.AdminService/CreateTopic";
const UPDATE: &str = "/escrow.v1.AdminService/UpdateTopic";
const DELETE: &str = "/escrow.v1.AdminService/DeleteTopic";

fn creating(visit: &Visit) -> Confirm {
    let words = visit.words();
    let choices = html! {
        (text(visit, "name", (words.name_label, ""), "", true))
        (kept(visit, TopicSettings::default()))
    };
    let happens = vec![words.new_topic_happens.to_owned()];
    let title = words.new_topic_title.to_owned();
    let confirm = Confirm::new(Place::Topics, title, words.do_new_topic, "/topics".to_owned());
    Confirm { happens, choices, ..confirm }
}

pub(in super::super) async fn ask_create(_: Desk, visit: Visit) -> Outcome {
    Ok(creating(&visit).ask(&visit).into())
}

pub(in super::super) async fn create(desk: Desk, visit: Visit) -> Outcome {
    let name = visit.field("name").unwrap_or_default().to_owned();
    let to = topic_page(&name) + "?done=1";
    let request =
        |operator| Ok(v1::CreateTopicRequest { name, settings: Some(settings_of(&visit)?), operator });
    desk.order(&visit, creating(&visit), CREATE, request, Some(to)).await
}

fn keeping(visit: &Visit, view: &TopicView) -> Confirm {
    let words = visit.words();
    let title = fill(words.retention_title, &[("name", &view.name)]);
    let happens = vec![words.retention_happens.to_owned(), words.retention_unfinished.to_owned()];
    let choices = kept(visit, view.settings);
    let confirm = Confirm::new(Place::Topics, title, words.do_retention, topic_page(view.name.as_str()));
    Confirm { happens, choices, ..confirm }
}

pub(in super::super) async fn ask_retention(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.topic(visit.part("name")?).await?;
    Ok(keeping(&visit, &view).ask(&visit).into())
}

pub(in super::super) async fn retention(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.topic(visit.part("name")?).await?;
    let name = view.name.to_string();
    let request =
        |operator| Ok(v1::UpdateTopicRequest { name, settings: Some(settings_of(&visit)?), operator });
    desk.order(&visit, keeping(&visit, &view), UPDATE, request, None).await
}

fn deleting(visit: &Visit, view: &TopicView) -> Confirm {
    let words = visit.words();
    let title = fill(words.topic_delete_title, &[("name", &view.name)]);
    let mut happens = vec![fill(words.topic_delete_happens, &[("n", &count(view.next.0 - view.head.0))])];
    if !view.groups.is_empty() {
        let groups: Vec<_> = view.groups.iter().map(ToString::to_string).collect();
        happens.push(fill(words.topic_delete_groups, &[("groups", &groups.join(", "))]));
    }
    if view.awaited > 0 {
        happens.push(fill(words.topic_delete_awaited, &[("n", &count(view.awaited))]));
    }
    let choices = force(visit);
    let confirm = Confirm::new(Place::Topics, title, words.do_delete, topic_page(view.name.as_str()));
    Confirm { happens, grave: true, choices, ..confirm }
}

pub(in super::super) async fn ask_delete(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.topic(visit.part("name")?).await?;
    Ok(deleting(&visit, &view).ask(&visit).into())
}

pub(in super::super) async fn delete(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.topic(visit.part("name")?).await?;
    let (name, force) = (view.name.to_string(), forced(&visit));
    let request = |operator| Ok(v1::DeleteTopicRequest { name, force, operator });
    // Its own page is gone with it.
    let to = "/topics?done=1".to_owned();
    desk.order(&visit, deleting(&visit, &view), DELETE, request, Some(to)).await
}

/// The fields of what a topic keeps.
fn kept(visit: &Visit, before: TopicSettings) -> Markup {
    let words = visit.words();
    let (ms, bytes) = (DurationText(before.keep_finished_ms), SizeText(before.keep_finished_bytes));
    html! {
        (text(visit, "keep", (words.retention_keep, words.retention_keep_help), &ms.to_string(), true))
        (text(visit, "keep_bytes", (words.retention_bytes, words.retention_bytes_help), &bytes.to_string(), true))
    }
}

fn settings_of(visit: &Visit) -> Result<v1::TopicSettings, Refusal> {
    let ms = parse_duration_ms(visit.required("keep")?)
        .map_err(|error| Refusal::invalid("keep", error.to_string()))?;
    let keep_finished_bytes = parse_size(visit.required("keep_bytes")?)
        .map_err(|error| Refusal::invalid("keep_bytes", error.to_string()))?;
    Ok(v1::TopicSettings { keep_finished_ms: i64::try_from(ms).unwrap_or(i64::MAX), keep_finished_bytes })
}
