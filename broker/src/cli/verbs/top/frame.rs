//! What `escrow top` shows: lines of styled pieces, made from what was read. Pure: knows no terminal.

use escrow_protocol::v1;

use super::reading::{History, Latencies, Quantiles, Rates};
use crate::cli::output::{Bytes, Cell, Count, Ms, Time};

/// How a piece looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Dim,
    Strong,
    /// Somebody should look.
    Warning,
    /// Somebody should act.
    Alert,
    /// The heading of the table, and of the column it is sorted by.
    Heading,
    Chosen,
}

/// A line, piece by piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<(Style, String)>);

impl Line {
    fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// The text alone.
    pub(super) fn text(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// At most `width` letters of it.
    pub(super) fn cut(mut self, width: usize) -> Self {
        let mut left = width;
        for (_, text) in &mut self.0 {
            let letters = text.chars().count();
            if letters > left {
                *text = text.chars().take(left).collect();
            }
            left = left.saturating_sub(letters);
        }
        self
    }
}

/// What the groups are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum SortBy {
    /// Messages yet to be finished.
    #[default]
    Lag,
    /// The age of the oldest of them.
    Age,
    /// Messages that wait for their next attempt.
    Retrying,
    /// Dead letters.
    Dead,
    /// Acks a second.
    Acks,
    /// The name.
    Name,
}

/// What is shown besides what was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlook {
    /// The broker.
    pub(super) url: String,
    /// What the groups are sorted by.
    pub(super) sort: SortBy,
    /// Groups that are scrolled past.
    pub(super) skipped: usize,
    /// Why the last look failed.
    pub(super) fault: Option<String>,
    /// How the keys are called, and how often it looks; empty where nobody can press one.
    pub(super) keys: String,
}

const LABEL: usize = 14;

/// The frame: at most `height` lines (`None`: as many as there are).
pub(super) fn frame(history: &History, outlook: &Outlook, height: Option<usize>) -> Vec<Line> {
    let Some(look) = history.last() else {
        let words = outlook.fault.clone().unwrap_or_else(|| format!("asking {} …", outlook.url));
        return vec![
            Line::default().with(if outlook.fault.is_some() { Style::Alert } else { Style::Dim }, words),
        ];
    };
    let mut lines = vec![head(&look.status, outlook)];
    lines.extend(outlook.fault.iter().map(|fault| Line::default().with(Style::Alert, fault.clone())));
    lines.push(transactions(&look.status));
    lines.push(messages(&look.status));
    lines.push(clients(&look.status));
    lines.push(disk(&look.status));
    lines.push(Line::default());
    lines.extend(numbers(&history.rates(), &history.latencies()));
    lines.push(Line::default());
    let foot = (!outlook.keys.is_empty()).then(|| Line::default().with(Style::Dim, outlook.keys.clone()));
    let room = height.map(|height| height.saturating_sub(lines.len() + usize::from(foot.is_some())));
    lines.extend(groups(history, outlook, room));
    lines.extend(foot);
    lines
}

/// How many groups there are to scroll through.
pub(super) fn group_count(history: &History) -> usize {
    history.last().map_or(0, |look| look.groups.len())
}

fn head(status: &v1::GetStatusResponse, outlook: &Outlook) -> Line {
    let up = shown(&Ms::from_wire((status.now_ms - status.started_at_ms) / 1000 * 1000));
    let now = Time(status.now_ms / 1000 * 1000).text().unwrap_or_default().replace(".000", "");
    Line::default()
        .with(Style::Strong, format!("escrow {}", status.version))
        .with(Style::Plain, format!("  {}  up {up}  {now}", outlook.url))
}

fn label(text: &str) -> Line {
    Line::default().with(Style::Dim, format!("{text:<LABEL$}"))
}

/// A number with its name; one that is not zero has this style.
fn number(line: Line, name: &str, value: u64, style: Style) -> Line {
    let style = if value == 0 { Style::Plain } else { style };
    line.with(Style::Plain, format!("{name} ")).with(style, format!("{}  ", shown(&Count(value))))
}

