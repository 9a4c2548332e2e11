//! Dead letters: found by group, reason, topic, key, time and error; shown with every attempt; exported.

use escrow_protocol::{GroupName, MessageId, Offset};
use maud::{Markup, html};

use super::super::export::{self, Source};
use super::super::parts::{
    Column, actions, choice, facts, filters, nothing, pager, section, table, tabs, text_filter,
};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, clock_text, count, dead_reason, exact, group, key, message, or_none, topic};
use super::super::visit::{Visit, address, encoded};
use super::super::words::{Words, fill};
use super::super::{Desk, Outcome};
use super::messages::{content_of, headers_of};
use crate::engine::{Holding, Refusal};
use crate::records::{Attempt, DeadReason, Facets, LetterFilter};
use crate::service::{DeadLetterFilter, DeadLetterView};

/// Groups with dead letters that a page links to, those with the most.
const GROUPS_LINKED: usize = 200;
/// Offsets that a filter is named by; the others are counted.
const OFFSETS_NAMED: usize = 20;

/// What the address, or a form that carries it on, asks for; `group` comes from elsewhere where the path names it.
pub(super) fn filter_of(visit: &Visit, group: Option<GroupName>) -> Result<DeadLetterFilter, Refusal> {
    let offsets: Result<Vec<_>, Refusal> = visit
        .all("offset")
        .into_iter()
        .map(|text| {
            text.parse()
                .map(Offset)
                .map_err(|_| Refusal::invalid("offset", format!("{text:?} is not a number")))
        })
        .collect();
    let reason = visit.said("reason_is").map(|word| {
        let unknown =
            || Refusal::invalid("reason_is", format!("{word:?} is no reason; choose one of the list"));
        DeadReason::of_word(word).ok_or_else(unknown)
    });
    let letters = LetterFilter {
        offsets: offsets?,
        reason: reason.transpose()?,
        key: visit.said("key").map(str::to_owned),
        topic: visit.optional("topic")?,
        from_ms: time(visit, "from")?,
        until_ms: time(visit, "until")?,
        error_contains: visit.said("error").map(str::to_owned),
    };
    let group = match group {
        Some(group) => Some(group),
        None => visit.optional("group")?,
    };
    Ok(DeadLetterFilter { group, message: visit.optional("message")?, letters })
}

/// What `letters` and `message` ask for, for a person; empty: for all that there are.
pub(super) fn filter_words(
    words: &'static Words,
    letters: &LetterFilter,
    message: Option<MessageId>,
) -> String {
    let LetterFilter { offsets, reason, key, topic, from_ms, until_ms, error_contains } = letters;
    let time = |at_ms: &u64| Some(clock_text(*at_ms)).filter(|_| *at_ms > 0);
    let mut listed: Vec<_> = offsets.iter().take(OFFSETS_NAMED).map(|offset| offset.0.to_string()).collect();
    if offsets.len() > OFFSETS_NAMED {
        listed.push(format!("… ({})", count(offsets.len() as u64)));
    }
    let parts = [
        (words.reason, reason.map(|reason| dead_reason(words, reason).to_owned())),
        (words.key, key.clone()),
        (words.message_id, message.map(|id| id.to_string())),
        (words.topic, topic.as_ref().map(ToString::to_string)),
        (words.dead_from, time(from_ms)),
        (words.dead_until, time(until_ms)),
        (words.dead_error_contains, error_contains.clone()),
        (words.offset, Some(listed.join(", ")).filter(|listed| !listed.is_empty())),
    ];
    let said = parts.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name}: {value}")));
    said.collect::<Vec<_>>().join(" · ")
}

/// A time as RFC 3339, or as people leave parts of it out: a date, a date with hours and minutes. UTC.
pub(super) fn time(visit: &Visit, name: &'static str) -> Result<u64, Refusal> {
    let Some(text) = visit.said(name) else { return Ok(0) };
    let spaced = text.replacen(' ', "T", 1);
    let whole: Option<jiff::Timestamp> = spaced.parse().ok();
    let parsed = whole.or_else(|| {
        let civil: jiff::civil::DateTime = spaced.trim_end_matches('Z').parse().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    });
    let remedy = "it is not a time; write 2026-01-31 or 2026-01-31 12:00, in UTC";
    let parsed = parsed.ok_or_else(|| Refusal::invalid(name, remedy))?;
    Ok(u64::try_from(parsed.as_millisecond()).unwrap_or(0))
}

