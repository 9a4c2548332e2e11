//! The rows of the page: each target, what was measured, and whether it was met.

use crate::results::Results;

/// A bound on one number.
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One number with its target.
struct Row {
    scenario: &'static str,
    target: String,
    measured: String,
    /// `None`: not measured.
    met: Option<bool>,
    note: String,
}

impl Row {
    fn new(scenario: &'static str, unit: &str, bound: Bound, value: Option<f64>) -> Self {
        let (sign, limit) = match bound {
            Bound::AtLeast(limit) => ("≥", limit),
            Bound::AtMost(limit) => ("≤", limit),
        };
        let met = value.map(|value| match bound {
            Bound::AtLeast(limit) => value >= limit,
            Bound::AtMost(limit) => value <= limit,
        });
        let measured = value.map_or("not measured".to_owned(), |value| format!("{}{unit}", number(value)));
        Self {
            scenario,
            target: format!("{sign} {}{unit}", number(limit)),
            measured,
            met,
            note: String::new(),
        }
    }

    fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    fn line(&self) -> String {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        format!("| {} | {} | {} | {met} | {} |\n", self.scenario, self.target, self.measured, self.note)
    }
}

/// For people: three digits, thousands apart.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        return thousands(value.round() as i64);
    }
    let text = if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// The table of targets.
pub(crate) fn targets(results: &Results) -> String {
    let head = "| Scenario | Target | Measured | Met | CPU of the broker, ratio to the roofline, rounds |\n|---|---|---|---|---|\n";
    let rows: Vec<_> = throughput(results)
        .into_iter()
        .chain(latency(results))
        .chain(backlog(results))
        .chain(undecided(results))
        .chain(due(results))
        .chain(rest(results))
        .collect();
    let lines: String = rows.iter().map(Row::line).collect();
    format!("{head}{lines}")
}

fn throughput(results: &Results) -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    let speed = |row: &str| results.median(row, "/per_second");
    let row = |scenario, file: &str, least| {
        Row::new(scenario, "/s", AtLeast(least), speed(file)).note(beside(results, file))
    };
    vec![
        row("publish, 64 outstanding", "publish-64", 65_000.0),
        row("publish, 1024 outstanding", "publish-1024", 150_000.0),
        row("send_half + commit, 64 outstanding", "tx-64", 30_000.0),
        row("send_half + commit, 1024 outstanding", "tx-1024", 75_000.0),
        Row::new(
            "broker CPU for one transaction, 64 outstanding",
            " µs",
            AtMost(40.0),
            results.median("tx-64", "/cpu_us_per_operation"),
        ),
        row("consume + ack of a ready backlog, one group", "consume", 150_000.0),
        row("transactions produced, delivered and acked at once", "steady", 50_000.0),
    ]
}

fn latency(results: &Results) -> Vec<Row> {
    use Bound::AtMost;
    let ms = |row: &str, percentile: &str| {
        results.median(row, &format!("/latency_us/{percentile}")).map(|us| us / 1000.0)
    };
    let row = |scenario, file: &str, percentile: &str, most| {
        Row::new(scenario, " ms", AtMost(most), ms(file, percentile)).note(beside(results, file))
    };
    vec![
        row("one outstanding: publish p50", "publish-1", "p50", 0.40),
        row("one outstanding: send_half + commit p50", "tx-1", "p50", 0.80),
        row("publish p99, 64 outstanding", "publish-64", "p99", 1.6),
        row("commit called → handler called, 10,000 tx/s, p50", "e2e", "p50", 2.0),
        row("… p99", "e2e", "p99", 6.0),
        row("… p99.9", "e2e", "p999", 20.0),
    ]
}

fn backlog(results: &Results) -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    let seconds = results.median("backlog", "/seconds").map_or(String::new(), |s| format!("{} s", number(s)));
    vec![
        Row::new(
            "nobody consumes: publish into a growing backlog",
            "/s",
            AtLeast(50_000.0),
            results.median("backlog", "/per_second"),
        )
        .note([beside(results, "backlog"), seconds].join(", ")),
        Row::new(
            "… its slowest acknowledgement",
            " ms",
            AtMost(150.0),
            results.median("backlog", "/latency_us/max").map(|us| us / 1000.0),
        ),
        Row::new(
            "bytes written for a byte of committed and consumed body",
            "",
            AtMost(2.0),
            results.median("steady", "/details/bytes_written_per_body_byte"),
        ),
        Row::new(
            "backlog 10⁴ → 10⁷: dearest publish over cheapest, CPU",
            "",
            AtMost(1.2),
            results.median("curve", "/details/publish_cost_ratio"),
        )
        .note(sizes(results)),
        Row::new(
            "… dearest consume over cheapest, CPU",
            "",
            AtMost(1.2),
            results.median("curve", "/details/consume_cost_ratio"),
        ),
    ]
}

