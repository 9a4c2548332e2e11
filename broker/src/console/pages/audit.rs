//! What was done by hand: who, when, what, on what, why, before and after; newest first.

use maud::{Markup, html};

use super::super::export::{self, Source};
use super::super::parts::{Column, choice, filters, pager, table_or, text_filter};
use super::super::shell::{Place, Sheet};
use super::super::show::{exact, or_none};
use super::super::visit::Visit;
use super::super::{Desk, Outcome};
use super::dead_letters::time;
use crate::engine::Refusal;
use crate::records::AuditVerb;
use crate::service::{AuditFilter, AuditView};

fn filter_of(visit: &Visit) -> Result<AuditFilter, Refusal> {
    Ok(AuditFilter {
        name: visit.said("who").map(str::to_owned),
        verb: visit.said("verb").map(verb).transpose()?,
        target: visit.said("target").map(str::to_owned),
        from_ms: time(visit, "from")?,
        until_ms: time(visit, "until")?,
    })
}

fn verb(word: &str) -> Result<AuditVerb, Refusal> {
    AuditVerb::of_word(word)
        .ok_or_else(|| Refusal::invalid("verb", format!("{word:?} is no operation; choose one of the list")))
}

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let page = desk.service.audit(filter_of(&visit)?, visit.page()).await?;
    let columns = [
        Column::Text(words.at),
        Column::Text(words.by_whom),
        Column::Text(words.audit_what),
        Column::Text(words.audit_on),
        Column::Text(words.reason),
        Column::Text(words.audit_before),
        Column::Text(words.audit_after),
    ];
    let rows: Vec<_> = page.items.iter().map(row).collect();
    let content = html! {
        p.lead { (words.audit_help) }
        (search(&visit))
        (table_or(words.audit_empty, words.audit, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
        (export::links(&visit, "audit"))
    };
    Ok(Sheet::new(Place::Audit, words.audit, content).into())
}

fn search(visit: &Visit) -> Markup {
    let words = visit.words();
    let mut verbs = vec![("", words.any)];
    verbs.extend(AuditVerb::ALL.iter().map(|verb| (verb.as_str(), verb.as_str())));
    let fields = html! {
        (text_filter(visit, "who", words.by_whom))
        (choice("verb", words.audit_what, visit.filter("verb").unwrap_or_default(), &verbs))
        (text_filter(visit, "target", words.audit_on))
        (text_filter(visit, "from", words.audit_from))
        (text_filter(visit, "until", words.audit_until))
    };
    filters(visit, &fields)
}

fn row(view: &AuditView) -> Vec<Markup> {
    let entry = &view.entry;
    vec![
        exact(entry.at_ms),
        html! { (entry.name) },
        html! { code { (entry.verb.as_str()) } },
        html! { (entry.target) },
        or_none(&entry.reason),
        or_none(&entry.before),
        or_none(&entry.after),
    ]
}

pub(in super::super) async fn export(desk: Desk, visit: Visit) -> Outcome {
    let source = Source::Audit(filter_of(&visit)?);
    export::answer(desk, &visit, Place::Audit, source).await
}
