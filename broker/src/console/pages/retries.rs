//! What is tried again, group by group; first that with the most. One or several are tried at once, or given up.

use escrow_protocol::limits::PAGE_MAX;
use escrow_protocol::{GroupName, MessageId};
use maud::{Markup, html};

use super::super::confirm::{Confirm, carried};
use super::super::parts::{Column, filters, nothing, pager, table, tabs, text_filter};
use super::super::shell::{Place, Sheet};
use super::super::show::{count, key, message, moment, or_none, topic};
use super::super::visit::{Visit, encoded};
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::engine::{Holding, Refusal};
use crate::service::{RetryMatching, RetryView};

/// Groups that are linked to, those with the most to do.
const GROUPS_LINKED: usize = 50;

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let groups = desk.service.groups_holding(Holding::Retries, GROUPS_LINKED).await?;
    let chosen: Option<GroupName> = match visit.optional("group")? {
        Some(group) => Some(group),
        // The one with the most to do: what somebody who comes here most likely looks for.
        None => groups.first().map(|(name, _)| name.clone()),
    };
    let mut shown = groups;
    if let Some(chosen) = chosen.as_ref().filter(|chosen| !shown.iter().any(|(name, _)| name == *chosen)) {
        let retrying = desk.service.group(chosen.clone()).await?.retrying;
        shown.push((chosen.clone(), retrying));
    }
    let shown: Vec<_> = shown
        .iter()
        .map(|(name, retrying)| {
            let address = format!("/retries?group={}", encoded(name.as_str()));
            (name.as_str(), address, Some(count(*retrying)), Some(name) == chosen.as_ref())
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

async fn of_group(desk: &Desk, visit: &Visit, group: GroupName) -> Result<Markup, Refusal> {
    let words = visit.words();
    let matching = RetryMatching {
        topic: visit.optional("topic")?,
        attempt_min: visit.optional("attempt_min")?.unwrap_or(0),
        key: visit.filter("key").map(str::to_owned),
    };
    let is_filtered = matching != RetryMatching::default();
    let page = desk.service.retries(group.clone(), matching, visit.page()).await?;
    let columns = [
        Column::Silent(words.actions),
        Column::Text(words.message_id),
        Column::Text(words.key),
        Column::Text(words.topic),
        Column::Number(words.offset),
        Column::Number(words.next_attempt),
        Column::Number(words.due),
        Column::Text(words.last_error),
    ];
    let rows: Vec<_> = page.items.iter().map(|retry| row(visit, retry)).collect();
    let empty = match is_filtered {
        true => words.empty_filtered.to_owned(),
        false => fill(words.retries_empty, &[("group", &group)]),
    };
    let fields = html! {
        input type="hidden" name="group" value=(group);
        (text_filter(visit, "key", words.key))
        (text_filter(visit, "topic", words.topic))
        (text_filter(visit, "attempt_min", words.attempt_min))
    };
    let of = format!("/retries/of/{}", encoded(group.as_str()));
    let partly = visit.filter("fault").map(|fault| {
        let number = |name| visit.filter(name).unwrap_or("0");
        let (done, refused) = (number("ok"), number("refused"));
        fill(words.retries_partly, &[("done", &done), ("refused", &refused), ("fault", &fault)])
    });
    Ok(html! {
        @if let Some(partly) = partly { p.note.warn role="status" { (partly) } }
        (filters(visit, &fields))
        @if rows.is_empty() { (nothing(&empty)) } @else {
            form method="get" action={ (of) "/run" } data-choose-all=(words.select_all) {
                (table(words.retries, &columns, &rows))
                div.buttons {
                    button.quiet type="submit" { (words.retries_selected_run) }
                    button.grave type="submit" formaction={ (of) "/give-up" } { (words.retries_selected_give_up) }
                }
            }
        }
        (pager(visit, page.next.as_deref()))
    })
}

/// What is done with the messages that were selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    GiveUp,
}

impl std::str::FromStr for Verb {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "run" => Ok(Self::Run),
            "give-up" => Ok(Self::GiveUp),
            _ => Err("it is not run or give-up"),
        }
    }
}

