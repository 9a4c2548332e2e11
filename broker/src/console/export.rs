//! Lists as a file: one JSON text a line, or a table for a spreadsheet. Read page by page while it is sent, so that its
//! size does not matter here.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use escrow_protocol::v1;
use futures::stream;
use maud::{Markup, html};

use super::confirm::Confirm;
use super::shell::Place;
use super::visit::{Visit, address};
use super::{Answer, Desk, Outcome};
use crate::csv;
use crate::engine::Refusal;
use crate::http::api::{JSON_LINES, hex, time_text};
use crate::service::{AuditFilter, AuditView, DeadLetterFilter, DeadLetterView, Page};

/// Items read at a time.
const PAGE: usize = 100;

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Table,
}

impl Form {
    /// The form that the address asks for.
    pub(super) fn of(visit: &Visit) -> Self {
        if visit.filter("format") == Some("csv") { Self::Table } else { Self::Lines }
    }
}

/// Which list.
#[derive(Debug, Clone)]
pub(super) enum Source {
    DeadLetters(DeadLetterFilter),
    Audit(AuditFilter),
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::DeadLetters(_) => "dead-letters",
            Self::Audit(_) => "audit",
        }
    }

    /// The columns of its table.
    fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::DeadLetters(_) => &[
                "group",
                "offset",
                "died_at",
                "reason",
                "error",
                "topic",
                "origin_offset",
                "key",
                "message_id",
                "attempts",
                "redrives",
                "body",
            ],
            Self::Audit(_) => &["number", "at", "name", "verb", "target", "reason", "before", "after"],
        }
    }
}

/// One of a list.
enum Item {
    DeadLetter(Box<DeadLetterView>),
    Audit(AuditView),
}

/// An export under way.
struct Export {
    desk: Desk,
    source: Source,
    form: Form,
    read: VecDeque<Item>,
    /// `None`: the last page was read.
    next: Option<Page>,
    ended: bool,
}

/// The file, when it is known who takes it; else the page that asks.
///
/// # Errors
/// `UnknownGroup`; whatever ends it later is its last line.
pub(super) async fn answer(desk: Desk, visit: &Visit, place: Place, source: Source) -> Outcome {
    let (words, form) = (visit.words(), Form::of(visit));
    let Some(operator) = visit.known() else {
        let button = if form == Form::Lines { words.export_jsonl } else { words.export_csv };
        let back = address(&format!("/{}", source.name()), visit.filters_without(&["format"]));
        return Ok(Confirm::who(place, button.to_owned(), button, back, visit).into());
    };
    match &source {
        Source::DeadLetters(filter) => desk.service.attest_export(filter, operator).await?,
        Source::Audit(filter) => desk.service.attest_audit_export(filter, operator).await?,
    }
    Ok(Answer::Raw(file(desk, source, form).await?))
}

/// The links to both forms of a list as a file. Who is not known yet is asked first.
pub(super) fn links(visit: &Visit, name: &str) -> Markup {
    let words = visit.words();
    let is_known = visit.known().is_some();
    let link = |form: &str, label: &str| {
        let kept = visit.filters_without(&["cursor", "limit", "done", "format"]);
        let target = address(&format!("/{name}/export"), kept.chain([("format", form)]));
        let file = is_known.then(|| format!("{name}.{form}"));
        html! { a.button.quiet href=(target) download=[file] { (label) } }
    };
    html! { div.buttons { (link("jsonl", words.export_jsonl)) (link("csv", words.export_csv)) } }
}

/// The file.
///
/// # Errors
/// `UnknownGroup`; whatever ends it later is its last line.
async fn file(desk: Desk, source: Source, form: Form) -> Result<Response, Refusal> {
    let (kind, ending, head) = match form {
        Form::Lines => (JSON_LINES, "jsonl", String::new()),
        Form::Table => ("text/csv; charset=utf-8", "csv", csv::heading(source.columns().iter().copied())),
    };
    let name = format!("attachment; filename=\"{}.{ending}\"", source.name());
    let page = Page { limit: PAGE, cursor: None };
    let mut export = Export { desk, source, form, read: VecDeque::new(), next: Some(page), ended: false };
    export.fill().await?;
    let lines = stream::unfold(export, |mut export| async move {
        let line = export.line().await?;
        Some((Ok::<_, Infallible>(line), export))
    });
    let body = futures::StreamExt::chain(stream::iter([Ok(head)]), lines);
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name.as_str())];
    Ok((headers, Body::from_stream(body)).into_response())
}

