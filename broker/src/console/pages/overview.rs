//! The broker at a glance: what needs a person first, then numbers that lead to what they count, then the last ten minutes.

use maud::{Markup, html};

use super::super::chart::bars;
use super::super::parts::section;
use super::super::rates::{Curve, Rates, SECONDS_PER_BAR};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, duration, size};
use super::super::visit::Visit;
use super::super::words::{Words, fill};
use super::super::{Desk, Outcome};
use crate::service::Status;

pub(in super::super) async fn page(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let status = desk.service.status().await?;
    let content = html! {
        (health(&visit, &status))
        (tiles(&visit, &status))
        (section(words.rates_title, &charts(words, &desk.rates)))
    };
    Ok(Sheet::new(Place::Overview, words.overview_title, content).live().into())
}

/// What is wrong, in words, with links; or that nothing is.
fn health(visit: &Visit, status: &Status) -> Markup {
    let (words, engine) = (visit.words(), &status.engine);
    let needs = [
        (words.alarms, status.alarms.open(), "/alarms"),
        (words.waiting_for_checker, engine.waiting_for_checker, "/transactions?show=waiting"),
        (words.parked, engine.parked, "/transactions?show=parked"),
        (words.dead_letters, engine.dead_letters, "/dead-letters"),
        (words.corrupt_records, status.store.corrupt_records, "/store"),
    ];
    let needs: Vec<_> = needs.into_iter().filter(|(_, number, _)| *number > 0).collect();
    html! {
        @if !engine.accepting { p.note.bad role="alert" { (words.not_accepting) } }
        @if needs.is_empty() {
            p.lead {
                (words.all_quiet) " " @if engine.accepting { (words.accepting) " · " }
                (uptime(visit, status))
            }
        } @else {
            p.lead {
                strong { (words.attention) ": " }
                @for (nth, (what, number, address)) in needs.iter().enumerate() {
                    @if nth > 0 { " · " }
                    a href=(address) { (what) " " (count(*number)) }
                }
                " · " (uptime(visit, status))
            }
        }
    }
}

fn uptime(visit: &Visit, status: &Status) -> String {
    let up = visit.now_ms().saturating_sub(status.started_at_ms);
    fill(visit.words().started, &[("age", &duration(visit.words(), up))])
}

fn tiles(visit: &Visit, status: &Status) -> Markup {
    let (words, engine) = (visit.words(), &status.engine);
    let oldest = match engine.oldest_undecided_at_ms {
        Some(at_ms) => fill(words.oldest_undecided, &[("age", &age(visit, at_ms).into_string())]),
        None => String::new(),
    };
    let nothing = || html! {};
    let connected =
        [("producers", &engine.producers as &dyn std::fmt::Display), ("consumers", &engine.consumers)];
    let connected = fill(words.producers_consumers, &connected);
    html! {
        ul.tiles {
            (tile(words.undecided, &count(engine.undecided), maud::PreEscaped(oldest), "/transactions", false))
            (tile(words.waiting_for_checker, &count(engine.waiting_for_checker), nothing(), "/transactions?show=waiting", engine.waiting_for_checker > 0))
            (tile(words.parked, &count(engine.parked), nothing(), "/transactions?show=parked", engine.parked > 0))
            (tile(words.dead_letters, &count(engine.dead_letters), nothing(), "/dead-letters", engine.dead_letters > 0))
            (tile(words.retrying, &count(engine.retrying), nothing(), "/retries", false))
            (tile(words.lag, &count(engine.lag), nothing(), "/groups", false))
            (tile(words.ready, &count(engine.ready()), nothing(), "/groups", false))
            (tile(words.with_consumers, &count(engine.leased), nothing(), "/clients", false))
            (tile(words.scheduled, &count(engine.scheduled), nothing(), "/scheduled", false))
            (tile(words.topics, &count(engine.topics), nothing(), "/topics", false))
            (tile(words.groups, &count(engine.groups), nothing(), "/groups", false))
            (tile(words.clients, &count(engine.producers + engine.consumers), html! { (connected) }, "/clients", false))
            (tile(words.alarms, &count(status.alarms.open()), nothing(), "/alarms", status.alarms.open() > 0))
            (tile(words.disk_free, &size(status.store.disk_free_bytes), nothing(), "/store", !engine.accepting))
        }
    }
}

fn tile(label: &str, number: &str, below: Markup, address: &str, warns: bool) -> Markup {
    html! {
        li { a.tile .warn[warns] href=(address) {
            span.label { (label) }
            strong { (number) }
            span.sub { (below) }
        } }
    }
}

fn charts(words: &'static Words, rates: &Rates) -> Markup {
    let a_second = |value: f64| fill(words.per_second, &[("n", &short(value))]);
    let milliseconds = |value: f64| fill(words.ms, &[("n", &short(value / 1000.0))]);
    let drawn = [
        (words.rate_in, rates.growth(|sample| sample.stored), &a_second as &dyn Fn(f64) -> String),
        (words.rate_out, rates.growth(|sample| sample.acked), &a_second),
        (words.rate_decided, rates.growth(|sample| sample.decided), &a_second),
        (words.latency_publish, rates.level(|sample| sample.publish_us), &milliseconds),
        (words.latency_decision, rates.level(|sample| sample.decision_us), &milliseconds),
        (words.latency_delivery, rates.level(|sample| sample.delivery_us), &milliseconds),
        (words.latency, rates.level(|sample| sample.sync_us), &milliseconds),
    ];
    html! {
        div.charts {
            @for (what, curve, unit) in drawn { (figure(words, what, curve.as_ref(), unit)) }
        }
        p.help { (fill(words.rates_help, &[("n", &SECONDS_PER_BAR)])) }
    }
}

fn figure(words: &'static Words, what: &str, curve: Option<&Curve>, unit: &dyn Fn(f64) -> String) -> Markup {
    html! {
        figure {
            @match curve {
                None => { figcaption { strong { (what) } } p.axis { (words.rates_wait) } },
                Some(curve) => {
                    @let (now, peak) = (unit(curve.now), unit(curve.peak));
                    figcaption {
                        strong { (what) }
                        span { (fill(words.now_word, &[("n", &now)])) " · " (fill(words.peak, &[("n", &peak)])) }
                    }
                    (bars(curve, &fill(words.chart_of, &[("what", &what), ("now", &now), ("peak", &peak)])))
                    p.axis { (words.chart_axis) }
                },
            }
        }
    }
}

/// A number with as many places as say something.
fn short(value: f64) -> String {
    if value >= 10.0 || value == 0.0 { count(value.round() as u64) } else { format!("{value:.1}") }
}
