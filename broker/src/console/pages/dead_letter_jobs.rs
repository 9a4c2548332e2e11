//! Redriving and discarding dead letters: what would happen, the job that does it, its progress and its results.

use escrow_protocol::{GroupName, TopicName};
use maud::{Markup, html};

use super::super::confirm::{Confirm, carried};
use super::super::parts::{Column, facts, field, pager, section, table_or, tabs};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, dead_reason, exact, key, message, or_none};
use super::super::visit::{Visit, encoded};
use super::super::words::{Words, fill};
use super::super::{Answer, Desk, Outcome};
use super::dead_letters::{FILTERS, filter_of, filter_words};
use crate::engine::{JobOrder, JobView, Refusal};
use crate::records::{JobKind, JobState, LetterFilter};
use crate::service::{DeadLetterFilter, DeadLetterView, JobResult, Page};

/// Matches that the page before a job shows.
const MATCHES_SHOWN: usize = 20;
/// A second, unless chosen otherwise: slow enough to be watched.
const RATE: u32 = 50;

/// What a job is about to touch.
struct Scope {
    group: GroupName,
    filter: DeadLetterFilter,
    /// The first that match.
    first: Vec<DeadLetterView>,
    /// Dead letters of the group in all.
    of: u64,
    /// Why nothing of what is sent again is delivered for now, if so.
    held_back: Option<&'static str>,
}

async fn scope(desk: &Desk, visit: &Visit) -> Result<Scope, Refusal> {
    let group: GroupName = visit.part("group")?;
    let filter = filter_of(visit, Some(group.clone()))?;
    if visit.said("selected").is_some() && filter.letters.offsets.is_empty() {
        return Err(Refusal::invalid("offset", visit.words().nothing_selected));
    }
    let view = desk.service.group(group.clone()).await?;
    let (of, words) = (view.dead_letters, visit.words());
    let held_back = match (view.paused, view.members.is_empty()) {
        (true, _) => Some(words.redrive_paused),
        (false, true) => Some(words.redrive_nobody),
        (false, false) => None,
    };
    let page = Page { limit: MATCHES_SHOWN, cursor: None };
    let first = desk.service.dead_letters(filter.clone(), page).await?.items;
    Ok(Scope { group, filter, first, of, held_back })
}

pub(in super::super) async fn ask_redrive(desk: Desk, visit: Visit) -> Outcome {
    let scope = scope(&desk, &visit).await?;
    Ok(redriving(&visit, &scope).ask(&visit).into())
}

pub(in super::super) async fn redrive(desk: Desk, visit: Visit) -> Outcome {
    let scope = scope(&desk, &visit).await?;
    let to: Option<TopicName> = visit.optional("to_topic")?;
    let rate: u32 = visit.optional("rate")?.unwrap_or(0);
    let confirm = redriving(&visit, &scope);
    start(&desk, &visit, scope, confirm, to.map_or(JobKind::Redrive, JobKind::RedriveTo), rate).await
}

pub(in super::super) async fn ask_discard(desk: Desk, visit: Visit) -> Outcome {
    let scope = scope(&desk, &visit).await?;
    Ok(discarding(&visit, &scope).ask(&visit).into())
}

pub(in super::super) async fn discard(desk: Desk, visit: Visit) -> Outcome {
    let scope = scope(&desk, &visit).await?;
    let confirm = discarding(&visit, &scope);
    start(&desk, &visit, scope, confirm, JobKind::Discard, 0).await
}

async fn start(
    desk: &Desk,
    visit: &Visit,
    scope: Scope,
    confirm: Confirm,
    kind: JobKind,
    rate: u32,
) -> Outcome {
    let dry_run = visit.field("dry_run").is_some();
    let Scope { group, filter, .. } = scope;
    let act = async |operator| {
        let letters = desk.service.filter_of_job(filter).await?;
        let job = desk.service.start_job((group, kind, letters), rate, dry_run, operator).await?;
        Ok(Some(format!("/dead-letters/jobs/{}", job.number)))
    };
    confirm.carry_out(visit, act).await
}

