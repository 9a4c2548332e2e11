//! What happened to a message or a transaction, as a list in order of time; the same on every page that tells it.

use maud::{Markup, html};

use super::super::show::{exact, group};
use super::super::visit::{Visit, address};
use super::super::words::{Words, fill};
use crate::service::{Trace, TraceEvent, Traced};

/// The life of a message.
pub(super) fn life(visit: &Visit, trace: &Trace) -> Markup {
    let words = visit.words();
    html! {
        p.lead { (words.life_help) }
        ol.timeline { @for event in &trace.events { (happening(visit, event, way(trace, event).as_deref())) } }
    }
}

/// Where more can be done about it: its dead letter is sent again, its retry run now or given up.
fn way(trace: &Trace, event: &TraceEvent) -> Option<String> {
    let group = event.group.as_ref()?;
    match event.event {
        "DEAD" => Some(format!("/dead-letters?group={group}&message={}", trace.message.id())),
        "RETRYING" => {
            let key = match &trace.message {
                Traced::Stored(stored) => stored.message.key.as_deref(),
                Traced::Gone(_) => None,
            };
            let filters = [("group", group.as_str()), ("key", key.unwrap_or_default())];
            Some(address("/retries", filters.into_iter()))
        }
        _ => None,
    }
}

/// One thing that happened, or how it stands now. `leads_to`: the page where more can be done about it.
pub(super) fn happening(visit: &Visit, event: &TraceEvent, leads_to: Option<&str>) -> Markup {
    let words = visit.words();
    let bad = matches!(event.event, "FAILED" | "DEAD" | "PARKED");
    let good = matches!(event.event, "ACKED" | "FINISHED");
    let open = matches!(event.event, "WAITING" | "LEASED" | "RETRYING" | "SCHEDULED");
    let more = more(visit, event);
    html! {
        li .bad[bad] .good[good] .open[open] {
            @let label = label(words, event.event);
            strong { @match leads_to { Some(page) => { a href=(page) { (label) } }, None => { (label) } } }
            @if let Some(of) = &event.group { " · " (group(of.as_str())) }
            span.when { @if event.at_ms > 0 { (exact(event.at_ms)) } @else { (words.standing_now) } }
            @if !more.is_empty() { span.text { (more) } }
        }
    }
}

fn label(words: &'static Words, event: &'static str) -> &'static str {
    match event {
        "STORED" => words.event_stored,
        "CHECKED" => words.event_checked,
        "CHECK_ORDERED" => words.event_check_ordered,
        "PARKED" => words.event_parked,
        "RESUMED" => words.event_resumed,
        "DECIDED" => words.decided,
        "MOVED" => words.event_moved,
        "WAITING" => words.event_waiting,
        "SCHEDULED" => words.event_scheduled,
        "QUEUED" => words.event_queued,
        "DELIVERED" => words.event_delivered,
        "LEASED" => words.event_leased,
        "ACKED" => words.event_acked,
        "RETRYING" => words.event_retrying,
        "RUN_NOW" => words.event_run_now,
        "DEAD" => words.event_dead,
        "REDRIVEN" => words.event_redriven,
        "COPIED" => words.event_copied,
        "DISCARDED" => words.event_discarded,
        "FINISHED" => words.event_finished,
        "FAILED" => words.event_failed,
        "REMOVED" => words.event_removed,
        other => other,
    }
}

/// Which attempt, who, and what was said: in the reader's language where the broker itself speaks.
fn more(visit: &Visit, event: &TraceEvent) -> String {
    let (words, text) = (visit.words(), visit.told(&event.text));
    // What only the words of the event tell: both times of a move, a decision.
    if event.event == "QUEUED" {
        return fill(words.is_queued, &[("offset", &event.detail)]);
    }
    if matches!(event.event, "MOVED" | "DECIDED") || event.event == "DEAD" && event.at_ms == 0 {
        return text.into_owned();
    }
    let attempt = (event.attempt > 0).then(|| fill(words.attempt_nth, &[("n", &event.attempt)]));
    let who = Some(event.who.clone()).filter(|who| !who.is_empty());
    let detail = match (event.event, event.detail.as_str()) {
        ("CHECKED", "UNKNOWN") => words.answer_unknown,
        ("CHECKED", "TIMED_OUT") => words.answer_timed_out,
        ("CHECKED", "NO_CHECKER") => words.answer_no_checker,
        ("CHECKED", "COMMIT") => words.answer_commit,
        ("CHECKED", "ROLLBACK") => words.answer_rollback,
        // How often, without each: a story that was not noted.
        ("CHECKED", "") => &text,
        ("REMOVED", "FINISHED") => words.ending_finished,
        ("REMOVED", "ROLLED_BACK") => words.ending_rolled_back,
        ("REMOVED", "CANCELLED") => words.ending_cancelled,
        ("REMOVED", "DROPPED") => words.ending_dropped,
        (_, said) => said,
    };
    let detail = Some(detail.to_owned()).filter(|detail| !detail.is_empty());
    [attempt, who, detail].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
