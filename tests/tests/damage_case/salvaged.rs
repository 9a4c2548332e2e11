//! What a salvage says that it lost, held against what is missing: record by record.

use std::collections::BTreeMap;

use bytes::Bytes;
use escrow_broker::records::keys::space;
use escrow_storage::Key;

/// What is named as lost.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    keys: Vec<String>,
    /// From, to: both in hexadecimal, both outside. An empty end is the last.
    stretches: Vec<(String, String)>,
    /// So many more, nobody knows which.
    unnamed: u64,
    /// Whole commits: any key can have an older value, or none.
    has_lost_commits: bool,
}

impl Gaps {
    /// From the lines of `escrow store repair --salvage-into`.
    pub(crate) fn parse(said: &str) -> Self {
        let mut gaps = Self::default();
        for lost in said.lines().filter_map(|line| line.strip_prefix("lost: ")) {
            if lost.starts_with("the commits") || lost.starts_with("the journal") {
                gaps.has_lost_commits = true;
            } else if let Some(stretch) = lost.strip_prefix("between ") {
                let (ends, _) = stretch.split_once(':').unwrap_or((stretch, ""));
                let (from, to) = ends.split_once(" and").unwrap_or((ends, ""));
                gaps.stretches.push((from.trim().to_owned(), to.trim().to_owned()));
            } else if let Some((found, rest)) = lost.split_once(" records were found, ") {
                let written = rest.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
                let found = found.parse::<u64>().ok();
                gaps.unnamed += written.zip(found).map_or(0, |(written, found)| written.abs_diff(found));
            } else if let Some((key, _)) = lost.split_once(": ") {
                gaps.keys.push(key.to_owned());
            }
        }
        gaps
    }

    /// Whether anything is.
    pub(crate) fn is_lossy(&self) -> bool {
        self.has_lost_commits || self.unnamed > 0 || !self.keys.is_empty() || !self.stretches.is_empty()
    }

    fn covers(&self, key: &str) -> bool {
        let in_stretch =
            |(from, to): &(String, String)| key > from.as_str() && (to.is_empty() || key < to.as_str());
        self.keys.iter().any(|lost| lost == key) || self.stretches.iter().any(in_stretch)
    }
}

/// Whether a record is of what clients did. Alarms are the broker's own: the one that met the damage has raised some.
fn is_told_by_clients(key: &Key) -> bool {
    ![space::ALARM, space::ALARM_NOTICE, space::ALARM_SINKS].contains(&key[0])
}

/// Nothing may be missing or different that is not named.
pub(crate) fn judge(
    saved: &BTreeMap<Key, Bytes>,
    truth: &BTreeMap<Key, Bytes>,
    gaps: &Gaps,
) -> Result<(), String> {
    if gaps.has_lost_commits {
        return Ok(());
    }
    let hex = |key: &Key| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut unnamed = 0;
    for (key, value) in truth.iter().filter(|(key, _)| is_told_by_clients(key)) {
        let name = hex(key);
        match saved.get(key) {
            Some(found) if found == value => {}
            Some(_) => return Err(format!("the salvage has another value at {name}: {gaps:?}")),
            None if gaps.covers(&name) => {}
            None => unnamed += 1,
        }
    }
    let mut saved = saved.keys().filter(|key| is_told_by_clients(key));
    if let Some(surplus) = saved.find(|key| !truth.contains_key(*key)) {
        return Err(format!("the salvage has a record too much at {}: {gaps:?}", hex(surplus)));
    }
    if unnamed > gaps.unnamed {
        return Err(format!("the salvage lost {unnamed} records that it does not name: {gaps:?}"));
    }
    Ok(())
}

/// The number that follows `words` in `text`.
pub(crate) fn first_number_after(text: &str, words: &str) -> Option<u64> {
    let digits: String = text.split_once(words)?.1.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
