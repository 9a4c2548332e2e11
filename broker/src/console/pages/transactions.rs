//! Transactions as lists: undecided, waiting for a checker, parked, decided.

use maud::{Markup, html};

use super::super::parts::{Column, filters, pager, table_or, tabs, text_filter};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, key, moment, or_none, state, transaction};
use super::super::visit::Visit;
use super::super::words::{Words, fill};
use super::super::{Desk, Outcome};
use crate::engine::TransactionFilter;
use crate::records::{Transaction, TransactionState};
use crate::service::{TransactionView, Which, Whose};

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let (which, empty) = match visit.filter("show") {
        Some("waiting") => (Which::Live(TransactionFilter::WaitingForChecker), words.tx_empty_waiting),
        Some("parked") => (Which::Live(TransactionFilter::Parked), words.tx_empty_parked),
        Some("decided") => (Which::Decided, words.tx_empty_decided),
        _ => (Which::Live(TransactionFilter::Undecided), words.tx_empty_undecided),
    };
    let engine = desk.service.status().await?.engine;
    let whose = Whose {
        group: visit.optional("group")?,
        kind: visit.optional("kind")?,
        key: visit.filter("key").map(str::to_owned),
    };
    let is_filtered = whose != Whose::default();
    let empty = if is_filtered { words.empty_filtered } else { empty };
    let page = desk.service.transactions(which, whose, visit.page()).await?;
    let tab = |label, show: Option<&'static str>, number: Option<u64>, of: Which| {
        let address = visit.address_with(&[("show", show), ("cursor", None)]);
        // They are counted all together: beside a filter the number would be read as that of what matches.
        (label, address, number.filter(|_| !is_filtered).map(count), of == which)
    };
    let shown = [
        tab(words.undecided, None, Some(engine.undecided), Which::Live(TransactionFilter::Undecided)),
        tab(
            words.waiting_for_checker,
            Some("waiting"),
            Some(engine.waiting_for_checker),
            Which::Live(TransactionFilter::WaitingForChecker),
        ),
        tab(words.parked, Some("parked"), Some(engine.parked), Which::Live(TransactionFilter::Parked)),
        tab(words.decided, Some("decided"), None, Which::Decided),
    ];
    let decided = which == Which::Decided;
    let columns = columns(words, decided);
    let rows: Vec<_> = page.items.iter().map(|view| row(&visit, view, decided)).collect();
    let content = html! {
        p.lead { (words.tx_help) }
        (tabs(words.tx_show, &shown))
        (filters(&visit, &html! {
            @if let Some(show) = visit.filter("show") { input type="hidden" name="show" value=(show); }
            (text_filter(&visit, "key", words.key))
            (text_filter(&visit, "group", words.producer))
            (text_filter(&visit, "kind", words.kind))
        }))
        (table_or(empty, words.transactions, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
    };
    Ok(Sheet::new(Place::Transactions, words.transactions, content).live().into())
}

fn columns(words: &'static Words, decided: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::Text(words.transaction),
        Column::Text(words.state),
        Column::Number(words.age),
        Column::Text(words.kind),
        Column::Text(words.producer),
        Column::Text(words.key),
        Column::Number(words.messages_in),
    ];
    if decided {
        columns.push(Column::Text(words.decided_by));
    } else {
        columns.push(Column::Number(words.checks));
        columns.push(Column::Number(words.next_check));
    }
    columns
}

fn row(visit: &Visit, view: &TransactionView, decided: bool) -> Vec<Markup> {
    let (words, record) = (visit.words(), &view.record);
    let first_key = view.labels.iter().find_map(|label| label.key.as_deref());
    let mut cells = vec![
        transaction(view.id),
        badge(visit, view),
        age(visit, record.created_at_ms),
        html! { (record.kind) },
        html! { (record.group) " " span.faint { (record.client) } },
        key(first_key.or(record.key.as_deref())),
        html! { (record.messages.len()) },
    ];
    if decided {
        cells.push(match &record.decider {
            Some(decider) => {
                html! { (super::super::show::role(words, decider.role)) " " span.faint { (decider.name) } }
            }
            None => or_none(""),
        });
    } else {
        cells.push(checks(words, record));
        cells.push(match view.live.next_event_at_ms {
            Some(at_ms) if !view.live.waiting_for_checker => moment(visit, at_ms),
            _ => or_none(""),
        });
    }
    cells
}

/// How often it was asked about, and what came of that.
fn checks(words: &'static Words, record: &Transaction) -> Markup {
    let checks = &record.checks;
    let came = [
        (words.tx_unknown, checks.unknown),
        (words.tx_timed_out, checks.timed_out),
        (words.tx_no_checker, checks.no_checker),
    ];
    html! {
        (checks.delivered) "/" (record.policy.max_checks)
        @for (what, often) in came.iter().filter(|(_, often)| *often > 0) {
            br; span.faint { (fill(what, &[("n", often)])) }
        }
    }
}

/// How it stands, in a word that can be seen.
pub(super) fn badge(visit: &Visit, view: &TransactionView) -> Markup {
    let words = visit.words();
    let text = state(words, view.record.state);
    html! {
        @match view.record.state {
            TransactionState::Prepared if view.live.waiting_for_checker => { span.state.warn { (words.waiting_for_checker) } },
            TransactionState::Prepared => { span.state { (text) } },
            TransactionState::Parked => { span.state.warn { (text) } },
            TransactionState::Committed => { span.state.good { (text) } },
            TransactionState::RolledBack => { span.state.bad { (text) } },
        }
    }
}