fn sizes(results: &Results) -> String {
    let points = results.last("curve", "/details/points").and_then(|points| points.as_array());
    let largest = points.and_then(|points| points.last()?["backlog"].as_f64());
    largest.map_or(String::new(), |largest| format!("up to {}", number(largest)))
}

fn undecided(results: &Results) -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    let detail = |name: &str| results.median("undecided", &format!("/details/{name}"));
    let many = detail("many").map_or(String::new(), |many| format!("{} undecided", number(many)));
    vec![
        Row::new(
            "a million undecided: resident memory",
            " MB",
            AtMost(200.0),
            detail("rss_bytes").map(|bytes| bytes / 1e6),
        )
        .note(many),
        Row::new("… decisions, of their speed with few", "", AtLeast(0.8), detail("decisions_ratio")),
        Row::new("… CPU of a check, of that at ten thousand", "", AtMost(1.2), detail("check_cpu_ratio")),
        Row::new(
            "… bytes of the journal for a check",
            " B",
            AtMost(1024.0),
            detail("bytes_appended_per_check"),
        )
        .note("a body has 1,024: less is none".into()),
        Row::new(
            "… longest pause felt by a publish beside it",
            " ms",
            AtMost(20.0),
            detail("probe_latency_us/max").map(|us| us / 1000.0),
        ),
    ]
}

fn due(results: &Results) -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    let mut rows = Vec::new();
    for (file, speed, late) in [
        ("retries", "retries falling due", "… late at p99"),
        ("scheduled", "scheduled messages falling due", "… late at p99"),
    ] {
        // Of the thirty thousand that fall due in a second, a hair less counts as all: the last comes a little late.
        let per_second = results.median(file, "/per_second");
        let p99 = results.median(file, "/latency_us/p99").map(|us| us / 1000.0);
        rows.push(Row::new(speed, "/s", AtLeast(29_700.0), per_second).note(beside(results, file)));
        rows.push(Row::new(late, " ms", AtMost(20.0), p99));
    }
    rows
}

fn rest(results: &Results) -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    let speed = |row: &str| results.median(row, "/per_second");
    // The worst step of a curve: what is left of the speed of the first point.
    let kept = |files: &[&str]| {
        let speeds: Option<Vec<f64>> = files.iter().map(|file| speed(file)).collect();
        let speeds = speeds?;
        let steps = speeds.windows(2).map(|pair| pair[1] / pair[0].max(f64::EPSILON));
        steps.reduce(f64::min)
    };
    let large = results.median("body-1048576", "/body_bytes_per_second");
    let disk = results.median("body-1048576", "/roofline/fdatasync_bytes_per_second");
    let restart = |name: &str| results.median("restart", &format!("/details/{name}"));
    let history = restart("consumed_seconds").zip(restart("empty_seconds")).map(|(used, empty)| used - empty);
    vec![
        Row::new("1 → 1,000 groups: worst step, deliveries/s", "", AtLeast(0.5), kept(&GROUPS))
            .note("a step is times ten".into()),
        Row::new("1 → 1,000 topics: worst step", "", AtLeast(0.5), kept(&TOPICS)),
        Row::new("1 → 1,000 consumers: worst step", "", AtLeast(0.5), kept(&CONSUMERS)),
        Row::new(
            "1 MiB bodies, of fdatasync bandwidth",
            "",
            AtLeast(0.5),
            large.zip(disk).map(|(large, disk)| large / disk.max(1.0)),
        ),
        Row::new(
            "restart after kill -9, for a GB of live bodies",
            " s",
            AtMost(0.5),
            restart("seconds_per_gigabyte"),
        ),
        Row::new("… for history that was consumed", " s", AtMost(0.1), history)
            .note("beyond an empty restart".into()),
        Row::new(
            "idle: resident memory",
            " MB",
            AtMost(30.0),
            results.median("idle", "/rss_bytes/broker").map(|bytes| bytes / 1e6),
        ),
        Row::new("idle: CPU", " % of a core", AtMost(0.5), results.median("idle", "/broker/cpu_percent")),
    ]
}

pub(crate) const GROUPS: [&str; 4] = ["groups-1", "groups-10", "groups-100", "groups-1000"];
pub(crate) const TOPICS: [&str; 4] = ["topics-1", "topics-10", "topics-100", "topics-1000"];
pub(crate) const CONSUMERS: [&str; 4] = ["consumers-1", "consumers-10", "consumers-100", "consumers-1000"];

