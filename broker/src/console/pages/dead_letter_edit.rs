//! A dead letter sent again as a new message: with another body, other headers, or to another topic.

use bytes::Bytes;
use escrow_protocol::{GroupName, Offset, Reason, v1};
use maud::html;

use super::super::confirm::Confirm;
use super::super::parts::field;
use super::super::shell::Place;
use super::super::visit::{Visit, encoded};
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::engine::Refusal;
use crate::service::DeadLetterView;

/// Headers that only the broker writes.
const RESERVED_HEADER_PREFIX: &str = "escrow-";
/// The call that does it, which also checks what the form says.
const CALL: &str = "/escrow.v1.AdminService/EditDeadLetter";

/// The dead letter that the address names, as a form has it.
struct Draft {
    group: GroupName,
    dead: DeadLetterView,
    /// `None`: it is no text, and stays as it is.
    body: Option<String>,
    /// Those that may be changed, as the form has them: a line for each.
    headers: String,
}

async fn draft(desk: &Desk, visit: &Visit) -> Result<Draft, Refusal> {
    let (group, offset): (GroupName, u64) = (visit.part("group")?, visit.part("offset")?);
    let dead = desk.service.dead_letter(group.clone(), Offset(offset)).await?;
    let message = dead.message.as_ref().ok_or_else(|| {
        Refusal::new(Reason::Damaged, format!("the message of dead letter {offset} cannot be read"))
    })?;
    // No page can show this character: what comes back would be another one.
    let text = std::str::from_utf8(&message.body).ok().filter(|text| !text.contains('\0'));
    let body = text.map(str::to_owned);
    let headers = own_headers(&dead).map(|(name, value)| line_of(name, value) + "\n").collect();
    Ok(Draft { group, body, headers, dead })
}

