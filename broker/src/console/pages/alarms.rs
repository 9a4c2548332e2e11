//! Alarms: what a person should look at, with the way to the page that mends it; who is told, and when.

use maud::{Markup, html};

use super::super::confirm::Confirm;
use super::super::parts::{Column, pager, section, table_or, tabs};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, exact, or_none};
use super::super::visit::{Visit, encoded};
use super::super::words::{Language, fill};
use super::super::{Desk, Outcome};
use crate::alarms::{amount, page, rule_title, sentence};
use crate::engine::Refusal;
use crate::service::{AlarmView, SinkView};

/// What a test has shown: which sink, and what went wrong.
type Tested = (String, Option<String>);

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let sheet = sheet(&desk, &visit, None).await?;
    Ok(sheet.live().into())
}

async fn sheet(desk: &Desk, visit: &Visit, tested: Option<&Tested>) -> Result<Sheet, Refusal> {
    let words = visit.words();
    let with_over = visit.filter("show") == Some("all");
    let page = desk.service.list_alarms(!with_over, visit.page()).await?;
    let open = desk.service.alarms().standing().open();
    let shown = [
        (words.alarms_open, "/alarms".to_owned(), Some(count(open)), !with_over),
        (words.alarms_all, "/alarms?show=all".to_owned(), None, with_over),
    ];
    let mut columns = vec![
        Column::Number(words.alarm),
        Column::Text(words.alarm_what),
        Column::Text(words.alarm_id),
        Column::Number(words.alarm_since),
        Column::Number(words.alarm_worst),
        Column::Text(words.alarm_looked_after),
    ];
    columns.push(if with_over { Column::Text(words.alarm_over) } else { Column::Silent(words.actions) });
    let rows: Vec<_> = page.items.iter().map(|view| row(visit, view, with_over)).collect();
    let empty = if with_over { words.alarms_empty_all } else { words.alarms_empty };
    let sinks = desk.service.alarm_sinks().await;
    let content = html! {
        p.lead { (words.alarms_help) }
        @if let Some(tested) = tested { (result(visit, tested)) }
        (tabs(words.alarms, &shown))
        (table_or(empty, words.alarms, &columns, &rows))
        (pager(visit, page.next.as_deref()))
        (section(words.sinks, &told(visit, &sinks)))
        (section(words.alarm_rules, &rules(desk, visit)))
    };
    Ok(Sheet::new(Place::Alarms, words.alarms, content))
}

fn is_chinese(visit: &Visit) -> bool {
    visit.language() == Language::Chinese
}

fn row(visit: &Visit, view: &AlarmView, with_over: bool) -> Vec<Markup> {
    let (words, alarm, chinese) = (visit.words(), &view.alarm, is_chinese(visit));
    let unit = alarm.rule.unit();
    let looked_after = match &alarm.ack {
        Some(ack) => html! { (ack.name) @if !ack.reason.is_empty() { " " span.faint { (ack.reason) } } },
        None => or_none(""),
    };
    let mut cells = vec![
        html! { (view.number) },
        html! { a href=(page(alarm)) { strong { (rule_title(alarm.rule, chinese)) } } br; (sentence(alarm, chinese)) },
        html! { span.mono.id { (or_none(&alarm.id)) } },
        age(visit, alarm.raised_at_ms),
        html! { (amount(unit, alarm.worst)) },
        looked_after,
    ];
    cells.push(match (with_over, alarm.resolved_at_ms) {
        (true, Some(at_ms)) => exact(at_ms),
        (true, None) => html! { span.state.warn { (words.alarms_open) } },
        (false, _) if alarm.ack.is_some() => html! {},
        (false, _) => html! { a href={ "/alarms/" (view.number) "/ack" } { (words.do_ack) } },
    });
    cells
}