fn transactions(status: &v1::GetStatusResponse) -> Line {
    let mut line = number(label("transactions"), "undecided", status.undecided, Style::Strong);
    if status.oldest_undecided_at_ms > 0 {
        let age = Ms::from_wire((status.now_ms - status.oldest_undecided_at_ms) / 1000 * 1000);
        line = line.with(Style::Plain, format!("oldest {}  ", shown(&age)));
    }
    let line = number(line, "waiting for a checker", status.waiting_for_checker, Style::Warning);
    number(line, "parked", status.parked, Style::Alert)
}

fn messages(status: &v1::GetStatusResponse) -> Line {
    let line = number(label("messages"), "lag", status.lag, Style::Strong);
    let line = number(line, "ready", status.ready, Style::Strong);
    let line = number(line, "leased", status.leased, Style::Strong);
    let line = number(line, "retrying", status.retrying, Style::Warning);
    let line = number(line, "scheduled", status.scheduled, Style::Strong);
    number(line, "dead", status.dead_letters, Style::Alert)
}

fn clients(status: &v1::GetStatusResponse) -> Line {
    let line = number(label("clients"), "producers", status.producers, Style::Strong);
    let line = number(line, "consumers", status.consumers, Style::Strong);
    let line = number(line, "topics", status.topics, Style::Plain);
    let line = number(line, "groups", status.groups, Style::Plain);
    number(line, "open alarms", status.alarms_open, Style::Alert)
}

fn disk(status: &v1::GetStatusResponse) -> Line {
    let store = status.store.clone().unwrap_or_default();
    let free = format!("{} free", shown(&Bytes(store.disk_free_bytes)));
    let line = match status.accepting {
        true => label("disk").with(Style::Plain, free),
        false => label("disk").with(Style::Alert, format!("{free}: NEW MESSAGES ARE REFUSED")),
    };
    let rest = format!(
        "  journal {}  overlay {}  table {}",
        shown(&Bytes(store.journal_bytes)),
        shown(&Bytes(store.overlay_bytes)),
        shown(&Bytes(store.table_bytes)),
    );
    let line = line.with(Style::Plain, rest);
    match store.corrupt_records {
        0 => line,
        damaged => line.with(Style::Alert, format!("  {} DAMAGED RECORDS", shown(&Count(damaged)))),
    }
}

/// Rates with their curves on the left, latencies on the right.
fn numbers(rates: &[Rates], latencies: &Latencies) -> Vec<Line> {
    const CURVE: usize = 30;
    let head = format!(
        "{:<LABEL$}{:>12}  {:<CURVE$}  {:<10}{:>9}{:>9}",
        "", "per second", "", "latency", "50 %", "99 %"
    );
    let mut lines = vec![Line::default().with(Style::Dim, head)];
    type OneRate = (&'static str, fn(&Rates) -> f64, Style);
    const RATES: [OneRate; 6] = [
        ("stored", |rates| rates.stored, Style::Strong),
        ("decided", |rates| rates.decided, Style::Strong),
        ("delivered", |rates| rates.delivered, Style::Strong),
        ("acked", |rates| rates.acked, Style::Strong),
        ("failed", |rates| rates.failed, Style::Warning),
        ("buried", |rates| rates.buried, Style::Alert),
    ];
    let times = [
        ("store", latencies.publish),
        ("decide", latencies.decision),
        ("deliver", latencies.delivery),
        ("commit", latencies.commit),
    ];
    for (nth, (name, of, style)) in RATES.iter().enumerate() {
        let values: Vec<f64> = rates.iter().map(of).collect();
        let now = values.last().copied();
        let style = if now.is_some_and(|now| now > 0.0) { *style } else { Style::Plain };
        let recent = &values[values.len().saturating_sub(CURVE)..];
        let mut line = label(name)
            .with(style, format!("{:>12}", now.map_or_else(|| "-".to_owned(), rate)))
            .with(Style::Dim, format!("  {:<CURVE$}  ", curve(recent)));
        if let Some((name, quantiles)) = times.get(nth) {
            let [middle, high] = match quantiles {
                Some(Quantiles { p50_us, p99_us }) => [micros(*p50_us), micros(*p99_us)],
                None => ["-".to_owned(), "-".to_owned()],
            };
            line = line
                .with(Style::Dim, format!("{name:<10}"))
                .with(Style::Plain, format!("{middle:>9}{high:>9}"));
        }
        lines.push(line);
    }
    lines
}

/// Eight heights, by the highest of those shown.
fn curve(values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().fold(0.0, f64::max);
    let height = |value: &f64| match highest > 0.0 {
        true => HEIGHTS[((value / highest * 7.0).round() as usize).min(7)],
        false => HEIGHTS[0],
    };
    values.iter().map(height).collect()
}

fn rate(per_second: f64) -> String {
    match per_second {
        few if few > 0.0 && few < 100.0 => format!("{few:.1}"),
        many => shown(&Count(many.round() as u64)),
    }
}

fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

fn shown(cell: &impl Cell) -> String {
    cell.shown().into_line()
}

/// A group as the table has it.
struct Row<'a> {
    name: &'a str,
    lag: u64,
    oldest_ms: u64,
    group: &'a v1::Group,
    acks: Option<f64>,
    nacks: Option<f64>,
}

