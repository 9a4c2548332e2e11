//! docs/reliability.md shows what the rigs found: its table is made from docs/reliability/results.jsonl, to which
//! `ESCROW_RECORD=docs/reliability/results.jsonl ./test.sh --rig …` appends, and every rig has its chapter.
//!
//! `UPDATE_DOCS=1 cargo test -p escrow-tests --test reliability` writes the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

const BEGIN: &str = "<!-- results: made from results.jsonl -->\n";
const END: &str = "<!-- end of results -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of all rigs, from the table in test.sh.
fn rigs() -> Vec<String> {
    let script = read("test.sh");
    let (_, table) = script.split_once("RIGS=\"\n").expect("test.sh lists the rigs");
    let (table, _) = table.split_once("\n\"").expect("the list ends");
    table.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// All runs of each rig.
fn results() -> BTreeMap<String, Vec<Value>> {
    let mut results: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in read("docs/reliability/results.jsonl").lines() {
        let run: Value = serde_json::from_str(line).expect("a run is a line of JSON");
        results.entry(text(&run, "rig")).or_default().push(run);
    }
    results
}

fn number(run: &Value, field: &str) -> u64 {
    run[field].as_u64().unwrap_or_else(|| panic!("{field} is missing: {run}"))
}

fn text(run: &Value, field: &str) -> String {
    run[field].as_str().unwrap_or_else(|| panic!("{field} is missing: {run}")).to_owned()
}

/// Thousands apart: `100 000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push('\u{a0}');
        }
        out.push(digit);
    }
    out
}

/// The day of a Unix time: `2026-11-20`.
fn day_of(unix_seconds: u64) -> String {
    let seconds = i64::try_from(unix_seconds).expect("a time of this age");
    jiff::Timestamp::from_second(seconds).expect("a time of this age").strftime("%F").to_string()
}

fn time_of(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// What zero failures in `trials` prove with 95 % confidence: the rule of three.
fn bound(trials: u64, failures: u64) -> String {
    if failures > 0 || trials <= 3 { "–".into() } else { format!("< {:.3} %", 300.0 / trials as f64) }
}

/// The format of the data directory that a run was of. Runs before there was a second one do not say.
fn format_of(run: &Value) -> u64 {
    run["format"].as_u64().unwrap_or(1)
}

/// The runs of the format that is written now, and those before.
fn tables(results: &BTreeMap<String, Vec<Value>>) -> String {
    let now = u64::from(escrow_storage::FORMAT);
    let runs = results.values().flatten();
    let machines: BTreeSet<_> = runs.map(|run| text(run, "machine")).collect();
    format!(
        "Machines: {}.\n\n{}\n### With an older format of the data directory\n\n{}",
        machines.into_iter().collect::<Vec<_>>().join("; "),
        table(results, |run| format_of(run) == now),
        table(results, |run| format_of(run) < now)
    )
}

/// One line for each rig: all its runs that are wanted together, and what the largest of them came across.
fn table(results: &BTreeMap<String, Vec<Value>>, is_wanted: impl Fn(&Value) -> bool) -> String {
    let mut out = String::from(
        "| Rig | Trials | Failures | So below | Runs | Took | Last on | Commits | What its largest run met |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for rig in rigs() {
        let runs: Vec<_> = results.get(&rig).into_iter().flatten().filter(|run| is_wanted(run)).collect();
        if runs.is_empty() {
            continue;
        }
        let sum = |field| runs.iter().map(|run| number(run, field)).sum::<u64>();
        let (trials, failures) = (sum("trials"), sum("failures"));
        let largest = runs.iter().max_by_key(|run| number(run, "trials")).expect("a rig that is listed ran");
        let last = runs.iter().map(|run| number(run, "at")).max().expect("a rig that is listed ran");
        let commits: BTreeSet<_> = runs.iter().map(|run| text(run, "commit")).collect();
        out += &format!(
            "| `{rig}` | {} {} | {failures} | {} | {} | {} | {} | {} | {} |\n",
            grouped(trials),
            text(largest, "unit"),
            bound(trials, failures),
            runs.len(),
            time_of(sum("seconds")),
            day_of(last),
            commits.into_iter().collect::<Vec<_>>().join(", "),
            text(largest, "seen").replace('|', "/"),
        );
    }
    out
}

#[test]
fn the_page_shows_what_was_recorded() {
    let path = root().join("docs/reliability.md");
    let page = read("docs/reliability.md");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (_, after) = rest.split_once(END).expect("the place ends");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", tables(&results()));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &fresh).expect("the page can be written");
        return;
    }
    assert!(
        page == fresh,
        "the table of docs/reliability.md is not what results.jsonl says; \
         run UPDATE_DOCS=1 cargo test -p escrow-tests --test reliability"
    );
}

#[test]
fn every_rig_has_its_chapter_and_was_run() {
    let page = read("docs/reliability.md");
    let results = results();
    for rig in rigs() {
        assert!(page.contains(&format!("### `{rig}`")), "docs/reliability.md does not say what `{rig}` does");
        assert!(
            results.contains_key(&rig),
            "no run of `{rig}` is recorded in docs/reliability/results.jsonl"
        );
    }
}
