//! Topics: what they keep, and who listens.

use escrow_protocol::TopicName;
use maud::{Markup, html};

use super::super::parts::{Column, actions, facts, filters, nothing, pager, section, table_or, text_filter};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, duration, exact, group, size, topic, topic_page};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::engine::TopicView;

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let prefix = visit.filter("prefix").unwrap_or_default().to_owned();
    let dead = visit.filter("dead").is_some();
    let page = desk.service.topics(visit.page(), prefix, dead).await?;
    let columns = [
        Column::Text(words.topic),
        Column::Number(words.messages_kept),
        Column::Number(words.bytes_kept),
        Column::Number(words.next_offset),
        Column::Number(words.awaited),
        Column::Text(words.subscribers),
        Column::Number(words.created),
    ];
    let rows: Vec<_> = page.items.iter().map(|view| row(&visit, view)).collect();
    let fields = html! {
        (text_filter(&visit, "prefix", words.prefix))
        div.field.check {
            input #dead name="dead" type="checkbox" value="1" checked[dead];
            label for="dead" { (words.with_dead_letter_topics) }
        }
    };
    let content = html! {
        (filters(&visit, &fields))
        (table_or(words.topics_empty, words.topics, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
        (actions(words.actions, &[(words.do_new_topic, "/new/topic".to_owned(), false)]))
        p.help { (words.topics_help) }
    };
    Ok(Sheet::new(Place::Topics, words.topics, content).live().into())
}

fn row(visit: &Visit, view: &TopicView) -> Vec<Markup> {
    vec![
        topic(Some(view.name.as_str())),
        html! { (count(view.next.0 - view.head.0)) },
        html! { (size(view.bytes)) },
        html! { (count(view.next.0)) },
        html! { (count(view.awaited)) },
        listeners(view),
        age(visit, view.created_at_ms),
    ]
}

fn listeners(view: &TopicView) -> Markup {
    html! {
        @if view.groups.is_empty() { span.faint { "–" } }
        @for (nth, name) in view.groups.iter().enumerate() { @if nth > 0 { ", " } (group(name.as_str())) }
    }
}

pub(in super::super) async fn one(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let name: TopicName = visit.part("name")?;
    let view = desk.service.topic(name).await?;
    let path = topic_page(view.name.as_str());
    let keeps = match view.settings.keep_finished_ms {
        0 => words.keeps_nothing.to_owned(),
        ms => {
            let most = view.settings.keep_finished_bytes;
            let most =
                if most > 0 { fill(words.keeps_at_most, &[("size", &size(most))]) } else { String::new() };
            fill(words.keeps_finished, &[("age", &duration(words, ms))]) + &most
        }
    };
    let about = [
        (words.messages_kept, html! { (count(view.next.0 - view.head.0)) }),
        (words.bytes_kept, html! { (size(view.bytes)) }),
        (words.head, html! { (count(view.head.0)) }),
        (words.next_offset, html! { (count(view.next.0)) }),
        (words.awaited, html! { (count(view.awaited)) }),
        (words.retention, html! { (keeps) }),
        (words.created, exact(view.created_at_ms)),
    ];
    let content = html! {
        @if view.dead_letters_of.is_none() {
            (actions(words.actions, &[
                (words.do_retention, format!("{path}/retention"), false),
                (words.do_delete, format!("{path}/delete"), true),
            ]))
        }
        (facts(&about))
        @if let Some(of) = &view.dead_letters_of {
            p { (words.belongs_to) ": " (group(of.as_str())) }
        }
        (section(words.topic_groups, &html! {
            @if view.groups.is_empty() { (nothing(words.no_groups_listen)) } @else { p { (listeners(&view)) } }
        }))
    };
    Ok(Sheet::new(Place::Topics, view.name.to_string(), content).live().into())
}