impl Export {
    /// Reads pages until one has something.
    async fn fill(&mut self) -> Result<(), Refusal> {
        while self.read.is_empty() {
            let Some(page) = self.next.take() else { return Ok(()) };
            let service = &self.desk.service;
            let next = match self.source.clone() {
                Source::DeadLetters(filter) => {
                    let found = service.dead_letters(filter, page).await?;
                    let items = found.items.into_iter().map(|dead| Item::DeadLetter(Box::new(dead)));
                    self.read = items.collect();
                    found.next
                }
                Source::Audit(filter) => {
                    let found = service.audit(filter, page).await?;
                    self.read = found.items.into_iter().map(Item::Audit).collect();
                    found.next
                }
            };
            self.next = next.map(|cursor| Page { limit: PAGE, cursor: Some(cursor) });
        }
        Ok(())
    }

    /// The next line; `None` behind the last.
    async fn line(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        if let Err(refusal) = self.fill().await {
            self.ended = true;
            return Some(match self.form {
                Form::Lines => format!("{}\n", serde_json::json!({ "error": refusal.to_string() })),
                Form::Table => csv::row([format!("error: {refusal}")]),
            });
        }
        Some(match (self.read.pop_front()?, self.form) {
            (Item::DeadLetter(dead), Form::Lines) => self.letter_line(&dead).await,
            (Item::DeadLetter(dead), Form::Table) => self.letter_row(*dead).await,
            (Item::Audit(view), Form::Lines) => audit_line(&view),
            (Item::Audit(view), Form::Table) => audit_row(view),
        })
    }

    async fn letter_line(&self, dead: &DeadLetterView) -> String {
        let request =
            v1::GetDeadLetterRequest { group: dead.record.group.to_string(), offset: dead.offset.0 };
        let call = "/escrow.v1.AdminService/GetDeadLetter";
        match crate::http::api::call_json(&self.desk.calls, call, &request, self.desk.from).await {
            Ok(json) => format!("{json}\n"),
            Err(fault) => format!("{}\n", serde_json::json!({ "offset": dead.offset.0, "error": fault })),
        }
    }

    async fn letter_row(&self, dead: DeadLetterView) -> String {
        // Listed without its body; resolved meanwhile, it stands here without.
        let whole = self.desk.service.dead_letter(dead.record.group.clone(), dead.offset).await;
        let whole = whole.unwrap_or(dead);
        let record = &whole.record;
        let message = whole.message.as_ref();
        let body = message.map_or(String::new(), |message| match std::str::from_utf8(&message.body) {
            Ok(text) => text.to_owned(),
            Err(_) => hex(&message.body),
        });
        csv::row([
            record.group.to_string(),
            whole.offset.0.to_string(),
            time_text(record.at_ms as i64).unwrap_or_default(),
            record.reason.as_str().to_owned(),
            record.error.clone(),
            record.topic_name.to_string(),
            record.offset.0.to_string(),
            message.and_then(|message| message.key.clone()).unwrap_or_default(),
            record.entry.id.to_string(),
            record.attempts_made.to_string(),
            record.redrives.to_string(),
            body,
        ])
    }
}

fn audit_line(view: &AuditView) -> String {
    let entry = &view.entry;
    let json = serde_json::json!({
        "number": view.number,
        "at": time_text(entry.at_ms as i64),
        "name": entry.name,
        "verb": entry.verb.as_str(),
        "target": entry.target,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
    });
    format!("{json}\n")
}

fn audit_row(view: AuditView) -> String {
    let entry = view.entry;
    csv::row([
        view.number.to_string(),
        time_text(entry.at_ms as i64).unwrap_or_default(),
        entry.name,
        entry.verb.as_str().to_owned(),
        entry.target,
        entry.reason,
        entry.before,
        entry.after,
    ])
}
