//! What is tried again, group by group: a list of all groups would be a scan, a page of groups is not.

use escrow_protocol::GroupName;
use maud::{Markup, html};

use super::super::parts::{Column, nothing, pager, table_or, tabs};
use super::super::shell::{Place, Sheet};
use super::super::show::{count, message, moment, or_none, topic};
use super::super::visit::{Visit, encoded};
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::service::{Page, RetryView};

/// Groups that are looked at for those with retries.
const GROUPS_LINKED: usize = 200;

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let groups = desk.service.groups(Page { limit: GROUPS_LINKED, cursor: None }, String::new()).await?.items;
    let chosen: Option<GroupName> = match visit.optional("group")? {
        Some(group) => Some(group),
        // The one with the most to do: what somebody who comes here most likely looks for.
        None => groups
            .iter()
            .max_by_key(|view| view.retrying)
            .filter(|view| view.retrying > 0)
            .map(|view| view.name.clone()),
    };
    let shown = groups.iter().filter(|view| view.retrying > 0 || Some(&view.name) == chosen.as_ref());
    let shown: Vec<_> = shown
        .map(|view| {
            let address = format!("/retries?group={}", encoded(view.name.as_str()));
            (view.name.as_str(), address, Some(count(view.retrying)), Some(&view.name) == chosen.as_ref())
        })
        .collect();
    let content = html! {
        p.lead { (words.retries_help) }
        @if !shown.is_empty() { (tabs(words.retries_choose, &shown)) }
        @match &chosen {
            Some(group) => { (of_group(&desk, &visit, group.clone()).await?) },
            None => { (nothing(&fill(words.retries_empty, &[("group", &words.any)]))) },
        }
    };
    Ok(Sheet::new(Place::Retries, words.retries, content).live().into())
}

async fn of_group(desk: &Desk, visit: &Visit, group: GroupName) -> Result<Markup, crate::engine::Refusal> {
    let words = visit.words();
    let page = desk.service.retries(group.clone(), visit.page()).await?;
    let columns = [
        Column::Text(words.message_id),
        Column::Text(words.topic),
        Column::Number(words.offset),
        Column::Number(words.next_attempt),
        Column::Number(words.due),
        Column::Text(words.last_error),
    ];
    let rows: Vec<_> = page.items.iter().map(|retry| row(visit, retry)).collect();
    let empty = fill(words.retries_empty, &[("group", &group)]);
    Ok(html! {
        (table_or(&empty, words.retries, &columns, &rows))
        (pager(visit, page.next.as_deref()))
    })
}

fn row(visit: &Visit, retry: &RetryView) -> Vec<Markup> {
    let record = &retry.record;
    let last_error = record.attempts.last().map_or("", |attempt| attempt.error.as_str());
    vec![
        message(record.entry.id),
        topic(retry.topic.as_ref().map(|topic| topic.as_str())),
        html! { (retry.offset.0) },
        html! { (record.attempts_made + 1) "/" (retry.max_attempts) },
        moment(visit, record.due_at_ms),
        html! { div.error { (or_none(last_error)) } },
    ]
}