/// CPU, ratio and rounds of a row.
fn beside(results: &Results, file: &str) -> String {
    let cpu = results.median(file, "/cpu_us_per_operation").map(|us| format!("{} µs", number(us)));
    let ratio =
        results.median(file, "/roofline/ratio").map(|ratio| format!("{} of the roofline", number(ratio)));
    let rounds = results.rounds(file);
    let rounds = (rounds > 0).then(|| format!("{rounds} rounds"));
    cpu.into_iter().chain(ratio).chain(rounds).collect::<Vec<_>>().join(", ")
}

/// What the generator, the wire and the disk can do without a broker.
pub(crate) fn ceilings(results: &Results) -> String {
    let mut text = String::from(
        "\n### Without a broker\n\n| Measured | 64 outstanding | 1024 outstanding |\n|---|---|---|\n",
    );
    let cell = |row: &str, pointer: &str, unit: &str| {
        results
            .median(row, pointer)
            .map_or("not measured".to_owned(), |value| format!("{}{unit}", number(value)))
    };
    for (name, pointer, unit) in [
        ("wire alone: a server that answers at once", "/roofline/wire_per_second", "/s"),
        ("wire and disk: it appends and syncs before it answers", "/roofline/wire_and_disk_per_second", "/s"),
        ("… its p99", "/roofline/wire_and_disk_latency_us/p99", " µs"),
        ("fdatasync of 4 KiB appended, p50", "/roofline/fdatasync_append_us/p50", " µs"),
        ("fdatasync of 4 KiB over what was there, p50", "/roofline/fdatasync_overwrite_us/p50", " µs"),
        ("fdatasync of 1 MiB at a time", "/roofline/fdatasync_bytes_per_second", " B/s"),
    ] {
        let (few, many) = (cell("publish-64", pointer, unit), cell("publish-1024", pointer, unit));
        text.push_str(&format!("| publish: {name} | {few} | {many} |\n"));
    }
    for (name, pointer) in
        [("wire alone", "/roofline/wire_per_second"), ("wire and disk", "/roofline/wire_and_disk_per_second")]
    {
        let (few, many) = (cell("tx-64", pointer, "/s"), cell("tx-1024", pointer, "/s"));
        text.push_str(&format!("| transactions: {name} | {few} | {many} |\n"));
    }
    text
}

/// Escrow beside others.
pub(crate) fn comparison(results: &Results) -> String {
    let Some(rows) = results.last("compare", "/summary").and_then(|rows| rows.as_array()) else {
        return String::new();
    };
    let mut text = String::from(
        "\n### Beside others\n\nDurable publishing, 64 outstanding, 1 KiB bodies, in turns on the same disk.\n\n\
         | | per second | p50 | p99 | CPU for each | Escrow is |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let value = |name: &str| row[name].as_f64().map_or(String::new(), number);
        text.push_str(&format!(
            "| {} | {} | {} µs | {} µs | {} µs | {} × |\n",
            row["system"].as_str().unwrap_or_default(),
            value("per_second"),
            value("p50_us"),
            value("p99_us"),
            value("cpu_us_per_message"),
            value("escrow_ratio")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_whether_its_target_was_met() {
        let slow =
            Results::of(&[("publish-64", json!({ "per_second": 64_999.4, "latency_us": { "p99": 1600 } }))]);
        let table = targets(&slow);
        assert!(
            table.contains("| publish, 64 outstanding | ≥ 65,000/s | 64,999/s | **no** | 1 rounds |"),
            "{table}"
        );
        assert!(table.contains("| publish p99, 64 outstanding | ≤ 1.6 ms | 1.6 ms | yes |"), "{table}");
        assert!(table.contains("| publish, 1024 outstanding | ≥ 150,000/s | not measured |  |"), "{table}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0.398, 12.34, 150_000.2, 0.5, 1.0, -1234.0].map(number);
        assert_eq!(numbers, ["0.4", "12.3", "150,000", "0.5", "1", "-1,234"]);
    }

    #[test]
    fn the_worst_step_of_a_curve_counts() {
        let speeds = GROUPS.iter().zip([100.0, 90.0, 30.0, 29.0]);
        let rows: Vec<_> = speeds.map(|(row, speed)| (*row, json!({ "per_second": speed }))).collect();
        let table = targets(&Results::of(&rows));
        assert!(
            table.contains("| 1 → 1,000 groups: worst step, deliveries/s | ≥ 0.5 | 0.33 | **no** |"),
            "{table}"
        );
    }
}