fn told(visit: &Visit, sinks: &[SinkView]) -> Markup {
    let words = visit.words();
    let columns = [
        Column::Text(words.sink),
        Column::Text(words.sink_kind),
        Column::Text(words.address),
        Column::Number(words.sink_waiting),
        Column::Text(words.error),
        Column::Silent(words.actions),
    ];
    let rows: Vec<_> = sinks
        .iter()
        .map(|view| {
            vec![
                html! { (view.name) },
                html! { (view.sink.kind.as_str()) },
                html! { span.mono { (view.sink.url) } },
                html! { (count(view.waiting)) },
                html! { span.error { (or_none(&visit.told(&view.fault))) } },
                html! {
                    form method="post" action={ "/alarms/sinks/" (encoded(&view.name)) "/test" } {
                        input type="hidden" name="token" value=(visit.token());
                        button.quiet type="submit" aria-label=(fill(words.test_of, &[("sink", &view.name)])) { (words.do_test) }
                    }
                },
            ]
        })
        .collect();
    html! {
        p { (words.sinks_help) }
        (table_or(words.sinks_empty, words.sinks, &columns, &rows))
    }
}

fn rules(desk: &Desk, visit: &Visit) -> Markup {
    let words = visit.words();
    let columns =
        [Column::Text(words.alarm_rule), Column::Text(words.alarm_what), Column::Text(words.alarm_limit)];
    let rows: Vec<_> = desk
        .service
        .alarm_rules()
        .into_iter()
        .map(|(rule, limit)| {
            vec![
                html! { code { (rule.as_str()) } },
                html! { (rule_title(rule, is_chinese(visit))) },
                match limit {
                    Some(limit) => html! { span.mono { (limit.text(rule)) } },
                    None => html! { span.faint { (words.alarm_off) } },
                },
            ]
        })
        .collect();
    html! {
        p { (words.alarm_rules_help) }
        (table_or("", words.alarm_rules, &columns, &rows))
    }
}

fn result(visit: &Visit, (sink, fault): &Tested) -> Markup {
    let words = visit.words();
    match fault {
        None => html! { p.note.good role="status" { (fill(words.test_taken, &[("sink", sink)])) } },
        Some(fault) => html! {
            div.note.bad role="alert" { p { (fill(words.test_failed, &[("sink", sink)])) } p { (visit.told(fault)) } }
        },
    }
}

/// Changes nothing, so it asks for no reason; somebody is written to, so it is a form all the same.
pub(in super::super) async fn test(desk: Desk, visit: Visit) -> Outcome {
    let sink: String = visit.part("name")?;
    desk.service.alarms().sink(&sink)?;
    let Some(operator) = visit.known() else {
        let (words, back) = (visit.words(), "/alarms".to_owned());
        let title = fill(words.test_of, &[("sink", &sink)]);
        return Ok(Confirm::who(Place::Alarms, title, words.do_test, back, &visit).into());
    };
    let fault = desk.service.test_alarm_sink(&sink, operator).await?;
    Ok(sheet(&desk, &visit, Some(&(sink, fault))).await?.into())
}

async fn acknowledging(desk: &Desk, visit: &Visit) -> Result<(u64, Confirm), Refusal> {
    let words = visit.words();
    let number: u64 = visit.part("id")?;
    let view = desk.service.alarm(number).await?;
    let title = fill(words.ack_title, &[("n", &number)]);
    let happens = vec![sentence(&view.alarm, is_chinese(visit)), words.ack_happens.to_owned()];
    let confirm = Confirm::new(Place::Alarms, title, words.do_ack, "/alarms".to_owned());
    Ok((number, Confirm { happens, ..confirm }))
}

pub(in super::super) async fn ask_ack(desk: Desk, visit: Visit) -> Outcome {
    Ok(acknowledging(&desk, &visit).await?.1.ask(&visit).into())
}

pub(in super::super) async fn ack(desk: Desk, visit: Visit) -> Outcome {
    let (number, confirm) = acknowledging(&desk, &visit).await?;
    let act = async |operator| desk.service.acknowledge_alarm(number, operator).await.map(|_| None);
    confirm.carry_out(&visit, act).await
}