/// The names of the filters, for carrying them on.
pub(super) const FILTERS: [&str; 7] = ["reason_is", "key", "topic", "from", "until", "error", "message"];

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let filter = filter_of(&visit, None)?;
    let chosen = filter.group.clone();
    let page = desk.service.dead_letters(filter, visit.page()).await?;
    let groups = desk.service.groups_holding(Holding::DeadLetters, GROUPS_LINKED).await?;
    let groups: Vec<_> = groups.iter().map(|(name, dead)| (name.as_str(), *dead)).collect();
    let facets = match &chosen {
        Some(group) => Some(desk.service.dead_letter_facets(group.clone()).await?),
        None => None,
    };
    let filtered = visit.filters_without(&["group", "cursor", "limit", "done"]).next().is_some();
    let content = html! {
        p.lead { (words.dead_help) " " a href="/dead-letters/jobs" { (words.jobs) } }
        (search(&visit, chosen.as_ref(), &groups))
        @if let Some(facets) = &facets { (facet_links(&visit, facets)) }
        @if page.items.is_empty() {
            (nothing(if filtered || page.next.is_some() { words.dead_empty_filtered } else { words.dead_empty }))
        } @else {
            (listed(&visit, chosen.as_ref(), &page.items))
        }
        (pager(&visit, page.next.as_deref()))
        (export::links(&visit, "dead-letters"))
    };
    Ok(Sheet::new(Place::DeadLetters, words.dead_letters, content).live().into())
}

/// What they died of and where they came from, each with its number: a click shows those, another one all again.
fn facet_links(visit: &Visit, facets: &Facets) -> Markup {
    let words = visit.words();
    let link = |name: &'static str, value: &str, text: String, number: u64| {
        let current = visit.filter(name) == Some(value);
        let to = (!current).then_some(value);
        (text, visit.address_with(&[(name, to), ("cursor", None)]), number, current)
    };
    let reasons = facets.reasons.iter();
    let reasons: Vec<_> = reasons
        .map(|(reason, number)| {
            link("reason_is", reason.as_str(), dead_reason(words, *reason).to_owned(), *number)
        })
        .collect();
    let topics = facets.topics.iter();
    let topics: Vec<_> =
        topics.map(|(topic, number)| link("topic", topic.as_str(), topic.to_string(), *number)).collect();
    html! {
        @for (label, links) in [(words.reason, &reasons), (words.topic, &topics)] {
            @if !links.is_empty() {
                (tabs(label, &links.iter().map(|(text, address, number, current)| {
                    (text.as_str(), address.clone(), Some(count(*number)), *current)
                }).collect::<Vec<_>>()))
            }
        }
    }
}

fn search(visit: &Visit, chosen: Option<&GroupName>, groups: &[(&str, u64)]) -> Markup {
    let words = visit.words();
    let mut options = vec![("", words.all_groups.to_owned())];
    options.extend(groups.iter().map(|(name, dead)| (*name, format!("{name} ({})", count(*dead)))));
    if let Some(chosen) = chosen.filter(|chosen| !groups.iter().any(|(name, _)| *name == chosen.as_str())) {
        options.push((chosen.as_str(), chosen.to_string()));
    }
    let options: Vec<_> = options.iter().map(|(value, text)| (*value, text.as_str())).collect();
    let mut reasons = vec![("", words.any)];
    reasons.extend(DeadReason::ALL.iter().map(|reason| (reason.as_str(), dead_reason(words, *reason))));
    let fields = html! {
        (choice("group", words.group, chosen.map_or("", |chosen| chosen.as_str()), &options))
        (choice("reason_is", words.reason, visit.filter("reason_is").unwrap_or_default(), &reasons))
        (text_filter(visit, "key", words.key))
        (text_filter(visit, "message", words.message_id))
        (text_filter(visit, "topic", words.topic))
        (text_filter(visit, "error", words.dead_error_contains))
        (text_filter(visit, "from", words.dead_from))
        (text_filter(visit, "until", words.dead_until))
    };
    filters(visit, &fields)
}

/// The list; where one group is chosen, with boxes to select several.
fn listed(visit: &Visit, chosen: Option<&GroupName>, items: &[DeadLetterView]) -> Markup {
    let words = visit.words();
    let mut columns = vec![
        Column::Number(words.offset),
        Column::Text(words.group),
        Column::Text(words.key),
        Column::Text(words.origin),
        Column::Text(words.reason),
        Column::Text(words.error),
        Column::Number(words.attempts),
        Column::Number(words.died),
    ];
    if chosen.is_some() {
        columns.insert(0, Column::Silent(words.actions));
    }
    let rows: Vec<_> = items.iter().map(|dead| row(visit, dead, chosen.is_some())).collect();
    let listed = table(words.dead_letters, &columns, &rows);
    let Some(chosen) = chosen else {
        return html! { (listed) p.help { (words.select_hint) } };
    };
    let of = format!("/dead-letters/of/{}", encoded(chosen.as_str()));
    let matching = |verb: &str| {
        address(&format!("{of}/{verb}"), visit.filters_without(&["group", "cursor", "limit", "done"]))
    };
    html! {
        form method="get" action={ (of) "/redrive" } data-choose-all=(words.select_all) {
            // So that none selected is not taken for no filter, which is all.
            input type="hidden" name="selected" value="1";
            (listed)
            div.buttons {
                button.quiet type="submit" { (words.redrive_selected) }
                button.grave type="submit" formaction={ (of) "/discard" } { (words.discard_selected) }
                a.button.quiet href=(matching("redrive")) { (words.redrive_all) }
                a.button.grave href=(matching("discard")) { (words.discard_all) }
            }
        }
    }
}