fn editing(visit: &Visit, draft: &Draft) -> Confirm {
    let words = visit.words();
    let offset = draft.dead.offset.0;
    let body = visit.typed("body").or(draft.body.as_deref()).unwrap_or_default();
    let headers = visit.typed("headers").unwrap_or(&draft.headers);
    let topic = visit.field("to_topic").unwrap_or(draft.dead.record.topic_name.as_str());
    let body = html! { textarea #body name="body" rows="12" spellcheck="false" { "\n" (body) } };
    let headers = html! { textarea #headers name="headers" rows="4" spellcheck="false" aria-describedby="headers-help" { "\n" (headers) } };
    let topic = html! { input #to_topic name="to_topic" type="text" required autocomplete="off" maxlength="127" value=(topic); };
    let choices = html! {
        @if draft.body.is_some() { (field("body", words.body, "", &body)) } @else { p.help { (words.edit_no_text) } }
        (field("headers", words.headers, words.edit_headers_help, &headers))
        (field("to_topic", words.topic, "", &topic))
    };
    let title = fill(words.edit_title, &[("group", &draft.group), ("offset", &offset)]);
    let back = format!("/dead-letters/of/{}/{offset}", encoded(draft.group.as_str()));
    let happens = vec![words.edit_happens.to_owned(), words.edit_for_all.to_owned()];
    Confirm { happens, choices, ..Confirm::new(Place::DeadLetters, title, words.do_edit, back) }
}

pub(in super::super) async fn ask(desk: Desk, visit: Visit) -> Outcome {
    let draft = draft(&desk, &visit).await?;
    Ok(editing(&visit, &draft).ask(&visit).into())
}

pub(in super::super) async fn carry_out(desk: Desk, visit: Visit) -> Outcome {
    let draft = draft(&desk, &visit).await?;
    let confirm = editing(&visit, &draft);
    let act = async |operator: crate::service::Operator| {
        let headers = visit.typed("headers").filter(|typed| plain(typed) != plain(&draft.headers));
        let request = v1::EditDeadLetterRequest {
            group: draft.group.to_string(),
            offset: draft.dead.offset.0,
            to_topic: visit.field("to_topic").unwrap_or_default().to_owned(),
            body: visit.typed("body").and_then(|typed| body_of(typed, draft.body.as_deref()?)),
            replace_headers: headers.is_some(),
            headers: headers_of(headers.unwrap_or_default(), own_headers(&draft.dead))?,
            dry_run: false,
            operator: Some(operator.into()),
        };
        let edited = desk.call(CALL, &request).await?;
        let id = edited["message_id"].as_str().unwrap_or_default();
        Ok(Some(format!("/messages/{id}?done=1")))
    };
    confirm.carry_out(&visit, act).await
}

/// The body as it was typed; `None`: it was not changed. A browser ends each line with two characters, whatever it was
/// shown, so line ends are no change, and those of a changed body are as they were before: two characters if all were.
fn body_of(typed: &str, before: &str) -> Option<Bytes> {
    let (typed, plain_before) = (plain(typed), plain(before));
    if typed == plain_before {
        return None;
    }
    let ends = plain_before.matches('\n').count();
    let had_two = ends > 0 && before.matches("\r\n").count() == ends;
    Some(if had_two { typed.replace('\n', "\r\n") } else { typed }.into())
}

/// A text whose lines end with one character.
fn plain(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The headers of a dead letter that are its own.
fn own_headers(dead: &DeadLetterView) -> impl Iterator<Item = (&str, &str)> + Clone {
    let all = dead.message.iter().flat_map(|message| &message.headers);
    all.map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !name.starts_with(RESERVED_HEADER_PREFIX))
}

fn line_of(name: &str, value: &str) -> String {
    format!("{name}: {value}")
}

/// The headers as they were typed. A line that is as one of `before` was shown is that header, blanks and all.
fn headers_of<'a>(
    text: &str,
    before: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<Vec<v1::Header>, Refusal> {
    let header = |line: &str| {
        let kept = before.clone().find(|(name, value)| plain(&line_of(name, value)) == line);
        if let Some((name, value)) = kept {
            return Ok(v1::Header { name: name.to_owned(), value: value.to_owned() });
        }
        let pair = line.split_once(':').filter(|(name, _)| !name.trim().is_empty());
        let unreadable = || Refusal::invalid("headers", format!("{line:?} is not name: value"));
        let (name, value) = pair.ok_or_else(unreadable)?;
        Ok(v1::Header { name: name.trim().to_owned(), value: value.trim().to_owned() })
    };
    plain(text).split('\n').filter(|line| !line.trim().is_empty()).map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a browser sends of a text that it was shown.
    fn sent(shown: &str) -> String {
        plain(shown).replace('\n', "\r\n")
    }

    #[test]
    fn what_was_not_changed_is_not_sent() {
        for body in ["", " {}\n", "a\nb", "a\r\nb\r\n", "a\r\nb\nc\rd", "\n\n  x\t"] {
            assert_eq!(body_of(&sent(body), body), None, "{body:?}");
        }
    }

    #[test]
    fn a_header_that_was_not_changed_keeps_its_blanks() {
        let before = [("trace", " a  "), ("note", "old")];
        let typed = sent("trace:  a  \nnote:  new \n\n  added : x\n");
        let headers = headers_of(&typed, before.iter().copied()).unwrap();
        let pairs: Vec<_> =
            headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
        assert_eq!(pairs, [("trace", " a  "), ("note", "new"), ("added", "x")]);
        assert!(headers_of("no header", before.iter().copied()).is_err());
    }

    #[test]
    fn a_changed_body_keeps_its_blanks_and_its_line_ends() {
        for (before, typed, becomes) in [
            ("a\nb", "a\r\nc\r\n", "a\nc\n"),
            ("a\r\nb", "a\r\nc\r\n", "a\r\nc\r\n"),
            ("a\r\nb\nc", "a\r\nb\r\nd", "a\nb\nd"),
            ("a", " a \r\n", " a \n"),
            ("a", "", ""),
        ] {
            assert_eq!(body_of(typed, before).as_deref(), Some(becomes.as_bytes()), "{before:?}");
        }
    }
}