fn rows<'a>(history: &'a History, sort: SortBy) -> Vec<Row<'a>> {
    let rates = history.group_rates();
    let groups = history.last().map(|look| look.groups.as_slice()).unwrap_or_default();
    let mut rows: Vec<Row<'a>> = groups
        .iter()
        .map(|group| {
            let rate = rates.get(group.name.as_str());
            let oldest = group.positions.iter().map(|position| position.lag_ms).max().unwrap_or(0);
            Row {
                name: &group.name,
                lag: group.positions.iter().map(|position| position.lag).sum(),
                oldest_ms: u64::try_from(oldest).unwrap_or(0),
                group,
                acks: rate.map(|rate| rate.0),
                nacks: rate.map(|rate| rate.1),
            }
        })
        .collect();
    let weight = |row: &Row<'_>| match sort {
        SortBy::Lag => row.lag,
        SortBy::Age => row.oldest_ms,
        SortBy::Retrying => row.group.retrying,
        SortBy::Dead => row.group.dead_letters,
        SortBy::Acks => row.acks.unwrap_or(0.0).round() as u64,
        SortBy::Name => 0,
    };
    rows.sort_by(|one, other| weight(other).cmp(&weight(one)).then_with(|| one.name.cmp(other.name)));
    rows
}

/// The table of groups, `room` lines at most, its heading among them.
fn groups(history: &History, outlook: &Outlook, room: Option<usize>) -> Vec<Line> {
    let rows = rows(history, outlook.sort);
    let widest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let name_width = widest.clamp(5, 40);
    let mut lines = vec![heading(name_width, outlook.sort)];
    if rows.is_empty() {
        lines.push(Line::default().with(Style::Dim, "no group: `escrow sub GROUP --topic TOPIC` makes one"));
        return lines;
    }
    let shown_max = room.map_or(rows.len(), |room| room.saturating_sub(1));
    let skipped = outlook.skipped.min(rows.len().saturating_sub(shown_max.max(1)));
    let below = rows.len() - skipped - shown_max.min(rows.len() - skipped);
    let is_cut = skipped > 0 || below > 0;
    let shown_max = if is_cut { shown_max.saturating_sub(1) } else { shown_max };
    lines.extend(rows.iter().skip(skipped).take(shown_max).map(|row| row_line(row, name_width)));
    if is_cut {
        let (first, last) = (skipped + 1, (skipped + shown_max).min(rows.len()));
        lines.push(Line::default().with(Style::Dim, format!("groups {first} to {last} of {}", rows.len())));
    } else if history.last().is_some_and(|look| look.more_groups) {
        lines.push(
            Line::default().with(Style::Dim, format!("only the first {} groups are shown", rows.len())),
        );
    }
    lines
}