fn row(visit: &Visit, dead: &DeadLetterView, selectable: bool) -> Vec<Markup> {
    let (words, record) = (visit.words(), &dead.record);
    let offset = dead.offset.0;
    let mut cells = Vec::new();
    if selectable {
        let label = fill(words.select_one, &[("offset", &offset)]);
        cells.push(html! { input type="checkbox" name="offset" value=(offset) aria-label=(label); });
    }
    cells.extend([
        html! { a href={ "/dead-letters/of/" (encoded(record.group.as_str())) "/" (offset) } { (offset) } },
        group(record.group.as_str()),
        key(dead.message.as_ref().and_then(|message| message.key.as_deref())),
        html! { (topic(Some(record.topic_name.as_str()))) " " span.faint { (record.offset.0) } },
        html! { span.reason { (dead_reason(words, record.reason)) } },
        html! { div.error.brief { (or_none(&record.error)) } },
        html! { (record.attempts_made) },
        age(visit, record.at_ms),
    ]);
    cells
}

pub(in super::super) async fn export(desk: Desk, visit: Visit) -> Outcome {
    let source = Source::DeadLetters(filter_of(&visit, None)?);
    export::answer(desk, &visit, Place::DeadLetters, source).await
}

pub(in super::super) async fn one(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let (name, offset): (GroupName, u64) = (visit.part("group")?, visit.part("offset")?);
    let dead = desk.service.dead_letter(name.clone(), Offset(offset)).await?;
    let act = |verb: &str| format!("/dead-letters/of/{}/{verb}?offset={offset}", encoded(name.as_str()));
    let title = format!("{} {} · {offset}", words.dead_letters, name);
    let content = html! {
        p { span.state.bad { (dead_reason(words, dead.record.reason)) } " " (dead.record.error) }
        (actions(words.actions, &[
            (words.do_redrive, act("redrive"), false),
            (words.do_edit, format!("/dead-letters/of/{}/{offset}/edit", encoded(name.as_str())), false),
            (words.do_discard, act("discard"), true),
        ]))
        (facts(&about(&dead, words)))
        (section(words.attempts, &attempts(&visit, &dead)))
        @if let Some(found) = &dead.message {
            (section(words.body, &content_of(&visit, found)))
            (section(words.headers, &headers_of(words, found)))
        }
    };
    Ok(Sheet::new(Place::DeadLetters, title, content).into())
}

fn about(dead: &DeadLetterView, words: &'static Words) -> Vec<(&'static str, Markup)> {
    let record = &dead.record;
    vec![
        (words.group, group(record.group.as_str())),
        (words.died, exact(record.at_ms)),
        (words.key, key(dead.message.as_ref().and_then(|message| message.key.as_deref()))),
        (words.message_id, message(record.entry.id)),
        (
            words.origin,
            html! { (topic(Some(record.topic_name.as_str()))) " " span.faint { (words.offset) " " (record.offset.0) } },
        ),
        (words.redrives, html! { (record.redrives) }),
    ]
}

fn attempts(visit: &Visit, dead: &DeadLetterView) -> Markup {
    let (words, record) = (visit.words(), &dead.record);
    if record.attempts.is_empty() {
        return nothing(words.no_attempts);
    }
    let kept = [("made", &record.attempts_made as &dyn std::fmt::Display), ("n", &record.attempts.len())];
    html! {
        p.lead { (fill(words.attempts_of, &kept)) }
        (attempts_table(words, &record.attempts))
    }
}

/// Attempts that failed, each with its error.
pub(super) fn attempts_table(words: &'static Words, attempts: &[Attempt]) -> Markup {
    let columns = [
        Column::Number(words.attempt),
        Column::Text(words.at),
        Column::Text(words.reason),
        Column::Text(words.error),
        Column::Text(words.client),
    ];
    let rows = attempts.iter().map(|attempt| {
        vec![
            html! { (attempt.number) },
            exact(attempt.at_ms),
            html! { code { (attempt.kind.as_str()) } },
            html! { div.error { (or_none(&attempt.error)) } },
            or_none(attempt.client.as_ref().map_or("", |client| client.as_str())),
        ]
    });
    table(words.attempts, &columns, &rows.collect::<Vec<_>>())
}
