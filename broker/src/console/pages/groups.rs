//! Groups: how far behind, who consumes, how failures are tried again; pause and resume.

use escrow_protocol::GroupName;
use maud::{Markup, html};

use super::super::confirm::Confirm;
use super::super::parts::{
    Column, actions, facts, filters, nothing, pager, section, table, table_or, text_filter,
};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, delays, duration, exact, group, group_page, topic};
use super::super::visit::{Visit, encoded};
use super::super::words::{Words, fill};
use super::super::{Desk, Outcome};
use super::policy;
use crate::engine::{Command, GroupView, Refusal};
use crate::records::OrderingPolicy;

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let prefix = visit.filter("prefix").unwrap_or_default().to_owned();
    let page = desk.service.groups(visit.page(), prefix).await?;
    let columns = [
        Column::Text(words.group),
        Column::Text(words.state),
        Column::Number(words.lag),
        Column::Number(words.oldest),
        Column::Number(words.leased),
        Column::Number(words.retrying),
        Column::Number(words.dead),
        Column::Number(words.members),
    ];
    let rows: Vec<_> = page.items.iter().map(|view| row(&visit, view)).collect();
    let content = html! {
        p.lead { (words.groups_help) }
        (filters(&visit, &text_filter(&visit, "prefix", words.prefix)))
        (table_or(words.groups_empty, words.groups, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
        (actions(words.actions, &[(words.do_new_group, "/new/group".to_owned(), false)]))
    };
    Ok(Sheet::new(Place::Groups, words.groups, content).live().into())
}

fn row(visit: &Visit, view: &GroupView) -> Vec<Markup> {
    let oldest = view.positions.iter().filter_map(|position| position.oldest_at_ms).min();
    vec![
        group(view.name.as_str()),
        state(visit.words(), view),
        html! { (count(lag(view))) },
        html! { @match oldest { Some(at_ms) => { (age(visit, at_ms)) }, None => { span.faint { "–" } } } },
        html! { (count(view.leased)) },
        linked(view.retrying, &format!("/retries?group={}", encoded(view.name.as_str()))),
        linked(view.dead_letters, &format!("/dead-letters?group={}", encoded(view.name.as_str()))),
        html! { (count(view.members.len() as u64)) },
    ]
}

/// A number that leads to what it counts, if it counts something.
fn linked(number: u64, address: &str) -> Markup {
    html! { @if number == 0 { "0" } @else { a href=(address) { (count(number)) } } }
}

fn state(words: &'static Words, view: &GroupView) -> Markup {
    html! {
        @if view.paused { span.state.warn { (words.group_paused) } }
        @else { span.state.good { (words.group_running) } }
        @if view.broadcast { " " span.state { (words.broadcast) } }
    }
}

fn lag(view: &GroupView) -> u64 {
    view.positions.iter().map(|position| position.lag).sum()
}

pub(in super::super) async fn one(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let name: GroupName = visit.part("name")?;
    let view = desk.service.group(name).await?;
    let path = group_page(view.name.as_str());
    let toggle = match view.paused {
        true => (words.do_resume_group, format!("{path}/resume"), false),
        false => (words.do_pause, format!("{path}/pause"), false),
    };
    let about = [
        (words.state, state(words, &view)),
        (words.lag, html! { (count(lag(&view))) }),
        (words.leased, html! { (count(view.leased)) }),
        (words.retrying, linked(view.retrying, &format!("/retries?group={}", encoded(view.name.as_str())))),
        (
            words.dead_letters,
            linked(view.dead_letters, &format!("/dead-letters?group={}", encoded(view.name.as_str()))),
        ),
        (words.blocked_keys, html! { (count(view.blocked_keys)) }),
        (words.acked, html! { (count(view.acked)) }),
        (words.nacked, html! { (count(view.nacked)) }),
        (words.expired_leases, html! { (count(view.expired_leases)) }),
        (words.created, exact(view.created_at_ms)),
    ];
    let content = html! {
        (actions(words.actions, &[
            toggle,
            (words.do_seek, format!("{path}/seek"), false),
            (words.do_policy, policy::address_of(&view.name), false),
            (words.do_subscribe, format!("{path}/subscribe"), false),
            (words.do_delete, format!("{path}/delete"), true),
        ]))
        (facts(&about))
        (section(words.positions, &positions(&visit, &view)))
        (section(words.members, &members(words, &view)))
        (section(words.policy, &policy_of(words, &view)))
    };
    Ok(Sheet::new(Place::Groups, view.name.to_string(), content).live().into())
}

fn positions(visit: &Visit, view: &GroupView) -> Markup {
    let words = visit.words();
    let columns = [
        Column::Text(words.topic),
        Column::Text(words.tags),
        Column::Number(words.floor),
        Column::Number(words.finished_above),
        Column::Number(words.lag),
        Column::Number(words.oldest),
        Column::Silent(words.actions),
    ];
    let end = group_page(view.name.as_str()) + "/unsubscribe";
    let rows = view.positions.iter().map(|position| {
        let tags: Vec<_> = position.subscription.tags.iter().map(ToString::to_string).collect();
        vec![
            topic(Some(position.topic.as_str())),
            html! { @if tags.is_empty() { span.faint { (words.any) } } @else { (tags.join(", ")) } },
            html! { (count(position.floor.0)) },
            html! { (count(position.finished_above)) },
            html! { (count(position.lag)) },
            html! { @match position.oldest_at_ms { Some(at_ms) => { (age(visit, at_ms)) }, None => { span.faint { "–" } } } },
            html! { a href={ (end) "?topic=" (encoded(position.topic.as_str())) } { (words.do_unsubscribe) } },
        ]
    });
    let rows: Vec<_> = rows.collect();
    table_or(words.no_positions, words.positions, &columns, &rows)
}

fn members(words: &'static Words, view: &GroupView) -> Markup {
    if view.members.is_empty() {
        return nothing(words.no_members);
    }
    let rows: Vec<_> = view.members.iter().map(|member| vec![html! { (member) }]).collect();
    table(words.members, &[Column::Text(words.client)], &rows)
}

fn policy_of(words: &'static Words, view: &GroupView) -> Markup {
    let ordering = match view.settings.ordering {
        OrderingPolicy::Block => words.ordering_block,
        OrderingPolicy::Skip => words.ordering_skip,
        OrderingPolicy::DeadLetter => words.ordering_dead_letter,
    };
    facts(&[
        (words.max_attempts, html! { (view.settings.retry.max_attempts) }),
        (words.policy_immediate, html! { (view.settings.retry.immediate_attempts) }),
        (words.delays, html! { (delays(words, &view.settings.retry.delays)) }),
        (words.policy_jitter, html! { (view.settings.retry.jitter_percent) }),
        (words.lease, html! { (duration(words, view.settings.lease_ms)) }),
        (words.ordering, html! { (ordering) }),
    ])
}

fn pausing(visit: &Visit, name: &GroupName) -> Confirm {
    let words = visit.words();
    let title = fill(words.pause_title, &[("name", name)]);
    let back = group_page(name.as_str());
    let happens = vec![fill(words.pause_happens, &[("name", name)])];
    Confirm { happens, ..Confirm::new(Place::Groups, title, words.do_pause, back) }
}

fn resuming(visit: &Visit, view: &GroupView) -> Confirm {
    let words = visit.words();
    let title = fill(words.resume_group_title, &[("name", &view.name)]);
    let back = group_page(view.name.as_str());
    let happens = vec![fill(words.resume_group_happens, &[("name", &view.name), ("n", &count(lag(view)))])];
    Confirm { happens, ..Confirm::new(Place::Groups, title, words.do_resume_group, back) }
}

pub(in super::super) async fn ask_pause(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    Ok(pausing(&visit, &view.name).ask(&visit).into())
}

pub(in super::super) async fn pause(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    set_paused(&desk, &visit, pausing(&visit, &view.name), &view, true).await
}

pub(in super::super) async fn ask_resume(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    Ok(resuming(&visit, &view).ask(&visit).into())
}

pub(in super::super) async fn resume(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    set_paused(&desk, &visit, resuming(&visit, &view), &view, false).await
}

async fn set_paused(desk: &Desk, visit: &Visit, confirm: Confirm, view: &GroupView, paused: bool) -> Outcome {
    let command = Command::SetPaused { name: view.name.clone(), paused };
    let act = async |operator| {
        desk.service.change_group(command, operator).await?;
        Ok::<Option<String>, Refusal>(None)
    };
    confirm.carry_out(visit, act).await
}
