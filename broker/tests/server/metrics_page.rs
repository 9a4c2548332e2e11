//! docs/metrics.md is made from what a broker says that has everything once, and the alert rules and the dashboard in
//! docker/ name nothing that is not on that page: none of them can drift from the code.
//!
//! `UPDATE_DOCS=1 cargo test -p escrow-broker --test server metrics_page` writes the page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use escrow_broker::broker::BrokerConfig;
use escrow_broker::metrics::Metrics;
use escrow_protocol::v1::Decision;
use escrow_protocol::v1::producer_result::Result as Outcome;
use escrow_storage::Observer;

use crate::harness::*;

const HEAD: &str = "\
# Metrics

What the HTTP port says at `/metrics`, in Prometheus' text format. A test makes this page from a running broker, and holds
the alert rules ([alerts.yml](../docker/alerts.yml)) and the Grafana dashboard
([escrow.json](../docker/grafana/dashboards/escrow.json)) to the names on it.

Names end in their unit. Labels are topics, groups, reasons and the release, never an id or a key. Counters begin at zero when the broker
starts. Only the first few thousand topics and groups have gauges of their own. A histogram `x` is `x_bucket`, `x_sum` and
`x_count`.

| Metric | Kind | Labels | What it says |
|---|---|---|---|
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a broker says in which every metric has a value.
async fn full_scrape() -> String {
    // A store in memory has no journal to measure: what one on disk says is said here.
    let recorder = Arc::new(Metrics::new());
    Observer::committed(&*recorder, 1, Duration::from_micros(10), Duration::from_millis(1), Duration::ZERO);
    recorder.spilled(1, Duration::from_millis(5));
    let harness = Harness::start_with(BrokerConfig { recorder: Some(recorder), ..config() }).await;
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    let mut producer = harness.producer_session("orders", &["orders"]).await;
    let Outcome::Prepared(half) = producer.run(send_half(1, vec![message("order-paid", "x")])).await else {
        panic!("a half message is stored");
    };
    producer.run(decide(2, half.transaction_id, Decision::Commit)).await;
    consumer.credit(1).await;
    consumer.deliveries(1).await;
    let refused = escrow_protocol::v1::PublishRequest { message: Some(message("no spaces", "x")) };
    harness.producer().publish(refused).await.unwrap_err();
    http_get(harness.broker.http_addr(), "/metrics").await.1
}

/// A metric as the text says it.
#[derive(Default)]
struct Shown {
    help: String,
    kind: String,
    labels: BTreeSet<String>,
}

fn parse(text: &str) -> BTreeMap<String, Shown> {
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(line) = line.strip_prefix("# HELP ") {
            let (name, help) = line.split_once(' ').unwrap();
            shown.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            shown.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (name, labels) = line.split_once('{').unwrap_or((line.split_once(' ').unwrap().0, ""));
            let family = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let name = family.filter(|family| shown.contains_key(*family)).unwrap_or(name);
            let metric = shown.get_mut(name).unwrap_or_else(|| panic!("{name} does not say what it is"));
            let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels).split(',');
            let names = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            metric.labels.extend(names.filter(|name| name != "le"));
        }
    }
    shown
}

fn page_of(shown: &BTreeMap<String, Shown>) -> String {
    let mut page = HEAD.to_owned();
    for (name, Shown { help, kind, labels }) in shown {
        assert!(!help.is_empty() && !kind.is_empty(), "{name} does not say what it is");
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        page += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    page
}

#[tokio::test]
async fn the_page_says_what_the_broker_says() {
    let page = page_of(&parse(&full_scrape().await));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join("docs/metrics.md"), &page).unwrap();
        return;
    }
    assert_eq!(
        read("docs/metrics.md"),
        page,
        "run UPDATE_DOCS=1 cargo test -p escrow-broker --test server metrics_page"
    );
}

/// Every word of `text` that is the name of a metric of Escrow.
fn named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("escrow_")).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_name_only_what_there_is() {
    let known = named_in(&read("docs/metrics.md"));
    for path in ["docker/alerts.yml", "docker/grafana/dashboards/escrow.json"] {
        let named = named_in(&read(path));
        assert!(named.len() > 5, "{path} names nearly nothing");
        for name in named {
            let family = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(known.contains(family), "{path} names {name}, which is not in docs/metrics.md");
        }
    }
}

#[test]
fn every_alert_leads_to_a_page_of_the_runbook() {
    let rules = read("docker/alerts.yml");
    let runbook = read("docs/operating.md");
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: BTreeSet<_> =
        headings.map(|heading| heading.to_lowercase().replace(' ', "-").replace('?', "")).collect();
    let links: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    let alerts = rules.split("- alert: ").skip(1);
    let without: Vec<_> = alerts.filter(|alert| alert.matches("runbook: ").count() != 1).collect();
    assert!(without.is_empty(), "these alerts lead nowhere: {without:?}");
    for link in links {
        let (_, anchor) = link.trim_matches('"').split_once('#').unwrap();
        assert!(anchors.contains(anchor), "{link} leads nowhere; there are {anchors:?}");
    }
}