/// The messages that form or address name.
fn selected(visit: &Visit) -> Result<Vec<MessageId>, Refusal> {
    let mut ids = Vec::new();
    for text in visit.all("id") {
        let id = text.parse().map_err(|error| Refusal::invalid("id", format!("{text:?}: {error}")))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    match ids.len() {
        0 => Err(Refusal::invalid("id", visit.words().retries_none)),
        count if count > PAGE_MAX => Err(Refusal::invalid(
            "id",
            format!("there are {count}, at most {PAGE_MAX} are allowed at a time"),
        )),
        _ => Ok(ids),
    }
}

fn confirm(visit: &Visit, group: &GroupName, ids: &[MessageId], verb: Verb) -> Confirm {
    let words = visit.words();
    let (title, happens, button) = match verb {
        Verb::Run => (words.run_title, words.run_happens, words.do_run),
        Verb::GiveUp => (words.give_up_title, words.give_up_happens, words.do_give_up),
    };
    let of_group = [("group", group as &dyn std::fmt::Display)];
    let scope = fill(words.retries_scope, &[("group", group), ("n", &ids.len())]);
    let happens = vec![scope, fill(happens, &of_group)];
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let choices = carried(texts.iter().map(|id| ("id", id.as_str())));
    let below = html! { ul { @for id in ids { li { (message(*id)) } } } };
    let back = format!("/retries?group={}", encoded(group.as_str()));
    let grave = verb == Verb::GiveUp;
    let title = fill(title, &of_group);
    Confirm { happens, grave, choices, below, ..Confirm::new(Place::Retries, title, button, back) }
}

pub(in super::super) async fn ask(_: Desk, visit: Visit) -> Outcome {
    let (group, verb) = (visit.part("group")?, visit.part("verb")?);
    let ids = selected(&visit)?;
    Ok(confirm(&visit, &group, &ids, verb).ask(&visit).into())
}

pub(in super::super) async fn carry_out(desk: Desk, visit: Visit) -> Outcome {
    let (group, verb): (GroupName, Verb) = (visit.part("group")?, visit.part("verb")?);
    let ids = selected(&visit)?;
    let confirm = confirm(&visit, &group, &ids, verb);
    let back = confirm.back.clone();
    let act = async |operator| {
        let results = match verb {
            Verb::Run => desk.service.run_retries(group, ids, operator).await?,
            Verb::GiveUp => desk.service.give_up_retries(group, ids, operator).await?,
        };
        let all = results.len();
        let mut refusals: Vec<_> = results.into_iter().filter_map(|(_, result)| result.err()).collect();
        match refusals.len() {
            0 => Ok(None),
            // Nothing was done: the page asks again and says why.
            refused if refused == all => Err(refusals.swap_remove(0)),
            refused => {
                let fault = encoded(&visit.worded(&refusals[0]));
                Ok(Some(format!("{back}&ok={}&refused={refused}&fault={fault}", all - refused)))
            }
        }
    };
    confirm.carry_out(&visit, act).await
}

fn row(visit: &Visit, retry: &RetryView) -> Vec<Markup> {
    let record = &retry.record;
    let last_error = record.attempts.last().map_or("", |attempt| attempt.error.as_str());
    let label = fill(visit.words().select_message, &[("id", &record.entry.id)]);
    vec![
        html! { input type="checkbox" name="id" value=(record.entry.id) aria-label=(label); },
        message(record.entry.id),
        key(retry.key.as_deref()),
        topic(retry.topic.as_ref().map(|topic| topic.as_str())),
        html! { (retry.offset.0) },
        html! { (record.attempts_made + 1) "/" (retry.max_attempts) },
        moment(visit, record.due_at_ms),
        html! { div.error.brief { (or_none(last_error)) } },
    ]
}
