//! Messages: found by business key or id, shown with body, headers and life story.

use axum::http::header;
use axum::response::{IntoResponse as _, Redirect};
use escrow_protocol::{MessageId, Reason};
use maud::{Markup, html};

use super::super::parts::{Column, facts, field, nothing, pager, section, table};
use super::super::shell::{Place, Sheet};
use super::super::show::{exact, key, message, or_none, size, topic, transaction};
use super::super::visit::Visit;
use super::super::words::{Words, fill};
use super::super::{Answer, Desk, Outcome};
use super::life::life;
use crate::engine::Refusal;
use crate::http::api::hex;
use crate::records::{Ending, Message, Standing};
use crate::service::{GoneMessage, StoredMessage, Traced};

/// Bytes of a body that a page shows; the rest can be downloaded.
const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Bytes in a line of hexadecimal digits.
const HEX_LINE: usize = 16;

pub(in super::super) async fn find(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let Some(asked) = visit.filter("q") else {
        let content = html! { (form(&visit)) (nothing(words.find_ask)) };
        return Ok(Sheet::new(Place::Messages, words.find_title, content).into());
    };
    if let Some(id) = id_meant(&desk, &visit, asked).await? {
        return Ok(Answer::Raw(Redirect::to(&format!("/messages/{id}")).into_response()));
    }
    let page = desk.service.find_messages(asked.to_owned(), visit.page()).await?;
    let columns = [
        Column::Text(words.message_id),
        Column::Text(words.where_it_is),
        Column::Text(words.topic),
        Column::Text(words.transaction),
        Column::Number(words.size),
        Column::Text(words.stored),
    ];
    let rows: Vec<_> = page.items.iter().map(|found| row(words, found)).collect();
    let content = html! {
        (form(&visit))
        @if rows.is_empty() { (nothing(&fill(words.find_none, &[("key", &asked)]))) }
        @else { (table(words.messages, &columns, &rows)) }
        (pager(&visit, page.next.as_deref()))
    };
    Ok(Sheet::new(Place::Messages, words.find_title, content).into())
}

