//! One transaction: why it stands where it stands, what happened to it, what is in it, and what a person may do.

use escrow_protocol::TransactionId;
use maud::{Markup, html};

use super::super::confirm::Confirm;
use super::super::parts::{Column, actions, facts, section, table};
use super::super::shell::{Place, Sheet};
use super::super::show::{exact, key, message, moment, or_none, role, size, state, topic};
use super::super::visit::Visit;
use super::super::words::{Words, fill};
use super::super::{Desk, Outcome};
use super::life::happening;
use super::transactions::badge;
use crate::engine::Refusal;
use crate::records::{Decision, InDoubt, TransactionState};
use crate::service::{TraceEvent, TransactionView};

/// What a person may do with a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Check,
    Commit,
    Rollback,
    Resume,
}

impl std::str::FromStr for Verb {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "check" => Ok(Self::Check),
            "commit" => Ok(Self::Commit),
            "rollback" => Ok(Self::Rollback),
            "resume" => Ok(Self::Resume),
            _ => Err("it is not check, commit, rollback or resume"),
        }
    }
}

pub(in super::super) async fn one(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let id: TransactionId = visit.part("id")?;
    let view = desk.service.transaction(id).await?;
    let noted = desk.service.transaction_events(&view).await?;
    let title = format!("{} {id}", words.transaction);
    let content = html! {
        p { (badge(&visit, &view)) " " (why(words, &view)) }
        @let possible = possible(words, &view);
        @if !possible.is_empty() { (actions(words.actions, &possible)) }
        (facts(&about(&visit, &view)))
        (section(words.timeline, &timeline(&visit, &view, &noted)))
        (section(words.half_message, &messages(words, &view)))
    };
    let sheet = Sheet::new(Place::Transactions, title, content);
    Ok(if view.record.state.is_decided() { sheet } else { sheet.live() }.into())
}

/// Why it stands where it stands, for whoever is called at night.
fn why(words: &'static Words, view: &TransactionView) -> String {
    let record = &view.record;
    match record.state {
        TransactionState::Parked => words.why_parked.to_owned(),
        TransactionState::Prepared if view.live.waiting_for_checker => {
            fill(words.why_waiting, &[("kind", &record.kind), ("group", &record.group)])
        }
        TransactionState::Prepared if view.live.being_checked => words.why_due.to_owned(),
        TransactionState::Prepared => words.why_undecided.to_owned(),
        TransactionState::Committed | TransactionState::RolledBack => decided(words, view),
    }
}

fn decided(words: &'static Words, view: &TransactionView) -> String {
    let Some(decider) = &view.record.decider else { return String::new() };
    let said = [
        ("state", &state(words, view.record.state) as &dyn std::fmt::Display),
        ("role", &role(words, decider.role)),
        ("name", &decider.name),
    ];
    let text = fill(words.event_decided, &said);
    if decider.reason.is_empty() { text } else { format!("{text}: {}", decider.reason) }
}

fn possible(words: &'static Words, view: &TransactionView) -> Vec<(&'static str, String, bool)> {
    let at = |verb: &str| format!("/transactions/{}/{verb}", view.id);
    match view.record.state {
        TransactionState::Prepared => vec![
            (words.do_check, at("check"), false),
            (words.do_commit, at("commit"), true),
            (words.do_rollback, at("rollback"), true),
        ],
        TransactionState::Parked => vec![
            (words.do_resume, at("resume"), false),
            (words.do_commit, at("commit"), true),
            (words.do_rollback, at("rollback"), true),
        ],
        TransactionState::Committed | TransactionState::RolledBack => Vec::new(),
    }
}

fn about(visit: &Visit, view: &TransactionView) -> Vec<(&'static str, Markup)> {
    let (words, record) = (visit.words(), &view.record);
    let checks = &record.checks;
    let mut about = vec![
        (words.created, exact(record.created_at_ms)),
        (words.kind, html! { (record.kind) }),
        (words.producer, html! { (record.group) " " span.faint { (record.client) } }),
        (words.tx_key, or_none(record.key.as_deref().unwrap_or_default())),
        (
            words.checks,
            html! {
                (checks.delivered) " " (words.checks_delivered) " " span.faint { "(" (fill(words.max_checks, &[("n", &record.policy.max_checks)])) ")" }
                " · " (checks.unknown) " " (words.checks_unknown) " · " (checks.timed_out) " " (words.checks_timed_out)
                " · " (checks.no_checker) " " (words.checks_without_checker)
            },
        ),
    ];
    if !record.state.is_decided() {
        about.push((words.checkers_connected, html! { (view.live.checkers_connected) }));
        about.push((words.in_doubt, html! { (in_doubt(words, view)) }));
    }
    if record.conflicts > 0 {
        about.push((words.conflicts, html! { (record.conflicts) }));
    }
    about
}