fn heading(name_width: usize, sort: SortBy) -> Line {
    let style = |by: SortBy| if by == sort { Style::Chosen } else { Style::Heading };
    Line::default()
        .with(style(SortBy::Name), format!("{:<name_width$}", "GROUP"))
        .with(style(SortBy::Lag), format!("{:>11}", "LAG"))
        .with(style(SortBy::Age), format!("{:>9}", "OLDEST"))
        .with(Style::Heading, format!("{:>8}", "LEASED"))
        .with(style(SortBy::Retrying), format!("{:>10}", "RETRYING"))
        .with(style(SortBy::Dead), format!("{:>8}", "DEAD"))
        .with(Style::Heading, format!("{:>7}", "CONS"))
        .with(style(SortBy::Acks), format!("{:>9}", "ACK/S"))
        .with(Style::Heading, format!("{:>9}  ", "NACK/S"))
        .with(Style::Heading, "STATE")
}

fn row_line(row: &Row<'_>, name_width: usize) -> Line {
    let group = row.group;
    let name: String = match row.name.chars().count() > name_width {
        true => row.name.chars().take(name_width - 1).chain(['…']).collect(),
        false => row.name.to_owned(),
    };
    let age = if row.lag == 0 { "-".to_owned() } else { coarse(row.oldest_ms) };
    let marked = |value: u64, style: Style| if value == 0 { Style::Plain } else { style };
    let per_second = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), rate);
    let (state, state_style) = match (group.paused, group.members.is_empty(), row.lag, group.blocked_keys) {
        (true, ..) => ("paused".to_owned(), Style::Warning),
        (false, true, 1.., _) => ("no consumer".to_owned(), Style::Alert),
        (false, _, _, 1..) => (format!("{} keys blocked", group.blocked_keys), Style::Warning),
        _ => (String::new(), Style::Plain),
    };
    Line::default()
        .with(Style::Plain, format!("{name:<name_width$}"))
        .with(Style::Plain, format!("{:>11}", shown(&Count(row.lag))))
        .with(Style::Plain, format!("{age:>9}"))
        .with(Style::Plain, format!("{:>8}", shown(&Count(group.leased))))
        .with(marked(group.retrying, Style::Warning), format!("{:>10}", shown(&Count(group.retrying))))
        .with(marked(group.dead_letters, Style::Alert), format!("{:>8}", shown(&Count(group.dead_letters))))
        .with(Style::Plain, format!("{:>7}", group.members.len()))
        .with(Style::Plain, format!("{:>9}", per_second(row.acks)))
        .with(Style::Plain, format!("{:>9}  ", per_second(row.nacks)))
        .with(state_style, state)
}

/// An age in its two largest units: `1d3h`, `4m12s`.
fn coarse(ms: u64) -> String {
    let seconds = ms / 1000;
    let whole = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    };
    shown(&Ms(whole * 1000))
}

#[cfg(test)]
mod tests {
    use super::super::reading::Look;
    use super::*;

    fn group(name: &str, lag: u64, dead_letters: u64, acked: u64) -> v1::Group {
        let position = v1::GroupPosition { lag, lag_ms: lag as i64 * 1000, ..Default::default() };
        let positions = vec![position];
        v1::Group { name: name.to_owned(), positions, dead_letters, acked, ..Default::default() }
    }

    fn history(groups: Vec<v1::Group>) -> History {
        let store = v1::StoreStats { disk_free_bytes: 5 << 30, ..Default::default() };
        let status = |now_ms, acks| v1::GetStatusResponse {
            version: "9.9.9".to_owned(),
            started_at_ms: 1_700_000_000_000,
            now_ms,
            undecided: 3,
            oldest_undecided_at_ms: 1_700_000_000_000,
            parked: 1,
            lag: 1_234,
            ready: 1_230,
            leased: 4,
            accepting: true,
            store: Some(store.clone()),
            activity: Some(v1::Activity { acks, ..Default::default() }),
            ..Default::default()
        };
        let mut history = History::default();
        history.add(Look { status: status(1_700_000_060_000, 0), ..Look::default() });
        history.add(Look { status: status(1_700_000_061_000, 50), groups, more_groups: false });
        history
    }