/// The message that is asked for by its id. A business key may look like an id, too: it is one only if there is, or was,
/// such a message.
async fn id_meant(desk: &Desk, visit: &Visit, asked: &str) -> Result<Option<MessageId>, Refusal> {
    let is_key = visit.filter("by") == Some("key");
    let Some(id) = asked.parse::<MessageId>().ok().filter(|_| !is_key) else { return Ok(None) };
    match desk.service.trace(id).await {
        Ok(_) => Ok(Some(id)),
        Err(refusal) if refusal.reason == Reason::UnknownMessage => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn form(visit: &Visit) -> Markup {
    let words = visit.words();
    let input = html! {
        input #q name="q" type="search" required maxlength="256" autocomplete="off" aria-describedby="q-help"
            value=(visit.filter("q").unwrap_or_default());
    };
    html! {
        form.search method="get" action="/messages" role="search" aria-label=(words.find_title) {
            (field("q", words.find_label, "", &input))
            button type="submit" { (words.find_button) }
        }
        p.help #q-help { (words.find_help) }
    }
}

fn row(words: &'static Words, found: &Traced) -> Vec<Markup> {
    match found {
        Traced::Stored(stored) => row_of_stored(words, stored),
        Traced::Gone(gone) => row_of_gone(words, gone),
    }
}

fn row_of_gone(words: &'static Words, gone: &GoneMessage) -> Vec<Markup> {
    vec![
        message(gone.id),
        html! { (how_gone(words, gone)) span.faint { " · " (exact(gone.at_ms)) } },
        topic(gone.topic.as_ref().map(|topic| topic.as_str())),
        match gone.transaction {
            Some(id) => transaction(id),
            None => or_none(""),
        },
        or_none(""),
        or_none(""),
    ]
}

fn how_gone(words: &'static Words, gone: &GoneMessage) -> String {
    let how = match gone.ending {
        Ending::Finished => words.ending_finished,
        Ending::RolledBack => words.ending_rolled_back,
        Ending::Cancelled => words.ending_cancelled,
        Ending::Dropped => words.ending_dropped,
    };
    fill(words.is_gone, &[("how", &how)])
}

fn row_of_stored(words: &'static Words, stored: &StoredMessage) -> Vec<Markup> {
    vec![
        message(stored.message.id),
        html! { (place(words, stored)) },
        topic(Some(stored.message.topic.as_str())),
        match stored.place.transaction {
            Some(id) => transaction(id),
            None => or_none(""),
        },
        html! { (size(stored.body_bytes)) },
        exact(stored.place.stored_at_ms),
    ]
}

fn place(words: &'static Words, stored: &StoredMessage) -> String {
    match stored.place.standing {
        Standing::Undecided => words.is_undecided.to_owned(),
        Standing::Scheduled { .. } => words.is_scheduled.to_owned(),
        Standing::Queued { offset, .. } => fill(words.is_queued, &[("offset", &offset.0)]),
    }
}

pub(in super::super) async fn one(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let id: MessageId = visit.part("id")?;
    let trace = desk.service.trace(id).await?;
    let content = html! {
        @match &trace.message {
            Traced::Stored(stored) => {
                (facts(&about(words, stored)))
                (section(words.life_story, &life(&visit, &trace)))
                (section(words.body, &html! {
                    (content_of(&visit, &stored.message))
                    div.buttons { a.button.quiet href={ "/messages/" (id) "/body" } download=(id) { (words.download) } }
                }))
                (section(words.headers, &headers_of(words, &stored.message)))
            },
            Traced::Gone(gone) => {
                (facts(&about_gone(words, gone)))
                (section(words.life_story, &life(&visit, &trace)))
                p.help { (words.body_gone) }
            },
        }
    };
    Ok(Sheet::new(Place::Messages, format!("{} {id}", words.message), content).into())
}

fn about_gone(words: &'static Words, gone: &GoneMessage) -> Vec<(&'static str, Markup)> {
    let mut about = vec![
        (words.where_it_is, html! { (how_gone(words, gone)) }),
        (words.removed_at, exact(gone.at_ms)),
        (words.topic, topic(gone.topic.as_ref().map(|topic| topic.as_str()))),
    ];
    if let Some((_, offset, _)) = gone.place {
        about.push((words.offset, html! { (offset.0) }));
    }
    if let Some(id) = gone.transaction {
        about.push((words.transaction, transaction(id)));
    }
    about
}

fn about(words: &'static Words, stored: &StoredMessage) -> Vec<(&'static str, Markup)> {
    let found = &stored.message;
    let mut about = vec![
        (words.where_it_is, html! { (place(words, stored)) }),
        (words.topic, topic(Some(found.topic.as_str()))),
        (words.key, key(found.key.as_deref())),
        (words.ordering_key, or_none(found.ordering_key.as_deref().unwrap_or_default())),
        (words.tag, or_none(found.tag.as_ref().map_or("", |tag| tag.as_str()))),
        (words.stored, exact(stored.place.stored_at_ms)),
    ];
    if let Some(id) = stored.place.transaction {
        about.push((words.transaction, transaction(id)));
    }
    if found.deliver_at_ms > 0 {
        about.push((words.deliver_at, exact(found.deliver_at_ms)));
    }
    if found.time_to_live_ms > 0 {
        about.push((
            words.time_to_live,
            html! { (super::super::show::duration(words, found.time_to_live_ms)) },
        ));
    }
    about
}

/// A body: as what it is, or as what was asked for.
pub(super) fn content_of(visit: &Visit, found: &Message) -> Markup {
    let words = visit.words();
    let body = &found.body;
    if body.is_empty() {
        return nothing(words.body_empty);
    }
    let shown = &body[..body.len().min(SHOWN_BYTES_MAX)];
    let json = pretty(body);
    let text = std::str::from_utf8(body).is_ok();
    let chosen = match visit.filter("as") {
        Some("json") if json.is_some() => "json",
        Some("text") => "text",
        Some("hex") => "hex",
        _ if json.is_some() => "json",
        _ if text => "text",
        _ => "hex",
    };
    let view = match (chosen, &json) {
        ("json", Some(json)) => json.clone(),
        ("hex", _) => hex_lines(shown),
        _ => String::from_utf8_lossy(shown).into_owned(),
    };
    let ways =
        [("json", words.as_json, json.is_some()), ("text", words.as_text, true), ("hex", words.as_hex, true)];
    let ways = ways.into_iter().filter(|(_, _, possible)| *possible);
    let ways: Vec<_> = ways
        .map(|(way, label, _)| (label, visit.address_with(&[("as", Some(way))]), None, way == chosen))
        .collect();
    html! {
        (super::super::parts::tabs(words.body, &ways))
        pre tabindex="0" { (view) }
        @if shown.len() < body.len() && chosen != "json" {
            p.help { (fill(words.body_cut, &[("n", &size(shown.len() as u64)), ("total", &size(body.len() as u64))])) }
        }
    }
}

/// JSON with one thing on a line; `None` for what is none, or is too long to be read on a page. Only the space between
/// things changes: reading and writing it anew would sort the fields and round long numbers.
fn pretty(body: &[u8]) -> Option<String> {
    if body.len() > SHOWN_BYTES_MAX {
        return None;
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
    let text = std::str::from_utf8(body).ok()?.trim();
    // A number or a word is JSON too, and better read as text.
    text.starts_with(['{', '[']).then(|| indented(text))
}

/// Well-formed JSON, spread over lines.
fn indented(json: &str) -> String {
    let (mut lines, mut depth) = (String::with_capacity(json.len() * 2), 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_text {
            lines.push(letter);
            in_text = escaped || letter != '"';
            escaped = letter == '\\' && !escaped;
            continue;
        }
        match letter {
            '"' => {
                in_text = true;
                lines.push(letter);
            }
            '{' | '[' => {
                lines.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if letters.peek().is_some_and(|next| !matches!(next, '}' | ']')) {
                    depth += 1;
                    new_line(&mut lines, depth);
                }
            }
            '}' | ']' => {
                if !lines.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut lines, depth);
                }
                lines.push(letter);
            }
            ',' => {
                lines.push(letter);
                new_line(&mut lines, depth);
            }
            ':' => lines.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => lines.push(other),
        }
    }
    lines
}

fn new_line(lines: &mut String, depth: usize) {
    lines.push('\n');
    lines.extend(std::iter::repeat_n("  ", depth));
}

fn hex_lines(bytes: &[u8]) -> String {
    let lines = bytes.chunks(HEX_LINE).enumerate().map(|(nth, line)| {
        let digits: Vec<_> = line.chunks(2).map(hex).collect();
        let printable =
            |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let text: String = line.iter().map(printable).collect();
        format!("{:06x}  {:<39}  {text}", nth * HEX_LINE, digits.join(" "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The headers of a message.
pub(super) fn headers_of(words: &'static Words, found: &Message) -> Markup {
    if found.headers.is_empty() {
        return nothing(words.no_headers);
    }
    let rows =
        found.headers.iter().map(|(name, value)| vec![html! { (name) }, html! { div.error { (value) } }]);
    let columns = [Column::Text(words.header), Column::Text(words.value)];
    table(words.headers, &columns, &rows.collect::<Vec<_>>())
}

pub(in super::super) async fn body(desk: Desk, visit: Visit) -> Outcome {
    let id: MessageId = visit.part("id")?;
    let stored = desk.service.message(id).await?;
    let headers = [
        // Never shown in place: a body may be a page of somebody else's making.
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}\"")),
    ];
    Ok(Answer::Raw((headers, stored.message.body).into_response()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_as_lines_of_hexadecimal() {
        assert_eq!(hex_lines(b"ab\0"), format!("000000  {:<39}  ab.", "6162 00"));
        assert_eq!(hex_lines(&[0; 17]).lines().count(), 2);
    }

    #[test]
    fn json_is_spread_over_lines_and_not_changed() {
        let body = r#"{"b":12345678901234567890.10,"a":[1, {}],"t":"x\"}{,: y","e":[ ]}"#;
        let text = pretty(body.as_bytes()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let expected = [
            "{",
            "  \"b\": 12345678901234567890.10,",
            "  \"a\": [",
            "    1,",
            "    {}",
            "  ],",
            "  \"t\": \"x\\\"}{,: y\",",
            "  \"e\": []",
            "}",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn only_objects_and_lists_are_shown_as_json() {
        assert!(pretty(b"{\"a\":1}").is_some() && pretty(b"[1]").is_some());
        assert!(pretty(b"42").is_none() && pretty(b"{").is_none());
    }
}