fn redriving(visit: &Visit, scope: &Scope) -> Confirm {
    let words = visit.words();
    let mut happens = vec![
        touched(words, scope),
        words.redrive_happens.to_owned(),
        fill(words.redrive_to_group, &[("group", &scope.group)]),
    ];
    happens.splice(1..1, narrowed(words, scope));
    happens.extend(scope.held_back.map(|why| fill(why, &[("group", &scope.group)])));
    let to_topic = html! {
        input #to_topic name="to_topic" type="text" autocomplete="off" maxlength="127" value=(visit.field("to_topic").unwrap_or_default());
    };
    let chosen = visit.field("rate").map_or(RATE.to_string(), str::to_owned);
    let rate = html! {
        input #rate name="rate" type="number" min="0" max="100000" inputmode="numeric" aria-describedby="rate-help" value=(chosen);
    };
    let choices = html! {
        (carried_filters(visit))
        (field("rate", words.redrive_rate, words.redrive_rate_help, &rate))
        (field("to_topic", words.redrive_to_topic, "", &to_topic))
        (dry_run(visit))
    };
    let title = fill(words.redrive_title, &[("group", &scope.group)]);
    let back = back(scope);
    let below = matches(visit, scope);
    Confirm { happens, choices, below, ..Confirm::new(Place::DeadLetters, title, words.do_redrive, back) }
}

fn discarding(visit: &Visit, scope: &Scope) -> Confirm {
    let words = visit.words();
    let mut happens = vec![touched(words, scope)];
    happens.extend(narrowed(words, scope));
    happens.push(words.discard_happens.to_owned());
    let choices = html! { (carried_filters(visit)) (dry_run(visit)) };
    let title = fill(words.discard_title, &[("group", &scope.group)]);
    let back = back(scope);
    let below = matches(visit, scope);
    let confirm = Confirm::new(Place::DeadLetters, title, words.do_discard, back);
    Confirm { happens, grave: true, choices, below, ..confirm }
}

fn back(scope: &Scope) -> String {
    format!("/dead-letters?group={}", encoded(scope.group.as_str()))
}

fn touched(words: &'static Words, scope: &Scope) -> String {
    match scope.filter.letters.offsets.as_slice() {
        [] if scope.filter.is_of_all() => {
            fill(words.dead_scope_every, &[("group", &scope.group), ("n", &count(scope.of))])
        }
        [] => fill(words.dead_scope_all, &[("group", &scope.group), ("n", &count(scope.of))]),
        [one] => fill(words.dead_scope_one, &[("offset", &one.0)]),
        several => fill(words.dead_scope_selected, &[("n", &several.len())]),
    }
}

/// What narrows it down, but for a selection, which is told by its number.
fn narrowed(words: &'static Words, scope: &Scope) -> Option<String> {
    let letters = LetterFilter { offsets: Vec::new(), ..scope.filter.letters.clone() };
    let filter = filter_words(words, &letters, scope.filter.message);
    (!filter.is_empty()).then(|| fill(words.dead_scope_filter, &[("filter", &filter)]))
}

/// What was selected or filtered for, carried through the form.
fn carried_filters(visit: &Visit) -> Markup {
    let selected = visit.said("selected").map(|text| ("selected", text));
    let offsets = visit.all("offset").into_iter().map(|offset| ("offset", offset)).chain(selected);
    let filters = FILTERS.into_iter().filter_map(|name| visit.said(name).map(|text| (name, text)));
    carried(offsets.chain(filters))
}

fn dry_run(visit: &Visit) -> Markup {
    let words = visit.words();
    html! {
        div.field.check {
            input #dry_run name="dry_run" type="checkbox" value="1" checked[visit.field("dry_run").is_some()] aria-describedby="dry_run-help";
            label for="dry_run" { (words.dead_dry_run) }
            span.help #dry_run-help { (words.dead_dry_run_help) }
        }
    }
}