    fn outlook(sort: SortBy) -> Outlook {
        Outlook {
            url: "http://broker:7800".to_owned(),
            sort,
            keys: "q quit".to_owned(),
            ..Outlook::default()
        }
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| line.text() + "\n").collect()
    }

    #[test]
    fn a_frame_says_how_the_broker_stands() {
        let lines = frame(&history(vec![group("billing", 12, 2, 0)]), &outlook(SortBy::Lag), None);
        let expected = "\
escrow 9.9.9  http://broker:7800  up 1m1s  2023-11-14T22:14:21Z
transactions  undecided 3  oldest 1m1s  waiting for a checker 0  parked 1
messages      lag 1,234  ready 1,230  leased 4  retrying 0  scheduled 0  dead 0
clients       producers 0  consumers 0  topics 0  groups 0  open alarms 0
disk          5.0 GiB free  journal 0 B  overlay 0 B  table 0 B

                per second                                  latency        50 %     99 %
stored                   0  ▁                               store             -        -
decided                  0  ▁                               decide            -        -
delivered                0  ▁                               deliver           -        -
acked                 50.0  █                               commit            -        -
failed                   0  ▁
buried                   0  ▁

GROUP          LAG   OLDEST  LEASED  RETRYING    DEAD   CONS    ACK/S   NACK/S  STATE
billing         12      12s       0         0       2      0        -        -  no consumer
q quit
";
        assert_eq!(text(&lines), expected);
        let parked =
            lines[1].0.iter().find(|(style, _)| *style == Style::Alert).map(|(_, text)| text.as_str());
        assert_eq!(parked, Some("1  "), "what needs a person is seen");
    }

    #[test]
    fn groups_are_sorted_as_asked_and_scrolled() {
        let groups = vec![group("a", 5, 0, 0), group("b", 9, 1, 0), group("c", 1, 7, 0)];
        let history = history(groups);
        let order = |sort, skipped, height| {
            let outlook = Outlook { skipped, ..outlook(sort) };
            let lines = frame(&history, &outlook, height);
            let names = lines.iter().map(Line::text).skip_while(|line| !line.starts_with("GROUP")).skip(1);
            names
                .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
                .take_while(|name| name != "q")
                .collect::<Vec<_>>()
        };
        assert_eq!(order(SortBy::Lag, 0, None), ["b", "a", "c"]);
        assert_eq!(order(SortBy::Dead, 0, None), ["c", "b", "a"]);
        assert_eq!(order(SortBy::Name, 0, None), ["a", "b", "c"]);
        // Fourteen lines above the table, one below it: a heading, one group, and which that is.
        assert_eq!(order(SortBy::Name, 1, Some(18)), ["b", "groups"]);
        assert_eq!(order(SortBy::Name, 99, Some(18)), ["b", "groups"]);
    }

    #[test]
    fn a_frame_never_exceeds_its_height_once_the_head_fits() {
        let groups = (0..50).map(|nth| group(&format!("g{nth}"), nth, 0, 0)).collect();
        let history = history(groups);
        for height in 17..70 {
            for skipped in [0, 3, 49] {
                let outlook = Outlook { skipped, ..outlook(SortBy::Lag) };
                let lines = frame(&history, &outlook, Some(height));
                assert!(lines.len() <= height, "{} lines of {height}", lines.len());
            }
        }
    }

    #[test]
    fn a_line_is_cut_at_the_edge_of_the_screen() {
        let line = Line::default().with(Style::Plain, "abc").with(Style::Strong, "def").cut(4);
        assert_eq!(line.text(), "abcd");
    }

    #[test]
    fn what_is_amiss_is_said_before_anything_was_seen() {
        let outlook = Outlook { fault: Some("nobody there".to_owned()), ..outlook(SortBy::Lag) };
        assert_eq!(text(&frame(&History::default(), &outlook, None)), "nobody there\n");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.04, 12.34, 123.4, 12_345.6].map(rate), ["0", "0.0", "12.3", "123", "12,346"]);
        assert_eq!([999, 1_500, 25_000, 2_500_000].map(micros), ["999 µs", "1.5 ms", "25 ms", "2.5 s"]);
        assert_eq!([500, 65_000, 3_725_000, 90_061_000].map(coarse), ["0s", "1m5s", "1h2m", "25h"]);
    }
}
