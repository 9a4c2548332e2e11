//! Dead letters as a file: one JSON text a line, as the API has them, or a table for a spreadsheet. Read page by page while
//! it is sent, so that its size does not matter here.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use escrow_protocol::v1;
use futures::stream;

use crate::engine::Refusal;
use crate::http::api::{Calls, JSON_LINES, hex, time_text};
use crate::service::{DeadLetterFilter, DeadLetterView, Page, Service};

/// Dead letters read at a time.
const PAGE: usize = 100;
/// The columns of the table.
const COLUMNS: &str =
    "group,offset,died_at,reason,error,topic,origin_offset,key,message_id,attempts,redrives,body\r\n";

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Table,
}

/// An export under way.
struct Export {
    service: Service,
    calls: Calls,
    from: SocketAddr,
    filter: DeadLetterFilter,
    form: Form,
    read: VecDeque<DeadLetterView>,
    /// `None`: the last page was read.
    next: Option<Page>,
    ended: bool,
}

/// The file.
///
/// # Errors
/// `UnknownGroup`; whatever ends it later is its last line.
pub(super) async fn file(
    service: Service,
    calls: Calls,
    from: SocketAddr,
    filter: DeadLetterFilter,
    form: Form,
) -> Result<Response, Refusal> {
    let page = Page { limit: PAGE, cursor: None };
    let mut export =
        Export { service, calls, from, filter, form, read: VecDeque::new(), next: Some(page), ended: false };
    export.fill().await?;
    let (kind, name, head) = match form {
        Form::Lines => (JSON_LINES, "attachment; filename=\"dead-letters.jsonl\"", ""),
        Form::Table => ("text/csv; charset=utf-8", "attachment; filename=\"dead-letters.csv\"", COLUMNS),
    };
    let lines = stream::unfold(export, |mut export| async move {
        let line = export.line().await?;
        Some((Ok::<_, Infallible>(line), export))
    });
    let body = futures::StreamExt::chain(stream::iter([Ok(head.to_owned())]), lines);
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(body)).into_response())
}

impl Export {
    /// Reads pages until one has something.
    async fn fill(&mut self) -> Result<(), Refusal> {
        while self.read.is_empty() {
            let Some(page) = self.next.take() else { return Ok(()) };
            let found = self.service.dead_letters(self.filter.clone(), page).await?;
            self.next = found.next.map(|cursor| Page { limit: PAGE, cursor: Some(cursor) });
            self.read = found.items.into();
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
            return Some(broken(self.form, &refusal));
        }
        let dead = self.read.pop_front()?;
        let line = match self.form {
            Form::Lines => self.json(&dead).await,
            Form::Table => self.row(dead).await,
        };
        Some(line.unwrap_or_else(|refusal| broken(self.form, &refusal)))
    }

    async fn json(&self, dead: &DeadLetterView) -> Result<String, Refusal> {
        let request =
            v1::GetDeadLetterRequest { group: dead.record.group.to_string(), offset: dead.offset.0 };
        let call = "/escrow.v1.AdminService/GetDeadLetter";
        match crate::http::api::call_json(&self.calls, call, &request, self.from).await {
            Ok(json) => Ok(format!("{json}\n")),
            Err(fault) => Ok(format!("{}\n", serde_json::json!({ "offset": dead.offset.0, "error": fault }))),
        }
    }

    async fn row(&self, dead: DeadLetterView) -> Result<String, Refusal> {
        // Listed without its body; resolved meanwhile, it stands here without.
        let whole = self.service.dead_letter(dead.record.group.clone(), dead.offset).await.unwrap_or(dead);
        let record = &whole.record;
        let message = whole.message.as_ref();
        let body = message.map_or(String::new(), |message| match std::str::from_utf8(&message.body) {
            Ok(text) => text.to_owned(),
            Err(_) => hex(&message.body),
        });
        let cells = [
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
        ];
        Ok(cells.map(|cell| quoted(&cell)).join(",") + "\r\n")
    }
}

/// The last line of what could not be read to its end.
fn broken(form: Form, refusal: &Refusal) -> String {
    match form {
        Form::Lines => format!("{}\n", serde_json::json!({ "error": refusal.to_string() })),
        Form::Table => format!("{}\r\n", quoted(&format!("error: {refusal}"))),
    }
}

/// A cell of a table. What a spreadsheet would take for a formula becomes text.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let safe = if is_formula { format!("'{text}") } else { text.to_owned() };
    format!("\"{}\"", safe.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formulas() {
        assert_eq!(quoted("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(quoted("=cmd()"), "\"'=cmd()\"");
    }
}
