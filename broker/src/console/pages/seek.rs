//! Moving a group in one topic: first what it would do, then, with a name and a reason, doing it.

use escrow_protocol::{GroupName, Offset, TopicName};
use maud::{Markup, html};

use super::super::confirm::{Confirm, carried};
use super::super::parts::{choice, field};
use super::super::shell::{Place, Sheet};
use super::super::show::{count, group_page};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::engine::{GroupView, Refusal, SeekTo};
use crate::service::{Operator, Sought};

/// Where it is to be moved, as the form says it.
struct Wanted {
    topic: TopicName,
    to: SeekTo,
}

pub(in super::super) async fn ask(desk: Desk, visit: Visit) -> Outcome {
    let name: GroupName = visit.part("name")?;
    let view = desk.service.group(name).await?;
    if visit.said("to").is_none() {
        return Ok(form(&visit, &view, None).into());
    }
    let wanted = match wanted(&visit) {
        Ok(wanted) => wanted,
        Err(refusal) => return Ok(form(&visit, &view, Some(&visit.worded(&refusal))).into()),
    };
    let tried =
        desk.service.seek(view.name.clone(), wanted.topic.clone(), wanted.to, true, Operator::default());
    match tried.await {
        Ok(sought) => Ok(confirm(&visit, &view, &wanted, sought).ask(&visit).into()),
        Err(refusal) => Ok(form(&visit, &view, Some(&visit.worded(&refusal))).into()),
    }
}

pub(in super::super) async fn seek(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    let wanted = wanted(&visit)?;
    let seek = |dry_run, operator| {
        desk.service.seek(view.name.clone(), wanted.topic.clone(), wanted.to, dry_run, operator)
    };
    let tried = seek(true, Operator::default()).await?;
    let act = async |operator| {
        seek(false, operator).await?;
        Ok::<Option<String>, Refusal>(None)
    };
    confirm(&visit, &view, &wanted, tried).carry_out(&visit, act).await
}

fn wanted(visit: &Visit) -> Result<Wanted, Refusal> {
    let topic =
        visit.optional("topic")?.ok_or_else(|| Refusal::invalid("topic", "it is missing; choose one"))?;
    let number = || {
        visit.optional("value")?.ok_or_else(|| Refusal::invalid("value", "it is missing; write an offset"))
    };
    let time = || -> Result<jiff::Timestamp, Refusal> {
        visit.optional("value")?.ok_or_else(|| Refusal::invalid("value", "it is missing; write a time"))
    };
    let to = match visit.said("to") {
        Some("oldest") => SeekTo::Oldest,
        Some("newest") => SeekTo::Newest,
        Some("offset") => SeekTo::Offset(Offset(number()?)),
        Some("time") => SeekTo::Time(u64::try_from(time()?.as_millisecond()).unwrap_or(0)),
        _ => return Err(Refusal::invalid("to", "it is not oldest, newest, offset or time; choose one")),
    };
    Ok(Wanted { topic, to })
}

fn form(visit: &Visit, view: &GroupView, wrong: Option<&str>) -> Sheet {
    let words = visit.words();
    let topics: Vec<_> = view.positions.iter().map(|position| position.topic.as_str()).collect();
    let topics: Vec<_> = topics.iter().map(|topic| (*topic, *topic)).collect();
    let to = [
        ("oldest", words.seek_oldest),
        ("newest", words.seek_newest),
        ("offset", words.seek_offset),
        ("time", words.seek_time),
    ];
    let value = html! {
        input #value name="value" type="text" autocomplete="off" maxlength="64" aria-describedby="value-help"
            value=(visit.said("value").unwrap_or_default());
    };
    let content: Markup = html! {
        p.lead { (words.seek_help) }
        @if let Some(wrong) = wrong { p.note.bad role="alert" { (wrong) } }
        form.confirm method="get" action=(visit.path()) {
            (choice("topic", words.topic, visit.said("topic").unwrap_or_default(), &topics))
            (choice("to", words.seek_to, visit.said("to").unwrap_or("oldest"), &to))
            (field("value", words.seek_value, words.seek_value_help, &value))
            div.buttons {
                button type="submit" { (words.dry_run) }
                a.button.quiet href=(group_page(view.name.as_str())) { (words.cancel) }
            }
        }
    };
    Sheet::new(Place::Groups, fill(words.seek_title, &[("name", &view.name)]), content)
}

fn confirm(visit: &Visit, view: &GroupView, wanted: &Wanted, sought: Sought) -> Confirm {
    let words = visit.words();
    let place =
        [("topic", &wanted.topic as &dyn std::fmt::Display), ("from", &sought.from.0), ("to", &sought.to.0)];
    let mut happens = vec![fill(words.seek_result, &place)];
    if sought.replayed > 0 {
        happens.push(fill(words.seek_replays, &[("n", &count(sought.replayed)), ("group", &view.name)]));
    }
    if sought.skipped > 0 {
        happens.push(fill(words.seek_skips, &[("n", &count(sought.skipped)), ("group", &view.name)]));
    }
    if sought.from == sought.to {
        happens.push(words.seek_nothing.to_owned());
    }
    let said =
        ["topic", "to", "value"].into_iter().filter_map(|name| visit.said(name).map(|text| (name, text)));
    let title = fill(words.seek_title, &[("name", &view.name)]);
    let back = group_page(view.name.as_str());
    let grave = sought.skipped > 0;
    let choices = carried(said);
    Confirm { happens, grave, choices, ..Confirm::new(Place::Groups, title, words.seek_confirm, back) }
}
