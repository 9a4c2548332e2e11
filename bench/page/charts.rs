//! The charts of the page, each made if its results are there.

use serde_json::Value;

use crate::chart::{Bar, Line, bars, lines};
use crate::results::Results;
use crate::rows::{CONSUMERS, GROUPS, TOPICS};

/// Their files and their text.
pub(crate) fn all(results: &Results) -> Vec<(String, String)> {
    let charts = [
        ("throughput.svg", throughput(results)),
        ("latency.svg", latency(results)),
        ("growing-backlog.svg", growing_backlog(results)),
        ("cost-by-backlog.svg", cost_by_backlog(results)),
        ("counts.svg", counts(results)),
        ("beside-others.svg", beside_others(results)),
    ];
    charts.into_iter().filter_map(|(file, svg)| Some((file.to_owned(), svg?))).collect()
}

fn throughput(results: &Results) -> Option<String> {
    let rows = [
        ("publish, 64 outstanding", "publish-64", 65_000.0),
        ("publish, 1024 outstanding", "publish-1024", 150_000.0),
        ("send_half + commit, 64", "tx-64", 30_000.0),
        ("send_half + commit, 1024", "tx-1024", 75_000.0),
        ("consume + ack", "consume", 150_000.0),
        ("all at once", "steady", 50_000.0),
        ("into a growing backlog", "backlog", 50_000.0),
    ];
    let all: Vec<_> = rows
        .into_iter()
        .filter_map(|(label, row, target)| {
            let value = results.median(row, "/per_second")?;
            Some(Bar { label: label.to_owned(), value, target: Some(target) })
        })
        .collect();
    (!all.is_empty()).then(|| bars("Durable operations a second; the mark is the target", "/s", &all))
}

fn latency(results: &Results) -> Option<String> {
    let rows = [
        ("publish, 1 outstanding, p50", "publish-1", "p50", 0.40),
        ("send_half + commit, 1, p50", "tx-1", "p50", 0.80),
        ("publish, 64 outstanding, p99", "publish-64", "p99", 1.6),
        ("commit → handler, p50", "e2e", "p50", 2.0),
        ("commit → handler, p99", "e2e", "p99", 6.0),
        ("commit → handler, p99.9", "e2e", "p999", 20.0),
    ];
    let all: Vec<_> = rows
        .into_iter()
        .filter_map(|(label, row, percentile, target)| {
            let us = results.median(row, &format!("/latency_us/{percentile}"))?;
            Some(Bar { label: label.to_owned(), value: us / 1000.0, target: Some(target) })
        })
        .collect();
    (!all.is_empty()).then(|| bars("Latency; the mark is the target", " ms", &all))
}

fn growing_backlog(results: &Results) -> Option<String> {
    let values = results.list("backlog", "/intervals/per_second");
    let each = results.median("backlog", "/intervals/seconds_each")?;
    let labels: Vec<_> = (1..=values.len()).map(|index| format!("{:.0} s", index as f64 * each)).collect();
    let title = "Publishing while nobody consumes, messages a second over time";
    (values.len() > 1).then(|| lines(title, "", &labels, &[Line { label: "published a second", values }]))
}

fn cost_by_backlog(results: &Results) -> Option<String> {
    let points = results.last("curve", "/details/points")?.as_array()?;
    let of = |name: &str| -> Option<Vec<f64>> {
        points.iter().map(|point| point[name]["cpu_us_per_operation"].as_f64()).collect()
    };
    let labels: Vec<_> =
        points.iter().filter_map(|point| Some(crate::rows::number(point["backlog"].as_f64()?))).collect();
    let all = [
        Line { label: "publish", values: of("publish")? },
        Line { label: "consume + ack", values: of("consume")? },
    ];
    Some(lines("CPU of the broker for a message, by the size of the backlog", " µs", &labels, &all))
}

fn counts(results: &Results) -> Option<String> {
    let of = |label, rows: [&str; 4]| {
        let values: Option<Vec<f64>> = rows.iter().map(|row| results.median(row, "/per_second")).collect();
        Some(Line { label, values: values? })
    };
    let all: Vec<_> = [
        of("groups: deliveries", GROUPS),
        of("topics: publish", TOPICS),
        of("consumers: consume", CONSUMERS),
    ]
    .into_iter()
    .flatten()
    .collect();
    let labels: Vec<_> = ["1", "10", "100", "1,000"].map(str::to_owned).into();
    (!all.is_empty())
        .then(|| lines("Operations a second by the number of groups, topics, consumers", "", &labels, &all))
}

fn beside_others(results: &Results) -> Option<String> {
    let rows = results.last("compare", "/summary").and_then(Value::as_array)?;
    let all: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let (label, value) = (row["system"].as_str()?.to_owned(), row["per_second"].as_f64()?);
            Some(Bar { label, value, target: None })
        })
        .collect();
    Some(bars("Durable publishing, 64 outstanding, 1 KiB bodies", "/s", &all))
}