fn matches(visit: &Visit, scope: &Scope) -> Markup {
    let words = visit.words();
    let columns = [
        Column::Number(words.offset),
        Column::Text(words.key),
        Column::Text(words.reason),
        Column::Text(words.error),
        Column::Number(words.died),
    ];
    let rows: Vec<_> = scope
        .first
        .iter()
        .map(|dead| {
            vec![
                html! { (dead.offset.0) },
                key(dead.message.as_ref().and_then(|message| message.key.as_deref())),
                html! { span.reason { (dead_reason(words, dead.record.reason)) } },
                html! { div.error.brief { (or_none(&dead.record.error)) } },
                age(visit, dead.record.at_ms),
            ]
        })
        .collect();
    section(
        words.dead_first_matches,
        &table_or(words.dead_empty_filtered, words.dead_first_matches, &columns, &rows),
    )
}

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let page = desk.service.jobs(visit.page()).await?;
    let columns = [
        Column::Number(words.jobs),
        Column::Text(words.actions),
        Column::Text(words.group),
        Column::Text(words.filter),
        Column::Text(words.state),
        Column::Number(words.job_ok),
        Column::Number(words.job_refused),
        Column::Number(words.job_left),
        Column::Text(words.by_whom),
        Column::Text(words.reason),
        Column::Number(words.age),
    ];
    let rows: Vec<_> = page.items.iter().map(|job| job_row(&visit, job)).collect();
    let content = html! {
        p.lead { (words.jobs_help) }
        (table_or(words.jobs_empty, words.jobs, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
        p { a href="/dead-letters" { (words.dead_letters) } }
    };
    Ok(Sheet::new(Place::DeadLetters, words.jobs, content).live().into())
}

fn job_row(visit: &Visit, job: &JobView) -> Vec<Markup> {
    let words = visit.words();
    let (plan, progress) = (&job.plan, &job.progress);
    vec![
        html! { a href={ "/dead-letters/jobs/" (job.number) } { (job.number) } },
        html! { (what(words, job)) },
        super::super::show::group(plan.group_name.as_str()),
        html! { div.error.brief { (chosen(words, job)) } },
        standing(visit, job),
        html! { (count(progress.done)) },
        html! { (count(progress.failed)) },
        html! { (count(job.left())) },
        html! { (plan.name) },
        or_none(&plan.reason),
        age(visit, plan.at_ms),
    ]
}

fn what(words: &'static Words, job: &JobView) -> String {
    let what = match &job.plan.kind {
        JobKind::Redrive => words.job_redrive.to_owned(),
        JobKind::RedriveTo(topic) => format!("{} → {topic}", words.job_redrive),
        JobKind::Discard => words.job_discard.to_owned(),
    };
    if job.plan.dry_run { format!("{what} ({})", words.job_dry) } else { what }
}

fn standing(visit: &Visit, job: &JobView) -> Markup {
    let words = visit.words();
    html! {
        @match job.progress.state {
            JobState::Running => { span.state { (words.job_running) } },
            JobState::Paused => { span.state.warn { (words.job_paused) } },
            JobState::Done => { span.state.good { (words.job_done) } },
            JobState::Cancelled => { span.state.warn { (words.job_stopped) } },
            JobState::Failed => {
                span.state.bad { (fill(words.job_failed, &[("error", &visit.told(&job.progress.fault))])) }
            },
        }
    }
}

pub(in super::super) async fn one(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let number: u64 = visit.part("id")?;
    let job = desk.service.job(number).await?;
    let refused_only = visit.filter("only") == Some("refused");
    let results = desk.service.job_results(number, refused_only, visit.page()).await?;
    let rows: Vec<_> = results.items.iter().map(|result| result_row(&visit, &job, result)).collect();
    let columns =
        [Column::Number(words.offset), Column::Text(words.job_result), Column::Text(words.message_id)];
    let empty = if refused_only { words.job_no_failures } else { words.job_no_results };
    let address = format!("/dead-letters/jobs/{number}");
    let refused = format!("{address}?only=refused");
    let shown = [
        (words.job_results_all, address, None, !refused_only),
        (words.job_refused, refused, Some(count(job.progress.failed)), refused_only),
    ];
    let of_group = format!("/dead-letters?group={}", encoded(job.plan.group_name.as_str()));
    let content = html! {
        p { (standing(&visit, &job)) }
        (progress_bar(words, &job))
        (brakes(&visit, &job))
        (facts(&about(words, &job)))
        (section(words.job_results, &html! {
            (tabs(words.job_results, &shown))
            p.help { (words.job_results_help) }
            (table_or(empty, words.job_results, &columns, &rows))
            (pager(&visit, results.next.as_deref()))
        }))
        p { a href="/dead-letters/jobs" { (words.jobs) } " · " a href=(of_group) { (words.dead_letters) } }
    };
    let sheet = Sheet::new(Place::DeadLetters, fill(words.job, &[("id", &number)]), content);
    Ok(if job.progress.state.is_ended() { sheet } else { sheet.live() }.into())
}

fn progress_bar(words: &'static Words, job: &JobView) -> Markup {
    let total = job.plan.total;
    let looked_at =
        if job.progress.state == JobState::Done { total } else { job.progress.examined.min(total) };
    html! {
        @if total > 0 {
            p {
                label for="job-progress" { (words.job_progress) " " }
                progress #job-progress max=(total) value=(looked_at) {}
                " " (count(looked_at)) "/" (count(total))
            }
        }
    }
}

fn about(words: &'static Words, job: &JobView) -> Vec<(&'static str, Markup)> {
    let (plan, progress) = (&job.plan, &job.progress);
    let rate = match plan.rate {
        0 => words.job_unlimited.to_owned(),
        rate => fill(words.per_second, &[("n", &rate)]),
    };
    vec![
        (words.actions, html! { (what(words, job)) }),
        (words.group, super::super::show::group(plan.group_name.as_str())),
        (words.filter, chosen(words, job)),
        (words.job_total, html! { (count(progress.done + progress.failed)) }),
        (words.job_ok, html! { (count(progress.done)) }),
        (words.job_refused, html! { (count(progress.failed)) }),
        (words.job_left, html! { (count(job.left())) }),
        (words.job_rate, html! { (rate) }),
        (words.by_whom, html! { (plan.name) }),
        (words.reason, or_none(&plan.reason)),
        (words.at, exact(plan.at_ms)),
    ]
}

/// Which dead letters it is about: what somebody reads first who did not start it.
fn chosen(words: &'static Words, job: &JobView) -> Markup {
    let filter = filter_words(words, &job.plan.filter, None);
    html! { @if filter.is_empty() { (words.job_of_all) } @else { (filter) } }
}

fn result_row(visit: &Visit, job: &JobView, result: &JobResult) -> Vec<Markup> {
    let words = visit.words();
    let done = match (&job.plan.kind, job.plan.dry_run) {
        (JobKind::Discard, false) => words.job_was_discarded,
        (JobKind::Discard, true) => words.job_would_discard,
        (_, false) => words.job_was_sent,
        (_, true) => words.job_would_send,
    };
    let became = html! {
        @match (&result.failure, result.copy) {
            (Some(failure), _) => { span.state.bad { (words.job_refused) } " " code { (failure.reason) } " " (visit.told(&failure.text)) },
            (None, Some(copy)) => { span.state.good { (done) } " → " (message(copy)) },
            (None, None) => { span.state.good { (done) } },
        }
    };
    let of =
        html! { @match result.message { Some(id) => { (message(id)) }, None => { span.faint { "–" } } } };
    vec![html! { (result.offset.0) }, became, of]
}

fn brakes(visit: &Visit, job: &JobView) -> Markup {
    let words = visit.words();
    let (toggle, order) = match job.progress.state {
        JobState::Running => (words.job_pause, "pause"),
        JobState::Paused => (words.job_go_on, "run"),
        _ => return html! {},
    };
    html! {
        form.buttons method="post" action={ "/dead-letters/jobs/" (job.number) } {
            input type="hidden" name="token" value=(visit.token());
            button.quiet type="submit" name="order" value=(order) { (toggle) }
            button.grave type="submit" name="order" value="stop" { (words.job_stop) }
        }
    }
}

/// Pausing and stopping need no reason: they undo nothing and can be done over. Who did it is known from before.
pub(in super::super) async fn order(desk: Desk, visit: Visit) -> Outcome {
    let number: u64 = visit.part("id")?;
    let words = visit.words();
    let (order, button) = match visit.field("order") {
        Some("pause") => (JobOrder::Pause, words.job_pause),
        Some("run") => (JobOrder::Resume, words.job_go_on),
        Some("stop") => (JobOrder::Cancel, words.job_stop),
        _ => return Err(Refusal::invalid("order", "it is not pause, run or stop; use a button of the page")),
    };
    let to = format!("/dead-letters/jobs/{number}");
    let Some(operator) = visit.known() else {
        let happens = vec![words.name_for_audit.to_owned()];
        let choices = carried(visit.field("order").map(|order| ("order", order)).into_iter());
        let title = fill(words.job, &[("id", &number)]);
        let confirm = Confirm::new(Place::DeadLetters, title, button, to);
        return Ok(Confirm { happens, light: true, choices, ..confirm }.ask(&visit).into());
    };
    let by = operator.name.clone();
    desk.service.order_job(number, order, operator).await?;
    Ok(Answer::Done { to, by })
}