fn in_doubt(words: &'static Words, view: &TransactionView) -> &'static str {
    match view.record.policy.in_doubt {
        InDoubt::Park => words.in_doubt_park,
        InDoubt::Rollback => words.in_doubt_rollback,
        InDoubt::Commit => words.in_doubt_commit,
    }
}

fn timeline(visit: &Visit, view: &TransactionView, noted: &[TraceEvent]) -> Markup {
    let (words, record) = (visit.words(), &view.record);
    let checks = &record.checks;
    let checked = [
        ("n", &checks.delivered as &dyn std::fmt::Display),
        ("unknown", &checks.unknown),
        ("timed_out", &checks.timed_out),
        ("none", &checks.no_checker),
    ];
    let in_doubt_at_ms = record.resumed_at_ms.saturating_add(record.policy.max_undecided_age_ms);
    html! {
        ol.timeline {
            li {
                (fill(words.event_made, &[("client", &record.client), ("group", &record.group)]))
                span.when { (exact(record.created_at_ms)) }
            }
            // The decision and the beginning have lines of their own, also where nothing was noted.
            @for event in noted.iter().filter(|event| !matches!(event.event, "STORED" | "DECIDED")) {
                (happening(visit, event, None))
            }
            @if checks.delivered + checks.no_checker > 0 { li { (fill(words.event_checks, &checked)) } }
            @match &record.decider {
                Some(decider) => {
                    li .good[record.state == TransactionState::Committed] .bad[record.state == TransactionState::RolledBack] {
                        (decided(words, view)) span.when { (exact(decider.at_ms)) }
                    }
                },
                None if record.state == TransactionState::Parked => { li.bad { (words.why_parked) } },
                None => {
                    @if let Some(at_ms) = view.live.next_event_at_ms.filter(|_| !view.live.waiting_for_checker) {
                        li.open { (words.event_next_check) span.when { (moment(visit, at_ms)) } }
                    } @else {
                        li.open { (words.event_next_check) ": " (fill(words.tx_none_of_kind, &[("kind", &record.kind)])) }
                    }
                    li.open {
                        (fill(words.event_in_doubt, &[("policy", &in_doubt(words, view))]))
                        span.when { (moment(visit, in_doubt_at_ms)) }
                    }
                },
            }
        }
    }
}

fn messages(words: &'static Words, view: &TransactionView) -> Markup {
    let columns = [
        Column::Text(words.message_id),
        Column::Text(words.topic),
        Column::Text(words.key),
        Column::Number(words.size),
        Column::Number(words.offset),
        Column::Text(words.deliver_at),
    ];
    let rows = view.record.messages.iter().zip(&view.labels).map(|(of, label)| {
        vec![
            message(of.stub.id),
            topic(label.topic.as_ref().map(|topic| topic.as_str())),
            key(label.key.as_deref()),
            html! { (size(of.stub.body_bytes.into())) },
            html! { @match of.offset { Some(offset) => { (offset.0) }, None => { span.faint { "–" } } } },
            html! { @if of.stub.deliver_at_ms > 0 { (exact(of.stub.deliver_at_ms)) } @else { span.faint { "–" } } },
        ]
    });
    table(words.half_message, &columns, &rows.collect::<Vec<_>>())
}

fn confirm(visit: &Visit, view: &TransactionView, verb: Verb) -> Confirm {
    let (words, record) = (visit.words(), &view.record);
    let mut topics: Vec<_> =
        view.labels.iter().filter_map(|label| label.topic.as_ref().map(ToString::to_string)).collect();
    topics.sort();
    topics.dedup();
    let (number, topics) = (record.messages.len(), topics.join(", "));
    let goods = [("n", &number as &dyn std::fmt::Display), ("topics", &topics)];
    let (title, happens, button) = match verb {
        Verb::Check => {
            let mut happens = vec![fill(words.check_happens, &[("kind", &record.kind)])];
            if view.live.checkers_connected == 0 {
                happens.push(words.check_nobody.to_owned());
            }
            (words.check_title, happens, words.do_check)
        }
        Verb::Commit => {
            let happens = vec![fill(words.commit_happens, &goods), words.commit_final.to_owned()];
            (words.commit_title, happens, words.do_commit)
        }
        Verb::Rollback => {
            let happens = [
                fill(words.rollback_happens, &goods),
                words.rollback_gone.into(),
                words.rollback_final.into(),
            ];
            (words.rollback_title, happens.to_vec(), words.do_rollback)
        }
        Verb::Resume => (words.resume_title, vec![words.resume_happens.to_owned()], words.do_resume),
    };
    let back = format!("/transactions/{}", view.id);
    let grave = matches!(verb, Verb::Commit | Verb::Rollback);
    let below = html! {
        (section(words.transaction, &facts(&about(visit, view))))
        (section(words.half_message, &messages(words, view)))
    };
    Confirm {
        happens,
        grave,
        below,
        ..Confirm::new(Place::Transactions, fill(title, &[("id", &view.id)]), button, back)
    }
}

pub(in super::super) async fn ask(desk: Desk, visit: Visit) -> Outcome {
    let verb: Verb = visit.part("verb")?;
    let view = desk.service.transaction(visit.part("id")?).await?;
    Ok(confirm(&visit, &view, verb).ask(&visit).into())
}

pub(in super::super) async fn carry_out(desk: Desk, visit: Visit) -> Outcome {
    let verb: Verb = visit.part("verb")?;
    let id: TransactionId = visit.part("id")?;
    let view = desk.service.transaction(id).await?;
    let service = &desk.service;
    let act = async |operator| {
        match verb {
            Verb::Check => service.check_now(id, operator).await?,
            Verb::Commit => service.decide_by_hand(id, Decision::Commit, operator).await?,
            Verb::Rollback => service.decide_by_hand(id, Decision::Rollback, operator).await?,
            Verb::Resume => service.resume_transaction(id, operator).await?,
        };
        Ok::<Option<String>, Refusal>(None)
    };
    confirm(&visit, &view, verb).carry_out(&visit, act).await
}
